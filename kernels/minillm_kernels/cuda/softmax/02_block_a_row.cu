// 02_block_a_row.cu   y = softmax(x) along each row; backward: dx = y * (dy - sum(y * dy))
//
// Idea: a block of threads shares a row. Neighbouring threads read neighbouring numbers, so that a
//   warp's 32 reads are four full sectors of 32 bytes, and the threads' partial results meet in
//   shared memory in a tree: half of them add the other half's, then a quarter, ... log2(threads)
//   barriers.
// Arithmetic: as in 01, and a tree for each of the maximum and the sum.
// Bytes: as in 01, 16 a number forward and 20 backward, but the second and third reading of a row
//   come from a cache where the rows in flight fit there.
// Share of copy bandwidth at 16384 x 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the tree: Harris, Optimizing Parallel Reduction in CUDA, NVIDIA 2007

#ifndef REAL
#define REAL float
#endif
#define MOST_THREADS 256

struct Largest {
    static __device__ REAL nothing() { return __int_as_float(0xff800000); }  // -inf
    static __device__ REAL of(REAL a, REAL b) { return a > b ? a : b; }
};
struct Sum {
    static __device__ REAL nothing() { return 0; }
    static __device__ REAL of(REAL a, REAL b) { return a + b; }
};

// Every thread's value combined into one, which every thread gets. blockDim.x is a power of two.
template <class Combine>
__device__ REAL across_block(REAL value)
{
    __shared__ REAL partial[MOST_THREADS];
    partial[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half)
            partial[threadIdx.x] = Combine::of(partial[threadIdx.x], partial[threadIdx.x + half]);
        __syncthreads();
    }
    const REAL result = partial[0];
    __syncthreads();  // all have read it before the array serves again
    return result;
}

// Grid: a block a row. Block: a power of two, at most MOST_THREADS.
extern "C" __global__ void softmax_forward(const REAL* x, REAL* y, int rows, int columns)
{
    x += (size_t)blockIdx.x * columns;
    y += (size_t)blockIdx.x * columns;

    REAL largest = Largest::nothing();
    for (int c = threadIdx.x; c < columns; c += blockDim.x) largest = Largest::of(x[c], largest);
    largest = across_block<Largest>(largest);
    if (largest == Largest::nothing()) largest = 0;  // every score is -inf: the row becomes zeros

    REAL total = Sum::nothing();
    for (int c = threadIdx.x; c < columns; c += blockDim.x) total += exp(x[c] - largest);
    total = across_block<Sum>(total);

    const REAL share = total == 0 ? 0 : 1 / total;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) y[c] = exp(x[c] - largest) * share;
}

extern "C" __global__ void softmax_backward(const REAL* y, const REAL* dy, REAL* dx, int rows,
                                            int columns)
{
    y += (size_t)blockIdx.x * columns;
    dy += (size_t)blockIdx.x * columns;
    dx += (size_t)blockIdx.x * columns;

    REAL total = Sum::nothing();
    for (int c = threadIdx.x; c < columns; c += blockDim.x) total += y[c] * dy[c];
    total = across_block<Sum>(total);

    for (int c = threadIdx.x; c < columns; c += blockDim.x) dx[c] = y[c] * (dy[c] - total);
}
