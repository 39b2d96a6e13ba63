// 01_thread_a_row.cu   y = softmax(x) along each row; backward: dx = y * (dy - sum(y * dy))
//
// Idea: rows do not depend on one another, so each gets a thread, which walks along it as a person
//   would: find the largest, sum the exponentials, write. Threads that run side by side read
//   addresses a whole row apart, so of every 32 bytes that the memory sends, 4 are used at a time.
// Arithmetic: about 5 operations a number forward, 4 backward: nothing beside the memory's time.
// Bytes: forward 16 a number in fp32 (x three times, y once), backward 20; 8 and 12 are needed.
// Share of copy bandwidth at 16384 x 4096 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the formulas: minillm/ops/softmax.py

#ifndef REAL
#define REAL float
#endif

// Grid: rows / threads, rounded up. Block: any number of threads.
extern "C" __global__ void softmax_forward(const REAL* x, REAL* y, int rows, int columns)
{
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    x += (size_t)row * columns;
    y += (size_t)row * columns;

    REAL largest = x[0];
    for (int c = 1; c < columns; ++c)
        if (x[c] > largest) largest = x[c];
    // Where all is -inf there is nothing to subtract, and the row's result is zero.
    if (largest == (REAL)__int_as_float(0xff800000)) largest = 0;

    double total = 0;  // thousands of floats added to one float would lose digits; trees will not
    for (int c = 0; c < columns; ++c) total += exp(x[c] - largest);

    const REAL share = total == 0 ? 0 : 1 / total;
    for (int c = 0; c < columns; ++c) y[c] = exp(x[c] - largest) * share;
}

extern "C" __global__ void softmax_backward(const REAL* y, const REAL* dy, REAL* dx, int rows,
                                            int columns)
{
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    if (row >= rows) return;
    y += (size_t)row * columns;
    dy += (size_t)row * columns;
    dx += (size_t)row * columns;

    double total = 0;
    for (int c = 0; c < columns; ++c) total += y[c] * dy[c];

    for (int c = 0; c < columns; ++c) dx[c] = y[c] * (dy[c] - (REAL)total);
}
