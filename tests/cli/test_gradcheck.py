"""`minillm gradcheck` on files such as students write them."""

import json
import os
import shlex
import signal
import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import pytest

from minillm.gradcheck import Report
from minillm.gradcheck.catalogue import load

ROOT = str(Path(__file__).parents[2])

SOFTMAX = """
import numpy as np

def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    y = e / e.sum(axis, keepdims=True)
    return y, (y, axis)

def softmax_backward(dy, cache):
    y, axis = cache
    return y * (dy - (dy * y).sum(axis, keepdims=True))
"""

LAYER_NORM = '''
def layer_norm(x, gain, bias, eps=1e-5):
    """Normalise each row.

    x : (..., C)
    gain, bias : (C,)
    """
    centred = x - x.mean(-1, keepdims=True)
    inv_std = 1 / np.sqrt((centred**2).mean(-1, keepdims=True) + eps)
    normed = centred * inv_std
    return normed * gain + bias, (normed, inv_std, gain)

def layer_norm_backward(dy, cache):
    normed, inv_std, gain = cache
    rows = tuple(range(dy.ndim - 1))
    d = dy * gain
    dx = inv_std * (d - d.mean(-1, keepdims=True) - normed * (d * normed).mean(-1, keepdims=True))
    return dx, (dy * normed).sum(rows), dy.sum(rows)
'''

WRONG = SOFTMAX.replace("y * (dy - (dy * y).sum(axis, keepdims=True))", "y * dy")
BROKEN = """
def relu_forward(x):
    return np.maximum(x, 0), x

def relu_backward(dout, cache):
    return dout * cache["x"]
"""
DEAD = """
def dead(x, w):
    return 1.0 * x, w

def dead_backward(dy, w):
    return dy, np.zeros_like(w)
"""


def write(text, name="layers.py"):
    Path(name).write_text(textwrap.dedent(text))
    return name


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_one_pair_that_passes(minillm):
    write(SOFTMAX)
    done = minillm("gradcheck", "layers.py", "--arg", "x=4,7")
    assert (done.code, done.err) == (0, "")
    assert done.out.startswith("softmax: PASS\n  x  (4, 7)")
    assert "replay" not in done.out


def test_one_line_a_pair_then_the_reports_that_matter(minillm):
    write(WRONG + LAYER_NORM + BROKEN + DEAD)
    done = minillm("gradcheck", "layers.py", "--arg", "x=4,7", "--arg", "w=3")
    assert done.code == 1
    lines = done.out.splitlines()
    assert lines[:6] == [
        "softmax     FAIL  x",
        "layer_norm  pass",
        "relu        FAIL  layers.py:35: " + lines[2].split(": ", 1)[1],
        "dead        inconclusive  w (no influence)",
        "4 pairs: 1 passed, 2 failed, 1 inconclusive",
        "",
    ]
    assert "softmax: FAIL" in lines
    assert "dead: INCONCLUSIVE" in lines
    assert "layer_norm: PASS" not in lines
    assert "  replay: minillm gradcheck layers.py:softmax --arg x=4,7 --seed 0" in lines
    assert "  replay: minillm gradcheck layers.py:dead --arg x=4,7 --arg w=3 --seed 0" in lines


@pytest.mark.parametrize(
    ("text", "args", "code"),
    [
        (SOFTMAX, ["x=4,7"], 0),
        (WRONG, ["x=4,7"], 1),
        ("import numpy as np" + DEAD, ["x=4,7", "w=3"], 3),
        (SOFTMAX + DEAD, ["x=4,7", "w=3"], 3),
        (WRONG + DEAD, ["x=4,7", "w=3"], 1),
        ("import numpy as np" + BROKEN, ["x=4,7"], 1),
    ],
)
def test_the_exit_code_is_that_of_the_worst(minillm, text, args, code):
    words = [word for arg in args for word in ("--arg", arg)]
    assert minillm("gradcheck", write(text), *words).code == code
    document = minillm("gradcheck", "layers.py", "--json", *words)
    assert document.code == code
    verdict = {0: "pass", 1: "fail", 3: "inconclusive"}[code]
    assert json.loads(document.out)["verdict"] == verdict


