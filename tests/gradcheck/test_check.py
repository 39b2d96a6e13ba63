"""The checks as a person calls them: options, names, replay, scopes, errors."""

import json
from typing import NamedTuple

import numpy as np
import pytest

from minillm import gradcheck
from minillm.gradcheck import (
    GradientError,
    check_function,
    check_op,
    check_vjp,
    draw,
)
from minillm.ops import cross_entropy, embedding, layer_norm, linear, relu, softmax


def affine(x, w, b):
    return x @ w + b, (x, w)


def affine_backward(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy, dy.sum(0)


def wrong_backward(dy, cache):
    dx, dw, db = affine_backward(dy, cache)
    return dx, dw, db / len(dy)


ARGS = draw((4, 7), (7, 3), 3, seed=5)


def test_a_report_says_what_was_checked():
    report = check_vjp(affine, affine_backward, ARGS)
    assert report.verdict == "pass"
    assert report.passed
    assert [leaf.name for leaf in report.leaves] == ["x", "w", "b"]
    assert "affine: PASS" in str(report)
    assert report.raise_unless_passed() is None


def test_a_failure_says_where_how_many_and_what():
    report = check_vjp(affine, wrong_backward, ARGS)
    b = report.leaves[2]
    assert (b.verdict, b.n_wrong, b.norm > 0, b.error) == ("fail", 3, True, pytest.approx(0.75))
    for (index,), analytic, numeric in b.worst:
        assert numeric == pytest.approx(4 * analytic, rel=1e-6), index
    text = str(report)
    assert "3 of 3 elements wrong" in text
    assert "[0]" in text
    assert report.diagnoses[0].cause == "factor"
    assert report.diagnoses[0].leaf == "b"
    assert report.diagnoses[0].ratio == pytest.approx(0.25)


def test_raising_shows_the_report():
    report = check_vjp(affine, wrong_backward, ARGS)
    with pytest.raises(GradientError) as caught:
        report.raise_unless_passed()
    assert str(report) in str(caught.value)
    assert caught.value.report is report
    assert isinstance(caught.value, AssertionError)


def test_inconclusive_raises_unless_it_is_said_to_be_fine():
    report = check_op(softmax, {"x": (4, 1)})
    assert report.verdict == "inconclusive"
    assert not report.passed
    with pytest.raises(GradientError):
        report.raise_unless_passed()
    report.raise_unless_passed(inconclusive_ok=True)


@pytest.mark.parametrize("backward", [affine_backward, wrong_backward])
def test_json_holds_it_all(backward):
    report = check_vjp(affine, backward, ARGS)
    held = json.loads(report.to_json())
    assert held["verdict"] == report.verdict
    assert [leaf["verdict"] for leaf in held["leaves"]] == [leaf.verdict for leaf in report.leaves]
    assert held["replay"] == report.replay
    assert held["leaves"][2]["worst"] == [
        [list(i), analytic, numeric] for i, analytic, numeric in report.leaves[2].worst
    ]


def test_json_of_numbers_that_json_cannot_hold():
    report = check_vjp(lambda x: (np.log(x), x), lambda d, x: d / x, [np.array([np.inf, 1.0])])

    def refuse(name):
        raise AssertionError(f"{name} is no JSON")

    held = json.loads(report.to_json(), parse_constant=refuse)
    assert held["verdict"] == report.verdict == "inconclusive"
    assert "np.array([np.inf, 1.0])" in report.replay


@pytest.mark.parametrize("seed", [0, 3])
@pytest.mark.parametrize("args", [ARGS, (np.ones((2, 3)), np.eye(3, 2), np.arange(2.0))])
def test_the_replay_line_is_the_same_case(seed, args):
    report = check_vjp(affine, wrong_backward, args, seed=seed)
    names = {name: getattr(gradcheck, name) for name in gradcheck.__all__} | {
        "np": np,
        "affine": affine,
        "wrong_backward": wrong_backward,
    }
    again = eval(report.replay, names)
    assert again.to_dict() == report.to_dict()


def test_the_replay_line_of_an_op_and_of_keyword_arguments():
    def forward(w, *, ids):
        return w[ids], None

    def backward(dout, cache):
        return np.zeros((3, 2))

    for report in (
        check_op(softmax, {"x": (5, 1)}, {"axis": -1}, seed=2),
        check_vjp(forward, backward, draw((3, 2)), {"ids": np.array([0, 2, 2], np.int32)}),
    ):
        names = {name: getattr(gradcheck, name) for name in gradcheck.__all__}
        names |= {"np": np, "softmax": softmax, "forward": forward, "backward": backward}
        assert eval(report.replay, names).leaves == report.leaves


def test_what_has_no_name_is_named_for_its_part_in_a_replay_line():
    rng = np.random.default_rng(3)
    report = check_vjp(
        lambda x, rng: (x * rng.random(3), x), lambda d, x: 5 * d, draw(3), {"rng": rng}
    )
    line = "check_vjp(forward, backward, draw(3, seed=0), {'rng': rng})  # rng: as it was"
    assert report.replay == line


def test_large_arrays_are_named_by_a_checksum():
    x = np.ones((30, 40))
    lines = {check_vjp(lambda x: (0 * x, x), lambda d, x: d, [x * k]).replay for k in (1, 2)}
    assert len(lines) == 2
    assert all("float64(30, 40) crc32" in line for line in lines)


def test_a_passing_report_needs_no_replay_line_in_its_text():
    assert "replay" not in str(check_vjp(affine, affine_backward, ARGS))
    assert "replay: check_vjp(affine, wrong_backward, draw(" in str(
        check_vjp(affine, wrong_backward, ARGS)
    )


def test_the_same_seed_gives_the_same_report():
    one, two = (check_vjp(affine, wrong_backward, ARGS, seed=4).to_dict() for _ in range(2))
    assert one == two
    other = check_vjp(affine, wrong_backward, ARGS, seed=5).to_dict()
    assert one["leaves"][2]["worst"] != other["leaves"][2]["worst"]


def one_tiny_element_wrong(share):
    """x * w where one gradient, `share` of the typical one, has the wrong sign."""
    w = np.ones(60)
    w[17] = share

    def backward(dy, cache):
        dx = dy * w
        dx[17] *= -1
        return dx

    return lambda x: (x * w, None), backward


def test_the_full_scope_sees_what_drowns_in_the_norm():
    forward, backward = one_tiny_element_wrong(1e-7)
    args = draw(60)
    assert check_vjp(forward, backward, args).verdict == "pass"
    report = check_vjp(forward, backward, args, scope="full")
    assert report.verdict == "fail"
    forward, backward = one_tiny_element_wrong(1e-4)
    assert check_vjp(forward, backward, args).verdict == "fail"


def test_the_full_scope_looks_at_every_element_and_passes_what_is_right():
    report = check_vjp(affine, affine_backward, ARGS, scope="full")
    assert report.verdict == "pass"
    assert report.evaluations >= 2 * (28 + 21 + 3)


def test_allow_zero():
    for allow in (True, "x", ["x"], ("x",)):
        assert check_op(softmax, {"x": (4, 1)}, allow_zero=allow).verdict == "pass"

    def forward(p):
        return p["a"] * 1 + 0 * p["b"]["c"], None

    def backward(dy, cache):
        return {"a": dy, "b": {"c": 0 * dy}}

    p = {"a": ARGS[2], "b": {"c": ARGS[2]}}
    assert check_vjp(forward, backward, [p]).verdict == "inconclusive"
    for name in ("p.b", "p.b.c", "p"):
        assert check_vjp(forward, backward, [p], allow_zero=[name]).verdict == "pass"
    assert check_vjp(forward, backward, [p], allow_zero=["p.a"]).verdict == "inconclusive"
    with pytest.raises(ValueError, match=r"allow_zero names 'q'"):
        check_vjp(forward, backward, [p], allow_zero=["q"])


def test_allow_zero_allows_no_wrong_zero():
    report = check_vjp(
        affine, lambda d, c: (*affine_backward(d, c)[:2], np.zeros(3)), ARGS, allow_zero=True
    )
    assert report.verdict == "fail"


def test_rtol():
    def backward(dy, cache):
        dx, dw, db = affine_backward(dy, cache)
        return dx, dw, db * (1 + 1e-4)

    assert check_vjp(affine, backward, ARGS).verdict == "fail"
    assert check_vjp(affine, backward, ARGS, rtol=1e-3).verdict == "pass"


def test_without_a_diagnosis():
    assert check_vjp(affine, wrong_backward, ARGS, diagnose=False).diagnoses == []


def test_check_function():
    def f(x, w):
        return np.tanh(x @ w)

    def vjp(dout, x, w):
        dz = dout * (1 - np.tanh(x @ w) ** 2)
        return dz @ w.T, x.T @ dz

    report = check_function(f, vjp, ARGS[:2])
    assert report.verdict == "pass"
    assert [leaf.name for leaf in report.leaves] == ["x", "w"]
    assert check_function(f, lambda *a: vjp(*a)[::-1], ARGS[:2]).verdict == "fail"


def test_check_op_draws_from_shapes_and_from_the_docstring():
    for inputs in (
        {"x": (4, 7), "gain": 7, "bias": (7,)},
        [(4, 7), 7, 7],
        {"x": np.ones((4, 7)) * np.arange(7), "gain": 7, "bias": 7},
        None,
    ):
        report = check_op(layer_norm, inputs, {"eps": 0.1})
        assert report.verdict == "pass"
        assert [leaf.name for leaf in report.leaves] == ["x", "gain", "bias"]
    assert len(report.leaves[0].shape) == 3, "the ellipsis of the docstring has axes"
    assert check_op(linear).verdict == "pass", "a default of None stays None"
    assert check_op(relu).verdict == "pass"


def test_check_op_takes_keyword_arguments_and_nests():
    ids = np.array([[0, 3], [3, 3]])
    assert check_op(embedding, {"weight": (4, 5)}, {"ids": ids}).verdict == "pass"
    targets = np.array([1, 4, 2])
    assert check_op(cross_entropy, {"logits": (3, 5)}, {"targets": targets}).verdict == "pass"


@pytest.mark.parametrize("inputs", [{"x": (4, 7)}, {"x": (4, 7), "gain": 7}])
def test_check_op_names_what_is_missing(inputs):
    with pytest.raises(ValueError, match=r"layer_norm: inputs must give .*bias"):
        check_op(layer_norm, inputs)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (
            lambda: check_op(layer_norm, {"y": 3}),
            "no positional parameter y; it takes x, gain, bias",
        ),
        (lambda: check_op(layer_norm, [(2, 3), 3, 3, 3]), "takes x, gain, bias; got 4 inputs"),
        (lambda: check_op(np.sin, [3]), "sin has no .backward"),
        (lambda: check_op(layer_norm, {"x": (-1, 3), "gain": 3, "bias": 3}), r"no negative sizes"),
        (lambda: check_vjp(affine, affine_backward, ARGS[0]), "args must be a sequence.*an array"),
        (lambda: check_vjp(affine, affine_backward, []), "nothing to differentiate.*no arguments"),
        (lambda: check_vjp(affine, affine_backward, [1, "a", None]), "x: int, w: str, b: NoneType"),
        (lambda: check_vjp(affine, affine_backward, ARGS, names=["x"]), "one name for each of 3"),
        (lambda: check_vjp(affine, affine_backward, ARGS, names="xwb"), "names must hold"),
        (
            lambda: check_vjp(affine, affine_backward, ARGS, scope="all"),
            "'default' or 'full', got 'all'",
        ),
        (lambda: check_vjp(affine, affine_backward, ARGS, seed=-1), "at least 0, got -1"),
        (lambda: check_vjp(affine, affine_backward, ARGS, seed="1"), "integer .*, got '1'"),
        (lambda: check_vjp(affine, affine_backward, ARGS, rtol=0), "between 0 and 1, got 0"),
        (lambda: check_vjp(lambda x: x, lambda d, c: d, ARGS[:1]), r"\(out, cache\), got ndarray"),
        (lambda: check_vjp(lambda x: (x, 1, 2), lambda d, c: d, ARGS[:1]), "got 3 values"),
        (lambda: check_vjp(lambda x: (3, x), lambda d, c: d, ARGS[:1]), "arrays, got int"),
        (lambda: check_vjp(lambda x: (np.argmax(x), x), lambda d, c: d, ARGS[:1]), "got int64"),
        (lambda: check_vjp(affine, affine_backward, [np.ones(3, np.float16)]), "got float16"),
        (lambda: check_vjp(affine, affine_backward, [np.ones(3, complex)]), "got complex128"),
        (lambda: draw((2, 3), dtype="float16"), "'float32' or 'float64', got 'float16'"),
    ],
)
def test_wrong_arguments_are_named(call, message):
    with pytest.raises(ValueError, match=message):
        call()


