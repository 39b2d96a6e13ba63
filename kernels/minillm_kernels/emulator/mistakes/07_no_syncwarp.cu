// 07_no_syncwarp.cu   the sum of each block's 64 numbers; the last steps within one warp
//
// Wrong: the last 32 threads are one warp, and old code left out their barriers: a warp ran in
// step. Since Volta each thread has its own place in the program, and nothing orders the lanes'
// accesses.
// Found: race, at the sum.
// Mended: read, __syncwarp(), write, __syncwarp().

extern "C" __global__ void block_sum(const float* x, float* sums) {
    __shared__ float part[64];
    const int i = threadIdx.x;
    part[i] = x[blockIdx.x * 64 + i];
    __syncthreads();
    if (i < 32) {
        for (int half = 32; half > 0; half /= 2) {
#ifdef MENDED
            const float other = part[i + half];
            __syncwarp();
            part[i] += other;
            __syncwarp();
#else
            part[i] += part[i + half];  // <- found: race
#endif
        }
    }
    if (i == 0) sums[blockIdx.x] = part[0];
}
