"""Where the GPU backends' arrays live, and how parameters are updated there.

`minillm.device()` hands these out while their backend is active; the Trainer and the models move
their arrays with them, and know nothing more of GPUs.
"""

import math
import operator

import numpy as np

from minillm.optim._optimizer import check_match
from minillm.tree import flatten, leaves, map_leaves
from minillm_kernels.memory import allocating

__all__ = ["GPU", "Simulated", "UpdateOnGPU"]


class Simulated:
    """The CPU where it plays the GPU: arrays stay where they are, and one thread runs the ops.

    Triton's interpreter keeps the number of the running program in one place for all threads.

    Parameters
    ----------
    optimizer : function of an update rule, returning one for these arrays
    """

    threads = 1
    put = get = staticmethod(lambda nest: nest)

    def __init__(self, optimizer=lambda rule: rule):
        self.optimizer = optimizer


class GPU:
    """CuPy's current GPU.

    Parameters
    ----------
    cupy : the module
    make_optimizer : function of an update rule, returning one for CuPy arrays
    """

    threads = 1  # the GPU is the parallel machine; one thread of Python keeps it busy

    def __init__(self, cupy, make_optimizer):
        self._cupy, self._make_optimizer = cupy, make_optimizer

    def put(self, nest):
        """A nest's NumPy arrays as CuPy arrays; numbers and CuPy arrays stay as they are.

        Raises
        ------
        OutOfDeviceMemory
            saying how much was asked for and how much is free.
        """
        return map_leaves(self._put, nest)

    def get(self, nest):
        """A nest's CuPy arrays as NumPy arrays."""
        return map_leaves(lambda leaf: leaf.get() if hasattr(leaf, "get") else leaf, nest)

    def optimizer(self, rule):
        return self._make_optimizer(rule)

    def _put(self, leaf):
        if not isinstance(leaf, np.ndarray) or leaf.dtype.kind not in "fiub":
            return leaf
        with allocating("moving arrays to the GPU", leaf.nbytes):
            return self._cupy.asarray(leaf)


class UpdateOnGPU:
    """An update rule of `minillm.optim` for CuPy arrays: its own arithmetic, a leaf at a time.

    The state is the rule's own, so that a run can be resumed on another backend.
    """

    def __init__(self, rule):
        self.rule = rule
        self.init = rule.init

    def update(self, params, grads, state, lr=None, *, scale=1.0, pool=None):
        """Take one step in place; parameters and errors are those of `Optimizer.update`."""
        rule = self.rule
        names, flat_grads = flatten(params), flatten(grads)
        check_match(names, flat_grads)
        slots = [flatten(state[slot]) for slot in rule.slots]
        state["step"] += 1
        t, lr = int(state["step"]), float(rule.lr if lr is None else lr)
        for name, p in names.items():
            g = flat_grads[name] * p.dtype.type(scale)
            if rule.weight_decay and not rule.decoupled:
                g += rule.weight_decay * p
            rest = [slot[name] for slot in slots]
            scratch = np.empty_like(p)
            rule.update_piece(p, g, *rest, t=t, lr=lr, is_matrix=p.ndim >= 2, scratch=scratch)

    @staticmethod
    def global_norm(grads, *, pool=None):
        """The Euclidean norm of all leaves together: a float; one number comes from the GPU."""
        squares = (np.square(g.astype(np.float64)).sum() for _, g in leaves(grads))
        total = None
        for square in squares:
            total = square if total is None else operator.add(total, square)
        return 0.0 if total is None else math.sqrt(float(total))
