// 10_wgmma_tma.cu   C = A @ B in fp16 (-DBF16: bf16) with sums in fp32, row-major
//
// Idea: Hopper's own instructions, and a warp for each job. One thread tells the copy engine (TMA)
//   to fetch tiles; two warpgroups of 128 threads do nothing but multiply (wgmma reads both
//   operands from shared memory by itself); mbarriers between them say "full" and "empty". Blocks
//   stay for many tiles (persistent), so that the next tile's copies run under this one's stores.
//   Two blocks, a cluster, take tiles below each other: each fetches half of B for both (multicast).
// Arithmetic: 2 M N K operations. Bytes: 2 M N K (1 / (2 BM) + 1 / BN) from L2, 128 operations a
//   byte at 128 x 256; without the cluster (-DCLUSTER=1) 85, which at 132 SMs x 4096 operations a
//   cycle would ask L2 for 48 bytes a cycle and SM.
// Budget: 384 threads at 168 registers; the producer's warpgroup gives back down to 40 and the
//   two consumers take 232 (128 of them sums): 128 x 40 + 256 x 232 = 64512 of 65536. One block
//   an SM; 4 stages x (128 x 64 + 64 x 256) numbers, 192 KB, + 64 bytes of barriers + alignment.
// Banks: TMA writes with the 128-byte swizzle, the one that wgmma reads without conflicts.
// A, B and C must start every row at a multiple of 16 bytes; M, N and K are free.
// Share of cuBLAS fp16 at 8192^3 on an H100: not yet measured
// Runs on: sm_90a; it has never run on a GPU. Checked on the CPU with a model of its PTX; the
//   descriptors' offsets are those that Triton 3.9 writes for tiles of this shape.
// Source of the idea: PTX ISA 9.0, sections on wgmma (matrix descriptor, strides), tensor copies
//   and mbarrier; Kerr et al. (CUTLASS 3) for the warp-specialised, persistent shape.

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
#define BK 64       // 128 bytes: as wide as the swizzle
#define BOX 64      // columns of B in one copy, for the same reason
#define STAGES 4
#define GROUPS 2    // consumer warpgroups, 64 rows of the tile each
#ifndef CLUSTER
#define CLUSTER 2   // blocks that share their tiles of B: 1 or 2
#endif
#define THREADS (128 * (GROUPS + 1))
#define A_BYTES (BM * BK * 2)
#define B_BYTES (BK * BN * 2)
#define BOX_BYTES (BK * BOX * 2)
#define STAGE_BYTES (A_BYTES + B_BYTES)
#define ALIGNMENT 1024   // the swizzle's pattern repeats after 8 rows of 128 bytes
#define GROUP (16 / CLUSTER)   // rows of clusters' tiles that clusters at work at one time share

// ---- Index functions ---------------------------------------------------------------------------
// Blocks that run at one time should share rows of A and columns of B in L2: the order goes down
// GROUP tiles before it goes one to the right.
__device__ void tile_of(int index, int rows, int columns, int &row, int &column) {
    int first = index / (GROUP * columns) * GROUP;
    int height = rows - first < GROUP ? rows - first : GROUP;
    row = first + index % (GROUP * columns) % height;
    column = index % (GROUP * columns) / height;
}

// wgmma's matrix descriptor (PTX ISA, "Matrix Descriptor Format"): the address, the leading and the
// stride byte offset, all in units of 16 bytes, and 1 for the 128-byte swizzle in bits 62 and 63.
__device__ unsigned long long descriptor(unsigned address, unsigned leading, unsigned stride) {
    return (address & 0x3FFFF) >> 4 | (unsigned long long)(leading >> 4) << 16 |
           (unsigned long long)(stride >> 4) << 32 | 1ull << 62;
}

// A lies rows x k: 8 rows of 128 bytes are a pattern of 1024 bytes, the stride from 8 rows to the
// next 8. 16 k further is 32 bytes further inside the pattern. The leading offset is not used.
__device__ unsigned long long a_descriptor(unsigned tile, int group, int step) {
    return descriptor(tile + group * 64 * BK * 2 + step * 32, 0, 1024);
}

