"""Attention over sequences of different lengths: each as if it were alone."""

import numpy as np
import pytest
import torch

from minillm.ops._state import Registry
from minillm_kernels.triton.flash_attention import (
    deterministic,
    flash_attention_varlen,
    flash_attention_varlen_backward,
)
from tests.kernels.harness import TORCH_TYPES, epsilon, error, quantised


def packed(place, lengths_q, lengths_k, H, G, D, dtype, seed=0):
    rng = np.random.default_rng(seed)
    T, S = sum(lengths_q), sum(lengths_k)
    exact = [quantised(rng, s, dtype)[1] for s in ((T, H, D), (S, G, D), (S, G, D), (T, H, D))]
    cu = [torch.tensor(np.cumsum([0, *n]), dtype=torch.int32) for n in (lengths_q, lengths_k)]
    return exact, [place.tensor(x, dtype) for x in exact], [c.to(place.device) for c in cu]


def truth(exact, lengths_q, lengths_k, causal):
    """Each sequence alone, by the specification."""
    forward, backward = Registry.ops["flash_attention"]["numpy"]
    q, k, v, dout = exact
    found = [np.zeros_like(x) for x in (dout, q, k, v)]
    t = s = 0
    for n, m in zip(lengths_q, lengths_k, strict=True):
        rows, keys = slice(t, t + n), slice(s, s + m)
        t, s = t + n, s + m
        if n == 0 or m == 0:
            continue
        args = [x[None].swapaxes(1, 2) for x in (q[rows], k[keys], v[keys])]
        out, saved = forward(*args, causal=causal)
        grads = backward(dout[rows][None].swapaxes(1, 2), saved)
        for whole, place_, one in zip(found, (rows, rows, keys, keys), (out, *grads), strict=False):
            whole[place_] = one[0].swapaxes(0, 1)
    return found


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
@pytest.mark.parametrize(
    ("lengths_q", "lengths_k", "causal"),
    [
        ((70, 1, 0, 33), (70, 1, 0, 33), True),
        ((5, 66, 9), (80, 3, 0), True),  # rows that see no key, and a sequence without keys
        ((40, 3), (2, 130), False),
    ],
)
def test_each_sequence_as_if_alone(place, dtype, lengths_q, lengths_k, causal):
    exact, (q, k, v, dout), cu = packed(place, lengths_q, lengths_k, 2, 1, 32, dtype)
    out, cache = flash_attention_varlen(q, k, v, *cu, max(lengths_q), max(lengths_k), causal=causal)
    grads = flash_attention_varlen_backward(dout, cache)
    with deterministic(False):
        atomic = flash_attention_varlen_backward(dout, cache)
    expected = truth(exact, lengths_q, lengths_k, causal)
    for ours, right in zip((out, *grads), expected, strict=True):
        assert ours.dtype == TORCH_TYPES[dtype]
        assert error(place.numpy(ours), right) < 4 * epsilon(dtype)
    for ours, right in zip(atomic, expected[1:], strict=True):
        assert error(place.numpy(ours), right) < 4 * epsilon(dtype)


def test_a_sequence_that_reads_its_neighbour_is_noticed(place):
    lengths = (40, 30)
    exact, (q, k, v, _), (cu, _) = packed(place, lengths, lengths, 2, 1, 32, "float32")
    moved = cu + torch.tensor([0, 1, 0], dtype=torch.int32, device=cu.device)
    out, _ = flash_attention_varlen(q, k, v, cu, moved, 40, 41)
    assert error(place.numpy(out), truth(exact, lengths, lengths, False)[0]) > 1e-3


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"q": torch.ones(1, 4, 2, 8)}, r"q must be a torch tensor \(rows, H, D\)"),
        ({"q": np.ones((4, 2, 8), np.float32)}, "q must be a torch tensor"),
        ({"cu_q": torch.tensor([0, 4])}, r"cu_q must be int32 \(B \+ 1,\)"),
        ({"cu_k": torch.tensor([0, 2, 4], dtype=torch.int32)}, "cu_k must be int32"),
        ({"max_q": -1}, "max_q must be at least 0"),
        ({"v": torch.ones(3, 2, 8)}, "v must have shape"),
    ],
)
def test_errors(place, change, message):
    x = torch.ones(4, 2, 8)
    cu = torch.tensor([0, 4], dtype=torch.int32)
    given = {"q": x, "k": x, "v": x, "cu_q": cu, "cu_k": cu, "max_q": 4, "max_k": 4} | change
    given = {k: v.to(place.device) if hasattr(v, "to") else v for k, v in given.items()}
    with pytest.raises(ValueError, match=message):
        flash_attention_varlen(**given)


def test_dout_of_another_shape(place):
    x = torch.ones(4, 2, 8, device=place.device)
    cu = torch.tensor([0, 4], dtype=torch.int32, device=place.device)
    _, cache = flash_attention_varlen(x, x, x, cu, cu, 4, 4)
    with pytest.raises(ValueError, match="dout must have shape"):
        flash_attention_varlen_backward(x[:3], cache)
