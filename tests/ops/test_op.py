"""The decorator, the registry and the trace: what stands behind the call of any op."""

import contextvars
import html
import inspect
import pickle
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm import ops
from minillm.ops._op import Cache, check_shape, op, register, sum_to_shape
from minillm.ops._state import Registry, current
from minillm.ops._trace import equation
from minillm.ops.add_layer_norm import add_layer_norm
from minillm.ops.dropout import dropout
from minillm.ops.linear import linear
from minillm.ops.mlp_gelu import mlp_gelu
from minillm.ops.mse import mse
from minillm.ops.softmax import softmax
from tests.ops.draw import on_each_backend, seeds, shapes
from tests.ops.harness import ORACLE_TOL, assert_close, randn, rng_of, upstream


@pytest.fixture
def own_registry(monkeypatch):
    """Let a test define and register as it likes; nothing of it stays."""
    monkeypatch.setattr(Registry, "ops", {k: dict(v) for k, v in Registry.ops.items()})
    monkeypatch.setattr(Registry, "modules", dict(Registry.modules))
    monkeypatch.setattr(Registry, "loaded", set(Registry.loaded))


def make_twice():
    @op
    def twice(params, *, factor=2):
        """Multiply every array of a nest.

        Equation: y = factor * a,
            for each a
        """
        return factor * params["a"][0], (params, factor)

    @twice.defbackward
    def twice_backward(dy, cache):
        params, factor = cache
        return {"a": [factor * dy, *(np.zeros_like(a) for a in params["a"][1:])]}

    return twice


# What an op is for its reader


def test_is_still_the_function_that_was_written():
    assert linear.__name__ == "linear"
    assert linear.backward.__name__ == "linear_backward"
    assert "Equation: y = x @ weight + bias" in linear.__doc__
    assert list(inspect.signature(linear).parameters) == ["x", "weight", "bias"]
    assert linear.positional == ("x", "weight", "bias")
    assert dropout.positional == ("x",)
    assert Path(inspect.getsourcefile(inspect.unwrap(linear))).name == "linear.py"


@pytest.mark.parametrize("function", [linear, linear.backward], ids=["forward", "backward"])
def test_pickles_by_name(function):
    assert pickle.loads(pickle.dumps(function)) is function


def test_each_op_has_its_room():
    """One name in the package, in the file, in the registry and here in the tests."""
    rooms = Path(ops.__file__).parent
    files = sorted(p.stem for p in rooms.glob("*.py") if not p.stem.startswith("_"))
    assert ops.__all__ == files
    tests = {p.stem for p in Path(__file__).parent.glob("test_*.py")}
    for name in ops.__all__:
        function = getattr(ops, name)
        assert function.__name__ == name
        assert function.backward.__name__ == f"{name}_backward"
        assert "numpy" in Registry.ops[name]
        assert equation(function), f"{name} has no line `Equation:`"
        header = sys.modules[function.__module__].__doc__
        assert "left out" in header.lower(), f"{name}.py does not say what is left out"
        assert f"test_{name}" in tests, f"{name} has no test"


# Dtypes and shapes


@pytest.mark.parametrize(
    ("x", "came"),
    [
        (np.ones((2, 3), np.float16), "dtype float16"),
        (np.ones((2, 3), np.int64), "dtype int64"),
        (np.ones((2, 3), bool), "dtype bool"),
        (np.ones((2, 3), complex), "dtype complex128"),
        (np.ones((2, 3), np.longdouble), f"dtype {np.dtype(np.longdouble)}"),
        (1.0, "float"),
        ("text", "str"),
    ],
)
def test_only_float32_and_float64(x, came):
    message = f"^linear: x must be an array of float32 or float64, got {came}$"
    with pytest.raises(ValueError, match=message):
        linear(x, np.ones((3, 4)))
    with pytest.raises(ValueError, match=message):
        linear(x=x, weight=np.ones((3, 4)))


def test_lists_of_numbers_are_no_arrays():
    with pytest.raises(ValueError, match=r"linear: x\[0\] must be an array .* got float"):
        linear([1.0, 2.0], np.ones((2, 4)))


def test_dtypes_do_not_mix():
    message = "linear: weight is float32, but the arguments before it are float64"
    with pytest.raises(ValueError, match=message):
        linear(np.ones((2, 3)), np.ones((3, 4), np.float32))
    with pytest.raises(ValueError, match=message):
        linear(np.ones((2, 3)), weight=np.ones((3, 4), np.float32))


