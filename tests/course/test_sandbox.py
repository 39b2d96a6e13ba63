"""Students' processes: what they answer, what they are kept from, and how they end."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import minillm
from minillm.course import asking, codec, uids
from minillm.course.sandbox import Fault, HarnessError, Limits, Sandbox
from minillm.errors import UserError

DRIVERS = """
def call(modules, kept, case):
    return modules("a").f(*case)

def echo(modules, kept, case):
    return case

def count(modules, kept, case):
    kept["count"] = kept.get("count", 0) + 1
    return kept["count"]
"""
REFERENCE = Path(minillm.__file__).parent / "ops" / "layer_norm.py"
ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
LINUX = sys.platform == "linux"
QUICK = Limits(seconds=0.5)


@pytest.fixture(scope="module")
def tiers():
    found = {}
    yield found
    for sandbox in found.values():
        sandbox.close()


@pytest.fixture(params=["uid", "same"])
def sandbox(request, tiers):
    if request.param == "uid" and not (ROOT and LINUX):
        pytest.skip("the tier uid (another user for each process) needs root on Linux")
    if request.param not in tiers:
        tiers[request.param] = Sandbox(tier=request.param)
    return tiers[request.param]


@pytest.fixture
def other_user(tiers):
    if not (ROOT and LINUX):
        pytest.skip("the tier uid (another user for each process) needs root on Linux")
    return tiers.setdefault("uid", Sandbox(tier="uid"))


@pytest.fixture
def jailed(sandbox):
    if not sandbox.isolation.files:
        pytest.skip("files are not kept from a process: neither a jail nor Landlock here")
    return sandbox


def run(sandbox, text, *case, files=(), limits=QUICK, **options):
    """What f of a student's a.py returns."""
    contents = {"a.py": text, **dict(files)}
    with sandbox.child(contents, drivers=DRIVERS, limits=limits, **options) as child:
        return child.ask("call", case)


def fault(sandbox, text, *case, **options):
    """The Fault that a.py ends in."""
    with pytest.raises(Fault) as caught:
        run(sandbox, text, *case, **options)
    return caught.value


def tried(sandbox, body, *case, **options):
    """Run statements of an attack; "done", or the name of the OSError or ImportError it met."""
    lines = "\n".join(f"        {line}" for line in body.strip().splitlines())
    text = f"import os\ndef f(*case):\n    try:\n{lines}\n        return 'done'\n"
    text += "    except (OSError, ImportError) as error:\n        return type(error).__name__\n"
    return run(sandbox, text, *case, **options)


# what it answers


def test_values_come_back_as_they_went(sandbox):
    case = {"x": np.arange(6.0).reshape(2, 3), "n": (1, None, "two", b"3", {4}), 5: [1.5, True]}
    with sandbox.child({}, drivers=DRIVERS) as child:
        found = child.ask("echo", case)
    assert codec.encode(found) == codec.encode(case)


def test_modules_of_the_folder_import_one_another_and_data_files_lie_beside_them(sandbox):
    files = {"b.py": "def g(x):\n    return 2 * x\n", "data.bin": b"\0\xff"}
    text = "import os\nfrom b import g\nhere = os.path.dirname(__file__)\n"
    text += "def f(x):\n    return g(x), open(os.path.join(here, 'data.bin'), 'rb').read()\n"
    assert run(sandbox, text, 4, files=files) == (8, b"\0\xff")


def test_what_is_kept_lives_as_long_as_the_process(sandbox):
    text = "import os\ndef f():\n    os._exit(3)\n"
    with sandbox.child({"a.py": text}, drivers=DRIVERS) as child:
        assert [child.ask("count"), child.ask("count")] == [1, 2]
        with pytest.raises(Fault, match="exit code 3 before it answered"):
            child.ask("call", ())
        assert child.ask("count") == 1


