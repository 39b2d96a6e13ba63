// 02_block_a_row.cu   y = gain * (x - mean) / std + bias along each row, and its backward
//
// Idea: a block of threads shares a row and adds up in a tree in shared memory, as in softmax/02.
//   The sums over rows go the same way, on end: a block takes 32 columns, its threads take turns
//   at the rows, and a tree joins them; several blocks share a column, and a second kernel adds
//   their sums.
// Arithmetic: as in 01, and a tree for each of the sums.
// Bytes: forward 16 a number in fp32, backward 28, as in 01, but a row's later readings come from
//   a cache where the rows in flight fit there.
// Share of copy bandwidth at 16384 x 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the tree: Harris, Optimizing Parallel Reduction in CUDA, NVIDIA 2007

#ifndef REAL
#define REAL float
#endif
#define MOST_THREADS 256
#define ACROSS 32
#define DOWN 8

// The sum of every thread's value, which every thread gets. blockDim.x is a power of two.
__device__ REAL sum_of_block(REAL value)
{
    __shared__ REAL partial[MOST_THREADS];
    partial[threadIdx.x] = value;
    __syncthreads();
    for (int half = blockDim.x / 2; half > 0; half /= 2) {
        if (threadIdx.x < half) partial[threadIdx.x] += partial[threadIdx.x + half];
        __syncthreads();
    }
    const REAL result = partial[0];
    __syncthreads();  // all have read it before the array serves again
    return result;
}

// Grid: a block a row. Block: a power of two, at most MOST_THREADS.
extern "C" __global__ void layer_norm_forward(const REAL* x, const REAL* gain, const REAL* bias,
                                              REAL* y, REAL* mean, REAL* inv_std, int rows,
                                              int columns, REAL eps)
{
    const int row = blockIdx.x;
    x += (size_t)row * columns;
    y += (size_t)row * columns;

    REAL total = 0;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) total += x[c];
    const REAL m = sum_of_block(total) / columns;

    REAL squares = 0;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) squares += (x[c] - m) * (x[c] - m);
    const REAL inv = 1 / sqrt(sum_of_block(squares) / columns + eps);

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
    const int row = blockIdx.x;
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
    const REAL a = sum_of_block(of_dnormed) / columns;
    const REAL b = sum_of_block(of_product) / columns;

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
