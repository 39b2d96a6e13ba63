"""`python -m minillm_kernels ladder`: the tables say what the emulator counted."""

import re

import pytest

from minillm.cli import run as run_command
from minillm_kernels import climb
from minillm_kernels.cli import cli
from minillm_kernels.cuda.ladder import LADDERS


def command(*args):
    return run_command([str(a) for a in args], cli, "minillm_kernels")


def numbers(table, rung):
    line = next(line for line in table.splitlines() if line.startswith(rung))
    return [cell.replace(",", "") for cell in re.split(r"  +", line)[1:]]


def test_each_idea_saves_what_it_says():
    table = climb.climb("matmul", size=128)
    sectors = [int(numbers(table, rung.name)[0]) for rung in LADDERS["matmul"][:5]]
    assert sectors == sorted(sectors, reverse=True)
    assert sectors[0] > 6 * sectors[1]  # 33 sectors a step of k against 5, and the stores
    assert sectors[1] > 12 * sectors[2]  # a tile of 32 serves 32 times; A was broadcast before
    assert numbers(table, "03_shared_tile")[3] == "0"  # no bank conflicts
    assert numbers(table, "10_wgmma_tma")[0] == "-"


@pytest.mark.parametrize("ladder", [name for name in LADDERS if name != "matmul"])
def test_every_ladder_can_be_climbed(ladder):
    table = climb.climb(ladder, size=32)
    for rung in LADDERS[ladder]:
        sectors, *_ = numbers(table, rung.name)
        assert (sectors == "-") != rung.emulated
        assert not rung.emulated or int(sectors) > 0
        assert f"{rung.name}: " in table  # its idea


def test_a_rung_is_shown_line_by_line(capsys):
    assert command("ladder", "matmul", "02", "--size", 32) == 0
    out = capsys.readouterr().out
    assert re.search(r"sum \+= .*\n +\^ global: 2.5 sectors a request", out)
    assert "Nothing wrong was found." in out
    assert command("ladder", "matmul", "1", "--size", 32) == 0
    assert "would do (uncoalesced)" in capsys.readouterr().out


def test_mistakes_are_one_line(capsys):
    assert command("ladder", "matmull") == 2
    assert "there is no ladder 'matmull'; there are: matmul, attention" in capsys.readouterr().err
    assert command("ladder", "matmul", "77") == 2
    assert "has no rung '77'; it has: 01_naive, " in capsys.readouterr().err
    assert command("ladder", "matmul", "10") == 2
    assert "is out of the emulator's reach: it runs on sm_90a" in capsys.readouterr().err
    assert command("ladder") == 0
    assert "  10_wgmma_tma            sm_90a" in capsys.readouterr().out
