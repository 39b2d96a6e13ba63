"""A block that is bfloat16 inside: as good as the same precision op by op."""

import numpy as np
import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode

import minillm
from minillm import gradcheck
from minillm.ops import transformer_block as op
from minillm.tree import leaves, map_leaves
from minillm_kernels.precision import precision
from minillm_kernels.triton import _norm, matmul, mlp_gelu, multi_head_attention
from minillm_kernels.triton import transformer_block as module
from tests.kernels.harness import as_good_as, error
from tests.ops.harness import rng_of

# options of the op, "mask": to be drawn, and "bias": whether products have one
CASES = {
    "gpt2": {"n_head": 2},
    "llama": {"n_head": 4, "n_kv_head": 2, "norm": "rms", "mlp": "swiglu", "rotary_base": 50.0},
    "no bias, positions": {
        "n_head": 2,
        "bias": False,
        "rotary_base": 100.0,
        "positions": np.array([3, 1, 4, 11, 5, 9, 2]),
    },
    "masked, swiglu, biases in attention": {
        "n_head": 4,
        "n_kv_head": 1,
        "mlp": "swiglu",
        "causal": False,
        "mask": "draw",
    },
}


def draw(dtype=np.float32, bias=True, shape=(2, 7, 40), **kwargs):
    """Arguments, keyword arguments and an upstream gradient."""
    rng = rng_of(*map(str, kwargs.values()))
    (B, T, C), H, F = shape, kwargs["n_head"], 5 * shape[2] // 3
    D, G = C // H, kwargs.get("n_kv_head") or H

    def product(n_in, n_out, bias=bias):
        weight = rng.standard_normal((n_in, n_out)) / n_in**0.5
        return {"weight": weight} | ({"bias": rng.standard_normal(n_out) / 3} if bias else {})

    def norm():
        gain, bias = 1 + rng.standard_normal((2, C)) / 3
        return {"gain": gain} | ({} if kwargs.get("norm") == "rms" else {"bias": bias})

    if kwargs.get("mlp") == "swiglu":
        mlp = {name: product(C, F, False) for name in ("gate", "up")} | {
            "down": product(F, C, False)
        }
    else:
        mlp = {"up": product(C, F), "down": product(F, C)}
    params = {
        "norm1": norm(),
        "attention": {"qkv": product(C, (H + 2 * G) * D), "out": product(H * D, C)},
        "norm2": norm(),
        "mlp": mlp,
    }
    x, dy = 2 * rng.standard_normal((2, B, T, C))
    x, params, dy = map_leaves(lambda a: a.astype(dtype), (x, params, dy))
    if "mask" in kwargs:
        kwargs["mask"] = rng.random((B, 1, T, T)) < 0.7
    return (x, params), kwargs, dy


def run(backend, place, args, kwargs, dy, chosen="float32"):
    """(y, gradients) as NumPy arrays by name, and which pair gave them."""
    if backend == "triton":
        args, dy = map_leaves(place.array, (args, dy))
        if "mask" in kwargs:
            kwargs = kwargs | {"mask": place.array(kwargs["mask"])}
    with minillm.backend(backend), precision(chosen):
        y, cache = op(*args, **kwargs)
    with minillm.backend(backend):  # what backward computes in follows from what forward left
        found = [y, *op.backward(dy, cache)]
    return {name: place.numpy(leaf) for name, leaf in leaves(found)}, cache.saved[0]


def op_by_op(monkeypatch, place, *drawn, chosen="bf16"):
    with monkeypatch.context() as patch:
        patch.setattr(module, "_serves", lambda *args: False)
        found, by = run("triton", place, *drawn, chosen)
    assert by == "reference"
    return found


def truth_of(place, args, kwargs, dy):
    args, dy = map_leaves(lambda a: a.astype(np.float64), (args, dy))
    return run("numpy", place, args, kwargs, dy)[0]


def compare(ours, theirs, truth):
    """Refuse results that are worse than those op by op.

    Triton's interpreter cuts off what a GPU rounds to nearest, and the block rounds more of its
    numbers in kernels: there its error is larger than theirs by up to the factor that is allowed.
    """
    assert ours.keys() == truth.keys()
    for leaf, right in truth.items():
        assert ours[leaf].dtype == np.float32, leaf
        as_good_as(ours[leaf], theirs[leaf], right, "float32", leaf)


@pytest.mark.parametrize("name", CASES)
def test_as_good_as_op_by_op(place, monkeypatch, name):
    drawn = draw(**CASES[name])
    truth = truth_of(place, *drawn)
    ours, by = run("triton", place, *drawn, chosen="bf16")
    assert by == "triton"
    compare(ours, op_by_op(monkeypatch, place, *drawn), truth)
    assert error(ours["0"], truth["0"]) > 1e-4  # it did round


def test_rows_that_fit_no_registers(place, monkeypatch):
    monkeypatch.setattr(_norm, "FORWARD_COLUMNS", 16)
    monkeypatch.setattr(_norm, "BACKWARD_COLUMNS", 16)
    drawn = draw(n_head=2, shape=(1, 5, 40))
    ours, _ = run("triton", place, *drawn, chosen="bf16")
    compare(ours, op_by_op(monkeypatch, place, *drawn), truth_of(place, *drawn))


