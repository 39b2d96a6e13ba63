import numpy as np
import torch
from hypothesis import given

import minillm
from minillm.ops.silu import silu
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import EPS, assert_killed, check_op, randn, rng_of, wrong_backwards


def case(shape, seed):
    return (np.asarray(3 * randn(rng_of("silu", shape, seed), *shape)),)


@given(shape=shapes(0, 3), seed=seeds)
def test_agrees_with_both_oracles(shape, seed):
    check_op(silu, case(shape, seed), oracle=torch.nn.functional.silu, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(silu, case((3, 4), 1), scope="full")


@wrong_backwards("silu")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
def test_far_out_is_finite_and_right(backend):
    x = np.array([-1e4, -40.0, 0.0, 40.0, 1e4])
    with minillm.backend(backend):
        y, cache = silu(x)
        dx = silu.backward(np.ones_like(x), cache)
    np.testing.assert_allclose(y, [0, -40 * np.exp(-40), 0, 40, 1e4], rtol=4 * EPS, atol=0)
    np.testing.assert_allclose(dx, [0, -39 * np.exp(-40), 0.5, 1, 1], rtol=50 * EPS, atol=0)
