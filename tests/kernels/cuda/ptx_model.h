// The PTX of rungs 09 and 10 as PTX ISA 9.0 describes it, in C++ on top of the emulator: the kernels
// around it run unchanged, with their own indices, descriptors and barriers.
//
// What is asynchronous on a GPU happens here at one of two extremes, chosen when the file is compiled:
// at once (someone who should have waited before giving a buffer away is found), or with -DCOPIES_LATE
// and -DPRODUCTS_LATE as late as the rules allow (someone who reads before waiting is found).
//
// Written from the ISA's text, not from the kernels: where both say the same thing, they say it in
// different ways. No standard headers of C++: the emulator's macros would break them.

#pragma once

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef COPIES_LATE
constexpr bool copies_late = true;
#else
constexpr bool copies_late = false;
#endif
#ifdef PRODUCTS_LATE
constexpr bool products_late = true;
#else
constexpr bool products_late = false;
#endif

static void refuse(const char *why) {
    fprintf(stderr, "the model refuses: %s\n", why);
    __trap();
}

static float number(uint16_t bits) {
    HALF value;
    memcpy(&value, &bits, 2);
    return (float)value;
}

// Shared memory as a GPU numbers it, from an address that is no multiple of anything large. One block
// runs on one thread of the machine, so that thread_local means "of the block".
constexpr unsigned SHARED_START = 1040, SHARED_BYTES = 227 * 1024;
static thread_local unsigned char *shared_base;

static int self() { return (int)emu_self()->linear; }

static unsigned char *at(unsigned address) {
    if (address < SHARED_START || address >= SHARED_START + SHARED_BYTES) refuse("not in shared memory");
    return shared_base + (address - SHARED_START);
}

// ---- cp.async, ldmatrix, mma.sync (rung 09) -------------------------------------------------------

struct PendingCopy {
    void *to;
    const void *from;
    int bytes;
};
struct Copies {   // of one thread: a queue of groups of copies
    uint64_t block;
    int count, groups, group_of[64];
    PendingCopy copy[64];
};
static thread_local Copies copies_of[1024];

static Copies &my_copies() {
    Copies &mine = copies_of[self()];
    uint64_t block = 1 + blockIdx.x;
    if (mine.block != block) mine.count = mine.groups = 0, mine.block = block;
    return mine;
}

static void perform(const PendingCopy &c) {
    memset(c.to, 0, 16);
    memcpy(c.to, c.from, c.bytes);
}

// 8 neighbouring lanes move 128 bytes at a time: each must have its own four banks.
static void want_distinct_banks(const void *pointer) {
    int lane = self() % 32;
    unsigned key = (unsigned)((uintptr_t)pointer / 16 % 8 + lane / 8 * 8);
    unsigned alike = __match_any_sync(~0u, key);
    if (alike & (alike - 1)) refuse("a bank conflict");
}

static void copy_async(void *to, const void *from, int bytes) {
    if ((uintptr_t)to % 16 || (uintptr_t)from % 16) refuse("cp.async off 16 bytes");
    if (bytes < 0 || bytes > 16) refuse("cp.async of more than 16 bytes");
    want_distinct_banks(to);
    Copies &mine = my_copies();
    PendingCopy c = {to, from, bytes};
    if (!copies_late) return perform(c);
    if (mine.count == 64) refuse("more copies pending than the model holds");
    mine.group_of[mine.count] = mine.groups;
    mine.copy[mine.count++] = c;
    memset(to, 0xff, 16);   // NaNs: between the order and the arrival nothing can be relied on
}

static void copies_commit() { ++my_copies().groups; }

template <int pending>
static void copies_wait() {
    Copies &mine = my_copies();
    int kept = 0;
    for (int i = 0; i < mine.count; ++i) {
        if (mine.group_of[i] < mine.groups - pending) {
            perform(mine.copy[i]);
        } else {
            mine.group_of[kept] = mine.group_of[i];
            mine.copy[kept++] = mine.copy[i];
        }
    }
    mine.count = kept;
}

// "ldmatrix": lane i of each eight gives the address of row i of matrix number lane / 8; register m gets
// of matrix m the row lane / 4, columns 2 (lane % 4) and the next. With .trans, of its transpose.
static uint16_t element(const void *row, int matrix, int r, int c) {
    uint64_t address = __shfl_sync(~0u, (uint64_t)(uintptr_t)row, matrix * 8 + r);
    return ((const uint16_t *)(uintptr_t)address)[c];
}

static void want_row(const void *row) {
    if ((uintptr_t)row % 16) refuse("ldmatrix off 16 bytes");
    want_distinct_banks(row);
}

