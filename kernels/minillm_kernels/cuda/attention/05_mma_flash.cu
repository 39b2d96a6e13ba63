// 05_mma_flash.cu   flash attention with the softmax in registers, by mma.sync; fp16 or bf16
//
// Idea: PTX tells what WMMA hides: which lane holds which number of a product. A lane of four has 2
//   of the 8 columns of a row, so a row's softmax is two shuffles, and what the lanes hold of the
//   weights is just what the next product wants as its left operand: nothing goes through shared
//   memory but keys and values. These arrive by cp.async while the tensor cores work on what came
//   before.
// Arithmetic: 4 B H T S D operations forward, 14 B H T S D backward, as 04.
// Bytes: 04's from device memory. Of shared memory a warp reads each key and value once for 16
//   queries, 4 D bytes for 64 D operations; 04 moved 20 bytes a logit besides. Logits are kept in
//   powers of two: exp2 is one instruction.
// Budget: 128 threads, at D = 128 up to 255 registers by nvcc 13.0, no spills: two blocks an SM.
// Share of torch's attention, forward, head size 128, length 4096 on an H100: not yet measured
// Runs on: sm_80 sm_90; it has never run on a GPU. Checked on the CPU with a model of its PTX.
// Source of the idea: Dao 2023, arXiv:2307.08691, section 3; PTX ISA 9.0, sections on mma.m16n8k16,
//   ldmatrix and cp.async
//
// Shapes, heads, diagonal and mask as in 03; D is 64 or 128, rows are 16-byte aligned; log_sum and
// delta are fp32. A block has 4 warps. Forward and dq: each has 16 of 64 queries; dk and dv: each
// has 16 of 64 keys. Shared memory is static: 32 KB forward and for dq, 48 KB for dk and dv at D =
// 128.

#ifdef BF16
#include <cuda_bf16.h>
#define HALF __nv_bfloat16
#define ROUND_TWO __floats2bfloat162_rn
#define WIDEN __bfloat162float
#define TYPE "bf16"
#else
#include <cuda_fp16.h>
#define HALF __half
#define ROUND_TWO __floats2half2_rn
#define WIDEN __half2float
#define TYPE "f16"
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

constexpr int D = HEAD;
constexpr int CHUNKS = D / 8;   // of a row, 16 bytes each
constexpr int PIECES = D / 16;  // of a row, each the depth of one mma
constexpr int WARPS = 4, THREADS = 32 * WARPS;
constexpr int ROWS = 16 * WARPS; // queries of a block (dk and dv: keys)
constexpr int COLS = 64;         // keys that come at a time in forward
constexpr int KEYS = 32;         // for dq
constexpr int QUERIES = 16;      // queries that come at a time for dk and dv
constexpr unsigned ALL = 0xffffffff;
constexpr float LOG2E = 1.4426950408889634f, LN2 = 0.6931471805599453f;
static_assert(D == 64 || D == 128, "rows of 8 or 16 chunks");

// ---- PTX ---------------------------------------------------------------------------------------
#ifdef PTX_MODEL
#include PTX_MODEL
#else
__device__ unsigned shared_address(const void *pointer)
{
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Copy 16 bytes, or (bytes = 0) write 16 zeros; it has arrived when its group has.
__device__ void copy_async(void *to, const void *from, int bytes)
{
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;" ::"r"(shared_address(to)),
                 "l"(from), "r"(bytes)
                 : "memory");
}

__device__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until at most `pending` of this thread's groups are still on their way.
template <int pending> __device__ void copies_wait()
{
    asm volatile("cp.async.wait_group %0;" ::"n"(pending) : "memory");
}

// Four 8 x 8 matrices: lane l points at row l % 8 of matrix l / 8, and gets of each the elements
// (l / 4, l % 4 * 2 + {0, 1}), of the transposed (l % 4 * 2 + {0, 1}, l / 4).
__device__ void load_matrices(unsigned (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

__device__ void load_matrices_transposed(unsigned (&r)[4], const void *row)
{
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row))
                 : "memory");
}

