"""What every update rule shares: its state, its checks and the walk over the parameters."""

from collections.abc import Callable

import numpy as np

from minillm.optim._setting import check_setting
from minillm.optim.clip import global_norm
from minillm.optim.pieces import PIECE, pieces, spread
from minillm.tree import flatten, map_leaves

__all__ = ["Optimizer", "check_match"]


class Optimizer:
    """The base of the rules. A rule states its `slots` and how one flat piece is updated:

    update_piece(p, g, *slots, t, lr, is_matrix, scratch), in place on p and the slots; all are (N,)
    with N <= PIECE. g is only read and scratch holds nothing yet. t counts the steps from 1, and
    is_matrix says that the piece belongs to a leaf of two or more dimensions.

    Parameters
    ----------
    lr : float, the learning rate where `update` is given no other
    weight_decay : float; weight_decay * p is added to the gradient of every leaf, as torch does
        (only AdamW decays in another way)
    """

    slots: tuple[str, ...] = ()  # what the rule remembers of each parameter
    decoupled = False  # True: the rule applies the weight decay itself
    update_piece: Callable[..., None]

    def __init__(self, lr, *, weight_decay=0.0):
        check_setting("lr", lr, lr >= 0, "at least 0")
        check_setting("weight_decay", weight_decay, weight_decay >= 0, "at least 0")
        self.lr, self.weight_decay = lr, weight_decay

    def init(self, params):
        """The state before the first update: a nest of arrays, which `flatten` makes storable."""
        zeros = {
            slot: map_leaves(lambda p: np.zeros_like(p, order="C"), params) for slot in self.slots
        }
        return {"step": np.zeros((), np.int64), **zeros}

    global_norm = staticmethod(global_norm)  # an optimizer for another device has its own

    def update(self, params, grads, state, lr=None, *, scale=1.0, pool=None):
        """Take one step, in place on `params` and `state`; `grads` are only read.

        Parameters
        ----------
        params, grads : nests of the same structure and shapes
        state : what `init(params)` made
        lr : float, or None for the optimizer's own
        scale : float; every gradient is multiplied by it (clipping costs no pass of its own)
        pool : minillm.training.WorkerPool or None; its threads share the pieces

        Raises
        ------
        ValueError
            naming the leaves whose gradient is missing, left over or of another shape.
        """
        names, rows = flatten(params), []
        flat_grads = flatten(grads)
        check_match(names, flat_grads)
        slots = [flatten(state[slot]) for slot in self.slots]
        for name, p in names.items():
            arrays = [a.ravel() for a in (p, flat_grads[name], *(slot[name] for slot in slots))]
            rows.append((arrays, p.ndim >= 2))
        state["step"] += 1
        settings = {"t": int(state["step"]), "lr": float(self.lr if lr is None else lr)}
        scale = float(scale)
        spread(
            lambda part: self._update_part(rows, part, scale, settings),
            pieces([arrays[0].size for arrays, _ in rows]),
            pool,
        )
        for p, (arrays, _) in zip(names.values(), rows, strict=True):
            if not p.flags.c_contiguous:  # ravel() had to copy it
                p[...] = arrays[0].reshape(p.shape)

    def _update_part(self, rows, part, scale, settings):
        room: dict = {}  # dtype -> two scratch rows, this thread's own
        for index, start, stop in part:
            arrays, is_matrix = rows[index]
            p, g, *slots = (array[start:stop] for array in arrays)
            if p.dtype not in room:
                room[p.dtype] = np.empty((2, PIECE), p.dtype)
            a, b = room[p.dtype][:, : stop - start]
            if scale != 1:
                g = np.multiply(g, scale, out=a)
            if self.weight_decay and not self.decoupled:
                g = np.add(g, np.multiply(p, self.weight_decay, out=b), out=a)
            self.update_piece(p, g, *slots, scratch=b, is_matrix=is_matrix, **settings)


def check_match(params, grads):
    """Refuse gradients, {name: array}, that are not those of the parameters, {name: array}."""
    missing, extra = sorted(params.keys() - grads.keys()), sorted(grads.keys() - params.keys())
    if missing or extra:
        raise ValueError(f"gradients do not match: missing {missing}, not expected {extra}")
    for name, p in params.items():
        if grads[name].shape != p.shape:
            raise ValueError(
                f"the gradient of {name} must have shape {p.shape}, got {grads[name].shape}"
            )
