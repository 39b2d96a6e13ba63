// 04_register_column.cu   C = A @ B in fp32, row-major
//
// Idea: one thread computes TM elements below each other. A number of B is read from shared memory
//   once, kept in a register, and serves TM multiply-adds (a 1-D register tile).
// Arithmetic: 2 M N K operations. Bytes: 4 M N K (1 / BM + 1 / BN) from L2, 16 operations a byte
//   at 64 x 64. Shared memory: TM + 1 reads for TM multiply-adds, 1.1 where 03 has 2.
// Budget: 512 threads; tiles of 64 x 8 and 8 x 64, 4 KB; TM = 8 accumulators a thread.
// Share of cuBLAS fp32 at 4096^3 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the idea: Volkov & Demmel 2008, "Benchmarking GPUs to tune dense linear algebra".

#ifndef REAL
#define REAL float
#endif
#define BM 64
#define BN 64
#define BK 8
#define TM 8
#define THREADS (BM * BN / TM)
static_assert(BM * BK == THREADS && BK * BN == THREADS, "a thread loads one element of each tile");

// lda, ldb, ldc: elements from one row to the next.
extern "C" __global__ void __launch_bounds__(THREADS)
matmul(const REAL *A, const REAL *B, REAL *C, int M, int N, int K,
       long long lda, long long ldb, long long ldc) {
    __shared__ REAL As[BM][BK];
    __shared__ REAL Bs[BK][BN];
    int t = threadIdx.x;
    int row0 = blockIdx.y * BM, col0 = blockIdx.x * BN;   // the block's corner of C
    int tile_row = t / BN * TM, tile_col = t % BN;        // the thread's first element in the tile
    int a_row = t / BK, a_k = t % BK, b_k = t / BN, b_col = t % BN;   // what it copies
    REAL sums[TM] = {};
    for (int k0 = 0; k0 < K; k0 += BK) {
        As[a_row][a_k] = row0 + a_row < M && k0 + a_k < K
                             ? A[(row0 + a_row) * lda + k0 + a_k] : REAL(0);
        Bs[b_k][b_col] = k0 + b_k < K && col0 + b_col < N
                             ? B[(k0 + b_k) * ldb + col0 + b_col] : REAL(0);
        __syncthreads();
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            REAL b = Bs[k][tile_col];   // read once, used TM times
#pragma unroll
            for (int i = 0; i < TM; ++i) sums[i] += As[tile_row + i][k] * b;
        }
        __syncthreads();
    }
    int col = col0 + tile_col;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        int row = row0 + tile_row + i;
        if (row < M && col < N) C[row * ldc + col] = sums[i];
    }
}
