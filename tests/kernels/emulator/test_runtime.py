"""Fibers, barriers, warps and shared memory: kernels give what CUDA's rules say they give."""

import os
import signal
import threading

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm_kernels.emulator import EmulatorError, RawModule, checking, emulator_settings

CODE = r"""
extern "C" __global__ void transpose(const float* x, float* y, int rows, int columns) {
    __shared__ float tile[8][9];
    int row = blockIdx.y * 8 + threadIdx.y, column = blockIdx.x * 8 + threadIdx.x;
    if (row < rows && column < columns) tile[threadIdx.y][threadIdx.x] = x[row * columns + column];
    __syncthreads();
    row = blockIdx.x * 8 + threadIdx.y;
    column = blockIdx.y * 8 + threadIdx.x;
    if (row < columns && column < rows) y[row * rows + column] = tile[threadIdx.x][threadIdx.y];
}

template <class T>
__device__ T warp_sum(T value) {
    for (int step = 16; step; step /= 2) value += __shfl_down_sync(0xffffffff, value, step);
    return value;
}

template <class T>
__global__ void sum(const T* x, T* total, int n) {
    extern __shared__ __align__(16) unsigned char bytes[];
    T* part = reinterpret_cast<T*>(bytes);
    T mine = 0;
    for (int i = threadIdx.x; i < n; i += blockDim.x) mine += x[i];
    mine = warp_sum(mine);
    if (threadIdx.x % 32 == 0) part[threadIdx.x / 32] = mine;
    __syncthreads();
    if (threadIdx.x < 32) {
        int warps = (blockDim.x + 31) / 32;
        mine = warp_sum(threadIdx.x < warps ? part[threadIdx.x] : T(0));
        if (threadIdx.x == 0) *total = mine;
    }
}

// The same by halving, a barrier a step.
extern "C" __global__ void halving(const double* x, double* total, int n) {
    extern __shared__ double parts[];
    int t = threadIdx.x;
    parts[t] = 0;
    for (int i = t; i < n; i += blockDim.x) parts[t] += x[i];
    for (int left = blockDim.x; left > 1; left = (left + 1) / 2) {
        __syncthreads();
        if (t < left / 2) parts[t] += parts[t + (left + 1) / 2];
    }
    if (t == 0) *total = parts[0];
}

extern "C" __global__ void shuffles(const double* x, const int* from, double* y, int kind,
                                    int which, int width) {
    int lane = threadIdx.x, given = from[lane];
    double v = x[lane];
    switch (kind) {
        case 0: y[lane] = __shfl_sync(~0u, v, given, width); break;
        case 1: y[lane] = __shfl_up_sync(~0u, v, which, width); break;
        case 2: y[lane] = __shfl_down_sync(~0u, v, which, width); break;
        case 3: y[lane] = __shfl_xor_sync(~0u, v, which, width); break;
    }
}

extern "C" __global__ void votes(const int* x, unsigned* y) {
    int lane = threadIdx.x, all;
    unsigned mine = x[lane] & 7;
    unsigned* out = y + lane * 12;
    out[0] = __ballot_sync(~0u, x[lane] > 0);
    out[1] = __any_sync(~0u, x[lane] > 90);
    out[2] = __all_sync(~0u, x[lane] > -100);
    out[3] = __reduce_add_sync(~0u, x[lane]);
    out[4] = __reduce_min_sync(~0u, x[lane]);
    out[5] = __reduce_max_sync(~0u, (unsigned)x[lane]);
    out[6] = __reduce_xor_sync(~0u, (unsigned)x[lane]);
    out[7] = __match_any_sync(~0u, mine);
    out[8] = __match_all_sync(~0u, mine, &all);
    out[9] = all;
    if (x[lane] > 0) {
        out[10] = __activemask();
        out[11] = __popc(__ballot_sync(__activemask(), mine & 1));
    }
}

extern "C" __global__ void barriers(const int* x, int* y) {
    int t = threadIdx.x;
    y[t * 3] = __syncthreads_count(x[t]);
    y[t * 3 + 1] = __syncthreads_and(x[t]);
    y[t * 3 + 2] = __syncthreads_or(x[t]);
}

__constant__ float factors[4];
__device__ unsigned turns;

extern "C" __global__ void where(int* y) {
    __shared__ dim3 seen;
    if (threadIdx.x + threadIdx.y + threadIdx.z == 0) seen = blockIdx;
    __syncthreads();
    int thread = threadIdx.x + blockDim.x * (threadIdx.y + blockDim.y * threadIdx.z);
    int block = seen.x + gridDim.x * (seen.y + gridDim.y * seen.z);
    y[block * blockDim.x * blockDim.y * blockDim.z + thread] += block * 100 + thread;
}

extern "C" __global__ void scaled(float* y) { y[threadIdx.x] = factors[threadIdx.x] * 2; }

// In which order threads come to write themselves down, before and after a barrier.
extern "C" __global__ void order(unsigned* next, int* y) {
    y[atomicAdd(next, 1)] = blockIdx.x * blockDim.x + threadIdx.x;
    __syncthreads();
    y[atomicAdd(next, 1)] = blockIdx.x * blockDim.x + threadIdx.x;
}

extern "C" __global__ void forever(volatile int* x) {
    while (*x == 0) {}
}

// Thread 1 gives threads 0 and 2 the word, whichever of them runs first.
extern "C" __global__ void waits(int* word, int* y) {
    if (threadIdx.x == 1) atomicExch(word, 7);
    if (threadIdx.x == 0) {
        while (atomicAdd(word, 0) == 0) __nanosleep(10);
        y[0] = atomicAdd(word, 0);
    }
    if (threadIdx.x == 2) {
        while (atomicCAS(word, 7, 7) == 0) {}
        y[1] = 8;
    }
}
"""

