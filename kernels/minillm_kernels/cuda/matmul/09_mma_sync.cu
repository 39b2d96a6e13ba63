// 09_mma_sync.cu   C = A @ B in fp16 (-DBF16: bf16) with sums in fp32, row-major
//
// Idea: say to the tensor cores in PTX what WMMA hides. mma.sync has a known map from lanes to
//   elements, so that ldmatrix fills operands straight from swizzled (unpadded) shared memory and
//   sums leave from registers; cp.async copies device memory to shared memory past the registers,
//   STAGES - 1 tiles ahead.
// Arithmetic: 2 M N K operations. Bytes: 2 M N K (1 / BM + 1 / BN) from L2, 85 operations a byte
//   at 128 x 256. A step of 16 k: a warp reads (64 + 64) x 16 numbers, 4 KB, for 131072 operations
//   (08: 3 KB for 65536).
// Budget: 256 threads, at most 255 registers each (128 sums, 64 operands of two steps), one block
//   an SM; 4 stages x (128 x 32 + 32 x 256) numbers, 96 KB.
// Banks: 16-byte chunks are permuted so that ldmatrix's 8 rows and cp.async's 8 neighbours each
//   lie in 32 different banks (the index functions below).
// A, B and C must start every row at a multiple of 16 bytes; M, N and K are free.
// Share of cuBLAS fp16 at 8192^3 on an H100: not yet measured
// Runs on: sm_80 sm_90; it has never run on a GPU. Checked on the CPU with a model of its PTX.
// Source of the idea: PTX ISA 9.0, sections on mma.m16n8k16, ldmatrix and cp.async.

#include <cuda_fp16.h>
#ifdef BF16
#include <cuda_bf16.h>
#define HALF __nv_bfloat16
#define HALF2 __nv_bfloat162
#define TO_HALF __float2bfloat16
#define TO_HALF2 __floats2bfloat162_rn
#define TYPE "bf16"
#else
#define HALF __half
#define HALF2 __half2
#define TO_HALF __float2half
#define TO_HALF2 __floats2half2_rn
#define TYPE "f16"
#endif
#define BM 128
#define BN 256
#define BK 32
#define STAGES 4
#define WM 64   // warp tile
#define WN 64
#define THREADS (BM / WM * (BN / WN) * 32)
#define CHUNK 8   // numbers in 16 bytes
#define A_CHUNKS (BM * BK / CHUNK)
#define B_CHUNKS (BK * BN / CHUNK)
#define STEPS (BK / 16)
#define GROUP 16   // rows of tiles that blocks next to each other in time share

// ---- Index functions ---------------------------------------------------------------------------
// Where chunk (row, c) of a tile lies, in chunks. A row of A is 64 bytes: two of them fill the 32
// banks, and rows 2 i and 2 i + 1 permute their four chunks by i. A row of B is 512 bytes: row k
// permutes each eight chunks by k % 8.
__device__ int a_chunk(int row, int c) { return row * (BK / CHUNK) + (c ^ (row / 2 % 4)); }
__device__ int b_chunk(int k, int c) { return k * (BN / CHUNK) + (c ^ (k % 8)); }

// Blocks that run at one time should share rows of A and columns of B in L2: the order goes down
// GROUP tiles before it goes one to the right.
__device__ void tile_of(int index, int rows, int columns, int &row, int &column) {
    int first = index / (GROUP * columns) * GROUP;
    int height = rows - first < GROUP ? rows - first : GROUP;
    row = first + index % (GROUP * columns) % height;
    column = index % (GROUP * columns) / height;
}

// ---- PTX ---------------------------------------------------------------------------------------
#ifdef PTX_MODEL
#include PTX_MODEL
#else
__device__ unsigned shared_address(const void *pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

// Copy `bytes` (0 to 16) of 16 and fill up with zeros; arrives at some time before its group does.
__device__ void copy_async(void *to, const void *from, int bytes) {
    asm volatile("cp.async.cg.shared.global [%0], [%1], 16, %2;"
                 :: "r"(shared_address(to)), "l"(from), "r"(bytes) : "memory");
}

__device__ void copies_commit() { asm volatile("cp.async.commit_group;" ::: "memory"); }

// Wait until at most `pending` of this thread's groups are still on their way.
template <int pending>
__device__ void copies_wait() { asm volatile("cp.async.wait_group %0;" :: "n"(pending) : "memory"); }

// Four 8 x 8 matrices: lane l points at row l % 8 of matrix l / 8. Register i gets of matrix i the
// elements (l / 4, l % 4 * 2 + {0, 1}); transposed, (l % 4 * 2 + {0, 1}, l / 4).
__device__ void load_matrices(unsigned (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)) : "memory");
}

__device__ void load_matrices_transposed(unsigned (&r)[4], const void *row) {
    asm volatile("ldmatrix.sync.aligned.m8n8.x4.trans.shared.b16 {%0, %1, %2, %3}, [%4];"
                 : "=r"(r[0]), "=r"(r[1]), "=r"(r[2]), "=r"(r[3])
                 : "r"(shared_address(row)) : "memory");
}

// sums (16 x 8) += a (16 x 16) @ b (16 x 8). Of the sums a lane holds (l / 4, l % 4 * 2 + {0, 1})
// and the same 8 rows below.
__device__ void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    asm volatile("mma.sync.aligned.m16n8k16.row.col.f32." TYPE "." TYPE ".f32 "
                 "{%0, %1, %2, %3}, {%4, %5, %6, %7}, {%8, %9}, {%0, %1, %2, %3};"
                 : "+f"(sums[0]), "+f"(sums[1]), "+f"(sums[2]), "+f"(sums[3])
                 : "r"(a[0]), "r"(a[1]), "r"(a[2]), "r"(a[3]), "r"(b0), "r"(b1));
}
#endif

