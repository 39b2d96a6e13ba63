import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.rotary import rotary
from tests.ops.attention_cases import torch_rotary
from tests.ops.harness import (
    BACKENDS,
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    wrong_backwards,
)


@given(
    shape=st.sampled_from([(2, 3, 5, 4), (1, 1, 1, 2), (1, 2, 4, 6), (3, 1, 2, 2)]),
    given_positions=st.booleans(),
    base=st.sampled_from([10000.0, 7.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_both_oracles(shape, given_positions, base, seed):
    rng = rng_of("rotary", shape, seed)
    x = randn(rng, *shape)
    positions = rng.integers(0, 500, shape[2]) if given_positions else None
    check_op(
        rotary,
        (x,),
        {"positions": positions, "base": base},
        oracle=lambda x: torch_rotary(x, base, positions),
        seed=seed,
    )


@pytest.mark.parametrize("backend", BACKENDS)
@given(shift=st.integers(-50, 50), seed=st.integers(0, 2**32 - 1))
def test_dot_products_depend_on_relative_positions_alone(backend, shift, seed):
    rng = rng_of("relative", seed)
    q, k = randn(rng, 1, 2, 6, 8), randn(rng, 1, 2, 6, 8)
    positions = rng.permutation(60)[:6]

    def products(at):
        turned_q, turned_k = rotary(q, positions=at)[0], rotary(k, positions=at)[0]
        return turned_q @ turned_k.swapaxes(-1, -2)

    with minillm.backend(backend):
        here, there, inverted = (
            products(positions),
            products(positions + shift),
            products(-positions),
        )
    assert_close(there, here, 1e-12, "dot products after a shift")
    assert not np.allclose(inverted, here)  # the sign of a distance counts


def test_keeps_lengths_and_leaves_position_zero():
    x = randn(rng_of(1), 2, 3, 5, 6)
    y, _ = rotary(x)
    assert np.array_equal(y[:, :, 0], x[:, :, 0])
    assert_close(np.linalg.norm(y, axis=-1), np.linalg.norm(x, axis=-1), 1e-14, "length")
    assert_close(rotary(x, positions=np.arange(5))[0], y, 0, "positions spelt out")


def test_float32_is_rounded_once_even_far_from_the_start():
    x = randn(rng_of(2), 1, 1, 3, 6)
    positions = np.array([1, 70_000, 1_000_000])
    exact = rotary(x, positions=positions)[0]
    single = rotary(x.astype(np.float32), positions=positions)[0]
    assert_close(single.astype(np.float64), exact, 1e-6, "float32")


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"\(B, H, T, D\) with D even, got \(1, 2, 3, 5\)"):
        rotary(np.ones((1, 2, 3, 5)))
    with pytest.raises(ValueError, match=r"with D even, got \(2, 3, 4\)"):
        rotary(np.ones((2, 3, 4)))
    with pytest.raises(ValueError, match=r"positions must have shape \(3,\), got \(4,\)"):
        rotary(np.ones((1, 2, 3, 4)), positions=np.arange(4))
    with pytest.raises(ValueError, match="positions must be an array of integers, got dtype float"):
        rotary(np.ones((1, 2, 3, 4)), positions=np.arange(3.0))


def test_every_element_agrees_with_differences():
    check_op(rotary, (randn(rng_of(3), 2, 3, 5, 4),), scope="full")


@wrong_backwards("rotary")
def test_kills(wrong):
    assert_killed(wrong)
