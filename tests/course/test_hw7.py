"""hw7 as it grades: right kernels, wrong ones, and those that would rather write the counts."""

import functools

import pytest

from minillm.course import manifest
from minillm.course.run import Grader
from minillm.course.sandbox import Sandbox

HW7 = manifest.load("hw7")


@functools.cache
def grader():
    return Grader(HW7, Sandbox(HW7.packages), seed=5, explained=False)


def rung(name):
    return grader().plan().modules.all[name].text


def results(task, name, *pairs):
    """{check: (status, reason)} of one task: the reference with pieces (old, new) replaced."""
    text = rung(name)
    for old, new in pairs:
        assert old in text
        text = text.replace(old, new, 1)
    files = {f"{name}.cu": text.encode()}
    grade = grader().grade("student", files, tasks=[task])
    return {r.name: (r.status, r.reason) for r in grade.results if r.task == task}


def test_the_reference_holds():
    assert {s for s, _ in results("shared_tile", "03_shared_tile").values()} == {"holds"}


def test_the_other_order_costs_the_traffic_alone():
    found = results(
        "coalesced", "02_coalesced",
        ("blockIdx.y * blockDim.y + threadIdx.y", "blockIdx.y * 8 + threadIdx.x % 8"),
        ("blockIdx.x * blockDim.x + threadIdx.x",
         "blockIdx.x * 32 + threadIdx.x / 8 + threadIdx.y * 4"),
    )  # fmt: skip
    assert found["values"][0] == found["report"][0] == "holds"
    status, reason = found["traffic"]
    assert status == "fails"
    assert "sectors of 32 bytes at M=" in reason
    assert "line 2" in reason


@pytest.mark.parametrize(
    ("old", "new", "told"),
    [
        (
            "__syncthreads();\n        for (int k = 0",
            "for (int k = 0",
            "race: line 36 writes Bs",
        ),
        ("        __syncthreads();\n    }\n", "    }\n", "race: line 38 reads"),
        ("REAL sum = 0;", "REAL sum = 0; if (row >= M) return;", "barrier"),
        ("row < M && k0 + tx < K ?", "k0 + tx < K ?", "out of bounds"),
    ],
)
def test_what_the_report_finds_is_told(old, new, told):
    found = results("shared_tile", "03_shared_tile", (old, new))
    assert found["report"][0] == "fails" or told == "barrier"
    assert told in found["report"][1]
    assert found["traffic"][0] != "holds"


def test_bank_conflicts_cost_the_traffic():
    found = results(
        "shared_tile", "03_shared_tile", ("Bs[ty][tx] = k0", "Bs[tx][ty] = k0"),
        ("Bs[k][tx]", "Bs[tx][k]"),
    )  # fmt: skip
    assert found["values"][0] == found["report"][0] == "holds"
    assert found["traffic"][0] == "fails"
    assert "shared memory: " in found["traffic"][1]


def test_rows_are_lda_apart():
    status, reason = results("coalesced", "02_coalesced", ("row * lda", "row * K"))["values"]
    assert status == "fails"
    assert "C[" in reason
    assert "lda=" in reason


@pytest.mark.parametrize(
    "attack",
    [
        "REAL a[4]; a[M + 100000] = 1;",
        "REAL a[4]; for (int i = 0; i < 1000; ++i) a[i + K] = 1;",
        "REAL *p = C + (1ll << 32) / 4; *p = 1;",
        "REAL *p; p[5] = 1;",
        "#include </etc/passwd>\n",
        "REAL big[1 << 28]; big[K] = 1; C[0] = big[M];",
    ],
)
def test_a_kernel_that_reaches_for_other_memory_earns_nothing(attack):
    found = results("coalesced", "02_coalesced", ("REAL sum = 0;", f"REAL sum = 0; \n{attack}"))
    assert all(status != "holds" for status, _ in found.values()), found
    assert all(reason for _, reason in found.values())


def test_a_count_below_what_is_needed_is_not_believed():
    judge = grader().plan().reference.function("traffic")
    case = {"sizes": (8, 8, 8)}
    counts = [{"line": 3, "memory": "global", "requests": 1, "transfers": 23}]
    expected = {"lines": [{**counts[0], "transfers": 100}]}
    came = {"findings": [], "lines": counts}
    assert "not believed" in judge(case, expected, came)
    counts[0]["transfers"] = 24
    assert judge(case, expected, came) is None
    for broken in (None, {}, {"findings": []}, {"findings": [], "lines": [{}]}):
        assert judge(case, expected, broken)


@pytest.mark.parametrize("after", ["put<b_k_contiguous>(Bs[stage ^ 1], b_next, t);", None])
def test_the_missing_barrier_has_one_place(after):
    given = grader().plan().modules.starter("07_warp_tile")
    place = after or "// The other stage was last read"
    new = f"{place}\n__syncthreads();" if after else f"__syncthreads();\n{place}"
    files = {"07_warp_tile.cu": given.replace(place, new).encode()}
    grade = grader().grade("student", files, tasks=["missing_barrier"])
    (report,) = [r for r in grade.results if r.task == "missing_barrier" and r.name == "report"]
    assert report.status == ("holds" if after else "fails")
    assert after or "race" in report.reason
