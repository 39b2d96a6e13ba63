// 03_tiled_flash.cu   attention on tiles of queries that meet tiles of keys in shared memory
//
// Idea: a block keeps a tile of queries and goes along the keys and values a tile at a time. A
//   number read once from device memory then serves a whole tile: each key ROWS queries. The online
//   softmax of 02 is done for ROWS queries at once. Backward: one kernel keeps queries and sums dq,
//   one keeps keys and sums dk and dv; nobody adds to another's sum, so repetitions agree to the
//   last bit.
// Arithmetic: 4 B H T S D operations forward, 14 B H T S D backward, as 02; a causal block stops at
//   the last key that its last query sees, so it does about half of them.
// Bytes: the keys and values are read once for ROWS queries: at ROWS = 64 a block does 32
//   operations for each byte of them (02: half an operation). Shared memory is now what is read
//   most: in the products of a thread's 4 x 2 numbers, 6 reads serve 8 multiplications.
// Budget: 256 threads of at most 128 registers (no spills by nvcc 13.0), two blocks an SM.
// Share of torch's attention in fp32, forward, length 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the idea: Dao et al. 2022, arXiv:2205.14135, alg. 1 and 4; queries outside, the
//   division last and the two kernels of backward: Dao 2023, arXiv:2307.08691, alg. 1 and section
//   3.2
//
// Shapes, heads, diagonal and mask as in 01_naive.cu, with V = D, a multiple of 16; log_sum and
// delta are (B, H, T). A block has 16 x 16 threads; thread (x, y) has the rows y, y + 16, ... and
// the columns x, x + 16, ... of every product. Shared memory is static and at most 48 KB (checked
// below): forward ROWS x COLS, backward TILE x TILE pairs of a query and a key meet at a time.

#ifndef REAL
#define REAL float // double for the gradient checker
#endif
#ifndef HEAD
#define HEAD 64 // D
#endif
#ifndef ROWS
#define ROWS 64
#endif
#ifndef COLS
#define COLS 32
#endif
#ifndef TILE
#define TILE 32
#endif
#ifndef MASK
#define MASK 0 // 1: the kernels look into a mask
#endif
#ifndef INFINITY
#define INFINITY __int_as_float(0x7f800000) // NVRTC has no math.h
#endif

constexpr int D = HEAD;
constexpr int SIDE = 16; // threads along each side of a block
constexpr int THREADS = SIDE * SIDE;
constexpr int WIDTH = D + 1; // of a row in shared memory: 16 rows' channel c lies in 16 banks
constexpr int MY_CHANNELS = D / SIDE; // of each row that a thread sums
constexpr unsigned ALL = 0xffffffff;
static_assert(D % SIDE == 0 && ROWS % SIDE == 0 && COLS % SIDE == 0 && TILE % SIDE == 0, "tiles");
static_assert(sizeof(REAL) * ((ROWS + COLS) * WIDTH + ROWS * (COLS + 1)) <= 48 * 1024, "forward");
static_assert(sizeof(REAL) * (4 * TILE * WIDTH + TILE * (TILE + 1)) <= 48 * 1024, "backward");

// Rows first, first + 1, ... of a head into shared memory. From `end` on they are zeros: they take
// part in products, with weight 0, and 0 * garbage might be no number.
template <int LENGTH>
__device__ void load_tile(REAL (&tile)[LENGTH][WIDTH], const REAL *head, int first, int end)
{
    for (int n = threadIdx.y * SIDE + threadIdx.x; n < LENGTH * D; n += THREADS) {
        const int row = n / D, channel = n % D;
        tile[row][channel] =
            first + row < end ? head[(long long)(first + row) * D + channel] : REAL(0);
    }
}

