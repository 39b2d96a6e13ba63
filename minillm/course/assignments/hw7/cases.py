"""What hw7's kernels are launched on, and how what comes back is judged.

The counts come from the student's process. They are believed within bounds: not below what any
product of two matrices must move, and not above what the reference moves, which is counted here.
"""

import math

import numpy as np

# name: (rows, columns of C that a block computes, its threads), as the .cu files have them
LAUNCHES = {
    "02_coalesced": (8, 32, (32, 8)),
    "03_shared_tile": (32, 32, (32, 32)),
    "04_register_column": (64, 64, (512,)),
    "05_register_tile": (128, 128, (256,)),
    "07_warp_tile": (128, 128, (256,)),
}
MORE = 1.1  # times the reference's traffic that a solution may have
SECTOR, WORD = 32, 4  # bytes
UNTOUCHED = -77.0  # in the columns of C beyond N


def _case(module, M, N, K, rng, gaps=(0, 0, 0)):
    rows, columns, block = LAUNCHES[module]
    a = rng.standard_normal((M, K + gaps[0])).astype(np.float32)
    b = rng.standard_normal((K, N + gaps[1])).astype(np.float32)
    c = np.full((M, N + gaps[2]), UNTOUCHED, np.float32)
    c[:, :N] = np.nan
    return {
        "module": module,
        "a": a,
        "b": b,
        "c": c,
        "sizes": (M, N, K),
        "grid": (math.ceil(N / columns), math.ceil(M / rows)),
        "block": block,
        "seed": int(rng.integers(2**31)),
    }


def _edges(module):
    """make(rng, size): a few elements, then a block and more; never a multiple of a tile."""

    def make(rng, size):
        M, N, K = (int(n) for n in rng.integers(3 * size - 2, 16 * size, 3))
        M, N, K = (n + (n % 8 == 0) for n in (M, N, K))
        return _case(module, M, N, K, rng, gaps=[int(n) for n in rng.integers(0, 5, 3)])

    return make


def _several_blocks(module):
    """make(rng, size): two or three blocks each way, the last ones not full, and several tiles."""

    def make(rng, size):
        rows, columns, _ = LAUNCHES[module]
        M = rows + int(rng.integers(1, rows))
        N = columns + int(rng.integers(1, columns))
        K = int(rng.integers(35, 60))
        return _case(module, M, N, K + (K % 8 == 0), rng)

    return make


edges_coalesced = _edges("02_coalesced")
edges_shared_tile = _edges("03_shared_tile")
edges_register_column = _edges("04_register_column")
edges_register_tile = _edges("05_register_tile")
edges_missing_barrier = _edges("07_warp_tile")
blocks_coalesced = _several_blocks("02_coalesced")
blocks_shared_tile = _several_blocks("03_shared_tile")
blocks_register_column = _several_blocks("04_register_column")
blocks_register_tile = _several_blocks("05_register_tile")
blocks_missing_barrier = _several_blocks("07_warp_tile")


def values(case, expected, came):
    """C is A @ B, and nothing else of it was written."""
    M, N, K = case["sizes"]
    c = came.get("out") if isinstance(came, dict) else None
    if not isinstance(c, np.ndarray) or c.shape != case["c"].shape or c.dtype != np.float32:
        return "no C came back"
    a, b = case["a"][:, :K].astype(np.float64), case["b"][:, :N].astype(np.float64)
    exact = a @ b
    # A sum of K products in float32, in any order: each addition and product rounds once.
    most = (K + 1) * float(np.finfo(np.float32).eps) * (np.abs(a) @ np.abs(b))
    wrong = ~(np.abs(c[:, :N] - exact) <= most)
    launch = f"M={M} N={N} K={K}, lda={K + case['a'].shape[1] - K} ldb={case['b'].shape[1]} "
    launch += f"ldc={case['c'].shape[1]}, grid {case['grid']}, block {case['block']}"
    if wrong.any():
        i, j = (int(n) for n in np.argwhere(wrong)[0])
        told = "was never written" if np.isnan(c[i, j]) else f"is {c[i, j]:.6g}"
        return (
            f"C[{i}, {j}] {told}, expected {exact[i, j]:.6g}; {int(wrong.sum())} of {wrong.size} "
            f"elements are wrong ({launch})"
        )
    if (c[:, N:] != UNTOUCHED).any():
        return f"columns of C beyond N were written: use ldc from row to row ({launch})"
    return None


def nothing_found(case, expected, came):
    """No race, no access outside an array, no barrier that some threads do not reach."""
    findings = came.get("findings") if isinstance(came, dict) else None
    if not isinstance(findings, list):
        return "no report came back"
    if not findings:
        return None
    first = findings[0]
    try:
        told = f"line {int(first['line'])}: {first['kind']}: {first['message']}"
    except (KeyError, TypeError, ValueError, OverflowError):
        return "a report came back that is none"
    more = f" (and {len(findings) - 1} more)" if len(findings) > 1 else ""
    return told[:600] + more


def traffic(case, expected, came):
    """Global and shared memory move at most MORE times what the reference moves."""
    return (
        nothing_found(case, expected, came)
        or _compared(case, expected, came, "global", "sectors of 32 bytes")
        or _compared(case, expected, came, "shared", "wavefronts")
    )


def global_traffic(case, expected, came):
    """Global memory alone: shared memory is no matter of the task."""
    return nothing_found(case, expected, came) or _compared(
        case, expected, came, "global", "sectors of 32 bytes"
    )


def _compared(case, expected, came, memory, unit):
    try:
        mine = [n for n in came["lines"] if n["memory"] == memory]
        numbers = [(int(n["line"]), int(n["transfers"]), int(n["requests"])) for n in mine]
    except (KeyError, TypeError, ValueError, OverflowError):
        return "no counts came back"
    total = sum(transfers for _, transfers, _ in numbers)
    reference = sum(n["transfers"] for n in expected["lines"] if n["memory"] == memory)
    if memory == "global" and total < _fewest(case):
        return (
            f"{total} {unit} of global memory were counted; {_fewest(case)} are needed to read A "
            "and B and write C once each: this count is not believed"
        )
    if total <= MORE * reference:
        return None
    line, transfers, requests = max(numbers, key=lambda n: n[1])
    M, N, K = case["sizes"]
    return (
        f"{memory} memory: {total} {unit} at M={M} N={N} K={K}, the reference needs {reference}; "
        f"line {line} takes {transfers}, {transfers / max(requests, 1):.3g} for each of {requests} "
        "requests of a warp"
    )


def _fewest(case):
    """Sectors that hold A, B and C once."""
    M, N, K = case["sizes"]
    return sum(math.ceil(n * WORD / SECTOR) for n in (M * K, K * N, M * N))
