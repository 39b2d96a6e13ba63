"""Every configuration of the Triton kernels compiles, and its code is what its author claims.

No GPU is needed. The compiler runs in two processes of its own, because kernels decorated for the
interpreter, as all others of these tests want them, cannot be compiled.
"""

import ast
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from minillm_kernels.triton import _compile

COMPILE = "import sys; from minillm_kernels.triton._compile import main; sys.exit(main())"

# A product whose author claims too much: 5 stages of 128x256x64 do not fit into shared memory, and
# loads by pointers are not TMA's.
CLAIMS = """
import sys

import triton
import triton.language as tl
from minillm_kernels.triton._compile import Configuration, check


@triton.jit
def product(a, b, c, K, M: tl.constexpr, N: tl.constexpr, BLOCK_K: tl.constexpr):
    rows, columns, depth = tl.arange(0, M), tl.arange(0, N), tl.arange(0, BLOCK_K)
    total = tl.zeros((M, N), tl.float32)
    for start in range(0, K, BLOCK_K):
        k = start + depth
        x = tl.load(a + rows[:, None] * K + k[None, :])
        y = tl.load(b + k[:, None] * N + columns[None, :])
        total = tl.dot(x, y, total)
    tl.store(c + rows[:, None] * N + columns[None, :], total)


def claim(expects, block_k, warps):
    types = {"a": "*bf16", "b": "*bf16", "c": "*fp32", "K": "i32:16"}
    sizes = {"M": 128, "N": 256, "BLOCK_K": block_k}
    return Configuration("claim", product, types, sizes, warps, 5, (90,), expects=expects)


import json
rows = check([claim(("wgmma",), 32, 8), claim(("tma",), 64, 8), claim((), 32, 1)], (90,))
print(json.dumps(list(rows)))
"""


def environment():
    return {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}


@pytest.fixture(scope="module")
def compiled():
    """A row for each configuration and architecture, from two processes side by side."""
    running = [
        subprocess.Popen(
            [sys.executable, "-c", COMPILE, "--json", "--part", f"{part}/2"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env=environment(),
        )
        for part in range(2)
    ]
    rows = []
    for process in running:
        out, err = process.communicate()
        assert process.returncode in (0, 1), err
        rows += [json.loads(line) for line in out.splitlines()]
    return rows


@pytest.fixture(scope="module")
def listed():
    """What there is to compile, named by a process that does not interpret."""
    run = subprocess.run(
        [sys.executable, "-c", COMPILE, "--list"], capture_output=True, text=True, env=environment()
    )
    assert run.returncode == 0, run.stderr
    return [json.loads(line) for line in run.stdout.splitlines()]


def test_every_configuration_keeps_its_claims(compiled):
    broken = [f"{row['name']} sm_{row['arch']}: {row['problems']}" for row in compiled]
    broken = [line for line, row in zip(broken, compiled, strict=True) if row["problems"]]
    assert not broken, "\n".join(broken)


def test_nothing_is_left_out(compiled, listed):
    seen = {(row["name"], row["arch"]) for row in compiled}
    for one in listed:
        for arch in one["arches"]:
            refused = str(arch) in one["refused"]
            assert (one["name"], arch) in seen or refused, f"{one['name']} sm_{arch}"
            if "bf16" in "".join(one["types"]):
                assert arch != 75 or refused, f"{one['name']}: bf16 on sm_75"


@pytest.mark.parametrize("arch", _compile.ARCHES)
def test_every_module_runs_on_every_architecture(compiled, listed, arch):
    modules = {one["module"] for one in listed}
    if arch == 75:  # bfloat16 over float32 alone; a T4 gets it op by op
        modules.remove("transformer_block")
    there = {row["name"].partition(":")[0] for row in compiled if row["arch"] == arch}
    assert there == modules


def converted_sizes(source):
    """Where a kernel asks one of its sizes for an attribute: a launch with the size 1 hands the
    compiler Python's 1, which has none, and which the interpreter never sees."""
    found = []
    for function in ast.walk(ast.parse(source)):
        if isinstance(function, ast.FunctionDef) and "triton.jit" in map(
            ast.unparse, function.decorator_list
        ):
            names = {argument.arg for argument in function.args.args}
            sizes = {n for n in names if n.startswith("n_") or n in (*"MNKTSHRV", "count")}
            for node in ast.walk(function):
                if isinstance(node, ast.Attribute) and getattr(node.value, "id", None) in sizes:
                    found.append(f"{function.name}: {ast.unparse(node)}")
    return found


def test_a_size_of_1_compiles():
    folder = Path(_compile.__file__).parent
    sources = {path.name: path.read_text() for path in folder.glob("*.py")}
    assert {name: found for name, text in sources.items() if (found := converted_sizes(text))} == {}
    wrong = sources["_norm_kernels.py"].replace(
        "(program + n_programs).to(tl.int64)", "program + n_programs.to(tl.int64)"
    )
    assert set(converted_sizes(wrong)) == {
        "norm_backward: n_programs.to", "norm_backward_columns: n_programs.to",
    }  # fmt: skip


def test_false_claims_are_found(tmp_path):
    path = tmp_path / "claims.py"
    path.write_text(CLAIMS)
    run = subprocess.run(
        [sys.executable, str(path)], capture_output=True, text=True, env=environment()
    )
    assert run.returncode == 0, run.stderr
    right, wrong, spilling = json.loads(run.stdout)
    assert right["problems"] == []
    assert "wgmma" in right["facts"]
    assert right["registers"] > 100
    assert right["threads"] == 256
    assert any("shared memory" in line for line in wrong["problems"])
    assert "no tma in the code" in wrong["problems"]
    assert spilling["spills"] > 0
    assert any("spills" in line for line in spilling["problems"])
