"""The softmax ladder: every rung against float64 and torch, on the emulator or a GPU."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm import gradcheck
from minillm.ops import softmax
from minillm_kernels.cuda import softmax as ladder
from minillm_kernels.cuda._rows import launch
from minillm_kernels.cuda.softmax import BLOCK, ONLINE, REGISTERS, RUNGS, THREAD, WARP
from minillm_kernels.emulator import EmulatorError
from tests.gradcheck.quick import first_failure_only
from tests.kernels.cuda.rows import assert_as_good, budget, findings, rows, twin, widths
from tests.kernels.harness import quantised
from tests.ops.harness import check_op, rng_of

every_rung = pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)


def forward_backward(rung, x, dy):
    y = ladder.forward(rung, x)
    return y, ladder.backward(rung, y, dy)


def draw(N, C, seed, scale=1.0):
    rng = rng_of("softmax", N, C, seed)
    return quantised(rng, (N, C), scale=scale)[0], quantised(rng, (N, C))[0]


@every_rung
def test_rung(place, rung):
    @budget(place)
    @given(
        N=rows(place),
        C=widths(place, 16384 if rung is REGISTERS else 10**9),
        scale=st.sampled_from([1.0, 30.0]),
        seed=st.integers(0, 99),
    )
    def run(N, C, scale, seed):
        if rung is REGISTERS and C > 4096 and C % 4:
            C -= C % 4  # else too long for the registers, which the error's own test tries
        x, dy = draw(N, C, seed, scale)
        ours = forward_backward(rung, place.array(x), place.array(dy))
        names = ("y", "dx")
        assert_as_good(place, lambda t: t.softmax(-1), ours, [x], dy, names, f"{rung} {x.shape}")

    run()


@every_rung
def test_rung_in_float64(rung):
    x, dy = (a.astype(np.float64) for a in draw(5, 36, 1))
    y, dx = forward_backward(rung, x, dy)
    with minillm.backend("numpy"):
        truth, cache = softmax(x)
        dtruth = softmax.backward(dy, cache)
    np.testing.assert_allclose(y, truth, rtol=1e-14)
    np.testing.assert_allclose(dx, dtruth, rtol=1e-13, atol=1e-16)

    def forward(x):
        y = ladder.forward(rung, x)
        return y, y

    report = gradcheck.check_vjp(forward, lambda dy, y: ladder.backward(rung, y, dy), [x])
    assert report.passed, str(report)


@every_rung
@pytest.mark.parametrize("C", [5, 32, 1030])
def test_masked_rows_and_large_scores(place, rung, C):
    rng = rng_of("masked", C)
    x = rng.standard_normal((6, C)).astype(np.float32)
    x[0] = -np.inf  # nothing may be looked at
    x[1, : C // 2 + 1] = -np.inf
    x[2] += 30000
    x[3] = 1e38  # a sum of the scores would overflow
    x[4, 0] = 3e38
    x[5] -= 30000
    dy = rng.standard_normal(x.shape).astype(np.float32)
    y, dx = (place.numpy(a) for a in forward_backward(rung, place.array(x), place.array(dy)))
    assert (y[0] == 0).all()
    assert (dx[0] == 0).all()
    with minillm.backend("numpy"):
        truth, cache = softmax(x.astype(np.float64))
        dtruth = softmax.backward(dy.astype(np.float64), cache)
    np.testing.assert_allclose(y, truth, rtol=1e-5, atol=1e-7)
    np.testing.assert_allclose(dx, dtruth, rtol=1e-5, atol=1e-6)


@every_rung
def test_no_number_stays_none(rung):
    x = np.zeros((3, 40), np.float32)
    x[1, 7], x[2, 9] = np.nan, np.inf
    y = ladder.forward(rung, x)
    np.testing.assert_allclose(y[0], 1 / 40)
    assert np.isnan(y[1]).all()
    assert np.isnan(y[2, 9])


@every_rung
@pytest.mark.parametrize("shape", [(2, 33), (1, 1030)])
def test_accesses(rung, shape):
    """No race, nothing out of bounds, nothing read before it is written."""
    x, dy = draw(*shape, 0)
    assert findings(lambda: forward_backward(rung, x, dy)) == []


def run_twin(wrong, rung, x):
    y = np.empty_like(x)
    launch(wrong, "softmax_forward", ladder.layout(rung, x, y), x, x, y, *x.shape)
    return y


@pytest.mark.parametrize(
    ("rung", "old", "new"),
    [
        (THREAD, "exp(x[c] - largest) * share", "exp(x[c] - largest)"),
        (THREAD, "int c = 1; c < columns", "int c = 1; c < columns - 1"),
        (BLOCK, "half = blockDim.x / 2; half > 0", "half = blockDim.x / 2; half > 1"),
        (WARP, "if (blockDim.x == 32) return value;", "return value;"),
        (REGISTERS, "columns, Largest::nothing());", "columns, 0);"),
        (ONLINE, "seen.total *= weight(seen.largest, largest);", ""),
        (ONLINE, "a.total * weight(a.largest, largest)", "a.total"),
    ],
)
def test_wrong_twins_are_refused(place, tmp_path, rung, old, new):
    if place.name == "gpu":
        pytest.skip("a broken kernel may hang a GPU")
    x, _ = draw(3, 5000, 3)  # several packs a thread, and fewer than the registers hold
    x[1, -1] = 100  # overflows unless it is seen to be the largest
    wrong = run_twin(twin(rung, tmp_path, (old, new)), rung, x)
    right = run_twin(rung, rung, x)
    truth = torch.from_numpy(x).double().softmax(-1).numpy()
    np.testing.assert_allclose(right, truth, rtol=1e-4, atol=1e-12)
    assert not np.allclose(wrong, truth, rtol=1e-3, atol=1e-12)


@pytest.mark.parametrize(
    ("rung", "old", "new"),
    [
        (THREAD, "(dy[c] - (REAL)total)", "dy[c]"),
        (REGISTERS, "upstream[p].item[v] - total", "upstream[p].item[v]"),
        (ONLINE, "above.item[v] - total", "above.item[v] + total"),
    ],
)
def test_wrong_backwards_are_refused(tmp_path, rung, old, new):
    wrong = twin(rung, tmp_path, (old, new))
    x = draw(3, 34, 5)[0].astype(np.float64)

    def forward(x):
        y = ladder.forward(rung, x)
        return y, y

    def backward(dy, y):
        dx = np.empty_like(y)
        plan = ladder.layout(rung, y, dy, dx)
        launch(wrong, "softmax_backward", plan, y, y, dy, dx, *y.shape)
        return dx

    with first_failure_only():
        assert gradcheck.check_vjp(forward, backward, [x]).verdict == "fail"


@pytest.mark.parametrize("rung", [BLOCK, WARP, ONLINE], ids=lambda rung: rung.name)
def test_a_missing_barrier_is_found(tmp_path, rung):
    wrong = twin(rung, tmp_path, ("__syncthreads();", ""))
    x, _ = draw(1, 1030, 0)
    found = findings(lambda: run_twin(wrong, rung, x))
    assert any(finding.kind in ("race", "uninitialised shared memory") for finding in found)


def test_an_early_return_before_a_barrier_is_found(tmp_path):
    wrong = twin(
        BLOCK, tmp_path, ("    REAL largest = ", "if (threadIdx.x == 5) return;\nREAL largest = ")
    )
    x, _ = draw(1, 40, 0)
    with pytest.raises(EmulatorError, match="barrier"):
        run_twin(wrong, BLOCK, x)


@pytest.mark.parametrize(
    ("shape", "axis"), [((3, 4, 5), -1), ((3, 4, 5), 0), ((2, 6), 1), ((1, 1), 0)]
)
def test_op(shape, axis):
    x = rng_of("op", shape, axis).standard_normal(shape)
    zero = ["x"] if shape[axis] == 1 else []
    check_op(
        softmax,
        [x],
        {"axis": axis},
        oracle=lambda t: t.softmax(axis),
        allow_zero=zero,
        backends=("cupy",),
    )


def test_op_takes_rows_of_any_length():
    for C in (300, 20000):
        x = rng_of("long", C).standard_normal((2, C)).astype(np.float32)
        with minillm.backend("cupy"):
            y, cache = softmax(x)
            dx = softmax.backward(x, cache)
        truth = torch.from_numpy(x).double().softmax(-1).numpy()
        np.testing.assert_allclose(y, truth, rtol=1e-5)
        np.testing.assert_allclose(
            dx, truth * (x - (x * truth).sum(-1, keepdims=True)), rtol=1e-4, atol=1e-8
        )


def test_no_rows():
    with minillm.backend("cupy"):
        y, cache = softmax(np.zeros((0, 4)))
        dx = softmax.backward(np.zeros((0, 4)), cache)
    assert y.shape == dx.shape == (0, 4)


def test_errors():
    x = np.zeros((2, 8), np.float32)
    for message, call in {
        r"x must be float32 or float64, got float16": lambda: ladder.forward(WARP, x.astype("f2")),
        r"x must have shape \(any, any\), got \(8,\)": lambda: ladder.forward(WARP, x[0]),
        r"x must be C-contiguous, got strides": lambda: ladder.forward(WARP, x[:, ::2]),
        r"dy must be float32, got float64": lambda: ladder.backward(WARP, x, x.astype("f8")),
        r"dy must have shape \(2, 8\), got \(1, 8\)": lambda: ladder.backward(WARP, x, x[:1]),
        r"rows of 30000 numbers: too long for the registers of softmax 04_registers": (
            lambda: ladder.forward(REGISTERS, np.zeros((1, 30000), np.float32))
        ),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    with minillm.backend("cupy"), pytest.raises(ValueError, match="rows of at least one number"):
        softmax(np.zeros((2, 0)))


def test_an_array_in_the_computers_memory_is_refused_on_a_gpu(monkeypatch):
    with minillm.backend("cupy"):
        monkeypatch.setenv("MINILLM_EMULATE", "0")
        with pytest.raises(ValueError, match=r"softmax: x is a NumPy array.*cupy\.asarray"):
            softmax(np.zeros((2, 3)))