// product[i][j] = a[row y + 16 i] . b[row x + 16 j]
template <int LENGTH_A, int LENGTH_B>
__device__ void dots(REAL (&product)[LENGTH_A / SIDE][LENGTH_B / SIDE],
                     const REAL (&a)[LENGTH_A][WIDTH], const REAL (&b)[LENGTH_B][WIDTH])
{
    for (auto &row : product)
        for (REAL &number : row) number = 0;
#pragma unroll 8
    for (int c = 0; c < D; ++c) {
        REAL right[LENGTH_B / SIDE];
        for (int j = 0; j < LENGTH_B / SIDE; ++j) right[j] = b[threadIdx.x + j * SIDE][c];
        for (int i = 0; i < LENGTH_A / SIDE; ++i) {
            const REAL left = a[threadIdx.y + i * SIDE][c];
            for (int j = 0; j < LENGTH_B / SIDE; ++j) product[i][j] += left * right[j];
        }
    }
}

// sum[i][j] += pairs[row y + 16 i] @ rows[:, channel x + 16 j]
template <int LENGTH, int INNER>
__device__ void add_product(REAL (&sum)[LENGTH / SIDE][MY_CHANNELS],
                            const REAL (&pairs)[LENGTH][INNER + 1],
                            const REAL (&rows)[INNER][WIDTH])
{
#pragma unroll 8
    for (int n = 0; n < INNER; ++n) {
        REAL right[MY_CHANNELS];
        for (int j = 0; j < MY_CHANNELS; ++j) right[j] = rows[n][threadIdx.x + j * SIDE];
        for (int i = 0; i < LENGTH / SIDE; ++i) {
            const REAL left = pairs[threadIdx.y + i * SIDE][n];
            for (int j = 0; j < MY_CHANNELS; ++j) sum[i][j] += left * right[j];
        }
    }
}