def test_an_exception_in_the_file_is_one_pair_s_failure(minillm):
    write(SOFTMAX + BROKEN)
    done = minillm("gradcheck", "layers.py", "--arg", "x=4,7")
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines()[0] == "softmax  pass"
    assert done.out.split("\n\n")[1].splitlines() == [
        "relu: FAIL",
        "  layers.py:17: IndexError: only integers, slices (`:`), ellipsis (`...`), numpy.newaxis "
        "(`None`) and integer or boolean arrays are valid indices",
        "  called with x (4, 7)",
        "  replay: minillm gradcheck layers.py:relu --arg x=4,7 --seed 0",
    ]


@pytest.mark.parametrize(
    ("body", "message"),
    [
        ("import sys; sys.exit(0)", "layers.py:2: it calls sys.exit(0)"),
        ("return x", "forward must return (out, cache), got ndarray"),
        ("return None, x", "forward must return float32 or float64 arrays, got nothing"),
        ("return x @ x, x", "layers.py:2: ValueError: matmul"),
        ("return softmax(x)", "layers.py:2: RecursionError: maximum recursion depth exceeded"),
    ],
)
def test_a_forward_that_fails(minillm, body, message):
    write(f"def softmax(x):\n    {body}\ndef softmax_backward(dy, x): return dy")
    done = minillm("gradcheck", "layers.py", "--arg", "x=4,7")
    assert (done.code, done.err) == (1, "")
    assert done.out.splitlines()[0] == "softmax: FAIL"
    assert done.out.splitlines()[1].startswith(f"  {message}")


def test_json_is_one_document_and_nothing_else(minillm):
    noisy = WRONG.replace("    y, axis = cache", "    print('backward')\n    y, axis = cache")
    write("print('import')" + noisy + BROKEN)
    done = minillm("gradcheck", "layers.py", "--json", "--arg", "x=4,7", "--seed", 3)
    assert done.code == 1
    document = json.loads(done.out)
    assert {key: document[key] for key in ("file", "verdict", "seed")} == {
        "file": "layers.py",
        "verdict": "fail",
        "seed": 3,
    }
    softmax, relu = document["pairs"]
    assert (softmax["name"], softmax["verdict"], softmax["error"]) == ("softmax", "fail", None)
    assert softmax["replay"] == "minillm gradcheck layers.py:softmax --arg x=4,7 --seed 3"
    assert softmax["report"]["replay"] == softmax["replay"]
    assert softmax["report"]["subject"] == "softmax"
    assert [leaf["name"] for leaf in softmax["report"]["leaves"]] == ["x"]
    assert (relu["verdict"], relu["report"]) == ("fail", None)
    assert "layers.py:" in relu["error"]
    assert done.err.startswith("import\nbackward\n")


def test_the_file_prints_to_stderr(minillm):
    write("print('from the file')" + SOFTMAX)
    done = minillm("gradcheck", "layers.py", "--arg", "x=4,7")
    assert done.err == "from the file\n"
    assert "from the file" not in done.out


def calls(minillm, monkeypatch, *args):
    """What the checker was called with, as (args, kwargs, options), for each pair."""
    found = []

    def check(forward, backward, args, kwargs, **options):
        found.append((args, kwargs, options))
        return Report("x", options["seed"], options["scope"])

    monkeypatch.setattr("minillm.cli.checking.check_vjp", check)
    done = minillm("gradcheck", *args)
    assert done.code == 0, done
    return found


def test_what_the_checker_gets(minillm, monkeypatch):
    write("def f(x, w=None, *, ids, eps=1): pass\ndef f_backward(dy, c): pass")
    args = ["layers.py", "--arg", "x=4,7", "--arg", "ids=int:8:0..9", "--option", "eps=0.5"]
    ((positional, keywords, options),) = calls(minillm, monkeypatch, *args)
    assert [a if a is None else (a.shape, a.dtype) for a in positional] == [((4, 7), "f8"), None]
    assert (keywords["ids"].shape, keywords["eps"], len(keywords)) == ((8,), 0.5, 2)
    assert options == {
        "names": ["x", "w"],
        "seed": 0,
        "scope": "default",
        "rtol": None,
        "allow_zero": (),
    }
    strict = ["--dtype", "float32", "--seed", 5, "--full", "--rtol", "1e-3", "--allow-zero", "x"]
    ((changed, _, options),) = calls(minillm, monkeypatch, *args, *strict)
    assert changed[0].dtype == np.float32
    assert not np.allclose(changed[0], positional[0])
    assert options == {
        "names": ["x", "w"],
        "seed": 5,
        "scope": "full",
        "rtol": 0.001,
        "allow_zero": ("x",),
    }
    ((_, _, options),) = calls(minillm, monkeypatch, *args, "--allow-zero", "all")
    assert options["allow_zero"] is True


