// 04_off_by_one.cu   y[i] = x[i + 1] - x[i], n - 1 differences of n numbers
//
// Wrong: the bound lets the last thread in, which reads x[n] and writes y[n - 1]: both lie one
// beyond the end. A GPU reads whatever lies there, and most often says nothing.
// Found: out of bounds, at the line.
// Mended: i + 1 < n.

extern "C" __global__ void differences(const float* x, float* y, int n) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
#ifdef MENDED
    if (i + 1 < n)
#else
    if (i < n)
#endif
        y[i] = x[i + 1] - x[i];  // <- found: out of bounds
}
