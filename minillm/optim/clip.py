"""Clipping by global norm (Pascanu, Mikolov & Bengio 2013, arXiv:1211.5063, algorithm 1)."""

import math

import numpy as np

from minillm.optim._setting import check_setting
from minillm.optim.pieces import PIECE, pieces, spread
from minillm.tree import leaves

__all__ = ["clip_by_global_norm", "clip_scale", "global_norm"]


def global_norm(grads, *, pool=None):
    """The Euclidean norm of all leaves together, summed in float64: a float, inf or nan if one is.

    pool : minillm.training.WorkerPool or None; its threads share the work, and the sum depends on
        how many they are only in its last bits.
    """
    flat = [g.ravel() for _, g in leaves(grads)]

    def squares(part):
        total, wide = 0.0, np.empty(PIECE)
        for index, start, stop in part:
            piece = wide[: stop - start]
            piece[...] = flat[index][start:stop]
            total += float(np.einsum("i,i->", piece, piece))  # no BLAS, so no threads of its own
        return total

    return math.sqrt(sum(spread(squares, pieces([g.size for g in flat]), pool)))


def clip_scale(norm, max_norm):
    """The factor that brings gradients of this norm down to `max_norm`; 1 where they are below it.

    The 1e-6 is torch's, and keeps a norm of zero harmless.
    """
    check_setting("max_norm", max_norm, max_norm > 0, "above 0")
    return min(1.0, max_norm / (norm + 1e-6))


def clip_by_global_norm(grads, max_norm, *, pool=None):
    """Scale all gradients in place so that their global norm is at most `max_norm`.

    Returns
    -------
    norm : float, before clipping. Where it is inf or nan the gradients stay as they are.
    """
    norm = global_norm(grads, pool=pool)
    scale = clip_scale(norm, max_norm)
    if math.isfinite(norm) and scale < 1:
        for _, g in leaves(grads):
            g *= scale
    return norm
