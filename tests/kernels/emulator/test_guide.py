"""docs/emulator.md: its Python runs, and prints what it says.

`python -m tests.kernels.emulator.test_guide` writes what is printed now into the page.
"""

import contextlib
import io
import re
from pathlib import Path

PAGE = Path(__file__).parents[3] / "docs" / "emulator.md"
EXAMPLE = re.compile(r"```python\n(.*?)```\n\n```text\n(.*?)```", re.DOTALL)


def examples():
    """[(code, the output shown under it)] of the page, in order."""
    return EXAMPLE.findall(PAGE.read_text(encoding="utf-8"))


def printed():
    """What each example prints; they build on each other."""
    names, outputs = {}, []
    for code, _ in examples():
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            exec(compile(code, str(PAGE), "exec"), names)
        outputs.append(out.getvalue())
    return outputs


def test_every_example_shows_what_it_prints():
    assert PAGE.read_text(encoding="utf-8").count("```python") == len(examples())
    assert [shown for _, shown in examples()] == printed()


if __name__ == "__main__":
    text, outputs = PAGE.read_text(encoding="utf-8"), iter(printed())
    fill = lambda match: f"```python\n{match[1]}```\n\n```text\n{next(outputs)}```"  # noqa: E731
    PAGE.write_text(EXAMPLE.sub(fill, text), encoding="utf-8")
