import io
import json
import os
import re
import shutil
import signal
import stat
import subprocess
import sys
import time
import zipfile

import pytest

from minillm.course.autograding import zero_grade
from minillm.course.bundle import bundle, bundle_files, pinned
from minillm.course.manifest import load, names
from minillm.course.modules import Modules
from minillm.errors import UserError
from tests.course.test_outputs import validate

ROOT = hasattr(os, "geteuid") and os.geteuid() == 0
HW3 = load("hw3")


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundle") / "hw3.zip"
    said = bundle(HW3, path)
    assert "holds the solutions" in said
    return path


@pytest.fixture
def root(archive, tmp_path):
    """What Gradescope makes of the archive, without pip."""
    root = tmp_path / "autograder"
    with zipfile.ZipFile(archive) as members:
        members.extractall(root / "source")
    shutil.copy(root / "source" / "run_autograder", root)
    (root / "submission").mkdir()
    (root / "submission_metadata.json").write_text("{}")
    (root / "submission_metadata.json").chmod(0o644)
    (tmp_path / "home").mkdir()
    return root


def environment(root, **more):
    settings = {"AUTOGRADER_ROOT": str(root), "AUTOGRADER_PYTHON": sys.executable}
    settings |= {"PATH": os.environ["PATH"], "HOME": str(root.parent / "home")}
    return settings | ({} if ROOT else {"AUTOGRADER_TIER": "same"}) | more


