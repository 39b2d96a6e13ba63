import math

import numpy as np
import pytest
import torch

from minillm.optim import clip_by_global_norm, clip_scale, global_norm
from minillm.training.parallel import WorkerPool
from minillm.tree import flatten, map_leaves


def grads(dtype=np.float32):
    rng = np.random.default_rng(5)
    return {
        "a": rng.standard_normal((300, 400)).astype(dtype),
        "b": [rng.standard_normal(3).astype(dtype), None],
        "c": rng.standard_normal((4, 5)).astype(dtype).T,
    }


@pytest.mark.parametrize("max_norm", [0.5, 1e6])
def test_matches_torch(max_norm):
    ours = grads()
    tensors = [torch.zeros(g.shape, requires_grad=True) for g in flatten(ours).values()]
    for tensor, g in zip(tensors, flatten(ours).values(), strict=True):
        tensor.grad = torch.tensor(np.array(g))
    expected = torch.nn.utils.clip_grad_norm_(tensors, max_norm)
    norm = clip_by_global_norm(ours, max_norm)
    assert norm == pytest.approx(float(expected), rel=1e-6)
    for tensor, g in zip(tensors, flatten(ours).values(), strict=True):
        np.testing.assert_allclose(g, tensor.grad.numpy(), rtol=1e-6)
    assert global_norm(ours) <= max(max_norm, norm if max_norm > norm else 0) * (1 + 1e-6)


def test_sums_in_float64():
    # In float32 a running sum of ones stops at 2**24, and the square of 1e30 is inf.
    assert global_norm({"a": np.ones(2**24 + 9, np.float32)}) == math.sqrt(2**24 + 9)
    assert global_norm([np.full(4, 1e30, np.float32)]) == pytest.approx(2e30, rel=1e-7)


def test_threads_agree():
    with WorkerPool(2) as pool:
        assert global_norm(grads(), pool=pool) == pytest.approx(global_norm(grads()), rel=1e-14)


@pytest.mark.parametrize("bad", [math.inf, math.nan])
def test_bad_gradients_are_reported_not_spread(bad):
    ours = grads()
    ours["a"][1, 2] = bad
    kept = map_leaves(np.copy, ours)
    assert not math.isfinite(clip_by_global_norm(ours, 1.0))
    for name, g in flatten(ours).items():
        assert np.array_equal(g, flatten(kept)[name], equal_nan=True)


def test_zero_gradients_and_settings():
    assert clip_by_global_norm([np.zeros(3)], 1.0) == 0
    assert global_norm({}) == 0
    assert clip_scale(0.0, 1.0) == 1
    with pytest.raises(ValueError, match="max_norm must be above 0, got 0"):
        clip_scale(1.0, 0)
