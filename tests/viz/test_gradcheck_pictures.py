"""The page on the mathematics of gradient checking: its outputs, figures, names and pictures."""

import contextlib
import importlib
import io
import re
from pathlib import Path

import numpy as np
import pytest

from minillm.gradcheck import check_vjp
from minillm.gradcheck.steps import default_rtol
from minillm.viz import gradcheck as made

DOCS = Path(__file__).parents[2] / "docs"
TEXT = (DOCS / "gradcheck-mathematics.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```\n\n```text\n(.*?)^```", TEXT, re.MULTILINE | re.DOTALL)
NUMBER = r"-?\d+(?:\.\d+)?(?:e[+-]?\d+)?"


@pytest.fixture(scope="module")
def outputs():
    """What each block prints, run in order with one set of names."""
    names, found = {}, []
    for source, _ in BLOCKS:
        with contextlib.redirect_stdout(io.StringIO()) as printed:
            exec(compile(source, "page", "exec"), names)
        found.append(printed.getvalue())
    return found


def as_stated(printed, stated):
    """Whether two texts are the same, counts up to 2 %, other numbers up to a fifth."""
    if re.sub(NUMBER, "#", printed).split() != re.sub(NUMBER, "#", stated).split():
        return False
    pairs = zip(re.findall(NUMBER, printed), re.findall(NUMBER, stated), strict=True)
    return all(
        abs(float(a) - float(b)) <= 0.02 * float(b)
        if re.fullmatch(r"\d+", b)
        else float(a) == pytest.approx(float(b), rel=0.2, abs=1.01 * last_digit(b))
        for a, b in pairs
    )


def last_digit(number):
    digits, _, power = number.partition("e")
    return 10.0 ** (int(power or 0) - len(digits.partition(".")[2]))


def test_every_block_of_the_page_has_its_output():
    assert len(BLOCKS) == TEXT.count("```python") == TEXT.count("```text") > 8


@pytest.mark.parametrize("i", range(len(BLOCKS)))
def test_the_page_states_what_its_code_prints(outputs, i):
    assert as_stated(outputs[i], BLOCKS[i][1]), outputs[i]


def test_another_output_is_noticed():
    assert as_stated("off 1.1e-09, 3 of 4\n", "off 1.2e-09,  3 of 4")
    assert not as_stated("off 1.1e-09, 2 of 4", "off 1.1e-09, 3 of 4")
    assert not as_stated("off 1.1e-08, 3 of 4", "off 1.1e-09, 3 of 4")
    assert not as_stated("on 1.1e-09, 3 of 4", "off 1.1e-09, 3 of 4")


def test_no_formula_within_a_line_is_broken_over_two():
    prose = re.sub(r"^```.*?^```|\$\$.*?\$\$", "", TEXT, flags=re.MULTILINE | re.DOTALL)
    assert not [line for line in prose.splitlines() if line.count("$") % 2]
    assert "\\operatorname" not in prose  # refused where GitHub shows the page


def test_names_and_constants_that_the_page_cites_exist():
    homes = "steps|look|ladder|kinks|judge|contract|run|opinion|elements|problem|rounding"
    cited = re.findall(rf"`({homes})\.([\w.]+)`(?: = ([\d.]+\d|\d+))?", TEXT)
    assert len(cited) > 20
    for module, path, value in cited:
        found = importlib.import_module(f"minillm.gradcheck.{module}")
        for name in path.split("."):
            found = getattr(found, name)
        assert not value or found == float(value), path


def stated(snippet):
    """The number between « and » in a passage of the page, which must be there."""
    assert snippet.replace("«", "").replace("»", "") in " ".join(TEXT.split()), snippet
    number = re.search("«(.*)»", snippet)[1].replace(" ", "")
    found = re.fullmatch(r"([\d.]+)(?:\\cdot10\^\{(-?\d+)\})?", number)
    return float(found[1]) * 10.0 ** int(found[2] or 0)


def test_stated_steps():
    for dtype, first, best, eps in (
        ("float32", r"begins at $«4.1 \cdot 10^{-3}»$", r"are $«8.2 \cdot 10^{-3}»$", 2.0**-23),
        (
            "float64",
            r"10^{-3}$ and $«5.0 \cdot 10^{-6}»$.",
            r"and $«1.0 \cdot 10^{-5}»$;",
            2.0**-52,
        ),
    ):
        found = made.step_errors(dtype)
        assert stated(first) == pytest.approx(found["first"], rel=0.03)
        assert stated(best) == pytest.approx(found["best"], rel=0.03)
        assert np.finfo(dtype).eps == eps
    coarse = made.step_errors("float32", steps=10 ** np.linspace(-5.2, -4.8, 41))["error"]
    assert 0.003 < np.median(coarse) < 0.03  # "off by about a per cent"
    assert stated(r"is $«4.9 \cdot 10^{-3}»$ in float32") == pytest.approx(2 ** (-23 / 3), rel=0.01)
    assert stated(r"$«6.1 \cdot 10^{-6}»$ in float64") == pytest.approx(2 ** (-52 / 3), rel=0.01)


