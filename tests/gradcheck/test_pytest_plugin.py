import importlib.util
import json
import os
import re
import shlex
import subprocess
import sys

import pytest
import torch  # noqa: F401 kept for the inner runs, which forget what they import

pytest_plugins = ["pytester"]

LAYERS = """\
import numpy as np
import pytest
from minillm.gradcheck import GradientError, check_vjp

def linear(x, w):
    return x @ w, (x, w)

def right(dy, cache):
    x, w = cache
    return dy @ w.T, x.T @ dy

def twice(dy, cache):
    dx, dw = right(dy, cache)
    return dx, 2 * dw

def deaf(x):
    return np.zeros_like(x), None

def silent(dy, cache):
    return 0 * dy

ARGS = np.random.default_rng(1).standard_normal((2, 3)), np.ones((3, 4))

"""
FAILS = LAYERS + "def test_it(gradcheck):\n    gradcheck(linear, twice, ARGS)\n"
FAILS_PLAINLY = (
    LAYERS + "def test_it():\n    check_vjp(linear, twice, ARGS, seed=5).raise_unless_passed()\n"
)
UNDECIDED = LAYERS + "def test_it(gradcheck):\n    gradcheck(deaf, silent, ARGS[:1])\n"
PASSES = LAYERS + "def test_it(gradcheck):\n    assert gradcheck(linear, right, ARGS).passed\n"


@pytest.fixture
def run(pytester):
    """Write a test module and run it in this process."""

    def run_source(source, *options):
        pytester.makepyfile(test_layers=source)
        return pytester.runpytest_inprocess("-p", "no:cacheprovider", *options)

    return run_source


def reports(pytester, name="out.json"):
    return json.loads((pytester.path / name).read_text(encoding="utf-8"))["reports"]


# --- what a failure shows -------------------------------------------------------------------------


@pytest.mark.parametrize("style", ["auto", "long", "short", "native"])
@pytest.mark.parametrize("source", [FAILS, FAILS_PLAINLY], ids=["fixture", "plain"])
def test_a_failure_shows_the_report_alone(run, source, style):
    result = run(source, f"--tb={style}")
    result.assert_outcomes(failed=1)
    shown = result.stdout.str().split("test_it ___")[1].split("short test summary")[0]
    assert "linear: FAIL" in shown
    assert re.search(r"\bw +\(3, 4\) +float64 +fail", shown)
    assert not re.search(r"Traceback|GradientError|raise_unless|\.py\", line|^E  |^>", shown, re.M)
    line = source[: source.index("twice, ARGS")].count("\n") + 1
    assert f"at test_layers.py:{line}" in shown
    result.stdout.fnmatch_lines(["FAILED test_layers.py::test_it - linear: FAIL w"])


def test_the_full_trace_is_there_for_who_asks(run):
    result = run(FAILS, "--full-trace")
    result.stdout.fnmatch_lines(["*GradientError*"])
    assert "def raise_unless_passed" in result.stdout.str()


def test_another_failure_is_shown_as_ever(run):
    result = run("def test_it(gradcheck):\n    assert 1 == 2, 'not so'\n")
    result.stdout.fnmatch_lines([">*assert 1 == 2*", "E*not so"])
    result = run(LAYERS + "def test_it(gradcheck):\n    gradcheck(linear, right, 3)\n")
    shown = result.stdout.str()
    assert re.search(r"^E +ValueError: args must be a sequence", shown, re.M)
    assert "def _passes" not in shown, "the fixture's own frames"


def test_the_replay_line_runs_the_same_check(pytester, run):
    source = LAYERS + (
        "@pytest.mark.parametrize('name', ['x y', 'z'])\n"
        "def test_it(gradcheck, name):\n    gradcheck(linear, twice, ARGS)\n"
    )
    result = run(source, "--gradcheck-seed=7", "--gradcheck-full", "test_layers.py::test_it[x y]")
    line = next(text for text in result.outlines if text.startswith("  pytest: "))
    words = shlex.split(line.removeprefix("  pytest: "))
    expected = ["test_layers.py::test_it[x y]", "--gradcheck-seed=7", "--gradcheck-full"]
    assert words == ["pytest", *expected]
    again = pytester.runpytest_inprocess("-p", "no:cacheprovider", *words[1:])
    again.assert_outcomes(failed=1)

    def told(outcome):
        lines = outcome.outlines
        return lines[lines.index("linear: FAIL") : lines.index(line)]

    assert told(again) == told(result)


