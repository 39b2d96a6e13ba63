// 04_wmma_flash.cu   tiled flash attention whose products run on tensor cores; fp16 or bf16
//
// Idea: the tiles of 03 as 16-bit numbers, and every product of them 16 x 16 x 16 numbers at a time
//   by WMMA, a warp's one instruction, with sums in fp32. Which thread holds which number of a WMMA
//   fragment is not told, so rows cannot be handled in registers: logits go through shared memory,
//   and the factor by which a row of the output fades comes as a fragment of its own.
// Arithmetic: 4 B H T S D operations forward, 14 B H T S D backward, as 03, on tensor cores.
// Bytes: half of 03's from device memory. Each logit goes to shared memory in fp32 and comes back
//   in 16 bits, 20 bytes for 4 D operations: the softmax in between may now take the most time.
// Budget: 128 threads of at most 255 registers, no spills by nvcc 13.0: two blocks an SM.
// Banks: rows are padded so that the eight rows which a fragment reads at once lie in different
//   banks, and two lanes share a row of logits in an order in which no two of the warp's meet.
// Share of torch's attention, forward, head size 128, length 4096 on an H100: not yet measured
// Runs on: sm_75 (fp16) sm_80 sm_90, emulator
// Source of the idea: CUDA C++ Programming Guide, "Warp Matrix Functions"; alg. as in 03
//
// Shapes, heads, diagonal and mask as in 03; D a multiple of 16 up to 128, rows 16-byte aligned.
// log_sum and delta are fp32. A block has 4 warps. Forward: each has 16 of 64 queries, keys come 32
// at a time. Backward: 32 queries meet 32 keys, each warp has 16 x 16 of the pairs, and half of the
// channels of 16 rows of each sum. Shared memory at D = 128 is 48 KB to the byte.

#include <mma.h>
#ifdef BF16
#include <cuda_bf16.h>
#define ROUND __float2bfloat16
#define WIDEN __bfloat162float
typedef __nv_bfloat16 Half;
#else
#include <cuda_fp16.h>
#define ROUND __float2half
#define WIDEN __half2float
typedef __half Half;
#endif
#ifndef HEAD
#define HEAD 64 // D
#endif
#ifndef MASK
#define MASK 0 // 1: the kernels look into a mask
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000) // NVRTC has no math.h
#endif

using namespace nvcuda;

constexpr int D = HEAD;
constexpr int EDGE = 16;            // of a fragment
constexpr int CHUNKS = D / EDGE;    // fragments that the channels fill
constexpr int SHARE = (CHUNKS + 1) / 2; // of them, those of one of two warps
constexpr int WARPS = 4, THREADS = 32 * WARPS;
constexpr int ROWS = EDGE * WARPS, COLS = 32; // queries and keys that meet in forward
constexpr int TILE = 32;                      // in backward
// Rows in shared memory are padded by 16 bytes, so that 8 of them start 4 banks apart.
constexpr int WIDTH = D + 8, FLOATS = 32 + 4, HALVES = 32 + 8;
constexpr unsigned ALL = 0xffffffff;
static_assert(D % EDGE == 0 && D <= 128, "heads of 16, 32, ... up to 128 channels");

using Left = wmma::fragment<wmma::matrix_a, EDGE, EDGE, EDGE, Half, wmma::row_major>;
using LeftTurned = wmma::fragment<wmma::matrix_a, EDGE, EDGE, EDGE, Half, wmma::col_major>;
using Right = wmma::fragment<wmma::matrix_b, EDGE, EDGE, EDGE, Half, wmma::row_major>;
using RightTurned = wmma::fragment<wmma::matrix_b, EDGE, EDGE, EDGE, Half, wmma::col_major>;
using Sum = wmma::fragment<wmma::accumulator, EDGE, EDGE, EDGE, float>;

// Rows first, first + 1, ... of a head into shared memory, 16 bytes a thread; zeros from `end` on.
template <int LENGTH>
__device__ void load_tile(Half (&tile)[LENGTH][WIDTH], const Half *head, int first, int end)
{
    constexpr int PIECES = D / 8; // of 16 bytes
    for (int n = threadIdx.x; n < LENGTH * PIECES; n += THREADS) {
        const int row = n / PIECES, channel = n % PIECES * 8;
        uint4 piece = make_uint4(0, 0, 0, 0);
        if (first + row < end)
            piece = *reinterpret_cast<const uint4 *>(head + (long long)(first + row) * D + channel);
        *reinterpret_cast<uint4 *>(&tile[row][channel]) = piece;
    }
}

