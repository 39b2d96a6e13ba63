// 02_coalesced.cu   C = A @ B in fp32, row-major
//
// Idea: exchange the roles of threadIdx.x and threadIdx.y, nothing else. The 32 threads of a warp
//   now lie along a row of C: one read of B (and one write of C) is 128 consecutive bytes, 4
//   sectors, and all of them read the same number of A, 1 sector.
// Arithmetic: 2 M N K operations. Bytes: a warp asks for 4 + 1 sectors of 32 bytes for 64
//   operations (01: 32 + 1 sectors), 0.4 operations a byte out of the caches.
// Share of cuBLAS fp32 at 4096^3 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the idea: CUDA C++ Best Practices Guide, "Coalesced Access to Global Memory".

#ifndef REAL
#define REAL float
#endif

// lda, ldb, ldc: elements from one row to the next.
extern "C" __global__ void matmul(const REAL *A, const REAL *B, REAL *C, int M, int N, int K,
                                  long long lda, long long ldb, long long ldc) {
    int row = blockIdx.y * blockDim.y + threadIdx.y;
    int col = blockIdx.x * blockDim.x + threadIdx.x;   // neighbours in a warp: neighbouring columns
    if (row >= M || col >= N) return;
    REAL sum = 0;
    for (int k = 0; k < K; ++k) sum += A[row * lda + k] * B[k * ldb + col];
    C[row * ldc + col] = sum;
}