def test_the_replay_line_holds_in_the_folder_where_pytest_was_started(pytester):
    pytester.makeini("[pytest]")
    pytester.mkdir("tests").joinpath("test_layers.py").write_text(FAILS_PLAINLY)
    pytester.mkdir("elsewhere")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir("elsewhere")
        result = pytester.runpytest_inprocess("-p", "no:cacheprovider", "../tests")
    result.stdout.fnmatch_lines(
        ["  pytest: pytest ../tests/test_layers.py::test_it", "  at ../tests/test_layers.py:*"]
    )


def test_hypothesis_serves_all_examples_with_one_fixture_and_tells_the_smallest(run):
    source = LAYERS + (
        "from hypothesis import Phase, given, settings\n"
        "from minillm.gradcheck.strategies import inputs\n"
        "@settings(database=None, derandomize=True, phases=[Phase.generate, Phase.shrink])\n"
        "@given(drawn=inputs(x='B C', w='C K'))\n"
        "def test_it(gradcheck, drawn):\n"
        "    gradcheck(linear, twice, tuple(drawn.values()))\n"
    )
    result = run(source)
    result.assert_outcomes(failed=1)
    shown = result.stdout.str()
    assert re.search(r"\bw +\(1, 1\) +float64 +fail", shown)
    assert "gradcheck=<gradcheck with seed 0>" in shown
    assert "drawn={'x': filled((1, 1))" in shown
    assert "Traceback" not in shown


def test_a_failing_fixture_shows_the_report_too(pytester, run):
    source = LAYERS + (
        "@pytest.fixture(scope='module')\n"
        "def trained(gradcheck):\n    gradcheck(linear, twice, ARGS)\n"
        "def test_it(trained):\n    pass\n"
    )
    result = run(source, "--gradcheck-json=out.json")
    result.assert_outcomes(errors=1)
    assert "linear: FAIL" in result.outlines
    assert "raise_unless" not in result.stdout.str()
    assert [entry["test"] for entry in reports(pytester)] == ["test_layers.py::test_it"]


# --- the methods ----------------------------------------------------------------------------------


def test_each_method_checks(run):
    result = run(
        LAYERS
        + """
class Layer:
    factor = 1
    def __init__(self):
        self.params, self.grads = {"w": ARGS[1].copy()}, {}
    def forward(self, x):
        self.x = x
        return x @ self.params["w"]
    def backward(self, dy):
        self.grads["w"] = self.factor * self.x.T @ dy
        return dy @ self.params["w"].T

class Wrong(Layer):
    factor = 2

linear.backward = right

def test_all(gradcheck):
    subjects = [
        gradcheck(linear, right, ARGS),
        gradcheck.vjp(linear, right, ARGS),
        gradcheck.op(linear, {"x": (2, 3), "w": (3, 4)}),
        gradcheck.function(lambda x: x * x, lambda dy, x: 2 * x * dy, ARGS[:1]),
        gradcheck.layer(Layer(), ARGS[0]),
    ]
    assert all(report.passed for report in subjects)

def test_all_fail(gradcheck):
    with pytest.raises(GradientError, match="w .* fail"):
        gradcheck.vjp(linear, twice, ARGS)
    linear.backward = twice
    with pytest.raises(GradientError, match="w .* fail"):
        gradcheck.op(linear, {"x": (2, 3), "w": (3, 4)})
    with pytest.raises(GradientError, match="x .* fail"):
        gradcheck.function(lambda x: x * x, lambda dy, x: x * dy, ARGS[:1])
    with pytest.raises(GradientError, match="w .* fail"):
        gradcheck.layer(Wrong(), ARGS[0])
"""
    )
    result.assert_outcomes(passed=2)


