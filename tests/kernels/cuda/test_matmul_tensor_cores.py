"""Rungs 09 and 10, which speak PTX: the whole kernels on a model of it, and their tensor maps.

The emulator runs all but the instructions themselves, which ptx_model*.h gives it in C++. Indices,
swizzles, descriptors, barriers and edges are the kernel's own; the hardware's timing is not.
"""

import ctypes
import hashlib
from pathlib import Path

import numpy as np
import pytest

from minillm.errors import UserError
from minillm_kernels.cuda import matmul as module
from minillm_kernels.cuda.matmul import CLUSTER, MMA_SYNC, TILINGS, WGMMA, _tensor_map, matmul
from minillm_kernels.cuda.matmul._tensor_map import TENSOR_MAP, tensor_map
from minillm_kernels.emulator import EmulatorError, RawModule, emulator_settings
from tests.kernels.cuda.test_matmul import changed, floats, operands, vendor
from tests.kernels.harness import as_good_as, epsilon, error

HERE = Path(__file__).parent
MODELS = {MMA_SYNC: HERE / "ptx_model_mma.h", WGMMA: HERE / "ptx_model_wgmma.h"}
TEXTS = "".join(sorted(path.read_text() for path in HERE.glob("ptx_model*.h")))
EARLY, LATE = (), ("COPIES_LATE", "PRODUCTS_LATE")
ORDERS = {"early": EARLY, "late": LATE}


def compiled(rung, order, macros=(), code=None):
    """The kernel on its model; `code` for a changed one."""
    options = [f"-D{name}" for name in (*order, *macros)]
    # The emulator's cache does not know what is behind an #include of a macro: the digest tells it.
    options += [f'-DPTX_MODEL="{MODELS[rung]}"']
    options += [f"-DMODEL_IS_{hashlib.sha256(TEXTS.encode()).hexdigest()[:16]}"]
    source = {"path": str(rung.path)} if code is None else {"code": code}
    kernel = RawModule(**source, options=tuple(options)).get_function("matmul")
    kernel.max_dynamic_shared_size_bytes = TILINGS[rung].shared
    return kernel


def model_map(matrix, box):
    """A tensor map as ptx_model_wgmma.h reads it: in C, such a structure starts at 64 bytes."""
    memory = np.zeros(256, np.uint8)
    start = -memory.ctypes.data % 64
    made = memory[start : start + 128].view(TENSOR_MAP).reshape(())
    rows, columns = matrix.shape
    made["opaque"][:6] = matrix.ctypes.data, columns, rows, matrix.strides[0], box[1], box[0]
    return made


