// 01_thread_a_row.cu   y = gain * (x - mean) / std + bias along each row, and its backward
//
// Idea: a thread a row, as in softmax/01. The gradients of gain and bias are sums over rows, not
//   along them, so there a thread takes a column: neighbours then read neighbouring numbers, but
//   there are only as many threads as columns, and a GPU wants tens of thousands.
// Arithmetic: about 8 operations a number forward, 12 backward: nothing beside the memory's time.
// Bytes: forward 16 a number in fp32 (x three times, y once), backward 28 (dy and x three times,
//   dx once); 8 and 12 are needed.
// Share of copy bandwidth at 16384 x 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the formulas: minillm/ops/layer_norm.py

#ifndef REAL
#define REAL float
#endif

// Grid: rows / threads, rounded up. Block: any number of threads.
extern "C" __global__ void layer_norm_forward(const REAL* x, const REAL* gain, const REAL* bias,
                                              REAL* y, REAL* mean, REAL* inv_std, int rows,
                                              int columns, REAL eps)
{
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    x += (size_t)row * columns;
    y += (size_t)row * columns;

    double total = 0;  // thousands of floats added to one float would lose digits; trees will not
    for (int c = 0; c < columns; ++c) total += x[c];
    const REAL m = total / columns;

    double squares = 0;
    for (int c = 0; c < columns; ++c) squares += (x[c] - m) * (x[c] - m);
    const REAL inv = 1 / sqrt(squares / columns + eps);

    for (int c = 0; c < columns; ++c) y[c] = (x[c] - m) * inv * gain[c] + bias[c];
    mean[row] = m;
    inv_std[row] = inv;
}

extern "C" __global__ void layer_norm_backward(const REAL* dy, const REAL* x, const REAL* gain,
                                               const REAL* mean, const REAL* inv_std, REAL* dx,
                                               int rows, int columns)
{
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    dy += (size_t)row * columns;
    x += (size_t)row * columns;
    dx += (size_t)row * columns;
    const REAL m = mean[row], inv = inv_std[row];

    // The means along the row of dnormed = dy * gain, and of dnormed * normed.
    double of_dnormed = 0, of_product = 0;
    for (int c = 0; c < columns; ++c) {
        const REAL dnormed = dy[c] * gain[c];
        of_dnormed += dnormed;
        of_product += dnormed * ((x[c] - m) * inv);
    }
    const REAL a = of_dnormed / columns, b = of_product / columns;

    for (int c = 0; c < columns; ++c)
        dx[c] = inv * (dy[c] * gain[c] - a - (x[c] - m) * inv * b);
}

// dgain and dbias: each thread sums one column over all rows. Grid: columns / threads, rounded up.
extern "C" __global__ void layer_norm_parameters(const REAL* dy, const REAL* x, const REAL* mean,
                                                 const REAL* inv_std, REAL* dgain, REAL* dbias,
                                                 int rows, int columns)
{
    const int c = blockIdx.x * blockDim.x + threadIdx.x;
    if (c >= columns) return;
    double of_gain = 0, of_bias = 0;
    for (int row = 0; row < rows; ++row) {
        const size_t at = (size_t)row * columns + c;
        of_gain += dy[at] * ((x[at] - mean[row]) * inv_std[row]);
        of_bias += dy[at];
    }
    dgain[c] = of_gain;
    dbias[c] = of_bias;
}
