"""One batch over several threads: shards, workers, and the one place where gradients meet.

NumPy lets go of Python's lock inside its loops and matrix products, so threads do run at the same
time. Each takes a shard of the batch through the whole model, forward and backward, with a
single-threaded BLAS: two threads of it beat one two-threaded BLAS, which idles between products.
"""

import contextlib
import contextvars
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import threadpoolctl

from minillm.optim.pieces import PIECE, pieces, spread
from minillm.training.memory import keep_freed_memory
from minillm.tree import flatten, map_leaves, unflatten

__all__ = ["WorkerPool", "reduce_gradients", "shard"]


class WorkerPool:
    """A fixed set of threads, the caller's own among them; BLAS is single-threaded meanwhile.

    Use it as a context manager around a whole run: limiting BLAS is a setting of the process and
    takes longer than a small step. Item number i of every `map` goes to the same thread.
    """

    def __init__(self, threads):
        if threads < 1:
            raise ValueError(f"threads must be at least 1, got {threads}")
        self.threads = threads
        self._stack = contextlib.ExitStack()
        self._workers: list[ThreadPoolExecutor] = []

    def __enter__(self):
        keep_freed_memory()
        self._stack.enter_context(threadpoolctl.threadpool_limits(1, user_api="blas"))
        self._workers = [
            self._stack.enter_context(ThreadPoolExecutor(1, f"minillm-{i}"))
            for i in range(1, self.threads)
        ]
        return self

    def __exit__(self, *exception):
        self._workers = []
        self._stack.close()

    def map(self, function, items):
        """[function(item) for item in items], at most `threads` items, all at the same time.

        The active backend and a running trace follow into the workers. When calls fail, the error
        of the first one in order is raised, after all have ended.
        """
        items = list(items)
        if len(items) > 1 + len(self._workers):
            raise ValueError(f"{len(items)} items for a pool of {1 + len(self._workers)} threads")
        futures = [
            worker.submit(contextvars.copy_context().run, function, item)
            for worker, item in zip(self._workers, items[1:], strict=False)
        ]
        try:
            first = [function(item) for item in items[:1]]
        finally:
            errors = [future.exception() for future in futures]  # waits
        for error in errors:
            if error is not None:
                raise error
        return first + [future.result() for future in futures]


def shard(array, threads):
    """Cut a batch (B, ...) into at most `threads` shards of nearly equal size, none empty."""
    return np.array_split(array, min(threads, len(array)))


def reduce_gradients(grads, weights, *, pool=None):
    """sum_i weights[i] * grads[i], leaf by leaf: every step's gradients pass through here.

    A shard's loss is the mean over its own tokens; with weights[i] its share of all tokens that
    count, the sum is the gradient of the mean over the whole batch. The order of the additions is
    fixed, so that one number of threads always gives the same bits.

    Parameters
    ----------
    grads : list of nests of one structure; the arrays of the first are reused for the result
    weights : list of floats
    pool : WorkerPool or None; its threads share the work

    Returns
    -------
    nest of the same structure
    """
    flat = [flatten(nest) for nest in grads]
    if not all(isinstance(array, np.ndarray) for array in flat[0].values()):
        return _weighted_sum(grads, weights)  # arrays on a GPU: no threads, nothing to reuse
    total = _own_arrays(flat[0])
    if list(weights) == [1.0]:
        return unflatten(total, like=grads[0])
    rows = [[total[name].ravel(), *(nest[name].ravel() for nest in flat[1:])] for name in total]

    def add(part):
        room: dict = {}
        for index, start, stop in part:
            first, *others = (array[start:stop] for array in rows[index])
            if first.dtype not in room:
                room[first.dtype] = np.empty(PIECE, first.dtype)
            scratch = room[first.dtype][: stop - start]
            if weights[0] != 1:
                first *= weights[0]
            for other, weight in zip(others, weights[1:], strict=True):
                first += np.multiply(other, weight, out=scratch)

    spread(add, pieces([row[0].size for row in rows]), pool)
    return unflatten(total, like=grads[0])


def _weighted_sum(grads, weights):
    if list(weights) == [1.0]:
        return grads[0]

    def add(*arrays):
        total = weights[0] * arrays[0]
        for weight, array in zip(weights[1:], arrays[1:], strict=True):
            total += weight * array
        return total

    return map_leaves(add, *grads)


def _own_arrays(flat):
    """The leaves as arrays that may be written: a copy of each that is read-only, has gaps, or
    shares its memory with another leaf (one array may serve as two biases' gradient)."""
    own, seen = {}, set()
    for name, array in flat.items():
        address = array.__array_interface__["data"][0]
        if address in seen or not (array.flags.writeable and array.flags.c_contiguous):
            array = np.array(array, order="C")
        seen.add(address)
        own[name] = array
    return own
