"""Rungs 01 to 08 of the matmul ladder: right on the emulator or a GPU, and wrong ones found."""

import contextlib
import os

os.environ.setdefault("MINILLM_EMULATE", "1")

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm_kernels.cuda.matmul import (
    COALESCED,
    MMA_SYNC,
    NAIVE,
    REGISTER_COLUMN,
    REGISTER_TILE,
    RUNGS,
    SHARED_TILE,
    TILINGS,
    VECTORISED,
    WARP_TILE,
    WGMMA,
    WMMA,
    matmul,
    order_of,
)
from minillm_kernels.emulator import EmulatorError, RawModule, checking
from tests.kernels.harness import TORCH_TYPES, as_good_as, epsilon, error, quantised

EMULATED = [rung for rung in RUNGS if rung.emulated]
CASES = [(rung, dtype) for rung in EMULATED for dtype in rung.dtypes]
IDS = [f"{rung.name}-{dtype}" for rung, dtype in CASES]


def stored(array, dtype):
    """A float array as the kernels take it: NumPy's type, or the bits of a bfloat16."""
    if dtype == "bfloat16":
        return torch.from_numpy(np.ascontiguousarray(array)).bfloat16().view(torch.uint16).numpy()
    return array.astype(dtype)


def floats(array):
    """The other way round."""
    if array.dtype == np.uint16:
        return torch.from_numpy(array.copy()).view(torch.bfloat16).double().numpy()
    return array.astype(np.float64)


def operands(seed, M, N, K, dtype):
    """a and b as the kernels take them, and as float64."""
    rng = np.random.default_rng(seed)
    (a, exact_a), (b, exact_b) = (quantised(rng, shape, dtype) for shape in ((M, K), (K, N)))
    return stored(a, dtype), stored(b, dtype), exact_a, exact_b


def vendor(a, b, dtype, device="cpu"):
    """torch's product of the same numbers in the same type."""
    a, b = (torch.from_numpy(x).to(device, TORCH_TYPES[dtype]) for x in (a, b))
    return (a @ b).double().cpu().numpy()


def spread(array, gap, start):
    """The same matrix in rows with a gap between them, somewhere inside a larger array of NaNs."""
    rows, columns = array.shape
    bits = np.full(start + rows * (columns + gap), 0x7FFF, np.uint16)
    wide = bits if array.dtype == np.uint16 else np.full(bits.size, np.nan, array.dtype)
    view = wide[start:].reshape(rows, columns + gap)[:, :columns]
    view[...] = array
    return view


@pytest.mark.parametrize(("rung", "dtype"), CASES, ids=IDS)
def test_product(place, rung, dtype):
    """As good as torch's for any size, also where rows have gaps and start anywhere."""
    most = place.size(150, 1500)

    @settings(max_examples=place.size(12, 30), deadline=None, derandomize=True, database=None)
    @given(
        M=st.integers(1, most),
        N=st.integers(1, most),
        K=st.integers(1, place.size(70, 3000)),
        gap=st.sampled_from([0, 0, 3, 8]),
        start=st.sampled_from([0, 0, 1, 8]),
        seed=st.integers(0, 99),
    )
    def run(M, N, K, gap, start, seed):
        a, b, exact_a, exact_b = operands(seed, M, N, K, dtype)
        a, b = (place.array(spread(x, gap, start)) for x in (a, b))
        c = place.numpy(matmul(a, b, rung=rung))
        assert c.shape == (M, N)
        with place.exact_vendor():
            theirs = vendor(exact_a, exact_b, dtype, place.device)
        as_good_as(floats(c), theirs, exact_a @ exact_b, dtype, str(rung))

    run()


@pytest.mark.parametrize(("rung", "dtype"), CASES, ids=IDS)
def test_only_out_is_written(place, rung, dtype):
    M, N, K = 37, 45, 19
    a, b, exact_a, exact_b = operands(1, M, N, K, dtype)
    guarded = stored(np.full((M + 2, N + 8), 7.0), dtype)
    wide = place.array(guarded.copy())
    out = wide[1:-1, 3 : 3 + N]
    given_a, given_b = place.array(a.copy()), place.array(b.copy())
    assert matmul(given_a, given_b, rung=rung, out=out) is out
    wide = place.numpy(wide)
    assert error(floats(wide[1:-1, 3 : 3 + N]), exact_a @ exact_b) < 4 * epsilon(dtype)
    wide[1:-1, 3 : 3 + N] = guarded[1:-1, 3 : 3 + N]
    np.testing.assert_array_equal(wide, guarded)
    np.testing.assert_array_equal(place.numpy(given_a), a)
    np.testing.assert_array_equal(place.numpy(given_b), b)