def test_each_pair_gets_what_is_its_own(minillm, monkeypatch):
    text = "def {0}(x, {1}=1): pass\ndef {0}_backward(dy, c): pass\n"
    write(text.format("f", "a") + text.format("g", "b"))
    args = ["--arg", "x=4,7", "--arg", "g:x=3", "--option", "b=2", "--allow-zero", "x"]
    f, g = calls(minillm, monkeypatch, "layers.py", *args)
    assert (f[0][0].shape, f[1]) == ((4, 7), {})
    assert (g[0][0].shape, g[1]) == ((3,), {"b": 2})
    ((only, _, _),) = calls(minillm, monkeypatch, "layers.py:g_backward", "--arg", "x=2")
    assert only[0].shape == (2,)
    ((only, _, _),) = calls(minillm, monkeypatch, "layers.py::f", "--arg", "x=2")
    assert only[0].shape == (2,)


def test_shapes_from_a_docstring(minillm):
    write("import numpy as np" + LAYER_NORM)
    done = minillm("gradcheck", "layers.py")
    assert done.code == 0
    assert "x     (2, 3, 5)" in done.out
    assert "note: the docstring gave the shapes of x, gain, bias; --arg gives others" in done.out
    done = minillm("gradcheck", "layers.py", "--arg", "x=4,7")
    assert done.code == 0
    assert "gain  (7,)" in done.out
    assert "note: the docstring gave the shapes of gain, bias" in done.out
    # written out, so that the line holds when the docstring has changed
    replay = json.loads(minillm("gradcheck", "layers.py", "--json").out)["pairs"][0]["replay"]
    assert "--arg x=2,3,5 --arg gain=5 --arg bias=5" in replay


def test_an_optional_array_of_a_docstring_is_checked_too(minillm):
    write("""
        def add(x, bias=None):
            \"\"\"
            x : (N, C)
            bias : (C,)
            \"\"\"
            return x + (0 if bias is None else bias), bias
        def add_backward(dy, bias):
            return dy, None if bias is None else 2 * dy.sum(0)
        """)
    assert minillm("gradcheck", "layers.py").code == 1
    assert minillm("gradcheck", "layers.py", "--arg", "x=3,4").code == 0


def test_a_vjp_is_checked_without_a_cache(minillm):
    text = "def square(x, p=2): return x**p\ndef square_vjp(dout, x, p=2): return dout * {} * x"
    assert (
        minillm("gradcheck", write(text.format(2)), "--arg", "x=5,3", "--option", "p=2").code == 0
    )
    assert minillm("gradcheck", write(text.format(3)), "--arg", "x=5,3").code == 1


def test_generators_masks_and_nests(minillm):
    write("""
        import numpy as np
        def drop(x, p, rng):
            keep = rng.random(x.shape) >= p
            return x * keep / (1 - p), keep / (1 - p)
        def drop_backward(dy, scale):
            return dy * scale
        """)
    args = ["--arg", "x=5,6", "--arg", "rng=rng", "--option", "p=0.5"]
    assert minillm("gradcheck", "layers.py", *args).code == 0
    write("""
        import numpy as np
        def affine(x, params, mask):
            return (x @ params["w"] + params["b"]) * mask, (x, params, mask)
        def affine_backward(dy, cache):
            x, params, mask = cache
            dy = dy * mask
            return dy @ params["w"].T, {"w": x.T @ dy, "b": dy.sum(0)}
        """)
    args = ["--arg", "x=4,5", "--arg", "params.w=5,3", "--arg", "params.b=3"]
    done = minillm("gradcheck", "layers.py", *args, "--arg", "mask=bool:4,3")
    assert done.code == 0
    assert "params.w  (5, 3)" in done.out


