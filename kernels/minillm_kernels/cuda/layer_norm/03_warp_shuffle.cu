// 03_warp_shuffle.cu   y = gain * (x - mean) / std + bias along each row, and its backward
//
// Idea: the 32 threads of a warp add up by shuffles, with no shared memory and no barrier, as in
//   softmax/03. The sums over rows stay as they were in 02: shuffles join the threads of a warp,
//   and those hold different columns.
// Arithmetic: as in 01, and 5 shuffles (10 for a wide row) a sum instead of 8 barriers.
// Bytes: as in 02.
// Share of copy bandwidth at 16384 x 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the shuffles: CUDA C++ Programming Guide, "Warp Shuffle Functions"

#ifndef REAL
#define REAL float
#endif
#define ALL_LANES 0xffffffffu
#define ACROSS 32
#define DOWN 8

__device__ REAL sum_of_warp(REAL value)
{
    for (int away = 16; away > 0; away /= 2) value += __shfl_xor_sync(ALL_LANES, value, away);
    return value;
}

// The sum over the blockDim.x threads that share a row: one warp, or all of the block's.
__device__ REAL sum_of_row(REAL value)
{
    value = sum_of_warp(value);
    if (blockDim.x == 32) return value;
    __shared__ REAL of_warp[32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    value = lane < blockDim.x / 32 ? of_warp[lane] : 0;
    __syncthreads();  // all have read before the array serves again
    return sum_of_warp(value);
}

// Block: (32, R) for R rows a block, or (threads, 1), threads a multiple of 32, for one row.
// Grid: rows / R, rounded up.
extern "C" __global__ void layer_norm_forward(const REAL* x, const REAL* gain, const REAL* bias,
                                              REAL* y, REAL* mean, REAL* inv_std, int rows,
                                              int columns, REAL eps)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave, so none is missed by a shuffle
    x += (size_t)row * columns;
    y += (size_t)row * columns;

    REAL total = 0;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) total += x[c];
    const REAL m = sum_of_row(total) / columns;

    REAL squares = 0;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) squares += (x[c] - m) * (x[c] - m);
    const REAL inv = 1 / sqrt(sum_of_row(squares) / columns + eps);

    for (int c = threadIdx.x; c < columns; c += blockDim.x)
        y[c] = (x[c] - m) * inv * gain[c] + bias[c];
    if (threadIdx.x == 0) {
        mean[row] = m;
        inv_std[row] = inv;
    }
}

extern "C" __global__ void layer_norm_backward(const REAL* dy, const REAL* x, const REAL* gain,
                                               const REAL* mean, const REAL* inv_std, REAL* dx,
                                               int rows, int columns)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    dy += (size_t)row * columns;
    x += (size_t)row * columns;
    dx += (size_t)row * columns;
    const REAL m = mean[row], inv = inv_std[row];

    // The means along the row of dnormed = dy * gain, and of dnormed * normed.
    REAL of_dnormed = 0, of_product = 0;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) {
        const REAL dnormed = dy[c] * gain[c];
        of_dnormed += dnormed;
        of_product += dnormed * ((x[c] - m) * inv);
    }
    const REAL a = sum_of_row(of_dnormed) / columns;
    const REAL b = sum_of_row(of_product) / columns;

    for (int c = threadIdx.x; c < columns; c += blockDim.x)
        dx[c] = inv * (dy[c] * gain[c] - a - (x[c] - m) * inv * b);
}

// The sums of a column's DOWN threads, which the first of them, threadIdx.y == 0, gets.
__device__ void down_block(REAL& a, REAL& b)
{
    __shared__ REAL partial[2][DOWN][ACROSS];
    partial[0][threadIdx.y][threadIdx.x] = a;
    partial[1][threadIdx.y][threadIdx.x] = b;
    __syncthreads();
    for (int half = DOWN / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
            for (int which = 0; which < 2; ++which)
                partial[which][threadIdx.y][threadIdx.x] +=
                    partial[which][threadIdx.y + half][threadIdx.x];
        __syncthreads();
    }
    a = partial[0][threadIdx.y][threadIdx.x];
    b = partial[1][threadIdx.y][threadIdx.x];
}

// dgain and dbias in two steps, in an order that depends on no race. First each block sums ACROSS
// neighbouring columns over every gridDim.y-th group of DOWN rows, and its threads' sums meet in a
// tree. Grid: (columns / ACROSS, parts). Block: (ACROSS, DOWN).
extern "C" __global__ void layer_norm_parameters(const REAL* dy, const REAL* x, const REAL* mean,
                                                 const REAL* inv_std, REAL* dgain_parts,
                                                 REAL* dbias_parts, int rows, int columns)
{
    const int c = blockIdx.x * ACROSS + threadIdx.x;
    REAL of_gain = 0, of_bias = 0;
    if (c < columns)
        for (int row = blockIdx.y * DOWN + threadIdx.y; row < rows; row += gridDim.y * DOWN) {
            const size_t at = (size_t)row * columns + c;
            of_gain += dy[at] * ((x[at] - mean[row]) * inv_std[row]);
            of_bias += dy[at];
        }
    down_block(of_gain, of_bias);
    if (c < columns && threadIdx.y == 0) {
        dgain_parts[(size_t)blockIdx.y * columns + c] = of_gain;
        dbias_parts[(size_t)blockIdx.y * columns + c] = of_bias;
    }
}

// Then the parts are summed in the same way. Grid: columns / ACROSS. Block: (ACROSS, DOWN).
extern "C" __global__ void layer_norm_parameters_sum(const REAL* dgain_parts,
                                                     const REAL* dbias_parts, REAL* dgain,
                                                     REAL* dbias, int parts, int columns)
{
    const int c = blockIdx.x * ACROSS + threadIdx.x;
    REAL of_gain = 0, of_bias = 0;
    if (c < columns)
        for (int part = threadIdx.y; part < parts; part += DOWN) {
            of_gain += dgain_parts[(size_t)part * columns + c];
            of_bias += dbias_parts[(size_t)part * columns + c];
        }
    down_block(of_gain, of_bias);
    if (c < columns && threadIdx.y == 0) {
        dgain[c] = of_gain;
        dbias[c] = of_bias;
    }
}
