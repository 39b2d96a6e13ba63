"""Attention three times: by the kernels, in float64, and by torch, on the same inputs."""

import math

import numpy as np
import torch

import minillm_kernels.triton  # noqa: F401  (its pairs register)
from minillm.ops._state import Registry
from minillm.ops.flash_attention import flash_attention as op
from minillm_kernels.triton.flash_attention import flash_attention, flash_attention_backward
from tests.kernels.harness import as_good_as, quantised

NAMES = ("out", "dq", "dk", "dv", "dbias")


class Case:
    """Quantised inputs of one attention, drawn from a seed."""

    def __init__(self, B, H, G, T, S, D, *, dtype="float32", seed=0, values=None, scale=None,
                 causal=False, bias=None, mask=None, spread=1.0):  # fmt: skip
        rng = np.random.default_rng(seed)
        values = D if values is None else values
        shapes = [(B, H, T, D), (B, G, S, D), (B, G, S, values), (B, H, T, values)]
        drawn = [quantised(rng, shape, dtype, spread) for shape in shapes]
        *self.inputs, self.dout = [exact for _, exact in drawn]
        self.dtype, self.causal, self.scale = dtype, causal, scale
        self.bias = None if bias is None else quantised(rng, bias, dtype)[1]
        self.mask = None if mask is None else rng.random(mask) < 0.6

    @property
    def arguments(self):
        return [*self.inputs, self.bias]

    def truth(self):
        """out and its gradients from the specification in float64."""
        forward, backward = Registry.ops[op.__name__]["numpy"]
        kwargs = {"causal": self.causal, "mask": self.mask, "scale": self.scale}
        out, saved = forward(*self.arguments, **kwargs)
        return [out, *backward(self.dout, saved)]

    def vendor(self, place):
        """torch's attention with all hidden pairs in its mask, in the case's dtype."""
        tensors = [None if a is None else place.tensor(a, self.dtype) for a in self.arguments]
        tensors = [None if t is None else t.requires_grad_() for t in tensors]
        q, k, v, bias = tensors
        (T, S), group = (q.shape[2], k.shape[2]), q.shape[1] // k.shape[1]
        seen = torch.ones(*q.shape[:3], S, dtype=torch.bool, device=q.device)
        if self.causal:
            seen = seen.tril(S - T)
        if self.mask is not None:
            seen = seen & place.tensor(self.mask)
        dead = ~seen.any(-1, keepdim=True)
        hidden = torch.zeros_like(seen, dtype=q.dtype).masked_fill(~(seen | dead), -math.inf)
        added = hidden if bias is None else hidden + bias
        k_all, v_all = (x.repeat_interleave(group, 1) for x in (k, v))
        attend = torch.nn.functional.scaled_dot_product_attention
        with place.exact_vendor():
            out = attend(q, k_all, v_all, attn_mask=added, scale=self.scale)
            out = out.masked_fill(dead, 0)
            given = [t for t in tensors if t is not None]
            grads = iter(torch.autograd.grad(out, given, place.tensor(self.dout, self.dtype)))
        return [out, *(None if t is None else next(grads) for t in tensors)]

    def ours(self, place, lay=lambda tensor: tensor):
        """The kernels'; `lay` may give a tensor other strides."""
        tensors = [None if a is None else lay(place.tensor(a, self.dtype)) for a in self.arguments]
        mask = None if self.mask is None else place.tensor(self.mask)
        out, cache = flash_attention(*tensors, causal=self.causal, mask=mask, scale=self.scale)
        return [out, *flash_attention_backward(lay(place.tensor(self.dout, self.dtype)), cache)]

    def check(self, place, ours=None):
        """Hold the kernels' error to twice torch's.

        Gradients go through one more rounding to the dtype than torch's on a CPU, that of the
        weights' gradient, hence the sum of both errors' floors.
        """
        ours = self.ours(place) if ours is None else ours
        rows = zip(NAMES, ours, self.vendor(place), self.truth(), strict=True)
        for name, a, b, exact in rows:
            if exact is None:
                assert a is None, f"{name}: a gradient for no argument"
                continue
            assert str(a.dtype).endswith(self.dtype), f"{name}: {a.dtype}, not {self.dtype}"
            if not exact.any():
                assert not place.numpy(a).any(), f"{name}: should be zero"
                continue
            as_good_as(place.numpy(a), place.numpy(b), exact, self.dtype, f"{name} {self.dtype}")
