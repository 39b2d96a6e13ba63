import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops._erf import erf
from minillm.ops.gelu import gelu
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import EPS, assert_killed, check_op, randn, rng_of, wrong_backwards

FORMS = ("none", "tanh")


def case(shape, seed):
    return (np.asarray(2 * randn(rng_of("gelu", shape, seed), *shape)),)


@given(shape=shapes(0, 3), approximate=st.sampled_from(FORMS), seed=seeds)
def test_agrees_with_both_oracles(shape, approximate, seed):
    check_op(
        gelu,
        case(shape, seed),
        {"approximate": approximate},
        oracle=lambda x: torch.nn.functional.gelu(x, approximate=approximate),
        seed=seed,
    )


@pytest.mark.parametrize("approximate", FORMS)
def test_every_element_agrees_with_differences(approximate):
    check_op(gelu, case((3, 4), 1), {"approximate": approximate}, scope="full")


@wrong_backwards("gelu")
def test_kills(wrong):
    assert_killed(wrong)


def test_erf_agrees_with_the_standard_library():
    edges = [0.0, -0.0, 0.46875, np.nextafter(0.46875, 1), 4.0, 5.9, 6.0, 6.1, 1e-300, 1e300]
    x = np.concatenate([np.linspace(-7, 7, 20_001), edges, np.negative(edges)])
    expected = np.array([math.erf(value) for value in x])
    worst = np.max(np.abs(erf(x) - expected) / np.abs(expected).clip(1e-320))
    assert worst <= 4 * EPS
    assert np.array_equal(np.signbit(erf(x)), np.signbit(expected))


def test_erf_in_float32():
    x = np.linspace(-7, 7, 20_001, dtype=np.float32)
    expected = np.array([math.erf(value) for value in x])
    assert erf(x).dtype == np.float32
    assert np.max(np.abs(erf(x) - expected)) <= 4 * np.finfo(np.float32).eps


@on_each_backend
def test_erf_form_is_the_definition(backend):
    x = np.linspace(-8, 8, 4001)
    with minillm.backend(backend):
        y = gelu(x)[0]
    expected = [v * 0.5 * (1 + math.erf(v / math.sqrt(2))) for v in x]
    assert np.max(np.abs(y - expected) / np.maximum(np.abs(x), 1)) <= 4 * EPS


@on_each_backend
@pytest.mark.parametrize("approximate", FORMS)
def test_far_out_is_finite_and_right(backend, approximate):
    x = np.array([-1e4, -50.0, 0.0, 50.0, 1e4])
    for dtype in (np.float32, np.float64):
        with minillm.backend(backend):
            y, cache = gelu(x.astype(dtype), approximate=approximate)
            dx = gelu.backward(np.ones_like(y), cache)
        assert np.array_equal(y, [0, 0, 0, 50, 1e4])
        assert np.array_equal(dx, [0, 0, 0.5, 1, 1])


@on_each_backend
def test_another_form_is_named(backend):
    with (
        minillm.backend(backend),
        pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', got 'erf'"),
    ):
        gelu(np.ones(3), approximate="erf")
