// 08_wmma.cu   C = A @ B in fp16 (-DBF16: bf16) with sums in fp32, row-major
//
// Idea: tensor cores. A warp multiplies 16 x 16 x 16 fragments with one instruction's worth of
//   code (WMMA); which lane holds which element is the hardware's secret, so that fragments come
//   from shared memory and leave through it. Tiles and double buffering as in 07.
// Arithmetic: 2 M N K operations. Bytes: 2 M N K (1 / BM + 1 / BN) from L2, 64 operations a byte.
//   A step of 16 k: a warp reads (64 + 32) x 16 numbers, 3 KB, for 65536 operations.
// Budget: 256 threads, at most 128 registers each (64 of them sums), so that two blocks share an
//   SM; 2 stages x (128 x 24 + 16 x 136) numbers and 10 KB to leave by: 30.5 KB.
// Banks: 8 numbers (16 bytes) of padding a row put the 16 bytes that 8 neighbouring rows give
//   together into different banks.
// nvcc reads fp16 fragments by ldmatrix; bf16 ones by 4-byte reads of generic addresses.
// A matrix whose rows do not start at multiples of 16 bytes, and the edges, take single elements.
// Share of cuBLAS fp16 at 8192^3 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator (bf16: from Ampere on)
// Source of the idea: CUDA C++ Programming Guide, "Warp Matrix Functions".

#include <cuda_fp16.h>
#include <mma.h>
#ifdef BF16
#include <cuda_bf16.h>
#define HALF __nv_bfloat16
#define TO_HALF __float2bfloat16
#else
#define HALF __half
#define TO_HALF __float2half
#endif
#define BM 128
#define BN 128
#define BK 16
#define WM 64   // warp tile
#define WN 32
#define FRAGMENT 16
#define THREADS (BM / WM * (BN / WN) * 32)
#define PAD 8
#define LEAVING (FRAGMENT + 4)   // a row of sums on their way out, padded
static_assert(BM * BK == 8 * THREADS && BK * BN == 8 * THREADS, "a thread moves 16 bytes of each");

using namespace nvcuda;

struct alignas(16) Eight {
    HALF v[8];
};
struct alignas(16) FourSums {
    float v[4];
};

// Eight neighbours of one row of a rows x cols matrix, zeros outside it.
__device__ Eight load_eight(const HALF *matrix, int row, int col, int rows, int cols,
                            long long stride, bool aligned) {
    const HALF *from = matrix + row * stride + col;
    if (aligned && row < rows && col + 8 <= cols) return *reinterpret_cast<const Eight *>(from);
    Eight eight;
#pragma unroll
    for (int i = 0; i < 8; ++i)
        eight.v[i] = row < rows && col + i < cols ? from[i] : TO_HALF(0.0f);
    return eight;
}

__device__ bool starts_on_16_bytes(const HALF *matrix, long long stride) {
    return reinterpret_cast<size_t>(matrix) % 16 == 0 && stride % 8 == 0;
}

// lda, ldb, ldc: elements from one row to the next.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
matmul(const HALF *A, const HALF *B, HALF *C, int M, int N, int K,
       long long lda, long long ldb, long long ldc) {
    // 32: WMMA wants its fragments to start on 32 bytes, and rows a multiple of 16 apart.
    __shared__ alignas(32) HALF As[2][BM][BK + PAD];
    __shared__ alignas(32) HALF Bs[2][BK][BN + PAD];
    __shared__ alignas(32) float leaving[THREADS / 32][FRAGMENT][LEAVING];
    int t = threadIdx.x, warp = t / 32, lane = t % 32;
    int row0 = blockIdx.y * BM, col0 = blockIdx.x * BN;
    int warp_row = warp / (BN / WN) * WM, warp_col = warp % (BN / WN) * WN;
    bool a_aligned = starts_on_16_bytes(A, lda), b_aligned = starts_on_16_bytes(B, ldb);

    wmma::fragment<wmma::accumulator, 16, 16, 16, float> sums[WM / FRAGMENT][WN / FRAGMENT];
#pragma unroll
    for (int i = 0; i < WM / FRAGMENT; ++i)
#pragma unroll
        for (int j = 0; j < WN / FRAGMENT; ++j) wmma::fill_fragment(sums[i][j], 0.0f);

    // Eight neighbouring lanes write eight rows of A, a warp 16 whole rows.
    int a_row = warp * 16 + lane / 16 * 8 + lane % 8, a_k = lane / 8 % 2 * 8;
    int b_k = t * 8 / BN, b_col = t * 8 % BN;
    Eight a_next, b_next;
    auto fetch = [&](int k0) {
        a_next = load_eight(A, row0 + a_row, k0 + a_k, M, K, lda, a_aligned);
        b_next = load_eight(B, k0 + b_k, col0 + b_col, K, N, ldb, b_aligned);
    };
    auto put = [&](int stage) {
        *reinterpret_cast<Eight *>(&As[stage][a_row][a_k]) = a_next;
        *reinterpret_cast<Eight *>(&Bs[stage][b_k][b_col]) = b_next;
    };

    fetch(0);
    put(0);
    __syncthreads();
    int stage = 0;
    for (int k0 = 0; k0 < K; k0 += BK, stage ^= 1) {
        fetch(k0 + BK);   // sets out before the products and is put down after them
        wmma::fragment<wmma::matrix_a, 16, 16, 16, HALF, wmma::row_major> a;
        wmma::fragment<wmma::matrix_b, 16, 16, 16, HALF, wmma::row_major> b[WN / FRAGMENT];
#pragma unroll
        for (int j = 0; j < WN / FRAGMENT; ++j)
            wmma::load_matrix_sync(b[j], &Bs[stage][0][warp_col + j * FRAGMENT], BN + PAD);
#pragma unroll
        for (int i = 0; i < WM / FRAGMENT; ++i) {
            wmma::load_matrix_sync(a, &As[stage][warp_row + i * FRAGMENT][0], BK + PAD);
#pragma unroll
            for (int j = 0; j < WN / FRAGMENT; ++j)
                wmma::mma_sync(sums[i][j], a, b[j], sums[i][j]);
        }
        put(stage ^ 1);
        __syncthreads();
    }

    // A fragment leaves through this warp's own corner; then a lane has half a row of it.
    bool c_aligned = starts_on_16_bytes(C, ldc);
#pragma unroll
    for (int i = 0; i < WM / FRAGMENT; ++i) {
#pragma unroll
        for (int j = 0; j < WN / FRAGMENT; ++j) {
            wmma::store_matrix_sync(&leaving[warp][0][0], sums[i][j], LEAVING,
                                    wmma::mem_row_major);
            __syncwarp();
            int r = lane % 16, c = lane / 16 * 8;
            Eight eight;
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                FourSums four = *reinterpret_cast<FourSums *>(&leaving[warp][r][c + h * 4]);
#pragma unroll
                for (int e = 0; e < 4; ++e) eight.v[h * 4 + e] = TO_HALF(four.v[e]);
            }
            __syncwarp();
            int row = row0 + warp_row + i * FRAGMENT + r;
            int col = col0 + warp_col + j * FRAGMENT + c;
            HALF *to = C + row * ldc + col;
            if (row < M && c_aligned && col + 8 <= N) {
                *reinterpret_cast<Eight *>(to) = eight;
            } else if (row < M) {
#pragma unroll
                for (int e = 0; e < 8; ++e)
                    if (col + e < N) to[e] = eight.v[e];
            }
        }
    }
}
