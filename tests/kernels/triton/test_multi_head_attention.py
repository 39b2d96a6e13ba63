"""Multi-head attention on the triton backend: the op's pair, packed heads and all."""

import numpy as np
import pytest
import torch

import minillm
from minillm import gradcheck
from minillm.ops.multi_head_attention import multi_head_attention as op
from minillm.tree import leaves, map_leaves
from minillm_kernels.precision import precision
from minillm_kernels.triton import multi_head_attention as module
from minillm_kernels.triton.flash_attention import deterministic
from minillm_kernels.triton.multi_head_attention import heads_of
from tests.kernels.harness import error

CASES = {
    "causal": {"n_head": 4, "causal": True},
    "grouped heads, rotary": {"n_head": 4, "n_kv_head": 2, "causal": True, "rotary_base": 100.0},
    "masked, no biases": {"n_head": 2, "n_kv_head": 1, "mask": "draw", "bias": False},
    "positions": {"n_head": 2, "rotary_base": 50.0, "positions": np.array([3, 1, 4, 11, 5])},
    "context": {"n_head": 4, "n_kv_head": 2, "context": True},
    "context, no biases": {"n_head": 2, "context": True, "bias": False, "causal": True},
}


def draw(n_head, n_kv_head=None, bias=True, context=False, mask=None, dtype=np.float64, **kwargs):
    """Arguments and keyword arguments of the op, and an upstream gradient."""
    rng = np.random.default_rng(n_head)
    B, T, S, C, D = 2, 5, 7, 12, 6
    G = n_kv_head or n_head
    columns = (n_head + 2 * G) * D
    params = {
        "qkv": {"weight": rng.standard_normal((C, columns)) / 2},
        "out": {"weight": rng.standard_normal((n_head * D, C)) / 2},
    }
    if bias:
        params["qkv"]["bias"] = rng.standard_normal(columns)
        params["out"]["bias"] = rng.standard_normal(C)
    x, other, dout = (rng.standard_normal((B, n, C)) for n in (T, S, T))
    if mask is not None:
        kwargs["mask"] = rng.random((B, 1, T, S if context else T)) < 0.7
    args = (x, params, other if context else None)
    args, dout = map_leaves(lambda a: a.astype(dtype), (args, dout))
    return args, kwargs | {"n_head": n_head, "n_kv_head": n_kv_head}, dout


def run(backend, place, args, kwargs, dout):
    """(out, gradients) as NumPy arrays by name."""
    if backend == "triton":
        args, dout = map_leaves(place.array, (args, dout))
        if kwargs.get("mask") is not None:
            kwargs = kwargs | {"mask": place.array(kwargs["mask"])}
    with minillm.backend(backend):
        out, cache = op(*args, **kwargs)
        found = [out, *op.backward(dout, cache)]
    return {name: place.numpy(leaf) for name, leaf in leaves(found)}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_outputs_and_gradients_are_numpys(place, case):
    truth = run("numpy", place, *draw(**case))
    ours = run("triton", place, *draw(**case, dtype=np.float32))
    assert ours.keys() == truth.keys()
    for name, right in truth.items():
        assert ours[name].dtype == np.float32, name
        assert error(ours[name], right) < 2e-6, name


def test_gradients_by_differences():
    args, kwargs, _ = draw(**CASES["grouped heads, rotary"])
    x, params, _ = args
    with minillm.backend("triton"):
        report = gradcheck.check_op(op, (x[:1, :3], params, None), kwargs)
    assert report.passed, report


@pytest.mark.parametrize(("name", "most"), [("tf32", 5e-3), ("bf16", 5e-2)])
def test_precision_inside(place, name, most):
    case = CASES["grouped heads, rotary"]
    truth = run("numpy", place, *draw(**case))
    with precision(name):
        ours = run("triton", place, *draw(**case, dtype=np.float32))
    for leaf, right in truth.items():
        assert ours[leaf].dtype == np.float32
        assert error(ours[leaf], right) < most, leaf
    if name == "bf16":
        assert error(ours["0"], truth["0"]) > 1e-4  # it did round


def test_dropout_is_the_references(place):
    args, kwargs, dout = draw(n_head=2, causal=True)
    found = [
        run(name, place, args, kwargs | {"dropout": 0.4, "rng": np.random.default_rng(3)}, dout)
        for name in ("numpy", "triton")
    ]
    for name, right in found[0].items():
        assert error(found[1][name], right) < 1e-12, name


def test_atomic_dq(place):
    case = CASES["grouped heads, rotary"]
    with deterministic(False):
        ours = run("triton", place, *draw(**case, dtype=np.float32))
    for name, right in run("numpy", place, *draw(**case)).items():
        assert error(ours[name], right) < 2e-6, name


@pytest.mark.parametrize(
    ("part", "wrong"),
    [
        ("turn", lambda x, *tables, **kwargs: x),  # no rotary
        ("heads_of", lambda *sizes: [heads_of(*sizes)[i] for i in (0, 2, 1)]),  # k for v
        ("sum_over_rows", lambda x, out_dtype: x[0].to(out_dtype)),
    ],
)
def test_wrong_parts_are_refused(place, monkeypatch, part, wrong):
    monkeypatch.setattr(module, part, wrong)
    case = CASES["grouped heads, rotary"]
    truth = run("numpy", place, *draw(**case))
    ours = run("triton", place, *draw(**case, dtype=np.float32))
    assert any(error(ours[name], right) > 1e-2 for name, right in truth.items())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"n_head": 5}, "n_head must be a multiple of n_kv_head"),
        ({"n_head": 6}, "must have a multiple of 10 columns"),
        ({"rotary_base": 10.0, "context": torch.ones(2, 7, 12)}, "rotary_base must be None"),
        ({"context": torch.ones(2, 7, 11)}, r"context must have shape \(2, any, 12\)"),
        ({"x": torch.ones(2, 12)}, "x must have shape"),
        ({"mask": torch.ones(2, 1, 5, 4, dtype=torch.bool)}, "mask must have shape"),
        ({"rotary_base": 10.0, "positions": torch.arange(4)}, "positions must have shape"),
    ],
)
def test_errors(place, change, message):
    args, kwargs, _ = draw(n_head=4, n_kv_head=2, dtype=np.float32)
    x, params, context = map_leaves(lambda a: place.tensor(a, "float32"), args)
    change = {k: v.to(place.device) if hasattr(v, "to") else v for k, v in change.items()}
    x, context = change.pop("x", x), change.pop("context", context)
    with pytest.raises(ValueError, match=message):
        module.multi_head_attention(x, params, context, **(kwargs | change))


def test_heads_too_wide(place):
    params = {
        "qkv": {"weight": torch.ones(8, 3 * 144, device=place.device), "bias": None},
        "out": {"weight": torch.ones(144, 8, device=place.device), "bias": None},
    }
    with pytest.raises(ValueError, match="heads of 1 to 128, got 144"):
        module.multi_head_attention(torch.ones(1, 3, 8, device=place.device), params, n_head=1)
