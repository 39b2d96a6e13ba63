"""Kernels that are right, in ways that a checker may take for wrong: no finding, in any order."""

import numpy as np
import pytest

from minillm_kernels.emulator import RawModule, checking

CODE = r"""
struct Best { double value; int place; };  // 4 bytes of it belong to no member
extern "C" __global__ void best(const double* x, int* y) {
    __shared__ Best s[64];
    int t = threadIdx.x;
    s[t].value = x[t], s[t].place = t;
    __syncthreads();
    for (int k = 32; k; k /= 2) {
        if (t < k && s[t + k].value > s[t].value) s[t] = s[t + k];
        __syncthreads();
    }
    y[t] = s[0].place;
}
__device__ float2 turned(float2 a, float2 b) {
    return make_float2(a.x * b.x - a.y * b.y, a.x * b.y);
}
__device__ float length(float2 a) { return a.x * a.x + a.y * a.y; }
__device__ int depth(int n) { return n < 1 ? 0 : 1 + depth(n - 1); }
extern "C" __global__ void structures(const double* x, int* y) {
    __shared__ float2 w[64];
    int t = threadIdx.x;
    w[t] = turned(make_float2(t, 0), make_float2(1, 0));
    __syncthreads();
    float2 other = turned(w[63 - t], make_float2(1, 1));
    y[t] = (int)(length(w[t]) + length(other) * 0) + depth(3);
}
__device__ int mutex;
extern "C" __global__ void locks(const double* x, int* y) {
    for (bool done = false; !done;)
        if (atomicCAS(&mutex, 0, 1) == 0) {
            __threadfence();
            y[0] += 1;                                                   // locked
            __threadfence();
            atomicExch(&mutex, 0);
            done = true;
        }
}
extern "C" __global__ void half_locked(const double* x, int* y) {
    for (bool done = false; !done;)
        if (atomicCAS(&mutex, 0, 1) == 0) {
            y[0] += 1;                                                   // no fence
            atomicExch(&mutex, 0);
            done = true;
        }
}
extern "C" __global__ void hands_over(const double* x, int* y) {
    __shared__ int ready, value;
    if (threadIdx.x == 0) ready = 0;
    __syncthreads();
    if (threadIdx.x == 40) {
        value = 7;
        __threadfence_block();
        atomicExch(&ready, 1);
    }
    if (threadIdx.x == 3) {
        while (atomicAdd(&ready, 0) == 0) {}
        __threadfence_block();
        y[0] = value;
    }
}
extern "C" __global__ void flags(const double* x, int* y) {
    __shared__ int any;
    any = 0;
    __syncthreads();
    if (x[threadIdx.x] >= 0) any = 1;
    __syncthreads();
    y[0] = any;
}
extern "C" __global__ void last_wins(const double* x, int* y) {
    y[0] = threadIdx.x / 48;                                             // two values
}
extern "C" __global__ void returned(const double* x, int* y) {
    if (threadIdx.x >= 39) return;
    int any = __any_sync(0xffffffff, x[threadIdx.x] > 0), first = __shfl_sync(0xffffffff, any, 0);
    __syncwarp();
    y[threadIdx.x] = any + first;
}
extern "C" __global__ void returned_too_early(const double* x, int* y) {
    if (threadIdx.x >= 39) return;
    y[threadIdx.x] = __shfl_down_sync(0xffffffff, 1, 4);                 // wants lane 7
}
extern "C" __global__ void waits(const double* x, int* y) {              // one lane far ahead
    __shared__ volatile int turn;
    if (threadIdx.x == 0) turn = 0;
    __syncthreads();
    if (threadIdx.x == 0) {
        for (int i = 0; i < 200000; ++i) y[1] = turn;
        y[0] = 1;
    } else {
        y[threadIdx.x + 1] = turn;
    }
}
"""
LINES = CODE.splitlines()


def line_of(text):
    return next(i for i, line in enumerate(LINES, 1) if text in line)


@pytest.fixture(scope="module")
def module():
    return RawModule(code=CODE)


def launch(module, name, seed):
    x, y = np.linspace(0, 1, 64), np.zeros(65, np.int32)
    with checking(seed=seed) as report:
        module.get_function(name)((1,), (64,), (x, y))
    return report, y


T = np.arange(64)
RIGHT = {
    "best": np.full(64, 63),
    "structures": T * T + 3,
    "locks": [64],
    "hands_over": [7],
    "flags": [1],
    "returned": np.where(T < 39, 2, 0),
    "waits": [1],
}


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize("name", RIGHT)
def test_what_is_right_has_no_finding(module, name, seed):
    report, y = launch(module, name, seed)
    assert report.findings == [], str(report)
    np.testing.assert_array_equal(y[: len(RIGHT[name])], RIGHT[name])


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("name", "line"), [("half_locked", "// no fence"), ("last_wins", "// two")]
)
def test_their_wrong_twins_are_told(module, name, line, seed):
    report, _ = launch(module, name, seed)
    assert {(f.kind, f.line) for f in report.findings} == {("race", line_of(line))}


def test_a_shuffle_wants_a_lane_that_has_returned(module):
    with pytest.raises(Exception, match="lane 7 has returned") as caught:
        launch(module, "returned_too_early", 0)
    assert caught.value.line == line_of("// wants lane 7")