static void load_matrices(unsigned (&r)[4], const void *row) {
    want_row(row);
    int lane = self() % 32;
    for (int m = 0; m < 4; ++m) {
        unsigned low = element(row, m, lane / 4, lane % 4 * 2);
        unsigned high = element(row, m, lane / 4, lane % 4 * 2 + 1);
        r[m] = low | high << 16;
    }
}

static void load_matrices_transposed(unsigned (&r)[4], const void *row) {
    want_row(row);
    int lane = self() % 32;
    for (int m = 0; m < 4; ++m) {
        unsigned low = element(row, m, lane % 4 * 2, lane / 4);
        unsigned high = element(row, m, lane % 4 * 2 + 1, lane / 4);
        r[m] = low | high << 16;
    }
}

// "Matrix Fragments for mma.m16n8k16": with g = lane / 4 and t = lane % 4,
//   a_i: row g (i of 0, 1, 4, 5) or g + 8; column 2 t + (i & 1), + 8 for i >= 4
//   b_i: row 2 t + (i & 1), + 8 for i >= 2; column g
//   c_i: row g (i < 2) or g + 8; column 2 t + (i & 1)
struct Operands {
    float a[16][16], b[16][8];
};
static thread_local Operands operands_of[32];

static void multiply_add(float (&sums)[4], const unsigned (&a)[4], unsigned b0, unsigned b1) {
    int lane = self() % 32, g = lane / 4, t = lane % 4;
    Operands &o = operands_of[self() / 32];
    for (int i = 0; i < 8; ++i) {
        int row = i == 0 || i == 1 || i == 4 || i == 5 ? g : g + 8;
        int column = 2 * t + (i & 1) + (i >= 4 ? 8 : 0);
        o.a[row][column] = number((uint16_t)(a[i / 2] >> (i & 1) * 16));
    }
    for (int i = 0; i < 4; ++i)
        o.b[2 * t + (i & 1) + (i >= 2 ? 8 : 0)][g] = number((uint16_t)((i < 2 ? b0 : b1) >> (i & 1) * 16));
    __syncwarp();
    for (int i = 0; i < 4; ++i) {
        int row = i < 2 ? g : g + 8, column = 2 * t + (i & 1);
        for (int k = 0; k < 16; ++k) sums[i] += o.a[row][k] * o.b[k][column];
    }
    __syncwarp();
}

// ---- mbarrier, tensor copies, wgmma (rung 10) -----------------------------------------------------

static unsigned shared_address(const void *pointer) {
    shared_base = (unsigned char *)pointer;   // the kernel asks once, for its memory's start
    return SHARED_START;
}

struct Barrier {   // 8 bytes, as the real one
    uint8_t expected, pending, phase, magic;
    int32_t bytes;
};
static thread_local unsigned idle;   // polls since anything last happened

static Barrier &barrier_at(unsigned address) {
    if (address % 8) refuse("a barrier off 8 bytes");
    Barrier &barrier = *(Barrier *)at(address);
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
    memcpy(at(address), &fresh, sizeof fresh);
}
static void barriers_ready() {}

static void barrier_arrive(unsigned address) {
    Barrier &barrier = barrier_at(address);
    if (barrier.pending == 0) refuse("more arrivals than a phase has");
    --barrier.pending;
    settle(barrier);
}

static void barrier_expect(unsigned address, int bytes) {
    barrier_at(address).bytes += bytes;
    barrier_arrive(address);
}

struct PendingBox {
    unsigned to, barrier;
    const TensorMap *map;
    int column, row;
};
static thread_local PendingBox boxes[64];
static thread_local int box_count;

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
            memcpy(at(swizzled(box.to + r * 128 + c * 2)), &value, 2);
        }
    }
    Barrier &barrier = barrier_at(box.barrier);
    barrier.bytes -= box_rows * 128;
    settle(barrier);
}

static void copy_box(unsigned to, const TensorMap *map, int column, int row, unsigned barrier) {
    if (to % 1024) refuse("a box whose swizzle does not begin at its start");
    PendingBox box = {to, barrier, map, column, row};
    if (!copies_late) return perform(box);
    if (box_count == 64) refuse("more boxes pending than the model holds");
    int bytes = (int)(map->opaque[4] * map->opaque[5] * 2);
    for (int i = 0; i < bytes; ++i) *at(to + i) = 0xff;   // NaNs
    boxes[box_count++] = box;
}

// try_wait.parity: true when the phase of that parity has ended; of a fresh barrier, parity 1 has.
static void barrier_wait(unsigned address, int parity) {
    while (barrier_at(address).phase == parity) {
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
        memcpy(&bits, at(swizzled(address)), 2);
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
static thread_local Products products_of[1024];

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
