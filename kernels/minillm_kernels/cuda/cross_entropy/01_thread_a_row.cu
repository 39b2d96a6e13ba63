// 01_thread_a_row.cu   loss = mean over rows of -sum_v q_v log softmax(logits)_v, and its backward
//
// Idea: a thread a row, as in softmax/01: find the largest score, sum the exponentials, take the
//   logarithm. Only the target's score is read besides, so that no probability is written;
//   backward makes them again from the two numbers that are kept of each row.
// Arithmetic: about 4 operations a number forward, 5 backward: nothing beside the memory's time.
// Bytes: forward 8 a number in fp32 (logits twice), backward 8 (logits once, dlogits once), each
//   thread at addresses a whole row apart from its neighbour's; 4 and 8 are needed.
// Share of copy bandwidth at 4096 x 50304 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the formulas: minillm/ops/cross_entropy.py

#ifndef REAL
#define REAL float
#endif
#define MEAN_THREADS 256

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

// Grid: rows / threads, rounded up. Block: any number of threads.
extern "C" __global__ void cross_entropy_forward(const REAL* logits, const long long* targets,
                                                 REAL* nats, REAL* largests, REAL* log_totals,
                                                 int rows, int columns, long long ignore_index,
                                                 REAL smoothing)
{
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    logits += (size_t)row * columns;
    nats[row] = largests[row] = log_totals[row] = 0;
    if (targets[row] == ignore_index) return;

    REAL largest = logits[0];
    for (int c = 1; c < columns; ++c)
        if (logits[c] > largest) largest = logits[c];
    // Where all is -inf there is nothing to subtract.
    if (largest == (REAL)__int_as_float(0xff800000)) largest = 0;

    double total = 0, below = 0;  // thousands of floats added to one float would lose digits
    for (int c = 0; c < columns; ++c) {
        total += exp(logits[c] - largest);
        below += logits[c] - largest;
    }
    const REAL log_total = total == 0 ? 0 : (REAL)log(total);
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
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    logits += (size_t)row * columns;
    dlogits += (size_t)row * columns;
    const long long target = targets[row];
    const REAL scale = row_scale(target, ignore_index, columns, dloss[0], count[0]);
    const REAL largest = largests[row], log_total = log_totals[row];

    for (int c = 0; c < columns; ++c) {
        const REAL prob = exp(logits[c] - largest - log_total);
        const REAL wanted = (c == target ? 1 - smoothing : 0) + smoothing / columns;
        dlogits[c] = scale == 0 ? 0 : scale * (prob - wanted);
    }
}

// The mean over the rows that count. Grid: one block. Block: MEAN_THREADS.
extern "C" __global__ void cross_entropy_mean(const REAL* nats, const long long* targets,
                                              REAL* loss, REAL* count, int rows,
                                              long long ignore_index)
{
    __shared__ double sums[MEAN_THREADS];
    __shared__ int counts[MEAN_THREADS];
    double sum = 0;
    int counted = 0;
    for (int row = threadIdx.x; row < rows; row += MEAN_THREADS) {
        sum += nats[row];
        counted += targets[row] != ignore_index;
    }
    sums[threadIdx.x] = sum;
    counts[threadIdx.x] = counted;
    __syncthreads();
    if (threadIdx.x > 0) return;
    for (int t = 1; t < MEAN_THREADS; ++t) {
        sum += sums[t];
        counted += counts[t];
    }
    count[0] = counted > 0 ? counted : 1;  // never divide by zero
    loss[0] = sum / count[0];
}