def test_stated_power():
    tau = {dtype: default_rtol(dtype) for dtype in ("float32", "float64")}
    least = {dtype: 2 * tau[dtype] * np.sqrt(8192) for dtype in tau}
    assert stated(r"$«1.5 \cdot 10^{-7}»$ in float64") == pytest.approx(tau["float64"], rel=0.01)
    assert stated(r"$«3.5 \cdot 10^{-3}»$ in float32") == pytest.approx(tau["float32"], rel=0.02)
    assert stated(r"that is $«2.7 \cdot 10^{-5}»$") == pytest.approx(least["float64"], rel=0.01)
    assert stated("a margin of «370».") == pytest.approx(0.01 / least["float64"], rel=0.01)
    assert stated("off by «62» %") == pytest.approx(100 * least["float32"], rel=0.01)
    small = made.unseen(1.0, 16, "float64") / (tau["float64"] * np.sqrt(8192 / 16))
    assert stated(r"$«0.77» \tau") == pytest.approx(small, rel=0.01)
    assert stated("gradient, «12.5» %") == pytest.approx(100 / np.sqrt(64))
    assert stated("which is «840 000» times") == pytest.approx(0.125 / tau["float64"], rel=0.01)
    assert stated("«2.8» times at (8, 64)") == pytest.approx(3e-5 * 8**1.5 * 64**2, rel=0.02)
    assert stated("and «90» times") == pytest.approx(3e-5 * 32**1.5 * 128**2, rel=0.02)


def test_stated_errors_of_ridders_and_of_the_ladder():
    """Shares within five points; what the worst of a thousand is depends on a machine's sine."""
    rows = {
        made.ridders: ("| Ridders | «55» %", "| Ridders | 55 % | «8.0» %", "8.0 % | «1400» times"),
        made.ladder: ("ladder | «0.8» %", "ladder | 0.8 % | «0» %", "0 % | «1.9» times"),
    }
    for method, (over, far, worst) in rows.items():
        reported, true = made.trials(method)
        assert reported.size == 1000
        some = reported > 0
        factor = true[some] / reported[some]
        wrong = true[~some] > 0
        assert stated(over) == pytest.approx(100 * np.r_[factor > 1, wrong].mean(), abs=5)
        assert stated(far) == pytest.approx(100 * np.r_[factor > 10, wrong].mean(), abs=4)
        if method is made.ridders:
            assert wrong.sum() == pytest.approx(stated("leaves out «13» points"), abs=12)
            assert 100 < factor.max() < 20 * stated(worst)
            assert np.median(true) < 0.01 * np.median(made.trials(made.ladder)[1])
        else:
            assert not wrong.any()
            assert factor.max() < 2 * stated(worst)


@pytest.mark.parametrize("seed", range(5))
def test_one_per_cent_in_one_element_of_8192_is_found(seed):
    rng = np.random.default_rng(seed)
    x, weight = rng.standard_normal(8192), rng.standard_normal((16, 8192))
    place = int(rng.integers(8192))

    def backward(dout, cache):
        dx = dout @ weight
        dx[place] *= 1.01
        return dx

    options = {"seed": seed, "diagnose": False}
    right = check_vjp(lambda x: (weight @ x, None), lambda d, c: d @ weight, [x], **options)
    wrong = check_vjp(lambda x: (weight @ x, None), backward, [x], **options)
    assert (right.verdict, wrong.verdict) == ("pass", "fail")
    assert right.evaluations <= 12 + 4
    assert wrong.leaves[0].worst[0][0] == (place,)


def test_derivatives_on_a_circle():
    found = made.derivatives(np.exp, 4)
    np.testing.assert_allclose(found, np.ones(5), rtol=1e-10)


@pytest.mark.parametrize(("dtype", "large"), [("float32", 0.03), ("float64", 1e-3)])
def test_errors_follow_the_two_predictions(dtype, large):
    found = made.step_errors(dtype)
    h, error = found["h"], found["error"]
    truncated = (h > large) & (h < 0.1)
    np.testing.assert_allclose(error[truncated], found["truncation"][truncated], rtol=0.25)
    rounded = h < found["best"] / 10
    assert np.all(error[rounded] < 2 * found["rounding"][rounded])
    assert np.median(error[rounded] / found["rounding"][rounded]) > 0.02


def test_second_differences_tell_kinks_from_curves():
    steps = np.array([1e-3, 1e-5])
    kink, beside, smooth = (made.second_differences(f, x, steps) for f, x in made.CURVES.values())
    np.testing.assert_allclose(kink, steps)
    np.testing.assert_allclose(beside, [1e-3 - 1e-4, 0], atol=1e-16)
    assert smooth[0] / smooth[1] == pytest.approx(1e4, rel=1e-3)


@pytest.mark.parametrize("method", [made.ridders, made.ladder])
def test_both_methods_differentiate(method):
    value, reported = method(np.sin, 0.7)
    assert value == pytest.approx(np.cos(0.7), abs=1e-8)
    assert 0 <= reported < 1e-6


@pytest.mark.parametrize("n", [1, 16, 8192])
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_the_chance_to_go_unseen_is_the_predicted_one(n, dtype):
    errors = np.array([0.5, 1.0, 3.0]) * default_rtol(dtype) * np.sqrt(8192 / n)
    expected = [made.unseen(error, n, dtype) for error in errors]
    measured = made.unseen_measured(errors, n, dtype, count=2000 if n < 8192 else 500)
    np.testing.assert_allclose(measured, expected, atol=0.08)


def test_the_pictures_are_drawn_small_and_the_page_shows_each(tmp_path):
    shown = re.findall(r"\]\(pictures/(gradcheck-\w+)\.png\)", TEXT)
    assert sorted(shown) == sorted(made.PICTURES)
    made.main(tmp_path)
    for name in made.PICTURES:
        for folder in (tmp_path, DOCS / "pictures"):
            data = (folder / f"{name}.png").read_bytes()
            assert data.startswith(b"\x89PNG")
            assert 10_000 < len(data) < 85_000