template <int MINE>
__device__ void store_rows(REAL *head, const REAL (&sum)[MINE][MY_CHANNELS], REAL factor, int first,
                           int end)
{
    for (int i = 0; i < MINE; ++i) {
        const int row = first + threadIdx.y + i * SIDE;
        if (row < end)
            for (int j = 0; j < MY_CHANNELS; ++j)
                head[(long long)row * D + threadIdx.x + j * SIDE] = sum[i][j] * factor;
    }
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

extern "C" __global__ void __launch_bounds__(THREADS, 2) flash_forward(
    const REAL *q, const REAL *k, const REAL *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, REAL *out, REAL *log_sum, int H, int G,
    int T, int S, int diagonal, REAL scale)
{
    __shared__ REAL queries[ROWS][WIDTH];
    __shared__ REAL tile[COLS][WIDTH]; // of keys, then of values
    __shared__ REAL weights[ROWS][COLS + 1];
    const int tiles = (T + ROWS - 1) / ROWS, t0 = blockIdx.x % tiles * ROWS;
    const long long head = blockIdx.x / tiles; // b * H + h
    const int b = head / H, h = head % H;
    const long long keys = ((long long)b * G + h / (H / G)) * S * D;
    const Mask pairs = {mask + b * mask_b + h * mask_h, mask_t, mask_s, T, S, diagonal};
    const int end = min(S, min(T, t0 + ROWS) + diagonal); // the tile's last key, plus 1

    REAL mixed[ROWS / SIDE][MY_CHANNELS] = {}, peak[ROWS / SIDE], total[ROWS / SIDE] = {};
    for (REAL &number : peak) number = -REAL(INFINITY);
    load_tile(queries, q + head * T * D, t0, T);
    for (int s0 = 0; s0 < end; s0 += COLS) {
        __syncthreads(); // the last tile's values have been read
        load_tile(tile, k + keys, s0, S);
        __syncthreads();
        REAL logits[ROWS / SIDE][COLS / SIDE];
        dots<ROWS, COLS>(logits, queries, tile);
        for (int i = 0; i < ROWS / SIDE; ++i) {
            const int row = threadIdx.y + i * SIDE;
            REAL higher = peak[i];
            for (int j = 0; j < COLS / SIDE; ++j) {
                const bool seen = pairs.sees(t0 + row, s0 + threadIdx.x + j * SIDE);
                logits[i][j] = seen ? scale * logits[i][j] : -REAL(INFINITY);
                higher = logits[i][j] > higher ? logits[i][j] : higher;
            }
            for (int offset = SIDE / 2; offset > 0; offset /= 2) { // 16 lanes share the row
                const REAL other = __shfl_xor_sync(ALL, higher, offset, SIDE);
                higher = other > higher ? other : higher;
            }
            const REAL finite = higher == -REAL(INFINITY) ? REAL(0) : higher; // no -inf - -inf
            const REAL fade = exp(peak[i] - finite);
            peak[i] = higher;
            total[i] *= fade; // of this thread's keys alone: the lanes' sums meet at the end
            for (int j = 0; j < COLS / SIDE; ++j) {
                const REAL weight = exp(logits[i][j] - finite);
                weights[row][threadIdx.x + j * SIDE] = weight;
                total[i] += weight;
            }
            for (REAL &number : mixed[i]) number *= fade;
        }
        __syncthreads(); // the weights are written, the keys have been read
        load_tile(tile, v + keys, s0, S);
        __syncthreads();
        add_product<ROWS, COLS>(mixed, weights, tile);
    }
    for (int i = 0; i < ROWS / SIDE; ++i) {
        for (int offset = SIDE / 2; offset > 0; offset /= 2)
            total[i] += __shfl_xor_sync(ALL, total[i], offset, SIDE);
        const int t = t0 + threadIdx.y + i * SIDE;
        for (REAL &number : mixed[i]) number = total[i] == 0 ? REAL(0) : number / total[i];
        if (t < T && threadIdx.x == 0)
            log_sum[head * T + t] = total[i] == 0 ? REAL(0) : peak[i] + log(total[i]);
    }
    store_rows(out + head * T * D, mixed, REAL(1), t0, T);
}

// delta = sum(dout * out), which is sum(weights * dweights) over all keys: what softmax's backward
// takes from each dweight. 16 lanes share a row.
extern "C" __global__ void __launch_bounds__(THREADS, 2) flash_delta(
    long long rows, const REAL *dout, const REAL *out, REAL *delta)
{
    const long long n = (long long)blockIdx.x * SIDE + threadIdx.y;
    REAL sum = 0;
    if (n < rows)
        for (int c = threadIdx.x; c < D; c += SIDE) sum += dout[n * D + c] * out[n * D + c];
    for (int offset = SIDE / 2; offset > 0; offset /= 2)
        sum += __shfl_xor_sync(ALL, sum, offset, SIDE);
    if (n < rows && threadIdx.x == 0) delta[n] = sum;
}

// Of one tile of queries and one of keys: weights again, and the gradients of their logits.
__device__ void weigh(REAL (&weights)[TILE / SIDE][TILE / SIDE],
                      REAL (&dlogits)[TILE / SIDE][TILE / SIDE], const Mask &pairs,
                      const REAL *log_sum, const REAL *delta, int t0, int s0, REAL scale)
{
    for (int i = 0; i < TILE / SIDE; ++i) {
        const int t = t0 + threadIdx.y + i * SIDE;
        const REAL norm = t < pairs.T ? log_sum[t] : REAL(0);
        const REAL shared = t < pairs.T ? delta[t] : REAL(0);
        for (int j = 0; j < TILE / SIDE; ++j) { // in: weights holds q . k, dlogits dout . v
            const bool seen = pairs.sees(t, s0 + threadIdx.x + j * SIDE);
            weights[i][j] = seen ? exp(scale * weights[i][j] - norm) : REAL(0);
            dlogits[i][j] = weights[i][j] * (dlogits[i][j] - shared);
        }
    }
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) flash_dq(
    const REAL *q, const REAL *k, const REAL *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, const REAL *dout, const REAL *log_sum,
    const REAL *delta, REAL *dq, int H, int G, int T, int S, int diagonal, REAL scale)
{
    __shared__ REAL queries[TILE][WIDTH], douts[TILE][WIDTH], keys[TILE][WIDTH];
    __shared__ REAL values[TILE][WIDTH], shared_dlogits[TILE][TILE + 1];
    const int tiles = (T + TILE - 1) / TILE, t0 = blockIdx.x % tiles * TILE;
    const long long head = blockIdx.x / tiles; // b * H + h
    const int b = head / H, h = head % H;
    const long long first_key = ((long long)b * G + h / (H / G)) * S * D;
    const Mask pairs = {mask + b * mask_b + h * mask_h, mask_t, mask_s, T, S, diagonal};
    const int end = min(S, min(T, t0 + TILE) + diagonal);

    REAL sum[TILE / SIDE][MY_CHANNELS] = {};
    load_tile(queries, q + head * T * D, t0, T);
    load_tile(douts, dout + head * T * D, t0, T);
    for (int s0 = 0; s0 < end; s0 += TILE) {
        __syncthreads(); // the last tile has been read
        load_tile(keys, k + first_key, s0, S);
        load_tile(values, v + first_key, s0, S);
        __syncthreads();
        REAL weights[TILE / SIDE][TILE / SIDE], dlogits[TILE / SIDE][TILE / SIDE];
        dots<TILE, TILE>(weights, queries, keys);
        dots<TILE, TILE>(dlogits, douts, values);
        weigh(weights, dlogits, pairs, log_sum + head * T, delta + head * T, t0, s0, scale);
        for (int i = 0; i < TILE / SIDE; ++i)
            for (int j = 0; j < TILE / SIDE; ++j)
                shared_dlogits[threadIdx.y + i * SIDE][threadIdx.x + j * SIDE] = dlogits[i][j];
        __syncthreads();
        add_product<TILE, TILE>(sum, shared_dlogits, keys);
    }
    store_rows(dq + head * T * D, sum, scale, t0, T);
}

extern "C" __global__ void __launch_bounds__(THREADS, 2) flash_dkv(
    const REAL *q, const REAL *k, const REAL *v, const bool *mask, long long mask_b,
    long long mask_h, long long mask_t, long long mask_s, const REAL *dout, const REAL *log_sum,
    const REAL *delta, REAL *dk, REAL *dv, int H, int G, int T, int S, int diagonal, REAL scale)
{
    __shared__ REAL queries[TILE][WIDTH], douts[TILE][WIDTH], keys[TILE][WIDTH];
    __shared__ REAL values[TILE][WIDTH], turned[TILE][TILE + 1]; // weights.T, then dlogits.T
    const int tiles = (S + TILE - 1) / TILE, s0 = blockIdx.x % tiles * TILE, group = H / G;
    const long long head = blockIdx.x / tiles; // b * G + g
    const int b = head / G, g = head % G;

    REAL dkeys[TILE / SIDE][MY_CHANNELS] = {}, dvalues[TILE / SIDE][MY_CHANNELS] = {};
    load_tile(keys, k + head * S * D, s0, S);
    load_tile(values, v + head * S * D, s0, S);
    for (int h = g * group; h < (g + 1) * group; ++h) { // every head that reads these keys
        const Mask pairs = {mask + b * mask_b + h * mask_h, mask_t, mask_s, T, S, diagonal};
        const long long first_query = ((long long)b * H + h) * T;
        const int first = max(0, s0 - diagonal) / TILE * TILE; // no query before it sees a key
        for (int t0 = first; t0 < T; t0 += TILE) {
            __syncthreads();
            load_tile(queries, q + first_query * D, t0, T);
            load_tile(douts, dout + first_query * D, t0, T);
            __syncthreads();
            REAL weights[TILE / SIDE][TILE / SIDE], dlogits[TILE / SIDE][TILE / SIDE];
            dots<TILE, TILE>(weights, queries, keys);
            dots<TILE, TILE>(dlogits, douts, values);
            weigh(weights, dlogits, pairs, log_sum + first_query, delta + first_query, t0, s0,
                  scale);
            for (int i = 0; i < TILE / SIDE; ++i)
                for (int j = 0; j < TILE / SIDE; ++j)
                    turned[threadIdx.x + j * SIDE][threadIdx.y + i * SIDE] = weights[i][j];
            __syncthreads();
            add_product<TILE, TILE>(dvalues, turned, douts);
            __syncthreads();
            for (int i = 0; i < TILE / SIDE; ++i)
                for (int j = 0; j < TILE / SIDE; ++j)
                    turned[threadIdx.x + j * SIDE][threadIdx.y + i * SIDE] = dlogits[i][j];
            __syncthreads();
            add_product<TILE, TILE>(dkeys, turned, queries);
        }
    }
    store_rows(dk + head * S * D, dkeys, scale, s0, S);
    store_rows(dv + head * S * D, dvalues, REAL(1), s0, S);
}
