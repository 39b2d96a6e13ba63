// 11_return_before_barrier.cu   y = x with each block's numbers backwards, n numbers, blocks of 64
//
// Wrong: threads beyond the end return before the barrier that the others wait at. CUDA asks
// that a barrier be reached by all threads of the block or by none.
// Found: barrier divergence, at the barrier. This one stops the launch, checked or not.
// Mended: nobody returns early; the bound guards the accesses alone.

extern "C" __global__ void backwards(const float* x, float* y, int n) {
    __shared__ float tile[64];
    const int first = blockIdx.x * 64, t = threadIdx.x, count = n - first < 64 ? n - first : 64;
#ifndef MENDED
    if (t >= count) return;
#endif
    if (t < count) tile[t] = x[first + t];
    __syncthreads();  // <- found: barrier divergence
    if (t < count) y[first + t] = tile[count - 1 - t];
}
