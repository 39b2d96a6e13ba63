// cp.async, ldmatrix and mma.sync for rung 09; ptx_model.h says how and why.

#pragma once

#include "ptx_model.h"

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
static Copies copies_of[1024];

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
static Operands operands_of[32];

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
