"""The cross-entropy ladder and its op: every rung against float64 and torch."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import minillm
from minillm import gradcheck
from minillm.ops import cross_entropy
from minillm_kernels.cuda import cross_entropy as ladder
from minillm_kernels.cuda.cross_entropy import BLOCK, ONLINE, RUNGS, THREAD, WARP
from tests.gradcheck.quick import first_failure_only
from tests.kernels.cuda.rows import assert_as_good, budget, findings, rows, twin, widths
from tests.kernels.harness import quantised
from tests.ops.harness import check_op, rng_of

every_rung = pytest.mark.parametrize("rung", RUNGS, ids=lambda rung: rung.name)
IGNORED = -100


def draw(N, V, seed, scale=1.0, ignored=True):
    """Logits and targets; about a third of the rows, but not the first, does not count."""
    rng = rng_of("cross_entropy", N, V, seed)
    targets = rng.integers(0, V, N)
    if ignored:
        targets[1:][rng.random(N - 1) < 0.3] = IGNORED
    return quantised(rng, (N, V), scale=scale)[0], targets


def forward_backward(rung, logits, targets, dloss, **options):
    loss, saved = ladder.forward(rung, logits, targets, **options)
    return loss, ladder.backward(rung, dloss, saved)


@every_rung
def test_rung(place, rung):
    @budget(place)
    @given(
        N=rows(place),
        V=widths(place),
        scale=st.sampled_from([1.0, 30.0]),
        smoothing=st.sampled_from([0.0, 0.1, 1.0]),
        seed=st.integers(0, 99),
    )
    def run(N, V, scale, smoothing, seed):
        V = max(V, 2)  # one class alone: no loss and no gradient, nothing to divide an error by
        logits, targets = draw(min(N, 2**27 // V), V, seed, scale)
        there = [place.array(a) for a in (logits, targets, np.array([1.7], np.float32))]
        ours = forward_backward(rung, *there, label_smoothing=smoothing)
        wanted = place.tensor(targets)

        def vendor(x):
            return torch.nn.functional.cross_entropy(x, wanted, label_smoothing=smoothing)

        what = f"{rung} {logits.shape} {smoothing}"
        assert_as_good(place, vendor, ours, [logits], np.float32(1.7), ("loss", "dlogits"), what)

    run()


@every_rung
@pytest.mark.parametrize("smoothing", [0.0, 0.2])
def test_rung_in_float64(rung, smoothing):
    logits, targets = draw(6, 36, 1)
    logits, options = logits.astype(np.float64), {"label_smoothing": smoothing}
    loss, dlogits = forward_backward(rung, logits, targets, np.array([0.3]), **options)
    with minillm.backend("numpy"):
        truth, cache = cross_entropy(logits, targets=targets, **options)
        dtruth = cross_entropy.backward(0.3, cache)
    np.testing.assert_allclose(loss[0], truth, rtol=1e-13)
    np.testing.assert_allclose(dlogits, dtruth, rtol=1e-12, atol=1e-15)
    report = gradcheck.check_vjp(
        lambda x: ladder.forward(rung, x, targets, **options),
        lambda dloss, saved: ladder.backward(rung, dloss, saved),
        [logits],
        names=["logits"],
    )
    assert report.passed, str(report)


@every_rung
@pytest.mark.parametrize("V", [5, 32, 1030])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_large_logits(place, rung, V, smoothing):
    """Logits far from zero lose no digits: the largest is taken off before the logarithm is."""
    logits, targets = draw(4, V, 3, 3.0, ignored=False)
    logits[0] += 30000
    logits[1] -= 30000
    logits[2, 0] = 3e4
    there = [place.array(a) for a in (logits, targets, np.ones(1, np.float32))]
    loss, dlogits = forward_backward(rung, *there, label_smoothing=smoothing)
    with minillm.backend("numpy"):
        truth, cache = cross_entropy(
            logits.astype(np.float64), targets=targets, label_smoothing=smoothing
        )
        dtruth = cross_entropy.backward(1.0, cache)
    np.testing.assert_allclose(place.numpy(loss)[0], truth, rtol=1e-5)
    np.testing.assert_allclose(place.numpy(dlogits), dtruth, rtol=1e-4, atol=1e-7)


@every_rung
def test_masked_logits(rung):
    """-inf leaves a class out; a row of nothing else has no finite loss, but no NaN in it."""
    logits, targets = draw(5, 40, 2, ignored=False)
    logits[:, 3:] = -np.inf
    targets[:] = (0, 1, 2, 0, 1)
    loss, dlogits = forward_backward(rung, logits, targets, np.ones(1, np.float32))
    with minillm.backend("numpy"):
        truth, cache = cross_entropy(logits.astype(np.float64), targets=targets)
        dtruth = cross_entropy.backward(1.0, cache)
    np.testing.assert_allclose(loss[0], truth, rtol=1e-6)
    np.testing.assert_allclose(dlogits, dtruth, rtol=1e-5, atol=1e-7)
    logits[0] = -np.inf
    loss, dlogits = forward_backward(rung, logits, targets, np.ones(1, np.float32))
    assert loss[0] == np.inf
    assert np.isfinite(dlogits).all()


@every_rung
def test_what_does_not_count(rung):
    """No row counts: no loss, no gradient. What stands in a row that does not count is unread."""
    logits, _ = draw(3, 7, 0)
    logits[0] = np.nan
    one = np.ones(1, np.float32)
    loss, dlogits = forward_backward(rung, logits, np.full(3, 4), one, ignore_index=4)
    assert loss[0] == 0
    assert (dlogits == 0).all()
    loss, dlogits = forward_backward(rung, logits, np.array([4, 1, 2]), one, ignore_index=4)
    assert np.isfinite(loss[0])
    assert (dlogits[0] == 0).all()
    assert np.isfinite(dlogits).all()


@every_rung
@pytest.mark.parametrize("target", [-1, 7, 2**40])
def test_a_target_that_is_no_class_does_not_pass_unseen(rung, target):
    logits, _ = draw(3, 7, 0)
    targets = np.array([1, target, 2])
    found = []

    def run():
        found.extend(forward_backward(rung, logits, targets, np.ones(1, np.float32)))

    assert findings(run) == []  # it is not read either
    loss, dlogits = found
    assert np.isnan(loss[0])
    assert np.isnan(dlogits[1]).all()
    assert np.isfinite(dlogits[[0, 2]]).all()


@every_rung
@pytest.mark.parametrize("shape", [(6, 33), (2, 1030)])
def test_accesses(rung, shape):
    """No race, nothing out of bounds, nothing read before it is written."""
    logits, targets = draw(*shape, 0)
    one = np.ones(1, np.float32)
    run = findings(lambda: forward_backward(rung, logits, targets, one, label_smoothing=0.1))
    assert run == []


@pytest.mark.parametrize(
    ("rung", "old", "new"),
    [
        (THREAD, "log_total - (scores[target] - largest)", "-(scores[target] - largest)"),
        (BLOCK, "+ smoothing * (log_total - mean_below)", ""),
        (WARP, "counted += targets[row] != ignore_index", "counted += 1"),
        (ONLINE, "seen.total *= weight(seen.largest, largest);", ""),
    ],
)
def test_wrong_forwards_are_refused(monkeypatch, tmp_path, rung, old, new):
    logits, targets = draw(5, 5000, 4)
    targets[1] = IGNORED
    options = {"label_smoothing": 0.3}
    right, _ = ladder.forward(rung, logits, targets, **options)
    use_twin(monkeypatch, twin(rung, tmp_path, (old, new)))
    wrong, _ = ladder.forward(rung, logits, targets, **options)
    with minillm.backend("numpy"):
        truth, _ = cross_entropy(logits.astype(np.float64), targets=targets, **options)
    np.testing.assert_allclose(right[0], truth, rtol=1e-6)
    assert not np.isclose(wrong[0], truth, rtol=1e-4)


@pytest.mark.parametrize(
    ("rung", "old", "new"),
    [
        (THREAD, "? 1 - smoothing : 0) + smoothing / columns", "? 1 : 0)"),
        (BLOCK, "return dloss / count", "return dloss"),
        (WARP, "scale * (prob - wanted)", "scale * prob"),
        (ONLINE, "c * VECTOR + v == target", "c * VECTOR == target"),
        (ONLINE, "if (target == ignore_index) return 0;", ""),
    ],
)
def test_wrong_backwards_are_refused(monkeypatch, tmp_path, rung, old, new):
    logits, targets = draw(6, 36, 4)
    targets[:4] = (3, IGNORED, 7, 10)
    use_twin(monkeypatch, twin(rung, tmp_path, (old, new)))
    with first_failure_only():
        report = gradcheck.check_vjp(
            lambda x: ladder.forward(rung, x, targets, label_smoothing=0.2),
            lambda dloss, saved: ladder.backward(rung, dloss, saved),
            [logits.astype(np.float64)],
            names=["logits"],
        )
    assert report.verdict == "fail"


def use_twin(monkeypatch, wrong):
    """From here on the launcher's kernels are the twin's."""
    original = ladder.launch
    monkeypatch.setattr(ladder, "launch", lambda _, *args, **kw: original(wrong, *args, **kw))


@pytest.mark.parametrize("rung", [BLOCK, ONLINE], ids=lambda rung: rung.name)
def test_a_missing_barrier_is_found(monkeypatch, tmp_path, rung):
    use_twin(monkeypatch, twin(rung, tmp_path, ("__syncthreads();", "")))
    logits, targets = draw(1, 1030, 0)
    found = findings(lambda: ladder.forward(rung, logits, targets))
    assert any(finding.kind in ("race", "uninitialised shared memory") for finding in found)


@pytest.mark.parametrize("shape", [(2, 3, 5), (4, 8)])
@pytest.mark.parametrize("dtype", [np.int64, np.uint8])
def test_op(shape, dtype):
    rng = rng_of("op", shape)
    targets = rng.integers(0, shape[-1], shape[:-1]).astype(dtype)
    targets.reshape(-1)[1] = 0
    wanted = torch.from_numpy(targets.astype(np.int64).reshape(-1))
    options = {"ignore_index": 0, "label_smoothing": 0.1}

    def oracle(x):
        return torch.nn.functional.cross_entropy(x.reshape(-1, shape[-1]), wanted, **options)

    args = [rng.standard_normal(shape)]
    check_op(
        cross_entropy, args, {"targets": targets, **options}, oracle=oracle, backends=("cupy",)
    )


def test_no_rows():
    with minillm.backend("cupy"):
        loss, cache = cross_entropy(np.zeros((0, 4)), targets=np.zeros(0, int))
        assert loss == 0
        assert cross_entropy.backward(1.0, cache).shape == (0, 4)


def test_errors(monkeypatch):
    logits, targets = draw(2, 8, 0)
    for message, call in {
        r"targets must be int64, got int32": lambda: ladder.forward(
            WARP, logits, targets.astype("i4")
        ),
        r"targets must have shape \(2,\), got \(1,\)": lambda: ladder.forward(
            WARP, logits, targets[:1]
        ),
        r"logits must be C-contiguous": lambda: ladder.forward(WARP, logits[:, ::2], targets),
        r"dloss must have shape \(1,\), got \(2,\)": lambda: ladder.backward(
            WARP, np.ones(2, np.float32), ladder.forward(WARP, logits, targets)[1]
        ),
    }.items():
        with pytest.raises(ValueError, match=message):
            call()
    with minillm.backend("cupy"):
        for message, kwargs in {
            r"targets must have shape \(2,\), got \(3,\)": {"targets": np.zeros(3, int)},
            r"targets must be an array of integers, got dtype float64": {"targets": np.zeros(2)},
            r"label_smoothing must be between 0 and 1": {"targets": targets, "label_smoothing": 2},
        }.items():
            with pytest.raises(ValueError, match=message):
                cross_entropy(logits, **kwargs)
        monkeypatch.setenv("MINILLM_EMULATE", "0")
        with pytest.raises(
            ValueError, match=r"cross_entropy: logits is a NumPy array.*cupy\.asarray"
        ):
            cross_entropy(logits, targets=targets)
