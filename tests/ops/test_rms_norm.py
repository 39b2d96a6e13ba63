import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.rms_norm import rms_norm
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import EPS, assert_killed, check_op, randn, rng_of, wrong_backwards

LARGE_EPS = 0.1


def case(shape, seed):
    rng = rng_of("rms_norm", shape, seed)
    return 3 * randn(rng, *shape) + 1, randn(rng, shape[-1])


@given(shape=shapes(), eps=st.sampled_from([1e-5, LARGE_EPS]), seed=seeds)
def test_agrees_with_both_oracles(shape, eps, seed):
    def oracle(x, gain):
        return torch.nn.functional.rms_norm(x, shape[-1:], gain, eps)

    # A row near zero bends too sharply for central differences at a small eps.
    numeric = eps == LARGE_EPS
    check_op(rms_norm, case(shape, seed), {"eps": eps}, oracle=oracle, seed=seed, numeric=numeric)


def norm_held_constant(dy, cache):
    normed, inv_rms, gain = cache
    return inv_rms * gain * dy, (dy * normed).sum((0, 1))


def sum_for_the_mean(dy, cache):
    normed, inv_rms, gain = cache
    dn = dy * gain
    dx = inv_rms * (dn - normed * (dn * normed).sum(-1, keepdims=True))
    return dx, (dy * normed).sum((0, 1))


def centred_as_layer_norm(dy, cache):
    normed, inv_rms, gain = cache
    dn = dy * gain
    share = dn.mean(-1, keepdims=True) + normed * (dn * normed).mean(-1, keepdims=True)
    return inv_rms * (dn - share), (dy * normed).sum((0, 1))


def gain_left_out_of_the_share(dy, cache):
    normed, inv_rms, gain = cache
    dx = inv_rms * (dy * gain - normed * (dy * normed).mean(-1, keepdims=True))
    return dx, (dy * normed).sum((0, 1))


def gain_gradient_of_a_bias(dy, cache):
    normed, inv_rms, gain = cache
    dn = dy * gain
    return inv_rms * (dn - normed * (dn * normed).mean(-1, keepdims=True)), dy.sum((0, 1))


@wrong_backwards(
    {
        f.__name__: f
        for f in (
            norm_held_constant,
            sum_for_the_mean,
            centred_as_layer_norm,
            gain_left_out_of_the_share,
            gain_gradient_of_a_bias,
        )
    }
)
def test_kills(wrong):
    assert_killed(rms_norm, wrong, case((2, 3, 5), 1))


@on_each_backend
def test_row_of_zeros_stays_finite(backend):
    with minillm.backend(backend):
        y, cache = rms_norm(np.zeros((2, 4)), np.full(4, 2.0), eps=1e-4)
        dx, dgain = rms_norm.backward(np.ones((2, 4)), cache)
    assert np.array_equal(y, np.zeros((2, 4)))
    assert np.array_equal(dgain, np.zeros(4))
    np.testing.assert_allclose(dx, 200, rtol=4 * EPS)


@on_each_backend
def test_eps_unless_told(backend):
    x, gain = np.full((1, 2), 1e-3), np.ones(2)
    with minillm.backend(backend):
        assert np.array_equal(rms_norm(x, gain)[0], rms_norm(x, gain, eps=1e-5)[0])


@on_each_backend
def test_no_rows(backend):
    with minillm.backend(backend):
        y, cache = rms_norm(np.ones((0, 4)), np.ones(4))
        dx, dgain = rms_norm.backward(y, cache)
    assert dx.shape == (0, 4)
    assert np.array_equal(dgain, np.zeros(4))


@on_each_backend
def test_wrong_shape_is_named(backend):
    with (
        minillm.backend(backend),
        pytest.raises(ValueError, match=r"gain must have shape \(4,\), got \(1,\)"),
    ):
        rms_norm(np.ones((2, 4)), np.ones(1))
