import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.ops import swiglu as op
from minillm_kernels.triton import swiglu
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds
from tests.ops.harness import check_op, rng_of

pair = swiglu.swiglu, swiglu.swiglu_backward


def case(lead, c, f, c_out, dtype, seed=0):
    rng = rng_of("swiglu", lead, c, f, c_out, seed)
    x = normal(rng, (*lead, c), dtype)
    shapes = ((c, f), (c, f), (f, c_out))
    return x, *(0.25 * normal(rng, shape, dtype) for shape in shapes)


def vendor(x, gate, up, down):
    return (torch.nn.functional.silu(x @ gate) * (x @ up)) @ down


@settings(max_examples=2, deadline=None)
@given(
    lead=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    sizes=st.tuples(*3 * [st.integers(1, 5)]), seed=seeds,
)  # fmt: skip
def test_agrees_with_both_oracles_in_float64(lead, sizes, seed):
    args = case(tuple(lead), *sizes, "float64", seed)
    check_op(op, args, oracle=vendor, seed=seed, backends=["triton"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_as_good_as_torch(place, dtype):
    sizes = place.size(((2, 37), 24, 72, 40), ((4, 1024), 768, 2048, 768))
    check_pair(place, op, pair, case(*sizes, dtype), vendor, dtype)


def test_no_rows(place):
    args = [place.tensor(a, "float32") for a in case((0,), 5, 7, 3, "float32")]
    y, saved = pair[0](*args)
    grads = pair[1](y, saved)
    assert y.shape == (0, 3)
    assert [g.shape for g in grads] == [a.shape for a in args]
    assert not any(g.any() for g in grads)


def test_wrong_shapes(place):
    x, gate, up, down = case((2,), 5, 7, 3, "float32")
    for args, message in (
        ((x, gate.T, up, down), r"weight_gate must have shape \(5, any\)"),
        ((x, gate, up[:, 1:], down), r"weight_up must have shape \(5, 7\), got \(5, 6\)"),
        ((x, gate, up, down.T), r"weight_down must have shape \(7, any\)"),
    ):
        with pytest.raises(ValueError, match=message):
            pair[0](*(place.tensor(np.ascontiguousarray(a), "float32") for a in args))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("upstream * factor * silu_slope(values)", "upstream * factor * sigmoid(values)"),
        ("dwide = upstream * (values * sigmoid(values))", "dwide = upstream * values"),
        ("torch.cat([up, gate], 1)", "torch.cat([gate, up], 1)"),
    ],
)
def test_broken_pairs_are_refused(place, tmp_path, old, new):
    broken = mutant(swiglu, old, new, tmp_path)
    args = case((40,), 24, 40, 16, "float32")
    with pytest.raises(AssertionError):
        check_pair(place, op, (broken.swiglu, broken.swiglu_backward), args, vendor, "float32")
