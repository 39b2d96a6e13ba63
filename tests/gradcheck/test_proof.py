"""The proof that a backward is right at a point: what it accepts, and what it must not."""

import numpy as np
import pytest

import minillm
from minillm import ops
from minillm.gradcheck.catalogue import load
from minillm.gradcheck.proof import is_right
from minillm.gradcheck.selftest import right_cases, wrong_cases
from minillm.ops._state import Registry

QUICK = ("cross_entropy", "gelu", "layer_norm", "linear", "lstm_cell", "relu", "softmax", "swiglu")


def pairs(op):
    return Registry.pair(op, "numpy")


@pytest.fixture(autouse=True)
def numpy_backend():
    with minillm.backend("numpy"):
        yield


@pytest.mark.parametrize("op", QUICK)
def test_proves_the_right_one_and_none_of_the_wrong(op):
    entries = [entry for entry in load() if entry.op == op]
    for seed in (0, 1):
        assert all(is_right(*case.pair) for case in right_cases(ops, pairs, seed, entries))
        for case in wrong_cases(ops, pairs, seed, entries):
            if case.check(seed=seed, diagnose=False).verdict == "fail":
                assert not is_right(*case.pair), f"{case.name} at seed {seed}"


def scaled(x, factor):
    return x * factor, (x, factor)


def dscaled(d, cache):
    x, factor = cache
    return d * factor, (d * x).sum(0)


def point(rows):
    rng = np.random.default_rng(rows)
    return rng.standard_normal((rows, 3)), rng.standard_normal(3)


def not_summed(d, cache):
    x, factor = cache
    return d * factor, (d * x)[0]


def test_a_sum_over_one_row_may_be_forgotten():
    assert is_right(scaled, not_summed, point(1))
    assert not is_right(scaled, not_summed, point(2))


def one_element_off(d, cache):
    dx, dfactor = dscaled(d, cache)
    dx[0, 1] *= 1 + 1e-6
    return dx, dfactor


def written_to(d, cache):
    grads = dscaled(d, cache)
    d *= 2
    return grads


def spent(d, cache):
    grads = dscaled(d, cache)
    cache[1][...] += 1
    return grads


def squared(d, cache):
    return dscaled(d * np.abs(d), cache)  # the same for one-hot d


def in_single(d, cache):
    dx, dfactor = dscaled(d, cache)
    return dx.astype(np.float32), dfactor


def one_missing(d, cache):
    return dscaled(d, cache)[0], None


def of_other_shape(d, cache):
    dx, dfactor = dscaled(d, cache)
    return dx, dfactor[None]


@pytest.mark.parametrize(
    "wrong",
    [one_element_off, written_to, spent, squared, in_single, one_missing, of_other_shape],
)
def test_what_is_slightly_wrong_is_not_right(wrong):
    assert is_right(scaled, dscaled, point(2))
    assert not is_right(scaled, wrong, point(2))


def test_a_kink_proves_nothing():
    def relu(x):
        return np.maximum(x, 0), x

    def drelu(d, x):
        return d * (x > 0)

    assert is_right(relu, drelu, (np.array([-1.0, 2.0, 1e-3]),))
    assert not is_right(relu, drelu, (np.array([-1.0, 2.0, 0.0]),))