def test_functions_are_replaced_before_the_import_and_lines_stay_the_students(sandbox):
    text = "def g():\n    a = 1\n    b = 2\n    return a + b\n\nclass C:\n    x = 1\n\n"
    text += "    def h(self):\n        return 1\n\ndef f(wrong):\n    if wrong:\n"
    text += "        raise ValueError('mine')\n    return g(), C().h(), k()\n"
    parts = {"g": "def g():\n    return 7\n", "C.h": "    def h(self):\n        return 8\n"}
    replace = {"a.py": parts | {"k": "def k():\n    return 9\n"}}
    with sandbox.child({"a.py": text}, replace=replace, drivers=DRIVERS) as child:
        assert child.ask("call", (False,)) == (7, 8, 9)
        with pytest.raises(Fault) as caught:
            child.ask("call", (True,))
    assert (caught.value.file, caught.value.line) == ("a.py", 14)
    assert text.splitlines()[13].strip().startswith("raise")


def test_what_a_replaced_function_raises_has_no_line_of_the_students(sandbox):
    replace = {"a.py": {"f": "def f():\n    raise ValueError('ours')\n"}}
    found = fault(sandbox, "\n\n\ndef f():\n    pass\n", replace=replace)
    assert (found.kind, found.line) == ("raised", None)


def test_watched_variables_come_with_the_answer(sandbox):
    text = "def inner(x):\n    half = x / 2\n    name = 'no number'\n    return half + 1\n"
    text += "def f(x):\n    out = inner(x)\n    return inner(out)\n"
    watch = {"functions": ["inner", "f"], "names": ["half", "out", "name", "missing"]}
    with sandbox.child({"a.py": text}, drivers=DRIVERS) as child:
        assert child.ask("call", (8,), watch=watch) == 3.5
        assert child.seen == {"inner": {"half": 2.5}, "f": {"out": 5.0}}
        child.ask("call", (8,))
        assert child.seen == {}


def test_what_is_printed_is_kept_apart_from_the_answer(sandbox):
    text = "import os, sys\ndef f():\n    print('one')\n    print('two', file=sys.stderr)\n"
    text += "    os.write(1, b'three')\n    return 4\n"
    with sandbox.child({"a.py": text}, drivers=DRIVERS) as child:
        assert child.ask("call", ()) == 4
        assert sorted(child.printed.split()) == ["one", "three", "two"]
        child.close()
        assert "three" in child.printed


def test_the_environment_is_a_bare_one(sandbox, monkeypatch):
    monkeypatch.setenv("SECRET", "1")
    text = "import os, sys\ndef f():\n    return dict(os.environ), os.getcwd(), sys.stdin.read()\n"
    environment, here, typed = run(sandbox, text, environment={"TRITON_INTERPRET": "1"})
    assert environment["TRITON_INTERPRET"] == "1"
    assert environment["OPENBLAS_NUM_THREADS"] == "1"
    assert environment["HOME"] == environment["TMPDIR"] == here
    assert not {"SECRET", "PATH"} & environment.keys()
    assert typed == ""


def test_cpu_time_of_a_request_is_measured(sandbox):
    text = "import time\ndef f(busy):\n    until = time.process_time() + busy\n"
    text += "    while time.process_time() < until:\n        pass\n"
    with sandbox.child({"a.py": text}, drivers=DRIVERS) as child:
        child.ask("call", (0.0,))
        child.ask("call", (0.2,))
        assert not LINUX or 0.15 < child.cpu < 0.4
        child.ask("call", (0.0,))
        assert child.cpu < 0.15


# how it ends: a Fault of each kind

