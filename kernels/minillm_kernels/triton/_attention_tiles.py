"""What the attention kernels share: which tile a program works on, and reading and writing tiles.

A head size that is no power of two is cut into two pieces that are, since `tl.dot` takes powers of
two: 80 = 64 + 16 costs 80 columns of products where padding to 128 would cost 128 (1.6 times as
many), and 96 = 64 + 32 saves a quarter. SIZE is the true size, D0 and D1 the pieces' widths (D1 = 0
for one piece), and columns past SIZE read as zeros.
"""

import triton
import triton.language as tl

__all__ = [
    "LN2",
    "LOG2E",
    "LOWEST",
    "load_rows",
    "load_tile",
    "pieces",
    "sequence",
    "store_tile",
    "visible_pairs",
    "which_tile",
]

LOG2E = tl.constexpr(1.4426950408889634)  # exp(x) = exp2(x log2(e)): the GPU has exp2 alone
LN2 = tl.constexpr(0.6931471805599453)
LOWEST = tl.constexpr(-3.4028234e38)  # finite, so that -inf - LOWEST is no NaN


def pieces(size):
    """The widths (D0, D1) that a head size is cut into: 64 -> (64, 0), 80 -> (64, 16)."""
    if 64 < size <= 96:
        return 64, 16 if size <= 80 else 32
    return max(16, triton.next_power_of_2(size)), 0


@triton.jit
def which_tile(tiles, heads, together, LAST_FIRST: tl.constexpr):
    """This program's tile and head.

    Programs start in their order. `together` heads share the L2 cache, so their tiles are done
    before the next heads'; and inside, with LAST_FIRST, the last tile of all heads comes before any
    other: under a causal mask it is the longest, and starting the longest first keeps the end short
    (Graham 1969, "Bounds on multiprocessing timing anomalies").
    """
    program = tl.program_id(0)
    first = program // (tiles * together) * together
    inside = program - first * tiles
    width = tl.minimum(heads - first, together)
    tile = inside // width
    head = first + inside % width
    if LAST_FIRST:
        tile = tiles - 1 - tile
    return tile, head


@triton.jit
def sequence(starts, batch, length, VARLEN: tl.constexpr):
    """(first row, number of rows) of a sequence; with VARLEN all lie one after the other."""
    if VARLEN:
        first = tl.load(starts + batch).to(tl.int64)
        return first, (tl.load(starts + batch + 1) - first).to(tl.int32)
    else:
        return tl.full((), 0, tl.int64), length


@triton.jit
def load_tile(
    x,
    batch,
    head,
    row,
    rows,
    stride,
    FIRST: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
    TMA: tl.constexpr,
    WIDEN: tl.constexpr,
):
    """Rows row..row + BLOCK of one head, columns FIRST..FIRST + WIDTH: (BLOCK, WIDTH).

    x is a descriptor of (B, H, T, D) with TMA, and otherwise a pointer to the head's first row.
    What lies past the last row or column reads as zero.
    """
    if TMA:
        tile = x.load([batch, head, row, FIRST]).reshape(BLOCK, WIDTH)
    else:
        r = row + tl.arange(0, BLOCK)
        c = FIRST + tl.arange(0, WIDTH)
        at = x + r[:, None] * stride + c[None, :]
        inside = r[:, None] < rows
        if FIRST + WIDTH > SIZE:
            inside = inside & (c[None, :] < SIZE)
        tile = tl.load(at, mask=inside, other=0.0)
    if WIDEN:  # the interpreter computes nothing right in bfloat16
        tile = tile.to(tl.float32)
    return tile


@triton.jit
def store_tile(
    x,
    tile,
    row,
    rows,
    stride,
    FIRST: tl.constexpr,
    WIDTH: tl.constexpr,
    SIZE: tl.constexpr,
    BLOCK: tl.constexpr,
):
    """Write (BLOCK, WIDTH) to rows row.. and columns FIRST.. of the head that x points to.

    Rows of a packed projection lie so far apart that a long sequence's need 64 bits.
    """
    r = tl.arange(0, BLOCK)
    c = FIRST + tl.arange(0, WIDTH)
    inside = (row + r < rows)[:, None] & (c < SIZE)[None, :]
    at = x + row.to(tl.int64) * stride + (r[:, None] * stride + c[None, :])
    tl.store(at, tile.to(x.dtype.element_ty), mask=inside)


@triton.jit
def load_rows(x, row, rows, BLOCK: tl.constexpr, other):
    """One number for each of BLOCK rows: (BLOCK,)."""
    r = row + tl.arange(0, BLOCK)
    return tl.load(x + r, mask=r < rows, other=other)


@triton.jit
def visible_pairs(
    t, s, T, S, diagonal, mask, mask_t, mask_s, CAUSAL: tl.constexpr, MASK: tl.constexpr
):
    """Which queries t may see which keys s; t and s are index tiles that broadcast together.

    mask, where MASK, points to the head's (T, S) booleans, read with strides mask_t and mask_s.
    Queries past the end see what they like: nobody reads them.
    """
    seen = s <= t + diagonal if CAUSAL else s < S  # causal: so below S for every query there is
    if MASK:
        at = mask + t.to(tl.int64) * mask_t + s * mask_s
        seen = seen & (tl.load(at, mask=(s < S) & (t < T), other=0) != 0)
    return seen
