// 03_warp_shuffle.cu   loss = mean over rows of -sum_v q_v log softmax(logits)_v, and its backward
//
// Idea: a warp's threads combine their results by shuffles, without shared memory or a barrier; a
//   narrow row gets a warp, a wide one a block whose warps meet once, as in softmax/03.
// Arithmetic: as in 01, and 5 shuffles (10 for a wide row) for each of the maximum and the sums.
// Bytes: as in 02.
// Share of copy bandwidth at 4096 x 50304 on an H100: not yet measured
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
extern "C" __global__ void cross_entropy_forward(const REAL* logits, const long long* targets,
                                                 REAL* nats, REAL* largests, REAL* log_totals,
                                                 int rows, int columns, long long ignore_index,
                                                 REAL smoothing)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;  // whole warps leave, so none is missed by a shuffle
    logits += (size_t)row * columns;
    if (targets[row] == ignore_index) {
        if (threadIdx.x == 0) nats[row] = largests[row] = log_totals[row] = 0;
        return;
    }

    REAL largest = Largest::nothing();
    for (int c = threadIdx.x; c < columns; c += blockDim.x)
        largest = Largest::of(logits[c], largest);
    largest = across_row<Largest>(largest);
    if (largest == Largest::nothing()) largest = 0;  // every score is -inf

    REAL total = 0, below = 0;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) {
        total += exp(logits[c] - largest);
        below += logits[c] - largest;
    }
    total = across_row<Sum>(total);
    below = across_row<Sum>(below);
    if (threadIdx.x > 0) return;
    const REAL log_total = total == 0 ? 0 : log(total);
    nats[row] = row_nats(logits, targets[row], columns, largest, log_total, below / columns,
                         smoothing);
    largests[row] = largest;
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

extern "C" __global__ void cross_entropy_backward(const REAL* logits, const long long* targets,
                                                  const REAL* largests, const REAL* log_totals,
                                                  const REAL* count, const REAL* dloss,
                                                  REAL* dlogits, int rows, int columns,
                                                  long long ignore_index, REAL smoothing)
{
    const int row = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= rows) return;
    logits += (size_t)row * columns;
    dlogits += (size_t)row * columns;
    const long long target = targets[row];
    const REAL scale = row_scale(target, ignore_index, columns, dloss[0], count[0]);
    const REAL largest = largests[row], log_total = log_totals[row];

    for (int c = threadIdx.x; c < columns; c += blockDim.x) {
        const REAL prob = exp(logits[c] - largest - log_total);
        const REAL wanted = (c == target ? 1 - smoothing : 0) + smoothing / columns;
        dlogits[c] = scale == 0 ? 0 : scale * (prob - wanted);
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
    sum = across_row<Sum>(sum);
    counted = across_row<Sum>(counted);
    if (threadIdx.x > 0) return;
    count[0] = counted > 0 ? counted : 1;  // never divide by zero
    loss[0] = sum / count[0];
}
