import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.ops.lstm_cell import lstm_cell
from tests.ops.harness import assert_close, assert_killed, check_op, randn, rng_of, wrong_backwards
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


def backward(dstate, cache, mistake=""):
    """The right one, but for `mistake`."""
    x, h, c, i, f, g, o, tanh_c, params = cache
    dh, dc = dstate["h"], dstate["c"]
    do = dh * tanh_c
    if mistake == "gradient of c dropped":
        dc = np.zeros_like(dc)
    if mistake != "no path from h to c":
        dc = dc + dh * o * (1 - tanh_c**2)
    df = dc * (f * c + i * g) if mistake == "new c in the forget gate" else dc * c
    di, dg = dc * g, dc * i
    if mistake == "no forget gate":
        df = np.zeros_like(df)
    if mistake == "gates i and g swapped":
        di, dg = dg, di
    parts = [di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)]
    if mistake == "gate order i, f, o, g":
        parts = [parts[0], parts[1], parts[3], parts[2]]
    da = np.concatenate(parts, -1)
    dparams = {"weight_x": x.T @ da, "weight_h": h.T @ da, "bias": da.sum(0)}
    dc_old = dc if mistake == "c passed on without its gate" else dc * f
    return da @ params["weight_x"].T, {"h": da @ params["weight_h"].T, "c": dc_old}, dparams


MISTAKES = (
    "gradient of c dropped",
    "no path from h to c",
    "new c in the forget gate",
    "no forget gate",
    "gates i and g swapped",
    "gate order i, f, o, g",
    "c passed on without its gate",
)


def wrong_by(mistake):
    def wrong(dstate, cache):
        return backward(dstate, cache, mistake)

    return wrong


@wrong_backwards({name.replace(" ", "-"): wrong_by(name) for name in MISTAKES})
def test_kills(wrong):
    assert_killed(lstm_cell, wrong, case((2, 3, 4), 1))


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
