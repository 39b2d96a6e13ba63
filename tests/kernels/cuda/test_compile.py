"""Every rung of every ladder, and the single kernels, compiled for all that they run on."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from minillm_kernels.cuda.attention import TILED
from minillm_kernels.cuda.ladder import LADDERS, every_rung
from tests.kernels.cuda.builds import build as built

STATIC_SHARED = 48 * 1024  # bytes that a block may have without asking at the launch


def builds():
    """(rung, dtype, macros, arch) of all; float64 once, and for those that ops are made of."""
    below = {rung for rungs in LADDERS.values() for rung in rungs[:-1]} - {TILED}
    for rung in every_rung():
        for dtype, macros, arch in rung.builds():
            if dtype != "float64" or (arch == "sm_90" and rung not in below):
                yield rung, dtype, macros, arch


BUILDS = {f"{rung}-{dtype}-{arch}": (rung, macros, arch) for rung, dtype, macros, arch in builds()}


@pytest.fixture(scope="module")
def compiling(request):
    """The builds of this run's tests under way, two at a time: {id: future}."""
    ours = [item for item in request.session.items if item.module.__name__ == __name__]
    asked = [item.callspec.params["build"] for item in ours if hasattr(item, "callspec")]
    with ThreadPoolExecutor(2) as pool:
        yield {
            build: pool.submit(built, rung, arch, macros)
            for build in asked
            for rung, macros, arch in [BUILDS[build]]
        }
        pool.shutdown(cancel_futures=True)


@pytest.mark.parametrize("build", BUILDS)
def test_build(compiling, build):
    """It compiles without a warning, has the kernels that it claims and keeps its promises."""
    rung, _, arch = BUILDS[build]
    compiled = compiling[build].result()
    assert compiled.arch == arch
    assert not compiled.warnings
    assert sorted(compiled.kernels) == sorted(rung.kernels)
    for name, found in compiled.kernels.items():
        assert 0 < found.registers <= 255, f"{name}: {found}"
        assert found.shared <= STATIC_SHARED, f"{name}: {found}"
        if rung.no_spills:
            assert found.spills == 0, f"{name} spills registers: {found}"
    if rung.expects:
        code = compiled.sass()
        missing = [word for word in rung.expects if word not in code]
        assert not missing, f"not in the machine code: {', '.join(missing)}"


def test_every_architecture_is_compiled_for():
    """Issue 5: scalar rungs and fp16 for sm_75, bf16 from sm_80, wgmma for sm_90a alone."""
    arches = {}
    for rung, dtype, _, arch in builds():
        arches.setdefault((rung.ladder, rung.number, dtype), set()).add(arch)
    every = {"sm_75", "sm_80", "sm_90"}
    for number in range(1, 8):
        assert arches["matmul", number, "float32"] == every
    assert arches["matmul", 8, "float16"] == every
    assert arches["matmul", 8, "bfloat16"] == {"sm_80", "sm_90"}
    assert arches["matmul", 9, "bfloat16"] == {"sm_80", "sm_90"}
    assert arches["matmul", 10, "bfloat16"] == {"sm_90a"}
    for (ladder, _, dtype), found in arches.items():
        if ladder not in ("matmul", "attention") and dtype == "float32":
            assert found == every
