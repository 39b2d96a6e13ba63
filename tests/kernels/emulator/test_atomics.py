"""Atomics: no update is lost between threads, blocks and the machine's own threads."""

import numpy as np
import pytest

from minillm_kernels.emulator import RawModule

BLOCKS, THREADS = 64, 96
TOTAL = BLOCKS * THREADS

# One module for all: compiling is what takes the time. `i` is the thread's number.
SOURCE = """
#include <cuda_bf16.h>
#include <cuda_fp16.h>
#define KERNEL(name, ...)                                      \\
    extern "C" __global__ void name(__VA_ARGS__) {             \\
        const int i = blockIdx.x * blockDim.x + threadIdx.x;

#define ADD(name, T)                                           \\
    KERNEL(add_##name, T* y)                                   \\
        atomicAdd(&y[i % 2], (T)(i % 3));                      \\
        atomicAdd_block(&y[2 + i % 2], (T)(i % 3));            \\
        atomicAdd_system(&y[4 + i % 2], (T)(i % 3));           \\
    }
ADD(int32, int) ADD(uint32, unsigned) ADD(uint64, unsigned long long)
ADD(float32, float) ADD(float64, double)

#define ADD_16(name, T, count)                                                                  \\
    KERNEL(add_##name, T* y)                                                                    \\
        if (i < 4 * count) atomicAdd(&y[i % 4], T(1.0f));                                       \\
        if (i < count) atomicAdd((T##2*)y + 2, T##2(T(1.0f), T(-1.0f)));                        \\
    }
ADD_16(half, __half, 1500) ADD_16(bf16, __nv_bfloat16, 256)

#define EXTREMES(name, T)                                      \\
    KERNEL(extremes_##name, T* y, const T* x)                  \\
        atomicMin(&y[0], x[i]);                                \\
        atomicMax(&y[1], x[i]);                                \\
    }
EXTREMES(int32, int) EXTREMES(uint32, unsigned)
EXTREMES(int64, long long) EXTREMES(uint64, unsigned long long)

KERNEL(contended, float* y, double* z, unsigned* wide)
    for (int k = 0; k < 400; ++k) {
        atomicAdd(y, i % 2 ? 1.0f : -0.5f);
        atomicAdd(z, 1.0);
        atomicMax(wide, atomicInc(wide + 1, 0xffffffffu) + 1);
    }
}

KERNEL(bits, unsigned* y)
    atomicAnd(&y[0], ~(1u << i % 7));
    atomicOr(&y[1], 1u << i % 9);
    atomicXor(&y[2], 1u << i % 5);
}

KERNEL(tickets, int* ticket, int* counter)
    ticket[i] = atomicAdd(counter, 1);
}

KERNEL(wrap, unsigned* y)
    atomicInc(&y[0], 99u);
    atomicDec(&y[1], 99u);
    atomicSub(&y[2], 2u);
}

#define EXCHANGE(name, T)                                      \\
    KERNEL(exchange_##name, T* kept, T* place)                 \\
        kept[i] = atomicExch(place, (T)i);                     \\
    }
EXCHANGE(int32, int) EXCHANGE(uint64, unsigned long long) EXCHANGE(float32, float)

KERNEL(largest, float* y, const float* x)
    int* bits = (int*)y;
    int old = *(volatile int*)bits, seen;
    do {
        seen = old;
        if (__int_as_float(seen) >= x[i]) break;
        old = atomicCAS(bits, seen, __float_as_int(x[i]));
    } while (old != seen);
}

KERNEL(swap_twice, unsigned long long* y)
    if (i == 0) {
        y[0] = atomicCAS(&y[2], 5ull, 9ull);
        y[1] = atomicCAS(&y[2], 5ull, 11ull);
    }
}

KERNEL(in_shared_memory, int* y)
    __shared__ int sum;
    if (threadIdx.x == 0) sum = i - i;
    __syncthreads();
    atomicAdd(&sum, (int)threadIdx.x);
    __syncthreads();
    if (threadIdx.x == 0) y[blockIdx.x] = sum;
}
"""


