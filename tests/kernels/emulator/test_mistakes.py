"""The broken kernels: each is found, by kind and line; its mended twin is left in peace."""

import re
from pathlib import Path

import numpy as np
import pytest

import minillm_kernels.emulator
from minillm_kernels.emulator import EmulatorError, RawModule, checking

FOLDER = Path(minillm_kernels.emulator.__file__).parent / "mistakes"
SEEDS = range(3)
STOPS = {"barrier divergence", "warp"}  # kinds that stop a launch, checked or not
COSTS = {"bank conflict", "uncoalesced"}  # right results, slowly: told by the lines' counts


def rows(count, width, seed=1):
    return np.random.default_rng(seed).standard_normal((count, width)).astype(np.float32)


def ints(*values):
    return [np.int32(v) for v in values]


def backwards():
    x, y = rows(3, 256), np.zeros((3, 256), np.float32)
    return (3,), (256,), (x, y), (y, x[:, ::-1])


def matmul():
    a, b, c = rows(48, 48), rows(48, 48, 2), np.zeros((48, 48), np.float32)
    return (3, 3), (16, 16), (a, b, c, *ints(48)), (c, a @ b)


def block_sum(threads):
    x, sums = rows(3, threads), np.zeros(3, np.float32)
    return (3,), (threads,), (x, sums), (sums, x.sum(1))


def differences():
    x, y = rows(1, 200)[0], np.zeros(199, np.float32)
    return (2,), (128,), (x, y, *ints(200)), (y, np.diff(x))


def blur():
    x, y = rows(1, 150)[0], np.zeros(150, np.float32)
    return (3,), (64,), (x, y, *ints(150)), (y, np.convolve(x, np.ones(3), "same"))


def warp_sum():
    x, sums = rows(4, 32), np.zeros(4, np.float32)
    return (2,), (64,), (x, sums), (sums, x.sum(1))


def transpose():
    x, y = rows(64, 64), np.zeros((64, 64), np.float32)
    return (2, 2), (32, 32), (x, y, *ints(64)), (y, x.T)


def twice():
    x, y = rows(64, 64), np.zeros((64, 64), np.float32)
    return (2, 8), (32, 8), (x, y, *ints(64)), (y, 2 * x)


def add_up():
    x, total = rows(1, 700)[0], np.zeros(1, np.float32)
    return (6,), (128,), (x, total, *ints(700)), (total, x.sum())


def backwards_guarded():
    x, y = rows(1, 150)[0], np.zeros(150, np.float32)
    expected = np.concatenate([x[:64][::-1], x[64:128][::-1], x[128:][::-1]])
    return (3,), (64,), (x, y, *ints(150)), (y, expected)


# {file: the launch, (grid, block, arguments, (result, what it should be))}
LAUNCHES = {
    "01_no_sync_before_read": backwards,
    "02_no_sync_after_read": matmul,
    "03_barrier_in_a_branch": lambda: block_sum(128),
    "04_off_by_one": differences,
    "05_uninitialised_shared": blur,
    "06_shuffle_in_a_branch": warp_sum,
    "07_no_syncwarp": lambda: block_sum(64),
    "08_bank_conflicts": transpose,
    "09_uncoalesced": twice,
    "10_lost_updates": add_up,
    "11_return_before_barrier": backwards_guarded,
}
# What else may be seen: a race shows itself as a number that is not there yet, too.
ALSO = {"01_no_sync_before_read": ("uninitialised shared memory",)}


def expected_findings(path):
    """{(kind, line)} that the file's own comments promise."""
    return {
        (match[1], number)
        for number, line in enumerate(path.read_text().splitlines(), 1)
        if (match := re.search(r"// <- found: (.+)$", line))
    }


def kernel_of(name, *, mended):
    path = FOLDER / f"{name}.cu"
    module = RawModule(path=str(path), options=("-DMENDED",) if mended else ())
    function = re.search(r"__global__ void (\w+)", path.read_text())[1]
    return module.get_function(function)


def test_every_file_has_a_launch():
    assert sorted(path.stem for path in FOLDER.glob("*.cu")) == sorted(LAUNCHES)
    for path in FOLDER.glob("*.cu"):
        assert expected_findings(path), path


@pytest.mark.parametrize("name", LAUNCHES)
def test_the_mistake_is_found(name):
    expected = expected_findings(FOLDER / f"{name}.cu")
    kernel = kernel_of(name, mended=False)
    if {kind for kind, _ in expected} <= STOPS:
        ((kind, line),) = expected
        for seed in SEEDS:
            grid, block, arguments, _ = LAUNCHES[name]()
            with checking(seed=seed), pytest.raises(EmulatorError) as caught:
                kernel(grid, block, arguments)
            assert (caught.value.kind, caught.value.line) == (kind, line)
        grid, block, arguments, _ = LAUNCHES[name]()
        with pytest.raises(EmulatorError) as caught:  # without checking, too
            kernel(grid, block, arguments)
        assert (caught.value.kind, caught.value.line) == (kind, line)
        return
    if {kind for kind, _ in expected} <= COSTS:
        grid, block, arguments, (result, truth) = LAUNCHES[name]()
        with checking() as report:
            kernel(grid, block, arguments)
        assert {(line.kind, line.line) for line in report.lines if line.kind} == expected
        assert all(line.transfers / line.requests == 32 for line in report.lines if line.kind)
        assert report.findings == []
        np.testing.assert_array_equal(result, truth)
        return
    for seed in SEEDS:
        grid, block, arguments, _ = LAUNCHES[name]()
        with checking(seed=seed) as report:
            kernel(grid, block, arguments)
        # a race lies between two lines, either of which may be told first
        found = {(f.kind, f.line) for f in report.findings}
        found |= {(f.kind, f.other_line) for f in report.findings if f.other_line}
        promised = {(kind, line) for kind, line in found if kind not in ALSO.get(name, ())}
        assert promised == expected, f"seed {seed}: {report}"
        assert all(Path(finding.file).name == f"{name}.cu" for finding in report.findings)
        with pytest.raises(EmulatorError) as caught:
            report.raise_for_findings()
        assert f"{name}.cu" in str(caught.value)


@pytest.mark.parametrize("name", LAUNCHES)
def test_the_mended_twin_gives_no_finding(name):
    kernel = kernel_of(name, mended=True)
    for seed in SEEDS:
        grid, block, arguments, (result, expected) = LAUNCHES[name]()
        with checking(seed=seed) as report:
            kernel(grid, block, arguments)
        assert report.findings == [], str(report)
        if {kind for kind, _ in expected_findings(FOLDER / f"{name}.cu")} <= COSTS:
            assert all(line.transfers == line.ideal for line in report.lines), str(report)
        np.testing.assert_allclose(result, expected, rtol=0, atol=1e-4)
