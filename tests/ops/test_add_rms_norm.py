import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm.ops.add_rms_norm import add_rms_norm
from minillm.ops.rms_norm import rms_norm
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import (
    ORACLE_TOL,
    assert_close,
    assert_killed,
    check_op,
    randn,
    rng_of,
    wrong_backwards,
)

LARGE_EPS = 0.1


def case(shape, seed):
    rng = rng_of("add_rms_norm", shape, seed)
    x, residual = 2 * randn(rng, *shape), randn(rng, *shape) + 1
    return x, residual, randn(rng, shape[-1])


@given(shape=shapes(), eps=st.sampled_from([1e-5, LARGE_EPS]), seed=seeds)
def test_agrees_with_both_oracles(shape, eps, seed):
    def oracle(x, residual, gain):
        total = x + residual
        return torch.nn.functional.rms_norm(total, shape[-1:], gain, eps), total

    args = case(shape, seed)
    check_op(add_rms_norm, args, {"eps": eps}, oracle=oracle, seed=seed)


def test_every_element_agrees_with_differences():
    check_op(add_rms_norm, case((2, 3, 5), 1), scope="full")


@wrong_backwards("add_rms_norm")
def test_kills(wrong):
    assert_killed(wrong)


@on_each_backend
@pytest.mark.parametrize("given_", [(True, False), (False, True), (False, False)])
def test_none_upstream_is_zero(backend, given_):
    args = case((2, 3, 4), 1)
    rng = rng_of("upstream")
    full = tuple(randn(rng, 2, 3, 4) if g else np.zeros((2, 3, 4)) for g in given_)
    sparse = tuple(d if g else None for d, g in zip(full, given_, strict=True))
    with minillm.backend(backend):
        _, cache = add_rms_norm(*args)
        expected = add_rms_norm.backward(full, cache)
        grads = add_rms_norm.backward(sparse, cache)
    assert_close(grads, expected, ORACLE_TOL, "gradient")


@on_each_backend
@pytest.mark.parametrize(("kwargs", "eps"), [({}, 1e-5), ({"eps": 0.5}, 0.5)])
def test_eps_arrives(backend, kwargs, eps):
    x, residual, gain = case((3, 4), 1)
    with minillm.backend(backend):
        y = add_rms_norm(x, residual, gain, **kwargs)[0][0]
    assert_close(y, rms_norm(x + residual, gain, eps=eps)[0], ORACLE_TOL, "y")


@on_each_backend
def test_no_rows(backend):
    with minillm.backend(backend):
        out, cache = add_rms_norm(np.ones((0, 4)), np.ones((0, 4)), np.ones(4))
        grads = add_rms_norm.backward(out, cache)
    assert [g.shape for g in grads] == [(0, 4), (0, 4), (4,)]
    assert np.array_equal(grads[2], np.zeros(4))


@pytest.mark.parametrize(
    ("residual", "gain", "message"),
    [
        ((4,), 4, r"residual must have shape \(2, 4\), got \(4,\)"),
        ((2, 4), 1, r"gain must have shape \(4,\), got \(1,\)"),
    ],
)
@on_each_backend
def test_wrong_shapes_are_named(residual, gain, message, backend):
    with minillm.backend(backend), pytest.raises(ValueError, match=message):
        add_rms_norm(np.ones((2, 4)), np.ones(residual), np.ones(gain))


@on_each_backend
@pytest.mark.parametrize("wrong", [0, 1])
def test_wrong_upstream_is_refused(backend, wrong):
    dout = [np.ones((2, 4)), np.ones((2, 4))]
    dout[wrong] = np.ones((1, 4))
    with minillm.backend(backend):
        _, cache = add_rms_norm(np.ones((2, 4)), np.ones((2, 4)), np.ones(4))
        with pytest.raises(ValueError, match=r"\(2, 4\), got .*\(1, 4\)"):
            add_rms_norm.backward(tuple(dout), cache)
