import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.ops import embedding_recurrent
from minillm.ops import lstm as op
from minillm.tree import leaves, map_leaves
from minillm_kernels.precision import precision
from tests.kernels.harness import error, quantised
from tests.kernels.triton.pairs import check_pair, leaves_of, mutant
from tests.ops.draw import seeds
from tests.ops.harness import assert_close, check_op, rng_of, upstream
from tests.ops.recurrent_cases import layers_case, torch_layers

module = importlib.import_module("minillm_kernels.triton.lstm")
forward, backward = module.lstm, module.lstm_backward
SHAPES = [(2, 2, 4, 3, 1), (1, 2, 3, 2, 2)]  # (B, T, C, K, L)


def case(shape, seed=0, with_state=True, dtype="float64"):
    args = layers_case(rng_of("lstm", shape, seed), "lstm", shape, with_state=with_state)
    rounded = map_leaves(lambda a: a.astype(dtype).astype(np.float64), list(args))
    return tuple(rounded)


def vendor(x, state, params):
    return torch_layers("lstm", x, state, params)


@pytest.mark.parametrize(("shape", "with_state"), list(zip(SHAPES, (True, False), strict=True)))
def test_agrees_with_both_oracles_in_float64(shape, with_state):
    check_op(op, case(shape, 0, with_state), oracle=vendor, backends=["triton"])


@settings(max_examples=4)
@given(
    shape=st.tuples(*(st.integers(1, 9) for _ in range(4)), st.integers(1, 3)),
    seed=seeds,
    dropout=st.sampled_from([0.0, 0.4]),
)
def test_agrees_with_the_reference_at_any_shape(shape, seed, dropout):
    """Dropout included: both draw the same masks."""
    results, args = [], case(shape, seed)
    for backend in ("numpy", "triton"):
        with minillm.backend(backend):
            out, cache = op(*args, dropout=dropout, rng=np.random.default_rng(seed))
            results.append([out, op.backward(upstream(out, seed), cache)])
    assert_close(results[1], results[0], 1e-12, "triton against numpy")


@pytest.mark.parametrize("shape", [(37, 2, 5, 40, 1), (3, 5, 33, 20, 2)])
def test_as_good_as_torch_in_float32(place, shape):
    """More rows and units than a block has, and none that it divides."""
    args = case(place.size(shape, (64, 50, 256, 1000, 2)), dtype="float32")
    check_pair(place, op, (forward, backward), args, vendor, "float32")


@pytest.mark.parametrize(("name", "bits"), [("tf32", 10), ("bf16", 7)])
def test_a_lower_precision_rounds_the_factors_alone(place, name, bits):
    """Each factor is off by half its last place at most, and steps add their errors up."""
    args = case((5, 3, 20, 24, 1), dtype="float32")
    tensors = [map_leaves(lambda a: place.tensor(a, "float32"), arg) for arg in args]
    with minillm.backend("numpy"):
        out, cache = op(*args)
        dout = upstream(out)
        truth = leaves_of([out, op.backward(dout, cache)])
    with precision(name):
        ours, saved = forward(*tensors)
    sent = map_leaves(lambda d: place.tensor(d, "float32"), dout)
    ours = leaves_of([ours, backward(sent, saved)])  # by the precision of its forward
    for key, exact in truth.items():
        assert ours[key].dtype == torch.float32
        off = error(place.numpy(ours[key]), exact)
        assert off <= 8 * 2.0**-bits, f"{key}: {off}"
    if name == "bf16":
        assert max(error(place.numpy(ours[k]), truth[k]) for k in truth) > 2.0**-14


def test_upstreams_that_are_missing(place):
    args = [map_leaves(lambda a: place.tensor(a, "float32"), arg) for arg in case(SHAPES[1])]
    (y, end), saved = forward(*args)
    full = torch.randn_like(y), {"h": torch.randn_like(end["h"]), "c": torch.randn_like(end["c"])}
    zeros = map_leaves(torch.zeros_like, full)
    for with_none, with_zeros in (
        ((full[0], None), (full[0], zeros[1])),
        ((None, full[1]), (zeros[0], full[1])),
        ((full[0], {**full[1], "h": None}), (full[0], {**full[1], "h": zeros[1]["h"]})),
        ((full[0], {**full[1], "c": None}), (full[0], {**full[1], "c": zeros[1]["c"]})),
    ):
        pairs = zip(
            leaves(backward(with_none, saved)), leaves(backward(with_zeros, saved)), strict=True
        )
        assert all(torch.equal(a, b) for (_, a), (_, b) in pairs)


