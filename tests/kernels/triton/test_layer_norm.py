import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.ops import layer_norm as op
from minillm_kernels.triton import _norm, layer_norm
from tests.kernels.harness import epsilon, error
from tests.kernels.triton.pairs import broken_norm, check_pair, normal
from tests.ops.draw import seeds, shapes
from tests.ops.harness import check_op, rng_of

EPS = 0.1
pair = layer_norm.layer_norm, layer_norm.layer_norm_backward


def case(shape, dtype, seed=0, offset=1.0):
    rng = rng_of("layer_norm", shape, seed)
    width = shape[-1]
    x = normal(rng, shape, dtype, 3.0, offset)
    return x, normal(rng, (width,), dtype), normal(rng, (width,), dtype)


def vendor(eps=1e-5):
    return lambda x, gain, bias: torch.nn.functional.layer_norm(x, gain.shape, gain, bias, eps)


@settings(max_examples=6)
@given(shape=shapes(), eps=st.sampled_from([1e-5, EPS]), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, eps, seed):
    args = case(shape, "float64", seed)
    check_op(op, args, {"eps": eps}, oracle=vendor(eps), seed=seed, backends=["triton"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("shape", [(37, 33), (3, 1), (2, 768), (2, 3, 1100)])
def test_as_good_as_torch(place, shape, dtype):
    shape = place.size(shape, (16384, 768))
    check_pair(place, op, pair, case(shape, dtype), vendor(), dtype)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_rows_that_fit_no_registers(place, monkeypatch, dtype):
    if place.name == "cpu":
        long_rows(monkeypatch)
    shape = (place.size(7, 2000), place.size(150, 20000))
    check_pair(place, op, pair, case(shape, dtype), vendor(), dtype)


def long_rows(monkeypatch):
    """Make rows of more than 16 columns long ones, read in blocks of 64."""
    for name, columns in (("FORWARD", 16), ("BACKWARD", 16), ("LOOP", 64)):
        monkeypatch.setattr(_norm, f"{name}_COLUMNS", columns)


@pytest.mark.parametrize("long", [False, True])
def test_a_large_mean_costs_no_more_digits_than_it_must(place, monkeypatch, long):
    """x - mean(x) is known to eps |mean|; E[x^2] - E[x]^2 would be to eps mean^2: to nothing."""
    if long:
        long_rows(monkeypatch)
    x, gain, bias = case((2, 300), "float32", offset=3000.0)
    with minillm.backend("numpy"):
        truth, _ = op(x, gain, bias)
    y, _ = layer_norm.layer_norm(*(place.tensor(a, "float32") for a in (x, gain, bias)))
    condition = 3000 / 3
    assert error(place.numpy(y), truth) <= 4 * condition * epsilon("float32")


def test_constant_rows_stay_finite(place):
    x = place.tensor(np.full((2, 40), 7.0), "float32")
    one, half = place.tensor(np.ones(40), "float32"), place.tensor(np.full(40, 0.5), "float32")
    y, saved = layer_norm.layer_norm(x, one, half)
    dx, _, _ = layer_norm.layer_norm_backward(x * torch.arange(40, device=x.device), saved)
    assert torch.all(y == 0.5)
    assert torch.all(torch.isfinite(dx))


def test_no_rows(place):
    one = place.tensor(np.ones(5), "float32")
    x = place.tensor(np.ones((0, 5)), "float32")
    y, saved = layer_norm.layer_norm(x, one, one)
    dx, dgain, dbias = layer_norm.layer_norm_backward(x, saved)
    assert y.shape == dx.shape == (0, 5)
    assert not dgain.any()
    assert not dbias.any()


def test_gradients_of_the_parameters_do_not_change_from_run_to_run(place):
    x, gain, bias = (place.tensor(a, "float32") for a in case((200, 130), "float32"))
    results = []
    for _ in range(2):
        _, saved = layer_norm.layer_norm(x, gain, bias)
        results.append(layer_norm.layer_norm_backward(x, saved))
    assert all(torch.equal(a, b) for a, b in zip(*results, strict=True))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        # the padding of a row counts in its variance
        ("tl.where(inside, values - centre[:, None], 0)", "values - centre[:, None]"),
        # the mean takes no share of the gradient
        ("out -= (tl.sum(dnormed, 1) / n_columns)[:, None]", "out -= 0"),
        # the variance takes none
        ("normed * (tl.sum(dnormed * normed, 1) / n_columns)[:, None]", "normed * 0"),
        # a program forgets its earlier rows
        ("dgain += upstream * normed\n", "dgain = upstream * normed\n"),
    ],
)  # fmt: skip
def test_a_wrong_kernel_is_refused(place, monkeypatch, tmp_path, old, new):
    broken = broken_norm(monkeypatch, old, new, tmp_path)

    def forward(x, gain, bias):
        y, _, saved = broken.forward("wrong", x, None, gain, bias, 1e-5)
        return y, saved

    def backward(dy, saved):
        return broken.backward("wrong", dy, None, saved)

    with pytest.raises(AssertionError, match="error"):
        check_pair(place, op, (forward, backward), case((600, 33), "float32"), vendor(), "float32")


def test_wrong_arguments_are_named(place):
    def tensors(*shapes, dtype="float32"):
        return [place.tensor(np.ones(shape), dtype) for shape in shapes]

    with pytest.raises(ValueError, match=r"gain must have shape \(4,\), got \(3,\)"):
        layer_norm.layer_norm(*tensors((2, 4), 3, 4))
    with pytest.raises(ValueError, match=r"bias must have shape \(4,\), got \(5,\)"):
        layer_norm.layer_norm(*tensors((2, 4), 4, 5))
    with pytest.raises(ValueError, match=r"x must be one of float16, .* got torch.int64"):
        layer_norm.layer_norm(
            torch.ones((2, 4), dtype=torch.int64, device=place.device), *tensors(4, 4)
        )
    with pytest.raises(ValueError, match="x must have at least one axis, got a scalar"):
        layer_norm.layer_norm(*tensors((), 1, 1))
    y, saved = layer_norm.layer_norm(*tensors((2, 4), 4, 4))
    with pytest.raises(ValueError, match=r"dy must be torch.float32 as x is, got torch.float64"):
        layer_norm.layer_norm_backward(y.double(), saved)
