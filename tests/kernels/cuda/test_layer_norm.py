"""The layer norm ladder and its ops: every rung against float64 and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm import gradcheck
from minillm.ops import add_layer_norm, layer_norm
from minillm_kernels.cuda import layer_norm as ladder
from minillm_kernels.cuda._rows import Layout
from minillm_kernels.cuda.layer_norm import BLOCK, REGISTERS, RUNGS, THREAD, WARP
from tests.gradcheck.quick import first_failure_only
from tests.kernels.cuda.rows import assert_as_good, budget, findings, rows, twin, widths
from tests.kernels.harness import quantised
from tests.ops.harness import check_op, rng_of

every_rung = pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
NAMES = ("y", "dx", "dgain", "dbias")


def draw(N, C, seed, offset=0.0):
    """x, gain, bias, dy in float32."""
    rng = rng_of("layer_norm", N, C, seed)
    x, gain, bias, dy = (quantised(rng, shape)[0] for shape in ((N, C), (C,), (C,), (N, C)))
    return x + np.float32(offset), gain, bias, dy


def forward_backward(rung, x, gain, bias, dy):
    y, saved = ladder.forward(rung, x, gain, bias)
    return y, *ladder.backward(rung, dy, saved)


@every_rung
def test_rung(place, rung):
    @budget(place)
    @given(
        N=rows(place),
        C=widths(place, 8192 if rung is REGISTERS else 10**9),
        offset=st.sampled_from([0.0, 5.0]),
        seed=st.integers(0, 99),
    )
    def run(N, C, offset, seed):
        C = max(C, 2)  # a row of one number is its own mean: all noise, see the test of such rows
        if rung is REGISTERS and C > 2048:
            C -= C % 4  # else too long for the registers
        *args, dy = draw(N, C, seed, offset)
        ours = forward_backward(rung, *(place.array(a) for a in (*args, dy)))

        def vendor(x, gain, bias):
            return torch.nn.functional.layer_norm(x, (C,), gain, bias)

        assert_as_good(place, vendor, ours, args, dy, NAMES, f"{rung} {(N, C)}")

    run()


def wide(arrays):
    return [a.astype(np.float64) for a in arrays]


@every_rung
def test_rung_in_float64(rung):
    *args, dy = wide(draw(9, 36, 1))
    ours = forward_backward(rung, *args, dy)
    with minillm.backend("numpy"):
        y, cache = layer_norm(*args)
        truth = (y, *layer_norm.backward(dy, cache))
    for name, a, b in zip(NAMES, ours, truth, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-13, err_msg=name)

    report = gradcheck.check_vjp(
        lambda *args: ladder.forward(rung, *args),
        lambda dy, saved: ladder.backward(rung, dy, saved),
        args,
        names=["x", "gain", "bias"],
    )
    assert report.passed, str(report)


@every_rung
@pytest.mark.parametrize("C", [1, 32, 1030])
def test_constant_rows_stay_finite(place, rung, C):
    x, gain, bias, dy = draw(4, C, 2)
    x[:2] = 7
    results = forward_backward(rung, *(place.array(a) for a in (x, gain, bias, dy)))
    y, *grads = (place.numpy(a) for a in results)
    np.testing.assert_allclose(y[:2], np.tile(bias, (2, 1)), atol=1e-3)
    assert all(np.isfinite(grad).all() for grad in grads)


@every_rung
def test_repetitions_agree_to_the_last_bit(place, rung):
    """Sums over rows are taken in an order of their own, not in that of arrival."""
    arrays = [place.array(a) for a in draw(place.size(70, 5000), 128, 4)]
    first, second = (forward_backward(rung, *arrays) for _ in range(2))
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(place.numpy(a), place.numpy(b))


@pytest.mark.parametrize("rung", [BLOCK, WARP, REGISTERS], ids=lambda rung: rung.name)
def test_few_take_many_rows_in_turns(monkeypatch, rung):
    """More rows than those who add them up can take at once."""
    monkeypatch.setattr(ladder, "WALKERS", 2)
    monkeypatch.setattr(ladder, "PARTS", 2)
    for C in (32, 1200):  # four warps a block; one row a block
        x, gain, bias, dy = wide(draw(39, C, 5))
        ours = forward_backward(rung, x, gain, bias, dy)
        with minillm.backend("numpy"):
            y, cache = layer_norm(x, gain, bias)
            truth = (y, *layer_norm.backward(dy, cache))
        for name, a, b in zip(NAMES, ours, truth, strict=True):
            np.testing.assert_allclose(a, b, rtol=1e-11, atol=1e-12, err_msg=name)


@every_rung
@pytest.mark.parametrize("shape", [(9, 33), (2, 1030)])
def test_accesses(rung, shape):
    """No race, nothing out of bounds, nothing read before it is written."""
    arrays = draw(*shape, 0)
    assert findings(lambda: forward_backward(rung, *arrays)) == []


def check(rung, change, folder):
    wrong = twin(rung, folder, change)
    *args, _ = wide(draw(9, 36, 5))
    with first_failure_only():
        return gradcheck.check_vjp(
            lambda *args: ladder.forward(rung, *args),
            lambda dy, saved: run_backward(rung, wrong, dy, saved),
            args,
            names=["x", "gain", "bias"],
        )


def run_backward(rung, wrong, dy, saved):
    """The backward with its kernels from the twin: the launchers know the registry's rungs."""
    original = ladder.launch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "launch", lambda _, *args, **kw: original(wrong, *args, **kw))
        return ladder.backward(rung, dy, saved)