def run(root, **more):
    """Run run_autograder; (its output, the table of results.json)."""
    done = subprocess.run(
        ["bash", str(root / "run_autograder")],
        env=environment(root, **more), cwd=root, capture_output=True, text=True, timeout=120,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr, validate((root / "results" / "results.json").read_text())


def hand_in(root, texts):
    for name, text in texts.items():
        (root / "submission" / name).write_text(text)


def solutions():
    modules = Modules(HW3)
    return {name: modules.solution(name.removesuffix(".py")) for name in modules.handed_in}


def test_a_right_submission_gets_all_points_from_the_bundle(root):
    hand_in(root, solutions())
    said, table = run(root)
    assert table["score"] == zero_grade(HW3).points, said
    assert "exit code 0" in said
    assert "file" not in table["output"]
    assert str(table["extra_data"]["seed"]) in said
    assert str(table["extra_data"]["seed"]) not in table["output"]
    again = run(root)[1]
    assert again["extra_data"]["seed"] != table["extra_data"]["seed"]


def test_what_holds_answers_is_closed_to_others(root):
    hand_in(root, {})
    run(root)
    for name in ("source", "source/packages/minillm", "results", "submission_metadata.json"):
        mode = stat.S_IMODE((root / name).stat().st_mode)
        assert mode & 0o077 == 0, name


def test_a_submission_with_one_file_gets_its_points_only(root):
    texts = solutions()
    hand_in(root, {"softmax.py": texts["softmax.py"], "linear.py": "raise SystemExit(0)\n"})
    _, table = run(root)
    earned = {}
    for test in table["tests"]:
        (task,) = test["tags"]
        earned[task] = earned.get(task, 0) + test["score"]
    assert earned["softmax"] == sum(
        test["max_score"] for test in table["tests"] if test["tags"] == ["softmax"]
    )
    assert sum(earned.values()) == earned["softmax"]


def test_our_failures_leave_a_valid_zero_that_says_whose_it_is(root):
    hand_in(root, solutions())
    said, table = run(root, AUTOGRADER_PYTHON="/nowhere/python")
    assert table["score"] == 0
    assert "did not start" in table["output"]
    assert "ours to fix, not yours" in table["output"]

    said, table = run(root, AUTOGRADER_TIER="none such")
    assert "exit code 4" in said
    assert "Traceback" in said
    assert table["score"] == 0
    assert "did not come to its end" in table["output"]
    assert "none such" not in table["output"]
    assert table["stdout_visibility"] == "hidden"


def test_a_grader_that_is_killed_half_way_leaves_zero(root):
    hand_in(root, {**solutions(), "linear.py": "while True:\n    pass\n"})
    script = subprocess.Popen(
        ["bash", str(root / "run_autograder")],
        env=environment(root), cwd=root, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        start_new_session=True,
    )  # fmt: skip
    results = root / "results" / "results.json"
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            if results.exists() and "did not come to its end" in results.read_text():
                break
            time.sleep(0.02)
        time.sleep(0.3)
    finally:
        os.killpg(script.pid, signal.SIGKILL)
        script.wait()
    table = validate(results.read_text())
    assert table["score"] == 0
    assert "did not come to its end" in table["output"]


def test_a_folder_is_graded_as_in_the_container(root, tmp_path):
    for student, texts in (("ann", solutions()), ("bob", {"softmax.py": "x = 1\n"})):
        folder = tmp_path / "submissions" / student
        folder.mkdir(parents=True)
        for name, text in texts.items():
            (folder / name).write_text(text)
    command = [sys.executable, "-I", str(root / "source" / "grade.py"), "--folder"]
    command += [str(tmp_path / "submissions"), "--out", str(tmp_path / "graded"), "--seed", "7"]
    done = subprocess.run(
        command, env=environment(root), cwd=tmp_path, capture_output=True, text=True, timeout=120
    )
    assert done.returncode == 0, done.stderr
    table = validate((tmp_path / "graded" / "ann" / "results.json").read_text())
    assert table["score"] == zero_grade(HW3).points
    assert validate((tmp_path / "graded" / "bob" / "results.json").read_text())["score"] == 0
    assert (tmp_path / "graded" / "similarity.md").is_file()


def test_the_archive_is_what_gradescope_takes(archive):
    with zipfile.ZipFile(archive) as members:
        found = {info.filename: info for info in members.infolist()}
        assert list(found) == sorted(found)
        for name in ("setup.sh", "run_autograder"):
            assert (found[name].external_attr >> 16) & 0o111, name
            text = members.read(name).decode()
            assert text.startswith("#!/usr/bin/env bash\n")
            assert "\r" not in text
            assert not re.search(r"@[A-Z]+@", text)
        validate(members.read("zero.json").decode())
        readme = members.read("README.md").decode()
        assert not re.search(r"@[A-Z]+@", readme)
        assert json.loads(members.read("bundle.json"))["assignment"] == "hw3"
        assert not any(re.search(r"__pycache__|\.pyc$|/\.|\.so$", name) for name in found)
        for line in members.read("requirements.txt").decode().splitlines():
            assert re.fullmatch(r"[\w.-]+==[\w.]+", line), line
        assert "packages/minillm/course/assignments/hw3/assignment.toml" in found
        assert "packages/minillm/ops/layer_norm.py" in found
        assert not any("minillm_kernels" in name for name in found)


def test_the_same_assignment_gives_the_same_bytes(tmp_path):
    for name in ("once.zip", "again.zip"):
        bundle(HW3, tmp_path / name)
    assert (tmp_path / "again.zip").read_bytes() == (tmp_path / "once.zip").read_bytes()


def test_a_folder_holds_the_same_files(archive, tmp_path):
    bundle(HW3, tmp_path / "folder")
    files = [path for path in (tmp_path / "folder").rglob("*") if path.is_file()]
    with zipfile.ZipFile(archive) as members:
        there = sorted(path.relative_to(tmp_path / "folder").as_posix() for path in files)
        assert there == members.namelist()
    assert os.access(tmp_path / "folder" / "run_autograder", os.X_OK)
    with pytest.raises(UserError):
        bundle(HW3, tmp_path / "folder")  # nothing is written over


def test_an_assignment_of_ones_own_is_packed(tmp_path):
    own = tmp_path / "hw31"
    shutil.copytree(HW3.folder, own)
    files = bundle_files(load(str(own)))
    assert "assignment/hw31/assignment.toml" in files
    assert json.loads(files["bundle.json"])["own"] is True


@pytest.mark.skipif("hw7" not in names(), reason="there is no hw7 yet")
def test_the_emulators_assignment_brings_kernels_and_a_compiler():
    files = bundle_files(load("hw7"))
    assert "packages/minillm_kernels/emulator/src/scheduler.cpp" in files
    assert b'system="g++"' in files["setup.sh"]


def test_pins_are_what_is_installed():
    import numpy as np

    found = dict(line.split("==") for line in pinned())
    assert found["numpy"] == np.__version__.partition("+")[0]
    assert {"click", "tqdm", "regex"} <= found.keys()
    assert "minillm-numpy" not in found
    with pytest.raises(UserError, match="pip install no-such-package"):
        pinned(["no-such-package"])


@pytest.mark.skipif(shutil.which("shellcheck") is None, reason="shellcheck is not installed")
@pytest.mark.parametrize("name", ["setup.sh", "run_autograder"])
def test_the_scripts_pass_shellcheck(archive, tmp_path, name):
    with zipfile.ZipFile(io.BytesIO(archive.read_bytes())) as members:
        members.extract(name, tmp_path)
    done = subprocess.run(["shellcheck", tmp_path / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


def test_the_setup_makes_a_venv_from_the_pins_and_closes_the_source(root, tmp_path):
    """With stand-ins for Python and apt: what is called, and which rights are left."""
    tools = tmp_path / "tools"
    tools.mkdir()
    minor = f"{sys.version_info.major}.{sys.version_info.minor}"
    python = tools / f"python{minor}"
    python.write_text(
        "#!/bin/sh\n"
        f'echo "python $*" >> {tmp_path}/calls\n'
        'if [ "$2" = venv ]; then mkdir -p "$3/bin"; cp "$0" "$3/bin/python"; fi\n'
    )
    python.chmod(0o755)
    settings = environment(root, PATH=f"{tools}:{os.environ['PATH']}")
    command = ["bash", str(root / "source" / "setup.sh")]
    done = subprocess.run(command, env=settings, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    calls = (tmp_path / "calls").read_text().splitlines()
    assert calls[0] == f"python -m venv {root}/venv"
    assert "--no-deps" in calls[1]
    assert calls[1].endswith(f"-r {root}/source/requirements.txt")
    assert calls[2] == f"python -I {root}/source/grade.py --warm"
    assert stat.S_IMODE((root / "source").stat().st_mode) & 0o077 == 0