FAULTS = {
    "an exception": ("def f():\n    x = 1\n    return x / 0\n", "raised", "ZeroDivisionError", 3),
    "at import": ("import nothing_of_that_name\n", "raised", "ModuleNotFoundError", 1),
    "a syntax error": ("def f():\n    return )\n", "raised", "SyntaxError", 2),
    "no such function": ("x = 1\n", "raised", "AttributeError", None),
    "a stub": ("def f():\n    raise NotImplementedError\n", "not implemented", "line 2", 2),
    "a stub of NumPy's": (
        "import numpy as np\ndef f():\n    np.random.Generator.__new__(int)\n",
        "raised",
        "TypeError",
        3,
    ),
    "deep brackets": ("x = " + "(" * 5000 + ")" * 5000 + "\n", "raised", "SyntaxError", 1),
    "deep minus": ("x = " + "-" * 50_000 + "1\ndef f(): pass\n", None, "", None),
    "deep recursion": ("def f():\n    f()\n", "raised", "RecursionError", 2),
    "leaves": ("import os\nos._exit(0)\n", "ended", "exit code 0 before it answered", None),
    "leaves politely": ("import sys\nsys.exit()\n", "ended", "exit code 0", None),
    "SystemExit": ("def f():\n    raise SystemExit(5)\n", "ended", "exit code 5", None),
    "aborts": ("import os\ndef f():\n    os.abort()\n", "ended", "SIGABRT", None),
    "interrupts": ("def f():\n    raise KeyboardInterrupt\n", "raised", "KeyboardInterrupt", 2),
    "a function": ("def f():\n    return f\n", "refused", "a value of type function", None),
    "objects": (
        "import numpy as np\ndef f():\n    return np.array([f])\n",
        "refused",
        "an array of dtype object",
        None,
    ),
    "a huge array": (
        "import numpy as np\ndef f():\n    return np.ones(1 << 33)\n",
        "memory",
        "2 GB",
        3,
    ),
    "50 GB of zeros": ("def f():\n    return bytes(50 << 30)\n", "memory", "2 GB", 2),
    "step by step": (
        "def f():\n    held = []\n    while True:\n        held.append(bytes(1 << 27))\n",
        "memory",
        "2 GB",
        4,
    ),
    "a big file": (
        "def f():\n    with open('x', 'wb') as file:\n        file.write(bytes(17 << 20))\n",
        "raised",
        "File too large",
        3,
    ),
    "a huge text": ("def f():\n    raise ValueError('x' * 10**7)\n", "raised", "xxx", 2),
    "a lying text": (
        "class E(Exception):\n    def __str__(self):\n        return '\\x1b[2J\\nAll passed'\n"
        "def f():\n    raise E\n",
        "raised",
        "[2J All passed",
        5,
    ),
    "an infinite loop": ("def f():\n    while True:\n        pass\n", "time", "0.5 s of CPU", None),
    "prints": ("def f():\n    while True:\n        print('x' * 10**6)\n", "printed", "1 MB", None),
    "writes errors": (
        "import os\ndef f():\n    while True:\n        os.write(2, bytes(10**5))\n",
        "printed",
        "1 MB",
        None,
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_each_end_is_told(sandbox, name):
    text, kind, said, line = FAULTS[name]
    if kind is None:  # a parser that may hold, or crash and take only this process along
        with pytest.raises(Fault) as caught:
            run(sandbox, text + "\nraise ValueError")
        assert caught.value.kind in ("raised", "ended")
        return
    if kind == "memory" and not LINUX:
        pytest.skip("only Linux limits memory")
    found = fault(sandbox, text)
    assert (found.kind, found.line) == (kind, line), found.message
    assert said in found.message
    assert len(found.message) < 600
    assert found.message.isprintable()


@pytest.mark.parametrize(
    "body",
    ["import time; time.sleep(1e9)", "import os, signal; os.kill(os.getpid(), signal.SIGSTOP)"],
)
def test_waiting_ends_too(sandbox, body):
    """Without CPU time: the wall clock is the backstop."""
    start = time.monotonic()
    found = fault(sandbox, f"def f():\n    {body}\n", limits=Limits(seconds=0.05))
    assert found.kind == "time"
    assert "no answer within 2.2 s, in which it used 0.0 s of CPU time" in found.message
    assert time.monotonic() - start < 30


def test_a_request_has_its_own_time_and_size(sandbox):
    text = "import numpy as np\ndef f(n):\n    return np.zeros(n)\n"
    with sandbox.child({"a.py": text}, drivers=DRIVERS) as child:
        assert child.ask("call", (1000,)).shape == (1000,)
        with pytest.raises(Fault, match="its answer has more than 1 MB") as caught:
            child.ask("call", (1 << 18,), most=1 << 20)
        assert caught.value.kind == "too large"
        assert child.ask("call", (10,)).shape == (10,)


# what comes through the pipe is not believed

PIPES = """
import io, os, stat, struct, time, zipfile
def every_pipe(data, more=b""):
    for fd in range(3, 1000):
        try:
            if stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.write(fd, len(data).to_bytes(8, "little") + data + more)
        except OSError:
            pass
def npy(header, body=b""):
    text = repr(header).encode().ljust(117) + b"\\n"
    return b"\\x93NUMPY\\x01\\x00" + struct.pack("<H", len(text)) + text + body
def archive(compress=zipfile.ZIP_STORED, **members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as file:
        for name, data in members.items():
            file.writestr(name + ".npy", data)
    return buffer.getvalue()
def tree(text):
    return npy({"descr": "|u1", "fortran_order": False, "shape": (len(text),)}, text)
"""
FORGED = {
    "noise": "every_pipe(b'what is this')",
    "nothing": "every_pipe(b'')",
    "another's number": 'every_pipe(archive(tree=tree(b\'{"dict": [["number", 1]]}\')))',
    "a list": "every_pipe(archive(tree=tree(b'{\"list\": []}')))",
    "deep": "every_pipe(archive(tree=tree(b'[' * 100000)))",
    "a bomb": "every_pipe(archive(zipfile.ZIP_DEFLATED, tree=bytes(1 << 24)))",
    "a claim": (
        "every_pipe(archive(tree=tree(b'{\"dict\": []}'), a0=npy("
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1 << 40,)})))"
    ),
    "objects": (
        "every_pipe(archive(tree=npy("
        "{'descr': '|O', 'fortran_order': False, 'shape': (1,)}, b'cos\\nsystem\\n(S\"x\"\\ntR.')))"
    ),
    "half a reply": "every_pipe(b'', bytes([9, 0, 0, 0, 0, 0, 0, 0, 1])); time.sleep(1e9)",
}


