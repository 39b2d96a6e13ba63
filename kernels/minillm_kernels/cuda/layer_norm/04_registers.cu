// 04_registers.cu   y = gain * (x - mean) / std + bias along each row, and its backward
//
// Idea: read a row once, 16 bytes a thread at a time, and keep it in registers, as in softmax/04.
//   The backward goes one further: threads keep their columns from row to row, so each adds up its
//   columns' shares of dgain and dbias in registers on the way, and dy and x are read once for all
//   three gradients. With ADD the same pass adds the residual: total = x + residual.
// Arithmetic: as in 03; the sums over rows cost no pass of their own.
// Bytes: forward 8 a number in fp32 (16 with ADD), backward 12 (16): each array once, the least
//   there is; and 8 bytes a column for each of the row walkers' shares of dgain and dbias.
// Share of copy bandwidth at 16384 x 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Limits: columns <= blockDim.x * PIECES * VECTOR; VECTOR divides columns, and the arrays begin at
//   a multiple of its bytes (the launcher compiles with VECTOR=1 where they do not).
// Source of the idea: NVIDIA Apex, contrib/layer_norm, keeps rows and both sums in registers too

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
    layer_norm_forward(const REAL* __restrict__ x,
#ifdef ADD
                       const REAL* __restrict__ residual, REAL* __restrict__ total,
#endif
                       const REAL* __restrict__ gain, const REAL* __restrict__ bias,
                       REAL* __restrict__ y, REAL* __restrict__ mean, REAL* __restrict__ inv_std,
                       int rows, int columns, REAL eps)
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

    REAL sum = 0;
    EACH sum += held[p].item[v];
    const REAL m = sum_of_row(sum) / columns;

    REAL squares = 0;
    EACH
    {
        const bool inside = (p * blockDim.x + threadIdx.x) * VECTOR < columns;
        held[p].item[v] = inside ? held[p].item[v] - m : 0;
        squares += held[p].item[v] * held[p].item[v];
    }
    const REAL inv = 1 / sqrt(sum_of_row(squares) / columns + eps);

    Pack scale[PIECES], shift[PIECES];
    load(scale, gain, columns);
    load(shift, bias, columns);
    EACH held[p].item[v] = held[p].item[v] * inv * scale[p].item[v] + shift[p].item[v];
    store(y + start, held, columns);
    if (threadIdx.x == 0) {
        mean[row] = m;
        inv_std[row] = inv;
    }
}

// dx, and this walker's share of dgain and dbias: each of the gridDim.x * blockDim.y walkers takes
// every so many-th row. Block: as above. With ADD the gradient of total is added to dx.
extern "C" __global__ void __launch_bounds__(MOST_THREADS, 1)
    layer_norm_backward(const REAL* __restrict__ dy,
#ifdef ADD
                        const REAL* __restrict__ dtotal,
#endif
                        const REAL* __restrict__ x, const REAL* __restrict__ gain,
                        const REAL* __restrict__ mean, const REAL* __restrict__ inv_std,
                        REAL* __restrict__ dx, REAL* __restrict__ dgain_parts,
                        REAL* __restrict__ dbias_parts, int rows, int columns)
{
    const int walker = blockIdx.x * blockDim.y + threadIdx.y;
    Pack scale[PIECES], dgain[PIECES] = {}, dbias[PIECES] = {};
    load(scale, gain, columns);

    for (int row = walker; row < rows; row += gridDim.x * blockDim.y) {
        const size_t start = (size_t)row * columns;
        Pack upstream[PIECES], normed[PIECES];
        load(upstream, dy + start, columns);
        load(normed, x + start, columns);
        const REAL m = mean[row], inv = inv_std[row];

        // The means along the row of dnormed = dy * gain, and of dnormed * normed. Beyond the
        // row's end dy is zero and adds nothing.
        REAL of_dnormed = 0, of_product = 0;
        EACH
        {
            REAL& up = upstream[p].item[v];
            REAL& n = normed[p].item[v];
            n = (n - m) * inv;
            dgain[p].item[v] += up * n;
            dbias[p].item[v] += up;
            up *= scale[p].item[v];
            of_dnormed += up;
            of_product += up * n;
        }
        const REAL a = sum_of_row(of_dnormed) / columns;
        const REAL b = sum_of_row(of_product) / columns;

        EACH normed[p].item[v] = inv * (upstream[p].item[v] - a - normed[p].item[v] * b);
#ifdef ADD
        load(upstream, dtotal + start, columns);
        EACH normed[p].item[v] += upstream[p].item[v];
#endif
        store(dx + start, normed, columns);
    }
    store(dgain_parts + (size_t)walker * columns, dgain, columns);
    store(dbias_parts + (size_t)walker * columns, dbias, columns);
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

// The walkers' shares are summed in an order that depends on no race.
// Grid: columns / ACROSS. Block: (ACROSS, DOWN).
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
