import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.dropout import dropout
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import EPS, assert_killed, check_op, randn, rng_of, wrong_backwards

ps = st.sampled_from([0.1, 0.5, 0.9])


def case(shape, seed):
    return (np.asarray(randn(rng_of("dropout", shape, seed), *shape)),)


@given(shape=shapes(0, 3), p=ps, seed=seeds)
def test_agrees_with_both_oracles(shape, p, seed):
    def rng():
        return np.random.default_rng(seed)

    kept = rng().random(shape, dtype=np.float32) >= p  # the draw that the docstring promises
    factor = torch.tensor(kept / (1 - p))
    check_op(
        dropout, case(shape, seed), {"p": p, "rng": rng}, oracle=lambda x: x * factor, seed=seed
    )


def test_every_element_agrees_with_differences():
    kwargs = {"p": 0.4, "rng": lambda: np.random.default_rng(2)}
    check_op(dropout, case((3, 5), 1), kwargs, scope="full")


@wrong_backwards("dropout")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_same_mask_and_exact_scale_both_ways(backend, dtype):
    x = np.ones((40, 50), dtype)
    with minillm.backend(backend):
        y, cache = dropout(x, p=0.3, rng=np.random.default_rng(0))
        dx = dropout.backward(x, cache)
    assert np.array_equal(y, dx)
    assert set(np.unique(y)) == {dtype(0), dtype(1) / (1 - 0.3)}
    share = np.mean(y == 0)
    assert abs(share - 0.3) < 5 * math.sqrt(0.3 * 0.7 / x.size)


@on_each_backend
def test_backends_and_dtypes_draw_alike(backend):
    with minillm.backend("numpy"):
        expected = dropout(np.ones((7, 9)), p=0.5, rng=np.random.default_rng(3))[0]
    with minillm.backend(backend):
        y = dropout(np.ones((7, 9), np.float32), p=0.5, rng=np.random.default_rng(3))[0]
    assert np.array_equal(y, expected)


@on_each_backend
def test_draws_go_on(backend):
    rng = np.random.default_rng(0)
    with minillm.backend(backend):
        one, two = (dropout(np.ones(100), p=0.5, rng=rng)[0] for _ in range(2))
    assert not np.array_equal(one, two)


@on_each_backend
@pytest.mark.parametrize("kwargs", [{"p": 0.5}, {"p": 0.0, "rng": np.random.default_rng(0)}])
def test_off_is_the_identity(backend, kwargs):
    (x,) = case((3, 4), 1)
    before = np.random.default_rng(0).bit_generator.state
    with minillm.backend(backend):
        y, cache = dropout(x, **kwargs)
        assert np.array_equal(y, x)
        assert np.array_equal(dropout.backward(2 * x, cache), 2 * x)
    if "rng" in kwargs:
        assert kwargs["rng"].bit_generator.state == before, "p = 0 drew"


@on_each_backend
def test_expected_value_is_kept(backend):
    x = np.full(200_000, 2.0)
    with minillm.backend(backend):
        y = dropout(x, p=0.25, rng=np.random.default_rng(1))[0]
    assert abs(y.mean() - 2) < 5 * 2 * math.sqrt(0.25 / 0.75 / x.size) + EPS


@pytest.mark.parametrize(
    ("kwargs", "message"),
    [
        ({"p": 1.0}, "p must be at least 0 and below 1, got 1.0"),
        ({"p": -0.1}, "p must be at least 0 and below 1, got -0.1"),
        ({"p": float("nan")}, "p must be at least 0 and below 1, got nan"),
        ({"p": 0.5, "rng": 7}, "rng must be a numpy.random.Generator or None, got int"),
    ],
)
@on_each_backend
def test_wrong_arguments_are_named(kwargs, message, backend):
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        dropout(np.ones(3), **kwargs)
