import numpy as np
import pytest
import torch
from hypothesis import given, settings

from minillm.ops import silu as op
from minillm_kernels.triton import silu
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds, shapes
from tests.ops.harness import check_op, rng_of

pair = silu.silu, silu.silu_backward
vendor = torch.nn.functional.silu


@settings(max_examples=4, deadline=None)
@given(shape=shapes(), seed=seeds)
def test_agrees_with_both_oracles_in_float64(shape, seed):
    x = normal(rng_of("silu", shape, seed), shape, "float64", 3.0)
    check_op(op, (x,), oracle=vendor, seed=seed, backends=["triton"])


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_as_good_as_torch(place, dtype):
    x = normal(np.random.default_rng(0), place.size((3, 1037), (16384, 3072)), dtype, 2.0)
    check_pair(place, op, pair, (x,), vendor, dtype)


def test_large_values_do_not_overflow(place):
    y, saved = pair[0](place.tensor(np.array([-1e4, 0.0, 1e4]), "float32"))
    assert place.numpy(y).tolist() == pytest.approx([0, 0, 1e4], abs=1e-20)
    assert place.numpy(pair[1](torch.ones_like(y), saved)).tolist() == pytest.approx(
        [0, 0.5, 1], abs=1e-20
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [("gate + x * (gate", "gate + (gate"), ("upstream * silu_slope", "silu_slope")],
)
def test_broken_kernels_are_refused(place, tmp_path, old, new):
    broken = mutant(silu, old, new, tmp_path)
    x = normal(np.random.default_rng(2), (200,), "float32", 2.0)
    with pytest.raises(AssertionError):
        check_pair(place, op, (broken.silu, broken.silu_backward), (x,), vendor, "float32")