def padded(array):
    """The same matrix in rows of a multiple of 8 numbers; what is behind them is NaN."""
    rows, columns = array.shape
    wide = np.full((rows, -(-columns // 8) * 8), 0x7FFF, np.uint16).view(array.dtype)
    wide[:, :columns] = array
    return wide[:, :columns]


def product(rung, kernel, M, N, K, dtype="float16", clusters=2, cluster=CLUSTER):
    """(C by the kernel, truth, torch's C); `clusters` of a persistent grid."""
    a, b, exact_a, exact_b = operands(4, M, N, K, dtype)
    a, b = padded(a), padded(b)
    out = padded(np.full((M, N), 0x7FFF, np.uint16).view(a.dtype))
    sizes = np.int32(M), np.int32(N), np.int32(K)
    strides = [np.int64(x.strides[0] // 2) for x in (a, b, out)]
    tiling = TILINGS[rung]
    if rung is WGMMA:
        maps = model_map(a, (128, 64)), model_map(b, (64, 64))
        grid, args = (clusters,), (*maps, out, *sizes, strides[2])
        block = (cluster * tiling.block[0],)  # the model's block is a whole cluster
    else:
        grid = (-(-M // tiling.rows) * -(-N // tiling.columns),)
        args, block = (a, b, out, *sizes, *strides), tiling.block
    with emulator_settings(workers=1):
        kernel(grid, block, args, shared_mem=tiling.shared)
    return floats(out), exact_a @ exact_b, vendor(exact_a, exact_b, dtype)


@pytest.mark.parametrize("order", ORDERS)
@pytest.mark.parametrize("rung", MODELS, ids=str)
def test_kernel_on_the_model(rung, order):
    """Every size, one k to more tiles than stages, several tiles to a block: as good as torch."""
    kernel = compiled(rung, ORDERS[order])
    for M, N, K in ((1, 1, 1), (130, 270, 40), (64, 33, 600), (257, 9, 130)):
        as_good_as(*product(rung, kernel, M, N, K), "float16", f"{rung} {M} x {N} x {K}")


def test_bfloat16_on_the_model():
    kernel = compiled(MMA_SYNC, LATE, ("BF16",))
    as_good_as(*product(MMA_SYNC, kernel, 70, 100, 90, "bfloat16"), "bfloat16")
    kernel = compiled(WGMMA, LATE, ("BF16", "CLUSTER=1"))  # and every block for itself
    as_good_as(*product(WGMMA, kernel, 130, 100, 400, "bfloat16", cluster=1), "bfloat16")


def test_a_group_of_tiles_is_gone_through_once():
    """GROUP tiles down before one to the right: the order meets every tile."""
    code = changed(MMA_SYNC, "#define GROUP 16", "#define GROUP 2")
    kernel = compiled(MMA_SYNC, EARLY, code=code)
    as_good_as(*product(MMA_SYNC, kernel, 5 * 128 - 7, 3 * 256 - 9, 16), "float16")


WRONG = {
    "fragments of B not transposed": (
        MMA_SYNC,
        EARLY,
        "load_matrices_transposed(\n",
        "load_matrices(\n",
    ),
    "a tile not waited for": (MMA_SYNC, LATE, "copies_wait<STAGES - 2>", "copies_wait<STAGES - 1>"),
    "a ring one stage short": (
        MMA_SYNC,
        EARLY,
        "fetch((tile + STAGES - 1) % STAGES,",
        "fetch((tile + STAGES) % STAGES,",
    ),
    "no swizzle for B": (MMA_SYNC, EARLY, "(c ^ (k % 8))", "c"),
    "offsets of B exchanged": (WGMMA, EARLY, "BOX_BYTES, 1024)", "1024, BOX_BYTES)"),
    "full not waited for": (WGMMA, LATE, "barrier_wait(full + s * 8, full_parity(use));", ""),
    "empty not waited for": (WGMMA, LATE, "barrier_wait(empty + s * 8, empty_parity(use));", ""),
    "a stage given back too early": (WGMMA, LATE, "multiply_wait<1>(sums);", ""),
    "given back to one block only": (WGMMA, LATE, "CLUSTER * GROUPS * 4", "GROUPS * 4"),
    "the wrong parity": (WGMMA, EARLY, "use / STAGES % 2 ^ 1", "use / STAGES % 2"),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_twins_fail(case):
    """Each is refused by the model (a bank conflict, a deadlock, ...) or gives a wrong product."""
    rung, order, old, new = WRONG[case]
    kernel = compiled(rung, order, code=changed(rung, old, new))
    try:
        ours, truth, _ = product(rung, kernel, 130, 70, 460, clusters=1)
    except EmulatorError:
        return
    assert error(ours, truth) > 100 * epsilon("float16")


# ---- the tensor map ----------------------------------------------------------------------------


class Matrix:
    """As much of a CuPy array as a tensor map needs."""

    def __init__(self, shape, address):
        self.shape = shape
        self.data = self
        self.ptr = address


@pytest.fixture
def driver(monkeypatch):
    """libcuda's cuTensorMapEncodeTiled in Python: notes what it is given, by the C prototype."""
    seen = {"code": 0}
    wide, narrow = ctypes.POINTER(ctypes.c_uint64), ctypes.POINTER(ctypes.c_uint32)
    prototype = ctypes.CFUNCTYPE(
        ctypes.c_int, ctypes.c_void_p, ctypes.c_int, ctypes.c_uint32, ctypes.c_void_p,
        wide, wide, narrow, narrow, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_int,
    )  # fmt: skip

    @prototype
    def encode(place, dtype, rank, address, sizes, strides, box, steps, *modes):
        assert place % 64 == 0
        seen.update(dtype=dtype, rank=rank, address=address, modes=modes)
        seen.update(sizes=sizes[:rank], strides=strides[: rank - 1])
        seen.update(box=box[:rank], steps=steps[:rank])
        ctypes.memmove(place, bytes(range(128)), 128)
        return seen["code"]

    monkeypatch.setattr(_tensor_map, "_encode", lambda: encode)
    return seen


def test_tensor_map_fields(driver):
    made = tensor_map(Matrix((100, 60), 0x7000010), "bfloat16", 64, box=(128, 64))
    assert made.shape == ()
    assert made.dtype.itemsize == made.nbytes == 128
    assert made.tobytes() == bytes(range(128))
    # the contiguous axis first; strides in bytes, of all axes but that
    assert driver == {
        "code": 0,
        "dtype": 9,  # CU_TENSOR_MAP_DATA_TYPE_BFLOAT16
        "rank": 2,
        "address": 0x7000010,
        "sizes": [60, 100],
        "strides": [128],
        "box": [64, 128],
        "steps": [1, 1],
        "modes": (0, 3, 3, 0),  # no interleave, 128-byte swizzle, L2 by 256 bytes, zeros outside
    }
    tensor_map(Matrix((8, 8), 0x100), "float16", 8, box=(64, 64))
    assert driver["dtype"] == 6


def test_tensor_map_refusals(driver):
    for matrix, stride in ((Matrix((8, 8), 0x108), 8), (Matrix((8, 8), 0x100), 12)):
        with pytest.raises(ValueError, match="rows that start at multiples of 16 bytes, got addr"):
            tensor_map(matrix, "float16", stride, box=(64, 64))
    with pytest.raises(ValueError, match="cannot read a matrix of 0 x 8"):
        tensor_map(Matrix((0, 8), 0x100), "float16", 8, box=(64, 64))
    with pytest.raises(ValueError, match="a box is 1 to 256 rows of 128 bytes, got 64 of 64"):
        tensor_map(Matrix((8, 8), 0x100), "float16", 8, box=(64, 32))
    driver["code"] = 1
    with pytest.raises(UserError, match=r"refuses a tensor map of 8 x 8 \(CUresult 1\)"):
        tensor_map(Matrix((8, 8), 0x100), "float16", 8, box=(64, 64))


def test_no_driver(monkeypatch):
    monkeypatch.setattr(
        _tensor_map.ctypes, "CDLL", lambda _: (_ for _ in ()).throw(OSError("gone"))
    )
    _tensor_map._encode.cache_clear()
    with pytest.raises(
        UserError, match="tensor maps need NVIDIA's driver of CUDA 12 or later: gone"
    ):
        tensor_map(Matrix((8, 8), 0x100), "float16", 8, box=(64, 64))
    _tensor_map._encode.cache_clear()


def test_launch_of_clusters(driver, monkeypatch):
    """Tiles below each other make a cluster; never more blocks than multiprocessors."""
    launched = []
    monkeypatch.setattr(module, "multiprocessors", lambda _: 131)
    for M, N, blocks in ((300, 520, 12), (128, 256, 2), (5000, 5000, 130)):
        arrays = [Matrix(shape, 0x1000) for shape in ((M, 64), (64, N), (M, N))]
        strides = 64, -(-N // 8) * 8, -(-N // 8) * 8
        module.launch(
            lambda *call, **shared: launched.append((call, shared)),
            WGMMA,
            "float16",
            (*arrays, None),
            (M, N, 64),
            strides,
        )
        (grid, block, args), shared = launched.pop()
        assert grid == (blocks,)
        assert block == (384,)
        assert shared == {"shared_mem": 197696}
        assert [a.dtype for a in args[:2]] == [TENSOR_MAP] * 2
        assert args[2:] == (arrays[2], M, N, 64, strides[2])
        assert driver["box"] == [64, 64]  # the last map made is B's
        assert driver["sizes"] == [N, 64]


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", ["float16", "bfloat16"])
@pytest.mark.parametrize("rung", MODELS, ids=str)
def test_product_on_a_gpu(rung, dtype):
    """The real instructions: sizes around the tiles, many tiles a block, rows with gaps."""
    import cupy

    for M, N, K in ((1, 1, 1), (128, 256, 64), (300, 520, 200), (2000, 1800, 3000), (4096,) * 3):
        a, b, exact_a, exact_b = operands(M, M, N, K, dtype)
        there = (cupy.asarray(padded(x).base).view(a.dtype)[:, : x.shape[1]] for x in (a, b))
        out = cupy.full((M, -(-N // 8) * 8), 0x7FFF, "uint16").view(a.dtype)[:, :N]
        c = floats(matmul(*there, rung=rung, out=out).get())
        theirs = vendor(exact_a, exact_b, dtype, "cuda")
        as_good_as(c, theirs, exact_a @ exact_b, dtype, f"{rung} {M} x {N} x {K}")
