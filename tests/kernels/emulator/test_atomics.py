"""Atomics: no update is lost between threads, blocks and the machine's own threads."""

import numpy as np
import pytest

from minillm_kernels.emulator import RawModule

BLOCKS, THREADS = 64, 96


def run(body, *arrays, types, includes=""):
    """One kernel of BLOCKS x THREADS threads; `i` is the thread's number."""
    parameters = ", ".join(f"{kind}* {name}" for name, kind in types.items())
    code = f"""{includes}
    extern "C" __global__ void work({parameters}) {{
        const int i = blockIdx.x * blockDim.x + threadIdx.x;
        {body}
    }}"""
    RawModule(code=code).get_function("work")((BLOCKS,), (THREADS,), arrays)
    return arrays[0]


TOTAL = BLOCKS * THREADS
INTEGERS = [("int", "i4"), ("unsigned", "u4"), ("long long", "i8"), ("unsigned long long", "u8")]


@pytest.mark.parametrize(
    ("kind", "dtype"),
    [
        ("int", "i4"),
        ("unsigned", "u4"),
        ("unsigned long long", "u8"),
        ("float", "f4"),
        ("double", "f8"),
    ],
)
def test_add_loses_nothing(kind, dtype):
    for scope in ("", "_block", "_system"):
        total = np.zeros(2, dtype)
        run(f"atomicAdd{scope}(&y[i % 2], ({kind})(i % 3));", total, types={"y": kind})
        i = np.arange(TOTAL)
        assert total.tolist() == [(i % 3)[i % 2 == p].sum() for p in (0, 1)]


@pytest.mark.parametrize(
    ("kind", "header"), [("__half", "cuda_fp16.h"), ("__nv_bfloat16", "cuda_bf16.h")]
)
def test_add_of_16_bits(kind, header):
    """Neighbours in one word are added to at the same time, and don't disturb each other."""
    size = {"__half": 2048, "__nv_bfloat16": 256}[
        kind
    ]  # the last whole number that counting reaches
    y = np.zeros(8, np.uint16)
    run(f"if (i < 4 * {size}) atomicAdd(&y[i % 4], {kind}(1.0f));"
        f"if (i < {size}) atomicAdd((({kind}2*)y) + 2, {kind}2({kind}(1.0f), {kind}(-1.0f)));",
        y, types={"y": kind}, includes=f"#include <{header}>")  # fmt: skip
    reached = min(size, TOTAL // 4) if kind == "__half" else size
    wide = (
        y.view(np.float16).astype(float)
        if kind == "__half"
        else (y.astype(np.uint32) << 16).view(np.float32)
    )
    assert wide.tolist() == [reached] * 4 + [size, -size, 0, 0]


def test_minimum_and_maximum():
    rng = np.random.default_rng(1)
    for kind, dtype in INTEGERS:
        info = np.iinfo(dtype)
        x = rng.integers(info.min, info.max, TOTAL, dtype)
        y = np.array([x[0], x[0]], dtype)
        run("atomicMin(&y[0], x[i]); atomicMax(&y[1], x[i]);", y, x, types={"y": kind, "x": kind})
        assert y.tolist() == [x.min(), x.max()]


def test_bits():
    y = np.array([0xFFFFFFFF, 0, 0], np.uint32)
    and_or = "atomicAnd(&y[0], ~(1u << i % 7)); atomicOr(&y[1], 1u << i % 9);"
    run(f"{and_or} atomicXor(&y[2], 1u << i % 5);", y, types={"y": "unsigned"})
    flips = np.bincount(np.arange(TOTAL) % 5) % 2
    assert y.tolist() == [0xFFFFFFFF & ~0x7F, 0x1FF, int((flips << np.arange(5)).sum())]


def test_every_ticket_is_given_once():
    tickets = np.full(TOTAL, -1, np.int32)
    counter = np.zeros(1, np.int32)
    run(
        "tickets[i] = atomicAdd(counter, 1);",
        tickets,
        counter,
        types={"tickets": "int", "counter": "int"},
    )
    assert sorted(tickets.tolist()) == list(range(TOTAL))


def test_counters_wrap():
    """atomicInc: 0, 1, ..., n, 0, ...; atomicDec the other way round."""
    y = np.zeros(2, np.uint32)
    run("atomicInc(&y[0], 99u); atomicDec(&y[1], 99u);", y, types={"y": "unsigned"})
    assert y.tolist() == [TOTAL % 100, (100 - TOTAL) % 100]


@pytest.mark.parametrize(
    ("kind", "dtype"), [("int", "i4"), ("unsigned long long", "u8"), ("float", "f4")]
)
def test_exchange_loses_nothing(kind, dtype):
    """Each thread swaps its number in and keeps what it got: nothing is gone or doubled."""
    kept = np.zeros(TOTAL, dtype)
    place = np.array([TOTAL], dtype)
    run(
        f"kept[i] = atomicExch(place, ({kind})i);", kept, place, types={"kept": kind, "place": kind}
    )
    assert sorted([*kept.tolist(), place[0]]) == list(range(TOTAL + 1))


def test_compare_and_swap_builds_others():
    """The manual's example: a maximum of floats by atomicCAS on their bits."""
    x = np.random.default_rng(2).standard_normal(TOTAL).astype(np.float32)
    largest = np.full(1, -np.inf, np.float32)
    run("""
        int* bits = (int*)largest;
        int old = *(volatile int*)bits, seen;
        do {
            seen = old;
            if (__int_as_float(seen) >= x[i]) break;
            old = atomicCAS(bits, seen, __float_as_int(x[i]));
        } while (old != seen);""",
        largest, x, types={"largest": "float", "x": "float"})  # fmt: skip
    assert largest[0] == x.max()
    y = np.array([5, 5], np.uint64)
    run("if (i == 0) { y[0] = atomicCAS(&y[1], 5ull, 9ull) + atomicCAS(&y[1], 5ull, 11ull); }",
        y, types={"y": "unsigned long long"})  # fmt: skip
    assert y.tolist() == [14, 9]


def test_shared_memory():
    y = np.zeros(BLOCKS, np.int32)
    run("""
        __shared__ int sum;
        if (threadIdx.x == 0) sum = 0;
        __syncthreads();
        atomicAdd(&sum, (int)threadIdx.x);
        __syncthreads();
        if (threadIdx.x == 0) y[blockIdx.x] = sum;""",
        y, types={"y": "int"})  # fmt: skip
    assert (y == THREADS * (THREADS - 1) // 2).all()
