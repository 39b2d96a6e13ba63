"""What the headers of the ladders over rows say of bytes, counted by the emulator."""

import re

import numpy as np
import pytest

from minillm_kernels.cuda import cross_entropy, layer_norm, softmax
from minillm_kernels.cuda.ladder import LADDERS
from minillm_kernels.emulator import checking
from tests.kernels.cuda import rows  # noqa: F401  (the emulator is to be used)

N, C = 32, 512  # rows begin at a sector, and each thread of a warp can have one


def sectors(run):
    """Bytes of global memory that the launches of `run` move, in whole sectors of 32."""
    with checking(races=False, bounds=False, uninitialised=False, banks=False) as report:
        result = run()
    return sum(line.sectors for line in report.lines) * 32, result


def forward_and_backward(ladder, rung):
    """Bytes a number of rows that a rung moves, in each direction."""
    rng = np.random.default_rng(0)
    x, dy = (rng.standard_normal((N, C)).astype(np.float32) for _ in range(2))
    if ladder is softmax:
        there, y = sectors(lambda: softmax.forward(rung, x))
        back, _ = sectors(lambda: softmax.backward(rung, y, dy))
    elif ladder is layer_norm:
        gain, bias = np.ones(C, np.float32), np.zeros(C, np.float32)
        there, (_, saved) = sectors(lambda: layer_norm.forward(rung, x, gain, bias))
        back, _ = sectors(lambda: layer_norm.backward(rung, dy, saved))
    else:
        targets = rng.integers(0, C, N)
        there, (_, saved) = sectors(lambda: cross_entropy.forward(rung, x, targets))
        one = np.ones(1, np.float32)
        back, _ = sectors(lambda: cross_entropy.backward(rung, one, saved))
    return there / (N * C), back / (N * C)


@pytest.mark.parametrize(
    ("ladder", "number", "there", "back"),
    [
        (softmax, 2, 16, 20),
        (softmax, 3, 16, 20),
        (softmax, 4, 8, 12),
        (softmax, 5, 12, 20),
        (cross_entropy, 2, 8, 8),
        (cross_entropy, 3, 8, 8),
        (cross_entropy, 4, 4, 8),
    ],
)
def test_bytes_a_number(ladder, number, there, back):
    """Each array is moved as often as the header says, whole sectors used to the last byte."""
    name = ladder.__name__.rpartition(".")[2]
    rung = LADDERS[name][number - 1]
    measured = forward_and_backward(ladder, rung)
    slack = 1 if name == "cross_entropy" else 0  # a row's target, loss, sums: a sector each,
    assert there <= measured[0] <= there + slack
    assert back <= measured[1] <= back + 3 * slack  # which every warp of a row reads
    text = " ".join(rung.header)
    if "as in 0" not in text.partition("Bytes:")[2].partition("Share")[0]:
        assert re.search(rf"forward {there} a number .*backward {back}\b", text)


@pytest.mark.parametrize("ladder", [softmax, layer_norm, cross_entropy])
def test_a_thread_a_row_wastes_most_of_each_sector(ladder):
    rungs = LADDERS[ladder.__name__.rpartition(".")[2]]
    naive, block = (forward_and_backward(ladder, rung) for rung in rungs[:2])
    for a, b in zip(naive, block, strict=True):
        assert a > 3 * b


def test_registers_spare_layer_norm_two_readings():
    """The row itself a second and third time; gain and bias are read for every row by both."""
    *_, warp, registers = (forward_and_backward(layer_norm, r) for r in LADDERS["layer_norm"])
    assert registers[0] == warp[0] - 8
    assert registers[1] < warp[1]  # both beside the shares of dgain and dbias