def test_an_op_of_ours(minillm):
    import minillm.ops as ops

    path = sys.modules[ops.layer_norm.__module__].__file__
    done = minillm("gradcheck", f"{path}:layer_norm", "--arg", "x=4,7")
    assert done.code == 0
    assert done.out.startswith("layer_norm: PASS")


def test_ops_run_on_the_backend_that_their_files_show(minillm):
    write("""
        from minillm import ops
        from minillm.ops._state import current
        def f(x):
            assert current().backend == "numpy"
            return ops.relu(x)
        def f_backward(dy, cache):
            return ops.relu.backward(dy, cache)
        """)
    assert minillm("gradcheck", "layers.py", "--arg", "x=4,3").code == 0


def test_the_replay_line_runs_the_same_check(minillm):
    write(WRONG, "my layers.py")
    args = ["--arg", "x=4,7:0.5..2", "--option", "axis=0", "--dtype", "float32", "--rtol", "1e-3"]
    done = minillm("gradcheck", "my layers.py", *args, "--full", "--seed", 4)
    assert done.code == 1
    line = done.out.splitlines()[-1].removeprefix("  replay: ")
    words = shlex.split(line)
    assert words[:3] == ["minillm", "gradcheck", "my layers.py:softmax"]
    assert minillm(*words[1:]).out == done.out
    other = minillm(*words[1:-1], 5)
    assert other.out != done.out


def test_allow_zero(minillm):
    write("import numpy as np" + DEAD)
    args = ["gradcheck", "layers.py", "--arg", "x=4,7", "--arg", "w=3"]
    for name in ("w", "all"):
        assert minillm(*args, "--allow-zero", name).code == 0
    assert minillm(*args, "--allow-zero", "x").code == 3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([], "missing argument 'FILE[:NAME]' (see minillm gradcheck --help)"),
        (["layer.py"], "layer.py: no such file; did you mean layers.py?"),
        (["layer.py:softmax"], "layer.py: no such file; did you mean layers.py?"),
        (["."], ".: a folder; expected a Python file"),
        (["layers.py:"], "layers.py:: expected the name of a function after the colon"),
        (["layers.py:sofmax"], "layers.py: no pair 'sofmax': did you mean softmax?"),
        (["layers.py", "--arg", "x=4;7"], "--arg x=4;7: expected a shape"),
        (["layers.py", "--arg", "xx=4,7"], "--arg xx: no parameter of any pair; did you mean x?"),
        (
            ["layers.py:softmax", "--arg", "q=4,7"],
            "--arg q: no parameter of softmax; there are: axis, x",
        ),
        (["layers.py", "--arg", "softmx:x=4"], "--arg softmx:x=4: did you mean softmax?"),
        (
            ["layers.py", "--arg", "softmax:gain=4"],
            "--arg gain: no parameter of softmax; there are: axis, x",
        ),
        (["layers.py", "--option", "esp=1"], "--option esp: no parameter of any pair; did you"),
        (["layers.py", "--option", "eps"], "--option eps: expected NAME=VALUE"),
        (["layers.py", "--arg", "x=4", "--arg", "x=5"], "--arg x is given twice"),
        (["layers.py", "--arg", "x=4", "--option", "x=5"], "x is given twice, the second time by"),
        (["layers.py", "--option", "eps=1", "--option", "eps=2"], "eps is given twice"),
        (["layers.py", "--seed", -1], "seed must be at least 0, got -1"),
        (["layers.py", "--seed", "x"], "'x' is not a valid integer"),
        (["layers.py", "--rtol", "0"], "rtol must lie between 0 and 1, got 0.0"),
        (["layers.py", "--rtol", "nan"], "rtol must lie between 0 and 1, got nan"),
        (["layers.py", "--dtype", "float16"], "unknown dtype 'float16': did you mean float64?"),
        (
            ["layers.py", "--arg", "x=4,7", "--allow-zero", "gian"],
            "--allow-zero gian: did you mean gain?",
        ),
        (
            ["layers.py:softmax", "--arg", "x=int:4:0..9"],
            "softmax: nothing to differentiate: no array of floats among its positional arguments",
        ),
        (
            ["layers.py:softmax", "--seed", 1, "--option", "axis=0"],
            "layers.py: softmax needs x. For example: minillm gradcheck layers.py:softmax "
            "--option axis=0 --arg x=4,7",
        ),
        (["--self-test", "layers.py"], "--self-test takes no file, got layers.py"),
    ],
)
def test_a_mistake_is_one_line(mistake, args, message):
    write(SOFTMAX + LAYER_NORM)
    assert message in mistake("gradcheck", *args)