@pytest.mark.parametrize("name", FORGED)
def test_forged_replies_are_damage(sandbox, name):
    found = fault(sandbox, PIPES + f"def f():\n    {FORGED[name]}\n")
    assert found.kind == "damaged"
    assert "no answer" in found.message


def test_a_reply_that_never_ends_runs_out_of_time(sandbox):
    text = "import os, stat, time\ndef f():\n    for fd in range(3, 100):\n        try:\n"
    text += "            if stat.S_ISFIFO(os.fstat(fd).st_mode):\n"
    text += "                os.write(fd, bytes([9, 0, 0, 0, 0, 0, 0, 0, 1]))\n"
    text += "        except OSError:\n            pass\n    time.sleep(1e9)\n"
    assert fault(sandbox, text, limits=Limits(seconds=0.05)).kind == "time"


def test_a_length_beyond_all_memory_is_refused_unread(sandbox):
    text = PIPES.replace("len(data)", "(1 << 62)") + "def f():\n    every_pipe(b'')\n"
    assert fault(sandbox, text).kind == "too large"


def test_an_earlier_reply_is_no_answer_to_a_later_request(sandbox):
    text = """
import os
real, sent = os.write, []
def write(fd, data):
    if fd > 2:
        sent.append((fd, bytes(data)))
    return real(fd, data)
os.write = write
def f(again):
    if again:
        for fd, data in sent:
            real(fd, data)
    return 1.0
"""
    with sandbox.child({"a.py": text}, drivers=DRIVERS) as child:
        assert child.ask("call", (False,)) == 1.0
        with pytest.raises(Fault) as caught:
            child.ask("call", (True,))
    assert caught.value.kind == "damaged"