@pytest.fixture(scope="module")
def run():
    """run(name, *arrays): one launch of BLOCKS x THREADS threads; the first array."""
    module = RawModule(code=SOURCE)

    def launch(name, *arrays):
        module.get_function(name)((BLOCKS,), (THREADS,), arrays)
        return arrays[0]

    return launch


@pytest.mark.parametrize("dtype", ["int32", "uint32", "uint64", "float32", "float64"])
def test_add_loses_nothing(run, dtype):
    total = run(f"add_{dtype}", np.zeros(6, dtype))
    i = np.arange(TOTAL)
    assert total.tolist() == 3 * [(i % 3)[i % 2 == p].sum() for p in (0, 1)]


def test_blocks_on_several_cores_disturb_nobody(run):
    """Long enough that blocks surely meet: a read and a write in place of one step would lose."""
    y, z, wide = np.zeros(1, np.float32), np.zeros(1), np.zeros(2, np.uint32)
    run("contended", y, z, wide)
    assert y[0] == 400 * TOTAL / 2 * 0.5
    assert z[0] == 400 * TOTAL
    assert wide.tolist() == [400 * TOTAL] * 2


@pytest.mark.parametrize(("kind", "count"), [("half", 1500), ("bf16", 256)])
def test_add_of_16_bits(run, kind, count):
    """Neighbours in one word are added to at the same time, and don't disturb each other."""
    y = run(f"add_{kind}", np.zeros(8, np.uint16))
    bf16 = (y.astype(np.uint32) << 16).view(np.float32)
    wide = bf16 if kind == "bf16" else y.view(np.float16)
    assert wide.tolist() == [count] * 4 + [count, -count, 0, 0]


@pytest.mark.parametrize("dtype", ["int32", "uint32", "int64", "uint64"])
def test_minimum_and_maximum(run, dtype):
    info = np.iinfo(dtype)
    x = np.random.default_rng(1).integers(info.min, info.max, TOTAL, dtype)
    y = run(f"extremes_{dtype}", np.array([x[0], x[0]], dtype), x)
    assert y.tolist() == [x.min(), x.max()]


def test_bits(run):
    y = run("bits", np.array([0xFFFFFFFF, 0, 0], np.uint32))
    flips = np.bincount(np.arange(TOTAL) % 5) % 2
    assert y.tolist() == [0xFFFFFFFF & ~0x7F, 0x1FF, int((flips << np.arange(5)).sum())]


def test_every_ticket_is_given_once(run):
    tickets = run("tickets", np.full(TOTAL, -1, np.int32), np.zeros(1, np.int32))
    assert sorted(tickets.tolist()) == list(range(TOTAL))


def test_counters_wrap(run):
    """atomicInc: 0, 1, ..., n, 0, ...; atomicDec the other way round; atomicSub modulo 2^32."""
    y = run("wrap", np.zeros(3, np.uint32))
    assert y.tolist() == [TOTAL % 100, -TOTAL % 100, 2**32 - 2 * TOTAL]


@pytest.mark.parametrize("dtype", ["int32", "uint64", "float32"])
def test_exchange_loses_nothing(run, dtype):
    """Each thread swaps its number in and keeps what it got: nothing is gone or doubled."""
    place = np.array([TOTAL], dtype)
    kept = run(f"exchange_{dtype}", np.zeros(TOTAL, dtype), place)
    assert sorted([*kept.tolist(), place[0]]) == list(range(TOTAL + 1))


def test_compare_and_swap(run):
    """It builds a maximum of floats, and swaps nothing where the place holds something else."""
    x = np.random.default_rng(2).standard_normal(TOTAL).astype(np.float32)
    assert run("largest", np.full(1, -np.inf, np.float32), x)[0] == x.max()
    assert run("swap_twice", np.array([0, 0, 5], np.uint64)).tolist() == [5, 9, 9]


def test_shared_memory(run):
    assert (
        run("in_shared_memory", np.zeros(BLOCKS, np.int32)) == THREADS * (THREADS - 1) // 2
    ).all()
