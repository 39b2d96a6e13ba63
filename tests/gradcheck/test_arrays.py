import sys

import numpy as np
import pytest
import torch

from minillm.gradcheck import arrays, check_function, check_layer, check_vjp
from tests.gradcheck import standin_cupy
from tests.gradcheck.standin_cupy import cupy_or_standin


@pytest.fixture
def cp(monkeypatch):
    """CuPy on a GPU, its stand-in elsewhere."""
    module = cupy_or_standin()
    monkeypatch.setitem(sys.modules, "cupy", module)
    return module


@pytest.fixture
def fake(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", standin_cupy.cupy)
    return standin_cupy.cupy


class Tensor(torch.Tensor):
    """Somebody's own kind of tensor."""


class Foreign:
    """An array of a library that the checker does not know, with the array API's namespace."""

    def __init__(self, held):
        self.held = np.array(held)

    shape = property(lambda self: self.held.shape)
    dtype = property(lambda self: self.held.dtype)

    def __array__(self, dtype=None, copy=None):
        return np.array(self.held, dtype)

    def __array_namespace__(self):
        return Namespace

    def __mul__(self, other):
        return Foreign(self.held * other)


class Namespace:
    @staticmethod
    def asarray(values, dtype=None):
        return Foreign(np.asarray(values, dtype))


def rms_norm(x, gain):
    """Written with operators and methods alone: any library's arrays will do."""
    inv = ((x**2).mean(-1, keepdims=True) + 1e-5) ** -0.5
    return x * inv * gain, (x, inv, gain)


def rms_norm_backward(dy, cache):
    x, inv, gain = cache
    dn = dy * gain
    return inv * (dn - x * inv**2 * (dn * x).mean(-1, keepdims=True)), (dy * x * inv).sum(0)


def without_norm_term(dy, cache):
    x, inv, gain = cache
    return inv * dy * gain, (dy * x * inv).sum(0)


def drawn(dtype="float64"):
    rng = np.random.default_rng(0)
    return rng.standard_normal((3, 4)).astype(dtype), rng.standard_normal(4).astype(dtype)


# --- CuPy


def test_the_stand_in_refuses_what_cupy_refuses(fake):
    x = fake.asarray(np.ones(3))
    for act in (
        lambda: np.asarray(x),
        lambda: np.array([x]),
        lambda: x + np.ones(3),
        lambda: np.ones(3) * x,
        lambda: np.exp(x, out=np.empty(3)),
        lambda: np.concatenate([x, np.ones(3)]),
        lambda: x.__setitem__(0, np.ones(1)),
    ):
        with pytest.raises(TypeError, match=r"mplicit conversion|nsupported|numpy.ndarray"):
            act()
    assert isinstance(np.exp(x) + 1, fake.ndarray)
    assert isinstance(x.sum(), fake.ndarray)
    assert isinstance(x.get(), np.ndarray)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_a_pair_on_cupy_arrays(cp, dtype):
    args = [cp.asarray(a) for a in drawn(dtype)]
    seen = []

    def watched(x, gain):
        seen.append(type(x))
        return rms_norm(x, gain)

    report = check_vjp(watched, rms_norm_backward, args)
    assert report.passed, report
    assert [leaf.dtype for leaf in report.leaves] == [dtype, dtype]
    assert set(seen) == {cp.ndarray}, "the pair got another kind of array"
    wrong = check_vjp(rms_norm, without_norm_term, args)
    assert [leaf.verdict for leaf in wrong.leaves] == ["fail", "pass"]
    assert wrong.diagnoses
    assert wrong.replay


def test_numpy_and_cupy_give_the_same_report(cp):
    numpy_report = check_vjp(rms_norm, without_norm_term, drawn()).to_dict()
    cupy_report = check_vjp(rms_norm, without_norm_term, [cp.asarray(a) for a in drawn()]).to_dict()
    for report in (numpy_report, cupy_report):
        report.pop("notes")  # a complex step is NumPy's alone
        report.pop("evaluations")
        for leaf in report["leaves"]:  # rounding differs from one library to the next
            leaf["error"] = round(leaf["error"], 6)
            leaf["norm"] = round(leaf["norm"], 6)
            leaf.pop("tolerance")
            leaf["worst"] = [place for place, _, _ in leaf["worst"]]
        for diagnosis in report["diagnoses"]:
            diagnosis.pop("ratio")
    assert numpy_report == cupy_report


def test_nests_scalars_and_ids_on_cupy(cp):
    def looked_up(params, ids):
        return (params["table"][ids] * params["scale"]).sum()

    def vjp(dy, params, ids):
        dtable = cp.zeros_like(params["table"])
        for place in range(len(ids)):
            dtable[int(ids[place])] += dy * params["scale"]
        return {"table": dtable, "scale": dy * params["table"][ids].sum()}, None

    params = {"table": cp.asarray(drawn()[0]), "scale": cp.asarray(np.float64(0.7))}
    report = check_function(looked_up, vjp, [params, cp.asarray(np.array([0, 2, 2]))])
    assert report.passed, report
    assert [leaf.name for leaf in report.leaves] == ["params.table", "params.scale"]


def test_a_forward_that_writes_to_a_cupy_array_is_found_and_put_back(cp):
    def scaled(x, gain):
        gain *= 2
        return rms_norm(x, gain)

    args = [cp.asarray(a) for a in drawn()]
    report = check_vjp(scaled, rms_norm_backward, args)
    assert ("mutates", "gain") in [(f.rule, f.leaf) for f in report.contract]
    np.testing.assert_array_equal(args[1].get(), drawn()[1])


def test_a_layer_on_cupy(cp):
    class Norm:
        def __init__(self):
            self.params = {"gain": cp.asarray(drawn()[1])}
            self.grads = {}

        def forward(self, x):
            out, self.cache = rms_norm(x, self.params["gain"])
            return out

        def backward(self, dout):
            dx, self.grads["gain"] = rms_norm_backward(dout, self.cache)
            return dx

    report = check_layer(Norm(), cp.asarray(drawn()[0]))
    assert report.passed, report


def test_new_arrays_are_made_on_the_template_s_device(fake):
    before = fake.ndarray.devices_entered
    made = arrays.like(np.ones(2), fake.asarray(np.zeros(2)))
    assert isinstance(made, fake.ndarray)
    assert fake.ndarray.devices_entered == before + 1


# --- all libraries


def templates(fake):
    x = drawn("float32")[0]
    return {
        "numpy": x,
        "fortran": np.asfortranarray(x),
        "scalar": np.float32(0.5),
        "zero-d": np.array(0.5, "float32"),
        "byte-swapped": x.astype(">f4"),
        "torch": torch.from_numpy(x),
        "torch leaf": torch.from_numpy(x).requires_grad_(),
        "torch subclass": torch.from_numpy(x).as_subclass(Tensor),
        "cupy": fake.asarray(x),
        "cupy zero-d": fake.asarray(np.float32(0.5)),
        "array API": Foreign(x),
    }


NAMES = list(templates(standin_cupy.cupy))


@pytest.mark.parametrize("name", NAMES)
def test_there_and_back(fake, name):
    template = templates(fake)[name]
    assert arrays.is_float(template)
    assert arrays.dtype_name(template) == "float32"
    held = arrays.host(template)
    assert isinstance(held, np.ndarray)
    assert held.dtype.name == "float32"
    made = arrays.like(2 * held.astype(np.float64), template)
    assert arrays.library(made) == arrays.library(template)
    assert made.dtype == template.dtype
    assert tuple(made.shape) == held.shape
    np.testing.assert_array_equal(arrays.host(made), 2 * held)
    np.testing.assert_array_equal(arrays.host(template), held)
    held[...] = 0  # in memory of its own
    assert np.all(arrays.host(template) != 0)


@pytest.mark.parametrize("name", [name for name in NAMES if name not in ("scalar", "array API")])
def test_written_back(fake, name):
    array = templates(fake)[name]
    values = 3 * arrays.host(array).astype(np.float64)
    arrays.restore(array, values)
    np.testing.assert_array_equal(arrays.host(array), values.astype(np.float32))


def test_what_cannot_be_written_to_is_left():
    array = np.ones(3)
    array.flags.writeable = False
    arrays.restore(array, np.zeros(3))
    np.testing.assert_array_equal(array, 1)


@pytest.mark.parametrize("name", ["numpy", "cupy", "array API", "byte-swapped"])
def test_an_elementwise_pair_of_any_library(fake, name):
    x = templates(fake)[name]
    report = check_vjp(lambda x: (x * 3.0, None), lambda dy, _: dy * 3.0, [x])
    assert report.passed, report
    wrong = check_vjp(lambda x: (x * 3.0, None), lambda dy, _: dy * 2.0, [x])
    assert [leaf.verdict for leaf in wrong.leaves] == ["fail"]


@pytest.mark.parametrize(
    "value", [np.arange(3), np.array([True]), torch.arange(3), np.array(["a"]), 2.0, None, "x"]
)
def test_what_has_no_derivative(value):
    assert not arrays.is_float(value)


@pytest.mark.parametrize(
    ("array", "name"),
    [
        (np.ones(2, np.float16), "float16"),
        (np.ones(2, complex), "complex128"),
        (torch.ones(2, dtype=torch.bfloat16), "bfloat16"),
        (torch.ones(2, dtype=torch.complex64), "complex64"),
    ],
)
def test_what_differences_cannot_judge(array, name):
    with pytest.raises(ValueError, match=f"float32 or float64 .*got {name}"):
        arrays.is_float(array)


def test_a_library_that_makes_no_arrays_is_named():
    class Closed:
        shape, dtype = (2,), np.dtype(np.float64)

        def __array__(self, dtype=None, copy=None):
            return np.ones(2)

    with pytest.raises(ValueError, match="cannot make a Closed"):
        arrays.like(np.ones(2), Closed())
