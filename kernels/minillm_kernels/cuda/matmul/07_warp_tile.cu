// 07_warp_tile.cu   C = A @ B in fp32, row-major; also A^T and B^T, + bias, added to C
//
// Idea: two more levels. The block's 128 x 128 tile is cut into 64 x 32 warp tiles, whose 8 x 4
//   lanes lie so that a warp asks shared memory for few distinct words; and shared memory holds
//   two stages, one multiplied while the next is on its way through registers (double buffering):
//   one barrier a stage, and device memory's latency hides behind 512 multiply-adds a thread.
// Arithmetic: 2 M N K operations. Bytes: 4 M N K (1 / BM + 1 / BN) from L2, 32 operations a byte.
//   A step of k: a warp reads 64 + 32 distinct words for 2048 multiply-adds (06: 16 + 128 words).
// Budget: 256 threads, at most 128 registers each (64 sums, 16 operands, 8 on their way), so that
//   two blocks share an SM's 65536; 2 stages x 2 tiles of 8 x 132, 16.5 KB.
// Macros: A_TRANSPOSED, A lies as (K, M); B_TRANSPOSED, B lies as (N, K); BIAS, one more argument,
//   N numbers added to every row; ACCUMULATE, C += instead of C =.
// Share of cuBLAS fp32 at 4096^3 on an H100: not yet measured
// Runs on: sm_75 sm_80 sm_90, emulator
// Source of the idea: Lai & Seznec 2013; S. Gray's notes on maxas SGEMM (2014) for the order of
//   lanes; Kerr et al. 2017 (the hierarchy of CUTLASS).

#ifndef REAL
#define REAL float
#endif
#define BM 128
#define BN 128
#define BK 8
#define WM 64   // warp tile
#define WN 32
#define TM 8    // thread tile, in two halves of 4 x (two halves of) 4
#define TN 8
#define THREADS (BM / WM * (BN / WN) * 32)
#define PAD 4   // 06 says why
#ifdef A_TRANSPOSED
constexpr bool a_k_contiguous = false;
#else
constexpr bool a_k_contiguous = true;
#endif
#ifdef B_TRANSPOSED
constexpr bool b_k_contiguous = true;
#else
constexpr bool b_k_contiguous = false;
#endif
static_assert(BM == BN && BM * BK == 4 * THREADS, "a thread moves four numbers of each tile");

struct alignas(16) Four {
    REAL v[4];
};
typedef REAL Tile[BK][BM + PAD];   // k x rows of C, or k x columns of C

// One operand of the product as it lies in memory: `outer` rows of `inner` elements.
struct Operand {
    const REAL *data;
    long long stride;
    int outer, inner;
    bool aligned;   // every row starts on 16 bytes

    __device__ Operand(const REAL *data, long long stride, int outer, int inner)
        : data(data), stride(stride), outer(outer), inner(inner),
          aligned(reinterpret_cast<size_t>(data) % 16 == 0 && stride * sizeof(REAL) % 16 == 0) {}

    // Four neighbours of one row, zeros outside the matrix.
    __device__ Four load(int row, int col) const {
        const REAL *from = data + row * stride + col;
        if (aligned && row < outer && col + 4 <= inner)
            return *reinterpret_cast<const Four *>(from);
        Four four;
#pragma unroll
        for (int i = 0; i < 4; ++i)
            four.v[i] = row < outer && col + i < inner ? from[i] : REAL(0);
        return four;
    }
};

// This thread's four numbers of the tile at (position along M or N, k): from device memory...
template <bool k_contiguous>
__device__ Four fetch(const Operand &operand, int position, int k, int t) {
    if (k_contiguous) return operand.load(position + t / 2, k + t % 2 * 4);
    return operand.load(k + t / 32, position + t % 32 * 4);
}

// ... and into shared memory, transposed on the way where k is the contiguous axis.
template <bool k_contiguous>
__device__ void put(Tile &tile, const Four &four, int t) {
    if (k_contiguous) {
#pragma unroll
        for (int i = 0; i < 4; ++i) tile[t % 2 * 4 + i][t / 2] = four.v[i];
    } else {
        *reinterpret_cast<Four *>(&tile[t / 32][t % 32 * 4]) = four;
    }
}

