"""docs/gradcheck.md: its Python runs, and prints what it says.

`python -m tests.gradcheck.test_guide` writes what is printed now into the page.
"""

import contextlib
import io
import re
import sys
from pathlib import Path

import pytest

from minillm.cli import run as run_command
from tests.gradcheck.standin_cupy import cupy_or_standin

PAGE = Path(__file__).parents[2] / "docs" / "gradcheck.md"
FENCE = re.compile(r"^```([^\n]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
NUMBER = re.compile(r"[-+]?\d+(?:\.\d+)?(?:e[-+]\d+)?")
ROUNDING = 1e-6  # what is smaller depends on the machine


def fences():
    """[(language, text, the output shown under it or None)] of the page, in order."""
    found = FENCE.findall(PAGE.read_text(encoding="utf-8"))
    shown = [text if language == "text" else None for language, text in [*found[1:], ("", "")]]
    return [(*fence, out) for fence, out in zip(found, shown, strict=True) if fence[0] != "text"]


def python_blocks():
    return [text for language, text, _ in fences() if language == "python"]


def layers_file():
    """The functions of the page's first example, as the reader has them in layers.py."""
    definitions = [text for text in python_blocks() if "def layer_norm" in text]
    return "".join(definitions[:2]).partition("print(")[0]


def printed(folder):
    """[(shown, printed)] for every block of the page that shows an output."""
    names, results = {}, []
    for language, text, shown in fences():
        out = io.StringIO()
        with contextlib.redirect_stdout(out):
            if language.startswith("python"):
                exec(compile(text, str(PAGE), "exec"), names)
            elif language == "sh":
                (folder / "layers.py").write_text(layers_file(), encoding="utf-8")
                with contextlib.chdir(folder):
                    run_command(text.split()[1:])
        if shown is not None:
            results.append((shown, out.getvalue()))
        else:
            assert not out.getvalue(), f"the page does not show what this prints:\n{text}"
    return results


def alike(shown, came):
    """Whether two outputs have the same words, and numbers that differ by rounding alone."""
    if NUMBER.sub("#", shown) != NUMBER.sub("#", came):
        return False
    pairs = zip(NUMBER.findall(shown), NUMBER.findall(came), strict=True)
    return all(
        a == b or max(abs(x), abs(y)) < ROUNDING or abs(x - y) <= 1e-3 * abs(x)
        for a, b in pairs
        for x, y in [(float(a), float(b))]
    )


def steady(text):
    """An output without what may differ between machines though all is well."""
    return re.sub(r"\d+ forward evaluations, \d+ backward calls", "N evaluations", text)


@pytest.fixture
def cupy(monkeypatch):
    monkeypatch.setitem(sys.modules, "cupy", cupy_or_standin())


@pytest.mark.usefixtures("cupy")
def test_the_page_shows_what_its_code_prints(tmp_path):
    results = printed(tmp_path)
    assert len(results) >= 10
    for shown, came in results:
        assert alike(steady(shown), steady(came)), f"shown:\n{shown}\nprinted:\n{came}"


def test_the_page_shows_every_verdict():
    text = PAGE.read_text(encoding="utf-8")
    for word in ("PASS", "FAIL", "INCONCLUSIVE"):
        assert f": {word}\n" in text


@pytest.mark.parametrize(
    ("shown", "came", "same"),
    [
        ("off by 3.1e-11 (1.5e-07)", "off by 2.2e-12 (1.5e-07)", True),
        ("off by 3.1e-01", "off by 3.2e-01", False),
        ("backward 1.250000e+00", "backward 1.250001e+00", True),
        ("pass", "fail", False),
        ("seed 0", "seed 1", False),
    ],
)
def test_alike(shown, came, same):
    assert alike(shown, came) is same


def test_the_tests_on_the_page_pass(gradcheck):
    blocks = [text for text in python_blocks() if "def " in text and "torch" not in text]
    names = {}
    exec("from minillm.gradcheck import check_vjp, draw\n" + "\n".join(blocks), names)
    tests = [value for name, value in names.items() if name.startswith("test_")]
    assert len(tests) == 3
    for test in tests:
        test(gradcheck=gradcheck)


def rewrite(folder):
    """Put what the page's code prints now into the page."""
    came = iter([text for _, text in printed(folder)])
    page = PAGE.read_text(encoding="utf-8")
    PAGE.write_text(
        FENCE.sub(lambda m: f"```text\n{next(came)}```" if m[1] == "text" else m[0], page),
        encoding="utf-8",
    )


if __name__ == "__main__":
    import tempfile

    sys.modules["cupy"] = cupy_or_standin()
    with tempfile.TemporaryDirectory() as scratch:
        rewrite(Path(scratch))