def test_a_nest_is_walked_and_the_leaf_named(own_registry):
    twice = make_twice()
    y, cache = twice({"a": [np.ones(2), None, np.ones(3)]}, factor=3)
    assert np.array_equal(y, [3, 3])
    assert np.array_equal(twice.backward(y, cache)["a"][0], [9, 9])
    with pytest.raises(ValueError, match=r"twice: params\['a'\]\[1\] must be .* got dtype int32"):
        twice({"a": [np.ones(2), np.ones(2, np.int32)]})
    with pytest.raises(ValueError, match=r"twice: params\['b'\] is float32, but the arguments"):
        twice({"a": [np.ones(2)], "b": np.ones(2, np.float32)})


@pytest.mark.parametrize(
    ("dout", "came"),
    [
        (np.ones((2, 3)), r"float64 of shape \(2, 3\)"),
        (np.ones((2, 4), np.float32), r"float32 of shape \(2, 4\)"),
        (np.ones((1, 4)), r"float64 of shape \(1, 4\)"),
        (1.0, "float"),
        (None, "NoneType"),
    ],
)
def test_the_upstream_gradient_looks_like_the_output(dout, came):
    _, cache = linear(np.ones((2, 3)), np.ones((3, 4)))
    message = rf"linear_backward: dout must be float64 of shape \(2, 4\), got {came}"
    with pytest.raises(ValueError, match=message):
        linear.backward(dout, cache)


def test_a_number_serves_upstream_of_a_scalar():
    _, cache = mse(np.ones((2, 3), np.float32), np.zeros((2, 3), np.float32))
    for dout in (1, 1.0, np.float32(1)):
        assert mse.backward(dout, cache)[0].dtype == np.float32


def test_a_wrong_cache_is_refused():
    y, cache = softmax(np.ones((2, 3)))
    with pytest.raises(ValueError, match="cache must come from linear, got <cache of softmax>"):
        linear.backward(y, cache)
    with pytest.raises(ValueError, match=r"softmax_backward: cache must come from softmax, got \("):
        softmax.backward(y, cache.saved)


def test_a_cache_does_not_pickle():
    _, cache = softmax(np.ones((2, 3)))
    with pytest.raises(TypeError, match="cache of softmax holds a live backward"):
        pickle.dumps(cache)


def test_check_shape_says_what_came_and_what_was_expected():
    check_shape("x", np.ones((2, 3)), (2, None))
    check_shape("x", np.float64(1), ())
    for shape, expected, message in (
        ((2, 3), (None, 4), r"x must have shape \(any, 4\), got \(2, 3\)"),
        ((2,), (3,), r"x must have shape \(3,\), got \(2,\)"),
        ((2, 1), (2,), r"x must have shape \(2,\), got \(2, 1\)"),
        ((1,), (), r"x must have shape \(\), got \(1,\)"),
    ):
        with pytest.raises(ValueError, match=message):
            check_shape("x", np.ones(shape), expected)


@given(shape=shapes(0, 4), data=st.data(), seed=seeds)
def test_sum_to_shape_undoes_a_broadcast(shape, data, seed):
    kept = data.draw(st.integers(0, len(shape)))
    ones = data.draw(st.lists(st.booleans(), min_size=kept, max_size=kept))
    small = tuple(1 if o else n for o, n in zip(ones, shape[len(shape) - kept :], strict=True))
    gradient = np.asarray(randn(rng_of(shape, seed), *shape))
    leaf = torch.zeros(small, dtype=torch.float64, requires_grad=True)
    (leaf.expand(shape) * torch.tensor(gradient)).sum().backward()
    assert_close(sum_to_shape(gradient, small), leaf.grad.numpy(), ORACLE_TOL, "sum")


# Broadcast views: their memory overlaps and may not be written


