"""What a person reads when a library, a GPU or its memory lacks; and the carriers' borders."""

import os
import subprocess
import sys
import time
import types
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import torch

import minillm
from minillm.errors import UserError
from minillm_kernels import arrays, memory, precision, require
from minillm_kernels.arrays import give, on_tensors, take

ROOT = os.path.dirname(os.path.dirname(os.path.dirname(os.path.abspath(__file__))))


def run(code, **environment):
    """A fresh Python without the two variables that keep tests off a GPU."""
    inherited = {
        k: v for k, v in os.environ.items() if k not in ("TRITON_INTERPRET", "MINILLM_EMULATE")
    }
    return subprocess.run(
        [sys.executable, "-c", code],
        env=inherited | environment,
        capture_output=True,
        text=True,
        cwd=ROOT,
    )


def test_import_minillm_loads_no_gpu_library():
    done = run(
        "import sys, minillm.ops, minillm_kernels, minillm.cli;"
        "print([m for m in ('cupy', 'torch', 'triton') if m in sys.modules])"
    )
    assert done.stdout.strip() == "[]", done.stderr


BLOCKED = """
import sys
sys.modules[{name!r}] = None  # as if it were not installed
from minillm.cli import run
sys.exit(run(["train", "gpt", "--backend", {backend!r}, "--out", "nowhere"]))
"""


@pytest.mark.parametrize(
    ("backend", "name", "library"),
    [("cupy", "cupy", "CuPy"), ("triton", "triton", "Triton"), ("triton", "torch", "PyTorch")],
)
def test_a_missing_library_is_one_line_with_what_to_install(backend, name, library):
    done = run(BLOCKED.format(name=name, backend=backend))
    assert done.returncode == 2
    assert done.stderr.count("\n") == 1
    assert f"the {backend} backend needs {library}, which is not installed" in done.stderr
    assert 'pip install "minillm-numpy[gpu]"' in done.stderr


class FakeRuntime(types.SimpleNamespace):
    class CUDARuntimeError(RuntimeError):
        pass

    def getDeviceCount(self):
        if isinstance(self.count, str):
            raise self.CUDARuntimeError(self.count)
        return self.count

    def getDeviceProperties(self, number):
        return {"name": b"Tesla K80"}


def fake_cupy(count, capability="37"):
    device = types.SimpleNamespace(compute_capability=capability, id=0)
    cuda = types.SimpleNamespace(runtime=FakeRuntime(count=count), Device=lambda: device)
    return types.SimpleNamespace(cuda=cuda)


@pytest.mark.parametrize(
    ("cupy", "message"),
    [
        (
            fake_cupy("cudaErrorNoDevice: no CUDA-capable device"),
            r"none can be used here \(no CUDA-c",
        ),
        (fake_cupy(0), "there is none. Without a GPU: MINILLM_EMULATE=1"),
        (
            fake_cupy(1),
            r"compute capability 7\.5 or more, and this Tesla K80 has 3\.7\. Without",
        ),
    ],
)
def test_a_missing_or_too_old_gpu_is_one_line(cupy, message, monkeypatch):
    monkeypatch.setattr(require, "library", lambda name, backend: cupy)
    with pytest.raises(UserError, match=message):
        require.require_gpu("cupy", minimum=(7, 5))


def test_a_gpu_that_is_new_enough_passes(monkeypatch):
    monkeypatch.setattr(require, "library", lambda name, backend: fake_cupy(1, "120"))
    require.require_gpu("cupy", minimum=(9, 0))
    assert require.compute_capability(fake_cupy(1, "120")) == (12, 0)


def test_an_unknown_backend_lists_what_there_is():
    with (
        pytest.raises(ValueError, match="has: cupy, fast, numpy, triton"),
        minillm.backend("tirton"),
    ):
        pass


@pytest.mark.parametrize(
    ("error", "asked"),
    [
        (
            torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB. GPU 0"),
            "20.00 GiB",
        ),
        (torch.OutOfMemoryError("no number in it"), "1,024 bytes"),
    ],
)
def test_out_of_memory_says_what_was_asked_and_what_is_free(error, asked, monkeypatch):
    monkeypatch.setattr(torch.cuda, "mem_get_info", lambda: (2**30, 3 * 2**30))
    wanted = f"layer_norm: out of GPU memory: {asked} asked for, 1.00 GiB of 3.00 GiB are free"
    with (
        pytest.raises(memory.OutOfDeviceMemory, match=wanted),
        memory.allocating("layer_norm", 1024),
    ):
        raise error


