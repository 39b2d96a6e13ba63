// 06_shuffle_in_a_branch.cu   the sum of each warp's 32 numbers, by shuffles
//
// Wrong: the mask promises all 32 lanes, but the branch keeps half of them out; those who came
// wait for lanes that never will. A GPU may hang or hand over an undefined value.
// Found: warp, at the shuffle. This one stops the launch, checked or not.
// Mended: all lanes shuffle; those whose sum nobody wants compute it for nothing.

extern "C" __global__ void warp_sum(const float* x, float* sums) {
    const int i = blockIdx.x * blockDim.x + threadIdx.x, lane = threadIdx.x % 32;
    float sum = x[i];
    for (int step = 16; step > 0; step /= 2) {
#ifndef MENDED
        if (lane < step)
#endif
            sum += __shfl_down_sync(0xffffffff, sum, step);  // <- found: warp
    }
    if (lane == 0) sums[i / 32] = sum;
}
