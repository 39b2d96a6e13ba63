"""The attention ops of the backend "cupy", on the emulator or a GPU, against their reference."""

import os

os.environ.setdefault("MINILLM_EMULATE", "1")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm import gradcheck
from minillm.ops import flash_attention, multi_head_attention, scaled_dot_product_attention
from minillm.ops._state import Registry
from minillm_kernels import backend_cupy  # noqa: F401  (all its pairs register)
from minillm_kernels.cuda import flash_attention as module
from tests.kernels.harness import epsilon
from tests.ops.harness import strided

OPS = (flash_attention, scaled_dot_product_attention)


def inputs(seed, B, H, G, T, S, D, V, dtype=np.float32):
    rng = np.random.default_rng(seed)
    shapes = (B, H, T, D), (B, G, S, D), (B, G, S, V), (B, H, T, V)
    return [rng.standard_normal(shape).astype(dtype) for shape in shapes]


def both(place, op, arrays, kwargs=None, bias=None):
    """Output and gradients of an op by the kernels and, in float64, by its reference."""
    kwargs = kwargs or {}
    *args, dout = arrays
    args = [*args, bias]
    wide = [a if a is None else a.astype(np.float64) for a in (*args, dout)]
    with minillm.backend("numpy"):
        out, cache = op(*wide[:4], **kwargs)
        truth = [out, *op.backward(wide[4], cache)]
    there = {k: place.array(v) if isinstance(v, np.ndarray) else v for k, v in kwargs.items()}
    with minillm.backend("cupy"):
        out, cache = op(*(a if a is None else place.array(a) for a in args), **there)
        ours = [out, *op.backward(place.array(dout), cache)]
    return [a if a is None else place.numpy(a) for a in ours], truth


def assert_near(ours, truth, S):
    """As many float32 roundings as a sum has terms, each of numbers as large as the largest."""
    limit = 8 * S * epsilon("float32") * max(np.abs(b).max() for b in truth if b is not None)
    for a, b in zip(ours, truth, strict=True):
        if b is None:
            assert a is None
            continue
        assert a.dtype == np.float32
        assert a.shape == b.shape
        np.testing.assert_allclose(a, b, rtol=0, atol=limit)


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_ops(place, op):
    @settings(max_examples=place.size(8, 30), deadline=None, derandomize=True, database=None)
    @given(
        T=st.integers(1, place.size(40, 300)),
        S=st.integers(1, place.size(40, 300)),
        heads=st.sampled_from([(32, 32), (32, 32), (20, 7)]),
        G=st.integers(1, 2),
        causal=st.booleans(),
        masked=st.booleans(),
        layout=st.sampled_from([np.copy, strided]),
        seed=st.integers(0, 99),
    )
    def run(T, S, heads, G, causal, masked, layout, seed):
        arrays = [layout(a) for a in inputs(seed, 2, 2 * G, G, T, S, *heads)]
        mask = np.random.default_rng(seed).random((1, 2 * G, 1, S)) < 0.6
        options = {"causal": causal, "mask": layout(mask) if masked else None, "scale": 0.3}
        assert_near(*both(place, op, arrays, options), S)

    run()


@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_a_bias_and_wide_heads_run_the_reference(place, op):
    bias = np.random.default_rng(3).standard_normal((1, 2, 5, 6)).astype(np.float32)
    arrays = inputs(1, 1, 2, 1, 5, 6, 16, 16)
    assert_near(*both(place, op, arrays, bias=bias), 6)
    assert_near(*both(place, op, inputs(1, 1, 2, 1, 5, 6, 260, 260)), 260)


def test_dropout_runs_the_reference(place):
    arrays = inputs(1, 1, 2, 1, 5, 6, 16, 16)
    op = scaled_dot_product_attention
    assert_near(*both(place, op, arrays, {"dropout": 0.5}), 6)  # no generator: nothing is dropped
    with minillm.backend("cupy"):
        rng = np.random.default_rng(0)
        ours, _ = op(*map(place.array, arrays[:3]), dropout=0.5, rng=rng)
    with minillm.backend("numpy"):
        kept, _ = op(*arrays[:3], dropout=0.5, rng=np.random.default_rng(0))
        whole, _ = op(*arrays[:3])
    np.testing.assert_allclose(place.numpy(ours), kept, rtol=1e-5, atol=1e-5)
    assert np.abs(kept - whole).max() > 0.01
    with minillm.backend("cupy"), pytest.raises(ValueError, match="p must be"):
        op(*map(place.array, arrays[:3]), dropout=1.5)


@pytest.mark.parametrize("D", [16, 6])
@pytest.mark.parametrize("op", OPS, ids=lambda op: op.__name__)
def test_gradient_checker(op, D):
    args = inputs(5, 1, 2, 1, 4, 5, D, D, np.float64)[:3]
    mask = np.random.default_rng(5).random((1, 1, 4, 5)) < 0.8
    with minillm.backend("cupy"):
        report = gradcheck.check_op(op, [*args, None], {"causal": True, "mask": mask})
    assert report.passed, report


def test_both_ops_are_registered():
    for op in OPS:
        assert Registry.ops[op.__name__]["cupy"][0].__module__.startswith("minillm_kernels.cuda")


def test_multi_head_attention_is_made_of_them(place):
    rng = np.random.default_rng(8)
    params = {
        "qkv": {"weight": rng.standard_normal((24, 4 * 16)), "bias": rng.standard_normal(64)},
        "out": {"weight": rng.standard_normal((32, 24)), "bias": None},
    }
    x = rng.standard_normal((2, 9, 24))
    outs = []
    for backend in ("numpy", "cupy"):
        with minillm.backend(backend), minillm.trace() as steps:
            out, cache = multi_head_attention(x, params, n_head=2, n_kv_head=1, causal=True)
            outs.append((out, *multi_head_attention.backward(out, cache)))
        assert any(step.name == "flash_attention" for step in steps)
    np.testing.assert_allclose(outs[1][0], outs[0][0], rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(outs[1][1], outs[0][1], rtol=1e-9, atol=1e-9)


def test_wrong_arguments_are_refused():
    q, k, v, _ = inputs(0, 1, 2, 1, 3, 4, 16, 16)
    with minillm.backend("cupy"):
        with pytest.raises(ValueError, match="block must be at least 1, got 0"):
            flash_attention(q, k, v, block=0)
        with pytest.raises(ValueError, match="k must hold at least one key"):
            flash_attention(q, k[:, :, :0], v[:, :, :0])
        with pytest.raises(ValueError, match="mask must be an array of bool"):
            flash_attention(q, k, v, mask=np.ones((1, 1, 3, 4)))
        with pytest.raises(ValueError, match="float16"):
            flash_attention(*(a.astype(np.float16) for a in (q, k, v)))
        out, cache = flash_attention(q[:, :, :0], k, v)
        assert out.shape == (1, 2, 0, 16)
        assert not flash_attention.backward(out, cache)[1].any()


def test_an_array_on_the_cpu_is_refused_on_a_gpu(monkeypatch):
    q, k, v, _ = inputs(0, 1, 2, 1, 3, 4, 16, 16)
    monkeypatch.setattr(module, "emulated", lambda: False)
    with minillm.backend("cupy"), pytest.raises(ValueError, match="q must be a CuPy array, got a"):
        flash_attention(q, k, v)
