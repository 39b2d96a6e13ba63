// 01_no_sync_before_read.cu   y = x backwards, 256 numbers a block
//
// Wrong: a thread reads what another thread of the block wrote to shared memory, with no barrier
// between. On a GPU it goes right within a warp and wrong, now and then, between warps.
// Found: race, between the write and the read. Often also: uninitialised shared memory, since
// the write may not have come yet.
// Mended: __syncthreads() between the writes and the reads.

extern "C" __global__ void backwards(const float* x, float* y) {
    __shared__ float tile[256];
    const int i = threadIdx.x;
    tile[i] = x[blockIdx.x * 256 + i];       // <- found: race
#ifdef MENDED
    __syncthreads();
#endif
    y[blockIdx.x * 256 + i] = tile[255 - i];  // <- found: race
}
