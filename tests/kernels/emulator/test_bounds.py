"""Accesses outside arrays, and reads of shared memory that nobody wrote: which element, by whom."""

import numpy as np
import pytest

from minillm_kernels.emulator import EmulatorError, RawModule, checking, launch_report

CODE = r"""
extern "C" __global__ void shift(const float* x, float* y, int by, long long far) {
    int i = threadIdx.x;
    y[i] = x[i + by + far];                              // shift
}
extern "C" __global__ void write(float* x, float* y, int at) {
    if (threadIdx.x == 1) y[at] = 5;                     // write
    if (threadIdx.x == 2) x[0] = y[0];
}
extern "C" __global__ void rows(float* y, int row, int column) {
    __shared__ float tile[4][6];
    __shared__ float other[8];
    if (threadIdx.x < 24) tile[threadIdx.x / 6][threadIdx.x % 6] = 1;
    if (threadIdx.x < 8) other[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = tile[row][column] + other[0];       // by rows
}
extern "C" __global__ void flat(float* y, int at) {
    __shared__ float tile[64];
    __shared__ float other[64];
    tile[threadIdx.x] = other[threadIdx.x] = 1;
    __syncthreads();
    float* start = tile;
    if (threadIdx.x == 7) start[at] = 3;                 // flat
    y[threadIdx.x] = other[threadIdx.x];
}
extern "C" __global__ void dynamic(float* y) {
    extern __shared__ float room[];
    room[threadIdx.x] = 1;                               // into room
    y[threadIdx.x] = room[threadIdx.x];
}
extern "C" __global__ void unwritten(float* y, int written) {
    __shared__ float tile[32];
    if (threadIdx.x < written) tile[threadIdx.x] = 1;
    __syncthreads();
    y[threadIdx.x] = tile[31 - threadIdx.x];             // may read nothing
}
// What a block leaves behind is no value for the next one.
extern "C" __global__ void leftover(float* y) {
    __shared__ float tile[32];
    if (blockIdx.x == 0) tile[threadIdx.x] = 1;
    __syncthreads();
    y[blockIdx.x * 32 + threadIdx.x] = tile[threadIdx.x]; // may be left over
}
__device__ float table[4] = {1, 2, 3, 4};
__constant__ float given[2];
extern "C" __global__ void variables(float* y) {
    if (threadIdx.x == 0) table[1] += given[1];
    __syncthreads();
    y[threadIdx.x] = table[threadIdx.x % 4];
}
extern "C" __global__ void copies(float* y) {
    struct Large { float v[24]; };
    __shared__ Large all[32];
    memset(&all[threadIdx.x], 0, sizeof(Large));
    __syncthreads();
    Large mine = all[31 - threadIdx.x];
    y[threadIdx.x] = mine.v[threadIdx.x % 24] + all[threadIdx.x].v[3];
}
extern "C" __global__ void both_ways(const float* x, float* y) {
    __shared__ float tile[32][32];
    for (int i = 0; i < 32; ++i) tile[i][threadIdx.x] = x[i * 32 + threadIdx.x];
    __syncwarp();
    for (int i = 0; i < 32; ++i) y[i * 32 + threadIdx.x] = tile[threadIdx.x][i];  // column
    __syncwarp();
    for (int i = 0; i < 32; ++i) y[threadIdx.x * 32 + i] += 1;                    // apart
}
"""
LINES = CODE.splitlines()


def line_of(text):
    return next(i for i, line in enumerate(LINES, 1) if text in line)


@pytest.fixture(scope="module")
def module():
    return RawModule(code=CODE)


def report_of(module, name, block, args, *, shared_mem=0, grid=(1,), **options):
    kernel = module.get_function(name)
    return launch_report(kernel, grid, block, args, shared_mem=shared_mem, **options)


def the_finding(report, kind, text):
    (found,) = report.findings
    assert (found.kind, found.line, found.file) == (kind, line_of(text), "kernel.cu"), str(report)
    return found


