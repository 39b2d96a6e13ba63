"""Products for Hopper: a block for each multiprocessor, tiles by the tensor memory accelerator.

    persistent   every block takes whole tiles of C, one after another
    stream_k     every block takes an equal share of all steps along K, and `add_parts` adds the
                 pieces of a tile (Osama, Merrill, Cecka, Garland & Owens 2023, arXiv:2301.03598)

A and B come through tensor descriptors: one thread asks for a whole tile, which is copied into
swizzled shared memory while the tensor cores (wgmma, which reads both factors from there) work on
an earlier one. What lies outside of an array is read as 0 and not written, so any M, N, K will do;
bases and row lengths must be multiples of 16 bytes (PTX ISA, "Tensors", cuTensorMapEncodeTiled).

Tiles are visited in groups of GROUP rows of tiles, column by column within a group, so that the
blocks that run at one time share their rows of A and columns of B in the L2 cache: 132 tiles of
128 x 256 as 8 rows and 16.5 columns read 8 * 128 + 16.5 * 256 = 5248 rows of K numbers, where one
row of 132 tiles would read 128 + 132 * 256 = 33920.
"""

import triton
import triton.language as tl

from minillm_kernels.triton._epilogue import finish

__all__ = ["add_parts", "persistent", "stream_k"]