// ---- The kernel --------------------------------------------------------------------------------
struct alignas(16) Chunk {
    HALF v[CHUNK];
};

// From the numbers that are left in a row to the bytes to copy of a chunk: 0 to 16.
__device__ int bytes_of(int left) { return left <= 0 ? 0 : left < CHUNK ? left * 2 : 16; }

// lda, ldb, ldc: elements from one row to the next. The grid is one block a tile, in one axis.
extern "C" __global__ void __launch_bounds__(THREADS, 1)
matmul(const HALF *A, const HALF *B, HALF *C, int M, int N, int K,
       long long lda, long long ldb, long long ldc) {
    extern __shared__ __align__(128) unsigned char memory[];
    Chunk *As = reinterpret_cast<Chunk *>(memory);   // [STAGES][A_CHUNKS]
    Chunk *Bs = As + STAGES * A_CHUNKS;              // [STAGES][B_CHUNKS]
    int t = threadIdx.x, warp = t / 32, lane = t % 32;
    int row0, col0;
    tile_of(blockIdx.x, (M + BM - 1) / BM, (N + BN - 1) / BN, row0, col0);
    row0 *= BM, col0 *= BN;
    int warp_row = warp / (BN / WN) * WM, warp_col = warp % (BN / WN) * WN;

    auto fetch = [&](int stage, int k0) {
#pragma unroll
        for (int i = 0; i < A_CHUNKS / THREADS; ++i) {
            int row = (t + i * THREADS) / (BK / CHUNK), c = t % (BK / CHUNK);
            int bytes = row0 + row < M ? bytes_of(K - k0 - c * CHUNK) : 0;
            const HALF *from = bytes ? A + (row0 + row) * lda + k0 + c * CHUNK : A;
            copy_async(&As[stage * A_CHUNKS + a_chunk(row, c)], from, bytes);
        }
#pragma unroll
        for (int i = 0; i < B_CHUNKS / THREADS; ++i) {
            int k = (t + i * THREADS) / (BN / CHUNK), c = t % (BN / CHUNK);
            int bytes = k0 + k < K ? bytes_of(N - col0 - c * CHUNK) : 0;
            const HALF *from = bytes ? B + (k0 + k) * ldb + col0 + c * CHUNK : B;
            copy_async(&Bs[stage * B_CHUNKS + b_chunk(k, c)], from, bytes);
        }
    };

    float sums[WM / 16][WN / 8][4] = {};
    unsigned a[2][WM / 16][4], b[2][WN / 16][4];   // operands of this step and of the next
    // Lanes 0 to 15 point at the 16 rows of the left half of a 16 x 16 piece, 16 to 31 of the right.
    auto load = [&](int into, int stage, int step) {
#pragma unroll
        for (int i = 0; i < WM / 16; ++i)
            load_matrices(a[into][i], &As[stage * A_CHUNKS + a_chunk(warp_row + i * 16 + lane % 16,
                                                                     step * 2 + lane / 16)]);
#pragma unroll
        for (int j = 0; j < WN / 16; ++j)   // B lies k x columns: transposed, a lane gets two k
            load_matrices_transposed(
                b[into][j], &Bs[stage * B_CHUNKS + b_chunk(step * 16 + lane % 16,
                                                           warp_col / CHUNK + j * 2 + lane / 16)]);
    };

    int tiles = (K + BK - 1) / BK;
#pragma unroll
    for (int s = 0; s < STAGES - 1; ++s) {
        if (s < tiles) fetch(s, s * BK);
        copies_commit();   // an empty group too: the count of groups is the count of tiles
    }
    for (int tile = 0; tile < tiles; ++tile) {
        int stage = tile % STAGES;
        copies_wait<STAGES - 2>();   // this thread's part of the tile has arrived,
        __syncthreads();             // everybody's has; and nobody reads the last tile any more,
        if (tile + STAGES - 1 < tiles)   // whose stage can be filled again
            fetch((tile + STAGES - 1) % STAGES, (tile + STAGES - 1) * BK);
        copies_commit();
        load(0, stage, 0);
#pragma unroll
        for (int step = 0; step < STEPS; ++step) {
            if (step + 1 < STEPS) load((step + 1) % 2, stage, step + 1);
#pragma unroll
            for (int i = 0; i < WM / 16; ++i)
#pragma unroll
                for (int j = 0; j < WN / 8; ++j)
                    multiply_add(sums[i][j], a[step % 2][i], b[step % 2][j / 2][j % 2 * 2],
                                 b[step % 2][j / 2][j % 2 * 2 + 1]);
        }
    }

#pragma unroll
    for (int i = 0; i < WM / 16; ++i)
#pragma unroll
        for (int half = 0; half < 2; ++half) {
            int row = row0 + warp_row + i * 16 + half * 8 + lane / 4;
            if (row >= M) continue;
#pragma unroll
            for (int j = 0; j < WN / 8; ++j) {
                int col = col0 + warp_col + j * 8 + lane % 4 * 2;
                HALF *to = C + row * ldc + col;
                const float *sum = &sums[i][j][half * 2];
                if (col + 1 < N) *reinterpret_cast<HALF2 *>(to) = TO_HALF2(sum[0], sum[1]);
                else if (col < N) *to = TO_HALF(sum[0]);
            }
        }
}