@pytest.mark.parametrize(
    ("rung", "old", "new"),
    [
        (THREAD, "row < rows; ++row", "row < rows - 1; ++row"),
        (BLOCK, "row += gridDim.y * DOWN", "row += 2 * gridDim.y * DOWN"),
        (WARP, "const REAL dnormed = dy[c] * gain[c]", "const REAL dnormed = dy[c]"),
        (REGISTERS, "dbias[p].item[v] += up;", "dbias[p].item[v] = up;"),
        (REGISTERS, "- a - normed[p].item[v] * b", "- a"),
        (REGISTERS, "part += DOWN", "part += 2 * DOWN"),
    ],
)
def test_wrong_backwards_are_refused(monkeypatch, tmp_path, rung, old, new):
    if "part" not in old:  # so few that each has several rows
        monkeypatch.setattr(ladder, "WALKERS", 1)
        monkeypatch.setattr(ladder, "PARTS", 1)
    assert check(rung, (old, new), tmp_path).verdict == "fail"


@pytest.mark.parametrize(
    ("rung", "old", "new"),
    [
        (THREAD, "squares / columns + eps", "squares / columns"),
        (BLOCK, "squares += (x[c] - m) * (x[c] - m)", "squares += x[c] * x[c]"),
        (WARP, "* gain[c] + bias[c]", "* gain[c]"),
        (REGISTERS, "inside ? held[p].item[v] - m : 0", "held[p].item[v] - m"),
    ],
)
def test_wrong_forwards_are_refused(tmp_path, rung, old, new):
    x, gain, bias, _ = wide(draw(3, 36, 3))
    x *= 1e-3  # where eps counts
    wrong = twin(rung, tmp_path, (old, new))
    original = ladder.launch
    right, _ = ladder.forward(rung, x, gain, bias)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "launch", lambda _, *args, **kw: original(wrong, *args, **kw))
        y, _ = ladder.forward(rung, x, gain, bias)
    with minillm.backend("numpy"):
        truth, _ = layer_norm(x, gain, bias)
    np.testing.assert_allclose(right, truth, rtol=1e-11, atol=1e-12)
    assert not np.allclose(y, truth, rtol=1e-4)


@pytest.mark.parametrize("rung", [BLOCK, REGISTERS], ids=lambda rung: rung.name)
def test_a_missing_barrier_is_found(tmp_path, rung):
    wrong = twin(rung, tmp_path, ("__syncthreads();", ""))
    x, gain, bias, _ = draw(1, 1030, 0)
    original = ladder.launch
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ladder, "launch", lambda _, *args, **kw: original(wrong, *args, **kw))
        found = findings(lambda: ladder.forward(rung, x, gain, bias))
    assert any(finding.kind in ("race", "uninitialised shared memory") for finding in found)


