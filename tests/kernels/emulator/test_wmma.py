"""WMMA products against NumPy in every shape, layout and type, and the fragments' own rules."""

import numpy as np
import pytest

from minillm_kernels.emulator import EmulatorError, RawModule, checking

SHAPES = [(16, 16, 16), (32, 8, 16), (8, 32, 16)]

# One warp computes D = A @ B + C for every combination of layouts: [A][B][C and D], row or column.
PRODUCT = """
#include <mma.h>
using namespace nvcuda;

template <int m, int n, int k, class T, class Stored, class Sum, class LayoutA, class LayoutB>
__device__ void product(const Stored* a, int lda, const Stored* b, int ldb, const Sum* c, Sum* d,
                        int ldc, wmma::layout_t layout) {
    wmma::fragment<wmma::matrix_a, m, n, k, T, LayoutA> fa;
    wmma::fragment<wmma::matrix_b, m, n, k, T, LayoutB> fb;
    wmma::fragment<wmma::accumulator, m, n, k, Sum> fc, fd;
    wmma::load_matrix_sync(fa, a, lda);
    wmma::load_matrix_sync(fb, b, ldb);
    wmma::load_matrix_sync(fc, c, ldc, layout);
    PREPARE
    wmma::mma_sync(fd, fa, fb, fc);
    wmma::store_matrix_sync(d, fd, ldc, layout);
}

#define KERNEL(m, n, k, la, lb)                                                             \\
    extern "C" __global__ void mma_##m##x##n##x##k##_##la##_##lb(                           \\
        const STORED* a, int lda, const STORED* b, int ldb, const SUM* c, SUM* d, int ldc,  \\
        int row) {                                                                          \\
        product<m, n, k, TYPE, STORED, SUM, wmma::la##_major, wmma::lb##_major>(            \\
            a, lda, b, ldb, c, d, ldc, row ? wmma::mem_row_major : wmma::mem_col_major);    \\
    }
#define LAYOUTS(m, n, k) KERNEL(m, n, k, row, row) KERNEL(m, n, k, row, col) \\
                         KERNEL(m, n, k, col, row) KERNEL(m, n, k, col, col)
"""


