"""A product for any NVIDIA GPU: a tile of C a block, loads by pointers, any strides.

A block walks along K; Triton copies the next tiles of A and B into shared memory (cp.async, from
sm_80 on) while the tensor cores work on these. Where a dtype has no tensor cores (float32 as it is,
float64, and all on a T4, for which Triton has none of their instructions) the tiles are smaller.

With SPLITS > 1 the blocks of a tile share its K: each writes its sum to a C of its own, and
`sum_rows` (_sums.py) adds those (split-K), in the same order every time.
"""

import triton
import triton.language as tl

from minillm_kernels.triton._epilogue import finish
from minillm_kernels.triton._persistent import tile_of

__all__ = ["plain"]


@triton.jit
def plain(
    a, b, c, bias, other, kept, sums, M, N, K,
    stride_am, stride_ak, stride_bk, stride_bn, stride_cm,
    stride_az, stride_bz, stride_cz,
    EPILOGUE: tl.constexpr, HAS_BIAS: tl.constexpr, READS_OTHER: tl.constexpr,
    KEEP: tl.constexpr, HAS_SUMS: tl.constexpr, ADD: tl.constexpr, PRECISION: tl.constexpr,
    SUM: tl.constexpr, WIDEN: tl.constexpr, SPLITS: tl.constexpr, EVEN_K: tl.constexpr,
    BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr, GROUP: tl.constexpr,
):  # fmt: skip
    """c[z] = finish(A[z] B[z]); A (Z, M, K), B (Z, K, N) with these strides; c, other, kept
    (Z, M, N) with rows stride_cm apart; bias (N,); sums (tiles along M, N), for Z = 1.

    With SPLITS, c is (Z * SPLITS, M, N), and the epilogue is "none".
    """
    tiles_m, tiles_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
    tiles = tiles_m * tiles_n
    tile_m, tile_n = tile_of(tl.program_id(0) % tiles, tiles_m, tiles_n, GROUP)
    batch = tl.program_id(0) // tiles  # of Z * SPLITS
    z = (batch // SPLITS).to(tl.int64)
    # Offsets of the tile in 64 bits, within the tile in 32.
    row, column = (tile_m * BM).to(tl.int64), (tile_n * BN).to(tl.int64)
    rows, columns, depth = tl.arange(0, BM), tl.arange(0, BN), tl.arange(0, BK)
    in_m, in_n = (row + rows) < M, (column + columns) < N
    steps = tl.cdiv(K, BK)
    begin, end = 0, steps
    if SPLITS > 1:
        part = tl.cdiv(steps, SPLITS)
        begin = (batch % SPLITS) * part
        end = tl.minimum(begin + part, steps)
    k0 = (begin * BK).to(tl.int64) if SPLITS > 1 else 0
    x_at = a + z * stride_az + row * stride_am + k0 * stride_ak
    x_at = x_at + (rows[:, None] * stride_am + depth[None, :] * stride_ak)
    y_at = b + z * stride_bz + column * stride_bn + k0 * stride_bk
    y_at = y_at + (depth[:, None] * stride_bk + columns[None, :] * stride_bn)
    total = tl.zeros((BM, BN), SUM)
    for k in tl.range(begin, end):
        in_x, in_y = in_m[:, None], in_n[None, :]
        if not EVEN_K:
            in_k = depth < K - k * BK
            in_x, in_y = in_x & in_k[None, :], in_y & in_k[:, None]
        x = tl.load(x_at, mask=in_x, other=0)
        y = tl.load(y_at, mask=in_y, other=0)
        if WIDEN:  # the interpreter knows no arithmetic of half precision
            x, y = x.to(SUM), y.to(SUM)
        total = tl.dot(x, y, total, input_precision=PRECISION, out_dtype=SUM)
        x_at += BK * stride_ak
        y_at += BK * stride_bk
    at_columns = 0.0
    if HAS_BIAS:
        at_columns = tl.load(bias + column + columns, mask=in_n, other=0).to(SUM)
    at = batch.to(tl.int64) * stride_cz + row * stride_cm + column
    at = at + (rows[:, None] * stride_cm + columns[None, :])
    inside = in_m[:, None] & in_n[None, :]
    tile = 0.0
    if READS_OTHER:
        tile = tl.load(other + at, mask=inside, other=0).to(SUM)
    y, before = finish(total, at_columns, tile, EPILOGUE, HAS_BIAS)
    if KEEP:
        tl.store(kept + at, before.to(kept.dtype.element_ty), mask=inside)
    if HAS_SUMS:
        at_sums = sums + tile_m.to(tl.int64) * N + column + columns
        tl.store(at_sums, tl.sum(tl.where(inside, y, 0), 0), mask=in_n)
    if ADD:
        y += tl.load(c + at, mask=inside, other=0).to(SUM)
    tl.store(c + at, y.to(c.dtype.element_ty), mask=inside)