// sums (16 x 8) += a (16 x 16) @ b (16 x 8). Of the sums a lane holds the elements
// (l / 4, l % 4 * 2 + {0, 1}), and the same 8 rows below.
__device__ void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1)
{
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// ---- Tiles -------------------------------------------------------------------------------------
// Chunk c of a row in shared memory. The chunks of row r are permuted by r % 8, so that 8 rows'
// chunks c lie in 8 different places of the 128 bytes that all banks give at once.
__device__ HALF *chunk(HALF *tile, int row, int c)
{
    return tile + (row * CHUNKS + (c ^ (row % 8))) * 8;
}

// Order rows first, first + 1, ... of a head for shared memory; zeros from `end` on.
template <int LENGTH>
__device__ void fetch(HALF *tile, const HALF *head, int first, int end)
{
    for (int n = threadIdx.x; n < LENGTH * CHUNKS; n += THREADS) {
        const int row = n / CHUNKS, c = n % CHUNKS;
        const bool there = first + row < end;
        const HALF *from = there ? head + (long long)(first + row) * D + c * 8 : head;
        copy_async(chunk(tile, row, c), from, there ? 16 : 0);
    }
}

// Left operand: rows `row` to row + 15, channels 16 p to 16 p + 15.
__device__ void load_left(unsigned (&a)[4], HALF *tile, int row, int p)
{
    const int lane = threadIdx.x % 32;
    load_matrices(a, chunk(tile, row + lane % 16, p * 2 + lane / 16));
}

// Right operand for a product with 16 rows transposed (q @ k.T): b[0], b[1] make the first 8
// columns of the result, b[2], b[3] the next.
__device__ void load_right_turned(unsigned (&b)[4], HALF *tile, int row, int p)
{
    const int lane = threadIdx.x % 32;
    load_matrices(b, chunk(tile, row + lane % 8 + lane / 16 * 8, p * 2 + lane / 8 % 2));
}

// Right operand for a product with 16 rows as they are (weights @ v), channels 16 p to 16 p + 15.
__device__ void load_right(unsigned (&b)[4], HALF *tile, int row, int p)
{
    const int lane = threadIdx.x % 32;
    load_matrices_transposed(b, chunk(tile, row + lane % 16, p * 2 + lane / 16));
}

__device__ unsigned two(float low, float high)
{
    const auto pair = ROUND_TWO(low, high);
    return *reinterpret_cast<const unsigned *>(&pair);
}

// 16 x 16 sums, as two results of 8 columns hold them, are a left operand once they are rounded.
__device__ void as_left(unsigned (&a)[4], const float (&sums)[2][4])
{
    for (int i = 0; i < 4; ++i) a[i] = two(sums[i / 2][i % 2 * 2], sums[i / 2][i % 2 * 2 + 1]);
}

// sums (16 x D) += a (16 x 16) @ rows (16 x D)
__device__ void add_product(float (&sums)[CHUNKS][4], const unsigned (&a)[4], HALF *tile, int row)
{
#pragma unroll
    for (int p = 0; p < PIECES; ++p) {
        unsigned b[4];
        load_right(b, tile, row, p);
        multiply_add(sums[2 * p], a, b[0], b[1]);
        multiply_add(sums[2 * p + 1], a, b[2], b[3]);
    }
}

// Rows `row` and row + 8 of this lane, a pair of channels at a time.
__device__ void store_rows(HALF *head, const float (&sums)[CHUNKS][4], const float (&factor)[2],
                           int row, int end)
{
    const int channel = threadIdx.x % 4 * 2;
    for (int i = 0; i < 2; ++i)
        if (row + 8 * i < end)
            for (int c = 0; c < CHUNKS; ++c)
                *reinterpret_cast<unsigned *>(head + (long long)(row + 8 * i) * D + c * 8 +
                                              channel) =
                    two(sums[c][2 * i] * factor[i], sums[c][2 * i + 1] * factor[i]);
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

// ---- Kernels -----------------------------------------------------------------------------------
extern "C" __global__ void __launch_bounds__(THREADS) mma_forward(
    const HALF *q, const HALF *k, const HALF *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, HALF *out, float *log_sum, int H, int G,
    int T, int S, int diagonal, float scale)
{
    alignas(128) __shared__ HALF keys[COLS * D];
    alignas(128) __shared__ HALF values[COLS * D];
    const int tiles = (T + ROWS - 1) / ROWS, t0 = blockIdx.x % tiles * ROWS;
    const long long head = blockIdx.x / tiles; // b * H + h
    const int b = head / H, h = head % H;
    const long long first_key = ((long long)b * G + h / (H / G)) * S * D;
    const Mask pairs = {mask + b * mask_b + h * mask_h, mask_t, mask_s, T, S, diagonal};
    const int end = min(S, min(T, t0 + ROWS) + diagonal); // the tile's last key, plus 1
    const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16;
    const int t = t0 + first + lane / 4; // this lane's rows are t and t + 8

    unsigned queries[PIECES][4]; // for good in registers; they come by way of the keys' place
    fetch<ROWS>(keys, q + head * T * D, t0, T);
    copies_commit();
    copies_wait<0>();
    __syncthreads();
    for (int p = 0; p < PIECES; ++p) load_left(queries[p], keys, first, p);
    __syncthreads();
    fetch<COLS>(keys, k + first_key, 0, S);
    copies_commit();
    fetch<COLS>(values, v + first_key, 0, S);
    copies_commit();

    float mixed[CHUNKS][4] = {}, peak[2] = {-INFINITY, -INFINITY}, total[2] = {};
    for (int s0 = 0; s0 < end; s0 += COLS) {
        copies_wait<1>(); // the keys are there, the values may be on their way
        __syncthreads();
        float logits[COLS / 16][2][4] = {};
#pragma unroll
        for (int n = 0; n < COLS / 16; ++n)
#pragma unroll
            for (int p = 0; p < PIECES; ++p) {
                unsigned right[4];
                load_right_turned(right, keys, n * 16, p);
                multiply_add(logits[n][0], queries[p], right[0], right[1]);
                multiply_add(logits[n][1], queries[p], right[2], right[3]);
            }
        __syncthreads(); // the keys have been read: the next ones may come
        fetch<COLS>(keys, k + first_key, s0 + COLS, S);
        copies_commit();

        const bool whole = !MASK && s0 + COLS <= S && s0 + COLS <= t0 + diagonal + 1;
        float higher[2] = {peak[0], peak[1]}, finite[2], fade[2];
#pragma unroll
        for (int n = 0; n < COLS / 16; ++n)
            for (int j = 0; j < 2; ++j)
                for (int e = 0; e < 4; ++e) {
                    const int s = s0 + n * 16 + j * 8 + lane % 4 * 2 + e % 2;
                    const bool seen = whole || pairs.sees(t + e / 2 * 8, s);
                    logits[n][j][e] = seen ? scale * LOG2E * logits[n][j][e] : -INFINITY;
                    higher[e / 2] = fmaxf(higher[e / 2], logits[n][j][e]);
                }
        for (int i = 0; i < 2; ++i) {
            for (int offset = 1; offset < 4; offset *= 2) // four lanes share a row
                higher[i] = fmaxf(higher[i], __shfl_xor_sync(ALL, higher[i], offset));
            finite[i] = higher[i] == -INFINITY ? 0 : higher[i]; // no -inf - -inf
            fade[i] = exp2f(peak[i] - finite[i]);
            peak[i] = higher[i];
            total[i] *= fade[i]; // of this lane's keys: the four lanes' sums meet at the end
        }
#pragma unroll
        for (int n = 0; n < COLS / 16; ++n)
            for (int j = 0; j < 2; ++j)
                for (int e = 0; e < 4; ++e) {
                    logits[n][j][e] = exp2f(logits[n][j][e] - finite[e / 2]);
                    total[e / 2] += logits[n][j][e];
                }
        for (int c = 0; c < CHUNKS; ++c)
            for (int e = 0; e < 4; ++e) mixed[c][e] *= fade[e / 2];

        copies_wait<1>(); // the values are there, the next keys may be on their way
        __syncthreads();
#pragma unroll
        for (int n = 0; n < COLS / 16; ++n) {
            unsigned weights[4];
            as_left(weights, logits[n]);
            add_product(mixed, weights, values, n * 16);
        }
        __syncthreads();
        fetch<COLS>(values, v + first_key, s0 + COLS, S);
        copies_commit();
    }
    copies_wait<0>();
    float inverse[2];
    for (int i = 0; i < 2; ++i) {
        for (int offset = 1; offset < 4; offset *= 2)
            total[i] += __shfl_xor_sync(ALL, total[i], offset);
        inverse[i] = total[i] == 0 ? 0 : 1 / total[i];
        if (t + 8 * i < T && lane % 4 == 0)
            log_sum[head * T + t + 8 * i] =
                total[i] == 0 ? 0 : LN2 * (peak[i] + log2f(total[i]));
    }
    store_rows(out + head * T * D, mixed, inverse, t, T);
}

// delta = sum(dout * out), as in 03; a warp a row.
extern "C" __global__ void __launch_bounds__(THREADS) mma_delta(
    long long rows, const HALF *dout, const HALF *out, float *delta)
{
    const long long n = (long long)blockIdx.x * WARPS + threadIdx.x / 32;
    if (n >= rows) return;
    float sum = 0;
    for (int c = threadIdx.x % 32; c < D; c += 32)
        sum += WIDEN(dout[n * D + c]) * WIDEN(out[n * D + c]);
    for (int offset = 16; offset > 0; offset /= 2) sum += __shfl_xor_sync(ALL, sum, offset);
    if (threadIdx.x % 32 == 0) delta[n] = sum;
}

extern "C" __global__ void __launch_bounds__(THREADS) mma_dq(
    const HALF *q, const HALF *k, const HALF *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, const HALF *dout, const float *log_sum,
    const float *delta, HALF *dq, int H, int G, int T, int S, int diagonal, float scale)
{
    alignas(128) __shared__ HALF stages[2][2 * KEYS * D]; // KEYS keys and their values, twice
    const int tiles = (T + ROWS - 1) / ROWS, t0 = blockIdx.x % tiles * ROWS;
    const long long head = blockIdx.x / tiles; // b * H + h
    const int b = head / H, h = head % H;
    const long long first_key = ((long long)b * G + h / (H / G)) * S * D;
    const Mask pairs = {mask + b * mask_b + h * mask_h, mask_t, mask_s, T, S, diagonal};
    const int end = min(S, min(T, t0 + ROWS) + diagonal);
    const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16, t = t0 + first + lane / 4;

    unsigned queries[PIECES][4], douts[PIECES][4]; // ROWS = 2 KEYS of each fit into a stage
    fetch<ROWS>(stages[0], q + head * T * D, t0, T);
    fetch<ROWS>(stages[1], dout + head * T * D, t0, T);
    copies_commit();
    copies_wait<0>();
    __syncthreads();
    for (int p = 0; p < PIECES; ++p) {
        load_left(queries[p], stages[0], first, p);
        load_left(douts[p], stages[1], first, p);
    }
    __syncthreads();
    float norm[2], shared[2], sum[CHUNKS][4] = {};
    for (int i = 0; i < 2; ++i) {
        norm[i] = t + 8 * i < T ? LOG2E * log_sum[head * T + t + 8 * i] : 0;
        shared[i] = t + 8 * i < T ? delta[head * T + t + 8 * i] : 0;
    }
    const auto order = [&](int stage, int s0) {
        fetch<KEYS>(stages[stage], k + first_key, s0, S);
        fetch<KEYS>(stages[stage] + KEYS * D, v + first_key, s0, S);
        copies_commit();
    };
    order(0, 0);
    for (int s0 = 0, now = 0; s0 < end; s0 += KEYS, now ^= 1) {
        order(now ^ 1, s0 + KEYS);
        copies_wait<1>();
        __syncthreads();
        HALF *keys = stages[now], *values = stages[now] + KEYS * D;
#pragma unroll
        for (int n = 0; n < KEYS / 16; ++n) {
            float logits[2][4] = {}, dlogits[2][4] = {};
#pragma unroll
            for (int p = 0; p < PIECES; ++p) {
                unsigned right[4];
                load_right_turned(right, keys, n * 16, p);
                multiply_add(logits[0], queries[p], right[0], right[1]);
                multiply_add(logits[1], queries[p], right[2], right[3]);
                load_right_turned(right, values, n * 16, p);
                multiply_add(dlogits[0], douts[p], right[0], right[1]);
                multiply_add(dlogits[1], douts[p], right[2], right[3]);
            }
            for (int j = 0; j < 2; ++j)
                for (int e = 0; e < 4; ++e) {
                    const int s = s0 + n * 16 + j * 8 + lane % 4 * 2 + e % 2;
                    const bool seen = pairs.sees(t + e / 2 * 8, s);
                    const float power = scale * LOG2E * logits[j][e] - norm[e / 2];
                    dlogits[j][e] = seen ? exp2f(power) * (dlogits[j][e] - shared[e / 2]) : 0;
                }
            unsigned left[4];
            as_left(left, dlogits);
            add_product(sum, left, keys, n * 16);
        }
        __syncthreads();
    }
    copies_wait<0>();
    const float factor[2] = {scale, scale};
    store_rows(dq + head * T * D, sum, factor, t, T);
}

extern "C" __global__ void __launch_bounds__(THREADS, 1) mma_dkv(
    const HALF *q, const HALF *k, const HALF *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, const HALF *dout, const float *log_sum,
    const float *delta, HALF *dk, HALF *dv, int H, int G, int T, int S, int diagonal, float scale)
{
    alignas(128) __shared__ HALF keys[ROWS * D];
    alignas(128) __shared__ HALF values[ROWS * D];
    alignas(128) __shared__ HALF stages[2][2 * QUERIES * D]; // queries and their douts, twice
    const int tiles = (S + ROWS - 1) / ROWS, s0 = blockIdx.x % tiles * ROWS, group = H / G;
    const long long head = blockIdx.x / tiles; // b * G + g
    const int b = head / G, g = head % G;
    const int lane = threadIdx.x % 32, first = threadIdx.x / 32 * 16, s = s0 + first + lane / 4;
    const int from = max(0, s0 - diagonal) / QUERIES * QUERIES; // no query before sees a key
    const int rounds = max(0, T - from + QUERIES - 1) / QUERIES; // of each head that reads them

    const auto order = [&](int n) { // round n of all: the heads one after the other
        const int h = g * group + n / max(rounds, 1), t0 = from + n % max(rounds, 1) * QUERIES;
        const long long rows = ((long long)b * H + h) * T * D;
        const int stop = n < group * rounds ? T : 0; // nothing but zeros after the last round
        HALF *stage = stages[n % 2];
        fetch<QUERIES>(stage, stop ? q + rows : q, t0, stop);
        fetch<QUERIES>(stage + QUERIES * D, stop ? dout + rows : dout, t0, stop);
        copies_commit();
    };
    fetch<ROWS>(keys, k + head * S * D, s0, S);
    fetch<ROWS>(values, v + head * S * D, s0, S);
    order(0); // in one group with the keys and values
    float dkeys[CHUNKS][4] = {}, dvalues[CHUNKS][4] = {};
    for (int n = 0; n < group * rounds; ++n) {
        order(n + 1);
        copies_wait<1>();
        __syncthreads();
        const int h = g * group + n / rounds, t0 = from + n % rounds * QUERIES;
        const Mask pairs = {mask + b * mask_b + h * mask_h, mask_t, mask_s, T, S, diagonal};
        const float *log_sums = log_sum + ((long long)b * H + h) * T;
        const float *deltas = delta + ((long long)b * H + h) * T;
        HALF *queries = stages[n % 2], *douts = stages[n % 2] + QUERIES * D;
        float weights[2][4] = {}, dlogits[2][4] = {}; // transposed: 16 keys x 16 queries
#pragma unroll 2 // no more: it would take registers that the sums need
        for (int p = 0; p < PIECES; ++p) {
            unsigned left[4], right[4];
            load_left(left, keys, first, p);
            load_right_turned(right, queries, 0, p);
            multiply_add(weights[0], left, right[0], right[1]);
            multiply_add(weights[1], left, right[2], right[3]);
            load_left(left, values, first, p);
            load_right_turned(right, douts, 0, p);
            multiply_add(dlogits[0], left, right[0], right[1]);
            multiply_add(dlogits[1], left, right[2], right[3]);
        }
        for (int j = 0; j < 2; ++j)
            for (int e = 0; e < 4; ++e) {
                const int t = t0 + j * 8 + lane % 4 * 2 + e % 2;
                const bool seen = pairs.sees(t, s + e / 2 * 8);
                const float norm = t < T ? log_sums[t] : 0, shared = t < T ? deltas[t] : 0;
                weights[j][e] = seen ? exp2f(LOG2E * (scale * weights[j][e] - norm)) : 0;
                dlogits[j][e] = weights[j][e] * (dlogits[j][e] - shared);
            }
        unsigned left[4];
        as_left(left, weights);
        add_product(dvalues, left, douts, 0);
        as_left(left, dlogits);
        add_product(dkeys, left, queries, 0);
        __syncthreads();
    }
    copies_wait<0>();
    const float factor[2] = {scale, scale}, one[2] = {1, 1};
    store_rows(dk + head * S * D, dkeys, factor, s, S);
    store_rows(dv + head * S * D, dvalues, one, s, S);
}
