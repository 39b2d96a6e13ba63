"""The op `linear` of the backend "cupy": rung 07's three products, on the emulator or a GPU."""

import os

os.environ.setdefault("MINILLM_EMULATE", "1")

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm import gradcheck
from minillm.ops import linear
from minillm_kernels.cuda import linear as module
from tests.kernels.harness import as_good_as
from tests.ops.harness import strided


def test_linear(place):
    """Output and gradients as good as NumPy's in the same precision, in any layout."""

    @settings(max_examples=place.size(10, 30), deadline=None, derandomize=True, database=None)
    @given(
        rows=st.sampled_from([(), (1,), (3, 5), (2, 70)]),
        c_in=st.integers(1, place.size(60, 700)),
        c_out=st.integers(1, place.size(60, 700)),
        biased=st.booleans(),
        layout=st.sampled_from([np.copy, strided, np.asfortranarray]),
        seed=st.integers(0, 99),
    )
    def run(rows, c_in, c_out, biased, layout, seed):
        rng = np.random.default_rng(seed)
        shapes = (*rows, c_in), (c_in, c_out), (c_out,), (*rows, c_out)
        x, weight, bias, dy = (layout(rng.standard_normal(s).astype("f")) for s in shapes)
        args = (x, weight, bias) if biased else (x, weight)
        results = []
        for backend, there, dtype in (
            ("cupy", place.array, np.float32),
            ("numpy", np.asarray, np.float32),
            ("numpy", np.asarray, np.float64),
        ):
            with minillm.backend(backend):
                y, cache = linear(*(there(a.astype(dtype, copy=False)) for a in args))
                grads = linear.backward(there(dy.astype(dtype, copy=False)), cache)
                results.append([place.numpy(a) for a in (y, *grads) if a is not None])
        names = ["y", "dx", "dweight", "dbias"]
        for name, ours, theirs, truth in zip(names, *results, strict=False):
            assert ours.dtype == np.float32
            as_good_as(ours, theirs, truth, "float32", name)
        assert len(results[0]) == 3 + biased

    run()


def test_gradients():
    """The checker, which works on NumPy arrays, believes the kernel's pair in float64."""
    rng = np.random.default_rng(0)
    args = [rng.standard_normal(shape) for shape in ((2, 5, 7), (7, 6), (6,))]
    with minillm.backend("cupy"):
        assert gradcheck.check_op(linear, args).passed


@pytest.mark.parametrize(
    ("wrong", "leaf"),
    [
        (lambda dx, dw, db: (dx, 2 * dw, db), "weight"),
        (lambda dx, dw, db: (np.roll(dx, 1, 0), dw, db), "x"),
        (lambda dx, dw, db: (dx, dw, db / len(db)), "bias"),
    ],
    ids=["dweight doubled", "rows of dx exchanged", "mean for dbias"],
)
def test_wrong_backwards_fail(wrong, leaf):
    rng = np.random.default_rng(1)
    args = [rng.standard_normal(shape) for shape in ((5, 7), (7, 6), (6,))]

    def backward(dy, cache):
        return wrong(*module.linear_backward(dy, cache))

    report = gradcheck.check_vjp(module.linear, backward, args, {})
    assert report.verdict == "fail"
    assert leaf in str(report)


def test_no_rows(place):
    x, weight = place.array(np.ones((0, 3), "f")), place.array(np.ones((3, 2), "f"))
    with minillm.backend("cupy"):
        y, cache = linear(x, weight)
        dx, dweight, _ = linear.backward(y, cache)
    assert y.shape == (0, 2)
    assert dx.shape == (0, 3)
    assert not place.numpy(dweight).any()


def test_refused():
    x, weight = np.ones((2, 3), "f"), np.ones((3, 4), "f")
    with minillm.backend("cupy"):
        with pytest.raises(ValueError, match=r"weight must have shape \(3, any\), got \(4, 3\)"):
            linear(x, weight.T)
        with pytest.raises(ValueError, match=r"bias must have shape \(4,\), got \(3,\)"):
            linear(x, weight, np.ones(3, "f"))