def test_a_mistake_leaves_stdout_empty(minillm):
    write(SOFTMAX)
    done = minillm("gradcheck", "layers.py", "--json")
    assert (done.code, done.out) == (2, "")


@pytest.mark.parametrize(
    ("names", "words"),
    [
        ("x, w, b", "--arg x=4,7 --arg w=7,5 --arg b=5"),
        ("logits, targets, mask", "--arg logits=4,7 --arg targets=int:4:0..2 --arg mask=bool:4,7"),
        ("x, p, rng", "--arg x=4,7 --option p=1 --arg rng=rng"),
        ("x, bn_param", "--arg x=4,7 --option 'bn_param={}'"),
    ],
)
def test_the_example_guesses_by_name(mistake, names, words):
    write(f"def f({names}): pass\ndef f_backward(dy, c): pass")
    error = mistake("gradcheck", "layers.py")
    assert error.endswith(f". For example: minillm gradcheck layers.py:f {words}")


def test_the_example_of_a_mistake_names_every_argument_and_runs(mistake, minillm):
    write(
        """
        import numpy as np
        def pick(table, ids, *, scale, keep):
            return table[ids] * scale, (table.shape, ids, scale)
        def pick_backward(dy, cache):
            shape, ids, scale = cache
            d = np.zeros(shape)
            np.add.at(d, ids, dy * scale)
            return d
        """
        + "\n".join(" " * 8 + line for line in SOFTMAX.splitlines())
    )
    error = mistake("gradcheck", "layers.py", "--arg", "keep=bool:2,2")
    assert "layers.py: pick needs table, ids, scale; softmax needs x. For example: " in error
    words = shlex.split(error.partition("For example: ")[2])
    assert minillm(*words[1:]).code == 0


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("def f(x:", "layers.py:1: SyntaxError: '(' was never closed"),
        ("import sys\nsys.exit('no')", "layers.py:2: it calls sys.exit('no')"),
        ("1 / 0", "layers.py:1: ZeroDivisionError: division by zero"),
        ("def softmax(x): pass", "no pair f and f_backward found; its functions: softmax"),
        ("def a_backward(dy, c): pass", "a_backward has no a or a_forward beside it"),
        ("def f(*xs): pass\ndef f_backward(dy, c): pass", "nothing to differentiate"),
        (
            "def f(*, x): pass\ndef f_backward(dy, c): pass",
            "f: nothing to differentiate: no array of floats among its positional arguments (none)",
        ),
    ],
)
def test_a_file_that_cannot_be_checked(mistake, text, message):
    write(text)
    args = ["--arg", "x=4"] if "*, x" in text else []
    assert message in mistake("gradcheck", "layers.py", *args)


def test_a_keyword_only_array_is_held_constant(minillm):
    write("def f(x, *, w): return x * w, w\ndef f_backward(dy, w): return dy * w")
    done = minillm("gradcheck", "layers.py", "--arg", "x=4", "--arg", "w=4")
    assert done.code == 0
    assert "note: held constant: w (keyword-only)" in done.out


def test_integers_are_held_constant(minillm):
    write("def f(x, n): return x * n, n\ndef f_backward(dy, n): return dy * n")
    done = minillm("gradcheck", "layers.py", "--arg", "x=4", "--arg", "n=[1,2,3,4]")
    assert done.code == 0
    assert "note: held constant: n (integers)" in done.out
    assert minillm("gradcheck", "layers.py", "--arg", "x=4", "--arg", "n=[1.0,2,3,4]").code == 1


