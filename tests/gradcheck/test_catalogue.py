"""The checker against backwards that are known to be wrong: what it catches, and what it says."""

import json

import numpy as np
import pytest

import minillm
from minillm import ops
from minillm.bench.gradient_checkers import torch_gradcheck
from minillm.gradcheck import awkward, check_vjp, selftest
from minillm.gradcheck.catalogue import load
from minillm.gradcheck.selftest import Pair, judge, right_cases, wrong_cases
from minillm.ops._state import Registry
from tests.gradcheck.quick import first_failure_only

SEEDS = range(20)
ENTRIES = load()
OPS = sorted({entry.op for entry in ENTRIES})
CAUSES = {
    *("sign", "factor", "transposed", "missing_sum", "overwritten", "missing_term"),
    *("mask_forgotten", "part_wrong", "other_parameter", "wrong_step", "zero", "local_derivative"),
    *("upstream_ignored", "shape", "dtype", "missing", "mutates", "not_deterministic"),
    *("cache_spent", "not_finite"),
}
NAMED = 0.84  # share of those caught at seed 0, by the likeliest diagnosis; 0.865 as measured


def pairs(op):
    return Registry.pair(op, "numpy")


def of(op):
    return [entry for entry in ENTRIES if entry.op == op]


@pytest.fixture(autouse=True)
def numpy_backend():
    with minillm.backend("numpy"):
        yield


@pytest.fixture
def verdicts_only():
    with first_failure_only():
        yield


def bound(report):
    return 12 + 4 * len(report.leaves)


def test_there_are_a_hundred_and_each_is_told_apart():
    assert len(ENTRIES) >= 100
    assert len({(entry.op, entry.name) for entry in ENTRIES}) == len(ENTRIES)
    assert {cause for entry in ENTRIES for cause in entry.causes} <= CAUSES
    assert all(entry.note.strip() for entry in ENTRIES)


def test_each_op_has_three():
    registered = {
        name
        for name, backends in Registry.ops.items()
        if backends["numpy"][0].__module__ == f"minillm.ops.{name}"
    }
    assert registered >= {"layer_norm", "transformer_block"}, "the registry was not read"
    few = {name: len(of(name)) for name in sorted(registered) if len(of(name)) < 3}
    assert not few, f"too few wrong backwards in minillm/gradcheck/catalogue: {few}"
    assert set(OPS) <= registered, "a module of the catalogue has no op of its name"


@pytest.mark.parametrize("op", OPS)
def test_all_wrong_ones_are_caught_and_the_right_one_passes(op, verdicts_only):
    states = []
    for seed in SEEDS:
        for case in right_cases(ops, pairs, seed, of(op)):
            report = case.check(seed=seed)
            assert report.verdict == "pass", str(report)
            assert report.evaluations <= bound(report), str(report)
        for case in wrong_cases(ops, pairs, seed, of(op)):
            outcome = judge(case)
            states.append(outcome.state)
            where = f"{case.name} at seed {seed}: {outcome.state}"
            assert outcome.state in ("caught", "right there"), where
    assert states.count("caught") > 0.8 * len(states), "the case draws points where all is right"


def test_most_are_named(monkeypatch):
    monkeypatch.setattr(awkward, "load", list)  # they have a test of their own
    printed = []
    selftest.run(ops, pairs, printed.append, json=True, seeds=(0,))
    wrong = json.loads("".join(printed))["wrong"]
    assert wrong["caught"] + len(wrong["right_there"]) == wrong["checks"] == len(ENTRIES)
    others = "\n".join(f"{case['name']}: {case['said']}" for case in wrong["misnamed"])
    assert wrong["named"] >= NAMED * wrong["caught"], others


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return y, y


def dsoftmax(d, y):
    return y * (d - (d * y).sum(-1, keepdims=True))


def projected(rng):
    m = rng.standard_normal((128, 16))

    def forward(x):
        y = np.tanh(x @ m)
        return y, y

    return forward, lambda d, y: (d * (1 - y * y)) @ m.T


def summed(rng):
    a = rng.standard_normal((64, 128))
    return lambda x: ((a * np.sin(x)).sum(), x), lambda d, x: d * a * np.cos(x)


