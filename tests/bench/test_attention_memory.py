import json

import pytest

from minillm.bench import attention_memory
from minillm.ops import scaled_dot_product_attention


@pytest.fixture
def quick(monkeypatch):
    measure = attention_memory.measure
    monkeypatch.setattr(attention_memory, "measure", lambda: measure((512, 1024)))


def test_shows_linear_against_quadratic(quick, tmp_path, capsys):
    file = tmp_path / "memory.json"
    assert attention_memory.main(["--json", str(file)]) == 0
    rows = json.loads(file.read_text())["rows"]
    assert [row["T"] for row in rows] == [512, 1024]
    assert rows[1]["flash_exponent"] < 1.1
    assert rows[1]["plain_exponent"] > 1.8
    # the plain one holds several (T, T) matrices at once, flash not even one
    assert rows[1]["flash_bytes"] < 1024 * 1024 * 4 < rows[1]["plain_bytes"]
    printed = capsys.readouterr().out
    assert f"{rows[1]['plain_bytes'] / 1e6:.2f}" in printed
    assert "as claimed" in printed


def test_quadratic_growth_is_a_failed_check(quick, monkeypatch, capsys):
    monkeypatch.setitem(attention_memory.OPS, "flash", scaled_dot_product_attention)
    assert attention_memory.main([]) == 1
    assert "NOT as claimed" in capsys.readouterr().out


def test_a_file_that_cannot_be_written_is_the_users_mistake(quick, tmp_path, capsys):
    missing = tmp_path / "missing" / "memory.json"
    assert attention_memory.main(["--json", str(missing)]) == 2
    assert str(missing) in capsys.readouterr().err
