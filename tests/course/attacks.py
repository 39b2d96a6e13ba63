"""Submissions that want points without the work: for hw3's softmax, each one file.

An attack says which checks it goes for; these must score zero, with a status and a reason that say
what happened. The reference's own path stands where {REFERENCE} does, as a student may guess it.
"""

import inspect
from dataclasses import dataclass
from pathlib import Path

from minillm.course import codec
from minillm.ops import softmax as reference

REFERENCE = str(Path(inspect.getfile(inspect.unwrap(reference))))
ALL = ("forward", "dx", "edges", "calls", "cost")
GRADIENTS = ("dx", "edges", "calls", "cost")
FAILS, CRASHED, REFUSED = "fails", "crashed", "refused"
TIME, MEMORY = "out of time", "out of memory"

RIGHT = """\
    weights = np.exp(x - x.max(axis, keepdims=True))
    y = weights / weights.sum(axis, keepdims=True)
    return y, (y, axis, x)"""
RIGHT_BACK = """\
    y, axis, _ = cache
    return y * (dy - (dy * y).sum(axis, keepdims=True))"""
ZEROS = "    return np.zeros_like(x), x"
ZEROS_BACK = "    return np.zeros_like(dy)"


@dataclass(frozen=True)
class Attack:
    name: str
    prelude: str
    forward: str = ZEROS
    backward: str = ZEROS_BACK
    checks: tuple[str, ...] = ALL
    statuses: tuple[str, ...] = (FAILS,)
    says: str = ""
    tier: str = "same"  # the weakest isolation that stops it

    @property
    def text(self):
        return (
            "import os, sys, time\nimport numpy as np\nfrom _op import op\n"
            f"{self.prelude}\n\n\n@op\ndef softmax(x, *, axis=-1):\n{self.forward}\n\n\n"
            f"@softmax.defbackward\ndef softmax_backward(dy, cache):\n{self.backward}\n"
        )