def test_large_numbers_saturate(place):
    x, state, params = case(SHAPES[0], dtype="float32")
    args = [
        map_leaves(lambda a: place.tensor(a, "float32"), part) for part in (x * 1e4, state, params)
    ]
    (y, end), saved = forward(*args)
    grads = backward((y, end), saved)
    assert all(torch.isfinite(leaf).all() for _, leaf in leaves([y, end, grads]))


def test_tanh_keeps_its_digits_near_zero(place):
    """1 - exp(-2 |a|) alone would be off by 1e-3 at 1e-4."""
    a, exact = quantised(rng_of("tanh"), (1, 1, 1), scale=1e-4)
    ones = np.ones((1, 4))
    params = [
        {"weight_x": ones * [0, 0, 1, 0], "weight_h": 0 * ones, "bias": ones[0] * [50, 0, 0, 50]}
    ]
    params = map_leaves(lambda w: place.tensor(w, "float32"), params)
    (y, _), _ = forward(place.tensor(a, "float32"), None, params)
    assert error(place.numpy(y), np.tanh(exact)) < 3 * np.finfo(np.float32).eps


def test_reached_through_embedding_recurrent():
    rng = rng_of("embedding_recurrent")
    weight, ids = rng.standard_normal((5, 4)), rng.integers(0, 5, (2, 3))
    _, state, params = case((2, 3, 4, 3, 2))
    with minillm.backend("numpy"):
        expected, _ = embedding_recurrent(weight, state, params, ids=ids, cell="lstm")
    with minillm.backend("triton"), minillm.trace() as steps:
        out, _ = embedding_recurrent(weight, state, params, ids=ids, cell="lstm")
    assert_close(out, expected, 1e-12, "out")
    assert "lstm_cell" not in {step.name for step in steps}


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("new = f * old + i * g", "new = f * old + i"),
        ("dnew * old * f * (1 - f)", "dnew * f * (1 - f)"),
        ("upstream * o * (1 - tanh_c * tanh_c)", "upstream * o"),
        ("dy[:, -1] += dend", "dy[:, 0] += dend"),
        ("torch.cat([start[\"h\"][:, None], y[:, :-1]], 1)", "y"),
        ("tl.store(at_dc, dnew * f, mask=inside)", "tl.store(at_dc, dnew, mask=inside)"),
    ],
)  # fmt: skip
def test_a_wrong_kernel_is_refused(place, tmp_path, old, new):
    broken = mutant(module, old, new, tmp_path)
    args = case((3, 3, 4, 5, 2), dtype="float32")
    pair = broken.lstm, broken.lstm_backward
    with pytest.raises(AssertionError, match="error"):
        check_pair(place, op, pair, args, vendor, "float32")


def test_wrong_arguments_are_named(place):
    x, state, params = (
        map_leaves(lambda a: place.tensor(a, "float32"), part) for part in case(SHAPES[1])
    )
    with pytest.raises(ValueError, match=r"x must have shape \(any, any, any\), got \(1, 2\)"):
        forward(x[:, :, 0], state, params)
    with pytest.raises(ValueError, match="x must have at least one time step"):
        forward(x[:, :0], state, params)
    with pytest.raises(ValueError, match=r"state\['c'\] must have shape \(2, 1, 2\)"):
        forward(x, {**state, "c": state["c"][:1]}, params)
    with pytest.raises(ValueError, match="state must be a dict with the keys h, c"):
        forward(x, {"h": state["h"]}, params)
    with pytest.raises(ValueError, match=r"lstm: x must be float32 or float64, got .*float16"):
        forward(x.half(), state, params)
    with pytest.raises(ValueError, match=r"params\[1\]\['bias'\] must be torch.float32 as x is"):
        forward(x, state, [params[0], {**params[1], "bias": params[1]["bias"].double()}])
    with pytest.raises(ValueError, match="p must be at least 0 and below 1, got 1"):
        forward(x, state, params, dropout=1)
    with pytest.raises(
        ValueError, match=r"rng must be a numpy\.random\.Generator or None, got int"
    ):
        forward(x, state, params, rng=3)
