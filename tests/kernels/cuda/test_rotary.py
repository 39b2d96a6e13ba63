"""The op rotary of the backend "cupy" against its reference, on the emulator or a GPU."""

import os

os.environ.setdefault("MINILLM_EMULATE", "1")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm import gradcheck
from minillm.ops import rotary
from minillm.ops._state import Registry
from minillm_kernels import backend_cupy  # noqa: F401  (all its pairs register)
from minillm_kernels.cuda import flash_attention as place_of
from minillm_kernels.emulator import checking
from tests.kernels.harness import epsilon
from tests.ops.harness import strided


def test_rotary(place):
    @settings(max_examples=10, deadline=None, derandomize=True, database=None)
    @given(
        shape=st.tuples(st.integers(1, 3), st.integers(1, 3), st.integers(1, 40)),
        half=st.integers(1, 33),
        layout=st.sampled_from([np.copy, strided]),
        late=st.booleans(),
        seed=st.integers(0, 99),
    )
    def run(shape, half, layout, late, seed):
        rng = np.random.default_rng(seed)
        x, dy = (layout(rng.standard_normal((*shape, 2 * half))) for _ in range(2))
        options = {"positions": rng.integers(0, 500, shape[2]) if late else None, "base": 50.0}
        with minillm.backend("numpy"):
            y, cache = rotary(x, **options)
            dx = rotary.backward(dy, cache)
        with minillm.backend("cupy"):
            got, cache = rotary(place.array(x.astype(np.float32)), **options)
            back = rotary.backward(place.array(dy.astype(np.float32)), cache)
        for ours, truth in ((got, y), (back, dx)):
            assert ours.dtype == np.float32
            limit = 4 * epsilon("float32") * np.abs(truth).max()
            np.testing.assert_allclose(place.numpy(ours), truth, rtol=0, atol=limit)

    run()


def test_it_is_registered():
    assert "cupy" in Registry.ops["rotary"]


def test_gradient_checker():
    with minillm.backend("cupy"):
        report = gradcheck.check_op(rotary, [(2, 1, 3, 4)], {"positions": np.array([4, 0, 7])})
    assert report.passed, report


def test_no_races_nor_reads_out_of_bounds():
    x = np.random.default_rng(0).standard_normal((2, 1, 5, 6)).astype(np.float32)
    with minillm.backend("cupy"), checking() as report:
        y, cache = rotary(x)
        rotary.backward(y, cache)
    assert not report.findings, str(report)


def test_wrong_arguments_are_refused(monkeypatch):
    x = np.ones((1, 2, 3, 4), np.float32)
    with minillm.backend("cupy"):
        with pytest.raises(ValueError, match="with D even, got"):
            rotary(x[..., :3])
        with pytest.raises(ValueError, match="positions"):
            rotary(x, positions=np.arange(4))
        forward, backward = Registry.ops["rotary"]["cupy"]
        with pytest.raises(ValueError, match="x must be float32 or float64, got float16"):
            forward(x.astype(np.float16))
        _, cache = forward(x)
        with pytest.raises(ValueError, match="dy must be float32, got float64"):
            backward(x.astype(np.float64), cache)
        with pytest.raises(ValueError, match=r"dy must have shape \(1, 2, 3, 4\), got \(1, 2, 2"):
            backward(x[:, :, 1:], cache)
        assert rotary(x[:, :, :0])[0].shape == (1, 2, 0, 4)
        monkeypatch.setattr(place_of, "emulated", lambda: False)
        with pytest.raises(ValueError, match="x must be a CuPy array, got a NumPy array"):
            rotary(x)
