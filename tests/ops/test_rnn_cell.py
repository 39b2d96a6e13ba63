import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.ops.rnn_cell import rnn_cell
from tests.ops.harness import assert_killed, check_op, randn, rng_of, wrong_backwards
from tests.ops.recurrent_cases import torch_cell, weights_of


def case(shape, seed):
    batch, channels, hidden = shape
    rng = rng_of("rnn_cell", shape, seed)
    return (
        randn(rng, batch, channels),
        randn(rng, batch, hidden),
        weights_of(rng, "rnn", channels, hidden),
    )


def oracle(x, h, params):
    return torch_cell("rnn", x, h, params)


@given(
    shape=st.sampled_from([(2, 3, 4), (4, 2, 3), (1, 1, 1), (1, 3, 2), (3, 1, 2), (2, 3, 1)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_both_oracles(shape, seed):
    check_op(rnn_cell, case(shape, seed), oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(rnn_cell, case((2, 3, 4), 1), scope="full")


@wrong_backwards("rnn_cell")
def test_kills(wrong):
    assert_killed(wrong)


def test_wrong_shapes_and_keys_are_named():
    x, h, params = case((2, 3, 4), 0)
    with pytest.raises(ValueError, match=r"params\['weight_x'\] must have shape \(3, 4\)"):
        rnn_cell(x, h, params | {"weight_x": np.ones((4, 4))})
    with pytest.raises(ValueError, match=r"h must have shape \(2, any\), got \(3, 4\)"):
        rnn_cell(x, np.ones((3, 4)), params)
    with pytest.raises(ValueError, match=r"keys weight_x, weight_h, bias, got \['bias'\]"):
        rnn_cell(x, h, {"bias": params["bias"]})
