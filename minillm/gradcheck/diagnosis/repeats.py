"""Rows that whole numbers name: wrong just where one is named twice, or named at all."""

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess, axis_words, indices_words

__all__ = ["averaged", "last_wins", "reused"]


def reused(view):
    """Wrong exactly where whole numbers among the arguments repeat: `=` for `+=`."""
    wrong = view.full(view.wrong).any(0).reshape(view.shape)
    live = view.full(~view.n_zero).any(0).reshape(view.shape)
    some = view.full(~view.a_zero).any(0).reshape(view.shape)
    if not wrong.any():
        return
    for name, ids in _ids(view.evidence):
        for axis, n in enumerate(view.shape):
            off = set(_along(wrong, axis).tolist())
            values, counts = np.unique(ids % n if (ids < 0).any() else ids, return_counts=True)
            if values.size == 0 or values[-1] >= n or n < 2:
                continue
            where = f"{axis_words(axis, view.name)} ({indices_words(off, n)})"
            again = set(values[counts > 1].tolist())
            arrives = set(_along(some, axis).tolist())
            if off <= again & arrives and not _is_target(view.evidence, name):
                gone = view.whole and not (view.wrong & ~view.a_zero).any()
                if (len(off) == n and not gone) or _spares_nobody(view, name, axis):
                    continue
                says = f"is wrong only where {name} repeats, along {where}: = where += is needed."
                yield Guess("overwritten", 0.95 if gone or not view.whole else 0.86, says)
                return
            rest = np.delete(live, values, axis)
            if off == set(values.tolist()) and len(off) < n and rest.any():
                if _is_target(view.evidence, name):
                    says = f"is wrong just at {name}, along {where}: the target's term is missing."
                    yield Guess("missing_term", 0.88, says)
                    return
                says = (
                    f"is wrong just at the rows that {name} names, along {where}: one of two uses "
                    f"of {view.name} is probably lost (+= needed)."
                )
                yield Guess("overwritten", 0.88, says)
                return


def averaged(view):
    """Each row divided by how often whole numbers name it: a mean where a sum is needed."""
    if not view.wrong.any():
        return
    for name, ids in _ids(view.evidence):
        for axis, n in enumerate(view.shape):
            if n < 2 or ids.min() < 0 or ids.max() >= n:
                continue
            counts = np.maximum(np.bincount(ids, minlength=n), 1.0)
            if len(set(counts[ids].tolist())) < 2:
                continue  # the same factor for all
            shape = [1] * (len(view.shape) + 1)
            shape[axis + 1] = n
            true = view.n.reshape(-1, *view.shape) / counts.reshape(shape)
            if view.fits(true.reshape(view.n.shape)):
                says = (
                    f"is over how often {name} holds each index along {axis_words(axis, view.name)}"
                    ": a mean where a sum is needed."
                )
                yield Guess("factor", 0.96, says)
                return


def last_wins(view):
    """Of the samples that share a row only the last (or the first) one's share is there."""
    if not view.whole or not view.wrong.any() or len(view.blocks) != 1:
        return
    wrong = view.full(view.wrong & view.a_zero)
    if not wrong.any():
        return
    other = view.full(view.wrong) & ~wrong
    for name, axis, count in _used_by_samples(view):
        at = np.moveaxis(np.arange(view.size).reshape(view.shape), axis, 0)
        for which, words in ((-1, "last"), (0, "first")):
            lost, partial = (np.zeros_like(wrong) for _ in range(2))
            for value in np.flatnonzero((count > 0).sum(0) > 1):
                kept = np.flatnonzero(count[:, value])[which]
                gone = (count[:, value] > 0) & (np.arange(len(count)) != kept)
                again = (count[:, value] > 1) & ~gone
                lost[np.ix_(_rows(view, gone), at[value].ravel())] = True
                partial[np.ix_(_rows(view, again), at[value].ravel())] = True
            for value in np.flatnonzero(((count > 0).sum(0) == 1) & (count.max(0) > 1)):
                partial[np.ix_(_rows(view, count[:, value] > 1), at[value].ravel())] = True
            live = view.full(~view.n_zero)
            if not (lost & live).any():
                continue
            if not (other & ~partial).any() and not (wrong ^ (lost & live))[~partial].any():
                says = (
                    f"keeps of the samples whose {name} name the same index along "
                    f"{axis_words(axis, view.name)} the {words} alone: = where += is needed."
                )
                yield Guess("overwritten", 0.97, says)
                return


def _used_by_samples(view):
    """(name, axis, counts (samples, length)) of ids whose first axes are the output's."""
    named = [(str(k), v) for k, v in view.evidence.kwargs.items()]
    for name, value in named:
        if getattr(value, "dtype", None) is None or value.dtype.kind not in "iu":
            continue
        ids, shape = np.asarray(value), view.blocks[0].full or view.blocks[0].shape
        if ids.size < 2 or not shape or ids.ndim < 1 or ids.shape[0] != shape[0]:
            continue
        if shape != view.blocks[0].shape:
            continue
        for axis, n in enumerate(view.shape):
            if n < 2 or ids.min() < 0 or ids.max() >= n:
                continue
            count = np.zeros((len(ids), n), dtype=int)
            np.add.at(count, (np.arange(len(ids)).repeat(ids[0].size), ids.ravel()), 1)
            yield name, axis, count


def _rows(view, samples):
    """The rows of some samples along the output's first axis."""
    rows = np.arange(len(view.a)).reshape(view.blocks[0].shape[0], -1)
    return rows[samples].ravel()


def _spares_nobody(view, name, axis):
    """Whether the first and the last sample that name an index once are wrong all the same.

    Where = stands for +=, one of the two is kept.
    """
    if not view.whole or len(view.blocks) != 1:
        return False
    wrong = view.full(view.wrong)
    at = np.moveaxis(np.arange(view.size).reshape(view.shape), axis, 0)
    for ids_name, place, count in _used_by_samples(view):
        if ids_name != name or place != axis:
            continue
        hit = {0: False, -1: False}
        for value in np.flatnonzero((count > 0).sum(0) > 1):
            users = np.flatnonzero(count[:, value])
            for which in hit:
                only = np.arange(len(count)) == users[which]
                if count[users[which], value] == 1:
                    hit[which] |= wrong[np.ix_(_rows(view, only), at[value].ravel())].any()
        if all(hit.values()):
            return True
    return False


def _along(flags, axis):
    """The indices along an axis at which any flag is set."""
    return np.flatnonzero(flags.any(tuple(i for i in range(flags.ndim) if i != axis)))


def _is_target(evidence, name):
    """Whether whole numbers of this name say what a loss is to predict."""
    scalar = all(np.size(value) == 1 for _, value in evidence.outputs)
    return scalar and any(word in name.lower() for word in ("target", "label", "gold", "true"))


def _ids(evidence):
    """Arrays of whole numbers among the arguments, by name."""
    named = [(str(k), v) for k, v in evidence.kwargs.items()]
    named += [(f"argument {i}", v) for i, v in enumerate(evidence.args)]
    for name, value in named:
        if getattr(value, "dtype", None) is not None and value.dtype.kind in "iu":
            value = np.asarray(value)
            if value.size > 1:
                yield name, value.ravel()
