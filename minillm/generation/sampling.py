"""From a model's logits to the next token: what to leave out, and the draw.

Everything here is a pure function of one row of logits, (V,). A token that a filter leaves out gets
a logit of -inf. The order is fixed, as in Hugging Face's `generate`: repetition penalty,
temperature, top-k, top-p, min-p, draw. It matters: top-p after a high temperature keeps more.

Sources: repetition penalty, Keskar et al. 2019, arXiv:1909.05858, section 4.1 (its sign-aware form,
dividing a positive logit and multiplying a negative one, is Hugging Face's); top-k, Fan et al.
2018, arXiv:1805.04833, section 5.1; top-p, Holtzman et al. 2020, arXiv:1904.09751, eq. 2; min-p,
Nguyen et al. 2024, arXiv:2407.01082, section 3.
Left out: beam search, see beam.py; the loop over tokens, see generate.py.
"""

import dataclasses
import math

import numpy as np

from minillm.errors import is_whole, require
from minillm.generation.checks import is_number, not_finite

__all__ = [
    "Sampling",
    "draw",
    "greedy_choice",
    "keep_min_p",
    "keep_top_k",
    "keep_top_p",
    "penalise_repetition",
    "scale_temperature",
]


PEEK = 256  # a nucleus is mostly this small, and finding 256 largest is cheaper than sorting all


@dataclasses.dataclass(frozen=True)
class Sampling:
    """How the next token is chosen; the defaults draw from the model's own distribution.

    Parameters
    ----------
    temperature : float > 0, divides the logits: below 1 sharpens, above 1 flattens
    top_k : int >= 1 or None, keep the k likeliest tokens
    top_p : float in (0, 1] or None, keep the fewest tokens that together reach this probability
    min_p : float in [0, 1] or None, keep tokens at least this share as likely as the likeliest
    repetition_penalty : float from 1e-6 to 1e6, above 1 makes tokens already there rarer
    greedy : bool, take the likeliest token instead of drawing

    Raises
    ------
    UserError
        naming the parameter that is out of its range.
    """

    temperature: float = 1.0
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float = 1.0
    greedy: bool = False

    def __post_init__(self):
        hint = " (for the likeliest token every time, use greedy)"
        t, r = self.temperature, self.repetition_penalty
        require("temperature", t, is_number(t) and t > 0, "a number above 0" + hint)
        k, p, m = self.top_k, self.top_p, self.min_p
        require("top_k", k, k is None or (is_whole(k) and k >= 1), "a whole number of at least 1")
        require("top_p", p, p is None or (is_number(p) and 0 < p <= 1), "above 0 and at most 1")
        require("min_p", m, m is None or (is_number(m) and 0 <= m <= 1), "from 0 to 1")
        require("repetition_penalty", r, is_number(r) and 1e-6 <= r <= 1e6, "from 1e-6 to 1e6")

    def choose(self, logits, seen, rng=None):
        """The next token's id.

        Parameters
        ----------
        logits : (V,)
        seen : (N,) int, ids already in the text, for the repetition penalty
        rng : numpy Generator, for the draw; a greedy choice needs none

        Raises
        ------
        UserError
            for logits that are not finite: the model's weights are damaged.
        """
        if self.repetition_penalty != 1:
            logits = penalise_repetition(logits, seen, self.repetition_penalty)
        return greedy_choice(logits) if self.greedy else draw(self.filter(logits), rng)

    def filter(self, logits):
        """The logits to draw from, (V,): -inf for every token that is left out."""
        if self.temperature != 1:
            logits = scale_temperature(logits, self.temperature)
        if self.top_k is not None:
            logits = keep_top_k(logits, self.top_k)
        if self.top_p is not None:
            logits = keep_top_p(logits, self.top_p)
        if self.min_p is not None:
            logits = keep_min_p(logits, self.min_p)
        return logits


