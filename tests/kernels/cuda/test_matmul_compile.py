"""What nvcc makes of the matmul ladder beyond what every rung's build is held to (test_compile)."""

import re

import pytest

from minillm_kernels.cuda.matmul import VECTORISED, WARP_TILE, WGMMA, WMMA
from tests.kernels.cuda.builds import build

OPTIONS = {
    "dx": {"B_TRANSPOSED": "1"},
    "dweight": {"A_TRANSPOSED": "1"},
    "all": {"A_TRANSPOSED": "1", "B_TRANSPOSED": "1", "BIAS": "1", "ACCUMULATE": "1"},
}
CASES = [("dx", "sm_90"), ("dweight", "sm_90"), ("all", "sm_75")]


def instructions(code, name):
    """How often an instruction stands in machine code; `name` is a pattern."""
    return len(re.findall(rf"\b{name}\b", code))


@pytest.mark.parametrize(("options", "arch"), CASES)
def test_warp_tile_with_options(options, arch):
    """No spills in 128 registers whatever is transposed, so that two blocks fit an SM."""
    built = build(WARP_TILE, arch, OPTIONS[options])
    found = built.kernels["matmul"]
    assert found.spills == 0
    assert found.registers <= 128
    assert not built.warnings
    assert instructions(built.sass(), r"LDS(\.U)?\.128") >= 4 * 8  # 4 a step, 8 steps


def test_vectorised_reads_shared_memory_in_16_bytes():
    """The idea of 06: 4 reads of 16 bytes a step of k, and no others."""
    code = build(VECTORISED, "sm_90").sass()
    assert instructions(code, r"LDS\.128") == 4 * 8
    assert instructions(code, r"LDS(?!\.128)") == 0


def test_wmma_takes_fp16_by_ldmatrix():
    """What the header says of nvcc: 4 fragments of A and 2 of B a step, an instruction each."""
    code = build(WMMA, "sm_90").sass()
    assert instructions(code, r"LDSM\.\S+") == 4 + 2


def test_wgmma_gives_the_tensor_cores_whole_tiles():
    """Three copies of four products each: the first step of a tile, and the loop's two."""
    built = build(WGMMA, "sm_90a")
    code = built.sass()
    assert instructions(code, r"HGMMA\.64x256x16\.F32") % 4 == 0
    assert instructions(code, r"USETMAXREG\.\S+") == 2  # one gives, one takes
    # 128 x 40 + 256 x 232 registers are what 384 threads of 168 have
    assert built.kernels["matmul"].registers == 168
    assert 128 * 40 + 256 * 232 == 384 * 168
