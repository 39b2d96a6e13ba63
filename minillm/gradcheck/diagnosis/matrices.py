"""A matrix product on the way back in which a factor is not transposed."""

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess

__all__ = ["product", "turned_weight"]


def product(view):
    """A matrix product with its left factor not transposed: s @ q for s.T @ q.

    An output row that reaches one matrix of the leaf (..., S, D) has a gradient m q_t there, with q
    another leaf of that shape; without the transpose it is zero but for row t, which gets m @ q.
    """
    if not view.whole or len(view.shape) < 2 or view.known.size < view.size:
        return
    lead = int(np.prod(view.shape[:-2], dtype=int))
    a, n = (m.reshape(-1, lead, *view.shape[-2:]) for m in (view.a, view.n))
    if not view.wrong.any():
        return
    for name, value in view.others:
        if name == view.name or np.shape(value) != view.shape:
            continue
        q = np.asarray(value).reshape(lead, *view.shape[-2:])
        if all(_untransposed(a[i], n[i], q, view.relative) for i in range(len(a))):
            says = f"is a product of a matrix with {name}, in which the matrix is not transposed."
            yield Guess("transposed", 0.93, says)
            return


def turned_weight(view):
    """A square weight, at the output's or at the leaf's end, used for its transpose."""
    if not view.whole or view.known.size < view.size or not view.wrong.any():
        return
    for leaf in view.evidence.leaves:
        w = np.asarray(leaf.value)
        if w.ndim != 2 or w.shape[0] != w.shape[1] or len(w) < 2 or np.linalg.cond(w) > 1e6:
            continue
        turn = np.linalg.solve(w, w.T)  # what takes a row made with w.T to one made with w
        n = len(w)
        for one in (turn, np.linalg.inv(turn)):
            ends = []
            if len(view.blocks) == 1 and view.blocks[0].shape[-1:] == (n,):
                rows = view.n.reshape(-1, n, view.size)
                ends.append(np.einsum("ij,kjs->kis", one.T, rows).reshape(view.n.shape))
            if view.shape[-1:] == (n,):
                ends.append((view.n.reshape(-1, n) @ one).reshape(view.n.shape))
            if any(view.fits(end, slack=1e-6 * np.linalg.cond(w)) for end in ends):
                says = f"fits {leaf.name} used without its transpose."
                yield Guess("transposed", 0.93, says)
                return


def _untransposed(a, n, q, relative):
    place = int(np.argmax(np.abs(n).max((1, 2))))
    others = np.delete(n, place, 0)
    near = relative * max(np.abs(n).max(), np.abs(a).max())
    if np.abs(others).max(initial=0.0) > near:
        return False
    n, q = n[place], q[place]
    m = n @ q.T / np.maximum((q * q).sum(1), 1e-300)  # (S, T): n is an outer product with some q_t
    for t in range(len(q)):
        if np.abs(n - np.outer(m[:, t], q[t])).max() <= near:
            expected = np.zeros_like(a)
            expected[place, t] = m[:, t] @ q
            return bool(np.abs(a - expected).max() <= 10 * near)
    return False
