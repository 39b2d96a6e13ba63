// What one request of a warp costs a memory: the wavefronts of shared memory and the sectors of global
// memory. Pure functions of the addresses that the lanes ask for.
//
// Shared memory has 32 banks, each 4 bytes wide: the word at byte address a lies in bank (a / 4) % 32
// (CUDA C++ Programming Guide, "Shared Memory" of compute capability 5.x and later). A wavefront serves
// one word of every bank, and any number of lanes that ask for that same word. Lanes that ask for
// different words of one bank wait for further wavefronts: bank conflicts.
// A wavefront can carry 128 bytes, so a request of 8 bytes a lane is served for half a warp at a time
// and one of 16 bytes for a quarter; those wavefronts are the price of the width, not conflicts.
//
// Global memory is moved in sectors of 32 bytes (CUDA C++ Best Practices Guide, "Coalesced Access to
// Global Memory"): a request costs as many as it touches, whoever needs how many of their bytes.

#pragma once

#include <stdint.h>

namespace emu {

const int kWarpSize = 32;
const int kBanks = 32;
const unsigned kBankBytes = 4;
const unsigned kSectorBytes = 32;

// One lane's part of a request; an inactive lane asks for nothing.
struct Access {
    uintptr_t address;
    unsigned size;
    bool active;
};

// The distinct multiples of `unit` bytes that the lanes touch, sorted; at most `limit` are kept.
inline int distinct_units(const Access* lanes, int count, unsigned unit, uintptr_t* units, int limit) {
    int found = 0;
    for (int lane = 0; lane < count; ++lane) {
        if (!lanes[lane].active || lanes[lane].size == 0) continue;
        const uintptr_t first = lanes[lane].address / unit;
        const uintptr_t last = (lanes[lane].address + lanes[lane].size - 1) / unit;
        for (uintptr_t wanted = first; wanted <= last; ++wanted) {
            int place = found;  // most requests ask in rising order: look from the end
            while (place > 0 && units[place - 1] > wanted) --place;
            if ((place > 0 && units[place - 1] == wanted) || found == limit) continue;
            for (int i = found; i > place; --i) units[i] = units[i - 1];
            units[place] = wanted;
            ++found;
        }
    }
    return found;
}

// How many lanes one wavefront can serve when each asks for this many bytes: 32, 16 or 8.
inline int lanes_at_once(const Access* lanes, int count) {
    unsigned widest = 0;
    for (int lane = 0; lane < count; ++lane)
        if (lanes[lane].active && lanes[lane].size > widest) widest = lanes[lane].size;
    return widest <= 4 ? 32 : widest <= 8 ? 16 : 8;
}

// Wavefronts that shared memory needs for the request: in each group of lanes, as many as the busiest
// bank has different words to give.
inline int bank_wavefronts(const Access* lanes, int count) {
    const int group = lanes_at_once(lanes, count);
    int wavefronts = 0;
    for (int start = 0; start < count; start += group) {
        const int members = count - start < group ? count - start : group;
        uintptr_t words[4 * kWarpSize];
        const int found = distinct_units(lanes + start, members, kBankBytes, words, 4 * kWarpSize);
        int queue[kBanks] = {};
        int longest = 0;
        for (int i = 0; i < found; ++i) {
            const int waiting = ++queue[words[i] % kBanks];
            if (waiting > longest) longest = waiting;
        }
        wavefronts += longest;
    }
    return wavefronts;
}

// The fewest wavefronts that any layout could give such lanes: one for each group with an active lane.
inline int ideal_wavefronts(const Access* lanes, int count) {
    const int group = lanes_at_once(lanes, count);
    int wavefronts = 0;
    for (int start = 0; start < count; start += group) {
        bool any = false;
        for (int lane = start; lane < count && lane < start + group; ++lane)
            any = any || (lanes[lane].active && lanes[lane].size > 0);
        wavefronts += any;
    }
    return wavefronts;
}

// Wavefronts beyond the ideal: 0 without conflicts, 31 when 32 lanes want 32 words of one bank.
inline int bank_conflicts(const Access* lanes, int count) {
    return bank_wavefronts(lanes, count) - ideal_wavefronts(lanes, count);
}

// 32-byte sectors of global memory that the request touches.
inline int sectors(const Access* lanes, int count) {
    uintptr_t touched[2 * kWarpSize];
    return distinct_units(lanes, count, kSectorBytes, touched, 2 * kWarpSize);
}

// The fewest sectors that could hold the distinct bytes asked for, were they side by side.
inline int ideal_sectors(const Access* lanes, int count) {
    uintptr_t joined = 16;  // its lowest set bit divides every address and size: count in that unit
    for (int lane = 0; lane < count; ++lane)
        if (lanes[lane].active) joined |= lanes[lane].address | lanes[lane].size;
    const unsigned unit = (unsigned)(joined & (~joined + 1));
    uintptr_t units[16 * kWarpSize];
    const int found = distinct_units(lanes, count, unit, units, 16 * kWarpSize);
    return (int)((found * unit + kSectorBytes - 1) / kSectorBytes);
}

}  // namespace emu