def views():
    """Arguments of each op whose leading axes are broadcast, not copied."""
    rng = rng_of("views")

    def wide(*shape):
        return np.broadcast_to(randn(rng, *shape), (3, 2, *shape))

    x, gain, bias = wide(4), randn(rng, 4), randn(rng, 4)
    ids = np.broadcast_to(np.array([1, 0, 1]), (2, 3))
    up, down, head = randn(rng, 4, 5), randn(rng, 5, 3), randn(rng, 6, 4)
    targets = np.broadcast_to(np.array([1, 5]), (3, 2))
    elementwise = ("sigmoid", "tanh", "relu", "silu", "gelu", "softmax", "log_softmax")
    return {name: ((x,), {}) for name in elementwise} | {
        "linear": ((x, up, randn(rng, 5)), {}),
        "embedding": ((head,), {"ids": ids}),
        "cross_entropy": ((wide(6),), {"targets": targets}),
        "linear_cross_entropy": ((x, head, randn(rng, 6)), {"targets": targets}),
        "mse": ((x, wide(4)), {}),
        "binary_cross_entropy": ((x,), {"targets": np.broadcast_to(1, (3, 2, 4))}),
        "layer_norm": ((x, gain, bias), {}),
        "rms_norm": ((x, gain), {}),
        "add_layer_norm": ((x, wide(4), gain, bias), {}),
        "add_rms_norm": ((x, wide(4), gain), {}),
        "mlp_gelu": ((x, up, randn(rng, 5), down, randn(rng, 3)), {}),
        "swiglu": ((x, up, randn(rng, 4, 5), down), {}),
    }


@on_each_backend
@pytest.mark.parametrize("name", views())
def test_broadcast_views_serve_as_inputs(name, backend):
    function, (args, kwargs) = getattr(ops, name), views()[name]
    with minillm.backend(backend):
        out, cache = function(*(np.array(a) for a in args), **kwargs)
        expected = function.backward(upstream(out), cache)
        out_views, cache = function(*args, **kwargs)
        dout = upstream(out)
        if getattr(out, "ndim", 0) == 3:  # the same upstream for each of the batch, as a view
            flat = np.array(np.broadcast_to(dout[:1], dout.shape))
            expected = function.backward(flat, function(*args, **kwargs)[1])
            dout = np.broadcast_to(dout[:1], dout.shape)
        grads = function.backward(dout, cache)
    assert_close(out_views, out, ORACLE_TOL, name)
    assert_close(grads, expected, ORACLE_TOL, f"{name}, gradient")


# Backends


def test_the_readable_pair_is_never_replaced():
    with pytest.raises(ValueError, match="linear: the numpy pair is the specification"):
        register("linear", "numpy", None, None)


def test_no_pair_for_an_op_that_is_not_there():
    with pytest.raises(ValueError, match="no op named 'liner' to register a fast pair for"):
        register("liner", "fast", None, None)


def test_an_unknown_backend_is_named_with_the_known_ones():
    before = current()
    with (
        pytest.raises(ValueError, match=r"unknown backend 'tpu'; this installation has: .*numpy"),
        minillm.backend("tpu"),
    ):
        pass
    assert current() is before


def test_a_registered_pair_runs_where_its_backend_is_active(own_registry):
    def add_one(x, weight, bias=None):
        return x @ weight + 1, "saved"

    register("linear", "mine", add_one, lambda dy, c: (dy, c))
    x, weight = np.ones((2, 3)), np.ones((3, 4))
    with minillm.backend("numpy"):
        plain, plain_cache = linear(x, weight)
    with minillm.backend("mine"):
        mine, mine_cache = linear(x, weight)
        # A cache remembers the pair that made it, whatever is active at its backward.
        assert len(linear.backward(plain, plain_cache)) == 3
        # An op without a pair here runs as its reference.
        assert np.array_equal(softmax(x)[0], np.full((2, 3), 1 / 3))
    assert np.array_equal(mine, plain + 1)
    assert linear.backward(mine, mine_cache)[1] == "saved"


def test_every_pair_keeps_the_signature_of_the_readable_one():
    def asked_of(function):
        return [
            (p.name, p.kind, p.default) for p in inspect.signature(function).parameters.values()
        ]

    for name in ops.__all__:
        pairs = Registry.ops[name]
        for backend, (forward, _) in pairs.items():
            assert asked_of(forward) == asked_of(pairs["numpy"][0]), f"{name} on {backend}"


def test_another_signature_than_the_references_is_refused(own_registry):
    message = r"linear: the signature must be the reference's \(x, weight, bias=None\), got \(a\)"
    with pytest.raises(ValueError, match=message):
        register("linear", "mine", lambda a: (a, None), None)