// B lies k x columns, 64 columns a box: the leading offset goes from 64 columns to the next 64, the
// stride from 8 k to the next 8. 16 k further is two patterns further.
__device__ unsigned long long b_descriptor(unsigned tile, int step) {
    return descriptor(tile + step * 16 * BOX * 2, BOX_BYTES, 1024);
}

// A ring of STAGES buffers. Use i of the ring is of stage i % STAGES, round i / STAGES; a barrier's
// phases alternate between parity 0 and 1, so that round r waits for the end of phase r.
__device__ int stage_of(unsigned use) { return use % STAGES; }
__device__ int full_parity(unsigned use) { return use / STAGES % 2; }
// An empty buffer of round r is one that was consumed in round r - 1; a fresh barrier answers at
// once to parity 1, as if a phase before the first had ended.
__device__ int empty_parity(unsigned use) { return use / STAGES % 2 ^ 1; }

// ---- PTX ---------------------------------------------------------------------------------------
struct alignas(64) TensorMap {   // cuda.h's CUtensorMap
    unsigned long long opaque[16];
};

#ifdef PTX_MODEL
#include PTX_MODEL
#else
__device__ unsigned shared_address(const void *pointer) {
    return static_cast<unsigned>(__cvta_generic_to_shared(pointer));
}

__device__ void barrier_init(unsigned barrier, int arrivals) {
    asm volatile("mbarrier.init.shared::cta.b64 [%0], %1;" :: "r"(barrier), "r"(arrivals) : "memory");
}

// Fresh barriers become visible to the copy engine too.
__device__ void barriers_ready() {
    asm volatile("fence.mbarrier_init.release.cluster;" ::: "memory");
    asm volatile("fence.proxy.async.shared::cta;" ::: "memory");
}

// All threads of all blocks of the cluster.
__device__ void cluster_wait() {
    asm volatile("barrier.cluster.arrive.release;\nbarrier.cluster.wait.acquire;" ::: "memory");
}

__device__ int cluster_rank() {
    int rank;
    asm("mov.u32 %0, %%cluster_ctarank;" : "=r"(rank));
    return rank;
}

// Arrive at the barrier that lies at the same place in another block of the cluster (or this one).
__device__ void barrier_arrive(unsigned barrier, int block) {
    asm volatile("{\n"
                 ".reg .b32 there;\n"
                 "mapa.shared::cluster.u32 there, %0, %1;\n"
                 "mbarrier.arrive.release.cluster.shared::cluster.b64 _, [there];\n"
                 "}" :: "r"(barrier), "r"(block) : "memory");
}

// Arrive, and make the phase last until so many bytes have been copied besides.
__device__ void barrier_expect(unsigned barrier, int bytes) {
    asm volatile("mbarrier.arrive.expect_tx.shared::cta.b64 _, [%0], %1;"
                 :: "r"(barrier), "r"(bytes) : "memory");
}

__device__ void barrier_wait(unsigned barrier, int parity) {
    asm volatile("{\n"
                 ".reg .pred done;\n"
                 "again:\n"
                 "mbarrier.try_wait.parity.acquire.cluster.shared::cta.b64 done, [%0], %1;\n"
                 "@!done bra again;\n"
                 "}" :: "r"(barrier), "r"(parity) : "memory");
}

// Copy the box whose first element is (row, column); zeros outside the matrix count as bytes too.
__device__ void copy_box(unsigned to, const TensorMap *map, int column, int row, unsigned barrier) {
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes "
                 "[%0], [%1, {%2, %3}], [%4];"
                 :: "r"(to), "l"(map), "r"(column), "r"(row), "r"(barrier) : "memory");
}

// The same into the same place of every block of the cluster; each one's barrier hears of it.
__device__ void copy_box_to_all(unsigned to, const TensorMap *map, int column, int row,
                                unsigned barrier) {
    unsigned short blocks = (1 << CLUSTER) - 1;
    asm volatile("cp.async.bulk.tensor.2d.shared::cluster.global.mbarrier::complete_tx::bytes"
                 ".multicast::cluster [%0], [%1, {%2, %3}], [%4], %5;"
                 :: "r"(to), "l"(map), "r"(column), "r"(row), "r"(barrier), "h"(blocks) : "memory");
}