def test_the_methods_for_torch(run):
    result = run(
        """
import pytest
import torch
from minillm.gradcheck import GradientError

class Square(torch.autograd.Function):
    factor = 2
    @staticmethod
    def forward(ctx, x):
        ctx.save_for_backward(x)
        return x * x
    @classmethod
    def backward(cls, ctx, dy):
        return cls.factor * ctx.saved_tensors[0] * dy

class Wrong(Square):
    factor = 3

class Module(torch.nn.Module):
    def __init__(self, square):
        super().__init__()
        self.square = square
        self.w = torch.nn.Parameter(torch.arange(1, 4, dtype=torch.float64))
    def forward(self, x):
        return self.square.apply(x * self.w)

X = torch.linspace(-1, 2, 6, dtype=torch.float64).reshape(2, 3)

def test_right(gradcheck):
    assert gradcheck.torch(Square, [X]).seed == 6
    assert gradcheck.module(Module(Square), [X]).seed == 6

def test_wrong(gradcheck):
    with pytest.raises(GradientError, match="x .* fail"):
        gradcheck.torch(Wrong, [X], names=["x"])
    with pytest.raises(GradientError, match="w .* fail"):
        gradcheck.module(Module(Wrong), [X])
""",
        "--gradcheck-seed=6",
    )
    result.assert_outcomes(passed=2)


# --- options --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "seed", "scope", "header"),
    [
        ([], 0, "default", None),
        (["--gradcheck-seed=0"], 0, "default", "gradcheck: seed 0"),
        (["--gradcheck-seed", "12"], 12, "default", "gradcheck: seed 12"),
        (["--gradcheck-full"], 0, "full", "gradcheck: every element"),
        (["--gradcheck-seed=3", "--gradcheck-full"], 3, "full", "gradcheck: seed 3, every element"),
    ],
)
def test_seed_and_scope(run, options, seed, scope, header):
    source = LAYERS + (
        "def test_it(gradcheck):\n"
        "    report = gradcheck(linear, right, ARGS)\n"
        f"    assert (report.seed, report.scope) == ({seed}, '{scope}')\n"
        "    own = gradcheck(linear, right, ARGS, seed=99, scope='default')\n"
        f"    assert (own.seed, own.scope) == (99, '{scope}')\n"
        "    x, w = gradcheck.draw((2, 3), (3, 4))\n"
        f"    assert x[0, 0] == np.random.default_rng({seed}).standard_normal()\n"
        "    assert gradcheck.draw(3, seed=99)[0][0] == "
        "np.random.default_rng(99).standard_normal()\n"
    )
    result = run(source, *options)
    result.assert_outcomes(passed=1)
    headers = [line for line in result.outlines if line.startswith("gradcheck:")]
    assert headers == ([header] if header else [])


