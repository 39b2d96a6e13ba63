"""A torch function seen as a pair of forward and backward: the cache is autograd's graph.

torch itself comes in as an argument, so that this module imports it no more than the others do.
"""

import contextlib
import re
from collections.abc import Mapping

import numpy as np

from minillm.gradcheck import arrays
from minillm.gradcheck.problem import argument_names
from minillm.gradcheck.report import Finding
from minillm.tree import leaves, map_leaves

__all__ = ["Graph", "Refused"]

# What autograd's engine says of a gradient that it can't use, and the rule that this breaks.
REFUSALS = (
    ("shape", r"invalid gradient at index (\d+) - got \[(.*?)\] but .* \[(.*?)\]"),
    ("structure", r"returned an incorrect number of gradients.*"),
    ("structure", r"expected (?:Variable|Tensor) or None.*"),
    ("mutates", r"modified by an inplace operation.*"),
    ("cache spent", r"backward through the graph a second time.*"),
)


class Refused(Exception):
    """A gradient that autograd's engine would not take; `finding` says why."""

    def __init__(self, finding):
        super().__init__(finding.message)
        self.finding = finding


class Graph:
    """forward(*args, **kwargs) -> (out, cache) and backward(dout, cache) -> gradients.

    Parameters
    ----------
    torch : the module
    subject : what errors and the report call the function
    function : takes and returns tensors
    by_hand : whether it is the apply of a torch.autograd.Function
    """

    def __init__(self, torch, subject, function, by_hand=False):
        self.torch, self.subject, self.function, self.by_hand = torch, subject, function, by_hand
        self.seed = 0
        self.args, self.names = [], []

    def named(self, args, names, signature, skipped=0):
        """Take the arguments as tensors, under the names given or those of a signature."""
        if not isinstance(args, list | tuple):
            came = "a tensor" if arrays.is_array(args) else type(args).__name__
            raise ValueError(f"args must be a sequence, one entry an argument; got {came}")
        if names is None:
            names = argument_names(signature, len(args) + skipped)[skipped:]
        if isinstance(names, str) or len(names) != len(args):
            raise ValueError(f"names must hold {len(args)} names, one an argument; got {names!r}")
        self.names = list(names)
        self.args = [self.tensors(name, arg) for name, arg in zip(names, args, strict=True)]

    def tensors(self, name, nest):
        """A nest with every array in it a tensor in memory of its own."""

        def make(leaf):
            if isinstance(leaf, np.ndarray | np.generic):
                leaf = self.torch.from_numpy(np.array(leaf))
            if not isinstance(leaf, self.torch.Tensor):
                return leaf
            self._check_kind(f"{self.subject}: {name}", leaf)
            with self.recording():
                return leaf.detach().clone()

        return map_leaves(make, nest)

    def forward(self, *args, **kwargs):
        """One recorded forward; the cache is its outputs, the graph's leaves and the arguments."""
        torch, held = self.torch, []

        def put(leaf):
            if isinstance(leaf, torch.Generator):
                return torch.Generator(leaf.device).set_state(leaf.get_state())
            if not arrays.is_float(leaf):
                return leaf
            start = leaf.detach().requires_grad_()
            copied = start.clone()  # no leaf of the graph: torch's own x.relu_() may write to it
            held.append((start, copied, copied.grad_fn))
            return copied

        given = [map_leaves(put, arg) for arg in args]
        kwargs |= {k: put(v) for k, v in kwargs.items() if isinstance(v, torch.Generator)}
        with self._seeded(2 * self.seed):
            came = self.function(*given, **kwargs)
        for start, copied, node in held:
            # Changed, and autograd does not know: let the checker see it too.
            if copied.grad_fn is node and not torch.equal(copied, start):
                start.detach().copy_(copied.detach())
        out = self.outputs(came)
        if not _floats(out):
            raise ValueError(
                f"{self.subject} must return a float32 or float64 tensor that can be "
                f"differentiated; got {_looks(came)}"
            )
        return out, (out, [start for start, _, _ in held], given)

    def outputs(self, out):
        """The outputs as a plain nest; those that a Function marks as constants become None."""
        if isinstance(out, Mapping):
            return {key: self.outputs(child) for key, child in out.items()}
        if isinstance(out, list | tuple):
            return tuple(self.outputs(child) for child in out)
        if isinstance(out, self.torch.Tensor):
            self._check_kind(f"{self.subject}: the output", out)
            return None if self.by_hand and not out.requires_grad else out
        if out is None or isinstance(out, bool | int | float | str):
            return None
        raise ValueError(
            f"{self.subject} must return tensors, or a tuple, list or dict of them; "
            f"got {type(out).__name__}"
        )

    def backward(self, dout, cache):
        """The gradients of the arguments, in their structure; zeros where autograd has none."""
        out, starts, given = cache
        pairs = [
            (o, d) for o, d in zip(_floats(out), _floats(dout), strict=True) if o.requires_grad
        ]
        found = self._asked(pairs, starts) if pairs else [None] * len(starts)
        gradients = iter(
            self.torch.zeros_like(x) if g is None else g.to_dense() if g.layout != x.layout else g
            for x, g in zip(starts, found, strict=True)
        )
        return tuple(
            map_leaves(lambda leaf: next(gradients) if arrays.is_float(leaf) else None, arg)
            for arg in given
        )

    def _asked(self, pairs, starts):
        """What autograd returns for pairs of outputs and upstream gradients."""
        torch = self.torch
        outs, douts = zip(*pairs, strict=True)
        try:
            # At another seed: a mask that backward draws again, when it should have been saved,
            # must not be the same by chance.
            with self._seeded(2 * self.seed + 1):
                return torch.autograd.grad(
                    outs, starts, douts, retain_graph=True, allow_unused=True
                )
        except (RuntimeError, TypeError) as error:
            finding = self._refusal(str(error))
            if finding is None:
                raise
            raise Refused(finding) from error

    def _refusal(self, text):
        """What autograd's engine did not like, as a finding; None for an error of another kind."""
        for rule, pattern in REFUSALS:
            match = re.search(pattern, text)
            if match is None:
                continue
            if rule != "shape" or not self.by_hand:
                return Finding(rule, None, f"autograd refuses what backward returns: {match[0]}")
            # a Function's gradients stand in the order of its arguments
            leaf = self.names[int(match[1])]
            came, wanted = (
                tuple(map(int, re.findall(r"\d+", part))) for part in match.groups()[1:]
            )
            message = f"the gradient of {leaf} must have shape {wanted}, got {came}"
            return Finding(rule, leaf, message)
        return None

    @contextlib.contextmanager
    def recording(self):
        """Let autograd record, also where the caller has switched it off."""
        with self.torch.inference_mode(False), self.torch.enable_grad():
            yield

    @contextlib.contextmanager
    def _seeded(self, seed):
        """Let torch's random numbers begin at a seed for a block, then go on where they were."""
        torch = self.torch
        tensors = [leaf for leaf in _floats(self.args) if leaf.device.type in ("cuda", "xpu")]
        kind = tensors[0].device.type if tensors else "cuda"
        indices = sorted({leaf.device.index for leaf in tensors})
        with torch.random.fork_rng(indices, device_type=kind):
            torch.default_generator.manual_seed(seed)
            for index in indices:
                library = torch.get_device_module(kind)
                with library.device(index):
                    library.manual_seed(seed)
            yield

    def _check_kind(self, what, tensor):
        try:
            arrays.is_float(tensor)
        except ValueError:
            raise ValueError(
                f"{what} is {arrays.dtype_name(tensor)}; differences need float32 or float64, "
                "as .double() makes it"
            ) from None
        if tensor.layout != self.torch.strided:
            raise ValueError(f"{what} is {tensor.layout}; only dense tensors can be checked")


def _floats(nest):
    return [leaf for _, leaf in leaves(nest) if arrays.is_float(leaf)]


def _looks(out):
    if not arrays.is_array(out):
        return type(out).__name__
    constant = ", marked as not differentiable" if arrays.is_float(out) else ""
    return f"{arrays.dtype_name(out)}{constant}"