@pytest.mark.parametrize("wait", ["", "    time.sleep(1e9)\n"])
def test_closing_every_pipe_is_an_end(sandbox, wait):
    text = f"import os, time\ndef f():\n    os.closerange(0, 1000)\n{wait}"
    found = fault(sandbox, text, limits=Limits(seconds=0.1))
    assert found.kind in ("ended", "damaged")


def test_a_process_that_reads_nothing_does_not_hold_the_grader_up(sandbox):
    text = "import threading, time\nos = __import__('os')\nreal = os.read\n"
    text += "def read(*_):\n    time.sleep(1e9)\ndef f(x):\n    os.read = read\n    return 1\n"
    with sandbox.child({"a.py": text}, drivers=DRIVERS, limits=Limits(seconds=0.05)) as child:
        assert child.ask("call", (0,)) == 1
        with pytest.raises(Fault) as caught:
            child.ask("call", (np.zeros(1 << 20),))
    assert caught.value.kind == "time"


def test_an_array_that_lies_about_equality_comes_as_a_plain_one(sandbox):
    text = "import numpy as np\nclass Liar(np.ndarray):\n    def __eq__(self, other):\n"
    text += (
        "        return np.True_\n    def __array__(self, *_, **__):\n        return np.ones(2)\n"
    )
    text += "def f():\n    return np.zeros(2).view(Liar)\n"
    found = run(sandbox, text)
    assert type(found) is np.ndarray
    assert found.shape == (2,)


# what it is kept from


def test_isolation_is_what_a_process_found(sandbox):
    found = sandbox.isolation
    if sandbox.tier == "uid":
        assert found.uid
        assert found.network
        assert found.processes
        assert found.memory
    else:
        assert not found.uid
        assert "runs as the same user" in found.sentence
        assert "memory" in found.sentence
    assert found.sentence.endswith(".")


def test_a_tier_that_is_not_there_is_refused(monkeypatch):
    monkeypatch.setattr(os, "geteuid", lambda: 1000, raising=False)
    with pytest.raises(UserError, match="another user here: only root"):
        _ = Sandbox(tier="uid").isolation
    with pytest.raises(UserError, match="uid or same, got 'docker'"):
        Sandbox(tier="docker")


def test_isolation_that_fails_is_ours_to_mend(sandbox, monkeypatch):
    """Never a weaker one in silence, and no fault of the student's."""
    jail = "def enter(plan):\n    raise OSError('no jail')\n"
    broken = asking.sources() | {"minillm.course.jail": jail}
    monkeypatch.setattr(asking, "sources", lambda: broken)
    with (
        pytest.raises(HarnessError, match="not isolated: OSError: no jail"),
        sandbox.child({}, drivers=DRIVERS) as child,
    ):
        child.ask("echo", 1)


def test_a_driver_that_does_not_load_is_ours_to_mend(sandbox):
    with (
        pytest.raises(HarnessError, match=r"did not start: .* \(NameError: name 'nothing'"),
        sandbox.child({}, drivers="print(nothing)") as child,
    ):
        child.ask("echo", 1)


def test_the_reference_cannot_be_read(jailed):
    body = "for path in case: open(path).read()"
    for path in (REFERENCE, REFERENCE.resolve(), Path(__file__).resolve()):
        assert tried(jailed, body, str(path)) in ("FileNotFoundError", "PermissionError")
    assert tried(jailed, "os.listdir(case[0])", str(REFERENCE.parent)) != "done"


@pytest.mark.parametrize(
    "name", ["minillm", "minillm.ops.layer_norm", "minillm.course.codec", "pytest"]
)
def test_minillm_and_other_packages_cannot_be_imported(sandbox, name):
    assert tried(sandbox, f"import {name}") == "ModuleNotFoundError"