// 16 x 16 pairs of rows: a[rows] @ b[rows].T, to where `pairs` points, FLOATS apart.
__device__ void dots(float *pairs, const Half *a, const Half *b)
{
    Sum sum;
    wmma::fill_fragment(sum, 0.0f);
    for (int c = 0; c < CHUNKS; ++c) {
        Left left;
        RightTurned right;
        wmma::load_matrix_sync(left, a + c * EDGE, WIDTH);
        wmma::load_matrix_sync(right, b + c * EDGE, WIDTH);
        wmma::mma_sync(sum, left, right, sum);
    }
    wmma::store_matrix_sync(pairs, sum, FLOATS, wmma::mem_row_major);
}

// One fragment of a result to device memory, through 16 x 16 floats of shared memory that are this
// warp's alone. Two lanes share a row, 16 bytes each, and `factor` is that row's.
__device__ void store_chunk(Half *head, const Sum &sum, float factor, int first, int end, int chunk,
                            float *scratch)
{
    const int row = threadIdx.x % 32 / 2, side = threadIdx.x % 2;
    wmma::store_matrix_sync(scratch, sum, FLOATS, wmma::mem_row_major);
    __syncwarp();
    if (first + row < end) {
        alignas(16) Half piece[8];
        for (int j = 0; j < 8; ++j) piece[j] = ROUND(scratch[row * FLOATS + side * 8 + j] * factor);
        Half *to = head + (long long)(first + row) * D + chunk * EDGE + side * 8;
        *reinterpret_cast<uint4 *>(to) = *reinterpret_cast<const uint4 *>(piece);
    }
    __syncwarp();
}

struct Mask { // of one (batch, head)
    const bool *start;
    long long step_t, step_s;
    int T, S, diagonal;

    __device__ bool sees(int t, int s) const
    {
        if (t >= T || s >= S || s > t + diagonal) return false;
        return !MASK || start[t * step_t + s * step_s];
    }
};

extern "C" __global__ void __launch_bounds__(THREADS, 1) wmma_forward(
    const Half *q, const Half *k, const Half *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, Half *out, float *log_sum, int H, int G,
    int T, int S, int diagonal, float scale)
{
    alignas(32) __shared__ Half queries[ROWS][WIDTH];
    alignas(32) __shared__ Half keys[COLS][WIDTH];
    alignas(32) __shared__ Half values[COLS][WIDTH];
    alignas(32) __shared__ float logits[ROWS][FLOATS];
    alignas(32) __shared__ Half weights[ROWS][HALVES];
    const int tiles = (T + ROWS - 1) / ROWS, t0 = blockIdx.x % tiles * ROWS;
    const long long head = blockIdx.x / tiles; // b * H + h
    const int b = head / H, h = head % H;
    const long long first_key = ((long long)b * G + h / (H / G)) * S * D;
    const Mask pairs = {mask + b * mask_b + h * mask_h, mask_t, mask_s, T, S, diagonal};
    const int end = min(S, min(T, t0 + ROWS) + diagonal); // the tile's last key, plus 1
    const int first = threadIdx.x / 32 * EDGE; // this warp's rows; two lanes share each
    const int row = first + threadIdx.x % 32 / 2, side = threadIdx.x % 2, t = t0 + row;
    const int start = threadIdx.x % 32 / 16 * 2 + side; // rows 8 apart begin at different banks

    Sum mixed[CHUNKS];
    for (Sum &chunk : mixed) wmma::fill_fragment(chunk, 0.0f);
    float peak = -INFINITY, total = 0;
    load_tile(queries, q + head * T * D, t0, T);
    for (int s0 = 0; s0 < end; s0 += COLS) {
        __syncthreads(); // the last tile has been read
        load_tile(keys, k + first_key, s0, S);
        load_tile(values, v + first_key, s0, S);
        __syncthreads();
        for (int j = 0; j < COLS; j += EDGE)
            dots(&logits[first][j], &queries[first][0], &keys[j][0]);
        __syncwarp(); // the rest of this round is between the lanes of a warp
        float higher = peak;
        for (int n = 0; n < COLS; n += 2) { // this lane's keys: every other one
            const int j = (start + n) % COLS;
            const float logit = pairs.sees(t, s0 + j) ? scale * logits[row][j] : -INFINITY;
            higher = fmaxf(higher, logits[row][j] = logit);
        }
        higher = fmaxf(higher, __shfl_xor_sync(ALL, higher, 1));
        const float finite = higher == -INFINITY ? 0 : higher; // no -inf - -inf
        const float fade = expf(peak - finite);
        peak = higher;
        total *= fade; // of this lane's keys alone: the two lanes' sums meet at the end
        for (int n = 0; n < COLS; n += 2) {
            const int j = (start + n) % COLS;
            const float weight = expf(logits[row][j] - finite);
            weights[row][j] = ROUND(weight);
            total += weight;
        }
        for (int n = 0; n < EDGE; n += 2) logits[row][(start + n) % EDGE] = fade;
        __syncwarp();
        Sum fades; // lies as `mixed` does, so number meets number whatever the layout is
        wmma::load_matrix_sync(fades, &logits[first][0], FLOATS, wmma::mem_row_major);
        for (int c = 0; c < CHUNKS; ++c) {
            for (int e = 0; e < mixed[c].num_elements; ++e) mixed[c].x[e] *= fades.x[e];
            for (int j = 0; j < COLS; j += EDGE) {
                Left left;
                Right right;
                wmma::load_matrix_sync(left, &weights[first][j], HALVES);
                wmma::load_matrix_sync(right, &values[j][c * EDGE], WIDTH);
                wmma::mma_sync(mixed[c], left, right, mixed[c]);
            }
        }
    }
    total += __shfl_xor_sync(ALL, total, 1);
    const float inverse = total == 0 ? 0 : 1 / total;
    if (t < T && side == 0) log_sum[head * T + t] = total == 0 ? 0 : peak + logf(total);
    __syncwarp(); // all lanes have their fades
    for (int c = 0; c < CHUNKS; ++c)
        store_chunk(out + head * T * D, mixed[c], inverse, t0 + first, T, c, &logits[first][0]);
}