def stored(matrix, layout, multiple, dtype):
    """The matrix in memory with a stride beyond its width: (array, stride)."""
    inner = matrix if layout == "row" else matrix.T
    stride = -(-(inner.shape[1] + 1) // multiple) * multiple
    array = np.zeros((inner.shape[0], stride), dtype)
    array[:, : inner.shape[1]] = inner
    return array, stride


def bf16_bits(x):
    return (np.asarray(x, np.float32).view(np.uint32) >> 16).astype(np.uint16)


def bf16_values(bits):
    return (bits.astype(np.uint32) << 16).view(np.float32)


KINDS = {
    # TYPE, STORED, SUM, NumPy's types of the stored factors and sums, shapes
    "half, float sums": ("__half", "__half", "float", "f2", "f4", SHAPES),
    "half, half sums": ("__half", "__half", "__half", "f2", "f2", SHAPES),
    "bf16": ("__nv_bfloat16", "__nv_bfloat16", "float", "u2", "f4", SHAPES),
    "tf32": ("wmma::precision::tf32", "float", "float", "f4", "f4", [(16, 16, 8)]),
    "int8": ("signed char", "signed char", "int", "i1", "i4", SHAPES),
    "uint8": ("unsigned char", "unsigned char", "int", "u1", "i4", SHAPES),
}


def draw(kind, rng, shape):
    if kind == "int8":
        return rng.integers(-128, 128, shape)
    if kind == "uint8":
        return rng.integers(0, 256, shape)
    x = rng.standard_normal(shape).astype(np.float32)
    if kind == "bf16":
        return bf16_values(bf16_bits(x))
    return x.astype(np.float16).astype(np.float32) if kind.startswith("half") else x


def tf32(x):
    """Rounded to 10 bits of fraction, ties away from zero: what cvt.rna.tf32 does."""
    bits = x.astype(np.float32).view(np.uint32)
    return ((bits + 0x1000) & np.uint32(0xFFFFE000)).view(np.float32)


@pytest.mark.parametrize("kind", KINDS)
def test_products(kind):
    type_, stored_type, sum_type, dtype, sum_dtype, shapes = KINDS[kind]
    prepare = ""
    if kind == "tf32":
        prepare = """
        for (int i = 0; i < fa.num_elements; ++i) fa.x[i] = wmma::__float_to_tf32(fa.x[i]);
        for (int i = 0; i < fb.num_elements; ++i) fb.x[i] = wmma::__float_to_tf32(fb.x[i]);"""
    code = PRODUCT.replace("PREPARE", prepare) + "".join(
        f"LAYOUTS({m}, {n}, {k})\n" for m, n, k in shapes
    )
    module = RawModule(
        code=code,
        options=(f"-DTYPE={type_}", f"-DSTORED={stored_type}", f"-DSUM={sum_type}"),
    )
    rng = np.random.default_rng(1)
    pack = bf16_bits if kind == "bf16" else lambda x: x.astype(dtype)
    for m, n, k in shapes:
        a, b, c = (draw(kind, rng, s) for s in ((m, k), (k, n), (m, n)))
        if kind.startswith("half, half"):
            a = (a / 8).astype(np.float16).astype(np.float32)
        if kind not in ("int8", "uint8"):
            c = c.astype(sum_dtype)
        if kind == "tf32":
            exact = tf32(a).astype(float) @ tf32(b).astype(float) + c
        else:
            exact = a.astype(float) @ b.astype(float) + c
        for la in ("row", "col"):
            for lb in ("row", "col"):
                for lc in ("row", "col"):
                    multiple = 16 // np.dtype(dtype).itemsize
                    pa, lda = stored(pack(a), la, multiple, dtype)
                    pb, ldb = stored(pack(b), lb, multiple, dtype)
                    pc, ldc = stored(c, lc, 16 // np.dtype(sum_dtype).itemsize, sum_dtype)
                    pd, _ = stored(0 * c, lc, 16 // np.dtype(sum_dtype).itemsize, sum_dtype)
                    kernel = module.get_function(f"mma_{m}x{n}x{k}_{la}_{lb}")
                    ints = [np.int32(v) for v in (lda, ldb, ldc, lc == "row")]
                    kernel((1,), (32,), (pa, ints[0], pb, ints[1], pc, pd, ints[2], ints[3]))
                    inner = n if lc == "row" else m
                    ours = pd[:, :inner] if lc == "row" else pd[:, :inner].T
                    assert (pd[:, inner:] == 0).all()  # nothing beside the tile is written
                    if sum_dtype == "i4":
                        np.testing.assert_array_equal(ours, exact)
                    else:
                        # k + 1 roundings of float, and the last one's of half
                        size = np.abs(a).astype(float) @ np.abs(b) + np.abs(c)
                        bound = (k + 1) * 2.0**-24 * size
                        bound += 2.0**-11 * np.abs(exact) if sum_dtype == "f2" else 0
                        assert (np.abs(ours - exact) <= bound).all()


def test_tf32_without_rounding_is_cut():
    """The tensor core looks at 10 bits of the fraction; what was not rounded is cut off."""
    code = PRODUCT.replace("PREPARE", "") + "KERNEL(16, 16, 8, row, row)\n"
    options = ("-DTYPE=wmma::precision::tf32", "-DSTORED=float", "-DSUM=float")
    a = np.full((16, 8), np.float32(1 + 2.0**-10 - 2.0**-20))
    b, c = np.eye(8, 16, dtype=np.float32), np.zeros((16, 16), np.float32)
    (pa, lda), (pb, ldb), (pc, ldc) = (stored(v, "row", 4, "f4") for v in (a, b, c))
    kernel = RawModule(code=code, options=options).get_function("mma_16x16x8_row_row")
    kernel((1,), (32,), (pa, np.int32(lda), pb, np.int32(ldb), pc, pc, np.int32(ldc), np.int32(1)))
    assert (pc[:, :8] == 1).all()


ELEMENTWISE = """
#include <mma.h>
using namespace nvcuda;

extern "C" __global__ void scale(const float* c, float* d, int* counts, float factor) {
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> f, bias;
    wmma::load_matrix_sync(f, c, 16, wmma::mem_row_major);
    wmma::fill_fragment(bias, 1.0f);
    // fragments of one type share one layout, so this is 1 + factor * c, element by element
    for (int i = 0; i < f.num_elements; ++i) f.x[i] = f.x[i] * factor + bias.x[i];
    counts[threadIdx.x] = f.num_elements;
    // each element lies in exactly one lane: adding to lane 5's alone changes 8 of 256
    if (threadIdx.x == 5)
        for (int i = 0; i < f.num_elements; ++i) f.x[i] += 1000.0f;
    wmma::store_matrix_sync(d, f, 16, wmma::mem_row_major);
}

extern "C" __global__ void many_warps(const __half* a, const __half* b, float* c, int n) {
    // each warp sums its own tile over several products, in turn with the others
    const int warp = threadIdx.x / 32;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::fill_fragment(sum, 0.0f);
    for (int k = 0; k < n; k += 16) {
        wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> fb;
        wmma::load_matrix_sync(fa, a + warp * 16 * n + k, n);
        wmma::load_matrix_sync(fb, b + k * 16, 16);
        wmma::mma_sync(sum, fa, fb, sum);
    }
    wmma::store_matrix_sync(c + warp * 256, sum, 16, wmma::mem_row_major);
}

extern "C" __global__ void half_the_warp(const __half* a, float* c) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa;
    wmma::fragment<wmma::matrix_b, 16, 16, 16, __half, wmma::row_major> fb;
    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sum;
    wmma::fill_fragment(fa, __half(1.0f));
    wmma::fill_fragment(fb, __half(1.0f));
    wmma::fill_fragment(sum, 0.0f);
    if (threadIdx.x < 16) {
        wmma::mma_sync(sum, fa, fb, sum);
    }
    wmma::store_matrix_sync(c, sum, 16, wmma::mem_row_major);
}

extern "C" __global__ void load(const __half* a, int offset, int stride) {
    wmma::fragment<wmma::matrix_a, 16, 16, 16, __half, wmma::row_major> fa;
    wmma::load_matrix_sync(fa, a + offset, stride);
}
"""


@pytest.fixture(scope="module")
def kernels():
    return RawModule(code=ELEMENTWISE)


def test_elementwise_work_on_fragments(kernels):
    c, d, counts = np.zeros((16, 16), "f4"), np.zeros((16, 16), "f4"), np.zeros(32, np.int32)
    c[...] = np.random.default_rng(2).integers(-9, 9, (16, 16))
    kernels.get_function("scale")((1,), (32,), (c, d, counts, np.float32(3)))
    assert counts.tolist() == [8] * 32
    changed = d != 1 + 3 * c
    assert changed.sum() == 8
    np.testing.assert_array_equal(d - 1000 * changed, 1 + 3 * c)


def test_warps_sum_their_own_tiles(kernels):
    rng = np.random.default_rng(3)
    n, warps = 64, 4
    a, b = np.zeros((warps * 16, n), "f2"), np.zeros((n, 16), "f2")
    a[...], b[...] = rng.integers(-3, 4, a.shape), rng.integers(-3, 4, b.shape)
    c = np.zeros((warps * 16, 16), "f4")
    for _ in range(3):
        c[...] = 0
        kernels.get_function("many_warps")((1,), (32 * warps,), (a, b, c, np.int32(n)))
        np.testing.assert_array_equal(c, a.astype(int) @ b.astype(int))


def line_of(text):
    return 1 + next(i for i, line in enumerate(ELEMENTWISE.splitlines()) if text in line)


def test_checked_accesses_are_told_by_the_kernel_s_lines(kernels):
    a, b, c = np.zeros((64, 64), "f2"), np.zeros((64, 16), "f2"), np.zeros((64, 16), "f4")
    kernel = kernels.get_function("many_warps")
    loads = [line_of("load_matrix_sync(fa, a + warp"), line_of("load_matrix_sync(fb, b + k")]
    store = line_of("store_matrix_sync(c + warp")
    with checking() as report:
        kernel((1,), (128,), (a, b, c, np.int32(64)))
    assert report.findings == []
    assert [count.line for count in report.lines] == [*loads, store]
    # every byte of the tiles was asked for: 4 warps x 4 steps of 512 bytes, and 4 tiles of sums
    assert [count.bytes for count in report.lines] == [16 * 512, 16 * 512, 4 * 1024]
    with checking() as report:  # an A that is a row short
        kernel((1,), (128,), (a[:63], b, c, np.int32(64)))
    assert {(found.kind, found.line) for found in report.findings} == {("out of bounds", loads[0])}


def test_half_a_warp_is_an_error(kernels):
    a, c = np.zeros((16, 16), "f2"), np.zeros((16, 16), "f4")
    with pytest.raises(EmulatorError) as caught:
        kernels.get_function("half_the_warp")((1,), (32,), (a, c))
    assert caught.value.line == line_of("if (threadIdx.x < 16)") + 1
    with pytest.raises(EmulatorError, match="multiple of 32"):
        kernels.get_function("half_the_warp")((1,), (16,), (a, c))


def test_misplaced_tiles_are_an_error(kernels):
    a = np.zeros((40, 16), np.float16)
    load = kernels.get_function("load")

    def launch(offset, stride):
        load((1,), (32,), (a, np.int32(offset), np.int32(stride)))

    launch(16, 24)
    with pytest.raises(EmulatorError, match=r"stride must be a multiple of 8 .* is 20"):
        launch(0, 20)
    with pytest.raises(EmulatorError, match="multiple of 32 bytes") as caught:
        launch(4, 16)
    assert caught.value.line == line_of("load_matrix_sync(fa, a + offset")
    # where a launch is not checked, NumPy's arrays need not lie as a GPU's do
    launch(8, 16)
    with checking(), pytest.raises(EmulatorError, match="multiple of 32 bytes"):
        launch(8, 16)
    with checking():
        launch(16, 16)
