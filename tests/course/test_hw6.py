"""hw6 as it grades: right functions, wrong ones, and a Triton kernel that is none."""

import functools

import pytest

pytest.importorskip("triton")

from minillm.course import manifest
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox

HW6 = manifest.load("hw6")
NUMPY, TRITON = "flash_attention", "flash_attention_simple"
DENSE = """
def flash_attention_dense(q, k, v, bias, causal, mask, scale, block):
    (H, T, D), G, S = q.shape[1:], k.shape[1], k.shape[2]
    scale = 1 / math.sqrt(D) if scale is None else float(scale)
    whole = slice(0, T), slice(0, S)
    diagonal = S - T if causal else None
    logits = block_logits(q, k, bias, mask, scale, diagonal, *whole)
    peak = logits.max(-1, keepdims=True)
    weights = np.exp(logits - np.where(peak == -np.inf, 0, peak))
    total = weights.sum(-1, keepdims=True)
    weights /= np.where(total > 0, total, 1)
    return regroup(regroup(weights, G) @ v, H), None
"""


@functools.cache
def grader():
    return Grader(HW6, Sandbox(HW6.packages), seed=5, explained=False)


def results(task, flat, *pairs, more=""):
    """{check: (status, reason)} of one task: the reference with pieces (old, new) replaced."""
    text = grader().plan().modules.all[flat].text
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    grade = grader().grade("student", {f"{flat}.py": (text + more).encode()}, tasks=[task])
    return {r.name: (r.status, r.reason) for r in grade.results if r.task == task}


def failing(found):
    return {name for name, (status, _) in found.items() if status != "holds"}


def test_the_reference_holds():
    assert not failing(results("flash_attention", NUMPY))
    assert not failing(results("flash_attention_backward", NUMPY))


def test_plain_attention_needs_the_memory_and_reads_what_nobody_sees():
    start = "    check_attention(q, k, v, bias, mask)\n"
    call = "    return flash_attention_dense(q, k, v, bias, causal, mask, scale, block)\n"
    found = results("flash_attention", NUMPY, (start, start + call), more=DENSE)
    assert failing(found) == {"memory", "skipped"}
    assert "out of memory at T = S = 4000: 110 MB were left" in found["memory"][1]
    assert "must not be read at all" in found["skipped"][1]


def test_blocks_that_nobody_sees_are_not_read():
    old = "keys = min(keys, max(0, rows.stop + diagonal))"
    assert failing(results("flash_attention", NUMPY, (old, "pass"))) == {"skipped"}


@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        ("fade * total + weights", "total + weights", "forward"),
        ("fade * mixed + regroup", "mixed + regroup", "forward"),
        ("rows.stop + diagonal", "rows.stop", "causal"),
        ("S - T if causal", "0 if causal", "causal"),
        ("np.where(peak == -np.inf, 0, peak)  #", "peak  #", "hidden"),
        ("v.shape[3]), q.dtype, like=q)", "v.shape[3]), None, like=q)", "float32"),
    ],
)  # fmt: skip
def test_a_wrong_forward_fails(old, new, fails):
    assert fails in failing(results("flash_attention", NUMPY, (old, new)))


@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        ("(dweights - shared[:, :, rows])", "dweights", {"dq", "dk"}),
        ("dk[:, :, cols] += dlogits", "dk[:, :, cols] = dlogits", {"dk"}),
        ("dpart += sum_to_shape", "dpart[:] = sum_to_shape", {"dbias"}),
        ("dlogits = scale * regroup", "dlogits = regroup", {"dq", "dk"}),
    ],
)
def test_a_wrong_backward_fails_where_it_is_wrong(old, new, fails):
    found = failing(results("flash_attention_backward", NUMPY, (old, new)))
    assert fails <= found
    assert not {"dv", "memory"} & found or "memory" in found
    assert "dv" not in found


