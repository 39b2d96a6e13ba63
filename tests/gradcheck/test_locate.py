import numpy as np
import pytest

from minillm.gradcheck import check_vjp, locate
from minillm.gradcheck.opinion import second_opinion

WEIGHTS = np.random.default_rng(3).standard_normal(8192)


def slow_product(counter=None):
    def forward(x):
        if counter is not None:
            counter.append(1)
        return float(np.sin(x) @ WEIGHTS), x

    return forward


def with_errors(errors):
    """The gradient of sum(w sin x), some elements off by a share of themselves."""

    def backward(dy, x):
        dx = dy * WEIGHTS * np.cos(x)
        for element, share in errors.items():
            dx[element] *= 1 + share
        return dx

    return backward


@pytest.fixture
def large(monkeypatch):
    """As on a slow function: no leaf is small enough to be differentiated whole."""
    monkeypatch.setattr(locate, "ALWAYS", 16)
    monkeypatch.setattr(locate, "SECONDS", 0.0)
    return np.random.default_rng(0).standard_normal(8192)


@pytest.mark.parametrize("element", [0, 1, 4095, 4096, 8191])
def test_bisection_finds_the_one_wrong_element_of_thousands(large, element):
    counter = []
    report = check_vjp(slow_product(counter), with_errors({element: 0.5}), [large], diagnose=False)
    assert report.verdict == "fail"
    index, analytic, numeric = report.leaves[0].worst[0]
    assert index == (element,)
    assert analytic == pytest.approx(1.5 * numeric, rel=1e-6)
    assert report.leaves[0].n_wrong is None, "not every element was looked at"
    assert len(counter) == report.evaluations < 900


def test_bisection_finds_several(large):
    errors = {17: 0.5, 5000: -1.0, 8000: 2.0}
    report = check_vjp(slow_product(), with_errors(errors), [large], diagnose=False)
    assert {index for (index,), *_ in report.leaves[0].worst} == errors.keys()


def test_a_small_leaf_is_looked_at_whole():
    x = np.random.default_rng(0).standard_normal((4, 8))

    def backward(dy, x):
        dx = dy * np.cos(x)
        dx[1] *= 2
        dx[2, 3] += 1
        return dx

    report = check_vjp(lambda x: (np.sin(x), x), backward, [x])
    assert report.leaves[0].n_wrong == 9
    assert {index[0] for index, *_ in report.leaves[0].worst} <= {1, 2}
    assert len(report.leaves[0].worst) == 5


def opinions(forward, backward, x):
    report = check_vjp(forward, backward, [x])
    return [note for note in report.notes if "second opinion" in note]


def test_a_complex_step_bears_out_what_is_holomorphic():
    x = np.random.default_rng(0).standard_normal((4, 8))
    (note,) = opinions(lambda x: (np.sin(x), x), lambda d, x: d * np.sin(x), x)
    assert "bears the differences out for x" in note


@pytest.mark.parametrize(
    "f",
    [
        lambda x: np.abs(x) * (1 + x),  # silently wrong
        lambda x: np.var(x, axis=-1) * np.sum(x, -1),
        lambda x: np.maximum(x.real, 0),  # loses the imaginary part
        lambda x: np.asarray(x, dtype=float) * 2,
    ],
)
def test_a_complex_step_that_the_differences_contradict_is_not_quoted(f):
    x = np.random.default_rng(0).standard_normal((4, 8))
    assert not opinions(lambda x: (f(x), x), lambda d, x: np.ones_like(x), x)


def test_a_passing_check_asks_for_no_second_opinion(monkeypatch):
    called = []
    monkeypatch.setattr("minillm.gradcheck.run.second_opinion", lambda *a: called.append(a))
    x = np.ones((2, 3))
    assert check_vjp(lambda x: (np.sin(x), x), lambda d, x: d * np.cos(x), [x]).passed
    assert not called
    assert callable(second_opinion)