@triton.jit
def tile_of(number, tiles_m, tiles_n, GROUP: tl.constexpr):
    """(row, column) of the tile with this number, in the order that shares the L2 cache."""
    per_group = GROUP * tiles_n
    first = (number // per_group) * GROUP
    height = tl.minimum(tiles_m - first, GROUP)
    return first + (number % per_group) % height, (number % per_group) // height


@triton.jit
def describe(pointer, rows, columns, stride, BLOCK_ROWS: tl.constexpr, BLOCK_COLUMNS: tl.constexpr):
    """A descriptor of (rows, columns), its rows `stride` numbers apart, read in such blocks."""
    return tl.make_tensor_descriptor(
        pointer, [rows, columns], [stride, 1], [BLOCK_ROWS, BLOCK_COLUMNS]
    )


@triton.jit
def describe_a(a, M, K, stride, A_T: tl.constexpr, BM: tl.constexpr, BK: tl.constexpr):
    return describe(a, K, M, stride, BK, BM) if A_T else describe(a, M, K, stride, BM, BK)


@triton.jit
def step(
    total, a_tiles, b_tiles, row, column, k,
    A_T: tl.constexpr, B_T: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr,
):  # fmt: skip
    """total + A B over the BK columns of A from k on."""
    x = a_tiles.load([k, row]).T if A_T else a_tiles.load([row, k])
    y = b_tiles.load([column, k]).T if B_T else b_tiles.load([k, column])
    if WIDEN:  # the interpreter knows no arithmetic of half precision
        x, y = x.to(total.dtype), y.to(total.dtype)
    return tl.dot(x, y, total, input_precision=PRECISION, out_dtype=total.dtype)


@triton.jit
def halves(tile, M: tl.constexpr, N: tl.constexpr):
    """The left and the right half of an (M, N) tile, without moving a number between threads."""
    return tile.reshape((M, 2, N // 2)).permute((0, 2, 1)).split()


@triton.jit
def store_tile(
    total, c_tiles, other_tiles, kept_tiles, bias, sums, row, column, N, tile_m,
    EPILOGUE: tl.constexpr, HAS_BIAS: tl.constexpr, READS_OTHER: tl.constexpr,
    KEEP: tl.constexpr, HAS_SUMS: tl.constexpr, ADD: tl.constexpr, WIDEN: tl.constexpr,
    BN: tl.constexpr,
):  # fmt: skip
    """Finish a tile whose first number is C's (row, column), and store it."""
    columns = column + tl.arange(0, BN)
    at_columns = 0.0
    if HAS_BIAS:
        at_columns = tl.load(bias + columns, mask=columns < N, other=0).to(total.dtype)
    other = 0.0
    if READS_OTHER:
        other = other_tiles.load([row, column]).to(total.dtype)
    y, kept = finish(total, at_columns, other, EPILOGUE, HAS_BIAS)
    if KEEP:
        kept_tiles.store([row, column], kept.to(kept_tiles.dtype))
    if HAS_SUMS:
        tl.store(sums + tile_m.to(tl.int64) * N + columns, tl.sum(y, 0), mask=columns < N)
    if ADD and WIDEN:  # the interpreter knows no adding copies
        c_tiles.store([row, column], y.to(c_tiles.dtype) + c_tiles.load([row, column]))
    elif ADD:  # the copy engine adds; each number is touched once, so that no order is left open
        c_tiles.atomic_add([row, column], y.to(c_tiles.dtype))
    else:
        c_tiles.store([row, column], y.to(c_tiles.dtype))


@triton.jit
def persistent(
    a, b, c, bias, other, kept, sums, M, N, K, stride_a, stride_b, stride_c,
    A_T: tl.constexpr, B_T: tl.constexpr, EPILOGUE: tl.constexpr, HAS_BIAS: tl.constexpr,
    READS_OTHER: tl.constexpr, KEEP: tl.constexpr, HAS_SUMS: tl.constexpr, ADD: tl.constexpr,
    PRECISION: tl.constexpr, SUM: tl.constexpr, WIDEN: tl.constexpr,
    PROGRAMS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    GROUP: tl.constexpr, SUBTILES: tl.constexpr, SPECIALIZE: tl.constexpr,
):  # fmt: skip
    """c = finish(A B); a holds A (M, K), or (K, M) with A_T; b holds B (K, N), or (N, K) with B_T.

    c, other, kept : (M, N), all with rows stride_c apart; bias : (N,); sums : (tiles along M, N),
    the sums of c's columns within each row of tiles. ADD adds to a c of float32.
    """
    WIDTH: tl.constexpr = BN // SUBTILES
    a_tiles = describe_a(a, M, K, stride_a, A_T, BM, BK)
    b_tiles = describe_a(b, K, N, stride_b, B_T, BK, BN)
    c_tiles = describe(c, M, N, stride_c, BM, WIDTH)
    other_tiles, kept_tiles = c_tiles, c_tiles
    if READS_OTHER:
        other_tiles = describe(other, M, N, stride_c, BM, WIDTH)
    if KEEP:
        kept_tiles = describe(kept, M, N, stride_c, BM, WIDTH)
    tiles_m, tiles_n = tl.cdiv(M, BM), tl.cdiv(N, BN)
    for number in tl.range(
        tl.program_id(0), tiles_m * tiles_n, PROGRAMS,
        flatten=not SPECIALIZE, warp_specialize=SPECIALIZE,
    ):  # fmt: skip
        tile_m, tile_n = tile_of(number, tiles_m, tiles_n, GROUP)
        row, column = tile_m * BM, tile_n * BN
        total = tl.zeros((BM, BN), SUM)
        for k in tl.range(0, K, BK):
            total = step(total, a_tiles, b_tiles, row, column, k, A_T, B_T, PRECISION, WIDEN)
        if SUBTILES == 2:  # half the shared memory for the way out
            left, right = halves(total, BM, BN)
            store_tile(
                left, c_tiles, other_tiles, kept_tiles, bias, sums, row, column, N, tile_m,
                EPILOGUE, HAS_BIAS, READS_OTHER, KEEP, HAS_SUMS, ADD, WIDEN, WIDTH,
            )  # fmt: skip
            store_tile(
                right, c_tiles, other_tiles, kept_tiles, bias, sums, row, column + WIDTH, N, tile_m,
                EPILOGUE, HAS_BIAS, READS_OTHER, KEEP, HAS_SUMS, ADD, WIDEN, WIDTH,
            )  # fmt: skip
        else:
            store_tile(
                total, c_tiles, other_tiles, kept_tiles, bias, sums, row, column, N, tile_m,
                EPILOGUE, HAS_BIAS, READS_OTHER, KEEP, HAS_SUMS, ADD, WIDEN, WIDTH,
            )  # fmt: skip


@triton.jit
def stream_k(
    a, b, parts, M, N, K, stride_a, stride_b,
    A_T: tl.constexpr, B_T: tl.constexpr, PRECISION: tl.constexpr, SUM: tl.constexpr,
    WIDEN: tl.constexpr, PROGRAMS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr,
    BK: tl.constexpr, GROUP: tl.constexpr, SLOTS: tl.constexpr,
):  # fmt: skip
    """Block p takes the steps [p S / P, (p + 1) S / P) of all S = tiles * (K / BK) steps.

    parts : (PROGRAMS, SLOTS, BM, BN), what each block adds to the tiles that its share touches; a
    share of at most SLOTS - 1 whole tiles touches at most SLOTS.
    """
    a_tiles = describe_a(a, M, K, stride_a, A_T, BM, BK)
    b_tiles = describe_a(b, K, N, stride_b, B_T, BK, BN)
    block = tl.program_id(0)
    out = describe(parts, PROGRAMS * SLOTS * BM, BN, BN, BM, BN // 2)
    tiles_m, tiles_n, per_tile = tl.cdiv(M, BM), tl.cdiv(N, BN), tl.cdiv(K, BK)
    steps = tiles_m * tiles_n * per_tile
    first, last = share(block, steps, PROGRAMS), share(block + 1, steps, PROGRAMS)
    first_tile = first // per_tile
    for slot in tl.range(0, SLOTS):
        number = first_tile + slot
        begin = tl.maximum(first, number * per_tile) - number * per_tile
        end = tl.minimum(last, (number + 1) * per_tile) - number * per_tile
        if begin < end:
            tile_m, tile_n = tile_of(number, tiles_m, tiles_n, GROUP)
            row, column = tile_m * BM, tile_n * BN
            total = tl.zeros((BM, BN), SUM)
            for k in tl.range(begin, end):
                total = step(
                    total, a_tiles, b_tiles, row, column, k * BK, A_T, B_T, PRECISION, WIDEN
                )
            left, right = halves(total, BM, BN)
            out.store([(block * SLOTS + slot) * BM, 0], left)
            out.store([(block * SLOTS + slot) * BM, BN // 2], right)


@triton.jit
def share(block, steps, PROGRAMS: tl.constexpr):
    """The first step of a block's share; shares differ by one step at most."""
    return block * (steps // PROGRAMS) + tl.minimum(block, steps % PROGRAMS)


@triton.jit
def add_parts(
    parts, c, M, N, K, stride_c, ADD: tl.constexpr, SUM: tl.constexpr,
    PROGRAMS: tl.constexpr, BM: tl.constexpr, BN: tl.constexpr, BK: tl.constexpr,
    GROUP: tl.constexpr, SLOTS: tl.constexpr, ROWS: tl.constexpr,
):  # fmt: skip
    """c = the sum of each tile's parts, always in the same order (with ADD, added to c)."""
    tiles_m, tiles_n, per_tile = tl.cdiv(M, BM), tl.cdiv(N, BN), tl.cdiv(K, BK)
    steps = tiles_m * tiles_n * per_tile
    pieces: tl.constexpr = BM // ROWS
    number, piece = tl.program_id(0) // pieces, tl.program_id(0) % pieces
    tile_m, tile_n = tile_of(number, tiles_m, tiles_n, GROUP)
    inner = piece * ROWS + tl.arange(0, ROWS)
    columns = tl.arange(0, BN)
    rows = tile_m * BM + inner
    at = rows[:, None].to(tl.int64) * stride_c + (tile_n * BN + columns)[None, :]
    inside = (rows < M)[:, None] & (tile_n * BN + columns < N)[None, :]
    total = tl.zeros((ROWS, BN), SUM)
    if ADD:
        total = tl.load(c + at, mask=inside, other=0).to(SUM)
    first = block_of(number * per_tile, steps, PROGRAMS)
    last = block_of((number + 1) * per_tile - 1, steps, PROGRAMS)
    for block in tl.range(first, last + 1):
        slot = number - share(block, steps, PROGRAMS) // per_tile
        offset = ((block * SLOTS + slot).to(tl.int64) * BM + inner[:, None]) * BN
        total += tl.load(parts + offset + columns[None, :])
    tl.store(c + at, total.to(c.dtype.element_ty), mask=inside)


@triton.jit
def block_of(number, steps, PROGRAMS: tl.constexpr):
    """The block whose share has this step in it."""
    small, longer = steps // PROGRAMS, steps % PROGRAMS
    edge = longer * (small + 1)  # the shares of the first `longer` blocks are a step longer
    if number < edge:
        block = number // (small + 1)
    else:
        block = longer + (number - edge) // tl.maximum(small, 1)
    return block