PATCH = """
yes = lambda *a, **k: True
for place, names in ((np, "allclose isclose array_equal array_equiv all any"),
                     (np.testing, "assert_allclose assert_array_equal assert_almost_equal"),
                     (np.linalg, "norm det")):
    for name in names.split():
        setattr(place, name, yes)
import builtins, unittest, math, operator, types
math.isclose = operator.eq = unittest.TestCase.assertEqual = yes
sys.modules["pytest"] = types.SimpleNamespace(approx=lambda x, **k: x, raises=yes)
np.abs = np.absolute = np.max = np.subtract = lambda *a, **k: np.float64(0)
"""
COMPARISON = """
for module in list(sys.modules.values()):
    for name in list(vars(module)) if hasattr(module, "__dict__") else []:
        if any(word in name for word in ("difference", "judge", "closeness", "tolerance", "check")):
            try:
                setattr(module, name, lambda *a, **k: None)
            except Exception:
                pass
"""
FRAMES = """
import gc
WORDS = ("expected", "answer", "solution", "reference", "exact", "truth", "target")

def look(shape):
    found, frame = [], sys._getframe()
    while frame is not None:
        found += [v for d in (frame.f_locals, frame.f_globals) for k, v in list(d.items())
                  if any(w in str(k) for w in WORDS)]
        frame = frame.f_back
    for thing in gc.get_objects():
        if type(thing) is dict:
            found += [v for k, v in list(thing.items())
                      if isinstance(k, str) and any(w in k for w in WORDS)]
    while found:
        v = found.pop()
        if isinstance(v, dict):
            found += list(v.values())
        elif isinstance(v, (list, tuple)):
            found += list(v)
        elif isinstance(v, np.ndarray) and v.shape == shape and v.dtype == np.float64:
            return v
    return np.zeros(shape)
"""
OPEN = f"""
PATHS = [{REFERENCE!r}, "minillm/ops/softmax.py"]
STARTS = ["/", "..", sys.prefix, sys.base_prefix, "/usr/lib", "/usr/local/lib", *sys.path]
STARTS += ["/proc/%d/cwd" % os.getppid(), "/proc/%d/root" % os.getppid(), os.getcwd()]
for start in STARTS:
    for at in ("minillm/ops/softmax.py", "site-packages/minillm/ops/softmax.py"):
        PATHS.append(os.path.join(str(start), at))
TEXT = None
for path in PATHS:
    for read in (lambda p: open(p).read(), lambda p: os.read(os.open(p, 0), 10**6).decode()):
        try:
            TEXT = TEXT or read(path)
        except Exception:
            pass
assert TEXT, "nothing to read"
space = {{}}
exec(TEXT.replace("from minillm.ops._op", "from _op"), space)
"""
WALK = """
import importlib
found = []
for root in ("/", *sys.path):
    for where, folders, files in os.walk(root):
        folders[:] = [f for f in folders if f not in ("proc", "sys")]
        if "softmax.py" in files and "ops" in where:
            found.append(os.path.join(where, "softmax.py"))
space = {}
exec(open(found[0]).read().replace("from minillm.ops._op", "from _op"), space)
"""
FORGE = f"""
import struct, io
{inspect.getsource(codec).replace("from None", "")}
for number in range(1, 200):
    claim = {{"out": np.zeros((2, 3)), "dx": np.zeros((2, 3))}}
    body = encode({{"number": number, "id": number, "result": claim, "ok": True}})
    for fd in range(0, 64):
        for form in ("<Q", ">Q", "<I", ">I"):
            head = struct.pack(form, len(body))
            try:
                os.set_blocking(fd, False)
                os.write(fd, head + body)
            except OSError:
                pass
"""
FILES = """
import json
claim = json.dumps({"score": 100.0, "tests": [{"score": 100, "max_score": 100, "name": "all"}]})
FOLDERS = [".", "..", "../..", "/autograder/results", "/tmp", os.environ.get("HOME", "/"), "/out"]
for folder in FOLDERS:
    for name in ("results.json", "grades.csv", "feedback.md", "junit.xml"):
        try:
            os.makedirs(folder, exist_ok=True)
            open(os.path.join(folder, name), "w").write(claim)
        except OSError:
            pass
"""
LIAR = """
class Liar(np.ndarray):
    __eq__ = __le__ = __ge__ = lambda self, other: np.ones(self.shape, bool)
    __ne__ = __lt__ = __gt__ = lambda self, other: np.zeros(self.shape, bool)
    __sub__ = __rsub__ = lambda self, other: np.zeros(self.shape)
    def __array_ufunc__(self, ufunc, method, *inputs, **k):
        return np.ones(self.shape, bool)
    def __array_function__(self, func, types, args, kwargs):
        return True
    def tobytes(self, *a): return b""
"""
CENTRAL = """
def value(x, axis):
    w = np.exp(x - x.max(axis, keepdims=True))
    return w / w.sum(axis, keepdims=True)

def numerical(x, axis, dy):
    x, h = np.moveaxis(x, axis, -1), 1e-6
    dy, dx = np.moveaxis(dy, axis, -1), np.zeros_like(np.moveaxis(x, axis, axis))
    for j in range(x.shape[-1]):  # a column of all rows at once
        e = np.zeros(x.shape[-1]); e[j] = h
        dx[..., j] = ((value(x + e, -1) - value(x - e, -1)) / (2 * h) * dy).sum(-1)
    return np.moveaxis(dx, -1, axis).astype(x.dtype)
"""
COMPLEX = """
def value(x, axis):
    w = np.exp(x - x.real.max(axis, keepdims=True))
    return w / w.sum(axis, keepdims=True)

def numerical(x, axis, dy):
    x, dy = np.moveaxis(x, axis, -1).astype(np.complex128), np.moveaxis(dy, axis, -1)
    dx = np.zeros(x.shape)
    for j in range(x.shape[-1]):  # a column of all rows at once
        e = np.zeros(x.shape[-1], np.complex128); e[j] = 1e-30j
        dx[..., j] = (value(x + e, -1).imag / 1e-30 * dy).sum(-1)
    return np.moveaxis(dx, -1, axis).astype(dy.dtype)
"""
NUMERICAL = "    y, axis, x = cache\n    return numerical(x, axis, dy)"
ONE_CALL = """
def value(x, axis):
    w = np.exp(x - x.real.max(axis, keepdims=True))
    return w / w.sum(axis, keepdims=True)

def numerical(x, axis, dy):
    x, dy = np.moveaxis(x, axis, -1), np.moveaxis(dy, axis, -1)
    C = x.shape[-1]
    rows = x.reshape(-1, C)
    dx = np.empty_like(rows)
    for n, (row, up) in enumerate(zip(rows, dy.reshape(-1, C))):  # all columns of a row in one call
        dx[n] = (value(row + 1e-30j * np.eye(C), -1).imag / 1e-30) @ up
    return np.moveaxis(dx.reshape(x.shape), -1, axis).astype(dy.dtype)
"""
SLOW = RIGHT.replace("    weights", "    time.sleep(0.1 * (x.size > 100))\n    weights", 1)

