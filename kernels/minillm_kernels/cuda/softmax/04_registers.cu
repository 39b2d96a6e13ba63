// 04_registers.cu   y = softmax(x) along each row; backward: dx = y * (dy - sum(y * dy))
//
// Idea: read the row once, 16 bytes a thread at a time, and keep it in registers: the maximum, the
//   sum and the result are all made from there. Each thread holds PIECES packs of VECTOR numbers,
//   a size known when the file is compiled, for registers cannot be indexed by a variable.
// Arithmetic: as in 03.
// Bytes: forward 8 a number in fp32, backward 12: each array once, which is the least there is.
// Share of copy bandwidth at 16384 x 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Limits: columns <= blockDim.x * PIECES * VECTOR; VECTOR divides columns, and the arrays begin at
//   a multiple of its bytes (the launcher compiles with VECTOR=1 where they do not).
// Source of the 16 bytes: Luitjens, "Increase Performance with Vectorized Memory Access", NVIDIA
//   2013

#ifndef REAL
#define REAL float
#endif
#ifndef VECTOR
#define VECTOR ((int)(16 / sizeof(REAL)))
#endif
#ifndef PIECES
#define PIECES 8
#endif
#define MOST_THREADS 512  // leaves a thread 128 registers
#define ALL_LANES 0xffffffffu

struct alignas(sizeof(REAL) * VECTOR) Pack {
    REAL item[VECTOR];
};

struct Largest {
    static __device__ REAL nothing() { return __int_as_float(0xff800000); }  // -inf
    static __device__ REAL of(REAL a, REAL b) { return a > b ? a : b; }
};
struct Sum {
    static __device__ REAL nothing() { return 0; }
    static __device__ REAL of(REAL a, REAL b) { return a + b; }
};

// Each lane's value combined with that of the lane 16, 8, 4, 2 and 1 away: all end with the same.
template <class Combine>
__device__ REAL across_warp(REAL value)
{
#pragma unroll
    for (int away = 16; away > 0; away /= 2)
        value = Combine::of(value, __shfl_xor_sync(ALL_LANES, value, away));
    return value;
}

// The same over the blockDim.x threads that share a row: one warp, or all of the block's.
template <class Combine>
__device__ REAL across_row(REAL value)
{
    value = across_warp<Combine>(value);
    if (blockDim.x == 32) return value;
    __shared__ REAL of_warp[32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    value = lane < blockDim.x / 32 ? of_warp[lane] : Combine::nothing();
    __syncthreads();  // all have read before the array serves again
    return across_warp<Combine>(value);
}


// This thread's share of a row, in registers; `beyond` stands where the row has ended.
__device__ void load(Pack (&held)[PIECES], const REAL* row, int columns, REAL beyond)
{
#pragma unroll
    for (int p = 0; p < PIECES; ++p) {
        const int c = (p * blockDim.x + threadIdx.x) * VECTOR;
        if (c < columns) {
            held[p] = *reinterpret_cast<const Pack*>(row + c);
        } else {
#pragma unroll
            for (int v = 0; v < VECTOR; ++v) held[p].item[v] = beyond;
        }
    }
}

__device__ void store(REAL* row, const Pack (&held)[PIECES], int columns)
{
#pragma unroll
    for (int p = 0; p < PIECES; ++p) {
        const int c = (p * blockDim.x + threadIdx.x) * VECTOR;
        if (c < columns) *reinterpret_cast<Pack*>(row + c) = held[p];
    }
}

// Block: (32, R) for R rows a block, or (threads, 1), threads a multiple of 32, for one row.
// Grid: rows / R, rounded up.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1)
    softmax_forward(const REAL* __restrict__ x, REAL* __restrict__ y, int rows, int columns)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave, so none is missed by a shuffle
    const size_t start = (size_t)row * columns;
    Pack held[PIECES];
    load(held, x + start, columns, Largest::nothing());

    REAL largest = Largest::nothing();
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) largest = Largest::of(held[p].item[v], largest);
    largest = across_row<Largest>(largest);
    if (largest == Largest::nothing()) largest = 0;  // every score is -inf: the row becomes zeros

    REAL total = Sum::nothing();
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) {
            held[p].item[v] = exp(held[p].item[v] - largest);
            total += held[p].item[v];  // beyond the row exp(-inf) = 0 is added
        }
    total = across_row<Sum>(total);

    const REAL share = total == 0 ? 0 : 1 / total;
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) held[p].item[v] *= share;
    store(y + start, held, columns);
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1)
    softmax_backward(const REAL* __restrict__ y, const REAL* __restrict__ dy,
                     REAL* __restrict__ dx, int rows, int columns)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    const size_t start = (size_t)row * columns;
    Pack held[PIECES], upstream[PIECES];
    load(held, y + start, columns, 0);
    load(upstream, dy + start, columns, 0);

    REAL total = Sum::nothing();
#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) total += held[p].item[v] * upstream[p].item[v];
    total = across_row<Sum>(total);

#pragma unroll
    for (int p = 0; p < PIECES; ++p)
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) held[p].item[v] *= upstream[p].item[v] - total;
    store(dx + start, held, columns);
}
