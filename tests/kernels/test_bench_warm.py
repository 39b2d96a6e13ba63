"""Compiling ahead goes on past a kernel whose compiler fails or aborts."""

import subprocess
import sys

SOURCE = """
import os, sys, types
from pathlib import Path
from minillm_kernels.bench import warm

def writing(name):
    return types.SimpleNamespace(compile=lambda: Path(sys.argv[1], name).touch())

def refuse():
    raise RuntimeError("PassManager::run failed")

refusing = types.SimpleNamespace(compile=refuse)
aborting = types.SimpleNamespace(compile=os.abort)
print(warm._failed([writing("a"), refusing, aborting, writing("b"), writing("c")], 2))
"""


def test_one_that_aborts_costs_no_other(tmp_path):
    command = [sys.executable, "-W", "ignore", "-c", SOURCE, str(tmp_path)]
    run = subprocess.run(command, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    *said, last = run.stdout.splitlines()
    assert said == ["  RuntimeError: PassManager::run failed"]
    assert last == "[1, 2]"
    assert {path.name for path in tmp_path.iterdir()} == {"a", "b", "c"}