@pytest.mark.parametrize("chosen", ["float32", "tf32"])
def test_other_precisions_are_op_by_op(place, monkeypatch, chosen):
    drawn = draw(**CASES["gpt2"])
    ours, by = run("triton", place, *drawn, chosen=chosen)
    assert by == "reference"
    for leaf, theirs in op_by_op(monkeypatch, place, *drawn, chosen=chosen).items():
        np.testing.assert_array_equal(ours[leaf], theirs)


def test_dropout_is_op_by_op(place):
    drawn = draw(n_head=2, dropout=0.3, shape=(1, 3, 24))
    found = []
    for backend in ("numpy", "triton"):
        drawn[1]["rng"] = np.random.default_rng(4)
        found.append(run(backend, place, *drawn, chosen="bf16"))
    (right, _), (ours, by) = found
    assert by == "reference"
    for leaf, expected in right.items():
        assert error(ours[leaf], expected) < 0.1, leaf
    del drawn[1]["rng"]  # in use: nothing is dropped
    assert run("triton", place, *drawn, chosen="bf16")[1] == "triton"


def test_double_precision_by_differences():
    args, kwargs, _ = draw(np.float64, n_head=2, shape=(1, 2, 4), norm="rms", bias=False)
    with minillm.backend("triton"), precision("bf16"):
        report = gradcheck.check_op(op, args, kwargs)
    assert report.passed, report


class Made(TorchDispatchMode):
    """The dtypes of the (N, C) arrays that come into being."""

    def __init__(self, numel):
        super().__init__()
        self.numel, self.dtypes = numel, []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        out = func(*args, **(kwargs or {}))
        made = func.name().partition(".")[0] in (
            "aten::empty",
            "aten::empty_like",
            "aten::_to_copy",
        )
        if made and out.numel() == self.numel:
            self.dtypes.append(out.dtype)
        return out


def test_what_lies_between_the_products_is_narrow(place):
    (x, params), kwargs, dy = draw(n_head=2)
    x, params, dy = map_leaves(lambda a: place.tensor(a, "float32"), (x, params, dy))
    with Made(x.numel()) as made, precision("bf16"):
        _, saved = module.transformer_block(x, params, **kwargs)
    assert made.dtypes.count(torch.float32) == 2  # total and y
    assert made.dtypes.count(torch.bfloat16) == 4  # two norms, the mixture, attention's result
    with Made(x.numel()) as made:
        module.transformer_block_backward(dy, saved)
    assert made.dtypes.count(torch.float32) == 2  # of the total and of x
    assert made.dtypes.count(torch.bfloat16) == 5  # dy and dattended, two norms, the mixture


def no_residual(*args, epilogue="none", other=None, **kwargs):
    if epilogue == "add":
        epilogue, other = "none", None
    return matmul.matmul(*args, epilogue=epilogue, other=other, **kwargs)


def no_residual_back(op_name, dy, dtotal, saved, rounded=None):
    return launch_backward(op_name, dy, None, saved, rounded)


def no_sums(op_name, dy, dtotal, saved, rounded=None):
    *grads, sums = launch_backward(op_name, dy, dtotal, saved, rounded)
    return *grads, sums if sums is None else 0 * sums


launch_backward = _norm.launch_backward


@pytest.mark.parametrize(
    ("owner", "part", "wrong"),
    [
        (mlp_gelu, "matmul", no_residual),
        (_norm, "launch_backward", no_residual_back),
        (_norm, "launch_backward", no_sums),
        (module, "round_rows", lambda x, dtype, _: (x.to(dtype), x[0])),
        (multi_head_attention, "turn", lambda x, *tables, **kwargs: x),
    ],
)
def test_wrong_parts_are_refused(place, monkeypatch, owner, part, wrong):
    drawn = draw(n_head=2, rotary_base=50.0, shape=(1, 7, 40))
    theirs = op_by_op(monkeypatch, place, *drawn)
    monkeypatch.setattr(owner, part, wrong)
    ours, _ = run("triton", place, *drawn, chosen="bf16")
    with pytest.raises(AssertionError, match="the vendor's"):
        compare(ours, theirs, truth_of(place, *drawn))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"norm": "batch"}, "norm must be 'layer' or 'rms'"),
        ({"n_head": 5}, "must have a multiple of 15 columns"),
        ({"dropout": 1.5}, "p must be at least 0 and below 1"),
        ({"rng": 7}, "rng must be a numpy.random.Generator"),
        ({"x": (7, 24)}, "x must have shape"),
        ({"x": (1, 7, 25)}, "must have shape"),
        ({"mask": np.ones((1, 1, 7, 6), bool)}, "mask must have shape"),
        ({"rotary_base": 9.0, "positions": np.arange(3)}, "positions must have shape"),
    ],
)
def test_errors(place, change, message):
    (x, params), kwargs, _ = draw(n_head=2, shape=(1, 7, 24))
    x = np.ones(change.pop("x", x.shape), np.float32)
    x, params, change = map_leaves(place.array, (x, params, change))
    with minillm.backend("triton"), precision("bf16"), pytest.raises(ValueError, match=message):
        op(x, params, **(kwargs | change))