def test_another_error_stays_what_it_is():
    with pytest.raises(KeyError), memory.allocating("layer_norm"):
        raise KeyError("x")


def test_precision_is_chosen_inside_and_by_the_environment(monkeypatch):
    monkeypatch.delenv("MINILLM_PRECISION", raising=False)
    assert precision.current() == "float32"
    monkeypatch.setenv("MINILLM_PRECISION", "tf32")
    assert precision.current() == "tf32"
    with precision.precision("bf16"):
        assert precision.current() == "bf16"
    monkeypatch.setenv("MINILLM_PRECISION", "fp8")
    with pytest.raises(UserError, match="one of float32, tf32, bf16, got 'fp8'"):
        precision.current()


@on_tensors
def twice(x, nest=None, *, ids=None):
    assert all(isinstance(t, torch.Tensor) for t in (x, *(nest or {}).values()))
    return x * 2, (x, nest, ids)


@on_tensors.backward
def twice_backward(dy, saved):
    return dy * 2, saved[1]


def test_arrays_cross_without_a_copy_and_come_back_as_they_came():
    x = np.arange(6.0).reshape(2, 3)
    (y, cache) = twice(x, {"w": x}, ids=np.arange(2, dtype=np.uint16))
    assert type(y) is np.ndarray
    _, _, (seen, nest, ids) = cache
    assert seen.data_ptr() == nest["w"].data_ptr() == x.ctypes.data
    assert ids.dtype == torch.int64
    dy, dnest = twice_backward(np.float64(3), cache)
    assert dy == 6
    assert np.shares_memory(dnest["w"], x)


@pytest.mark.parametrize(
    "view", [lambda x: x.T, lambda x: x[::-1], lambda x: np.broadcast_to(x[:1], (3, 4))]
)
def test_any_layout_crosses(view):
    x = view(np.arange(12.0).reshape(3, 4))
    assert twice(x)[0].tolist() == (2 * x).tolist()


def test_a_tensor_stays_a_tensor():
    x = torch.ones(3, requires_grad=True)
    y, _ = twice(x)
    assert isinstance(y, torch.Tensor)
    assert not y.requires_grad


def test_wrong_places_are_named(monkeypatch):
    with pytest.raises(ValueError, match="twice: arrays of numpy and torch in one call"):
        twice(np.ones(3), {"w": torch.ones(3)})
    monkeypatch.setattr(arrays, "interpreted", lambda: False)
    with pytest.raises(
        ValueError, match="got a NumPy array, in the computer's memory, but the triton k"
    ):
        twice(np.ones(3))
    with pytest.raises(
        ValueError, match="lies in the computer's memory, but the triton kernels run on a"
    ):
        twice(torch.ones(3))


def test_two_threads_take_turns_in_the_interpreter():
    """It replaces triton.language's functions while it runs a kernel, for all threads."""
    inside = []

    @on_tensors
    def slow(x):
        inside.append(1)
        time.sleep(0.02)
        assert len(inside) == 1
        inside.pop()
        return twice(x)[0], None  # an op inside an op does not wait for itself

    with ThreadPoolExecutor(2) as pool:
        assert [y[0].tolist() for y in pool.map(slow, [np.ones(1)] * 3)] == [[2]] * 3


def test_tensors_of_two_devices_are_refused():
    @on_tensors
    def add(x, y):
        return x + y, None

    with pytest.raises(ValueError, match=r"add: tensors on \['cpu', 'meta'\] in one call"):
        add(torch.ones(2), torch.ones(2, device="meta"))


def test_more_blocks_than_the_grid_allows_are_refused():
    arrays.check_grid("softmax", (2**31 - 1, 65535))
    with pytest.raises(
        ValueError, match="softmax: needs 65536 blocks along axis 1 of the grid, and CUDA"
    ):
        arrays.check_grid("softmax", (1, 65536))


def test_a_nest_keeps_its_form():
    nest = {"a": [np.ones(2), None], "b": (np.zeros(1), 3)}
    there = take(nest, "numpy", torch.device("cpu"))
    assert isinstance(there["a"][0], torch.Tensor)
    assert there["b"][1] == 3
    back = give(there, "numpy")
    assert np.shares_memory(back["a"][0], nest["a"][0])
    assert back["a"][1] is None
