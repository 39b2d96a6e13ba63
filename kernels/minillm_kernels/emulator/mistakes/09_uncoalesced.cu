// 09_uncoalesced.cu   y = 2 x, n x n numbers with n a multiple of 32, in row-major order
//
// Wrong, though right in its result: neighbouring threads take neighbouring rows, so a warp's 32
// numbers lie in 32 different sectors of 32 bytes, of each of which 4 bytes are used.
// Found: uncoalesced, at the access.
// Mended: neighbouring threads take neighbouring columns: the same numbers in 4 sectors.

extern "C" __global__ void twice(const float* x, float* y, int n) {
#ifdef MENDED
    const int row = blockIdx.y * blockDim.y + threadIdx.y;
    const int column = blockIdx.x * blockDim.x + threadIdx.x;
#else
    const int row = blockIdx.x * blockDim.x + threadIdx.x;
    const int column = blockIdx.y * blockDim.y + threadIdx.y;
#endif
    y[row * n + column] = 2 * x[row * n + column];  // <- found: uncoalesced
}
