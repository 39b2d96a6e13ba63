// 08_bank_conflicts.cu   y = x transposed, n x n with n a multiple of 32, by 32 x 32 tiles
//
// Wrong, though right in its result: a warp reads a column of the tile, 32 words that lie 32
// words apart and so in one bank, which serves them one after the other: 32 wavefronts where 1
// would do.
// Found: bank conflict, at the read of the column.
// Mended: rows of 33 words, so that a column's words lie in 32 different banks.

#ifdef MENDED
#define WIDTH 33
#else
#define WIDTH 32
#endif

extern "C" __global__ void transpose(const float* x, float* y, int n) {
    __shared__ float tile[32][WIDTH];
    const int row = blockIdx.y * 32, column = blockIdx.x * 32;
    tile[threadIdx.y][threadIdx.x] = x[(row + threadIdx.y) * n + column + threadIdx.x];
    __syncthreads();
    const float value = tile[threadIdx.x][threadIdx.y];  // <- found: bank conflict
    y[(column + threadIdx.y) * n + row + threadIdx.x] = value;
}