def test_an_op_of_another_module_is_not_replaced(own_registry):
    def linear(x):
        return x, None

    made = minillm.op(linear)
    with pytest.raises(ValueError, match=r"minillm\.ops\.linear has an op 'linear' already"):
        made.defbackward(lambda dy, cache: dy)


@pytest.mark.parametrize("backend", ["numpy", "fast"])
@pytest.mark.parametrize(
    ("dout", "message"),
    [
        (1.0, "dout must mirror the 2 outputs of add_layer_norm, .* got 1.0"),
        (None, "dout must mirror the 2 outputs of add_layer_norm, .* got None"),
        ((np.ones((2, 3)),), r"dout must mirror the 2 outputs of add_layer_norm, .* \[\(2, 3\)\]"),
        ((np.ones((2, 3), np.float32), None), r"dout\[0\] must be float64 of shape \(2, 3\)"),
        ((None, np.ones((3, 2))), r"dout\[1\] must be float64 of shape \(2, 3\), got .*\(3, 2\)"),
    ],
)
def test_the_gradients_of_several_outputs_mirror_them(backend, dout, message):
    with minillm.backend(backend):
        _, cache = ops.add_layer_norm(np.ones((2, 3)), np.ones((2, 3)), np.ones(3), np.ones(3))
        with pytest.raises(ValueError, match=message):
            ops.add_layer_norm.backward(dout, cache)


def test_defining_an_op_again_keeps_the_registered_pairs(own_registry):
    make_twice()
    register("twice", "mine", lambda params, *, factor=2: ("mine", None), None)
    twice = make_twice()
    with minillm.backend("mine"):
        assert twice({"a": [np.ones(1)]})[0] == "mine"


def test_a_backend_is_left_when_its_block_fails():
    before = current().backend
    with pytest.raises(ValueError, match="weight must have shape"), minillm.backend("numpy"):
        linear(np.ones((2, 3)), np.ones((4, 5)))
    assert current().backend == before


