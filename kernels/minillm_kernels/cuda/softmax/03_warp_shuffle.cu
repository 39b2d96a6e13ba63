// 03_warp_shuffle.cu   y = softmax(x) along each row; backward: dx = y * (dy - sum(y * dy))
//
// Idea: the 32 threads of a warp read one another's registers by shuffles: five exchanges combine
//   them all, with no shared memory and no barrier. A narrow row gets a warp to itself and a block
//   takes several rows; a wide one gets a block, whose warps meet once in shared memory.
// Arithmetic: as in 01, and 5 shuffles (10 for a wide row) instead of 8 barriers.
// Bytes: as in 02.
// Share of copy bandwidth at 16384 x 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the shuffles: CUDA C++ Programming Guide, "Warp Shuffle Functions"

#ifndef REAL
#define REAL float
#endif
#define ALL_LANES 0xffffffffu

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

// Block: (32, R) for R rows a block, or (threads, 1), threads a multiple of 32, for one row.
// Grid: rows / R, rounded up.
extern "C" __global__ void softmax_forward(const REAL* x, REAL* y, int rows, int columns)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave, so none is missed by a shuffle
    x += (size_t)row * columns;
    y += (size_t)row * columns;

    REAL largest = Largest::nothing();
    for (int c = threadIdx.x; c < columns; c += blockDim.x) largest = Largest::of(x[c], largest);
    largest = across_row<Largest>(largest);
    if (largest == Largest::nothing()) largest = 0;  // every score is -inf: the row becomes zeros

    REAL total = Sum::nothing();
    for (int c = threadIdx.x; c < columns; c += blockDim.x) total += exp(x[c] - largest);
    total = across_row<Sum>(total);

    const REAL share = total == 0 ? 0 : 1 / total;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) y[c] = exp(x[c] - largest) * share;
}

extern "C" __global__ void softmax_backward(const REAL* y, const REAL* dy, REAL* dx, int rows,
                                            int columns)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    y += (size_t)row * columns;
    dy += (size_t)row * columns;
    dx += (size_t)row * columns;

    REAL total = Sum::nothing();
    for (int c = threadIdx.x; c < columns; c += blockDim.x) total += y[c] * dy[c];
    total = across_row<Sum>(total);

    for (int c = threadIdx.x; c < columns; c += blockDim.x) dx[c] = y[c] * (dy[c] - total);
}
