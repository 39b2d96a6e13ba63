"""Races are found with both lines and both threads, and what is ordered is left in peace."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm_kernels.emulator import EmulatorError, RawModule, checking

CODE = r"""
#include <cuda_fp16.h>

extern "C" __global__ void tiled(const float* a, const float* b, float* c, int n, int skip) {
    __shared__ float left[8][8], right[8][8];
    int x = threadIdx.x, y = threadIdx.y, row = blockIdx.y * 8 + y, column = blockIdx.x * 8 + x;
    float sum = 0;
    for (int k0 = 0; k0 < n; k0 += 8) {
        left[y][x] = row < n && k0 + x < n ? a[row * n + k0 + x] : 0;         // writes left
        right[y][x] = column < n && k0 + y < n ? b[(k0 + y) * n + column] : 0;  // writes right
        if (skip != 1) __syncthreads();
        for (int k = 0; k < 8; ++k)
            sum += left[y][k] *                                                // reads left
                   right[k][x];                                                // reads right
        if (skip != 2) __syncthreads();
    }
    if (row < n && column < n) c[row * n + column] = sum;
}
extern "C" __global__ void warp_halving(const float* x, float* y, int skip) {
    __shared__ float part[64];
    int t = threadIdx.x;
    part[t] = x[t];
    if (skip != 1) __syncthreads();
    for (int step = 16; step; step /= 2) {
        float other = part[t % 32 + step < 32 ? t + step : t];                 // reads part
        if (skip != 2) __syncwarp();
        part[t] += other;                                                      // writes part
        if (skip != 3) __syncwarp();
    }
    if (t % 32 == 0) y[t / 32] = part[t];
}
// A shuffle makes the warp come together, and yet orders no memory.
extern "C" __global__ void shuffle_between(float* y) {
    __shared__ float part[32];
    int t = threadIdx.x;
    part[t] = t;                                                               // before it
    int zero = __shfl_sync(~0u, 0, 0);
    y[t] = part[31 - t] + zero;                                                // after it
}
// Lanes 0 to 15 and 16 to 31 sync apart: each half may read its own.
extern "C" __global__ void halves(float* y, int wrong) {
    __shared__ float part[32];
    int t = threadIdx.x, half = t / 16;
    part[t] = t;                                                               // own half
    __syncwarp(half ? 0xffff0000u : 0x0000ffffu);
    y[t] = part[wrong ? 31 - t : half * 16 + (15 - t % 16)];                   // any half
}
extern "C" __global__ void neighbours(__half* y) {
    __shared__ __half pair[64];
    pair[threadIdx.x] = __half((float)threadIdx.x);  // two threads write one word, apart
    y[threadIdx.x] = pair[threadIdx.x];
}
extern "C" __global__ void add(float* total, int* count, int atomic) {
    if (atomic) {
        atomicAdd(total, 1.0f);
    } else {
        *total += 1;                                                           // lost updates
    }
    __shared__ int here;
    if (threadIdx.x == 0) here = 0;
    __syncthreads();
    atomicAdd(&here, 1);
    __syncthreads();
    if (threadIdx.x == 0) atomicMax(count, here);
}
extern "C" __global__ void plain_beside_atomic(int* word, int* y) {
    if (threadIdx.x == 40) atomicAdd(word, 1);                                 // the atomic
    if (threadIdx.x == 1) y[0] = *word;                                        // the plain read
}
// The last block to come adds up what all have left (CUDA C++ Programming Guide, __threadfence).
extern "C" __global__ void last_block(float* parts, unsigned* count, float* total, int fence) {
    __shared__ bool last;
    if (threadIdx.x == 0) {
        parts[blockIdx.x] = blockIdx.x + 1;                                    // leaves a part
        if (fence) __threadfence();
        last = atomicInc(count, gridDim.x - 1) == gridDim.x - 1;
    }
    __syncthreads();
    if (last && threadIdx.x == 5) {
        float sum = 0;
        for (int i = 0; i < gridDim.x; ++i) sum += parts[i];                   // takes the parts
        *total = sum;
    }
}
extern "C" __global__ void blocks_overlap(float* y) {
    y[blockIdx.x * 24 + threadIdx.x] = threadIdx.x;                            // 32 of 24
}
extern "C" __global__ void in_place(float* x, float* same) {
    float mine = x[threadIdx.x + 1];                                           // reads the next
    same[threadIdx.x] = mine;                                                  // writes its own
}
"""
LINES = CODE.splitlines()
SEEDS = range(4)


def line_of(text):
    return next(i for i, line in enumerate(LINES, 1) if text in line)


@pytest.fixture(scope="module")
def module():
    return RawModule(code=CODE)


def checked(module, name, grid, block, args, seed=0):
    with checking(seed=seed) as report:
        module.get_function(name)(grid, block, args)
    return report


def assert_race(report, first, then, *, within_warp=None):
    """There is a race of these two lines and no finding of others."""
    lines = {(f.kind, f.other_line, f.line) for f in report.findings}
    wanted = ("race", line_of(first), line_of(then))
    assert wanted in lines, str(report)
    for finding in report.findings:
        if (finding.other_line, finding.line) == wanted[1:]:
            assert (finding.thread, finding.block) != (finding.other_thread, finding.other_block)
            assert f"line {finding.line} " in finding.message
            assert f"line {finding.other_line} " in finding.message
            assert finding.file == "kernel.cu"
            if within_warp is not None:
                assert finding.within_warp == within_warp
    return next(f for f in report.findings if (f.other_line, f.line) == wanted[1:])


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_syncthreads_is_named(module, seed):
    a, b = np.random.default_rng(0).standard_normal((2, 20, 20), np.float32)
    c = np.zeros((20, 20), np.float32)
    args = (a, b, c, np.int32(20))
    report = checked(module, "tiled", (3, 3), (8, 8), (*args, np.int32(0)), seed)
    report.raise_for_findings()
    assert report.findings == []
    np.testing.assert_allclose(c, a @ b, atol=1e-5)

    report = checked(module, "tiled", (3, 3), (8, 8), (*args, np.int32(1)), seed)
    # two rows of `left` and the threads that read them are one warp's; `right` is all warps'
    assert_race(report, "// writes left", "// reads left", within_warp=True)
    found = assert_race(report, "// writes right", "// reads right", within_warp=False)
    assert found.message.startswith(f"line {line_of('// writes right')} writes right at byte ")
    assert "with no __syncthreads between" in found.message
    with pytest.raises(EmulatorError, match=r"kernel.cu:\d+: race: line \d+ writes") as caught:
        report.raise_for_findings()
    assert caught.value.kind == "race"

    # without the second barrier it is the next tile's write that comes too early
    report = checked(module, "tiled", (3, 3), (8, 8), (*args, np.int32(2)), seed)
    assert_race(report, "// reads right", "// writes right", within_warp=False)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_missing_syncwarp_is_named(module, seed):
    x, y = np.arange(64, dtype=np.float32), np.zeros(2, np.float32)
    launch = ("warp_halving", (1,), (64,))
    report = checked(module, *launch, (x, y, np.int32(0)), seed)
    assert report.findings == []
    assert list(y) == [x[:32].sum(), x[32:].sum()]
    # the warps use only what they wrote themselves: without the barrier it is they who are racing
    report = checked(module, *launch, (x, y, np.int32(1)), seed)
    assert_race(report, "part[t] = x[t]", "// reads part", within_warp=True)
    for skip, first, then in ((2, "reads", "writes"), (3, "writes", "reads")):
        report = checked(module, *launch, (x, y, np.int32(skip)), seed)
        found = assert_race(report, f"// {first} part", f"// {then} part", within_warp=True)
        assert "with no __syncwarp or __syncthreads between" in found.message


def test_a_shuffle_orders_no_memory(module):
    report = checked(module, "shuffle_between", (1,), (32,), (np.zeros(32, np.float32),))
    assert_race(report, "// before it", "// after it", within_warp=True)


@pytest.mark.parametrize("seed", SEEDS)
def test_syncwarp_orders_the_lanes_of_its_mask_alone(module, seed):
    y = np.zeros(32, np.float32)
    assert checked(module, "halves", (1,), (32,), (y, np.int32(0)), seed).findings == []
    report = checked(module, "halves", (1,), (32,), (y, np.int32(1)), seed)
    assert_race(report, "// own half", "// any half")


def test_neighbouring_halves_are_no_race(module):
    y = np.zeros(64, np.float16)
    assert checked(module, "neighbours", (1,), (64,), (y,)).findings == []
    assert list(y) == list(range(64))


def test_atomics_do_not_race_but_plain_accesses_beside_them_do(module):
    total, count = np.zeros(1, np.float32), np.zeros(1, np.int32)
    report = checked(module, "add", (3,), (40,), (total, count, np.int32(1)))
    assert report.findings == []
    assert (total[0], count[0]) == (120, 40)
    report = checked(module, "add", (3,), (40,), (total, count, np.int32(0)))
    assert_race(report, "// lost updates", "// lost updates")
    words = np.zeros(1, np.int32), np.zeros(1, np.int32)
    report = checked(module, "plain_beside_atomic", (1,), (64,), words)
    (found,) = report.findings
    assert found.lines == {line_of("// the atomic"), line_of("// the plain read")}
    assert "updates atomically" in found.message


@pytest.mark.parametrize("seed", SEEDS)
def test_a_fence_and_an_atomic_order_blocks(module, seed):
    def args(fence):
        parts, count, total = (
            np.zeros(6, np.float32),
            np.zeros(1, np.uint32),
            np.zeros(1, np.float32),
        )
        return parts, count, total, np.int32(fence)

    given = args(1)
    assert checked(module, "last_block", (6,), (32,), given, seed).findings == []
    assert given[2][0] == 21
    report = checked(module, "last_block", (6,), (32,), args(0), seed)
    found = assert_race(report, "// leaves a part", "// takes the parts")
    assert found.block != found.other_block
    assert "nothing orders the blocks" in found.message


def test_blocks_that_write_the_same_elements(module):
    report = checked(module, "blocks_overlap", (4,), (32,), (np.zeros(104, np.float32),))
    found = assert_race(report, "// 32 of 24", "// 32 of 24")
    assert abs(found.block[0] - found.other_block[0]) == 1
    element = int(found.message.split(" writes y[")[1].split("]")[0])
    assert element == found.block[0] * 24 + found.thread[0]
    assert element == found.other_block[0] * 24 + found.other_thread[0]


def test_one_array_given_twice_is_one_memory(module):
    x = np.arange(33, dtype=np.float32)
    report = checked(module, "in_place", (1,), (32,), (x, x[:32]))
    assert_race(report, "// reads the next", "// writes its own")
    y = np.zeros(32, np.float32)
    report = checked(module, "in_place", (1,), (32,), (np.arange(33, dtype=np.float32), y))
    assert report.findings == []
    np.testing.assert_array_equal(y, np.arange(1, 33))


def test_the_same_seed_gives_the_same_report(module):
    args = (np.zeros(104, np.float32),)
    reports = [str(checked(module, "blocks_overlap", (4,), (32,), args, s)) for s in (1, 2, 1)]
    assert reports[0] == reports[2]
    assert reports[0] != reports[1]


def test_races_can_be_left_out(module):
    with checking(races=False) as report:
        module.get_function("blocks_overlap")((4,), (32,), (np.zeros(104, np.float32),))
    assert report.findings == []
    assert "nothing wrong was found" in str(report)


@settings(max_examples=25, deadline=None)
@given(n=st.integers(1, 24), skip=st.integers(0, 2), seed=st.integers(0, 2**32))
def test_a_tiled_product_races_exactly_where_a_barrier_lacks(module, n, skip, seed):
    a, b = np.random.default_rng(seed).standard_normal((2, n, n), np.float32)
    c = np.zeros((n, n), np.float32)
    blocks = -(-n // 8)
    report = checked(
        module, "tiled", (blocks, blocks), (8, 8), (a, b, c, np.int32(n), np.int32(skip)), seed
    )
    # with a single tile no write follows the reads, so the second barrier is not needed
    assert bool(report.findings) == (skip == 1 or (skip == 2 and n > 8))
    if not report.findings:
        np.testing.assert_allclose(c, a @ b, atol=1e-5)
