"""How an n-gram model comes to a probability: which lengths knew what, and what each one gave.

From the longest context down, each length gives a share of its own and multiplies what the shorter
one says by a number; below the unigrams lies the uniform distribution. Multiplied out, p is a sum
of one term a length. The pictures of it are in backoff.py.
"""

import dataclasses

import numpy as np

from minillm.errors import UserError
from minillm.models.ngram import NGram
from minillm.models.ngram_kneser_ney import adjusted_counts
from minillm.models.ngram_smoothing import BACK_OFF, INTERPOLATED, SCORE, SMOOTHINGS
from minillm.tokenizers.base import check_ids

__all__ = ["Rung", "back_off_path"]

NOTHING = 1e-12  # of p, what rounding leaves


@dataclasses.dataclass(frozen=True)
class Rung:
    """What one length of n-gram says of a token after a context.

    p(w | c) is the sum of weight * own over the rungs.

    Attributes
    ----------
    length : int, of the n-gram, the token included; 0 for the uniform distribution 1/V
    context : tuple of ids, length - 1 of them
    seen : bool, whether anything was seen after this context
    followers : int, how many different tokens were
    own : float, what this length gives the token of its own; 0 where the n-gram was not seen
    passed : float, what the shorter length's p is multiplied by; 0 where it is not asked
    weight : float, the product of `passed` over the longer lengths
    count, total : int or None, how often the token was seen after the context, and any token; where
        the smoothing counts places (`places`), in how many
    places : bool
    """

    length: int
    context: tuple
    seen: bool
    followers: int
    own: float
    passed: float
    weight: float = 1.0
    count: int | None = None
    total: int | None = None
    places: bool = False


def back_off_path(model, context, token, *, counts=None):
    """The rungs from the longest context down to the uniform distribution, a list of Rung.

    For add-k and Good-Turing, which ask no shorter context, there are two.

    Parameters
    ----------
    model : NGram, of any smoothing; one read from an ARPA file is shown as it is written there, in
        back-off form
    context : (N,) ids; those before the end id, and those beyond the model's order, do not count
    token : int, the id that is predicted
    counts : what `count_ngrams` gave for the text that was counted, or None

    Raises
    ------
    UserError
        for a model of another kind.
    ValueError
        for an id out of range.
    """
    if not isinstance(model, NGram):
        raise UserError(f"a back-off path is an n-gram model's, got a {type(model).__name__}")
    context = tuple(check_ids(context, model.vocab_size).tolist())
    token = int(check_ids([token], model.vocab_size)[0])
    end = model.tokenizer.end_id
    if end in context:
        context = context[len(context) - 1 - context[::-1].index(end) :]
    context = context[max(0, len(context) - model.config.order + 1) :]
    rungs = [Rung(0, (), True, model.vocab_size, 1 / model.vocab_size, 0.0)]
    p = 1 / model.vocab_size
    for n in range(len(context) + 1 if model.alone else 1, len(context) + 2):
        rung = _rung(model, context[len(context) - n + 1 :], token, p)
        rungs.append(_with_counts(rung, token, model, counts))
        p = rung.own + rung.passed * p
    weight, path = 1.0, []
    for rung in reversed(rungs):
        path.append(dataclasses.replace(rung, weight=weight))
        weight *= rung.passed
    return path


def _rung(model, context, token, lower):
    """One length, given p of the next shorter one."""
    n = len(context) + 1
    level, node = model.levels[n - 1], _node(model.levels, context)
    followers = 0 if node < 0 else int(level.first[node + 1] - level.first[node])
    if not followers:
        return Rung(n, context, False, 0, 0.0, model.unseen)
    found = int(level.find(np.array([node]), np.array([token]))[0])
    own, passed = 0.0, float(level.backoff[node])
    smoothing = SMOOTHINGS.get(model.config.smoothing)  # None: as an ARPA file has it
    form = BACK_OFF if smoothing is None else smoothing.form
    if n == 1:  # every token has an entry, those that were not seen too
        seen = level.p > passed / model.vocab_size * (1 + NOTHING)
        if form == SCORE:  # and below them lies nothing
            seen, passed = level.p > 0, 0.0
        found, followers = (found if seen[token] else -1), int(np.count_nonzero(seen))
    if found >= 0 and form == INTERPOLATED:
        own = max(0.0, float(level.p[found]) - passed * lower)
    elif found >= 0:
        own, passed = float(level.p[found]), 0.0
    return Rung(n, context, True, followers, own, passed)


def _node(levels, gram):
    """The id of an n-gram among those of its length, negative where it was not seen."""
    node = np.array([0 if not gram else gram[0]])
    for level, token in zip(levels[1:], gram[1:], strict=False):
        node = level.find(node, np.array([token]))
    return int(node[0])


def _with_counts(rung, token, model, counts):
    if counts is None:
        return rung
    node, size = 0, model.vocab_size
    for found, part in zip(counts, rung.context, strict=False):
        node = _place(found.keys, node * size + part)
        if node < 0:
            return dataclasses.replace(rung, count=0, total=0)
    found = counts[rung.length - 1]
    kneser_ney = model.config.smoothing.endswith("kneser-ney")
    values = adjusted_counts(found) if kneser_ney else found.raw
    place = _place(found.keys, node * size + token)
    # a unigram model has an entry for every token: only the counts know which were seen
    followers = int(np.count_nonzero(values)) if rung.length == 1 else rung.followers
    return dataclasses.replace(
        rung,
        followers=followers,
        count=int(values[place]) if place >= 0 else 0,
        total=int(values[found.first[node] : found.first[node + 1]].sum()),
        places=kneser_ney and rung.length < model.config.order,
    )


def _place(keys, key):
    place = int(np.searchsorted(keys, key))
    return place if place < len(keys) and keys[place] == key else -1
