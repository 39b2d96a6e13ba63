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


def backward(dh_new, cache, mistake=""):
    """The right one, but for `mistake`."""
    x, h, r, z, n, b_n, params = cache
    dz, dn, dh = dh_new * (h - n), dh_new * (1 - z), dh_new * z
    if mistake == "update gate upside down":
        dz, dn, dh = -dz, dh_new * z, dh_new * (1 - z)
    da_n = dn * (1 - n**2)
    dr, db_n = da_n * b_n, da_n * r
    if mistake == "reset gate missing":
        dr = np.zeros_like(dr)
    if mistake == "candidate's product not reset":
        db_n = da_n
    if mistake == "reset gate from h, not from its product":
        dr = da_n * h
    da_r, da_z = dr * r * (1 - r), dz * z * (1 - z)
    da, db = np.concatenate([da_r, da_z, da_n], -1), np.concatenate([da_r, da_z, db_n], -1)
    if mistake == "direct path of h dropped":
        dh = np.zeros_like(dh)
    bias_h = da.sum(0) if mistake == "one gradient for both biases" else db.sum(0)
    dparams = {"weight_x": x.T @ da, "weight_h": h.T @ db, "bias": da.sum(0), "bias_h": bias_h}
    return da @ params["weight_x"].T, dh + db @ params["weight_h"].T, dparams


MISTAKES = (
    "update gate upside down",
    "reset gate missing",
    "candidate's product not reset",
    "reset gate from h, not from its product",
    "direct path of h dropped",
    "one gradient for both biases",
)


def wrong_by(mistake):
    def wrong(dh_new, cache):
        return backward(dh_new, cache, mistake)

    return wrong


@wrong_backwards({name.replace(" ", "-"): wrong_by(name) for name in MISTAKES})
def test_kills(wrong):
    assert_killed(gru_cell, wrong, case((2, 3, 4), 1))


def test_wrong_shapes_and_keys_are_named():
    x, h, params = case((2, 3, 4), 0)
    with pytest.raises(ValueError, match=r"params\['weight_h'\] must have shape \(4, 12\)"):
        gru_cell(x, h, params | {"weight_h": np.ones((4, 4))})
    with pytest.raises(ValueError, match=r"keys weight_x, weight_h, bias, bias_h, got \['bias'\]"):
        gru_cell(x, h, {"bias": params["bias"]})
