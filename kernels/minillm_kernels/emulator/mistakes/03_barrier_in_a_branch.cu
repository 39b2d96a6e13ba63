// 03_barrier_in_a_branch.cu   the sum of each block's 128 numbers, by halves
//
// Wrong: the barrier stands inside the `if`, so in each step only part of the block reaches it.
// A GPU may hang, or go on with a barrier that separates nothing.
// Found: barrier divergence, at the barrier. This one stops the launch, checked or not.
// Mended: the barrier after the `if`, where every thread comes by.

extern "C" __global__ void block_sum(const float* x, float* sums) {
    __shared__ float part[128];
    const int i = threadIdx.x;
    part[i] = x[blockIdx.x * 128 + i];
    __syncthreads();
    for (int half = 64; half > 0; half /= 2) {
#ifdef MENDED
        if (i < half) part[i] += part[i + half];
        __syncthreads();
#else
        if (i < half) {
            part[i] += part[i + half];
            __syncthreads();  // <- found: barrier divergence
        }
#endif
    }
    if (i == 0) sums[blockIdx.x] = part[0];
}