@pytest.mark.parametrize("seed", range(3))
def test_reads_beyond_both_ends(module, seed):
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    args = (x, y, np.int32(0), np.int64(0))
    assert report_of(module, "shift", (32,), args, seed=seed).findings == []
    np.testing.assert_array_equal(y, x)
    report = report_of(module, "shift", (32,), (x, y, np.int32(1), np.int64(0)), seed=seed)
    found = the_finding(report, "out of bounds", "// shift")
    assert found.message == (
        "thread (31,0,0) of block (0,0,0) reads element 32 of x (argument 1, float32 (32,)): "
        "4 bytes beyond its end"
    )
    assert found.count == 1
    assert np.isnan(y[31])  # not something that looks like a value
    np.testing.assert_array_equal(y[:31], x[1:])
    report = report_of(module, "shift", (32,), (x, y, np.int32(-3), np.int64(0)), seed=seed)
    found = the_finding(report, "out of bounds", "// shift")
    assert "bytes before its beginning" in found.message
    assert found.count == 3


@pytest.mark.parametrize("far", [2**24, -(2**24), 2**40])
def test_reads_far_beyond_stop_the_launch(module, far):
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    report = report_of(module, "shift", (32,), (x, y, np.int32(0), np.int64(far)))
    found = the_finding(report, "out of bounds", "// shift")
    assert found.count == 1
    assert ("of x (argument 1" in found.message) == (abs(far) < 2**30)


def test_an_overrun_does_not_end_in_another_array(module):
    both = np.zeros(40, np.float32)  # neighbours here, and far from each other when checked
    y, x = both[:20], both[20:]
    report = report_of(module, "write", (3,), (x, y, np.int32(20)))
    found = the_finding(report, "out of bounds", "// write")
    assert "writes element 20 of y (argument 2, float32 (20,)): 4 bytes beyond its end" in str(
        found
    )
    assert not both.any()
    assert report_of(module, "write", (3,), (x, y, np.int32(19))).findings == []
    assert both[19] == 5


def test_rows_of_a_larger_array_have_its_rows_bounds(module):
    wide = np.zeros((4, 10), np.float32)
    view = wide[:, :5]  # bytes 0 to 140: the last row's end
    assert report_of(module, "write", (3,), (wide[0], view, np.int32(34))).findings == []
    assert wide[3, 4] == 5
    report = report_of(module, "write", (3,), (wide[0], view, np.int32(35)))
    the_finding(report, "out of bounds", "// write")


def test_an_index_beyond_a_row_of_shared_memory(module):
    y = np.zeros(32, np.float32)
    for row, column in ((3, 5), (0, 0)):
        report = report_of(module, "rows", (32,), (y, np.int32(row), np.int32(column)))
        assert report.findings == []
    for row, column, wrong in ((1, 6, 6), (4, 0, 4), (0, -1, -1)):  # (1, 6) is the element (2, 0)
        report = report_of(module, "rows", (32,), (y, np.int32(row), np.int32(column)))
        found = the_finding(report, "out of bounds", "// by rows")
        assert f"index {wrong} is outside 'float [" in found.message
        assert found.count == 32


def test_a_flat_overrun_does_not_end_in_the_next_variable(module):
    y = np.zeros(64, np.float32)
    assert report_of(module, "flat", (64,), (y, np.int32(63))).findings == []
    for at in (64, 100, -1):
        report = report_of(module, "flat", (64,), (y, np.int32(at)))
        found = the_finding(report, "out of bounds", "// flat")
        assert found.thread == (7, 0, 0)
    assert "writes 4 bytes at byte 256 of tile, which has 256 bytes" in str(
        report_of(module, "flat", (64,), (y, np.int32(64)))
    )


def test_dynamic_shared_memory_is_as_long_as_the_launch_says(module):
    y = np.zeros(32, np.float32)
    assert report_of(module, "dynamic", (32,), (y,), shared_mem=128).findings == []
    report = report_of(module, "dynamic", (32,), (y,), shared_mem=120)
    assert {f.kind for f in report.findings} == {"out of bounds"}
    first = next(f for f in report.findings if f.line == line_of("// into room"))
    assert first.count == 2
    assert "of room, which was launched with shared_mem=120" in first.message


@pytest.mark.parametrize("seed", range(3))
def test_shared_memory_that_nobody_wrote(module, seed):
    y = np.zeros(32, np.float32)
    assert report_of(module, "unwritten", (32,), (y, np.int32(32)), seed=seed).findings == []
    report = report_of(module, "unwritten", (32,), (y, np.int32(30)), seed=seed)
    found = the_finding(report, "uninitialised shared memory", "// may read nothing")
    assert found.count == 2
    assert "reads tile at byte 12" in found.message
    assert np.isnan(y[:2]).all()
    assert (y[2:] == 1).all()
    report = report_of(module, "unwritten", (32,), (y, np.int32(30)), uninitialised=False)
    assert report.findings == []