template <int registers> __device__ void give_registers() {
    asm volatile("setmaxnreg.dec.sync.aligned.u32 %0;" :: "n"(registers));
}
template <int registers> __device__ void take_registers() {
    asm volatile("setmaxnreg.inc.sync.aligned.u32 %0;" :: "n"(registers));
}

__device__ void multiply_fence() { asm volatile("wgmma.fence.sync.aligned;" ::: "memory"); }
__device__ void multiply_commit() { asm volatile("wgmma.commit_group.sync.aligned;" ::: "memory"); }
template <int pending> __device__ void multiply_wait(float (&sums)[128]) {
    asm volatile("wgmma.wait_group.sync.aligned %0;" :: "n"(pending) : "memory");
    if (pending == 0)   // no use of the sums may move up over the wait
#pragma unroll
        for (int i = 0; i < 128; ++i) asm volatile("" : "+f"(sums[i]) :: "memory");
}

#define FOUR(i) "+f"(sums[i]), "+f"(sums[i + 1]), "+f"(sums[i + 2]), "+f"(sums[i + 3])
#define SIXTEEN(i) FOUR(i), FOUR(i + 4), FOUR(i + 8), FOUR(i + 12)
// sums (64 x 256) = a (64 x 16) @ b (16 x 256) + (keep ? sums : 0), for a whole warpgroup. Lane l of
// warp w holds in sums[4 j + 2 h + e] the element (16 w + 8 h + l / 4, 8 j + l % 4 * 2 + e).
// The last two numbers: A's k is contiguous (0), B's is not (1).
__device__ void multiply(float (&sums)[128], unsigned long long a, unsigned long long b, int keep) {
    asm volatile(
        "{\n.reg .pred keep;\nsetp.ne.b32 keep, %130, 0;\n"
        "wgmma.mma_async.sync.aligned.m64n256k16.f32." TYPE "." TYPE " "
        "{%0, %1, %2, %3, %4, %5, %6, %7, %8, %9, %10, %11, %12, %13, %14, %15, "
        " %16, %17, %18, %19, %20, %21, %22, %23, %24, %25, %26, %27, %28, %29, %30, %31, "
        " %32, %33, %34, %35, %36, %37, %38, %39, %40, %41, %42, %43, %44, %45, %46, %47, "
        " %48, %49, %50, %51, %52, %53, %54, %55, %56, %57, %58, %59, %60, %61, %62, %63, "
        " %64, %65, %66, %67, %68, %69, %70, %71, %72, %73, %74, %75, %76, %77, %78, %79, "
        " %80, %81, %82, %83, %84, %85, %86, %87, %88, %89, %90, %91, %92, %93, %94, %95, "
        " %96, %97, %98, %99, %100, %101, %102, %103, %104, %105, %106, %107, %108, %109, %110, %111, "
        " %112, %113, %114, %115, %116, %117, %118, %119, %120, %121, %122, %123, %124, %125, %126, %127}, "
        "%128, %129, keep, 1, 1, 0, 1;\n}"
        : SIXTEEN(0), SIXTEEN(16), SIXTEEN(32), SIXTEEN(48),
          SIXTEEN(64), SIXTEEN(80), SIXTEEN(96), SIXTEEN(112)
        : "l"(a), "l"(b), "r"(keep));
}
#endif

