import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from minillm.ops.sinusoidal import sinusoidal
from tests.ops.harness import (
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    wrong_backwards,
)


def table(positions, channels, base):
    """Section 3.5 of the paper, number by number: pos is the position, i the dimension."""
    result = np.empty((len(positions), channels))
    for row, pos in enumerate(positions):
        for i in range((channels + 1) // 2):
            angle = float(pos) / base ** (2 * i / channels)
            result[row, 2 * i] = math.sin(angle)
            if 2 * i + 1 < channels:
                result[row, 2 * i + 1] = math.cos(angle)
    return result


@given(
    shape=st.sampled_from([(2, 5, 4), (1, 1, 1), (3, 4, 7), (1, 6, 2)]),
    given_positions=st.booleans(),
    base=st.sampled_from([10000.0, 7.5]),
    seed=st.integers(0, 2**32 - 1),
)
def test_agrees_with_both_oracles(shape, given_positions, base, seed):
    rng = rng_of("sinusoidal", shape, seed)
    x = randn(rng, *shape)
    positions = rng.integers(0, 500, shape[1]) if given_positions else None
    numbers = torch.tensor(
        table(range(shape[1]) if positions is None else positions, shape[2], base)
    )
    check_op(
        sinusoidal,
        (x,),
        {"positions": positions, "base": base},
        oracle=lambda x: x + numbers,
        seed=seed,
    )


def test_a_shift_is_a_rotation():
    """What the paper hopes for: PE(pos + k) is a linear function of PE(pos)."""
    zeros = np.zeros((1, 9, 6))
    waves = sinusoidal(zeros, positions=np.arange(9))[0][0]
    shifted = sinusoidal(zeros, positions=np.arange(9) + 4)[0][0]
    matrix = np.linalg.lstsq(waves, shifted, rcond=None)[0]
    assert_close(waves @ matrix, shifted, 1e-12, "shifted waves")


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"x must have shape \(any, any, any\), got \(3, 4\)"):
        sinusoidal(np.ones((3, 4)))
    with pytest.raises(ValueError, match=r"positions must have shape \(3,\), got \(1, 3\)"):
        sinusoidal(np.ones((2, 3, 4)), positions=np.arange(3)[None])
    with pytest.raises(ValueError, match="positions must be an array of integers, got list"):
        sinusoidal(np.ones((2, 3, 4)), positions=[0, 1, 2])


def test_every_element_agrees_with_differences():
    check_op(sinusoidal, (randn(rng_of(1), 2, 3, 5),), scope="full")


@wrong_backwards("sinusoidal")
def test_kills(wrong):
    assert_killed(wrong)