FUNCTIONS = {
    "elementwise": lambda rng: (lambda x: (np.tanh(x), x), lambda d, x: d / np.cosh(x) ** 2),
    "projected": projected,
    "softmax": lambda rng: (softmax, dsoftmax),
    "summed": summed,
}


class OnePercent:
    """A backward with 1 % more in one element, which is of root-mean-square size at first."""

    def __init__(self, backward, rng):
        self.backward, self.rng, self.element = backward, rng, None

    def __call__(self, d, cache):
        gradient = self.backward(d, cache)
        if self.element is None:
            large = np.abs(gradient) >= np.sqrt((gradient**2).mean())
            self.element = self.rng.choice(np.flatnonzero(large))
        gradient.flat[self.element] *= 1.01
        return gradient


@pytest.mark.parametrize("kind", FUNCTIONS)
def test_one_percent_in_one_of_8192_elements_is_found(kind, verdicts_only):
    for seed in range(40):
        rng = np.random.default_rng([seed, 8192])
        forward, backward = FUNCTIONS[kind](rng)
        x = rng.standard_normal((64, 128))
        assert check_vjp(forward, OnePercent(backward, rng), (x,), seed=seed).verdict == "fail"
        report = check_vjp(forward, backward, (x,), seed=seed)
        assert report.verdict == "pass", str(report)


@pytest.mark.parametrize("size", [1, 2, 64, 1000, 65536])
@pytest.mark.parametrize("leaves", [1, 2, 7])
def test_passing_takes_few_evaluations_whatever_the_size(size, leaves):
    def forward(*args):
        return [np.tanh(x) for x in args], args

    def backward(d, args):
        return tuple(g * (1 - np.tanh(x) ** 2) for g, x in zip(d, args, strict=True))

    rng = np.random.default_rng(size)
    args = rng.standard_normal((leaves, size))
    report = check_vjp(forward, backward, tuple(args), seed=1)
    assert report.verdict == "pass", str(report)
    assert report.evaluations <= bound(report)


def test_torchs_fast_mode_passes_a_layer_norm_that_ours_fails(verdicts_only):
    name = "layer_norm.without_normalised_term"
    wrong = next(c.pair for c in wrong_cases(ops, pairs, 0, of("layer_norm")) if c.name == name)
    fast, ours = torch_gradcheck(fast=True), []
    passed = 0
    for seed in range(200):
        rng = np.random.default_rng(seed)
        args = (3 * rng.standard_normal((8, 64)) + 1, *rng.standard_normal((2, 64)))
        pair = Pair(wrong.forward, wrong.backward, args, {})
        passed += fast(pair, seed).verdict == "pass"
        ours.append(check_vjp(*pair, seed=seed).verdict)
    assert ours == ["fail"] * 200
    assert passed >= 190, "torch has changed, and what docs/gradcheck-matrix.md says of it"


def test_where_ones_upstream_pass_zeros_for_softmax_ours_fails_them():
    def zeros(d, y):
        return np.zeros_like(y)

    for seed in range(50):
        x = np.random.default_rng(seed).standard_normal((4, 7))
        numeric = np.empty_like(x)
        for place in np.ndindex(x.shape):
            ends = [x.copy(), x.copy()]
            ends[0][place] += 1e-5
            ends[1][place] -= 1e-5
            plus, minus = (softmax(end)[0].sum() for end in ends)
            numeric[place] = (plus - minus) / 2e-5
        assert np.allclose(zeros(np.ones_like(x), x), numeric)
        report = check_vjp(softmax, zeros, (x,), seed=seed)
        assert report.verdict == "fail", str(report)


def test_a_zero_gradient_for_a_bias_a_million_times_smaller_is_found():
    def forward(x, weight, bias):
        return x @ weight + bias, (x, weight)

    def backward(d, cache):
        x, weight = cache
        return d @ weight.T, x.T @ d, np.zeros(weight.shape[1])

    for seed in range(200):
        rng = np.random.default_rng(seed)
        x, weight = 1e3 * rng.standard_normal((8, 5)), 1e3 * rng.standard_normal((5, 3))
        report = check_vjp(forward, backward, (x, weight, 1e-6 * rng.standard_normal(3)), seed=seed)
        assert [leaf.name for leaf in report.leaves if leaf.verdict == "fail"] == ["bias"], str(
            report
        )