def test_not_enough_memory(mistake):
    write("def f(x): raise MemoryError\ndef f_backward(dy, w): pass")
    error = mistake("gradcheck", "layers.py", "--arg", "x=4")
    assert error == "minillm: f: not enough memory for these shapes"


def test_a_fault_of_ours_is_not_blamed_on_the_file(minillm, monkeypatch):
    def check(*args, **kwargs):
        raise TypeError("ours")

    monkeypatch.setattr("minillm.cli.checking.check_vjp", check)
    assert minillm("gradcheck", write(SOFTMAX), "--arg", "x=4,7").code == 4


def test_settings_from_a_file(minillm):
    write(WRONG)
    Path("check.toml").write_text('file = "layers.py"\narg = ["x=4,7"]\nseed = 2\njson = true\n')
    done = minillm("gradcheck", "--config", "check.toml")
    assert done.code == 1
    assert json.loads(done.out)["pairs"][0]["replay"].endswith("--arg x=4,7 --seed 2")


def test_the_self_test_gets_our_ops(minillm, monkeypatch):
    def run(ops, pairs, echo, *, json, progress):
        forward, backward = pairs("layer_norm")
        assert (forward.__name__, backward.__name__) == ("layer_norm", "layer_norm_backward")
        assert callable(ops.layer_norm.backward)
        assert list(progress([1, 2])) == [1, 2]
        echo(f"json {json}")
        return 1

    monkeypatch.setattr("minillm.gradcheck.selftest.run", run)
    assert minillm("gradcheck", "--self-test") == (1, "json False\n", "")
    assert minillm("gradcheck", "--self-test", "--json") == (1, "json True\n", "")


def test_the_self_test_on_a_part_of_the_catalogue(minillm, monkeypatch):
    entries = [entry for entry in load() if entry.op == "layer_norm"]
    monkeypatch.setattr("minillm.gradcheck.selftest.load", lambda: entries)
    done = minillm("gradcheck", "--self-test", "--json")
    assert (done.code, done.err) == (0, "")
    document = json.loads(done.out)
    assert (document["verdict"], document["wrong"]["backwards"]) == ("pass", len(entries))


def test_an_endless_loop_can_be_interrupted():
    write("""
        def f(x):
            print("running", flush=True)
            while True: pass
        def f_backward(dy, c): pass
        """)
    code = "import sys; from minillm.cli import main; main()"
    args = [sys.executable, "-c", code, "gradcheck", "layers.py", "--arg", "x=3"]
    environment = os.environ | {"PYTHONPATH": ROOT}
    process = subprocess.Popen(args, stderr=subprocess.PIPE, text=True, env=environment)
    assert process.stderr.readline() == "running\n"
    process.send_signal(signal.SIGINT)
    assert process.communicate(timeout=60)[1] == "minillm: interrupted\n"
    assert process.returncode == 3


@pytest.mark.parametrize("reader", ["head -n 1", "true"])
@pytest.mark.parametrize("flags", [[], ["--json"]])
def test_a_reader_that_stops_early_does_not_turn_a_failure_into_a_success(tmp_path, reader, flags):
    file = tmp_path / "layers.py"
    file.write_text("def f(x): return x * x, x\ndef f_backward(d, x): return d * x\n")
    line = shlex.join(
        [sys.executable, "-m", "minillm", "gradcheck", str(file), "-a", "x=9,9", *flags]
    )
    done = subprocess.run(
        ["bash", "-c", f"{line} | {reader} > /dev/null; exit ${{PIPESTATUS[0]}}"],
        capture_output=True,
        text=True,
    )
    assert (done.returncode, done.stderr) == (1, "")


def test_a_closed_stdout_is_no_fault(tmp_path):
    file = tmp_path / "layers.py"
    file.write_text("def f(x): return x * x, x\ndef f_backward(d, x): return 2 * d * x\n")
    line = shlex.join([sys.executable, "-m", "minillm", "gradcheck", str(file), "-a", "x=3"])
    done = subprocess.run(["bash", "-c", f"{line} >&-"], capture_output=True, text=True)
    assert "Traceback" not in done.stderr
    assert done.returncode == 0