// lda, ldb, ldc: elements from one row to the next, as the matrices lie.
extern "C" __global__ void __launch_bounds__(THREADS, 2)
matmul(const REAL *A, const REAL *B, REAL *C, int M, int N, int K,
       long long lda, long long ldb, long long ldc
#ifdef BIAS
       , const REAL *bias
#endif
) {
    __shared__ alignas(16) Tile As[2], Bs[2];
    int t = threadIdx.x, warp = t / 32, lane = t % 32;
    int row0 = blockIdx.y * BM, col0 = blockIdx.x * BN;
    // Lanes go in a Z, 8 along the rows and 4 along the columns: any 16 neighbours hold only two
    // or four distinct groups of B and few of A, which a 16-byte read gets in fewer passes.
    int lane_row = lane / 2 % 8, lane_col = lane % 2 + lane / 16 * 2;
    int tile_row = warp / (BN / WN) * WM + lane_row * 4;   // and 32 further
    int tile_col = warp % (BN / WN) * WN + lane_col * 4;   // and 16 further

    Operand a(A, lda, a_k_contiguous ? M : K, a_k_contiguous ? K : M);
    Operand b(B, ldb, b_k_contiguous ? N : K, b_k_contiguous ? K : N);
    REAL sums[TM][TN] = {};
    put<a_k_contiguous>(As[0], fetch<a_k_contiguous>(a, row0, 0, t), t);
    put<b_k_contiguous>(Bs[0], fetch<b_k_contiguous>(b, col0, 0, t), t);
    __syncthreads();
    int stage = 0;
    for (int k0 = 0; k0 < K; k0 += BK, stage ^= 1) {
        // The next stage sets out now and is put down after the products. Past the end it is zeros.
        Four a_next = fetch<a_k_contiguous>(a, row0, k0 + BK, t);
        Four b_next = fetch<b_k_contiguous>(b, col0, k0 + BK, t);
#pragma unroll
        for (int k = 0; k < BK; ++k) {
            Four a_four[2], b_four[2];
#pragma unroll
            for (int h = 0; h < 2; ++h) {
                a_four[h] = *reinterpret_cast<Four *>(&As[stage][k][tile_row + h * WM / 2]);
                b_four[h] = *reinterpret_cast<Four *>(&Bs[stage][k][tile_col + h * WN / 2]);
            }
#pragma unroll
            for (int i = 0; i < TM; ++i)
#pragma unroll
                for (int j = 0; j < TN; ++j)
                    sums[i][j] += a_four[i / 4].v[i % 4] * b_four[j / 4].v[j % 4];
        }
        // The other stage was last read before the last barrier: it may be overwritten.
        put<a_k_contiguous>(As[stage ^ 1], a_next, t);
        put<b_k_contiguous>(Bs[stage ^ 1], b_next, t);
        __syncthreads();
    }

    bool c_aligned = reinterpret_cast<size_t>(C) % 16 == 0 && ldc * sizeof(REAL) % 16 == 0;
#pragma unroll
    for (int i = 0; i < TM; ++i) {
        int row = row0 + tile_row + i / 4 * WM / 2 + i % 4;
        if (row >= M) continue;
#pragma unroll
        for (int h = 0; h < 2; ++h) {
            int col = col0 + tile_col + h * WN / 2;
            REAL *to = C + row * ldc + col;
            Four four;
#pragma unroll
            for (int j = 0; j < 4; ++j) {
                four.v[j] = sums[i][h * 4 + j];
#ifdef BIAS
                if (col + j < N) four.v[j] += bias[col + j];
#endif
#ifdef ACCUMULATE
                if (col + j < N) four.v[j] += to[j];
#endif
            }
            if (c_aligned && col + 4 <= N) {
                *reinterpret_cast<Four *>(to) = four;
            } else {
#pragma unroll
                for (int j = 0; j < 4; ++j)
                    if (col + j < N) to[j] = four.v[j];
            }
        }
    }
}