def test_an_output_that_changes_its_size_is_named():
    def forward(x):
        return x[x > 0.5], x

    x = np.array([0.5, 0.5, 0.7])
    with pytest.raises(ValueError, match=r"output's size changes .* 1 elements at first"):
        check_vjp(forward, lambda d, x: x, [x])


def test_importing_the_checker_imports_numpy_alone():
    import subprocess
    import sys

    code = (
        "import sys; import minillm.gradcheck as g\n"
        "assert all(callable(getattr(g, name)) for name in g.__all__)\n"
        "heavy = {'torch', 'cupy', 'hypothesis', 'pytest', 'matplotlib', 'click', 'scipy'}\n"
        "print(sorted(heavy & set(sys.modules)), 'minillm.models' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[] False"


def test_a_run_of_pytest_that_uses_no_check_does_not_pay_for_numpy():
    import subprocess
    import sys

    code = "import sys; import minillm.gradcheck.pytest_plugin; print('numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_a_name_that_is_not_there():
    with pytest.raises(AttributeError, match=r"'minillm.gradcheck' has no attribute 'check_all'"):
        gradcheck.check_all  # noqa: B018


def test_drawn_inputs_are_those_of_the_seed():
    a, b, none = draw((2, 3), {"w": 4, "inner": [(), (1, 2)]}, None, seed=3, dtype="float32")
    assert a.shape == (2, 3)
    assert a.dtype == np.float32
    assert b["w"].shape == (4,)
    assert [x.shape for x in b["inner"]] == [(), (1, 2)]
    assert none is None
    again = draw((2, 3), {"w": 4, "inner": [(), (1, 2)]}, None, seed=3, dtype="float32")
    assert np.array_equal(a, again[0])
    assert not np.array_equal(a, draw((2, 3), seed=4, dtype="float32")[0])


def test_the_full_scope_in_float32():
    """Only the outputs that an element reaches have a say in how far it may be off."""
    x = draw((16, 32), dtype="float32")

    def backward(dy, x):
        dx = 3 * x**2 * dy
        dx[3, 4] *= np.float32(1.1)
        return dx

    def forward(x):
        return x**3, x

    report = check_vjp(forward, backward, x, scope="full")
    assert report.verdict == "fail"
    assert report.leaves[0].worst[0][0] == (3, 4)
    right = check_vjp(forward, lambda dy, x: 3 * x**2 * dy, x, scope="full")
    assert right.verdict == "pass"


@pytest.mark.parametrize(
    "forward",
    [
        lambda x: ((x**3).sum().astype(np.float32), x),
        lambda x: ((x.astype(np.float32) ** 3).sum().astype(np.float64), x),
        lambda x: (x.astype(np.float32) ** 3 * np.float32(1), x),
    ],
)
def test_a_forward_in_float32_is_judged_so_whatever_its_arguments_are(forward):
    def backward(dy, x):
        return 3 * x**2 * dy.astype(float)

    args = draw((4, 6))
    assert check_vjp(forward, backward, args).verdict == "pass"
    wrong = check_vjp(forward, lambda dy, x: 1.1 * backward(dy, x), args)
    assert wrong.verdict == "fail"


def test_a_forward_of_whole_numbers_is_no_float32():
    report = check_vjp(lambda x: (2 * x, x), lambda dy, x: 2 * dy, [np.ones((3, 4))])
    assert report.leaves[0].tolerance < 1e-6


def test_named_tuples():
    class Pair(NamedTuple):
        a: np.ndarray
        b: np.ndarray

    def forward(p):
        return Pair(p.a * p.b, p.a), p

    def backward(dout, p):
        return Pair(dout.a * p.b + dout.b, dout.a * p.a)

    report = check_vjp(forward, backward, [Pair(*draw(3, 3))])
    assert report.verdict == "pass"
    assert [leaf.shape for leaf in report.leaves] == [(3,), (3,)]


@pytest.mark.parametrize("seed", range(20))
def test_upstream_gradients_are_no_inputs(seed):
    """Both may come from default_rng(seed), and a backward may be right for a dout equal to x."""
    seen = []

    def forward(x, y):
        return x * y, (x, y)

    def backward(dout, cache):
        seen.append(dout)
        return dout * cache[1], dout * cache[0]

    x, y = draw((4, 6), (4, 6), seed=seed)
    check_vjp(forward, backward, (x, y), seed=seed)
    check_op(relu, {"x": (4, 6)}, seed=seed)
    for dout in seen:
        for values in (x, y):
            assert abs(np.corrcoef(dout.ravel(), values.ravel())[0, 1]) < 0.9


def test_a_projection_that_needs_a_cotangent_of_its_own():
    """Wrong, but right for every dout that is a multiple of y."""

    def forward(x, y):
        return y - x * (x * y).sum(-1, keepdims=True) / (x * x).sum(-1, keepdims=True), (x, y)

    def project(d, on):
        return d - on * (on * d).sum(-1, keepdims=True) / (on * on).sum(-1, keepdims=True)

    def backward(dout, cache):
        x, y = cache
        square = (x * x).sum(-1, keepdims=True)
        dot = (x * y).sum(-1, keepdims=True)
        along = (dout * x).sum(-1, keepdims=True)
        dx = -(dout * dot + along * y) / square + 2 * along * dot * x / square**2
        return dx, project(dout, y)

    for seed in range(30):
        assert (
            check_vjp(forward, backward, draw((4, 6), (4, 6), seed=seed), seed=seed).verdict
            == "fail"
        )


def test_a_python_number_is_said_to_be_constant():
    report = check_vjp(lambda x, b: (x * b, b), lambda d, b: (d * b, None), [np.ones(3), 2.0])
    assert report.verdict == "pass"
    assert "b: Python numbers are constants" in str(report)
    counted = check_vjp(lambda x, n: (x * n, n), lambda d, n: (d * n, None), [np.ones(3), 2])
    assert "constants" not in str(counted)


def test_nothing_is_compared_where_all_is_empty():
    report = check_vjp(lambda x: (x * 2, x), lambda d, x: d * 3, draw((0, 3)))
    assert report.verdict == "pass"
    assert "nothing was compared: the arrays are empty" in str(report)


def test_a_failure_is_as_large_as_the_gradient_is_off():
    for seed in range(10):
        report = check_vjp(
            lambda x: (np.sin(x), x), lambda d, x: 2 * d * np.cos(x), draw((3, 4)), seed=seed
        )
        assert report.leaves[0].error == pytest.approx(1, rel=1e-6)


def test_an_unknown_option_is_named():
    with pytest.raises(ValueError, match="no option tol; there are seed, scope, rtol"):
        check_vjp(affine, affine_backward, ARGS, tol=1e-3)


def test_a_slow_forward_is_not_asked_for_every_element(monkeypatch):
    import time

    from minillm.gradcheck import locate

    monkeypatch.setattr(locate, "SECONDS", 0.02)

    def forward(x):
        time.sleep(0.001)
        return np.sin(x), x

    report = check_vjp(forward, lambda d, x: 1.5 * d * np.cos(x), draw(400), diagnose=False)
    assert report.verdict == "fail"
    assert report.evaluations < 400
    assert len(report.leaves[0].worst) == 3
