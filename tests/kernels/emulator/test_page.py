"""A report's page: every finding under its line, every cost beside it, the source escaped."""

import re
from html import unescape

import numpy as np

from minillm_kernels.emulator import RawModule, checking

SOURCE = """
extern "C" __global__ void shift(const float* x, float* y, int n) {
    __shared__ float tile[64];
    if (threadIdx.x < n && true) tile[threadIdx.x] = x[threadIdx.x];
    y[threadIdx.x] = tile[63 - threadIdx.x];
    y[threadIdx.x * 64] = 1;
}
"""


def page_of(source):
    x, y = np.zeros(64, np.float32), np.zeros(64 * 64, np.float32)
    kernel = RawModule(code=source).get_function("shift")
    with checking() as report:
        kernel((1,), (64,), (x, y, np.int32(64)))
    return report, report._repr_html_()


def test_findings_and_costs_stand_at_their_lines():
    report, page = page_of(SOURCE)
    assert report.findings
    rows = [unescape(re.sub(r"<[^>]*>", " ", row)) for row in page.split("<tr>")]
    for finding in report.findings:
        line = SOURCE.splitlines()[finding.line - 1].strip()
        at = next(i for i, row in enumerate(rows) if line in row)
        assert any(finding.message in row for row in rows[at + 1 : at + 1 + len(report.findings)])
    (stride,) = [count for count in report.lines if count.kind == "uncoalesced"]
    (row,) = [row for row in rows if "threadIdx.x * 64" in row]
    assert f"{stride.per_request:.3g}" in row
    assert "&lt; n &amp;&amp; true" in page
    assert "< n" not in page


def test_a_long_file_is_cut_to_what_matters():
    _, page = page_of(SOURCE + "".join(f"// line {i} of a long tail\n" for i in range(100)))
    assert page.count("of a long tail") <= 3
    assert "threadIdx.x * 64" in page


def test_nothing_wrong():
    code = (
        'extern "C" __global__ void shift(const float* x, float* y, int n) { y[threadIdx.x] = n; }'
    )
    report, page = page_of(code)
    assert report.findings == []
    assert "nothing wrong was found" in page


def test_a_block_that_checked_nothing_says_so():
    with checking() as report:
        pass
    assert str(report) == "no launch was checked: nothing can be said"
    assert "nothing can be said" in report._repr_html_()
    assert "nothing wrong" not in report._repr_html_()
