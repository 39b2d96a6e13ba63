"""How much a score, or the difference of two, owes to the choice of test sentences.

Source: Efron 1979 (doi 10.1214/aos/1176344552) for the bootstrap and its percentile interval;
Koehn 2004 (W04-3250) for pairs of systems: both are scored on the same sentences, drawn anew with
replacement many times. The p-value is that of sacrebleu's paired bootstrap, which follows Moses:
how often the difference, centred, exceeds the observed one. Indices are drawn as sacrebleu draws
them: the same seed gives the same samples, intervals and p-values (to its float32 sums).
"""

import dataclasses

import numpy as np

from minillm.errors import require, whole
from minillm.metrics.checks import is_number

__all__ = ["Comparison", "Interval", "bootstrap", "of_sums", "paired_bootstrap"]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A score, the mean of its bootstrap samples, and where the middle `level` of them lies."""

    score: float
    mean: float
    low: float
    high: float
    level: float

    def __str__(self):
        return f"{self.score:.4f} ({self.level:.0%} of samples: {self.low:.4f} to {self.high:.4f})"


@dataclasses.dataclass(frozen=True)
class Comparison:
    """Two systems on the same segments.

    Attributes
    ----------
    first, second : Interval
    difference : Interval, of second - first
    better : float, the share of samples in which the second scores higher (Koehn 2004, section 3)
    p : float, how likely a difference at least so large is if there is none (sacrebleu's)
    samples : int
    """

    first: Interval
    second: Interval
    difference: Interval
    better: float
    p: float
    samples: int

    def __str__(self):
        return (
            f"difference {self.difference}, p = {self.p:.4f}; "
            f"it is above zero in {self.better:.1%} of {self.samples} samples"
        )


def of_sums(statistics, score):
    """A metric over any choice of segments, from statistics that add up over segments.

    Parameters
    ----------
    statistics : (N, ...), a row for each segment, such as BLEU's counts of n-grams
    score : function of their sum (...) -> float

    Returns
    -------
    function of indices (M,) -> float, for `bootstrap` and `paired_bootstrap`
    """
    statistics = np.asarray(statistics)
    return lambda indices: score(statistics[indices].sum(axis=0))


def bootstrap(score, n, *, rng, samples=1000, level=0.95):
    """The percentile interval of a score.

    Parameters
    ----------
    score : function of indices (n,) of segments, with repeats -> float; see `of_sums`
    n : int >= 1, segments
    rng : numpy.random.Generator
    samples : int >= 1, how many times n segments are drawn
    level : float in (0, 1), the share of samples inside

    Returns
    -------
    Interval

    Raises
    ------
    UserError
        for no segments, or settings that are out of range or no numbers.
    """
    _check(n, rng, samples, level)
    drawn = np.array([score(indices) for indices in _draw(n, samples, rng)], np.float64)
    return _interval(float(score(np.arange(n))), drawn, level)


def paired_bootstrap(first, second, n, *, rng, samples=1000, level=0.95):
    """Compare two systems on the same segments, drawn anew `samples` times.

    Equation: p = (1 + #{s : |d_s| - mean|d| > |d|}) / (samples + 1), d the difference on all
    segments and d_s that on sample s

    Parameters
    ----------
    first, second : functions of indices (n,) -> float, as for `bootstrap`
    n, rng, samples, level : as for `bootstrap`

    Returns
    -------
    Comparison

    Raises
    ------
    UserError
        for no segments, or settings that are out of range or no numbers.
    """
    _check(n, rng, samples, level)
    everything = np.arange(n)
    real = [float(score(everything)) for score in (first, second)]
    drawn = np.array([[first(i), second(i)] for i in _draw(n, samples, rng)], np.float64)  # (S, 2)
    difference = drawn[:, 1] - drawn[:, 0]  # (S,)
    size = np.abs(difference)
    beyond = int(np.sum(size - size.mean() > abs(real[1] - real[0])))
    return Comparison(
        first=_interval(real[0], drawn[:, 0], level),
        second=_interval(real[1], drawn[:, 1], level),
        difference=_interval(real[1] - real[0], difference, level),
        better=float((difference > 0).mean()),
        p=(beyond + 1) / (samples + 1),
        samples=samples,
    )


def _draw(n, samples, rng):
    """Rows of n indices each; one after the other, so that memory does not grow with samples."""
    for _ in range(samples):
        yield rng.integers(0, n, size=n)


def _interval(score, drawn, level):
    drawn = np.sort(drawn)
    # 1e-9: at level 0.9 half of what is cut off 1000 comes to 49.99..., and is 50
    cut = int(len(drawn) * ((1 - level) / 2) + 1e-9)
    low, high = float(drawn[cut]), float(drawn[len(drawn) - 1 - cut])
    return Interval(score, float(drawn.mean()), low, high, level)


def _check(n, rng, samples, level):
    whole("n", n, 1)
    whole("samples", samples, 1)
    require("level", level, is_number(level) and 0 < level < 1, "a number between 0 and 1")
    require("rng", rng, hasattr(rng, "integers"), "a numpy.random.Generator")
