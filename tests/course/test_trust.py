"""docs/course/trust.md tells every attack of the suite, with what comes of it."""

from pathlib import Path

import pytest

from tests.course.attacks import ATTACKS

PAGE = (Path(__file__).parents[2] / "docs/course/trust.md").read_text(encoding="utf-8")
LINES = [line.strip("| ").split(" | ") for line in PAGE.splitlines() if line.startswith("| ")]
ROWS = {cells[0]: cells[1:] for cells in LINES if len(cells) == 4}


@pytest.mark.parametrize("attack", ATTACKS, ids=lambda attack: attack.name)
def test_an_attack_is_told_as_it_comes_out(attack):
    score, status, reason = ROWS[attack.name]
    assert score == "0"
    assert set(status.split(", ")) <= set(attack.statuses)
    assert attack.says in reason


def test_no_row_is_of_an_attack_that_is_gone():
    names = {attack.name for attack in ATTACKS} | {"a submission that"}
    assert ROWS.keys() - names == {"hard-coded answers for the public seed"}
