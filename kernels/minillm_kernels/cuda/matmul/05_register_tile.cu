// 05_register_tile.cu   C = A @ B in fp32, row-major
//
// Idea: one thread computes TM x TN elements. A step of k takes TM numbers of A and TN of B into
//   registers and multiplies each with each: an outer product (a 2-D register tile).
// Arithmetic: 2 M N K operations. Bytes: 4 M N K (1 / BM + 1 / BN) from L2, 32 operations a byte
//   at 128 x 128. Shared memory: TM + TN = 16 reads for TM TN = 64 multiply-adds, 0.25 (04: 1.1).
// Budget: 256 threads, at most 128 registers each (64 of them sums), so that two blocks share an
//   SM's 65536; tiles of 128 x 8 and 8 x 128, 8 KB.
// The thread's rows and columns are 16 apart, not next to each other: the 16 threads that share
//   a row then read 16 neighbouring banks.
// Share of cuBLAS fp32 at 4096^3 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the idea: Volkov & Demmel 2008; Nath, Tomov & Dongarra 2010 (MAGMA's product for Fermi).

#ifndef REAL
#define REAL float
#endif
#define BM 128
#define BN 128
#define BK 8
#define TM 8
#define TN 8
#define ROWS (BM / TM)      // threads along the rows of the tile, and the distance of a thread's rows
#define COLUMNS (BN / TN)   // along its columns
#define THREADS (ROWS * COLUMNS)

// lda, ldb, ldc: elements from one row to the next.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
matmul(const REAL *A, const REAL *B, REAL *C, int M, int N, int K,
       long long lda, long long ldb, long long ldc) {
    __shared__ REAL As[BM][BK];
    __shared__ REAL Bs[BK][BN];
    int t = threadIdx.x, ty = t / COLUMNS, tx = t % COLUMNS;
    int row0 = blockIdx.y * BM, col0 = blockIdx.x * BN;
    REAL sums[TM][TN] = {};
    for (int k0 = 0; k0 < K; k0 += BK) {
#pragma unroll
        for (int i = 0; i < BM * BK / THREADS; ++i) {
            int r = (t + i * THREADS) / BK, k = t % BK;
            As[r][k] = row0 + r < M && k0 + k < K ? A[(row0 + r) * lda + k0 + k] : REAL(0);
        }
#pragma unroll
        for (int i = 0; i < BK * BN / THREADS; ++i) {
            int k = (t + i * THREADS) / BN, c = t % BN;
            Bs[k][c] = k0 + k < K && col0 + c < N ? B[(k0 + k) * ldb + col0 + c] : REAL(0);
        }
        __syncthreads();
#pragma unroll 2   // all 8 steps at once would spill
        for (int k = 0; k < BK; ++k) {
            REAL a[TM], b[TN];
#pragma unroll
            for (int i = 0; i < TM; ++i) a[i] = As[ty + ROWS * i][k];
#pragma unroll
            for (int j = 0; j < TN; ++j) b[j] = Bs[k][tx + COLUMNS * j];
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j) sums[i][j] += a[i] * b[j];
        }
        __syncthreads();
    }
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        int row = row0 + ty + ROWS * i;
#pragma unroll
        for (int j = 0; j < TN; ++j) {
            int col = col0 + tx + COLUMNS * j;
            if (row < M && col < N) C[row * ldc + col] = sums[i][j];
        }
    }
}