// ---- The kernel --------------------------------------------------------------------------------
// a_map: A's boxes of BM rows x BK; b_map: B's of BK x BOX columns. ldc: elements from one row to
// the next. The grid is a multiple of CLUSTER, at most one block an SM.
extern "C" __global__ void __launch_bounds__(THREADS, 1) __cluster_dims__(CLUSTER, 1, 1)
matmul(const __grid_constant__ TensorMap a_map, const __grid_constant__ TensorMap b_map, HALF *C,
       int M, int N, int K, long long ldc) {
    extern __shared__ __align__(128) unsigned char memory[];
    unsigned start = shared_address(memory);
    start = (start + ALIGNMENT - 1) / ALIGNMENT * ALIGNMENT;
    unsigned full = start + STAGES * STAGE_BYTES, empty = full + STAGES * 8;   // 8 bytes a barrier
    int t = threadIdx.x, warpgroup = t / 128;
    int rows = (M + CLUSTER * BM - 1) / (CLUSTER * BM), columns = (N + BN - 1) / BN;   // of clusters
    int steps = (K + BK - 1) / BK, rank = CLUSTER > 1 ? cluster_rank() : 0;
    int clusters = gridDim.x / CLUSTER, first = blockIdx.x / CLUSTER;

    if (t == 0) {
        for (int s = 0; s < STAGES; ++s) {
            barrier_init(full + s * 8, 1);   // the producer of this block, and the bytes
            barrier_init(empty + s * 8, CLUSTER * GROUPS * 4);   // every consumer warp of all blocks
        }
        barriers_ready();
    }
    if (CLUSTER > 1) cluster_wait();   // nobody's barriers are used before they are there
    else __syncthreads();

    unsigned use = 0;   // of the ring, counted on from tile to tile
    if (warpgroup == 0) {
        give_registers<40>();
        if (t == 0) {
            for (int tile = first; tile < rows * columns; tile += clusters) {
                int row, column;
                tile_of(tile, rows, columns, row, column);
                row = row * CLUSTER + rank;
#pragma unroll 1
                for (int step = 0; step < steps; ++step, ++use) {
                    int s = stage_of(use);
                    unsigned a_tile = start + s * STAGE_BYTES, b_tile = a_tile + A_BYTES;
                    barrier_wait(empty + s * 8, empty_parity(use));
                    barrier_expect(full + s * 8, STAGE_BYTES);
                    copy_box(a_tile, &a_map, step * BK, row * BM, full + s * 8);
                    for (int i = 0; i < BN / BOX / CLUSTER; ++i) {
                        int box = rank * (BN / BOX / CLUSTER) + i;
                        (CLUSTER > 1 ? copy_box_to_all : copy_box)(
                            b_tile + box * BOX_BYTES, &b_map, column * BN + box * BOX, step * BK,
                            full + s * 8);
                    }
                }
            }
        }
    } else {
        take_registers<232>();
        int group = warpgroup - 1, lane = t % 32;
        float sums[128];
        for (int tile = first; tile < rows * columns; tile += clusters) {
            int row, column;
            tile_of(tile, rows, columns, row, column);
            row = row * CLUSTER + rank;
            for (int step = 0; step < steps; ++step, ++use) {
                int s = stage_of(use);
                unsigned a_tile = start + s * STAGE_BYTES, b_tile = a_tile + A_BYTES;
                barrier_wait(full + s * 8, full_parity(use));
                multiply_fence();
#pragma unroll
                for (int k = 0; k < BK / 16; ++k)
                    multiply(sums, a_descriptor(a_tile, group, k), b_descriptor(b_tile, k),
                             step > 0 || k > 0);
                multiply_commit();
                // The products of the stage before are done while these run: give it back, to all
                // who fill it.
                multiply_wait<1>(sums);
                if (step > 0 && lane < CLUSTER)
                    barrier_arrive(empty + stage_of(use - 1) * 8, lane);
            }
            multiply_wait<0>(sums);
            if (lane < CLUSTER) barrier_arrive(empty + stage_of(use - 1) * 8, lane);

#pragma unroll
            for (int half = 0; half < 2; ++half) {
                int r = row * BM + group * 64 + t % 128 / 32 * 16 + half * 8 + lane / 4;
                if (r >= M) continue;
#pragma unroll
                for (int j = 0; j < BN / 8; ++j) {
                    int c = column * BN + j * 8 + lane % 4 * 2;
                    HALF *to = C + r * ldc + c;
                    const float *sum = &sums[j * 4 + half * 2];
                    if (c + 1 < N) *reinterpret_cast<HALF2 *>(to) = TO_HALF2(sum[0], sum[1]);
                    else if (c < N) *to = TO_HALF(sum[0]);
                }
            }
        }
    }
    if (CLUSTER > 1) cluster_wait();   // a block's memory stays while others may write to it
}