@pytest.mark.parametrize("seed", ["-1", "two", "1.5", ""])
def test_a_seed_is_a_whole_number(run, seed):
    result = run(PASSES, f"--gradcheck-seed={seed}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    expected = f"--gradcheck-seed: must be a whole number of at least 0, got {seed!r}"
    result.stderr.fnmatch_lines([f"*{expected}"])


# --- inconclusive ---------------------------------------------------------------------------------


def test_an_inconclusive_check_fails_and_says_why(run):
    result = run(UNDECIDED)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines(["deaf: INCONCLUSIVE", "*no influence*", "*inconclusive_ok=True*"])


@pytest.mark.parametrize(
    ("marker", "option", "outcome"),
    [
        ("(inconclusive_ok=True)", "", "passed"),
        ("(inconclusive_ok=False)", "", "failed"),
        ("", "", "failed"),
        (None, ", inconclusive_ok=True", "passed"),
        ("(inconclusive_ok=True)", ", inconclusive_ok=False", "failed"),
    ],
)
def test_unless_marked_or_told(run, marker, option, outcome):
    source = UNDECIDED.replace("ARGS[:1])", f"ARGS[:1]{option})")
    if marker is not None:
        source = source.replace("def test_it", f"@pytest.mark.gradcheck{marker}\ndef test_it")
    run(source, "--strict-markers").assert_outcomes(**{outcome: 1})


def test_a_mark_does_not_excuse_a_wrong_gradient(run):
    marked = FAILS.replace(
        "def test_it", "@pytest.mark.gradcheck(inconclusive_ok=True)\ndef test_it"
    )
    run(marked).assert_outcomes(failed=1)


@pytest.mark.parametrize("given", ["inconclusve_ok=True", "True"])
def test_a_mark_is_read_closely(run, given):
    source = UNDECIDED.replace("def test_it", f"@pytest.mark.gradcheck({given})\ndef test_it")
    result = run(source)
    result.assert_outcomes(failed=1)
    result.stdout.fnmatch_lines([f"E*takes inconclusive_ok=True and nothing else, got {given}"])


# --- the file of reports --------------------------------------------------------------------------

MIXED = FAILS + (
    "def test_right(gradcheck):\n    gradcheck(linear, right, ARGS)\n"
    "def test_plain():\n    check_vjp(linear, twice, ARGS, seed=5).raise_unless_passed()\n"
    "@pytest.mark.gradcheck(inconclusive_ok=True)\n"
    "def test_undecided(gradcheck):\n    gradcheck(deaf, silent, ARGS[:1])\n"
    "def test_caught(gradcheck):\n"
    "    with pytest.raises(GradientError):\n        gradcheck(linear, twice, ARGS)\n"
    "    gradcheck(linear, right, ARGS)\n"
)
MIXED_REPORTS = [
    ("test_layers.py::test_caught", "fail", False),
    ("test_layers.py::test_caught", "pass", False),
    ("test_layers.py::test_it", "fail", False),
    ("test_layers.py::test_plain", "fail", False),
    ("test_layers.py::test_right", "pass", False),
    ("test_layers.py::test_undecided", "inconclusive", True),
]
# xdist where it is installed; the test after this one holds what it needs of us in any case.
WORKERS = [[], ["-n2"]] if importlib.util.find_spec("xdist") else [[]]


@pytest.mark.parametrize("workers", WORKERS, ids=["".join(w) or "alone" for w in WORKERS])
def test_the_file_holds_every_report(pytester, run, workers):
    result = run(MIXED, "--gradcheck-json=out.json", "--gradcheck-seed=4", *workers)
    result.assert_outcomes(passed=3, failed=2)
    result.stdout.fnmatch_lines(["gradcheck: 6 reports in out.json"])
    document = json.loads((pytester.path / "out.json").read_text(encoding="utf-8"))
    assert (document["seed"], document["scope"]) == (4, "default")
    found = [
        (entry["test"], entry["report"]["verdict"], entry["inconclusive_ok"])
        for entry in document["reports"]
    ]
    assert sorted(found) == MIXED_REPORTS
    seeds = {entry["report"]["seed"]: entry["test"] for entry in document["reports"]}
    assert seeds[5] == "test_layers.py::test_plain"
    assert seeds.keys() == {4, 5}
    assert not list(pytester.path.glob(".unfinished*"))


def test_reports_travel_in_what_workers_send(pytester):
    """As pytest-xdist does it: to plain values in a worker, and back beside the terminal."""
    sent = []

    class Worker:
        @pytest.hookimpl(trylast=True)
        def pytest_runtest_logreport(self, report):
            sent.append(config.hook.pytest_report_to_serializable(config=config, report=report))

        @pytest.hookimpl(tryfirst=True)
        def pytest_configure(self, config):
            config.workerinput = {}

    pytester.makepyfile(test_layers=FAILS)
    config = pytester.parseconfigure()
    options = ["-p", "no:cacheprovider", "-p", "no:xdist", "--gradcheck-json=out.json"]
    pytester.inline_run(*options, plugins=[Worker()])
    assert not (pytester.path / "out.json").exists(), "a worker leaves the file to the controller"
    back = [
        config.hook.pytest_report_from_serializable(
            config=config, data=json.loads(json.dumps(data))
        )
        for data in sent
    ]
    texts = [text for report in back for text in report.gradcheck]
    assert [json.loads(text)["report"]["verdict"] for text in texts] == ["fail"]
    call = next(report for report in back if report.when == "call")
    assert call.longreprtext.startswith("linear: FAIL")
    assert call.longrepr.reprcrash.message == "linear: FAIL w"


@pytest.mark.parametrize("source", ["def test_it():\n    pass\n", "", "1 / 0\n"])
def test_the_file_is_written_without_checks_and_under_errors(pytester, run, source):
    run(source, "--gradcheck-json=out.json")
    assert reports(pytester) == []


def test_the_path_is_that_of_the_start_of_the_run(pytester, run):
    pytester.mkdir("elsewhere")
    source = PASSES.replace(
        "(gradcheck):\n", "(gradcheck, monkeypatch):\n    import os\n    os.chdir('elsewhere')\n"
    )
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(pytester.path)
        run(source, "--gradcheck-json=out.json").assert_outcomes(passed=1)
    assert len(reports(pytester)) == 1


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("missing/out.json", "No such file or directory"),
        (".", "it exists and is no plain file"),
        ("pipe", "it exists and is no plain file"),
        ("test_layers.py/out.json", "Not a directory"),
    ],
)
def test_an_impossible_path_is_refused_at_the_start(pytester, run, name, why):
    os.mkfifo(pytester.path / "pipe")  # stands for /dev/null, which a broken guard would replace
    result = run(PASSES, f"--gradcheck-json={name}")
    assert result.ret == pytest.ExitCode.USAGE_ERROR
    expected = f"ERROR: --gradcheck-json: cannot write {name}: {why}"
    assert result.stderr.str().strip() == expected
    assert "passed" not in result.stdout.str()