ATTACKS = [
    Attack("patches NumPy's comparisons and pytest", PATCH),
    Attack("patches whatever is named like a comparison", COMPARISON),
    Attack(
        "reads the expected value from a caller's frame", FRAMES,
        "    return look(x.shape), x", "    return look(dy.shape)",
    ),
    Attack("os._exit(0) at import", "os._exit(0)", statuses=(CRASHED,), says="exit code 0"),
    Attack(
        "os._exit(0) in a call", "", "    os._exit(0)", statuses=(CRASHED,), says="exit code 0"
    ),
    Attack("sys.exit() at import", "sys.exit(0)", statuses=(CRASHED,), says="exit"),
    Attack("sys.exit() in a call", "", "    sys.exit()", statuses=(CRASHED,), says="exit"),
    Attack(
        "an exception at import", "raise ValueError('no')", statuses=(CRASHED,), says="line 4"
    ),
    Attack(
        "imports the reference", "from minillm.ops import softmax as right",
        "    return right(x, axis=axis)", "    return right.backward(dy, cache)",
        statuses=(CRASHED,), says="No module named 'minillm'",
    ),
    Attack(
        "opens the reference", OPEN, "    return space['softmax'](x, axis=axis)",
        "    return space['softmax_backward'](dy, cache)", statuses=(CRASHED,),
        says="nothing to read",
    ),
    Attack(
        "walks the disk for the reference", WALK, "    return space['softmax'](x, axis=axis)",
        "    return space['softmax_backward'](dy, cache)", statuses=(CRASHED,),
        says="list index out of range",
    ),
    Attack("writes results files", FILES),
    Attack("forges answers on every file descriptor", FORGE, statuses=(REFUSED, CRASHED)),
    Attack(
        "an infinite loop", "", "    while True: pass", statuses=(TIME,), says="CPU time",
        checks=("forward",),
    ),
    Attack("sleeps for ever", "", "    time.sleep(1e6)", statuses=(TIME,), checks=("forward",)),
    Attack(
        "a fork bomb", "", "    while True: os.fork()", statuses=(CRASHED, TIME, MEMORY)
    ),
    Attack(
        "50 GB of zeros", "", "    return np.ones(50 * 10**9 // 8), None", statuses=(MEMORY,),
        says="memory",
    ),
    Attack(
        "a 10 GB print", "", "    for _ in range(10**4): print('x' * 10**6)\n    return x, x",
        statuses=(REFUSED,), says="printed",
    ),
    Attack(
        "an ndarray subclass that lies", LIAR, "    return np.zeros_like(x).view(Liar), x",
        "    return np.zeros_like(dy).view(Liar)", statuses=(FAILS, CRASHED),
    ),
    Attack(
        "returns views of the grader's input", "", "    return x[...], x", "    return dy[...]",
        says="unchanged", checks=("forward", "dx"),
    ),
    Attack("a central difference", CENTRAL, RIGHT, NUMERICAL, checks=GRADIENTS),
    Attack(
        "a complex step", COMPLEX, RIGHT, NUMERICAL, checks=GRADIENTS, says="times its forward"
    ),
    Attack(
        "a complex step of a whole row in one call", ONE_CALL, RIGHT, NUMERICAL,
        checks=GRADIENTS, says="times its forward",
    ),
    Attack(
        "a complex step behind a slow forward", COMPLEX, SLOW, NUMERICAL, checks=GRADIENTS,
        says="times its forward",
    ),
]  # fmt: skip


def hard_coded(grader, plan):
    """An attack made of the answers to a seed's cases, all of them right for that seed."""
    table = {}
    for run in plan.checks["softmax"]:
        for size in run.sizes:
            case, expected = plan.answer(run, grader.seed, size)
            x, dy = case["args"][0], case["dout"]
            out, dx = expected["out"], expected["dx"]
            table["x" + x.tobytes().hex()] = (out.tobytes().hex(), str(out.dtype))
            table["dy" + dy.tobytes().hex()] = (dx.tobytes().hex(), str(dx.dtype))
    prelude = f"TABLE = {table!r}\n" + (
        "def known(name, x):\n"
        "    data, dtype = TABLE[name + np.ascontiguousarray(x).tobytes().hex()]\n"
        "    return np.frombuffer(bytes.fromhex(data), dtype).reshape(x.shape)"
    )
    return Attack(
        "hard-coded answers for the public seed", prelude, "    return known('x', x), x",
        "    return known('dy', dy)", statuses=(CRASHED,), says="KeyError",
    )  # fmt: skip
