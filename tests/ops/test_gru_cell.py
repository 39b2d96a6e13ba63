import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.ops.gru_cell import gru_cell
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards
from tests.ops.recurrent_cases import torch_cell, weights_of


def case(shape, seed):
    batch, channels, hidden = shape
    rng = rng_of("gru_cell", shape, seed)
    return (
        randn(rng, batch, channels),
        randn(rng, batch, hidden),
        weights_of(rng, "gru", channels, hidden),
    )


def oracle(x, h, params):
    return torch_cell("gru", x, h, params)


@given(
    shape=st.sampled_from([(2, 3, 4), (4, 2, 3), (1, 1, 1), (1, 3, 2), (3, 1, 2), (2, 3, 1)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_both_oracles(shape, seed):
    check_op(gru_cell, case(shape, seed), oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(gru_cell, case((2, 3, 4), 1), scope="full")


@wrong_backwards("gru_cell")
def test_kills(wrong):
    assert_killed(wrong)


def test_wrong_shapes_and_keys_are_named():
    x, h, params = case((2, 3, 4), 0)
    with pytest.raises(ValueError, match=r"params\['weight_h'\] must have shape \(4, 12\)"):
        gru_cell(x, h, params | {"weight_h": np.ones((4, 4))})
    with pytest.raises(ValueError, match=r"keys weight_x, weight_h, bias, bias_h, got \['bias'\]"):
        gru_cell(x, h, {"bias": params["bias"]})
