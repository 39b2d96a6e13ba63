"""The pairs of the backend "cupy" given arrays that refuse NumPy as CuPy's do.

On NumPy arrays a call of NumPy that CuPy's arrays refuse goes unseen. Here a stand-in for CuPy's
arrays goes through every pair, and only the kernels, in the emulator, see what it holds.
"""

import os

os.environ.setdefault("MINILLM_EMULATE", "1")

import sys
import types

import numpy as np
import pytest

import minillm
from minillm.ops._state import Registry
from minillm_kernels import backend_cupy  # noqa: F401  (all its pairs register)
from minillm_kernels.cuda import ladder
from tests.gradcheck import standin_cupy
from tests.ops.harness import rng_of


class Emulated:
    """A rung's kernels in the emulator, given what the stand-ins hold."""

    def __init__(self, loaded):
        self._loaded = loaded

    def kernel(self, name):
        kernel = self._loaded.kernel(name)

        def launch(grid, block, args, *, shared_mem=0):
            assert not any(isinstance(a, np.ndarray) for a in args), f"{name} got a NumPy array"
            args = tuple(getattr(a, "_held", a) for a in args)
            kernel(grid, block, args, shared_mem=shared_mem)

        return launch


@pytest.fixture
def cupy(monkeypatch):
    def load(rung, dtype, macros, device):
        return Emulated(ladder._load_emulated(rung, macros))

    runtime = types.SimpleNamespace(getDevice=lambda: 0)
    fake = types.SimpleNamespace(cuda=types.SimpleNamespace(runtime=runtime))
    monkeypatch.setitem(sys.modules, "cupy", fake)
    monkeypatch.setattr(ladder, "_load_cupy", load)
    return standin_cupy.cupy


def cases():
    """{name: (op, args, kwargs)}: contiguous, and strided where a pair copies."""
    rng = rng_of("cupy arrays")

    def draw(*shape):
        return rng.standard_normal(shape).astype(np.float32)

    x, heads = draw(3, 4, 8), (draw(1, 4, 5, 16), draw(1, 2, 5, 16), draw(1, 2, 5, 16))
    gain, bias = draw(8), draw(8)
    mask = np.tril(np.ones((1, 1, 5, 5), bool))
    wide, late = draw(8, 12), {"positions": np.array([4, 0, 7, 1, 2])}
    targets = np.array([[1, 2, -100, 7]] * 3)
    turned = [np.asfortranarray(a) for a in heads]
    return {
        "linear": ("linear", (x, draw(8, 6), draw(6)), {}),
        "linear without bias": ("linear", (x, draw(8, 6)), {}),
        "linear strided": ("linear", (x.T, draw(3, 12)[:, ::2], draw(12)[::2]), {}),
        "softmax": ("softmax", (x,), {"axis": 1}),
        "layer_norm": ("layer_norm", (x, gain, bias), {}),
        "layer_norm strided": ("layer_norm", (wide[:, ::2], wide[0, :6], bias[2:]), {}),
        "add_layer_norm": ("add_layer_norm", (x, x[::-1], gain, bias), {}),
        "rms_norm": ("rms_norm", (x, gain), {}),
        "add_rms_norm": ("add_rms_norm", (x, x[::-1], gain), {}),
        "gelu": ("gelu", (wide.T,), {"approximate": "tanh"}),
        "cross_entropy": ("cross_entropy", (x,), {"targets": targets, "label_smoothing": 0.1}),
        "rotary": ("rotary", (heads[0],), late),
        "flash_attention": ("flash_attention", heads, {"causal": True}),
        "flash_attention strided": ("flash_attention", turned, {"mask": mask}),
        "flash_attention, other heads": ("flash_attention", [h[..., :5] for h in heads], {}),
        "attention": ("scaled_dot_product_attention", heads, {"mask": mask}),
    }


CASES = cases()


def each(nest, function):
    """A nest of tuples and dicts with a function of its arrays."""
    if isinstance(nest, dict):
        return {key: each(child, function) for key, child in nest.items()}
    if isinstance(nest, list | tuple):
        return tuple(each(child, function) for child in nest)
    return function(nest)


def flat(nest):
    return [leaf for child in nest for leaf in flat(child)] if isinstance(nest, tuple) else [nest]


def test_every_pair_has_a_case():
    ours = {name for name, pairs in Registry.ops.items() if "cupy" in pairs}
    assert {op for op, _, _ in CASES.values()} == ours


@pytest.mark.parametrize("name", CASES)
def test_pair(cupy, name):
    op, args, kwargs = CASES[name]

    def there(value):
        return cupy.asarray(value) if isinstance(value, np.ndarray) else value

    forward, backward = Registry.ops[op]["numpy"]
    out, cache = forward(*args, **kwargs)
    dout = each(out, lambda a: rng_of(name).standard_normal(np.shape(a)).astype(np.float32))
    expected = flat((out, backward(dout, cache)))
    forward, backward = Registry.ops[op]["cupy"]
    with minillm.backend("cupy"):
        out, cache = forward(*each(args, there), **each(kwargs, there))
        got = flat((out, backward(each(dout, cupy.asarray), cache)))
    for a, b in zip(got, expected, strict=True):
        if b is None:
            assert a is None
            continue
        assert type(a) is standin_cupy.ndarray
        np.testing.assert_allclose(a.get(), b, rtol=1e-4, atol=1e-5)