@pytest.mark.parametrize(
    ("old", "new", "fails"),
    [
        ("seen = (cols < S)[None, :]", "seen = (cols < S + 9)[None, :]", "values"),
        ("total = fade * total + ", "total = total + ", "values"),
        ("rows[:, None] + diagonal", "rows[:, None]", "causal"),
        ("first + BLOCK + diagonal", "first + diagonal", "causal"),
        ("mask=rows < T,\n", "mask=rows < T - 1,\n", "edges"),
        ("finite = tl.where(peak == float(\"-inf\"), 0.0, peak)", "finite = 0.0", "steep"),
    ],
)  # fmt: skip
def test_a_wrong_kernel_fails(old, new, fails):
    found = results(TRITON, TRITON, (old, new))
    assert fails in failing(found)


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        ("    first = ", "    import numpy as np\n    first = ", "Import is not part"),
        ("    first = ", "    torch.exp(q)\n    first = ", "torch.exp may not be used"),
        ("    first = ", "    tl.core.sys.exit(0)\n    first = ", "tl.core.sys.exit may not"),
        ("    first = ", "    q.numpy()\n    first = ", "q.numpy may not be used"),
        ("    first = ", "    tl = 3\n    first = ", "gives tl another meaning"),
        ("    first = ", "    x = lambda: 0\n    first = ", "Lambda is not part"),
        ("    first = ", "    x = [i for i in range(3)]\n    first = ", "ListComp is not part"),
        ("    first = ", "    (tl.load)(q).__class__\n    first = ", "__class__ may not"),
        ("    T,\n    S,\n", "    S,\n    T,\n", "parameters must be q, k, v"),
        ("    BLOCK: tl.constexpr,\n):", "    BLOCK: tl.constexpr = 3,\n):", "no defaults"),
        ("    BLOCK: tl.constexpr,\n):", "    BLOCK: print(2),\n):", "no type but tl.constexpr"),
        ("    BLOCK: tl.constexpr,\n):", "    BLOCK: int,\n) -> print(2):", "no type but tl.const"),
        ("def forward_kernel(", "def other(", "has no function forward_kernel"),
    ],
)
def test_what_is_no_kernel_of_triton_is_refused(old, new, told):
    found = results(TRITON, TRITON, (old, new))
    assert all(status == "refused" and told in reason for status, reason in found.values()), found


def test_what_a_stub_says_is_not_run():
    old = "    first = "
    new = "    raise NotImplementedError(__import__('os')._exit(0))\n    first = "
    assert {status for status, _ in results(TRITON, TRITON, (old, new)).values()} == {
        "not implemented"
    }


def test_the_lines_of_the_kernel_are_those_that_python_counts():
    """A line separator in a comment is no new line to Python, but one to str.splitlines."""
    text = grader().plan().modules.all[TRITON].text
    start = text.index("def forward_kernel(")
    kernel = text[start : text.index("\n\n\n", start) + 1]
    comment = "    # of the keys so far: the largest logit, and sums of weights exp(logit - peak)\n"
    assert comment in kernel
    trap = "def trap(x=__import__('os')._exit(0)): pass\n" + kernel.replace(comment, "")
    lines = "#" + "\u2028" * (kernel.count("\n") + 1)
    handed_in = f"{lines}\n'''\n{trap}'''\n{kernel}"
    grade = grader().grade("student", {f"{TRITON}.py": handed_in.encode()}, tasks=[TRITON])
    found = {r.status for r in grade.results if r.task == TRITON}
    assert found == {"refused"}, grade.results


def test_the_rest_of_the_file_is_not_run():
    assert not failing(results(TRITON, TRITON, more="\nraise SystemExit(0)\n"))
    new = "@print\n@triton.jit\ndef forward_kernel("
    found = results(TRITON, TRITON, ("@triton.jit\ndef forward_kernel(", new))
    assert not failing(found)


def test_an_error_in_a_kernel_names_its_line():
    old = "peak = tl.full([BLOCK]"
    text = grader().plan().modules.all[TRITON].text
    line = text[: text.index(old)].count("\n") + 1
    found = results(TRITON, TRITON, (old, "peak = tl.full([BLOCK, 3]"))
    assert f"line {line}: ValueError: Shape element" in found["values"][1]


def test_the_limit_of_memory_is_out_of_reach_of_the_student_s_code():
    """It stands before the file is read: patching `resource` changes nothing."""
    patched = "import resource\n\nresource.setrlimit = lambda *a: None\n\nimport math"
    check = "    check_attention(q, k, v, bias, mask)\n"
    dense = (check, check + "    np.ones((q.shape[2], k.shape[2]))\n")
    found = results("flash_attention", NUMPY, ("import math", patched), dense)
    assert failing(found) == {"memory"}
