"""Choosing among configurations: by hand, remembered, or by measuring."""

import types

import pytest
import torch
import triton
from triton.runtime.errors import OutOfResources

from minillm_kernels.triton import _tune
from minillm_kernels.triton._tune import Choice, autotune, chosen


class Kernel:
    """What a `@triton.jit` function looks like to the tuner; it notes its launches."""

    __name__, arg_names = "kernel", ["x", "n", "BLOCK"]

    def __init__(self):
        self.launches = []

    def __getitem__(self, grid):
        return lambda **arguments: self.launches.append((grid, arguments))


SMALL, LARGE = Choice({"BLOCK": 16}, 4), Choice({"BLOCK": 64}, 8)


@pytest.fixture
def kernel():
    return autotune([SMALL, LARGE], key=["n~"], restore=["x"])(Kernel())


@pytest.fixture
def gpu(monkeypatch):
    """A GPU of sm_80 on which a block of 64 takes half as long; lists what was measured."""
    measured = []

    def bench(launch, **options):
        launch()
        measured.append(launch.args[0].name)
        return 1 / launch.args[0].constants["BLOCK"]

    monkeypatch.setattr(_tune, "interpreted", lambda: False)
    monkeypatch.setattr(_tune.device, "arch", lambda: 80)
    monkeypatch.setattr("triton.testing.do_bench", bench)
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: False)
    return measured


def launched(kernel):
    return [arguments["BLOCK"] for _, arguments in kernel.kernel.launches]


def test_the_interpreter_takes_the_first(kernel, monkeypatch):
    monkeypatch.setattr(_tune, "interpreted", lambda: True)
    kernel[lambda sizes: (sizes["BLOCK"],)](torch.zeros(3), 3)
    ((grid, arguments),) = kernel.kernel.launches
    assert grid == (16,)
    assert arguments["num_warps"] == 4
    assert arguments["n"] == 3


def test_the_fastest_is_taken_and_remembered(kernel, gpu):
    x = torch.zeros(3)
    for n in (9, 12, 9):  # 9 and 12 have the same power of two above them
        kernel[(1,)](x, n)
    assert gpu == [SMALL.name, LARGE.name]
    assert launched(kernel) == [16, 64, 64, 64, 64]
    kernel[(1,)](x, 40)
    assert len(gpu) == 4, "another size was not measured"
    kernel[(1,)](x.half(), 40)
    assert len(gpu) == 6, "another dtype was not measured"


def test_measuring_leaves_the_arrays_as_they_were(kernel, gpu, monkeypatch):
    x = torch.zeros(3)

    class Adding(Kernel):
        def __getitem__(self, grid):
            return lambda x, **arguments: x.add_(1)

    monkeypatch.setattr(kernel, "kernel", Adding())
    kernel[(1,)](x, 3)
    assert x.tolist() == [1, 1, 1]


def test_what_does_not_compile_is_passed_over(kernel, gpu, monkeypatch):
    """One choice that this Triton cannot compile is slow; all of them, or a failed launch, is an
    error."""
    bench = triton.testing.do_bench

    def failing(error, *names):
        def timed(launch, **options):
            if launch.args[0].name in names:
                raise error
            return bench(launch, **options)

        monkeypatch.setattr("triton.testing.do_bench", timed)
        kernel.best.clear()
        kernel[(1,)](torch.zeros(3), 3)

    crash = RuntimeError("PassManager::run failed")
    failing(OutOfResources(300_000, 232_448, "shared memory"), LARGE.name)
    failing(crash, LARGE.name)
    assert launched(kernel) == [16, 16, 16, 16]
    with pytest.raises(RuntimeError, match="PassManager"):
        failing(crash, SMALL.name, LARGE.name)
    with pytest.raises(RuntimeError, match="illegal memory access"):
        failing(RuntimeError("CUDA error: an illegal memory access"), LARGE.name)


def test_a_choice_by_hand(kernel, gpu):
    with chosen(kernel, SMALL.name):
        kernel[(1,)](torch.zeros(3), 3)
    assert launched(kernel) == [16]
    assert gpu == []
    with chosen(kernel, "BLOCK=17"), pytest.raises(ValueError, match="no configuration 'BLOCK=17'"):
        kernel[(1,)](torch.zeros(3), 3)


def test_a_capture_measures_nothing(kernel, gpu, monkeypatch):
    monkeypatch.setattr(torch.cuda, "is_current_stream_capturing", lambda: True)
    kernel[(1,)](torch.zeros(3), 3)
    assert gpu == []
    assert launched(kernel) == [16]
    assert kernel.best == {}, "an unmeasured choice was remembered"


def test_what_does_not_fit_is_left_out(gpu):
    only = Choice({"BLOCK": 8}, arches=(90,))
    narrow = Choice({"BLOCK": 32}, fits=lambda arguments, arch: arguments["n"] < 4)
    kernel = autotune([only, narrow], key=[])(Kernel())
    kernel[(1,)](torch.zeros(3), 3)
    assert launched(kernel) == [32]
    with pytest.raises(ValueError, match="no configuration for sm_80"):
        kernel[(1,)](torch.zeros(3), 5)


def test_too_many_and_twice_the_same():
    with pytest.raises(ValueError, match="1 to 12"):
        autotune([Choice({"BLOCK": n}) for n in range(13)], key=[])(Kernel())
    with pytest.raises(ValueError, match="same name"):
        autotune([SMALL, SMALL], key=[])(Kernel())


@pytest.mark.parametrize(
    ("capability", "arch"), [((7, 5), 75), ((8, 0), 80), ((8, 9), 80), ((9, 0), 90), ((12, 0), 80)]
)
def test_architectures(monkeypatch, capability, arch):
    monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)
    assert _tune.device._arch.__wrapped__(types.SimpleNamespace()) == arch


def test_what_does_not_compile_is_not_chosen(kernel, gpu, monkeypatch):
    def bench(launch, **options):
        if launch.args[0] is LARGE:
            raise RuntimeError("PassManager::run failed")
        launch()
        return 1.0

    monkeypatch.setattr("triton.testing.do_bench", bench)
    kernel[(1,)](torch.zeros(3), 3)
    assert launched(kernel) == [16, 16]


@pytest.mark.parametrize("says", ["PassManager::run failed", "CUDA error: an illegal address"])
def test_where_nothing_compiles_or_the_gpu_is_lost_the_error_is_raised(
    says, kernel, gpu, monkeypatch
):
    tried = []

    def bench(launch, **options):
        tried.append(launch)
        raise RuntimeError(says)

    monkeypatch.setattr("triton.testing.do_bench", bench)
    with pytest.raises(RuntimeError, match=says):
        kernel[(1,)](torch.zeros(3), 3)
    assert len(tried) == (1 if "CUDA" in says else 2)