def test_a_path_that_becomes_impossible_fails_the_run(pytester, run):
    source = PASSES.replace(
        "(gradcheck):\n", "(gradcheck):\n    import os\n    os.mkdir('out.json')\n"
    )
    result = run(source, "--gradcheck-json=out.json")
    result.assert_outcomes(passed=1)
    result.stdout.fnmatch_lines(["--gradcheck-json: cannot write out.json: Is a directory"])
    assert result.ret == pytest.ExitCode.INTERNAL_ERROR
    assert not list(pytester.path.glob(".unfinished*"))


def test_a_link_keeps_pointing_at_the_file(pytester, run):
    pytester.mkdir("elsewhere")
    (pytester.path / "out.json").symlink_to("elsewhere/real.json")
    run(PASSES, "--gradcheck-json=out.json")
    assert (pytester.path / "out.json").is_symlink()
    assert len(reports(pytester, "elsewhere/real.json")) == 1


def test_collecting_alone_leaves_the_file_as_it_was(pytester, run):
    (pytester.path / "out.json").write_text("earlier")
    run(PASSES, "--gradcheck-json=out.json", "--collect-only")
    assert (pytester.path / "out.json").read_text() == "earlier"


# --- projects that want nothing of it -------------------------------------------------------------


def test_a_project_may_have_its_own_gradcheck(run):
    source = """
import pytest

@pytest.fixture
def gradcheck():
    return "mine"

@pytest.mark.gradcheck("slow", times=3)
def test_it(gradcheck):
    assert gradcheck == "mine"
"""
    run(source, "--strict-markers", "-W", "error").assert_outcomes(passed=1)


def test_without_the_plugin_plain_tests_run_and_the_fixture_is_unknown(pytester):
    pytester.makepyfile(test_layers=FAILS_PLAINLY + "def test_more():\n    pass\n")
    result = pytester.runpytest_subprocess("-p", "no:gradcheck", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1, failed=1)
    pytester.makepyfile(test_layers=PASSES)
    result = pytester.runpytest_subprocess("-p", "no:gradcheck", "-p", "no:cacheprovider")
    result.stdout.fnmatch_lines(["*fixture 'gradcheck' not found"])


def test_the_entry_point_brings_the_plugin_in(pytester):
    pytester.makepyfile(test_layers=PASSES)
    result = pytester.runpytest_subprocess("--strict-markers", "-p", "no:cacheprovider")
    result.assert_outcomes(passed=1)
    result = pytester.runpytest_subprocess("--markers")
    result.stdout.fnmatch_lines(["@pytest.mark.gradcheck(inconclusive_ok=True): *"])


def test_the_plugin_imports_nothing_heavy():
    heavy = "hypothesis", "torch", "matplotlib", "minillm.gradcheck.strategies", "cupy"
    code = (
        "import sys, minillm.gradcheck.pytest_plugin\n"
        f"print([name for name in {heavy} if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