def test_a_backend_is_imported_when_first_asked_for(own_registry, monkeypatch, tmp_path):
    (tmp_path / "lazy_pairs.py").write_text(
        "from minillm import register\n"
        "register('softmax', 'lazy', lambda x, *, axis=-1: ('lazy', 0), None)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setitem(Registry.modules, "lazy", "lazy_pairs")
    try:
        assert "lazy_pairs" not in sys.modules
        with minillm.backend("lazy"):
            assert softmax(np.ones(2))[0] == "lazy"
    finally:
        sys.modules.pop("lazy_pairs", None)


def test_an_op_without_a_backward_says_so():
    @op
    def half_written(x):
        return x, None

    with pytest.raises(ValueError, match=r"half_written has no backward yet: add one with @half"):
        half_written(np.ones(2))


# Trace


def test_trace_lists_the_ops_inside_an_op():
    rng = rng_of("trace")
    args = [randn(rng, *s) for s in ((2, 7, 3), (3, 5), (5,), (5, 4), (4,))]
    with minillm.backend("numpy"), minillm.trace() as steps:
        y, cache = mlp_gelu(*args)
        mlp_gelu.backward(y, cache)
    names = [(step.depth, step.name) for step in steps]
    assert names == [
        (0, "mlp_gelu"),
        (1, "linear"),
        (1, "gelu"),
        (1, "linear"),
        (0, "mlp_gelu_backward"),
        (1, "linear_backward"),
        (1, "gelu_backward"),
        (1, "linear_backward"),
    ]
    up = steps[1]
    assert up.inputs == {"x": "(2, 7, 3)", "weight": "(3, 5)", "bias": "(5)"}
    assert up.output == "(2, 7, 5)"
    assert up.equation == "y = x @ weight + bias"
    assert up.backend == "numpy"
    assert steps[2].inputs["approximate"] == "'tanh'"
    assert steps[2].equation.startswith("y = x * (1 + erf(x / sqrt(2))) / 2, or by tanh: y = ")
    assert steps[5].inputs == {"dout": "(2, 7, 4)"}
    assert steps[5].output == "[(2, 7, 5), (5, 4), (4)]"
    assert all(step.seconds > 0 for step in steps)
    assert steps[0].seconds >= sum(step.seconds for step in steps[1:4])
    assert all(step.values is None for step in steps)


def test_trace_keeps_values_on_request():
    x = np.ones((2, 3))
    with minillm.trace(values=True) as steps:
        y, cache = dropout(x, p=0.5, rng=np.random.default_rng(0))
        dropout.backward(y, cache)
    x[:] = 7
    forward, backward = steps
    assert np.array_equal(forward.values["x"], np.ones((2, 3)))
    assert np.array_equal(forward.values["out"], y)
    assert forward.values["p"] == 0.5
    assert "rng" not in forward.values
    assert np.array_equal(backward.values["dout"], y)
    assert backward.values["out"].shape == (2, 3)


def test_trace_shows_nests_and_several_outputs():
    ones = np.ones((2, 3))
    with minillm.trace() as steps:
        out, cache = add_layer_norm(ones, ones, np.ones(3), np.ones(3))
        add_layer_norm.backward((None, out[1]), cache)
    assert steps[0].output == "[(2, 3), (2, 3)]"
    (backward,) = (step for step in steps if step.name == "add_layer_norm_backward")
    assert backward.inputs == {"dout": "[None, (2, 3)]"}


def test_trace_prints_as_a_table():
    with minillm.trace() as steps:
        mlp_gelu(np.ones((2, 3)), np.ones((3, 4)), None, np.ones((4, 3)), None)
    head, rule, *rows = str(steps).splitlines()
    assert head.split() == ["op", "inputs", "output", "equation"]
    assert set(rule) == {"-", " "}
    assert len(rows) == len(steps)
    assert rows[0].startswith("mlp_gelu ")
    assert all(row.index("  (2, ") > 0 for row in rows)
    assert repr(steps) == str(steps)  # without the seconds, which differ from run to run
    page = steps._repr_html_()
    assert page.count("<tr>") == len(steps) + 1
    assert html.escape(steps[0].equation) in page


def test_trace_html_escapes(own_registry):
    @op
    def tagged(x):
        """Equation: y = x if x < 1 & x > 0"""
        return x, None

    @tagged.defbackward
    def tagged_backward(dy, cache):
        return dy

    with minillm.trace() as steps:
        tagged(np.ones(1))
    assert "y = x if x &lt; 1 &amp; x &gt; 0" in steps._repr_html_()


def test_trace_hears_only_its_block():
    with minillm.trace() as steps:
        pass
    softmax(np.ones(2))
    assert not steps
    with minillm.trace() as outer:
        softmax(np.ones(2))
        with minillm.trace() as inner:
            softmax(np.ones(3))
    assert [step.output for step in outer] == ["(2)"]
    assert [step.output for step in inner] == ["(3)"]


def test_trace_lists_a_call_that_failed_and_goes_on():
    with minillm.backend("numpy"), minillm.trace() as steps:
        with pytest.raises(ValueError, match="weight must have shape"):
            linear(np.ones((2, 3)), np.ones((4, 5)))
        softmax(np.ones(2))
    assert [(step.name, step.depth, step.output) for step in steps] == [
        ("linear", 0, ""),
        ("softmax", 0, "(2)"),
    ]


def test_trace_and_backend_follow_into_threads():
    def work(n):
        softmax(np.ones(n))
        return current().backend

    with (
        minillm.backend("numpy"),
        minillm.trace() as steps,
        ThreadPoolExecutor(max_workers=3) as pool,
    ):
        contexts = [contextvars.copy_context() for _ in range(8)]
        futures = [pool.submit(c.run, work, n + 1) for n, c in enumerate(contexts)]
        backends = [future.result() for future in futures]
    assert backends == ["numpy"] * 8
    assert sorted(step.output for step in steps) == [f"({n + 1})" for n in range(8)]
    assert {(step.depth, step.backend) for step in steps} == {(0, "numpy")}


def test_threads_do_not_change_each_others_backend():
    def work(name):
        with minillm.backend(name):
            return [current().backend for _ in range(100)]

    with ThreadPoolExecutor(max_workers=4) as pool:
        names = ["numpy", "fast"] * 4
        for name, seen in zip(names, pool.map(work, names), strict=True):
            assert set(seen) == {name}


def test_a_cache_says_whose_it_is():
    _, cache = softmax(np.ones(2))
    assert isinstance(cache, Cache)
    assert repr(cache) == "<cache of softmax>"
