"""How an op is trusted: two oracles, a random upstream gradient, and wrong twins that must fail.

`check_op` compares every gradient with central differences of our own forward (a wrong backward),
and outputs and gradients with an independent implementation (a wrong forward). It also asserts the
contract: shapes, dtypes, no mutation, determinism, a cache that serves twice, any memory layout.
`assert_killed` proves that the same check refuses a backward known to be wrong.
"""

import copy
import zlib

import numpy as np
import pytest
import torch

import minillm
from minillm.tree import leaves, map_leaves

BACKENDS = ("numpy", "fast")
EPS = np.finfo(np.float64).eps
STEP = np.cbrt(EPS)  # balances truncation h**2 against rounding eps / h
# Central differences are good to about eps**(2/3); sums over a few hundred outputs cost the rest.
NUMERIC_TOL = 1000 * EPS ** (2 / 3)
# Two float64 implementations of the same sum differ by the order of their additions.
ORACLE_TOL = 5000 * EPS


def rng_of(*key):
    """A generator that depends on the key's text alone, so that a case can be replayed."""
    return np.random.default_rng(zlib.crc32(repr(key).encode()))


def randn(rng, *shape, dtype=np.float64):
    """Standard normal values; a parameter drawn so is off its initial value."""
    return rng.standard_normal(shape).astype(dtype)


def upstream(out, seed=0):
    """A random gradient for every output; never a constant one."""
    rng = np.random.default_rng([seed, 7])
    return map_leaves(lambda leaf: rng.standard_normal(np.shape(leaf)).astype(leaf.dtype), out)


def inner(a, b):
    return sum(float(np.vdot(x, y)) for (_, x), (_, y) in zip(leaves(a), leaves(b), strict=True))


def as_tuple(grads, count):
    return (grads,) if count == 1 else tuple(grads)


def numeric_gradients(forward, args, dout):
    """d<dout, forward(args)>/d(leaf) for every element of every leaf, by central differences."""
    args = copy.deepcopy(list(args))

    def gradient(leaf):
        result = np.empty_like(leaf)
        for index in np.ndindex(leaf.shape):
            kept = leaf[index]
            h = STEP * max(1.0, abs(kept))
            leaf[index] = kept + h
            up = inner(dout, forward(*args))
            leaf[index] = kept - h
            down = inner(dout, forward(*args))
            leaf[index] = kept
            result[index] = (up - down) / (2 * h)
        return result

    return tuple(map_leaves(gradient, arg) for arg in args)


def torch_oracle(function, args, dout):
    """Outputs and gradients of a torch function of the same arguments, as NumPy arrays."""
    tensors = map_leaves(lambda a: torch.tensor(np.array(a), requires_grad=True), list(args))
    out = function(*tensors)
    pairs = zip(leaves(out), leaves(dout), strict=True)
    total = sum((o * torch.tensor(np.asarray(d))).sum() for (_, o), (_, d) in pairs)
    total.backward()
    grads = map_leaves(
        lambda t: np.zeros(tuple(t.shape)) if t.grad is None else t.grad.numpy(), tensors
    )
    return map_leaves(lambda t: t.detach().numpy(), out), tuple(grads)


def assert_close(actual, expected, tol, what):
    """Every leaf within tol of the expected one, relative to that leaf's largest value (or 1)."""
    for (name, a), (other, e) in zip(leaves(actual), leaves(expected), strict=True):
        assert name == other, f"{what}: structure differs, {name} against {other}"
        assert np.shape(a) == np.shape(e), f"{what} {name}: shape {np.shape(a)}, not {np.shape(e)}"
        assert np.all(np.isfinite(a)), f"{what} {name}: not finite"
        scale = max(1.0, float(np.max(np.abs(e), initial=0.0)))
        worst = float(np.max(np.abs(np.asarray(a) - np.asarray(e)), initial=0.0))
        assert worst <= tol * scale, f"{what} {name}: off by {worst:.3g} of {scale:.3g}"


def assert_same_layout_as_args(grads, args, what):
    for (name, g), (other, a) in zip(leaves(grads), leaves(args), strict=True):
        assert name == other, f"{what}: gradient for {name}, argument {other}"
        assert np.shape(g) == a.shape, f"{what} d{name}: shape {np.shape(g)}, not {a.shape}"
        assert g.dtype == a.dtype, f"{what} d{name}: dtype {g.dtype}, not {a.dtype}"


def strided(array):
    """The same values in memory that is neither C- nor F-contiguous: reversed, every other one."""
    if array.ndim == 0:
        return array
    wide = np.full([2 * n for n in reversed(array.shape)], np.nan, array.dtype)
    view = wide.transpose()[tuple(slice(None, None, 2) for _ in array.shape)]
    view[...] = array
    return view


