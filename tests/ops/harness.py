"""How an op is trusted: two oracles, a random upstream gradient, wrong backwards that must fail.

`check_op` has minillm.gradcheck compare the gradients with differences of our own forward (a wrong
backward) and hold them to the contract, and compares outputs and gradients with an independent
implementation (a wrong forward). `assert_killed` and `assert_refused` prove that the same
checker refuses a backward known to be wrong.
"""

import copy
import functools
import inspect
import zlib

import numpy as np
import pytest
import torch

import minillm
from minillm import gradcheck
from minillm.gradcheck.catalogue import Tools, load
from minillm.ops._state import Registry
from minillm.tree import leaves, map_leaves
from tests.gradcheck.quick import first_failure_only

BACKENDS = ("numpy", "fast")
EPS = np.finfo(np.float64).eps
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


def as_tuple(grads, count):
    return (grads,) if count == 1 else tuple(grads)


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


def check_op(
    op,
    args,
    kwargs=None,
    *,
    oracle=None,
    seed=0,
    scope="default",
    allow_zero=(),
    differences=True,
    backends=BACKENDS,
):
    """Hold an op, on each backend, to both oracles and to the contract.

    args: the positional arguments (float64; nests and None allowed).
    oracle: a torch function of the same positional arguments, returning the same outputs. Where its
        gradient of a leaf is zero, differences that find none either are believed.
    kwargs: keyword arguments; give a generator as a function that makes it, `rng=lambda: ...`.
    scope: "full" to compare every element with differences.
    allow_zero: leaves or arguments whose gradient vanishes, for a case without an oracle.
    differences: False leaves gradcheck out; say at the call why.
    """
    for name in backends:
        with minillm.backend(name):
            what = f"{op.__name__} on {name}"
            run = Run(op, args, kwargs or {}, seed, what)
            run.check_contract()
            run.check_layouts()
            run.check_single_precision()
            if oracle is not None:
                allow_zero = run.check_oracle(oracle)
            if differences:
                options = {"seed": seed, "scope": scope, "allow_zero": allow_zero}
                report = gradcheck.check_op(op, args, run.fresh(), **options)
                assert report.passed, f"{what}: {report}"


class Run:
    """One forward and backward of an op on the active backend, and what is asked of them."""

    def __init__(self, op, args, kwargs, seed, what):
        self.op, self.args, self.kwargs, self.seed, self.what = op, args, kwargs, seed, what
        kept = copy.deepcopy(args)
        self.out, self.cache = op(*args, **self.fresh())
        self.dout = upstream(self.out, seed)
        self.grads = as_tuple(op.backward(self.dout, self.cache), len(args))
        assert_close(args, kept, 0, f"{what}: an input was written to,")

    def fresh(self):
        """The keyword arguments, each generator in its first state."""
        return fresh(self.kwargs)

    def check_contract(self):
        """Where ours asks for more than gradcheck, which asks for the rest.

        One gradient for each argument, None for None; repetitions agree to the last bit.
        """
        assert len(self.grads) == len(self.args), f"{self.what}: {len(self.grads)} gradients"
        assert_same_layout_as_args(list(self.grads), list(self.args), self.what)
        again = as_tuple(self.op.backward(self.dout, self.cache), len(self.args))
        assert_close(again, self.grads, 0, f"{self.what}: second use of the cache,")
        out, _ = self.op(*self.args, **self.fresh())
        assert_close(out, self.out, 0, f"{self.what}: second forward,")

    def check_layouts(self):
        views = tuple(map_leaves(strided, arg) for arg in self.args)
        out, cache = self.op(*views, **self.fresh())
        grads = as_tuple(self.op.backward(map_leaves(strided, self.dout), cache), len(self.args))
        assert_close(out, self.out, ORACLE_TOL, f"{self.what}: strided inputs, output")
        assert_close(grads, self.grads, ORACLE_TOL, f"{self.what}: strided inputs, gradient")

    def check_single_precision(self):
        single = map_leaves(lambda a: a.astype(np.float32), list(self.args))
        out, cache = self.op(*single, **self.fresh())
        grads = as_tuple(self.op.backward(upstream(out, self.seed), cache), len(self.args))
        for _, leaf in leaves(out):
            assert leaf.dtype == np.float32, f"{self.what}: float32 in, {leaf.dtype} out"
        assert_same_layout_as_args(list(grads), single, f"{self.what} in float32")

    def check_oracle(self, oracle):
        """Returns the names of the leaves whose gradient the oracle knows to be zero."""
        out, grads = torch_oracle(oracle, self.args, self.dout)
        assert_close(self.out, out, ORACLE_TOL, f"{self.what}: output against the oracle")
        assert_close(self.grads, grads, ORACLE_TOL, f"{self.what}: gradient against the oracle")
        named = dict(zip(inspect.signature(self.op).parameters, grads, strict=False))
        largest = max((np.max(np.abs(g), initial=1.0) for _, g in leaves(grads)))
        return [name for name, g in leaves(named) if np.all(np.abs(g) <= ORACLE_TOL * largest)]


