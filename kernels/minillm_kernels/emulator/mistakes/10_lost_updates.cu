// 10_lost_updates.cu   total += the sum of n numbers, by several blocks
//
// Wrong: each block reads the total, adds its share and writes it back; two blocks that read the
// same total leave only one share. No barrier helps, since it waits for its own block alone.
// Found: race (between blocks), at the sum.
// Mended: atomicAdd.

extern "C" __global__ void add_up(const float* x, float* total, int n) {
    __shared__ float sum;
    const int i = blockIdx.x * blockDim.x + threadIdx.x;
    if (threadIdx.x == 0) sum = 0;
    __syncthreads();
    if (i < n) atomicAdd(&sum, x[i]);
    __syncthreads();
    if (threadIdx.x == 0) {
#ifdef MENDED
        atomicAdd(total, sum);
#else
        *total += sum;  // <- found: race
#endif
    }
}