def test_other_packages_cannot_be_found_by_their_path(jailed):
    body = "import sys\nsys.path.insert(0, case[0])\nimport pytest, minillm"
    assert tried(jailed, body, str(Path(pytest.__file__).parents[1])) == "ModuleNotFoundError"
    assert tried(jailed, body, str(REFERENCE.parents[2])) == "ModuleNotFoundError"


def test_nothing_of_the_grader_is_left_to_find(sandbox):
    text = "import sys\ndef f():\n    return sorted(x for x in sys.modules if 'minillm' in x)\n"
    assert run(sandbox, text) == []


@pytest.mark.skipif(not LINUX, reason="/proc is Linux's")
def test_the_graders_memory_cannot_be_opened(sandbox):
    if not sandbox.isolation.memory:
        pytest.skip("this system lets a process of the same user open the grader's memory")
    pid = os.getpid()
    assert tried(sandbox, "open(f'/proc/{case[0]}/mem', 'rb').read(1)", pid) != "done"
    assert tried(sandbox, "open(f'/proc/{os.getppid()}/environ', 'rb').read(1)") != "done"


@pytest.mark.parametrize("number", [0, signal.SIGTERM, signal.SIGKILL])
def test_the_grader_cannot_be_signalled(sandbox, number):
    if not sandbox.isolation.memory:
        pytest.skip("this system lets a process of the same user signal the grader")
    assert tried(sandbox, f"os.kill(case[0], {int(number)})", os.getpid()) != "done"
    assert tried(sandbox, f"os.kill(os.getppid() or case[0], {int(number)})", os.getpid()) != "done"


def test_there_is_no_network(sandbox):
    if not sandbox.isolation.network:
        pytest.skip("this system gives every process the network")
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.1)
        body = "import socket\nsocket.create_connection(('127.0.0.1', case[0]), 1)"
        assert tried(sandbox, body, server.getsockname()[1]) != "done"
        with pytest.raises(TimeoutError):
            server.accept()
    assert (
        tried(sandbox, "import socket\nsocket.socket(socket.AF_INET, socket.SOCK_DGRAM)") != "done"
    )


def test_files_are_written_in_the_scratch_folder_only(jailed, tmp_path):
    tmp_path.chmod(0o777)
    target = tmp_path / "results.json"
    assert tried(jailed, "open(case[0], 'w').write('full marks')", str(target)) != "done"
    assert not target.exists()
    assert tried(jailed, "open('x', 'w').write('y')") == "done"
    for name in ("a.py", "new.py"):
        body = f"open(os.path.join(os.path.dirname(__file__), {name!r}), 'w').write('')"
        assert tried(jailed, body) != "done"
    assert tried(jailed, "open('/dev/shm/x', 'w').write('')") != "done"


def test_the_folders_go(jailed, monkeypatch, request):
    folder = tempfile.mkdtemp(prefix="minillm-test-")
    request.addfinalizer(lambda: shutil.rmtree(folder))
    os.chmod(folder, 0o755)  # without a jail the other user goes through it
    monkeypatch.setattr("tempfile.tempdir", folder)
    body = "os.makedirs('deep/er')\nopen('deep/er/x', 'w').write('')\nos.chmod('deep', 0)"
    assert tried(jailed, body) == "done"
    assert os.listdir(folder) == []


def test_no_process_can_be_started(sandbox):
    if not sandbox.isolation.processes:
        pytest.skip("this system lets a process start others")
    assert tried(sandbox, "os.fork()") in ("BlockingIOError", "PermissionError")
    bomb = "def f():\n    import os\n    while True:\n        os.fork()\n"
    assert fault(sandbox, bomb).kind == "raised"


def running(uid):
    """How many processes of a user have not ended."""
    return sum(owner == uid and not ended for owner, _, ended in uids._processes())


