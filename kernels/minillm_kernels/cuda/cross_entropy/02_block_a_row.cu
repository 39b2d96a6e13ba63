// 02_block_a_row.cu   loss = mean over rows of -sum_v q_v log softmax(logits)_v, and its backward
//
// Idea: a block of threads shares a row: neighbours read neighbouring numbers, and their partial
//   results meet in a tree in shared memory, as in softmax/02. Rows that do not count are not
//   read.
// Arithmetic: as in 01, and a tree for each of the maximum and the sums.
// Bytes: as in 01, 8 a number forward and 8 backward, but the second reading of a row comes from a
//   cache where the rows in flight fit there.
// Share of copy bandwidth at 4096 x 50304 on an H100: not yet measured
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

// Grid: a block a row. Block: a power of two, at most MOST_THREADS.
extern "C" __global__ void cross_entropy_forward(const REAL* logits, const long long* targets,
                                                 REAL* nats, REAL* largests, REAL* log_totals,
                                                 int rows, int columns, long long ignore_index,
                                                 REAL smoothing)
{
    const int row = blockIdx.x;
    logits += (size_t)row * columns;
    if (targets[row] == ignore_index) {
        if (threadIdx.x == 0) nats[row] = largests[row] = log_totals[row] = 0;
        return;
    }

    REAL largest = Largest::nothing();
    for (int c = threadIdx.x; c < columns; c += blockDim.x)
        largest = Largest::of(logits[c], largest);
    largest = across_block<Largest>(largest);
    if (largest == Largest::nothing()) largest = 0;  // every score is -inf

    REAL total = 0, below = 0;
    for (int c = threadIdx.x; c < columns; c += blockDim.x) {
        total += exp(logits[c] - largest);
        below += logits[c] - largest;
    }
    total = across_block<Sum>(total);
    below = across_block<Sum>(below);
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
    const int row = blockIdx.x;
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

// The mean over the rows that count. Grid: one block. Block: a power of two, at most MOST_THREADS.
extern "C" __global__ void cross_entropy_mean(const REAL* nats, const long long* targets,
                                              REAL* loss, REAL* count, int rows,
                                              long long ignore_index)
{
    REAL sum = 0, counted = 0;
    for (int row = threadIdx.x; row < rows; row += blockDim.x) {
        sum += nats[row];
        counted += targets[row] != ignore_index;
    }
    sum = across_block<Sum>(sum);
    counted = across_block<Sum>(counted);
    if (threadIdx.x > 0) return;
    count[0] = counted > 0 ? counted : 1;  // never divide by zero
    loss[0] = sum / count[0];
}
