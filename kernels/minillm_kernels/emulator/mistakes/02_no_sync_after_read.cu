// 02_no_sync_after_read.cu   C = A @ B in fp32, n x n with n a multiple of 16, by 16 x 16 tiles
//
// Wrong: a fast thread comes round the loop and overwrites the tile while a slow one still reads
// the last one (a write after a read). The barrier before the product doesn't help: it is on the
// other side.
// Found: race, between the writes of the next tile and the read of this one.
// Mended: a second __syncthreads() at the loop's end.

extern "C" __global__ void matmul(const float* a, const float* b, float* c, int n) {
    __shared__ float left[16][16], right[16][16];
    const int row = blockIdx.y * 16 + threadIdx.y, column = blockIdx.x * 16 + threadIdx.x;
    float sum = 0;
    for (int k = 0; k < n; k += 16) {
        left[threadIdx.y][threadIdx.x] = a[row * n + k + threadIdx.x];       // <- found: race
        right[threadIdx.y][threadIdx.x] = b[(k + threadIdx.y) * n + column];  // <- found: race
        __syncthreads();
        for (int i = 0; i < 16; ++i)
            sum += left[threadIdx.y][i] * right[i][threadIdx.x];  // <- found: race
#ifdef MENDED
        __syncthreads();
#endif
    }
    c[row * n + column] = sum;
}
