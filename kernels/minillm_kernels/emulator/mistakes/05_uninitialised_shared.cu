// 05_uninitialised_shared.cu   y[i] = x[i - 1] + x[i] + x[i + 1] with zeros beyond both ends, n numbers
//
// Wrong: the tile has a border for the neighbours' numbers, and nobody writes the border's two
// cells. Shared memory is not zero at the start: it holds what the last block left there.
// Found: uninitialised shared memory, at the read.
// Mended: the first and the last thread fill the border.

extern "C" __global__ void blur(const float* x, float* y, int n) {
    __shared__ float tile[66];
    const int t = threadIdx.x, i = blockIdx.x * 64 + t;
    tile[t + 1] = i < n ? x[i] : 0.0f;
#ifdef MENDED
    if (t == 0) tile[0] = i > 0 ? x[i - 1] : 0.0f;
    if (t == 63) tile[65] = i + 1 < n ? x[i + 1] : 0.0f;
#endif
    __syncthreads();
    const float sum = tile[t] + tile[t + 1] + tile[t + 2];  // <- found: uninitialised shared memory
    if (i < n) y[i] = sum;
}
