import numpy as np
import pytest

from minillm.gradcheck import check_function, check_vjp, draw


def affine(x, w, b):
    return x @ w + b, (x, w)


def affine_backward(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy, dy.sum(0)


ARGS = draw((4, 7), (7, 3), 3)


def check(backward, forward=affine, args=ARGS, **options):
    return check_vjp(forward, backward, args, **options)


def rules(report):
    return [(finding.rule, finding.leaf) for finding in report.contract]


def test_the_right_one_keeps_the_contract():
    report = check(affine_backward)
    assert report.verdict == "pass"
    assert not report.contract


def changed(**new):
    """affine_backward with some of dx, dw, db replaced by a function of them."""

    def backward(dy, cache):
        grads = dict(zip(("x", "w", "b"), affine_backward(dy, cache), strict=True))
        return tuple(new[n](g) if n in new else g for n, g in grads.items())

    return backward


@pytest.mark.parametrize(
    ("backward", "rule", "leaf", "text"),
    [
        (changed(b=lambda g: g[None]), "shape", "b", r"must have shape (3,), got (1, 3)"),
        (changed(w=lambda g: g.T), "shape", "w", "must have shape (7, 3), got (3, 7)"),
        (changed(w=np.float32), "dtype", "w", "must be float64, got float32"),
        (changed(b=lambda g: None), "missing", "b", "no gradient for b"),
        (changed(b=lambda g: [1.0]), "missing", "b", "no gradient for b"),
        (changed(b=lambda g: "3"), "structure", "b", "must be an array of shape (3,), got str"),
        (changed(b=lambda g: g + np.nan), "not finite", "b", "3 of 3 elements"),
        (
            lambda d, c: affine_backward(d, c)[:2],
            "structure",
            None,
            "3 gradients, of x, w, b; got 2",
        ),
        (lambda d, c: affine_backward(d, c)[0], "structure", None, "got float64 of shape (4, 7)"),
        (lambda d, c: {"x": 1, "q": 2}, "extra", "q", "a gradient named 'q'"),
    ],
)
def test_structure_shape_and_dtype(backward, rule, leaf, text):
    report = check(backward)
    assert report.verdict == "fail"
    assert (rule, leaf) in rules(report)
    assert text in str(report)


def test_a_lone_array_for_several_gradients_is_no_fault_of_forward():
    report = check(lambda dy, cache: dy)
    assert rules(report) == [("structure", None)]
    assert [leaf.verdict for leaf in report.leaves] == ["fail"] * len(ARGS)
    assert "infinities" not in str(report)


def test_what_is_right_beside_a_broken_contract_is_still_compared():
    report = check(changed(w=np.float32, b=lambda g: 2 * g))
    assert {leaf.name: leaf.verdict for leaf in report.leaves} == {
        "x": "pass",
        "w": "pass",
        "b": "fail",
    }


@pytest.mark.parametrize("named", [("x", "w", "b"), ("dx", "dw", "db")])
def test_gradients_may_come_by_name(named):
    def backward(dy, cache):
        return dict(zip(named, affine_backward(dy, cache), strict=True))

    assert check(backward).verdict == "pass"


def test_constants_need_no_gradient():
    def take(weight, ids, scale):
        return scale * weight[ids], (weight, ids, scale)

    def gradient(dy, cache):
        weight, ids, scale = cache
        found = np.zeros_like(weight)
        np.add.at(found, ids, scale * dy)
        return found

    args = [*draw((5, 3)), np.array([1, 4, 1, 1]), 2]
    for backward in (
        gradient,
        lambda d, c: (gradient(d, c), None, None),
        lambda d, c: (gradient(d, c),),
    ):
        assert check_vjp(take, backward, args).verdict == "pass"


def test_nested_arguments_and_outputs():
    def forward(x, params):
        a, b = params["layers"]
        return {"y": x * a + b["b"], "pair": (a, [b["b"] * 2])}, (x, a)

    def backward(dout, cache):
        x, a = cache
        da = dout["y"] * x + dout["pair"][0]
        db = dout["y"] + 2 * dout["pair"][1][0]
        return dout["y"] * a, {"layers": [da, {"b": db, "none": None}]}

    x, a, b = draw((3,), (3,), (3,))
    report = check_vjp(forward, backward, [x, {"layers": [a, {"b": b, "none": None}]}])
    assert report.verdict == "pass"
    assert [leaf.name for leaf in report.leaves] == ["x", "params.layers.0", "params.layers.1.b"]


def test_forward_that_writes_to_its_input():
    def forward(x):
        kept = x.copy()
        x *= 2
        return kept**2, kept

    x = draw((3, 4))[0]
    before = x.copy()
    report = check_vjp(forward, lambda dy, x: 2 * x * dy, [x])
    assert rules(report) == [("mutates", "x")]
    assert report.leaves[0].verdict == "pass", "the numbers are right all the same"
    assert np.array_equal(x, before), "what was overwritten is put back"


def test_forward_that_writes_to_a_keyword_argument():
    def forward(x, *, total):
        total += 1
        return x * total, None

    total = np.zeros(3)
    report = check_vjp(forward, lambda dy, _: dy, draw((4, 3)), {"total": total})
    assert rules(report) == [("mutates", "total")]
    assert not total.any()


def test_backward_that_writes_to_its_upstream_gradient():
    def backward(dy, x):
        dy *= 2 * x
        return dy

    assert rules(check_vjp(lambda x: (x**2, x), backward, draw((3, 4)))) == [("mutates", None)]


def test_backward_that_writes_to_the_output():
    def forward(x):
        y = np.tanh(x)
        return y, y

    def backward(dy, y):
        np.multiply(y, y, out=y)
        np.subtract(1, y, out=y)
        return dy * y

    assert ("mutates", None) in rules(check_vjp(forward, backward, draw((3, 4))))


def test_a_cache_that_serves_once():
    def forward(x):
        return x**2, [x]

    report = check_vjp(forward, lambda dy, cache: 2 * cache.pop() * dy, draw((3, 4)))
    assert rules(report) == [("cache spent", None)]
    assert report.leaves[0].verdict == "pass"
    assert "raises IndexError" in str(report)


def test_a_cache_that_changes():
    def forward(x):
        return x**2, {"x": x, "total": np.zeros_like(x)}

    def backward(dy, cache):
        cache["total"] += 2 * cache["x"] * dy
        return cache["total"].copy()

    assert rules(check_vjp(forward, backward, draw((3, 4)))) == [("cache spent", None)]


def test_randomness_of_its_own():
    rng = np.random.default_rng(0)

    def forward(x):
        mask = rng.random(x.shape) < 0.5
        return x * mask, mask

    report = check_vjp(forward, lambda dy, mask: dy * mask, draw((3, 4)))
    assert ("not deterministic", None) in rules(report)


def test_a_generator_passed_in_may_advance():
    def forward(x, *, rng):
        mask = rng.random(x.shape) < 0.5
        return x * mask, mask

    rng = np.random.default_rng(0)
    state = rng.bit_generator.state
    report = check_vjp(forward, lambda dy, mask: dy * mask, draw((3, 4)), {"rng": rng})
    assert report.verdict == "pass"
    assert rng.bit_generator.state == state
    report = check_function(
        lambda x, *, rng: x * (rng.random(x.shape) < 0.5),
        lambda dy, x, *, rng: dy * (rng.random(x.shape) < 0.5),
        draw((3, 4)),
        {"rng": rng},
    )
    assert report.verdict == "pass"


@pytest.mark.parametrize(
    ("backward", "why"),
    [
        (lambda dy, x: 2 * x, "the same whatever comes in"),
        (lambda dy, x: 2 * x * dy + 1, "off by"),
        (lambda dy, x: 2 * x * dy**2, "off by"),
        (lambda dy, x: 2 * x * np.clip(dy, -1, 1), "off by"),
    ],
)
def test_backward_is_linear(backward, why):
    report = check_vjp(lambda x: (x**2, x), backward, draw((3, 4)))
    assert ("not linear", "x") in rules(report)
    assert why in str(report)


def test_a_loss_that_ignores_its_upstream_gradient():
    def loss(x):
        return float(np.sum(x**2)), x

    assert check_vjp(loss, lambda dloss, x: 2 * x * dloss, draw((3, 4))).verdict == "pass"
    assert check_vjp(loss, lambda dloss, x: 2 * x, draw((3, 4))).verdict == "fail"


def test_a_gradient_that_cancels_to_rounding_is_not_called_nonlinear():
    def forward(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        y = e / e.sum(-1, keepdims=True)
        return y, y

    def backward(dy, y):
        return y * (dy - (dy * y).sum(-1, keepdims=True))

    report = check_vjp(forward, backward, [1e3 * draw((40, 30))[0]])
    assert not report.contract


def test_what_forward_and_backward_raise_passes_through():
    def broken(*_):
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        check_vjp(broken, affine_backward, ARGS)
    with pytest.raises(ZeroDivisionError, match="mine"):
        check_vjp(affine, broken, ARGS)