seeds = st.integers(0, 2**32)


@pytest.fixture(scope="module")
def module():
    return RawModule(code=CODE, name_expressions=("sum<float>", "sum<int>", "sum<long long>"))


@pytest.fixture(scope="module", params=["native", "ucontext"])
def fibers(request):
    with emulator_settings(fibers=request.param):
        yield request.param


def transposed(module, x):
    rows, columns = x.shape
    y = np.full((columns, rows), np.nan, np.float32)
    grid = (-(-columns // 8), -(-rows // 8))
    module.get_function("transpose")(grid, (8, 8), (x, y, np.int32(rows), np.int32(columns)))
    return y


@settings(max_examples=40, deadline=None)
@given(rows=st.integers(1, 40), columns=st.integers(1, 40), seed=seeds)
def test_transposition_is_right_for_every_size_and_order(module, rows, columns, seed):
    x = np.random.default_rng(seed).standard_normal((rows, columns), np.float32)
    with emulator_settings(seed=seed):
        np.testing.assert_array_equal(transposed(module, x), x.T)


@settings(max_examples=40, deadline=None)
@given(n=st.integers(0, 3000), threads=st.integers(1, 1024), seed=seeds)
def test_sums_are_right_for_every_size_and_order(module, n, threads, seed):
    rng = np.random.default_rng(seed)
    with emulator_settings(seed=seed):
        for name, dtype in (("sum<int>", np.int32), ("sum<long long>", np.int64)):
            x, total = rng.integers(-1000, 1000, n).astype(dtype), np.zeros(1, dtype)
            # a warp's last lanes must be there for a shuffle to read them
            warps = -(-threads // 32)
            grid, block, shared = (1,), (32 * warps,), 8 * warps
            module.get_function(name)(grid, block, (x, total, np.int32(n)), shared_mem=shared)
            assert total[0] == x.sum()
        x, total = rng.integers(-1000, 1000, n).astype(np.float64), np.zeros(1)
        args = (x, total, np.int32(n))
        module.get_function("halving")((1,), (threads,), args, shared_mem=8 * threads)
        assert total[0] == x.sum()


def source(kind, lane, given, which, width):
    """From which lane a lane reads (PTX ISA, shfl.sync); not as the emulator has it written."""
    segment, place = divmod(lane, width)
    if kind == 0:
        return segment * width + given % width
    if kind == 3:
        other = lane ^ which
        return other if other // width <= segment else lane
    other = place + (which if kind == 2 else -which)
    return segment * width + other if 0 <= other < width else lane


@settings(max_examples=60, deadline=None)
@given(
    kind=st.integers(0, 3),
    which=st.integers(0, 31),
    width=st.sampled_from([1, 2, 4, 8, 16, 32]),
    seed=seeds,
)
def test_shuffles_read_the_lane_that_ptx_says(module, kind, which, width, seed):
    rng = np.random.default_rng(seed)
    x, given = rng.standard_normal(32), rng.integers(-40, 40, 32).astype(np.int32)
    y = np.zeros(32)
    with emulator_settings(seed=seed):
        module.get_function("shuffles")((1,), (32,), (x, given, y, kind, which, width))
    wanted = [x[source(kind, lane, int(given[lane]), which, width)] for lane in range(32)]
    np.testing.assert_array_equal(y, wanted)


def test_votes_reductions_and_matches(module):
    x = np.random.default_rng(3).integers(-99, 99, 32).astype(np.int32)
    y = np.zeros((32, 12), np.uint32)
    module.get_function("votes")((1,), (32,), (x, y))
    positive = sum(1 << i for i in range(32) if x[i] > 0)
    unsigned = x.astype(np.uint32)
    wanted = [positive, x.max() > 90, x.min() > -100, int(x.sum()) % 2**32]
    wanted += [int(x.min()) % 2**32, unsigned.max(), np.bitwise_xor.reduce(unsigned)]
    assert (y[:, :7] == np.array(wanted, np.uint32)).all()
    for lane in range(32):
        same = sum(1 << i for i in range(32) if x[i] & 7 == x[lane] & 7)
        assert y[lane, 7] == same
    assert (y[:, 8:10] == 0).all()
    odd = sum(1 for v in x if v > 0 and v & 1)
    for lane in range(32):
        assert list(y[lane, 10:]) == ([positive, odd] if x[lane] > 0 else [0, 0])


@pytest.mark.parametrize("set_bits", [0, 3, 70])
def test_barriers_that_count(module, set_bits):
    x, y = np.zeros(70, np.int32), np.zeros((70, 3), np.int32)
    x[np.random.default_rng(1).permutation(70)[:set_bits]] = 5
    module.get_function("barriers")((1,), (70,), (x, y))
    assert (y == [set_bits, set_bits == 70, set_bits > 0]).all()


def test_every_thread_of_every_block_runs_once(module):
    grid, block = (3, 2, 4), (5, 3, 2)
    y = np.zeros((24, 30), np.int32)
    module.get_function("where")(grid, block, (y,))
    np.testing.assert_array_equal(y, 100 * np.arange(24)[:, None] + np.arange(30))


def test_constant_memory_is_filled_through_get_global(module):
    module.get_global("factors").view(np.float32)[:] = [1, 2, 3, 4]
    y = np.zeros(4, np.float32)
    module.get_function("scaled")((1,), (4,), (y,))
    assert list(y) == [2, 4, 6, 8]


def orders(module, seed):
    next_place, y = np.zeros(1, np.uint32), np.zeros(2 * 64 * 5, np.int32)
    with emulator_settings(seed=seed, workers=1):
        module.get_function("order")((5,), (64,), (next_place, y))
    return y


def test_the_order_of_threads_and_blocks_is_the_seeds(module):
    drawn = [orders(module, seed) for seed in (1, 2, 1)]
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert (drawn[0] != drawn[1]).any()
    blocks = drawn[0].reshape(5, 2, 64) // 64
    assert (blocks == blocks[:, :1, :1]).all()  # a worker's blocks run one after another ...
    assert list(blocks[:, 0, 0]) != sorted(blocks[:, 0, 0])  # ... in a drawn order
    for both in drawn[0].reshape(5, 2, 64) % 64:
        for half in both:
            assert sorted(half) == list(range(64))
            assert list(half) != sorted(half)
        assert list(both[0]) != list(both[1])


def test_checked_launches_follow_the_seed_too(module):
    drawn = []
    for seed in (1, 2, 1):
        next_place, y = np.zeros(1, np.uint32), np.zeros(2 * 64 * 5, np.int32)
        with checking(seed=seed) as report:
            module.get_function("order")((5,), (64,), (next_place, y))
        drawn.append(y)
        assert str(report).splitlines()[0].startswith(f"1 launch checked, seed {seed}")
    np.testing.assert_array_equal(drawn[0], drawn[2])
    assert (drawn[0] != drawn[1]).any()


def test_both_kinds_of_fibers_give_the_same(module, fibers):
    x = np.random.default_rng(0).standard_normal((13, 27), np.float32)
    np.testing.assert_array_equal(transposed(module, x), x.T)
    x, total = np.arange(500.0), np.zeros(1)
    module.get_function("halving")((1,), (77,), (x, total, 500), shared_mem=8 * 77)
    assert total[0] == x.sum()
    y = orders(module, 11)
    with emulator_settings(fibers="native"):
        np.testing.assert_array_equal(y, orders(module, 11))


def test_launches_from_several_python_threads(module):
    rng = np.random.default_rng(5)
    inputs = [rng.standard_normal((31, 30 + i), np.float32) for i in range(6)]
    outputs = [None] * len(inputs)

    def work(i):
        for _ in range(5):
            outputs[i] = transposed(module, inputs[i])

    threads = [threading.Thread(target=work, args=(i,)) for i in range(len(inputs))]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for x, y in zip(inputs, outputs, strict=True):
        np.testing.assert_array_equal(y, x.T)


def test_a_thread_may_wait_for_another_that_it_lets_run(module):
    for seed in range(4):
        word, y = np.zeros(1, np.int32), np.zeros(2, np.int32)
        with emulator_settings(seed=seed):
            module.get_function("waits")((1,), (3,), (word, y))
        assert list(y) == [7, 8]


def test_control_c_stops_an_endless_kernel(module):
    if threading.current_thread() is not threading.main_thread():
        pytest.fail("signals reach only the main thread")
    timer = threading.Timer(0.3, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(KeyboardInterrupt):
        module.get_function("forever")((2,), (3,), (np.zeros(1, np.int32),))
    timer.join()
    x = np.ones((3, 4), np.float32)  # and the emulator goes on to work
    np.testing.assert_array_equal(transposed(module, x), x.T)


def test_strided_rows_are_passed_as_they_lie(module):
    wide = np.arange(12 * 20, dtype=np.float32).reshape(12, 20)
    with pytest.raises(EmulatorError, match="C-contiguous"):
        transposed(module, np.asfortranarray(wide))
    # a kernel without a leading dimension reads on into the row's rest, as on a GPU
    assert transposed(module, wide[:, :10])[0, 1] == wide[0, 10]