@pytest.mark.parametrize("seed", range(3))
def test_what_the_last_block_left_is_no_value(module, seed):
    y = np.zeros(96, np.float32)
    report = report_of(module, "leftover", (32,), (y,), grid=(3,), seed=seed)
    found = the_finding(report, "uninitialised shared memory", "// may be left over")
    assert found.count == 64


def test_variables_of_the_file_and_whole_structures(module):
    y = np.zeros(8, np.float32)
    assert report_of(module, "variables", (8,), (y,)).findings == []
    y = np.full(32, np.nan, np.float32)
    report = report_of(module, "copies", (32,), (y,))
    assert report.findings == [], str(report)
    assert (y == 0).all()


def test_read_only_arguments_stay_as_they_are(module):
    x, y = np.arange(32, dtype=np.float32), np.zeros(32, np.float32)
    x.flags.writeable = False
    with checking() as report:
        module.get_function("shift")((1,), (32,), (x, y, np.int32(0), np.int64(0)))
    report.raise_for_findings()
    np.testing.assert_array_equal(y, x)


def test_conflicts_and_sectors_are_counted_by_line(module):
    x, y = np.arange(1024, dtype=np.float32).reshape(32, 32), np.zeros((32, 32), np.float32)
    report = report_of(module, "both_ways", (32,), (x, y))
    assert report.findings == []
    np.testing.assert_array_equal(y, x.T + 1)
    filled, column = report.counts(line_of("= x[i * 32")), report.counts(line_of("// column"))
    apart = report.counts(line_of("// apart"))
    told = {
        (c.line, c.memory): (c.requests, c.transfers, c.ideal, c.bytes, c.kind)
        for c in (*filled, *column, *apart)
    }
    assert told == {
        (line_of("= x[i * 32"), "shared"): (32, 32, 32, 4096, None),
        (line_of("= x[i * 32"), "global"): (32, 128, 128, 4096, None),
        (line_of("// column"), "shared"): (32, 1024, 32, 4096, "bank conflict"),
        (line_of("// column"), "global"): (32, 128, 128, 4096, None),
        (line_of("// apart"), "global"): (64, 2048, 256, 8192, "uncoalesced"),
    }
    assert report.bank_conflicts == 992
    assert "32 wavefronts each, 1 at best  <- bank conflict" in str(report)
    quiet = report_of(module, "both_ways", (32,), (x, y), banks=False, coalescing=False)
    assert quiet.lines == []


SEALED = r"""
extern "C" __global__ void local(float* y, int at) {
    float mine[4];
    mine[at] = 1;                                        // into mine
    y[threadIdx.x] = mine[threadIdx.x % 4];
}
extern "C" __global__ void stack(float* y, int at) {
    float mine[4] = {};
    float* p = mine;
    p[at] = 1;                                           // through p
    y[threadIdx.x] = mine[threadIdx.x % 4];
}
__device__ float first[4];
extern "C" __global__ void between(float* y, int at) {
    float* p = first;
    if (threadIdx.x == 0) p[at] = 1;                     // far from first
    y[threadIdx.x] = first[0];
}
__device__ float last[4];
"""


@pytest.mark.parametrize(
    ("kernel", "at", "found"),
    [
        ("local", 3, None),
        ("local", 7, "index 7 is outside 'float [4]'"),
        ("stack", 5000, "belongs to no argument"),
        ("between", 3, None),
        ("between", 5000, "out of bounds"),
    ],
)
def test_a_sealed_launch_stops_before_memory_of_others(kernel, at, found):
    """A kernel that could write there could write what is counted."""
    y = np.full(4, -1, np.float32)
    run = RawModule(code=SEALED).get_function(kernel)
    with checking(sealed=True) as report:
        run((1,), (4,), (y, np.int32(at)))
    assert [f for f in report.findings if f.kind != "race"] == [] or found
    if found:
        assert found in str(report.findings[0])
        assert (y == -1).any()  # it got no further


def test_an_array_of_variable_length_is_refused_as_nvcc_does():
    code = 'extern "C" __global__ void k(float* y, int n) { float a[n]; a[0] = n; y[0] = a[0]; }'
    with pytest.raises(EmulatorError, match="variable length array"), checking():
        RawModule(code=code).get_function("k")((1,), (1,), (np.zeros(1, "f4"), np.int32(3)))