// delta = sum(dout * out), as in 03; a warp a row.
extern "C" __global__ void __launch_bounds__(THREADS, 1) wmma_delta(
    long long rows, const Half *dout, const Half *out, float *delta)
{
    const long long n = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
    if (n >= rows) return;
    float sum = 0;
    for (int c = threadIdx.x % 32; c < D; c += 32)
        sum += WIDEN(dout[n * D + c]) * WIDEN(out[n * D + c]);
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(ALL, sum, offset);
    if (threadIdx.x % 32 == 0) delta[n] = sum;
}

// What one round of backward has in shared memory; sums of queries and keys stay in fragments.
struct Round {
    Half queries[TILE][WIDTH], douts[TILE][WIDTH], keys[TILE][WIDTH], values[TILE][WIDTH];
    float logits[TILE][FLOATS], dweights[TILE][FLOATS];
    Half weights[TILE][HALVES], dlogits[TILE][HALVES]; // 32 queries x 32 keys
};
static_assert(sizeof(Round) <= 48 * 1024, "static shared memory");

// Weights again, and the gradients of their logits, of one tile of queries and one of keys.
__device__ void weigh(Round &tile, const Mask &pairs, const float *log_sum, const float *delta,
                      int t0, int s0, float scale)
{
    const int i = threadIdx.x / 64 * EDGE, j = threadIdx.x / 32 % 2 * EDGE; // this warp's corner
    dots(&tile.logits[i][j], &tile.queries[i][0], &tile.keys[j][0]);
    dots(&tile.dweights[i][j], &tile.douts[i][0], &tile.values[j][0]);
    __syncthreads();
    for (int n = threadIdx.x; n < TILE * TILE; n += THREADS) {
        const int row = n / TILE, col = n % TILE, t = t0 + row;
        float weight = 0, dlogit = 0;
        if (pairs.sees(t, s0 + col)) {
            weight = expf(scale * tile.logits[row][col] - log_sum[t]);
            dlogit = weight * (tile.dweights[row][col] - delta[t]);
        }
        tile.weights[row][col] = ROUND(weight);
        tile.dlogits[row][col] = ROUND(dlogit);
    }
    __syncthreads();
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) wmma_dq(
    const Half *q, const Half *k, const Half *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, const Half *dout, const float *log_sum,
    const float *delta, Half *dq, int H, int G, int T, int S, int diagonal, float scale)
{
    alignas(32) __shared__ Round tile;
    const int tiles = (T + TILE - 1) / TILE, t0 = blockIdx.x % tiles * TILE;
    const long long head = blockIdx.x / tiles; // b * H + h
    const int b = head / H, h = head % H;
    const long long first_key = ((long long)b * G + h / (H / G)) * S * D;
    const Mask pairs = {mask + b * mask_b + h * mask_h, mask_t, mask_s, T, S, diagonal};
    const int end = min(S, min(T, t0 + TILE) + diagonal);
    const int i = threadIdx.x / 64 * EDGE, half = threadIdx.x / 32 % 2; // this warp's part of dq

    Sum sum[SHARE];
    for (Sum &chunk : sum) wmma::fill_fragment(chunk, 0.0f);
    load_tile(tile.queries, q + head * T * D, t0, T);
    load_tile(tile.douts, dout + head * T * D, t0, T);
    for (int s0 = 0; s0 < end; s0 += TILE) {
        __syncthreads(); // the last tile has been read
        load_tile(tile.keys, k + first_key, s0, S);
        load_tile(tile.values, v + first_key, s0, S);
        __syncthreads();
        weigh(tile, pairs, log_sum + head * T, delta + head * T, t0, s0, scale);
        for (int n = 0; n < SHARE; ++n) {
            const int c = 2 * n + half;
            if (c >= CHUNKS) continue;
            for (int j = 0; j < TILE; j += EDGE) {
                Left left;
                Right right;
                wmma::load_matrix_sync(left, &tile.dlogits[i][j], HALVES);
                wmma::load_matrix_sync(right, &tile.keys[j][c * EDGE], WIDTH);
                wmma::mma_sync(sum[n], left, right, sum[n]);
            }
        }
    }
    for (int n = 0; n < SHARE; ++n)
        if (2 * n + half < CHUNKS)
            store_chunk(dq + head * T * D, sum[n], scale, t0 + i, T, 2 * n + half,
                        &tile.logits[i][half * EDGE]);
}