def fresh(kwargs):
    return {k: v() if callable(v) else copy.deepcopy(v) for k, v in kwargs.items()}


@functools.cache
def catalogue():
    """{op's name: its wrong backwards}, from minillm.gradcheck.catalogue."""
    found = {}
    for entry in load():
        found.setdefault(entry.op, []).append(entry)
    return found


def wrong_backwards(wrong):
    """Parametrize a test over an op's entries of the catalogue, or over functions of one's own."""
    wrong = catalogue()[wrong] if isinstance(wrong, str) else wrong
    ids = [f"wrong-{getattr(w, 'name', None) or w.__name__}" for w in wrong]
    return pytest.mark.parametrize("wrong", wrong, ids=ids)


def assert_refused(op, wrong, args, kwargs=None, *, seed=0):
    """A known-wrong `wrong(dout, saved)` must not pass; neither must the right one be refused.

    `wrong` gets the saved values that the numpy pair's backward would get.
    """
    forward, right = Registry.ops[op.__name__]["numpy"]
    with minillm.backend("numpy"):
        report = gradcheck.check_vjp(forward, right, args, fresh(kwargs or {}), seed=seed)
        assert report.verdict != "fail", f"the right one was refused: {report}"
        report = quick_report(forward, wrong, args, fresh(kwargs or {}), seed)
        assert report.verdict == "fail", f"{wrong.__name__} passed: {report}"


def assert_killed(entry, times=3):
    """An entry of the catalogue must fail at `times` points at which it is wrong.

    At a point where it is right (a shape with ones, a flag that is off) another one is drawn.
    """
    forward, right = Registry.ops[entry.op]["numpy"]
    tools = Tools(minillm.ops, right)

    def wrong(dout, saved):
        return entry.backward(dout, saved, tools)

    with minillm.backend("numpy"):
        killed = 0
        for seed in range(5 * times):
            args, kwargs = entry.case(rng_of(entry.op, seed), tools)
            if is_right(wrong, forward, right, args, kwargs, seed):
                continue
            report = report_on_right(entry.op, entry.case, seed)
            assert report.verdict != "fail", f"the right one was refused: {report}"
            report = quick_report(forward, wrong, args, kwargs, seed)
            assert report.verdict == "fail", f"{entry.op}.{entry.name} passed: {report}"
            killed += 1
            if killed == times:
                return
    pytest.fail(f"{entry.op}.{entry.name} is right at nearly every point that is drawn")


def quick_report(forward, backward, args, kwargs, seed):
    """The report up to the first leaf that fails, which has the same verdict in less time."""
    with first_failure_only():
        return gradcheck.check_vjp(forward, backward, args, kwargs, seed=seed)


@functools.cache
def report_on_right(op_name, case, seed):
    """The entries of an op share their points, and this report on its true backward."""
    forward, right = Registry.ops[op_name]["numpy"]
    args, kwargs = case(rng_of(op_name, seed), Tools(minillm.ops, right))
    return gradcheck.check_vjp(forward, right, args, kwargs, seed=seed)


def is_right(wrong, forward, right, args, kwargs, seed):
    """Whether a wrong backward does and gives just what the right one does, at this point."""
    out, saved = forward(*copy.deepcopy(args), **fresh(kwargs))
    _, saved_too = forward(*copy.deepcopy(args), **fresh(kwargs))
    dout = upstream(out, seed)
    expected, kept = right(dout, saved), copy.deepcopy(dout)
    try:
        for _ in range(2):
            grads = wrong(dout, saved_too)
            assert_close(grads, expected, ORACLE_TOL, "gradient")
            assert_same_layout_as_args(grads, expected, "gradient")
            assert_close(dout, kept, 0, "dout")
    except (AssertionError, ValueError):  # ValueError: leaves are missing
        return False
    return True