def test_float64(place):
    a, b, _, _ = operands(2, 40, 33, 50, "float64")
    c = place.numpy(matmul(place.array(a), place.array(b), rung=VECTORISED))
    assert c.dtype == np.float64
    np.testing.assert_allclose(c, a @ b, rtol=0, atol=200 * epsilon("float64"))


def test_nothing_to_multiply(place):
    ones = [place.array(np.ones(shape, np.float32)) for shape in ((3, 0), (0, 4), (4, 5), (0, 3))]
    three_none, none_four, four_five, none_three = ones
    assert matmul(none_four, four_five, rung=NAIVE).shape == (0, 5)
    assert not place.numpy(matmul(three_none, none_three, rung=NAIVE)).any()
    bias = place.array(np.arange(4, dtype=np.float32))
    added = place.numpy(matmul(three_none, none_four, bias=bias))
    np.testing.assert_array_equal(added, np.tile(np.arange(4), (3, 1)))


def test_options_of_the_warp_tile(place):
    """Both operands transposed, a bias, added to what is there: every macro at once."""
    rng = np.random.default_rng(5)
    a, b = rng.standard_normal((40, 70)).astype("f"), rng.standard_normal((90, 40)).astype("f")
    bias, old = rng.standard_normal(90).astype("f"), rng.standard_normal((70, 90)).astype("f")
    out = place.array(old.copy())
    there = [place.array(x) for x in (a, b, bias)]
    matmul(there[0].T, there[1].T, bias=there[2], out=out, accumulate=True)
    truth = a.T.astype("d") @ b.T + bias + old
    assert error(place.numpy(out), truth) < 4 * epsilon("float32")


def test_rungs_by_number_and_name(place):
    a = place.array(np.eye(3, dtype=np.float32))
    for rung in (1, "01", "01_naive"):
        if rung == "01":
            with pytest.raises(UserError, match="has no rung '01'; it has: 01_naive"):
                matmul(a, a, rung=rung)
        else:
            np.testing.assert_array_equal(place.numpy(matmul(a, a, rung=rung)), np.eye(3))


def test_tilings_are_those_of_the_files():
    """What the launcher believes of a file stands in the file."""
    for rung in RUNGS[3:]:
        text = rung.path.read_text()
        tiling = TILINGS[rung]
        assert f"#define BM {tiling.rows}\n" in text
        assert f"#define BN {tiling.columns}\n" in text
        assert tiling.shared <= 232448


A = np.ones((4, 8), np.float32)
REFUSED = {
    "no array": ({"a": [[1.0]]}, "a must be a CuPy or NumPy array, got list"),
    "dtype": ({"a": A.astype(int)}, "a must be float32 or float64 for matmul 07_.*got int64"),
    "half": ({"a": A.astype("e")}, "a must be float32 or float64 for matmul 07_.*got float16"),
    "two dtypes": ({"b": np.ones((8, 3))}, "b must be float32, got float64"),
    "vector": ({"a": A[0]}, r"a must have shape \(any, any\), got \(8,\)"),
    "width": ({"b": A}, r"b must have shape \(8, any\), got \(4, 8\)"),
    "every other": (
        {"a": np.ones((4, 16), "f")[:, ::2]},
        r"a must have contiguous rows that do not overlap .* got strides \(64, 8\) bytes",
    ),
    "backwards": ({"a": A[::-1]}, r"a must have contiguous rows .* got strides \(-32, 4\) bytes"),
    "broadcast": ({"a": np.broadcast_to(A[:1], A.shape)}, r"strides \(0, 4\) bytes"),
    "transposed": ({"a": np.ones((8, 4), "f").T, "rung": 2}, "contiguous rows .*matmul 02_coal"),
    "out": ({"out": np.ones((4, 4), "f")}, r"out must have shape \(4, 3\), got \(4, 4\)"),
    "out transposed": ({"out": np.ones((3, 4), "f").T}, "out must lie row by row"),
    "out is an input": ({"a": A, "b": np.ones((8, 8), "f"), "out": A}, "out shares memory with a"),
    "bias": ({"bias": np.ones(4, "f")}, r"bias must have shape \(3,\), got \(4,\)"),
    "bias elsewhere": (
        {"bias": np.ones(3, "f"), "rung": 6},
        "bias and accumulate are for matmul 07",
    ),
    "accumulate": ({"accumulate": True}, "accumulate=True adds to out, which is None"),
    "narrow": ({"rung": 8}, "a must be float16 or bfloat16 for matmul 08_wmma, got float32"),
}


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case):
    arguments, message = REFUSED[case]
    arguments = {"a": A, "b": np.ones((8, 3), np.float32), **arguments}
    with pytest.raises(ValueError, match=message):
        matmul(arguments.pop("a"), arguments.pop("b"), **arguments)


