"""How many floating-point operations a computation takes, counted by doing it.

The arrays that go in are of a kind that counts what NumPy does with them. The reference ops are
plain NumPy, so nothing escapes: forward, backward, every exponential.

A multiply-add is 2; anything else, an exponential too, is 1 an element. Left out: moving numbers
(embedding, concatenation), whole numbers, and what the update rule does.
"""

import contextlib
import dataclasses
from contextvars import ContextVar

import numpy as np

from minillm.ops._state import backend
from minillm.tree import map_leaves

__all__ = ["Flops", "counted", "counting", "step_flops"]


@dataclasses.dataclass
class Flops:
    """products : of matrix products; elementwise : of all else."""

    products: int = 0
    elementwise: int = 0

    @property
    def total(self):
        return self.products + self.elementwise


_TALLY: ContextVar[Flops | None] = ContextVar("minillm_flops", default=None)


@contextlib.contextmanager
def counting():
    """Count what happens to `counted` arrays inside the block; yields the Flops, which grow."""
    tally = Flops()
    token = _TALLY.set(tally)
    try:
        yield tally
    finally:
        _TALLY.reset(token)


def counted(nest):
    """The same arrays as ones that count; what is computed from them does too."""
    return map_leaves(lambda array: np.asarray(array).view(CountedArray), nest)


class CountedArray(np.ndarray):
    """An array that reports to the active tally what is done with it."""

    def __array_ufunc__(self, ufunc, method, *inputs, out=(), **options):
        plain = [_plain(x) for x in inputs]
        if out:
            options["out"] = tuple(_plain(x) for x in out)
        result = getattr(ufunc, method)(*plain, **options)
        tally = _TALLY.get()
        if tally is not None:
            _count(tally, ufunc, method, plain, result)
        if out:
            return out[0] if len(out) == 1 else out
        if isinstance(result, tuple):
            return tuple(_counted(r) for r in result)
        return _counted(result)

    def __array_function__(self, func, types, args, kwargs):
        """What moves numbers or makes room for them (where, zeros with like=) is not counted, but
        what comes of it counts again: a plain array would do its work unseen."""
        return _counted(super().__array_function__(func, types, args, kwargs))

    def dot(self, b):  # type: ignore[override]
        """As @: the method of that name would do its work unseen."""
        return np.matmul(self, b)


def _count(tally, ufunc, method, inputs, result):
    if not any(np.asarray(x).dtype.kind in "fc" for x in inputs):
        return
    if ufunc in (np.matmul, np.vecdot):
        tally.products += 2 * np.size(result) * np.shape(inputs[0])[-1]
    elif method == "reduce":
        tally.elementwise += max(np.size(inputs[0]) - np.size(result), 0)
    elif method == "at":
        tally.elementwise += np.size(inputs[-1])
    else:
        tally.elementwise += np.size(result[0] if isinstance(result, tuple) else result)


def _plain(x):
    return x.view(np.ndarray) if isinstance(x, CountedArray) else x


def _counted(x):
    return x.view(CountedArray) if isinstance(x, np.ndarray) else x


def step_flops(model, *, block, batch=1):
    """The operations of one training step: the loss of `batch` blocks and all its gradients.

    They are those of the reference ops: attention's two products are done in whole blocks of 128
    where the causal mask leaves anything, and one of them again in backward, see flash_attention.

    Parameters
    ----------
    model : a LanguageModel
    block, batch : int, T and B

    Returns
    -------
    flops : Flops

    Raises
    ------
    ValueError
        for a block or batch below 1.
    """
    if block < 1 or batch < 1:
        raise ValueError(f"block and batch must be at least 1, got {block} and {batch}")
    module = model.module
    ids = np.zeros((batch, block), np.int32)  # which ids they are makes no difference
    with backend("numpy"), counting() as flops:
        out, cache = module.loss(counted(model.params), ids=ids, targets=ids, config=model.config)
        loss = out[0] if module.STATEFUL else out
        dloss = np.ones_like(loss)
        module.loss.backward((dloss, None) if module.STATEFUL else dloss, cache)
    return flops
