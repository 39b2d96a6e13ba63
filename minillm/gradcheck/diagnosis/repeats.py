"""Rows that whole numbers name: wrong just where one is named twice, or named at all."""

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess, axis_words, indices_words

__all__ = ["reused"]


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
                if len(off) == n and not gone:
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
