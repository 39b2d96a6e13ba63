"""The ops gelu, rms_norm and add_rms_norm of the backend "cupy"."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm import gradcheck
from minillm.ops import add_layer_norm, add_rms_norm, gelu, rms_norm
from minillm_kernels.cuda import gelu as gelu_module
from minillm_kernels.cuda import rms_norm as rms_module
from tests.gradcheck.quick import first_failure_only
from tests.kernels.cuda.rows import FakeArray, assert_as_good, budget, findings, rows, twin, widths
from tests.kernels.harness import quantised
from tests.ops.harness import check_op, rng_of

FORMS = ("none", "tanh")


def on_cupy(place, op, args, dout, **kwargs):
    with minillm.backend("cupy"):
        out, cache = op(*(place.array(a) for a in args), **kwargs)
        grads = op.backward(place.array(dout), cache)
    return out, *(grads if isinstance(grads, tuple) else (grads,))


def test_gelu_beside_torch(place):
    @budget(place)
    @given(
        N=rows(place),
        C=widths(place),
        form=st.sampled_from(FORMS),
        scale=st.sampled_from([1.0, 4.0]),
        seed=st.integers(0, 99),
    )
    def run(N, C, form, scale, seed):
        rng = rng_of("gelu", N, C, seed)
        N = min(N, 2**26 // C)
        x, dy = quantised(rng, (N, C), scale=scale)[0], quantised(rng, (N, C))[0]
        ours = on_cupy(place, gelu, [x], dy, approximate=form)

        def vendor(t):
            return torch.nn.functional.gelu(t, approximate=form)

        assert_as_good(place, vendor, ours, [x], dy, ("y", "dx"), f"gelu {form} {x.shape}")

    run()


def test_rms_norm_beside_torch(place):
    @budget(place)
    @given(N=rows(place), C=widths(place, 8192), seed=st.integers(0, 99))
    def run(N, C, seed):
        C = max(C, 2)
        rng = rng_of("rms_norm", N, C, seed)
        x, gain, dy = (quantised(rng, shape)[0] for shape in ((N, C), (C,), (N, C)))
        ours = on_cupy(place, rms_norm, [x, gain], dy)

        def vendor(t, gain):
            return torch.nn.functional.rms_norm(t, (C,), gain, 1e-5)

        names = ("y", "dx", "dgain")
        assert_as_good(place, vendor, ours, [x, gain], dy, names, f"rms_norm {x.shape}")

    run()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 8), ()])
def test_gelu(form, shape):
    x = np.asarray(rng_of("gelu", form, shape).standard_normal(shape))

    def oracle(t):
        return torch.nn.functional.gelu(t, approximate=form)

    check_op(gelu, [x], {"approximate": form}, oracle=oracle, backends=("cupy",))


@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 8), (1, 9000)])
def test_norms(shape):
    rng = rng_of("norms", shape)
    C = shape[-1]
    x, residual, gain = (rng.standard_normal(s) for s in (shape, shape, (C,)))
    short = C < 1000  # the long rows, too long for registers, are compared with torch alone

    def norm(t, gain):
        return torch.nn.functional.rms_norm(t, (C,), gain, 0.1)

    def add(t, residual, gain):
        return norm(t + residual, gain), t + residual

    options = {"backends": ("cupy",), "differences": short}
    check_op(rms_norm, [x, gain], {"eps": 0.1}, oracle=norm, **options)
    check_op(add_rms_norm, [x, residual, gain], {"eps": 0.1}, oracle=add, **options)


@pytest.mark.parametrize("missing", [0, 1])
def test_add_rms_norm_with_one_gradient(monkeypatch, missing):
    monkeypatch.setattr(rms_module, "WALKERS", 1)  # which takes all rows in turns
    rng = rng_of("one gradient", missing)
    args = [rng.standard_normal(s) for s in ((9, 8), (9, 8), (8,))]
    dout = [rng.standard_normal((9, 8)), rng.standard_normal((9, 8))]
    dout[missing] = None
    results = []
    for name in ("numpy", "cupy"):
        with minillm.backend(name):
            _, cache = add_rms_norm(*args)
            results.append(add_rms_norm.backward(tuple(dout), cache))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-13)


@pytest.mark.parametrize("op", [add_layer_norm, add_rms_norm])
def test_upstream_gradients_that_start_in_between(op):
    """Long rows whose numbers do not start at 16 bytes, where those of the forward did."""
    rng, C = rng_of("in between"), 2304
    shapes = [(2, C), (2, C), (C,), (C,)][: 4 if op is add_layer_norm else 3]
    args = [rng.standard_normal(s).astype("f4") for s in shapes]
    dout = [rng.standard_normal(2 * C + 1).astype("f4")[1:].reshape(2, C) for _ in range(2)]
    assert any(d.ctypes.data % 16 for d in dout)
    results = []
    for name in ("numpy", "cupy"):
        with minillm.backend(name):
            _, cache = op(*args)
            results.append(op.backward(tuple(dout), cache))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-4, atol=1e-4)


def test_accesses(place):
    rng = rng_of("accesses")
    for shape in ((2, 33), (2, 1200)):
        x, dy, gain = (rng.standard_normal(s).astype("f4") for s in (shape, shape, shape[-1:]))
        assert findings(lambda: on_cupy(place, rms_norm, [x, gain], dy)) == []  # noqa: B023
    assert findings(lambda: on_cupy(place, gelu, [x], dy)) == []


@pytest.mark.parametrize(
    ("module", "op", "old", "new"),
    [
        (gelu_module, gelu, "weight + values.item[v] * slope", "weight"),
        (gelu_module, gelu, "3 * cubic", "2 * cubic"),
        (rms_module, rms_norm, "- normed[p].item[v] * b)", ")"),
        (rms_module, rms_norm, "dgain[p].item[v] += up * n;", "dgain[p].item[v] = up * n;"),
        (rms_module, rms_norm, "squares += held[p].item[v] * held[p].item[v]", "squares += 1"),
        (rms_module, rms_norm, "part += DOWN", "part += 2 * DOWN"),
    ],
)
def test_wrong_twins_are_refused(monkeypatch, tmp_path, module, op, old, new):
    if "DOWN" not in old and module is rms_module:
        monkeypatch.setattr(module, "WALKERS", 1)
    original = module.launch
    rung = module.VECTORISED if module is gelu_module else module.REGISTERS
    wrong = twin(rung, tmp_path, (old, new))
    monkeypatch.setattr(module, "launch", lambda _, *args, **kw: original(wrong, *args, **kw))
    rng = rng_of("twins", old)
    args = [rng.standard_normal((36, 8)), *([rng.standard_normal(8)] if op is rms_norm else [])]
    kwargs = {"approximate": "tanh"} if op is gelu else {}
    with minillm.backend("cupy"), first_failure_only():
        assert gradcheck.check_op(op, args, kwargs).verdict == "fail"


def test_errors():
    x = np.zeros((2, 8), np.float32)
    with minillm.backend("cupy"):
        with pytest.raises(ValueError, match="approximate must be 'none' or 'tanh', got 'erf'"):
            gelu(x, approximate="erf")
        with pytest.raises(ValueError, match=r"gain must have shape \(8,\), got \(7,\)"):
            rms_norm(x, x[0, 1:])
        with pytest.raises(ValueError, match=r"residual must have shape \(2, 8\), got \(1, 8\)"):
            add_rms_norm(x, x[:1], x[0])
        assert gelu(x[:0])[0].shape == (0, 8)
        y, cache = rms_norm(x[:0], x[0])
        dx, dgain = rms_norm.backward(y, cache)
    assert dx.shape == (0, 8)
    assert (dgain == 0).all()


def test_kernels_are_not_given_what_they_would_misread():
    """The op refuses most of it beforehand; an array on another GPU only its kernels can."""
    x = np.zeros((2, 8), np.float32)
    wide, other = x.astype(np.float64), FakeArray((2, 8))
    cases = [
        (gelu_module.gelu, gelu_module.gelu_backward, [x]),
        (rms_module.rms_norm, rms_module.rms_norm_backward, [x, x[0]]),
    ]
    for forward, backward, args in cases:
        with pytest.raises(ValueError, match="x must be float32 or float64, got float16"):
            forward(*(a.astype(np.float16) for a in args))
        _, cache = forward(*args)
        with pytest.raises(ValueError, match="dy must be float32, got float64"):
            backward(wide, cache)
    with pytest.raises(ValueError, match=r"on the CPU \(NumPy\), got one on GPU 0 \(CuPy\)"):
        gelu_module.gelu_backward(other, gelu_module.gelu(x)[1])
    with pytest.raises(ValueError, match="gain must be float32, got float64"):
        rms_module.forward(x, wide[0], 0.1)
    with pytest.raises(ValueError, match="residual must be an array on the CPU"):
        rms_module.forward(x, x[0], 0.1, residual=other)


def test_an_array_in_the_computers_memory_is_refused_on_a_gpu(monkeypatch):
    x = np.zeros((2, 8), np.float32)
    with minillm.backend("cupy"):
        monkeypatch.setenv("MINILLM_EMULATE", "0")
        with pytest.raises(ValueError, match=r"gelu: x is a NumPy array.*cupy\.asarray"):
            gelu(x)
        with pytest.raises(ValueError, match=r"rms_norm: x is a NumPy array.*cupy\.asarray"):
            rms_norm(x, x[0])
