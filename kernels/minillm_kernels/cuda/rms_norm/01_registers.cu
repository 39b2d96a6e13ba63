// 01_registers.cu   y = gain * x / sqrt(mean(x^2) + eps) along each row, and its backward
//
// Idea: layer_norm/04 without the mean: a row is read once, 16 bytes a thread at a time, and kept
//   in registers; backward adds up the gain's gradient on the way, so that dy and x are read once
//   for both gradients. With ADD the same pass adds the residual: total = x + residual.
// Arithmetic: about 4 operations a number forward, 8 backward: nothing beside the memory's time.
// Bytes: forward 8 a number in fp32 (16 with ADD), backward 12 (16): each array once, the least
//   there is; and 4 bytes a column for each of the row walkers' shares of dgain.
// Share of copy bandwidth at 16384 x 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Limits: columns <= blockDim.x * PIECES * VECTOR; VECTOR divides columns, and the arrays begin at
//   a multiple of its bytes (the launcher compiles with VECTOR=1 where they do not).
// Source of the formulas: minillm/ops/rms_norm.py

#ifndef REAL
#define REAL float
#endif
#ifndef VECTOR
#define VECTOR ((int)(16 / sizeof(REAL)))
#endif
#ifndef PIECES
#define PIECES 4
#endif
#define MOST_THREADS 512  // leaves a thread 128 registers
#define ALL_LANES 0xffffffffu
#define ACROSS 32
#define DOWN 8

struct alignas(sizeof(REAL) * VECTOR) Pack {
    REAL item[VECTOR];
};

__device__ REAL sum_of_warp(REAL value)
{
#pragma unroll
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

// This thread's share of a row, in registers; zeros where the row has ended.
__device__ void load(Pack (&held)[PIECES], const REAL* row, int columns)
{
#pragma unroll
    for (int p = 0; p < PIECES; ++p) {
        const int c = (p * blockDim.x + threadIdx.x) * VECTOR;
        held[p] = c < columns ? *reinterpret_cast<const Pack*>(row + c) : Pack{};
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

// Every number that a thread holds: p and v say where.
#define EACH                             \
    _Pragma("unroll")                    \
    for (int p = 0; p < PIECES; ++p)     \
        _Pragma("unroll")                \
        for (int v = 0; v < VECTOR; ++v)

// Block: (32, R) for R rows a block, or (threads, 1), threads a multiple of 32, for one row.
// Grid: rows / R, rounded up.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1)
    rms_norm_forward(const REAL* __restrict__ x,
#ifdef ADD
                     const REAL* __restrict__ residual, REAL* __restrict__ total,
#endif
                     const REAL* __restrict__ gain, REAL* __restrict__ y,
                     REAL* __restrict__ inv_rms, int rows, int columns, REAL eps)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave, so none is missed by a shuffle
    const size_t start = (size_t)row * columns;
    Pack held[PIECES];
    load(held, x + start, columns);
#ifdef ADD
    Pack other[PIECES];
    load(other, residual + start, columns);
    EACH held[p].item[v] += other[p].item[v];
    store(total + start, held, columns);
#endif

    REAL squares = 0;
    EACH squares += held[p].item[v] * held[p].item[v];
    const REAL inv = 1 / sqrt(sum_of_row(squares) / columns + eps);

    Pack scale[PIECES];
    load(scale, gain, columns);
    EACH held[p].item[v] *= inv * scale[p].item[v];
    store(y + start, held, columns);
    if (threadIdx.x == 0) inv_rms[row] = inv;
}

// dx, and this walker's share of dgain: each of the gridDim.x * blockDim.y walkers takes every so
// many-th row. Block: as above. With ADD the gradient of total is added to dx.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1)
    rms_norm_backward(const REAL* __restrict__ dy,
#ifdef ADD
                      const REAL* __restrict__ dtotal,
#endif
                      const REAL* __restrict__ x, const REAL* __restrict__ gain,
                      const REAL* __restrict__ inv_rms, REAL* __restrict__ dx,
                      REAL* __restrict__ dgain_parts, int rows, int columns)
{
    const int walker = blockIdx.x * blockDim.y + threadIdx.y;
    Pack scale[PIECES], dgain[PIECES] = {};
    load(scale, gain, columns);

    for (int row = walker; row < rows; row += gridDim.x * blockDim.y) {
        const size_t start = (size_t)row * columns;
        Pack upstream[PIECES], normed[PIECES];
        load(upstream, dy + start, columns);
        load(normed, x + start, columns);
        const REAL inv = inv_rms[row];

        // The mean along the row of dnormed * normed, where dnormed = dy * gain.
        REAL of_product = 0;
        EACH
        {
            REAL& up = upstream[p].item[v];
            REAL& n = normed[p].item[v];
            n *= inv;
            dgain[p].item[v] += up * n;
            up *= scale[p].item[v];
            of_product += up * n;
        }
        const REAL b = sum_of_row(of_product) / columns;

        EACH normed[p].item[v] = inv * (upstream[p].item[v] - normed[p].item[v] * b);
#ifdef ADD
        load(upstream, dtotal + start, columns);
        EACH normed[p].item[v] += upstream[p].item[v];
#endif
        store(dx + start, normed, columns);
    }
    store(dgain_parts + (size_t)walker * columns, dgain, columns);
}

// The walkers' shares are summed in an order that depends on no race: a block takes ACROSS columns,
// its threads take turns at the shares, and their sums meet in a tree.
// Grid: columns / ACROSS. Block: (ACROSS, DOWN).
extern "C" __global__ void rms_norm_gain(const REAL* dgain_parts, REAL* dgain, int parts,
                                         int columns)
{
    __shared__ REAL partial[DOWN][ACROSS];
    const int c = blockIdx.x * ACROSS + threadIdx.x;
    REAL sum = 0;
    if (c < columns)
        for (int part = threadIdx.y; part < parts; part += DOWN)
            sum += dgain_parts[(size_t)part * columns + c];
    partial[threadIdx.y][threadIdx.x] = sum;
    __syncthreads();
    for (int half = DOWN / 2; half > 0; half /= 2) {
        if (threadIdx.y < half)
            partial[threadIdx.y][threadIdx.x] += partial[threadIdx.y + half][threadIdx.x];
        __syncthreads();
    }
    if (c < columns && threadIdx.y == 0) dgain[c] = partial[0][threadIdx.x];
}
