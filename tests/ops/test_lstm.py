import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.ops.dropout import dropout
from minillm.ops.lstm import lstm
from tests.ops.harness import (
    BACKENDS,
    ORACLE_TOL,
    assert_close,
    assert_killed,
    check_op,
    rng_of,
    wrong_backwards,
)
from tests.ops.recurrent_cases import (
    layers_case,
    masks,
    torch_dropped_layers,
    torch_layers,
)

SHAPES = [(2, 3, 4, 5, 2), (1, 4, 2, 3, 1), (3, 1, 2, 1, 3), (2, 4, 1, 2, 1), (1, 1, 1, 1, 1)]
shapes = st.sampled_from(SHAPES)  # (B, T, C, K, L)
seeds = st.integers(0, 2**32 - 1)


def case(shape, seed, with_state=True):
    return layers_case(rng_of("lstm", shape, seed), "lstm", shape, with_state=with_state)


@settings(max_examples=10)
@given(shape=shapes, seed=seeds, with_state=st.booleans())
def test_agrees_with_both_oracles(shape, seed, with_state):
    def oracle(x, state, params):
        return torch_layers("lstm", x, state, params)

    check_op(lstm, case(shape, seed, with_state), oracle=oracle, seed=seed)


@settings(max_examples=10)
@given(
    shape=st.tuples(*(st.integers(1, 9) for _ in range(4)), st.integers(1, 3)),
    seed=seeds,
    with_state=st.booleans(),
)
def test_agrees_with_torch_at_any_shape(shape, seed, with_state):
    def oracle(x, state, params):
        return torch_layers("lstm", x, state, params)

    check_op(lstm, case(shape, seed, with_state), oracle=oracle, seed=seed)


@settings(max_examples=3)
@given(shape=st.sampled_from([(2, 3, 4, 2, 3), (3, 2, 1, 4, 2)]), seed=seeds)
def test_dropout_lies_between_the_layers(shape, seed):
    between = masks(dropout, (*shape[:2], shape[3]), shape[4] - 1, 0.4, seed)
    kwargs = {"dropout": 0.4, "rng": lambda: np.random.default_rng(seed)}

    def oracle(x, state, params):
        return torch_dropped_layers("lstm", x, state, params, between)

    check_op(lstm, case(shape, seed, with_state=False), kwargs, oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(lstm, case((2, 3, 4, 5, 2), 1), scope="full")


@wrong_backwards("lstm")
def test_kills(wrong):
    assert_killed(wrong)


@pytest.mark.parametrize("backend", BACKENDS)
def test_absent_gradients_are_zeros(backend):
    with minillm.backend(backend):
        (y, end), cache = lstm(*case((2, 3, 4, 5, 2), 2))
        dend = {"h": end["c"], "c": end["h"]}
        no_dend = {"h": 0 * end["h"], "c": 0 * end["c"]}
        for short, full in (((y, None), (y, no_dend)), ((None, dend), (0 * y, dend))):
            assert_close(lstm.backward(short, cache), lstm.backward(full, cache), 0, "None")
        half = lstm.backward((y, {"h": None, "c": end["c"]}), cache)
        full = lstm.backward((y, {"h": 0 * end["h"], "c": end["c"]}), cache)
        assert_close(half, full, 0, "None for h alone")


@pytest.mark.parametrize("backend", BACKENDS)
def test_a_sequence_in_two_halves_is_the_sequence(backend):
    x, state, params = case((2, 5, 4, 3, 2), 3)
    with minillm.backend(backend):
        (y, end), cache = lstm(x, state, params)
        (y_first, middle), first = lstm(x[:, :2], state, params)
        (y_last, end_last), last = lstm(x[:, 2:], middle, params)
        halves = np.concatenate([y_first, y_last], axis=1)
        assert_close((halves, end_last), (y, end), ORACLE_TOL, "outputs in two halves")
        dx, dstate, dparams = lstm.backward((y, end), cache)
        dx_last, dmiddle, dparams_last = lstm.backward((y[:, 2:], end), last)
        dx_first, dstate_first, dparams_first = lstm.backward((y[:, :2], dmiddle), first)
    dx_halves = np.concatenate([dx_first, dx_last], axis=1)
    assert_close((dx_halves, dstate_first), (dx, dstate), ORACLE_TOL, "gradients in two halves")
    for both, a, b in zip(dparams, dparams_first, dparams_last, strict=True):
        total = {key: a[key] + b[key] for key in a}
        assert_close(total, both, ORACLE_TOL, "parameter gradients in two halves")


@pytest.mark.parametrize("shape", [(40, 6, 3, 160, 1), (40, 3, 2, 160, 2), (60, 5, 2, 131, 1)])
def test_backends_agree_where_a_step_is_cut_into_blocks(shape):
    args, results = case(shape, 6), []
    for backend in BACKENDS:
        with minillm.backend(backend):
            out, cache = lstm(*args)
            results.append((out, lstm.backward(out, cache)))
    assert_close(results[1], results[0], ORACLE_TOL, "fast against numpy")


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("shape", [(2, 3, 4, 5, 2), (1, 3, 4, 5, 1), (3, 1, 4, 5, 1)])
def test_what_comes_back_may_be_written_to(backend, shape):
    args = case(shape, 4)
    with minillm.backend(backend):
        (y, end), cache = lstm(*args)
        dout = (y.copy(), None)
        expected = lstm.backward(dout, cache)
        y[...] = np.nan
        end["h"][...] = end["c"][...] = np.nan
        assert_close(lstm.backward(dout, cache), expected, 0, "outputs overwritten")


def test_wrong_shapes_are_named():
    x, state, params = case((2, 3, 4, 5, 2), 0)
    for backend in BACKENDS:
        with minillm.backend(backend):
            refuses(
                r"params\[1\]\['weight_x'\] must have shape \(5, 20\)", x, state, [params[0]] * 2
            )
            refuses(r"x must have shape \(any, any, any\), got \(2, 4\)", x[:, 0], state, params)
            refuses("at least one time step", x[:, :0], state, params)
            refuses("params must be a list of at least one layer", x, state, [])
            refuses(
                r"state\['h'\] must have shape \(2, 2, 5\), got \(1, 2, 5\)",
                x,
                {key: value[:1] for key, value in state.items()},
                params,
            )
            (y, _), cache = lstm(x, state, params)
            with pytest.raises(ValueError, match=r"\[0\] must be .* \(2, 3, 5\), got .*\(2, 5\)"):
                lstm.backward((y[:, 0], None), cache)


def refuses(message, *args):
    with pytest.raises(ValueError, match=message):
        lstm(*args)
