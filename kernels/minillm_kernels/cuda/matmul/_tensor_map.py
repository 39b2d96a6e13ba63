"""The copy engine's description of a matrix (CUtensorMap), made on the host for rung 10.

CUDA Driver API, "Tensor Map Object Management": cuTensorMapEncodeTiled fills 128 bytes that say
where a matrix lies, what box of it one copy takes and how the box is permuted (swizzled) in shared
memory. It is called in libcuda by ctypes; CuPy passes a NumPy array of one element by value.
"""

import ctypes
import functools

import numpy as np

from minillm.errors import UserError

__all__ = ["TENSOR_MAP", "tensor_map"]

TENSOR_MAP = np.dtype([("opaque", np.uint64, 16)])  # 128 bytes
ALIGNMENT = 64  # of the map in memory, while the driver writes it

# Numbers of cuda.h's enumerations.
DATA_TYPE = {"float16": 6, "bfloat16": 9}
INTERLEAVE_NONE = 0
SWIZZLE_128B = 3
L2_PROMOTION_256B = 3
FILL_WITH_ZEROS = 0  # CU_TENSOR_MAP_FLOAT_OOB_FILL_NONE
ITEM = 2  # bytes


def tensor_map(matrix, dtype, stride, *, box):
    """Describe a matrix of 16-bit numbers for copies of boxes with the 128-byte swizzle.

    Parameters
    ----------
    matrix : (rows, columns) CuPy array, its rows contiguous
    dtype : "float16" or "bfloat16"
    stride : int, elements from one row to the next
    box : (int, int), rows and columns of one copy

    Returns
    -------
    map : array of TENSOR_MAP, shape ()

    Raises
    ------
    ValueError
        where the copy engine cannot read such a matrix.
    UserError
        where the driver is missing or refuses.
    """
    (rows, columns), address = matrix.shape, matrix.data.ptr
    if address % 16 or stride * ITEM % 16:
        raise ValueError(
            "the copy engine reads rows that start at multiples of 16 bytes, "
            f"got address {address:#x} and {stride * ITEM} bytes from row to row"
        )
    if not (1 <= rows <= 2**32 and 1 <= columns <= 2**32 and stride * ITEM < 2**40):
        raise ValueError(f"the copy engine cannot read a matrix of {rows} x {columns}")
    if box[1] * ITEM != 128 or not 1 <= box[0] <= 256:
        raise ValueError(f"a box is 1 to 256 rows of 128 bytes, got {box[0]} of {box[1] * ITEM}")
    # ctypes gives no alignment: take more and use the part that is aligned.
    memory = np.zeros(TENSOR_MAP.itemsize + ALIGNMENT, np.uint8)
    start = -memory.ctypes.data % ALIGNMENT
    # The driver counts axes from the one that is contiguous.
    code = _encode()(
        ctypes.c_void_p(memory.ctypes.data + start),
        ctypes.c_int(DATA_TYPE[dtype]),
        ctypes.c_uint32(2),
        ctypes.c_void_p(address),
        (ctypes.c_uint64 * 2)(columns, rows),
        (ctypes.c_uint64 * 1)(stride * ITEM),
        (ctypes.c_uint32 * 2)(box[1], box[0]),
        (ctypes.c_uint32 * 2)(1, 1),  # take every element
        ctypes.c_int(INTERLEAVE_NONE),
        ctypes.c_int(SWIZZLE_128B),
        ctypes.c_int(L2_PROMOTION_256B),
        ctypes.c_int(FILL_WITH_ZEROS),
    )
    if code:
        raise UserError(f"the driver refuses a tensor map of {rows} x {columns} (CUresult {code})")
    return memory[start : start + TENSOR_MAP.itemsize].view(TENSOR_MAP).reshape(()).copy()


@functools.cache
def _encode():
    try:
        driver = ctypes.CDLL("libcuda.so.1")
        return driver.cuTensorMapEncodeTiled
    except (OSError, AttributeError) as error:
        raise UserError(f"tensor maps need NVIDIA's driver of CUDA 12 or later: {error}") from None