@pytest.mark.parametrize("rung", [MMA_SYNC, WGMMA], ids=str)
def test_wide_rungs_are_refused_clearly(rung):
    """Rows that do not start at 16 bytes, and the emulator, before anything is launched."""
    whole = np.ones((24, 24), np.float16)
    with pytest.raises(UserError, match=r"needs a GPU .*speaks to hardware that the emulator"):
        matmul(whole, whole, rung=rung)
    with pytest.raises(ValueError, match="a must start, and start every row, at a multiple of 16"):
        matmul(whole[:, :9].copy(), whole[:9], rung=rung)
    with pytest.raises(ValueError, match="b must start, and start every row, at a multiple of 16"):
        matmul(whole[:, :16], whole[:16, 1:9], rung=rung)


def test_more_blocks_than_the_grid_allows():
    tall = np.lib.stride_tricks.as_strided(A, (32 * 65535 + 1, 1), (4, 4))
    with pytest.raises(ValueError, match="65536 blocks on axis y, allowed are 1 to 65535"):
        matmul(tall, np.ones((1, 1), "f"), rung=NAIVE)


def test_longer_than_the_kernels_count():
    long = np.lib.stride_tricks.as_strided(A, (2**31, 1), (4, 4))
    with pytest.raises(ValueError, match="must be at most 2147482624 long and wide, got"):
        matmul(long, np.ones((1, 1), "f"), rung=NAIVE)


def test_order_of():
    whole = np.zeros((6, 8), np.float32)
    assert order_of(whole) == (8, False)
    assert order_of(whole.T) == (8, True)
    assert order_of(whole[::2, 1:4]) == (16, False)
    assert order_of(whole[:1]) == (8, False)
    assert order_of(whole[:, :1]) == (8, False)
    assert order_of(whole[:, ::2]) is None
    assert order_of(whole[::-1]) is None


# ---- watched by the emulator ---------------------------------------------------------------------


def watched(rung, M, N, K):
    a, b, _, _ = operands(0, M, N, K, next(iter(rung.dtypes)))
    with checking() as report:
        matmul(a, b, rung=rung)
    return report


def total(report, memory, what):
    return sum(getattr(line, what) for line in report.lines if line.memory == memory)


def of_line(report, rung, text):
    """The counts of global memory of the one line of a file that holds `text`."""
    (number,) = (n for n, line in enumerate(rung.path.read_text().splitlines(), 1) if text in line)
    (count,) = (c for c in report.counts(number) if c.memory == "global")
    return count


@pytest.fixture(scope="module")
def reports():
    """What one launch of each rung cost, where its tiles fit."""
    return {rung: watched(rung, 128, 128, 32) for rung in EMULATED}


@pytest.mark.parametrize("rung", EMULATED, ids=str)
def test_no_mistakes(reports, rung):
    """No race, nothing outside an array, nothing read before it is written; edges and all."""
    assert reports[rung].findings == []
    assert watched(rung, 131, 37, 19).findings == []


def test_coalescing(reports):
    """01 and 02 differ in nothing but that: 32 sectors for a row of C, or 4."""
    line = "C[row * ldc + col] = sum;"
    assert of_line(reports[NAIVE], NAIVE, line).per_request == 32
    assert of_line(reports[COALESCED], COALESCED, line).per_request == 4
    # of A one number, of B 32 neighbours: (1 + 4) / 2; the naive rung the other way round
    line = "sum += A[row * lda + k] * B[k * ldb + col];"
    assert of_line(reports[NAIVE], NAIVE, line).per_request == (32 + 1) / 2
    assert of_line(reports[COALESCED], COALESCED, line).per_request == (1 + 4) / 2


