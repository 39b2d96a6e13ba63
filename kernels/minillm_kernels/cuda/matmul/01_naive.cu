// 01_naive.cu   C = A @ B in fp32, row-major
//
// Idea: one thread an element of C. The threads of a warp lie along the rows, so that they read
//   32 different rows of A (and write 32 of C): 32 sectors where 4 would do. Slow on purpose.
// Arithmetic: 2 M N K operations. Bytes: every thread asks for its own 2 K numbers, 8 M N K bytes
//   in all, a quarter of an operation a byte; caches must save what they can.
// Share of cuBLAS fp32 at 4096^3 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the idea: CUDA C++ Programming Guide, "Shared Memory" (the version without it).

#ifndef REAL
#define REAL float
#endif

// lda, ldb, ldc: elements from one row to the next.
extern "C" __global__ void matmul(const REAL *A, const REAL *B, REAL *C, int M, int N, int K,
                                  long long lda, long long ldb, long long ldc) {
    int row = blockIdx.y * blockDim.x + threadIdx.x;   // neighbours in a warp: neighbouring rows
    int col = blockIdx.x * blockDim.y + threadIdx.y;
    if (row >= M || col >= N) return;
    REAL sum = 0;
    for (int k = 0; k < K; ++k) sum += A[row * lda + k] * B[k * ldb + col];
    C[row * ldc + col] = sum;
}
