"""The notebooks' tools: what they write, and that each promise they check can be broken."""

import asyncio
import json
import sys
from pathlib import Path

import nbformat
import pytest

ROOT = Path(__file__).parents[2]
sys.path.insert(0, str(ROOT / "notebooks" / "tools"))

import execute  # noqa: E402
import percent  # noqa: E402

PICTURE = """# %% tags=["picture"] alt="A line that rises from one to two"
figure
"""
GOOD = f"""# %% [markdown]
# # 1. Try
# Does it run?
# ## The mathematics
# ## The code

# %%
print("a")
from minillm.viz.style import new_figure

figure = new_figure(5, 4)
axes = figure.add_subplot(xlabel="steps", ylabel="loss (nats)")
axes.plot([1, 2])

# %% [markdown]
# ## An experiment: one

{PICTURE * 3}
# %% [markdown]
# ## Exercises

# %% tags=["exercise"] exercise="two"
def two():
    raise NotImplementedError("write two")

# %% tags=["check", "raises-exception"] exercise="two"
assert two() == 2, f"two() must be 2, got {{two()}}"

# %% [markdown]
# ## Where to go next
"""
SOLUTION = """# %% solution="two"
def two():
    return 2

# %% wrong="two"
def two():
    return 3
"""


@pytest.fixture
def course(tmp_path, monkeypatch):
    """A function that writes a notebook's source and solutions and gives the source's path."""
    monkeypatch.setattr(percent, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(execute, "NOTEBOOKS", tmp_path)
    monkeypatch.setattr(percent, "SOLUTIONS", tmp_path / "solutions")
    (tmp_path / "solutions").mkdir()

    def write(source, solution=SOLUTION):
        for path, text in (("01_try.py", source), ("solutions/01_try.py", solution)):
            (tmp_path / path).write_text(text, encoding="utf-8")
        return tmp_path / "01_try.py"

    return write


def run(path):
    return asyncio.run(execute.execute(path))


def test_a_notebook_is_written_the_same_every_time_and_a_drift_is_found(course, capsys):
    path = course(GOOD)
    target = path.with_suffix(".ipynb")
    assert percent.main(["--check"]) == 1
    assert "01_try.ipynb is out of date" in capsys.readouterr().out
    assert not target.exists()
    assert percent.main([]) == 0
    first = target.read_bytes()
    assert percent.main(["--check"]) == 0
    target.write_bytes(first.replace(b"Does it", b"Does It"))
    assert percent.main(["--check"]) == 1
    assert percent.main([]) == 0
    assert target.read_bytes() == first


def test_a_changed_cell_keeps_the_ids_of_the_others(course):
    before = percent.read(course(GOOD)).cells
    after = percent.read(course(GOOD.replace('print("a")', 'print("b")'))).cells
    changed = [a.id != b.id for a, b in zip(before, after, strict=True)]
    assert sum(changed) == 1
    assert len({cell.id for cell in before}) == len(before)  # equal cells too


def test_metadata_and_outputs(course):
    notebook = json.loads(percent.text_of(percent.read(course(GOOD))))
    cells = notebook["cells"]
    assert all(cell.get("outputs", []) == [] for cell in cells)
    alt = "A line that rises from one to two"
    assert cells[3]["metadata"]["mystnb"] == {"image": {"alt": alt}}
    assert notebook["metadata"]["kernelspec"]["name"] == "python3"


@pytest.mark.parametrize(
    ("change", "problem"),
    [
        (("# # 1. Try", "# Try"), "first cell must begin"),
        (("# ## The code", "#"), "its headings must begin with The mathematics"),
        ((PICTURE * 3, PICTURE * 2), "at least three cells tagged 'picture'"),
        (("# # 1. Try", "# # 1. Try\n#\n# - so\n#   $$x$$"), "needs an empty line before it"),
        (("# %%\nprint", '# %% tags=["slow"]\nprint'), "unknown tag slow"),
        (('alt="A line that rises from one to two"', 'alt="line"'), "without an alt text"),
        (('"check", "raises-exception"', '"check"'), "not tagged 'raises-exception'"),
        (('"raises-exception"] exercise="two"', '"raises-exception"]'), "followed by its check"),
    ],
)
def test_what_a_source_must_have(course, change, problem):
    assert change[0] in GOOD
    with pytest.raises(percent.BadSource, match=problem):
        percent.read(course(GOOD.replace(*change)))


@pytest.mark.parametrize(
    ("cut", "problem"),
    [("# %% wrong", "needs a solution and a wrong one"), ("# %% sol", "no file of solutions")],
)
def test_what_a_file_of_solutions_must_have(course, cut, problem):
    path = course(GOOD, SOLUTION.split(cut)[0])
    if "file" in problem:
        (path.parent / "solutions" / path.name).unlink()
    with pytest.raises(percent.BadSource, match=problem):
        percent.solutions(path)


def test_a_good_notebook_passes_twice(course, tmp_path, capsys):
    course(GOOD)
    assert execute.main(["--twice", "--out", str(tmp_path / "out")]) == 0
    assert "1 passed, 0 failed" in capsys.readouterr().out
    copy = nbformat.read(tmp_path / "out" / "01_try.ipynb", as_version=4)
    shown = [out for cell in copy.cells for out in cell.get("outputs", ())]
    assert shown[0].text == "a\n"
    assert sum("image/png" in out.get("data", {}) for out in shown) == 3
    assert all(out.output_type != "error" for out in shown)
    assert execute.main(["--stale", "--out", str(tmp_path / "out")]) == 0
    assert "0 passed, 0 failed" in capsys.readouterr().out
    course(GOOD + "#\n")
    assert execute.is_stale(tmp_path / "01_try.py", tmp_path / "out")


def test_everything_a_run_must_not_leave_is_reported(course):
    source = GOOD.replace('print("a")', 'print("a"); import sys; print("oh", file=sys.stderr)')
    source = source.replace("\nfigure\n", "\nNone\n", 1)
    source = source.replace("figure\n\n# %% [markdown]", "1 / 0\n\n# %% [markdown]")
    source = source.replace("raise NotImplementedError", "raise KeyError")
    _, report = run(course(source))
    problems = "\n".join(report.problems)
    assert "no picture, at: 'None'" in problems
    assert "ZeroDivisionError: division by zero, at: '1 / 0'" in problems
    assert "stderr: 'oh'" in problems
    assert "not yet done raised ('KeyError'" in problems
    assert len(report.problems) == 5  # the cell that divides leaves no picture either


def test_a_check_that_cannot_tell_is_reported(course):
    source = GOOD.replace("assert two() == 2", "assert two() in (2, 3)")
    _, report = run(course(source))
    assert report.problems == ["two: wrong answer 1 gave None"]
    _, report = run(course(GOOD, SOLUTION.replace("return 2", "return 4")))
    assert report.problems == [
        "two: the solution gave ('AssertionError', 'two() must be 2, got 4')"
    ]
    _, report = run(course(GOOD.replace("assert two() == 2", "assert True"), SOLUTION))
    assert "a check that is not yet done passed: 'assert True" in report.problems[-1]


def test_runs_that_differ_are_reported_unless_they_measure_time(course):
    noisy = GOOD.replace('print("a")', "import time; print(time.time())")
    notebooks = [run(course(noisy))[0] for _ in range(2)]
    (found,) = execute.differences(*notebooks)
    assert "two runs differ, at: 'import time" in found
    timed = noisy.replace("# %%\nimport", '# %% tags=["timing"]\nimport')
    notebooks = [run(course(timed))[0] for _ in range(2)]
    assert list(execute.differences(*notebooks)) == []


def test_a_name_that_is_no_notebook(course, capsys):
    course(GOOD)
    assert execute.main(["7"]) == 2
    assert "no notebook '7'; there are: 01_try" in capsys.readouterr().err
    assert [path.stem for path in percent.sources(["1"])] == ["01_try"]


def test_a_kernel_that_dies_is_reported(course):
    _, report = run(course(GOOD.replace('print("a")', "import os; os._exit(3)")))
    assert "Kernel died" in report.problems[0]