def test_each_rung_asks_for_less(reports):
    """The story that the headers tell, in numbers: what tiles save."""
    sectors = {rung: total(reports[rung], "global", "transfers") for rung in EMULATED}
    assert sectors[NAIVE] > 6 * sectors[COALESCED] > 6 * 7 * sectors[SHARED_TILE]
    assert sectors[SHARED_TILE] > sectors[REGISTER_COLUMN] > sectors[REGISTER_TILE]
    # 06 and 07 move the same sectors as 05 in a quarter of the requests
    asked = {rung: total(reports[rung], "global", "requests") for rung in EMULATED}
    for rung in (VECTORISED, WARP_TILE):
        assert sectors[rung] == sectors[REGISTER_TILE]
        assert asked[rung] * 4 == asked[REGISTER_TILE]
    # reads and writes of shared memory: two a product, then 1.1, 0.25, a quarter of that
    asked = {rung: total(reports[rung], "shared", "requests") for rung in EMULATED}
    assert asked[SHARED_TILE] > 1.7 * asked[REGISTER_COLUMN]
    assert asked[REGISTER_COLUMN] > 4 * asked[REGISTER_TILE]
    assert asked[REGISTER_TILE] > 3.5 * asked[VECTORISED]


@pytest.mark.parametrize("rung", EMULATED, ids=str)
def test_no_bank_conflicts(reports, rung):
    """But where WMMA's sums leave: no padding suits both how they come and how they go."""
    lines = rung.path.read_text().splitlines()
    found = [lines[c.line - 1] for c in reports[rung].lines if c.bank_conflicts]
    assert all("store_matrix_sync" in line for line in found)
    assert not found or rung is WMMA


# ---- known to be wrong -------------------------------------------------------------------------


def changed(rung, old, new, count=-1):
    """A rung's text with one thing wrong."""
    text = rung.path.read_text()
    assert old in text
    return text.replace(old, new, count)


def product_of(code, rung, M, N, K, dtype="float32"):
    """The product by a changed rung, into an array of the same size as the right one."""
    a, b, exact_a, exact_b = operands(3, M, N, K, dtype)
    out = np.zeros((M, N), a.dtype)
    tiling = TILINGS[rung]
    grid = (-(-N // tiling.columns), -(-M // tiling.rows))
    strides = map(np.int64, (K, N, N))
    kernel = RawModule(code=code).get_function("matmul")
    kernel(grid, tiling.block, (a, b, out, np.int32(M), np.int32(N), np.int32(K), *strides))
    return error(floats(out), exact_a @ exact_b)


WRONG = {
    "last k forgotten": (SHARED_TILE, "k < TILE; ++k", "k < TILE - 1; ++k"),
    "lanes exchanged": (
        WARP_TILE,
        "int lane_row = lane / 2 % 8, lane_col = lane % 2 + lane / 16 * 2",
        "int lane_row = lane / 4, lane_col = lane / 4 % 4",
    ),
    "fragment of B transposed": (
        WMMA,
        "matrix_b, 16, 16, 16, HALF, wmma::row_major",
        "matrix_b, 16, 16, 16, HALF, wmma::col_major",
    ),
}


@pytest.mark.parametrize("case", WRONG)
def test_wrong_twins_fail(case):
    rung, old, new = WRONG[case]
    dtype = "float16" if rung is WMMA else "float32"
    assert product_of(changed(rung, old, new), rung, 64, 64, 64, dtype) > 100 * epsilon(dtype)


UNSAFE = {
    "no barrier before reading": (SHARED_TILE, "        __syncthreads();\n", 0, "race"),
    "no barrier before overwriting": (SHARED_TILE, "        __syncthreads();\n", 1, "race"),
    "a row too many": (COALESCED, "row >= M", "row > M", "out of bounds"),
}


@pytest.mark.parametrize("case", UNSAFE)
def test_unsafe_twins_are_found(case):
    """Also where the product happens to be right: by the checks, with the name of the mistake."""
    rung, old, new, kind = UNSAFE[case]
    text = rung.path.read_text()
    if isinstance(new, int):  # which of them to leave out
        parts = text.split(old)
        code = old.join(parts[: new + 1]) + old.join(parts[new + 1 :])
    else:
        code = changed(rung, old, new)
    assert code != text
    with checking() as report, contextlib.suppress(EmulatorError):
        product_of(code, rung, 33, 40, 70)
    assert kind in {finding.kind for finding in report.findings}