def check_op(op, args, kwargs=None, *, oracle=None, seed=0, numeric=True, backends=BACKENDS):
    """Hold an op, on each backend, to both oracles and to the contract.

    args: the positional arguments (float64; nests and None allowed).
    oracle: a torch function of the same positional arguments, returning the same outputs.
    kwargs: keyword arguments; give a generator as a function that makes it, `rng=lambda: ...`.
    """
    for name in backends:
        with minillm.backend(name):
            _check_on_active_backend(op, args, kwargs or {}, oracle, seed, numeric, name)


def _check_on_active_backend(op, args, kwargs, oracle, seed, numeric, what):
    what = f"{op.__name__} on {what}"

    def fresh():
        return {k: v() if callable(v) else copy.deepcopy(v) for k, v in kwargs.items()}

    def forward(*a):
        return op(*a, **fresh())[0]

    kept = copy.deepcopy(args)
    out, cache = op(*args, **fresh())
    dout = upstream(out, seed)
    dout_kept = copy.deepcopy(dout)
    grads = as_tuple(op.backward(dout, cache), len(args))

    assert len(grads) == len(args), f"{what}: {len(grads)} gradients for {len(args)} arguments"
    for index, (arg, grad) in enumerate(zip(args, grads, strict=True)):
        assert_same_layout_as_args(grad, arg, f"{what} argument {index}")
    assert_close(args, kept, 0, f"{what}: an input was written to,")
    assert_close(dout, dout_kept, 0, f"{what}: dout was written to,")
    assert_close(
        as_tuple(op.backward(dout, cache), len(args)), grads, 0, f"{what}: second use of the cache,"
    )
    assert_close(forward(*args), out, 0, f"{what}: second forward,")

    views = tuple(map_leaves(strided, arg) for arg in args)
    out_views, cache_views = op(*views, **fresh())
    grads_views = as_tuple(op.backward(map_leaves(strided, dout), cache_views), len(args))
    assert_close(out_views, out, ORACLE_TOL, f"{what}: strided inputs, output")
    assert_close(grads_views, grads, ORACLE_TOL, f"{what}: strided inputs, gradient")

    if oracle is not None:
        expected_out, expected_grads = torch_oracle(oracle, args, dout)
        assert_close(out, expected_out, ORACLE_TOL, f"{what}: output against the oracle")
        assert_close(grads, expected_grads, ORACLE_TOL, f"{what}: gradient against the oracle")
    if numeric:
        expected = numeric_gradients(forward, args, dout)
        assert_close(grads, expected, NUMERIC_TOL, f"{what}: gradient against differences")

    single = map_leaves(lambda a: a.astype(np.float32), list(args))
    out32, cache32 = op(*single, **fresh())
    grads32 = as_tuple(op.backward(upstream(out32, seed), cache32), len(args))
    for _, leaf in leaves(out32):
        assert leaf.dtype == np.float32, f"{what}: float32 in, {leaf.dtype} out"
    assert_same_layout_as_args(list(grads32), single, f"{what} in float32")


def check_wrong_backward(op, wrong, args, kwargs=None, *, seed=0):
    """True where central differences tell `wrong(dout, cache)` from the true gradient.

    `wrong` gets the saved values that the numpy pair's backward would get.
    """
    kwargs = kwargs or {}

    def fresh():
        return {k: v() if callable(v) else copy.deepcopy(v) for k, v in kwargs.items()}

    with minillm.backend("numpy"):
        out, cache = op(*args, **fresh())
        dout = upstream(out, seed)
        grads = as_tuple(wrong(dout, cache.saved), len(args))
        expected = numeric_gradients(lambda *a: op(*a, **fresh())[0], args, dout)
    try:
        for index, (arg, grad) in enumerate(zip(args, grads, strict=True)):
            assert_same_layout_as_args(grad, arg, f"argument {index}")
        assert_close(grads, expected, NUMERIC_TOL, "gradient")
    except AssertionError:
        return True
    return False


def assert_killed(op, wrong, args, kwargs=None, *, seed=0):
    """A known-wrong backward must not pass; neither must the right one be refused."""
    from minillm.ops._state import Registry

    right = Registry.ops[op.__name__]["numpy"][1]
    assert not check_wrong_backward(op, right, args, kwargs, seed=seed), "the right one was refused"
    assert check_wrong_backward(op, wrong, args, kwargs, seed=seed), f"{wrong.__name__} passed"


def wrong_backwards(table):
    """Parametrize a test over {name: wrong backward}; the ids start with `wrong-`."""
    return pytest.mark.parametrize("wrong", table.values(), ids=[f"wrong-{name}" for name in table])