@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 8), (1, 1)])
def test_op(shape):
    rng = rng_of("op", shape)
    C = shape[-1]
    args = [rng.standard_normal(s) for s in (shape, (C,), (C,))]
    check_op(
        layer_norm,
        args,
        {"eps": 0.1},
        oracle=lambda x, gain, bias: torch.nn.functional.layer_norm(x, (C,), gain, bias, 0.1),
        backends=("cupy",),
    )


@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 8), (1, 9000)])
def test_add_layer_norm(shape):
    rng = rng_of("add", shape)
    C = shape[-1]
    args = [rng.standard_normal(s) for s in (shape, shape, (C,), (C,))]

    def oracle(x, residual, gain, bias):
        total = x + residual
        return torch.nn.functional.layer_norm(total, (C,), gain, bias), total

    quick = C > 1000  # the long rows, too long for registers, are compared with torch alone
    check_op(add_layer_norm, args, oracle=oracle, backends=("cupy",), differences=not quick)


@pytest.mark.parametrize("missing", [0, 1])
def test_add_layer_norm_with_one_gradient(missing):
    rng = rng_of("one gradient", missing)
    args = [rng.standard_normal(s) for s in ((3, 8), (3, 8), (8,), (8,))]
    dout = [rng.standard_normal((3, 8)), rng.standard_normal((3, 8))]
    dout[missing] = None
    results = []
    for name in ("numpy", "cupy"):
        with minillm.backend(name):
            _, cache = add_layer_norm(*args)
            results.append(add_layer_norm.backward(tuple(dout), cache))
    for a, b in zip(*results, strict=True):
        np.testing.assert_allclose(b, a, rtol=1e-12, atol=1e-13)


def test_no_rows():
    with minillm.backend("cupy"):
        y, cache = layer_norm(np.zeros((0, 4)), np.ones(4), np.ones(4))
        dx, dgain, dbias = layer_norm.backward(y, cache)
    assert y.shape == dx.shape == (0, 4)
    assert (dgain == 0).all()
    assert (dbias == 0).all()


def test_rows_too_long_for_registers():
    assert Layout.registers(1, 512 * 4 * 4, np.zeros(1, np.float32), pieces=4) is not None
    assert Layout.registers(1, 512 * 4 * 4 + 4, np.zeros(1, np.float32), pieces=4) is None
    x, gain, bias, _ = draw(1, 9000, 0)
    with pytest.raises(ValueError, match="9000 numbers: too long for the registers of layer_norm"):
        ladder.forward(REGISTERS, x, gain, bias)
    assert ladder.best_rung(x, gain, bias) is WARP


def test_errors():
    x, gain, bias, dy = draw(2, 8, 0)
    x2, bias8 = x.astype("f2"), bias.astype("f8")
    _, saved = ladder.forward(WARP, x, gain, bias)
    for message, call in {
        r"x must be float32 or float64, got float16": lambda: ladder.forward(WARP, x2, gain, bias),
        r"gain must have shape \(8,\), got \(7,\)": lambda: ladder.forward(WARP, x, gain[1:], bias),
        r"bias must be float32, got float64": lambda: ladder.forward(WARP, x, gain, bias8),
        r"residual must be None for layer_norm 03_warp": (
            lambda: ladder.forward(WARP, x, gain, bias, residual=x)
        ),
        r"residual must have shape \(2, 8\), got \(1, 8\)": (
            lambda: ladder.forward(REGISTERS, x, gain, bias, residual=x[:1])
        ),
        r"dy must be C-contiguous": lambda: ladder.backward(WARP, dy[::-1], saved),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    with minillm.backend("cupy"), pytest.raises(ValueError, match="gain must have shape"):
        layer_norm(x, gain[1:], bias)


def test_an_array_in_the_computers_memory_is_refused_on_a_gpu(monkeypatch):
    with minillm.backend("cupy"):
        monkeypatch.setenv("MINILLM_EMULATE", "0")
        with pytest.raises(ValueError, match=r"layer_norm: x is a NumPy array.*cupy\.asarray"):
            layer_norm(np.zeros((2, 3)), np.ones(3), np.ones(3))