def penalise_repetition(logits, seen, penalty):
    """Divide the positive logits of tokens already seen by `penalty`, multiply the negative ones.

    Parameters
    ----------
    logits : (V,)
    seen : (N,) int, repeats allowed
    penalty : float > 0

    Returns
    -------
    logits : (V,)
    """
    logits = logits.copy()
    met = logits[seen]  # (N,)
    logits[seen] = np.where(met < 0, met * penalty, met / penalty)
    return logits


def scale_temperature(logits, temperature):
    """Divide the logits by the temperature. The largest is moved to 0 first, where it stays.

    The shift changes no probability, and keeps a tiny temperature from giving inf - inf.
    """
    temperature = max(temperature, float(np.finfo(logits.dtype).tiny))
    with np.errstate(over="ignore"):  # a far smaller logit may become -inf, and should
        return (logits - _largest(logits)) / temperature  # (V,)


def keep_top_k(logits, k):
    """Keep the k largest logits and any that equal the smallest of them."""
    if k >= logits.size:
        return logits
    kth = np.partition(logits, logits.size - k)[logits.size - k]
    return np.where(logits < kth, -np.inf, logits)  # (V,); NaN stays, for `draw` to find


def keep_top_p(logits, p):
    """Keep the nucleus: the fewest tokens, likeliest first, whose probabilities reach p together.

    Of equally likely tokens at its edge, those with the lowest ids are kept.
    """
    if p >= 1:
        return logits
    candidates, weights = _weights(logits)  # (N,)
    target = p * weights.sum(dtype=np.float64)
    head = np.sort(np.partition(weights, -PEEK)[-PEEK:] if weights.size > PEEK else weights)
    if head.sum(dtype=np.float64) < target:  # the nucleus reaches further: sort everything
        head = np.sort(weights)  # (N,)
    reached = np.cumsum(head[::-1], dtype=np.float64)
    count = min(int(reached.searchsorted(target)) + 1, head.size)
    edge = head[-count]
    inside = weights > edge  # (N,)
    inside[np.flatnonzero(weights == edge)[: count - np.count_nonzero(inside)]] = True
    kept = np.full_like(logits, -np.inf)
    kept[candidates[inside]] = logits[candidates[inside]]
    return kept  # (V,)


def keep_min_p(logits, p):
    """Keep the tokens at least p times as likely as the likeliest one."""
    if p <= 0:
        return logits
    threshold = _largest(logits) + math.log(p)
    return np.where(logits >= threshold, logits, -np.inf)  # (V,)


def greedy_choice(logits):
    """The id of the largest logit, the lowest of equals.

    Raises
    ------
    UserError
        for logits that are not finite: the model's weights are damaged.
    """
    best = int(logits.argmax())  # NaN wins every argmax
    if not math.isfinite(logits[best]):
        raise not_finite()
    return best


def draw(logits, rng):
    """Draw an id with probability softmax(logits), by inverting the cumulative distribution.

    Parameters
    ----------
    logits : (V,), -inf for a token that must not be drawn
    rng : numpy Generator; one `rng.random()` is used

    Raises
    ------
    UserError
        for logits that are not finite: the model's weights are damaged.
    """
    candidates, weights = _weights(logits)  # (N,)
    cumulative = np.cumsum(weights, dtype=np.float64)
    # random() is at most 1 - 2**-53, whose product with the total always rounds to less than the
    # total; side="right" steps over tokens of weight 0
    point = rng.random() * cumulative[-1]
    return int(candidates[cumulative.searchsorted(point, side="right")])


def _weights(logits):
    """The ids not left out and their unnormalised probabilities; few after a top-k, so quick."""
    candidates = np.flatnonzero(logits > -np.inf)  # (N,)
    return candidates, np.exp(logits[candidates] - _largest(logits))


def _largest(logits):
    """The largest logit, refusing NaN and +inf (and -inf everywhere), which no softmax survives."""
    largest = logits.max()
    if not math.isfinite(largest):
        raise not_finite()
    return largest
