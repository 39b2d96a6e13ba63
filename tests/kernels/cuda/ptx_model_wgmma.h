// mbarriers, tensor copies and wgmma for rung 10; ptx_model.h says how and why.

#pragma once

#include "ptx_model.h"

// A cluster is one block of the emulator with the threads of all its blocks.
constexpr int BLOCK_THREADS = 384;
static int block_of_cluster() { return (int)emu_self()->linear / BLOCK_THREADS; }
static int cluster_rank() { return block_of_cluster(); }
static void cluster_wait() { __syncthreads(); }

struct Index {
    unsigned x;
};
static Index thread_index() { return {emu_self()->linear % BLOCK_THREADS}; }
static Index block_index() { return {emu_self()->block_index.x * CLUSTER + block_of_cluster()}; }
static Index grid_size() { return {emu_self()->grid_size.x * CLUSTER}; }
#undef threadIdx
#undef blockIdx
#undef gridDim
#define threadIdx thread_index()
#define blockIdx block_index()
#define gridDim grid_size()
#undef THREADS
#define THREADS (CLUSTER * BLOCK_THREADS)   // that __launch_bounds__ promises

// Each block's shared memory as a GPU numbers it, from an address that is no multiple of much.
constexpr unsigned SHARED_START = 1040, SHARED_BYTES = 227 * 1024;
static unsigned char shared_of[CLUSTER][SHARED_BYTES];

static unsigned char *at(unsigned address, int block) {
    if (address < SHARED_START || address >= SHARED_START + SHARED_BYTES) refuse("not in shared memory");
    return shared_of[block] + (address - SHARED_START);
}

static unsigned shared_address(const void *) { return SHARED_START; }   // of `memory`, its start

struct Barrier {   // 8 bytes, as the real one
    uint8_t expected, pending, phase, magic;
    int32_t bytes;
};
static unsigned idle;   // polls since anything last happened

static Barrier &barrier_at(unsigned address, int block) {
    if (address % 8) refuse("a barrier off 8 bytes");
    Barrier &barrier = *(Barrier *)at(address, block);
    if (barrier.magic != 0xb5) refuse("a barrier that nobody initialised");
    return barrier;
}

static void settle(Barrier &barrier) {
    idle = 0;
    if (barrier.pending == 0 && barrier.bytes == 0) {
        barrier.phase ^= 1;
        barrier.pending = barrier.expected;
    }
}

static void barrier_init(unsigned address, int arrivals) {
    Barrier fresh = {(uint8_t)arrivals, (uint8_t)arrivals, 0, 0xb5, 0};
    memcpy(at(address, block_of_cluster()), &fresh, sizeof fresh);
}
static void barriers_ready() {}

static void barrier_arrive(unsigned address, int block) {
    if (block >= CLUSTER) refuse("there is no such block in the cluster");
    Barrier &barrier = barrier_at(address, block);
    if (barrier.pending == 0) refuse("more arrivals than a phase has");
    --barrier.pending;
    settle(barrier);
}

static void barrier_expect(unsigned address, int bytes) {
    barrier_at(address, block_of_cluster()).bytes += bytes;
    barrier_arrive(address, block_of_cluster());
}

struct PendingBox {
    unsigned to, barrier;
    const TensorMap *map;
    int column, row, block;
};
static PendingBox boxes[64];
static int box_count;

// The map, as the test writes it: address, columns, rows, bytes from row to row, box's columns and rows.
// "Swizzling Modes": bits 4 to 6 of the shared address are exchanged by their XOR with bits 7 to 9.
static unsigned swizzled(unsigned address) { return address ^ (address >> 7 & 7) << 4; }

static void perform(const PendingBox &box) {
    const unsigned long long *m = box.map->opaque;
    int box_columns = (int)m[4], box_rows = (int)m[5];
    if (box_columns * 2 != 128) refuse("a box that is not as wide as the swizzle");
    for (int r = 0; r < box_rows; ++r) {
        for (int c = 0; c < box_columns; ++c) {
            long long row = (long long)box.row + r, column = (long long)box.column + c;
            uint16_t value = 0;
            if (row >= 0 && row < (long long)m[2] && column >= 0 && column < (long long)m[1])
                memcpy(&value, (const char *)m[0] + row * (long long)m[3] + column * 2, 2);
            memcpy(at(swizzled(box.to + r * 128 + c * 2), box.block), &value, 2);
        }
    }
    Barrier &barrier = barrier_at(box.barrier, box.block);
    barrier.bytes -= box_rows * 128;
    settle(barrier);
}

static void copy_to(const PendingBox &box) {
    if (box.to % 1024) refuse("a box whose swizzle does not begin at its start");
    if (!copies_late) return perform(box);
    if (box_count == 64) refuse("more boxes pending than the model holds");
    int bytes = (int)(box.map->opaque[4] * box.map->opaque[5] * 2);
    for (int i = 0; i < bytes; ++i) *at(box.to + i, box.block) = 0xff;   // NaNs
    boxes[box_count++] = box;
}

