"""Bank conflicts and sectors: hand-derived cases, and a slow count written from the rules."""

import ctypes
import subprocess
from collections import defaultdict
from pathlib import Path

import numpy as np
import pytest

import minillm_kernels.emulator
from minillm_kernels.emulator.build import find_compiler

INCLUDE = Path(minillm_kernels.emulator.__file__).parent / "include"
COUNTS = ("bank_wavefronts", "ideal_wavefronts", "bank_conflicts", "sectors", "ideal_sectors")


@pytest.fixture(scope="module")
def count(tmp_path_factory):
    """count(name, addresses, sizes, active): one function of emu_memory.h on a warp's request."""
    folder = tmp_path_factory.mktemp("memory")
    functions = "\n".join(
        f"""int {name}(const uint64_t* address, const unsigned* size, const bool* active, int n) {{
            emu::Access lanes[32] = {{}};
            for (int i = 0; i < n; ++i) lanes[i] = {{(uintptr_t)address[i], size[i], active[i]}};
            return emu::{name}(lanes, n);
        }}"""
        for name in COUNTS
    )
    source = folder / "memory.cpp"
    source.write_text(f'#include "emu_memory.h"\nextern "C" {{\n{functions}\n}}\n')
    library = folder / "memory.so"
    command = [
        find_compiler(),
        "-std=c++17",
        "-O1",
        "-Wall",
        "-Wextra",
        "-Werror",
        "-shared",
        "-fPIC",
    ]
    subprocess.run([*command, "-I", str(INCLUDE), str(source), "-o", str(library)], check=True)
    loaded = ctypes.CDLL(str(library))

    def call(name, addresses, sizes=4, active=True):
        addresses = np.ascontiguousarray(addresses, np.uint64)
        sizes = np.ascontiguousarray(np.broadcast_to(sizes, addresses.shape), np.uint32)
        active = np.ascontiguousarray(np.broadcast_to(active, addresses.shape), np.bool_)
        pointers = [v.ctypes.data_as(ctypes.c_void_p) for v in (addresses, sizes, active)]
        return getattr(loaded, name)(*pointers, ctypes.c_int(addresses.size))

    return call


LANE = np.arange(32)


@pytest.mark.parametrize(
    ("what", "addresses", "size", "conflicts"),
    [
        ("neighbouring floats", 4 * LANE, 4, 0),
        ("every second float", 8 * LANE, 4, 1),
        ("every third float: 3 and 32 have no common factor", 12 * LANE, 4, 0),
        ("every fourth float", 16 * LANE, 4, 3),
        ("a column of float tile[32][32]", 128 * LANE, 4, 31),
        ("a column of float tile[32][33]", 132 * LANE, 4, 0),
        ("one word for all", 0 * LANE, 4, 0),
        ("two words of one bank", 128 * (LANE % 2), 4, 1),
        ("neighbouring halves: two lanes a word", 2 * LANE, 2, 0),
        ("a column of half tile[32][32]", 64 * LANE, 2, 15),
        ("a column of half tile[32][34]", 68 * LANE, 2, 0),
        ("neighbouring doubles: half a warp at a time", 8 * LANE, 8, 0),
        ("a column of double tile[16][16], 2 halves of 16 rows each", 128 * LANE, 8, 30),
        ("neighbouring float4s: a quarter of a warp at a time", 16 * LANE, 16, 0),
        ("every second float4", 32 * LANE, 16, 4),
        ("a column of float4s in rows of 128 bytes", 128 * LANE, 16, 28),
        ("one float4 for all", 0 * LANE, 16, 0),
        ("backwards", 4 * (31 - LANE), 4, 0),
        ("off by one bank and round", 4 * ((LANE + 7) % 32) + 4096, 4, 0),
    ],
)
def test_known_bank_conflicts(count, what, addresses, size, conflicts):
    assert count("bank_conflicts", addresses, size) == conflicts, what


@pytest.mark.parametrize(
    ("what", "addresses", "size", "sectors", "ideal"),
    [
        ("neighbouring floats", 4 * LANE, 4, 4, 4),
        ("neighbouring floats, one off the boundary", 4 * LANE + 4, 4, 5, 4),
        ("every second float", 8 * LANE, 4, 8, 4),
        ("a column of a wide matrix", 4096 * LANE, 4, 32, 4),
        ("one float for all", 0 * LANE + 64, 4, 1, 1),
        ("neighbouring float4s", 16 * LANE, 16, 16, 16),
        ("neighbouring halves", 2 * LANE, 2, 2, 2),
        ("neighbouring bytes", LANE, 1, 1, 1),
        ("float4s that straddle sectors", 48 * LANE + 24, 16, 64 - 16, 16),
        ("any order is as good", 4 * ((LANE * 5) % 32), 4, 4, 4),
    ],
)
def test_known_sectors(count, what, addresses, size, sectors, ideal):
    assert count("sectors", addresses, size) == sectors, what
    assert count("ideal_sectors", addresses, size) == ideal, what


def test_only_active_lanes_count(count):
    odd = LANE % 2 == 1
    assert count("bank_wavefronts", 128 * LANE, 4, odd) == 16
    assert count("sectors", 128 * LANE, 4, odd) == 16
    for name in COUNTS:
        assert count(name, 128 * LANE, 4, False) == 0
    first_quarter = LANE < 8
    assert count("ideal_wavefronts", 16 * LANE, 16, first_quarter) == 1
    assert count("bank_conflicts", 16 * LANE, 16, first_quarter) == 0


def slow_counts(addresses, size, active):
    """The same counts from the rules: banks, groups of lanes, sets of bytes."""
    group = {1: 32, 2: 32, 4: 32, 8: 16, 16: 8}[size]
    wavefronts = ideal = 0
    for start in range(0, 32, group):
        wanted = defaultdict(set)  # bank -> words
        for lane in range(start, start + group):
            if active[lane]:
                for byte in range(int(addresses[lane]), int(addresses[lane]) + size):
                    wanted[byte // 4 % 32].add(byte // 4)
        wavefronts += max((len(words) for words in wanted.values()), default=0)
        ideal += bool(wanted)
    touched = {
        b
        for a, on in zip(addresses, active, strict=True)
        if on
        for b in range(int(a), int(a) + size)
    }
    return {
        "bank_wavefronts": wavefronts,
        "ideal_wavefronts": ideal,
        "bank_conflicts": wavefronts - ideal,
        "sectors": len({byte // 32 for byte in touched}),
        "ideal_sectors": -(-len(touched) // 32),
    }


def test_against_the_slow_count(count):
    rng = np.random.default_rng(1)
    for trial in range(600):
        size = int(rng.choice([1, 2, 4, 8, 16]))
        reach = int(rng.choice([8, 64, 1024]))
        addresses = rng.integers(0, reach, 32) * size
        if trial % 3 == 0:
            addresses = (LANE * int(rng.integers(0, 40)) + int(rng.integers(0, 9))) * size
        if trial % 5 == 0:  # not even aligned
            addresses = addresses + int(rng.integers(0, 4))
        active = rng.random(32) < rng.choice([0.2, 0.7, 1.0])
        expected = slow_counts(addresses, size, active)
        assert {name: count(name, addresses, size, active) for name in COUNTS} == expected