def test_what_a_process_started_ends_with_it(other_user):
    """Also what went into a session of its own; and the limit holds."""
    text = """
import os, time
def f():
    for n in range(100):
        try:
            if os.fork() == 0:
                os.setsid()
                while True:
                    time.sleep(1)
        except OSError:
            return n, os.getuid()
"""
    with other_user.child({"a.py": text}, drivers=DRIVERS, limits=Limits(processes=5)) as child:
        started, uid = child.ask("call", ())
        assert started == 5
        assert running(uid) == uids.count(uid) == 6
    assert running(uid) == 0


def test_a_process_that_keeps_moving_is_caught(other_user):
    """Each lives for a moment, and has a successor."""
    text = """
import os
def f():
    if os.fork() == 0:
        os.setsid()
        for fd in range(100):
            try:
                os.close(fd)
            except OSError:
                pass
        while True:
            try:
                if os.fork():
                    os._exit(0)
            except OSError:
                pass
    return os.getuid()
"""
    with other_user.child({"a.py": text}, drivers=DRIVERS, limits=Limits(processes=5)) as child:
        uid = child.ask("call", ())
    assert not any(running(uid) for _ in range(20))


def test_a_jail_cannot_be_left(other_user):
    """No namespace in which the process would be root, no link out of it, no way above its root."""
    if other_user.isolation.files != "jail":
        pytest.skip("no jail here: root may not mount")
    body = "import ctypes\nif ctypes.CDLL(None).unshare(0x10000000) < 0: raise OSError"
    assert tried(other_user, body) == "OSError"
    assert tried(other_user, "os.chroot('/scratch')") == "PermissionError"
    text = "import os\ndef f():\n    return sorted(os.listdir('/' + '../' * 50))\n"
    there = set(run(other_user, text))
    assert {"student", "packages", "scratch"} <= there
    assert not {"proc", "root", "tmp", "work", "home", "sys", "var"} & there - {
        Path(sys.base_prefix).parts[1]
    }
    assert tried(other_user, "os.symlink('/etc/passwd', 'x')\nopen('x').read()") != "done"


def test_two_students_cannot_signal_one_another(other_user):
    text = (
        "import os\ndef f(pid):\n    try:\n        os.kill(pid, 9)\n    except OSError as error:\n"
    )
    text += "        return type(error).__name__, os.getuid()\n"
    with (
        other_user.child({"a.py": text}, drivers=DRIVERS) as one,
        other_user.child({"a.py": text}, drivers=DRIVERS) as other,
    ):
        other.ask("echo", 1)
        pid = other.pid
        name, uid = one.ask("call", (pid,))
        assert name in ("PermissionError", "ProcessLookupError")
        assert other.ask("call", (1,))[1] != uid


def test_threads_share_a_sandbox(sandbox):
    found = {}

    def work(n):
        found[n] = run(sandbox, "def f(x):\n    return x * x\n", n)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {n: n * n for n in range(4)}


@pytest.mark.skipif(not LINUX, reason="only Linux ends a child with its parent")
def test_a_grader_that_is_killed_leaves_nothing_running(tmp_path):
    script = f"""
import os
from minillm.course.sandbox import Sandbox
sandbox = Sandbox()
text = "import time\\ndef f():\\n    time.sleep(1e9)"
child = sandbox.child({{"a.py": text}}, drivers={DRIVERS!r})
child.ask("echo", 1)
print(child.pid, flush=True)
child.ask("call", ())
"""
    grader = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE, text=True)
    with grader:
        pid = int(grader.stdout.readline())
        assert os.path.exists(f"/proc/{pid}")
        grader.kill()
    until = time.monotonic() + 10
    while os.path.exists(f"/proc/{pid}") and time.monotonic() < until:
        time.sleep(0.02)
    assert not os.path.exists(f"/proc/{pid}")


def test_a_package_that_is_not_installed_is_named():
    with (
        pytest.raises(UserError, match="pip install no-such-package"),
        Sandbox(packages=("no-such-package",)) as sandbox,
    ):
        run(sandbox, "def f(): pass\n")
