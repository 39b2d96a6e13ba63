import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.ops import linear as op
from minillm_kernels.precision import precision
from minillm_kernels.triton import _factors, _sums, linear
from tests.kernels.harness import error
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds
from tests.ops.harness import check_op, rng_of

pair = linear.linear, linear.linear_backward


def case(lead, c_in, c_out, dtype, *, bias=True, seed=0):
    rng = rng_of("linear", lead, c_in, c_out, seed)
    shapes = ((*lead, c_in), (c_in, c_out), (c_out,))
    x, weight, b = (normal(rng, shape, dtype) for shape in shapes)
    return x, weight, b if bias else None


def vendor(x, weight, bias):
    y = x @ weight
    return y if bias is None else y + bias


@settings(max_examples=3, deadline=None)
@given(
    lead=st.lists(st.integers(1, 4), min_size=1, max_size=3), c_in=st.integers(1, 6),
    c_out=st.integers(1, 6), bias=st.booleans(), seed=seeds,
)  # fmt: skip
def test_agrees_with_both_oracles_in_float64(lead, c_in, c_out, bias, seed):
    args = case(tuple(lead), c_in, c_out, "float64", bias=bias, seed=seed)
    check_op(op, args, oracle=vendor, seed=seed, backends=["triton"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
@pytest.mark.parametrize("bias", [True, False])
def test_as_good_as_torch(place, dtype, bias):
    lead, c_in, c_out = place.size(((2, 37), 40, 72), ((16, 1024), 768, 2304))
    check_pair(place, op, pair, case(lead, c_in, c_out, dtype, bias=bias), vendor, dtype)


@pytest.mark.parametrize("name", ["tf32", "bf16"])
def test_precisions_keep_the_dtype_and_lose_digits(place, name):
    x, weight, bias = case((40,), 64, 24, "float32")
    here = [place.tensor(a, "float32") for a in (x, weight, bias)]
    with precision(name):
        y, saved = pair[0](*here)
        dx, dweight, dbias = pair[1](y, saved)
    tolerance = {"tf32": 2e-3, "bf16": 1e-2}[name]
    assert error(place.numpy(y), x @ weight + bias) < tolerance
    assert error(place.numpy(dx), place.numpy(y).astype(float) @ weight.T) < tolerance
    assert error(place.numpy(dweight), x.T @ place.numpy(y)) < tolerance
    assert error(place.numpy(dbias), place.numpy(y).sum(0)) < 1e-5, "dbias needs no product"
    assert {t.dtype for t in (y, dx, dweight, dbias)} == {torch.float32}
    if name == "bf16":
        assert error(place.numpy(y), x @ weight + bias) > 1e-4, "nothing was rounded"


def test_master_weights_in_float32_beside_half_precision(place):
    x, weight, bias = case((40,), 64, 24, "bfloat16")
    here = place.tensor(x, "bfloat16"), place.tensor(weight, "float32"), place.tensor(bias)
    y, saved = pair[0](*here)
    dx, dweight, _ = pair[1](y, saved)
    assert (y.dtype, dx.dtype, dweight.dtype) == (torch.bfloat16, torch.bfloat16, torch.float32)
    assert error(place.numpy(dweight), x.T @ place.numpy(y)) < 1e-5


@pytest.mark.parametrize("lead", [(0,), (1,), (2, 0), ()])
def test_rows_0_and_1_and_no_axis(place, lead):
    x, weight, bias = case(lead, 5, 3, "float32")
    y, saved = pair[0](*(place.tensor(a, "float32") for a in (x, weight, bias)))
    dx, dweight, dbias = pair[1](y, saved)
    assert y.shape == (*lead, 3)
    assert dx.shape == (*lead, 5)
    rows, dy = x.reshape(-1, 5), place.numpy(y).reshape(-1, 3)
    np.testing.assert_allclose(place.numpy(dweight), rows.T @ dy, rtol=1e-5)
    np.testing.assert_allclose(place.numpy(dbias), dy.sum(0), rtol=1e-5)


@pytest.mark.parametrize(
    ("shapes", "message"),
    [
        (((2, 3), (4, 5), (5,)), r"weight must have shape \(3, any\), got \(4, 5\)"),
        (((2, 3), (3, 5), (4,)), r"bias must have shape \(5,\), got \(4,\)"),
    ],
)
def test_wrong_shapes(place, shapes, message):
    with minillm.backend("triton"), pytest.raises(ValueError, match=message):
        op(*(place.array(np.ones(shape)) for shape in shapes))


def test_wrong_dtypes(place):
    one = torch.ones((2, 2), device=place.device)
    with pytest.raises(ValueError, match=r"x is torch.float32 but a weight is torch.float16"):
        pair[0](one, one.half())
    with pytest.raises(ValueError, match=r"weight must be a tensor of .*, got torch.int32"):
        pair[0](one, one.int())


def test_bfloat16_on_a_turing_gpu(place, monkeypatch):
    monkeypatch.setattr(_factors.device, "arch", lambda: 75)
    one = torch.ones((2, 2), device=place.device)
    with pytest.raises(ValueError, match=r"x is bfloat16, which needs .* 8\.0"):
        pair[0](one.bfloat16(), one.bfloat16())
    with precision("bf16"), pytest.raises(ValueError, match=r'precision "bf16" needs .* 8\.0'):
        pair[0](one, one)


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (linear, "x_rows.T, dy_rows", "x_rows.T, dy_rows * 0.98"),
        (linear, "return dx, dweight, dbias", "return dx, dweight, dbias - dy_rows[-1]"),
        (linear, "matmul(x_rows, w, bias=bias,", "matmul(x_rows, w, bias=None,"),
    ],
)
def test_broken_pairs_are_refused(place, tmp_path, module, old, new):
    broken = mutant(module, old, new, tmp_path)
    args = case((40,), 24, 16, "bfloat16")
    with pytest.raises(AssertionError):
        check_pair(place, op, (broken.linear, broken.linear_backward), args, vendor, "bfloat16")


def test_a_broken_sum_is_refused(place, monkeypatch, tmp_path):
    broken = mutant(_sums, "row < last", "row < last - 1", tmp_path)
    monkeypatch.setattr(_sums, "sum_rows", broken.sum_rows)
    with pytest.raises(AssertionError):
        check_pair(place, op, pair, case((40,), 24, 16, "float32"), vendor, "float32")
