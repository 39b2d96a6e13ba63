"""The attention rungs for other heads than the default: no spills, shared memory that fits."""

from concurrent.futures import ThreadPoolExecutor

import pytest

from minillm.errors import UserError
from minillm_kernels.cuda.attention import MMA, TILED, WMMA, tile_macros
from minillm_kernels.cuda.compiler import compile_cubin

BUILDS = {
    "tiled 80": (TILED, "sm_75", {"HEAD": 80, "MASK": 1, **tile_macros(80, "float32")}),
    "tiled 128": (TILED, "sm_80", {"HEAD": 128, **tile_macros(128, "float32")}),
    "wmma 128": (WMMA, "sm_75", {"HEAD": 128}),
    "mma 128": (MMA, "sm_80", {"HEAD": 128, "MASK": 1}),
    "mma 128 bf16": (MMA, "sm_90", {"HEAD": 128, "BF16": 1}),
}
STATIC_SHARED = 48 * 1024


@pytest.fixture(scope="module")
def compiling():
    with ThreadPoolExecutor(2) as pool:
        yield {
            name: pool.submit(compile_cubin, rung.path, arch, macros)
            for name, (rung, arch, macros) in BUILDS.items()
        }


@pytest.mark.parametrize("name", BUILDS)
def test_other_heads(compiling, name):
    rung, _, _ = BUILDS[name]
    compiled = compiling[name].result()
    assert sorted(compiled.kernels) == sorted(rung.kernels)
    for kernel, found in compiled.kernels.items():
        assert found.spills == 0, f"{kernel}: {found}"
        assert found.shared <= STATIC_SHARED, f"{kernel}: {found}"


def test_tiles_fill_shared_memory_and_no_more():
    """Python's choice of tiles is what the file allows; the next larger ones it refuses."""
    assert tile_macros(64, "float32") == {"ROWS": 64, "COLS": 32, "TILE": 32}
    assert tile_macros(128, "float32") == {"ROWS": 32, "COLS": 32, "TILE": 16}
    assert tile_macros(64, "float64") == {"ROWS": 32, "COLS": 32, "TILE": 16}
    assert tile_macros(96, "float64") is None
    with pytest.raises(UserError, match=r'(?s)"forward".*"backward"'):
        compile_cubin(TILED.path, "sm_90", {"HEAD": 128, "ROWS": 64, "TILE": 32})