static void copy_box(unsigned to, const TensorMap *map, int column, int row, unsigned barrier) {
    copy_to({to, barrier, map, column, row, block_of_cluster()});
}

// .multicast::cluster: to the same place in all blocks, and told to the barrier at its place in each.
static void copy_box_to_all(unsigned to, const TensorMap *map, int column, int row, unsigned barrier) {
    for (int block = 0; block < CLUSTER; ++block) copy_to({to, barrier, map, column, row, block});
}

// try_wait.parity: true when the phase of that parity has ended; of a fresh barrier, parity 1 has.
static void barrier_wait(unsigned address, int parity) {
    while (barrier_at(address, block_of_cluster()).phase == parity) {
        if (++idle > 4000 && box_count) {   // everybody waits: let the oldest copy arrive
            PendingBox box = boxes[0];
            memmove(boxes, boxes + 1, --box_count * sizeof *boxes);
            perform(box);
        } else if (idle > 40000) {
            refuse("a deadlock: everybody waits");
        }
        emu_yield();
    }
}

template <int registers> static void give_registers() {}
template <int registers> static void take_registers() {}

// "Matrix Descriptor Format": what bits 0-13, 16-29 and 32-45 hold, times 16, are the start and the
// leading and stride byte offsets. Canonical layouts with the 128-byte swizzle (1 in bits 62-63):
//   K-major:  rows of 128 bytes (64 k); 8 rows make an atom, atoms of rows lie a stride apart;
//   MN-major: rows of 128 bytes (64 of M or N), one for each k; 8 k make an atom, atoms of k lie a
//             stride apart and atoms of M or N a leading offset.
struct Descriptor {
    unsigned start, leading, stride;

    Descriptor(unsigned long long bits) {
        start = (unsigned)(bits & 0x3fff) * 16;
        leading = (unsigned)(bits >> 16 & 0x3fff) * 16;
        stride = (unsigned)(bits >> 32 & 0x3fff) * 16;
        if (bits >> 62 != 1 || (bits >> 49 & 7)) refuse("a descriptor of another layout");
    }
    float k_major(int row, int k) const {
        return read(start + row / 8 * stride + row % 8 * 128 + k * 2);
    }
    float mn_major(int column, int k) const {
        return read(start + column / 64 * leading + k / 8 * stride + k % 8 * 128 + column % 64 * 2);
    }
    static float read(unsigned address) {
        uint16_t bits;
        memcpy(&bits, at(swizzled(address), block_of_cluster()), 2);
        return number(bits);
    }
};

struct Product {
    float *sums;
    unsigned long long a, b;
    int keep, group;
};
struct Products {
    uint64_t block;
    int count, groups;
    Product product[64];
};
static Products products_of[1024];

static Products &my_products() {
    Products &mine = products_of[self()];
    uint64_t block = 1 + blockIdx.x;
    if (mine.block != block) mine.count = mine.groups = 0, mine.block = block;
    return mine;
}

// "Register Fragments for wgmma.m64nNk16", accumulator d: in warp w of the group, d_i is of row
// 16 w + lane / 4 (+ 8 if i & 2) and column 8 (i / 4) + 2 (lane % 4) + (i & 1).
static void perform(const Product &p) {
    int t = self() % 128, lane = t % 32;
    Descriptor a(p.a), b(p.b);
    int first_row = t / 32 * 16 + lane / 4;
    for (int k = 0; k < 16; ++k) {
        float upper = a.k_major(first_row, k), lower = a.k_major(first_row + 8, k);
        for (int i = 0; i < 128; i += 4) {
            for (int e = 0; e < 2; ++e) {
                float value = b.mn_major(i * 2 + lane % 4 * 2 + e, k);
                if (k == 0 && !p.keep) p.sums[i + e] = p.sums[i + 2 + e] = 0;
                p.sums[i + e] += upper * value;
                p.sums[i + 2 + e] += lower * value;
            }
        }
    }
}

static void multiply_fence() {}

static void multiply(float (&sums)[128], unsigned long long a, unsigned long long b, int keep) {
    Products &mine = my_products();
    Product p = {sums, a, b, keep, mine.groups};
    if (!products_late) return perform(p);
    if (mine.count == 64) refuse("more products pending than the model holds");
    mine.product[mine.count++] = p;
}

static void multiply_commit() { ++my_products().groups; }

template <int pending>
static void multiply_wait(float (&)[128]) {
    Products &mine = my_products();
    int kept = 0;
    for (int i = 0; i < mine.count; ++i) {
        if (mine.product[i].group < mine.groups - pending) perform(mine.product[i]);
        else mine.product[kept++] = mine.product[i];
    }
    mine.count = kept;
}
