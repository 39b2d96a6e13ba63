// 04_online.cu   loss = mean over rows of -sum_v q_v log softmax(logits)_v, and its backward
//
// Idea: read the logits once. The maximum and the sum of exponentials are found in one walk, 16
//   bytes at a time: a thread scales its sum down whenever a larger score comes, as in softmax/05.
//   Backward was one reading and one writing before; it gains the 16 bytes.
// Arithmetic: as in 03, and one more exponential for every VECTOR numbers forward.
// Bytes: forward 4 a number in fp32 (8 with label smoothing, whose mean is a walk of its own),
//   backward 8: each array once, which is the least there is.
// Share of copy bandwidth at 4096 x 50304 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Limits: VECTOR divides columns, and the arrays begin at a multiple of its bytes (else VECTOR=1).
// Source of the idea: Milakov & Gimelshein 2018, arXiv:1805.02867, algorithm 3

#ifndef REAL
#define REAL float
#endif
#ifndef VECTOR
#define VECTOR ((int)(16 / sizeof(REAL)))
#endif
#define MOST_THREADS 512
#define ALL_LANES 0xffffffffu

struct alignas(sizeof(REAL) * VECTOR) Pack {
    REAL item[VECTOR];
};

// The largest score yet, and the sum of exp(score - largest).
struct Running {
    REAL largest, total;
};

// exp(score - largest), where -inf beside -inf counts nothing.
__device__ REAL weight(REAL score, REAL largest)
{
    return exp(score - (largest == (REAL)__int_as_float(0xff800000) ? 0 : largest));
}

__device__ Running merged(Running a, Running b)
{
    const REAL largest = a.largest > b.largest ? a.largest : b.largest;
    return {largest, a.total * weight(a.largest, largest) + b.total * weight(b.largest, largest)};
}

__device__ Running across_warp(Running value)
{
#pragma unroll
    for (int away = 16; away > 0; away /= 2) {
        const Running other = {__shfl_xor_sync(ALL_LANES, value.largest, away),
                               __shfl_xor_sync(ALL_LANES, value.total, away)};
        value = merged(value, other);
    }
    return value;
}

__device__ REAL across_warp(REAL value)
{
#pragma unroll
    for (int away = 16; away > 0; away /= 2) value += __shfl_xor_sync(ALL_LANES, value, away);
    return value;
}

// A value of each of the blockDim.x threads that share a row, combined into one that all get.
template <class Value>
__device__ Value across_row(Value value, Value nothing)
{
    value = across_warp(value);
    if (blockDim.x == 32) return value;
    __shared__ Value of_warp[32];
    const int warp = threadIdx.x / 32, lane = threadIdx.x % 32;
    if (lane == 0) of_warp[warp] = value;
    __syncthreads();
    value = lane < blockDim.x / 32 ? of_warp[lane] : nothing;
    __syncthreads();  // all have read before the array serves again
    return across_warp(value);
}

// A row's loss from its largest score, the logarithm of sum exp(score - largest), and the mean of
// (score - largest), which label smoothing asks for. A target that is no column's gives NaN: it
// must not be read, nor pass unseen.
__device__ REAL row_nats(const REAL* scores, long long target, int columns, REAL largest,
                         REAL log_total, REAL mean_below, REAL smoothing)
{
    if (target < 0 || target >= columns) return __int_as_float(0x7fc00000);
    REAL nats = log_total - (scores[target] - largest);
    if (smoothing > 0) nats = (1 - smoothing) * nats + smoothing * (log_total - mean_below);
    return nats;
}

