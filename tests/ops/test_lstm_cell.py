import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.ops.lstm_cell import lstm_cell
from tests.ops.harness import (
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    wrong_backwards,
)
from tests.ops.recurrent_cases import torch_cell, weights_of


def case(shape, seed):
    batch, channels, hidden = shape
    rng = rng_of("lstm_cell", shape, seed)
    state = {"h": randn(rng, batch, hidden), "c": randn(rng, batch, hidden)}
    return randn(rng, batch, channels), state, weights_of(rng, "lstm", channels, hidden)


def oracle(x, state, params):
    return torch_cell("lstm", x, state, params)


@given(
    shape=st.sampled_from([(2, 3, 4), (4, 2, 3), (1, 1, 1), (1, 3, 2), (3, 1, 2), (2, 3, 1)]),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_both_oracles(shape, seed):
    check_op(lstm_cell, case(shape, seed), oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(lstm_cell, case((2, 3, 4), 1), scope="full")


@wrong_backwards("lstm_cell")
def test_kills(wrong):
    assert_killed(wrong)


def test_absent_gradients_are_zeros():
    args = case((2, 3, 4), 2)
    out, cache = lstm_cell(*args)
    zeros = np.zeros((2, 4))
    for key, other in (("h", "c"), ("c", "h")):
        got = lstm_cell.backward({key: out[key], other: None}, cache)
        assert_close(got, lstm_cell.backward({key: out[key], other: zeros}, cache), 0, key)


def test_gates_stay_finite_far_out():
    x, state, params = case((2, 3, 4), 3)
    params = {key: 1e4 * value for key, value in params.items()}
    out, cache = lstm_cell(x, state, params)
    assert_close(lstm_cell.backward(out, cache), lstm_cell.backward(out, cache), 0, "far out")


def test_wrong_shapes_and_keys_are_named():
    x, state, params = case((2, 3, 4), 0)
    with pytest.raises(ValueError, match=r"c must have shape \(2, 4\), got \(2, 5\)"):
        lstm_cell(x, {"h": state["h"], "c": np.ones((2, 5))}, params)
    with pytest.raises(ValueError, match=r"params\['bias'\] must have shape \(16,\), got \(4,\)"):
        lstm_cell(x, state, params | {"bias": np.ones(4)})
    with pytest.raises(ValueError, match=r"state must be a dict with the keys h, c, got \['h'\]"):
        lstm_cell(x, {"h": state["h"]}, params)
    with pytest.raises(ValueError, match="state must be a dict with the keys h, c, got NoneType"):
        lstm_cell(x, None, params)
    _, cache = lstm_cell(x, state, params)
    with pytest.raises(ValueError, match=r"\['h'\] must be .* \(2, 4\), got .*\(4, 2\)"):
        lstm_cell.backward({"h": np.ones((4, 2)), "c": None}, cache)
    with pytest.raises(ValueError, match=r"\['c'\] must be float64 .*, got float32"):
        lstm_cell.backward({"h": None, "c": np.ones((2, 4), np.float32)}, cache)