// sum += pairs[:, rows i of 16].T @ rows[:, chunk c]
__device__ void add_turned(Sum &sum, const Half (&pairs)[TILE][HALVES],
                           const Half (&rows)[TILE][WIDTH], int i, int c)
{
    for (int j = 0; j < TILE; j += EDGE) {
        LeftTurned left;
        Right right;
        wmma::load_matrix_sync(left, &pairs[j][i], HALVES);
        wmma::load_matrix_sync(right, &rows[j][c * EDGE], WIDTH);
        wmma::mma_sync(sum, left, right, sum);
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) wmma_dkv(
    const Half *q, const Half *k, const Half *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, const Half *dout, const float *log_sum,
    const float *delta, Half *dk, Half *dv, int H, int G, int T, int S, int diagonal, float scale)
{
    alignas(32) __shared__ Round tile;
    const int tiles = (S + TILE - 1) / TILE, s0 = blockIdx.x % tiles * TILE, group = H / G;
    const long long head = blockIdx.x / tiles; // b * G + g
    const int b = head / G, g = head % G;
    const int i = threadIdx.x / 64 * EDGE, half = threadIdx.x / 32 % 2;

    Sum dkeys[SHARE], dvalues[SHARE];
    for (Sum &chunk : dkeys) wmma::fill_fragment(chunk, 0.0f);
    for (Sum &chunk : dvalues) wmma::fill_fragment(chunk, 0.0f);
    load_tile(tile.keys, k + head * S * D, s0, S);
    load_tile(tile.values, v + head * S * D, s0, S);
    for (int h = g * group; h < (g + 1) * group; ++h) { // every head that reads these keys
        const Mask pairs = {mask + b * mask_b + h * mask_h, mask_t, mask_s, T, S, diagonal};
        const long long first_query = ((long long)b * H + h) * T;
        const int first = max(0, s0 - diagonal) / TILE * TILE; // no query before it sees a key
        for (int t0 = first; t0 < T; t0 += TILE) {
            __syncthreads();
            load_tile(tile.queries, q + first_query * D, t0, T);
            load_tile(tile.douts, dout + first_query * D, t0, T);
            __syncthreads();
            weigh(tile, pairs, log_sum + first_query, delta + first_query, t0, s0, scale);
            for (int n = 0; n < SHARE; ++n) {
                const int c = 2 * n + half;
                if (c >= CHUNKS) continue;
                add_turned(dvalues[n], tile.weights, tile.douts, i, c);
                add_turned(dkeys[n], tile.dlogits, tile.queries, i, c);
            }
        }
    }
    for (int n = 0; n < SHARE; ++n) {
        if (2 * n + half >= CHUNKS) continue;
        float *scratch = &tile.logits[i][half * EDGE];
        store_chunk(dk + head * S * D, dkeys[n], scale, s0 + i, S, 2 * n + half, scratch);
        store_chunk(dv + head * S * D, dvalues[n], 1, s0 + i, S, 2 * n + half, scratch);
    }
}