// Block: (32, R) for R rows a block, or (threads, 1), threads a multiple of 32, for one row.
// Grid: rows / R, rounded up.
extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    cross_entropy_forward(const REAL* __restrict__ logits, const long long* __restrict__ targets,
                          REAL* nats, REAL* largests, REAL* log_totals, int rows, int columns,
                          long long ignore_index, REAL smoothing)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave, so none is missed by a shuffle
    logits += (size_t)row * columns;
    const Pack* in = reinterpret_cast<const Pack*>(logits);
    if (targets[row] == ignore_index) {
        if (threadIdx.x == 0) nats[row] = largests[row] = log_totals[row] = 0;
        return;
    }

    const Running nothing = {(REAL)__int_as_float(0xff800000), 0};
    Running seen = nothing;
    for (int c = threadIdx.x; c < columns / VECTOR; c += blockDim.x) {
        const Pack scores = in[c];
        REAL largest = seen.largest;
#pragma unroll
        for (int v = 0; v < VECTOR; ++v)
            if (scores.item[v] > largest) largest = scores.item[v];
        seen.total *= weight(seen.largest, largest);
        seen.largest = largest;
#pragma unroll
        for (int v = 0; v < VECTOR; ++v) seen.total += weight(scores.item[v], largest);
    }
    seen = across_row(seen, nothing);
    if (seen.largest == nothing.largest) seen.largest = 0;  // every score is -inf

    REAL below = 0;
    if (smoothing > 0) {
        for (int c = threadIdx.x; c < columns; c += blockDim.x) below += logits[c] - seen.largest;
        below = across_row<REAL>(below, 0);
    }
    if (threadIdx.x > 0) return;
    const REAL log_total = seen.total == 0 ? 0 : log(seen.total);
    nats[row] = row_nats(logits, targets[row], columns, seen.largest, log_total, below / columns,
                         smoothing);
    largests[row] = seen.largest;
    log_totals[row] = log_total;
}

// What each score of a row is multiplied by: dloss / count, 0 for a row that does not count, NaN
// where the target is no column's.
__device__ REAL row_scale(long long target, long long ignore_index, int columns, REAL dloss,
                          REAL count)
{
    if (target == ignore_index) return 0;
    if (target < 0 || target >= columns) return __int_as_float(0x7fc00000);
    return dloss / count;
}

extern "C" __global__ void __launch_bounds__(MOST_THREADS)
    cross_entropy_backward(const REAL* __restrict__ logits, const long long* __restrict__ targets,
                           const REAL* __restrict__ largests, const REAL* __restrict__ log_totals,
                           const REAL* __restrict__ count, const REAL* __restrict__ dloss,
                           REAL* __restrict__ dlogits, int rows, int columns,
                           long long ignore_index, REAL smoothing)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    const Pack* in = reinterpret_cast<const Pack*>(logits + (size_t)row * columns);
    Pack* out = reinterpret_cast<Pack*>(dlogits + (size_t)row * columns);
    const long long target = targets[row];
    const REAL scale = row_scale(target, ignore_index, columns, dloss[0], count[0]);
    const REAL largest = largests[row], log_total = log_totals[row];

    for (int c = threadIdx.x; c < columns / VECTOR; c += blockDim.x) {
        Pack pack = {};
        if (scale != 0) {
            pack = in[c];
#pragma unroll
            for (int v = 0; v < VECTOR; ++v) {
                const REAL prob = exp(pack.item[v] - largest - log_total);
                const REAL hit = c * VECTOR + v == target ? 1 - smoothing : 0;
                pack.item[v] = scale * (prob - (hit + smoothing / columns));
            }
        }
        out[c] = pack;
    }
}

// The mean over the rows that count. Grid: one block. Block: a multiple of 32 threads.
extern "C" __global__ void cross_entropy_mean(const REAL* nats, const long long* targets,
                                              REAL* loss, REAL* count, int rows,
                                              long long ignore_index)
{
    REAL sum = 0, counted = 0;
    for (int row = threadIdx.x; row < rows; row += blockDim.x) {
        sum += nats[row];
        counted += targets[row] != ignore_index;
    }
    sum = across_row<REAL>(sum, 0);
    counted = across_row<REAL>(counted, 0);
    if (threadIdx.x > 0) return;
    count[0] = counted > 0 ? counted : 1;  // never divide by zero
    loss[0] = sum / count[0];
}
