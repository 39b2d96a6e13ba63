// What the 32 threads of a warp do together: shuffles, votes, reductions, matches, __syncwarp.
//
// Each call names in `mask` the lanes that take part, and waits until all of them have come (CUDA C++
// Programming Guide, "Warp Shuffle Functions", "Warp Vote Functions"); the scheduler then works out
// the results of all lanes at once. None of them but __syncwarp orders the memory's reads and writes.

#pragma once

#include <string.h>

#include "emu_runtime.h"

enum emu_warp_operation {
    EMU_SYNCWARP,
    EMU_SHUFFLE,
    EMU_SHUFFLE_UP,
    EMU_SHUFFLE_DOWN,
    EMU_SHUFFLE_XOR,
    EMU_BALLOT,
    EMU_ANY,
    EMU_ALL,
    EMU_REDUCE_ADD,
    EMU_REDUCE_MIN,
    EMU_REDUCE_MAX,
    EMU_REDUCE_UMIN,
    EMU_REDUCE_UMAX,
    EMU_REDUCE_AND,
    EMU_REDUCE_OR,
    EMU_REDUCE_XOR,
    EMU_MATCH_ANY,
    EMU_MATCH_ALL,
    EMU_ACTIVEMASK,
    EMU_TOGETHER,
};

extern "C" uint64_t emu_warp(int operation, unsigned mask, uint64_t value, int argument, int width,
                             const char *file, int line);

// What a whole warp works on together: the last lane to come does the work on all lanes' shares.
struct emu_share {
    void (*work)(emu_share *const *lanes);
};
EMU_INLINE void emu_together(emu_share *mine, const char *file, int line) {
    emu_warp(EMU_TOGETHER, 0xffffffffu, (uint64_t)(uintptr_t)mine, 0, 32, file, line);
}

template <class T>
EMU_INLINE uint64_t emu_to_bits(T value) {
    static_assert(sizeof(T) <= 8, "lanes exchange values of at most 8 bytes");
    uint64_t bits = 0;
    memcpy(&bits, &value, sizeof value);
    return bits;
}

template <class T>
EMU_INLINE T emu_from_bits(uint64_t bits) {
    T value;
    memcpy(&value, &bits, sizeof value);
    return value;
}

EMU_INLINE void __syncwarp(unsigned mask = 0xffffffffu, EMU_HERE) {
    emu_warp(EMU_SYNCWARP, mask, 0, 0, 32, file, line);
}
EMU_INLINE unsigned __activemask(EMU_HERE) {
    return (unsigned)emu_warp(EMU_ACTIVEMASK, 0, 0, 0, 32, file, line);
}

#define EMU_SHUFFLE_FUNCTION(name, operation, parameter)                                           \
    template <class T>                                                                             \
    EMU_INLINE T name(unsigned mask, T value, parameter, int width = 32, EMU_HERE) {               \
        return emu_from_bits<T>(emu_warp(operation, mask, emu_to_bits(value), (int)which, width, file, line)); \
    }
EMU_SHUFFLE_FUNCTION(__shfl_sync, EMU_SHUFFLE, int which)
EMU_SHUFFLE_FUNCTION(__shfl_up_sync, EMU_SHUFFLE_UP, unsigned which)
EMU_SHUFFLE_FUNCTION(__shfl_down_sync, EMU_SHUFFLE_DOWN, unsigned which)
EMU_SHUFFLE_FUNCTION(__shfl_xor_sync, EMU_SHUFFLE_XOR, int which)
#undef EMU_SHUFFLE_FUNCTION

EMU_INLINE unsigned __ballot_sync(unsigned mask, int predicate, EMU_HERE) {
    return (unsigned)emu_warp(EMU_BALLOT, mask, predicate != 0, 0, 32, file, line);
}
EMU_INLINE int __any_sync(unsigned mask, int predicate, EMU_HERE) {
    return (int)emu_warp(EMU_ANY, mask, predicate != 0, 0, 32, file, line);
}
EMU_INLINE int __all_sync(unsigned mask, int predicate, EMU_HERE) {
    return (int)emu_warp(EMU_ALL, mask, predicate != 0, 0, 32, file, line);
}

#define EMU_REDUCTION(name, type, operation)                                           \
    EMU_INLINE type name(unsigned mask, type value, EMU_HERE) {                        \
        return (type)emu_warp(operation, mask, (unsigned)value, 0, 32, file, line);    \
    }
EMU_REDUCTION(__reduce_add_sync, int, EMU_REDUCE_ADD)
EMU_REDUCTION(__reduce_add_sync, unsigned, EMU_REDUCE_ADD)
EMU_REDUCTION(__reduce_min_sync, int, EMU_REDUCE_MIN)
EMU_REDUCTION(__reduce_min_sync, unsigned, EMU_REDUCE_UMIN)
EMU_REDUCTION(__reduce_max_sync, int, EMU_REDUCE_MAX)
EMU_REDUCTION(__reduce_max_sync, unsigned, EMU_REDUCE_UMAX)
EMU_REDUCTION(__reduce_and_sync, unsigned, EMU_REDUCE_AND)
EMU_REDUCTION(__reduce_or_sync, unsigned, EMU_REDUCE_OR)
EMU_REDUCTION(__reduce_xor_sync, unsigned, EMU_REDUCE_XOR)
#undef EMU_REDUCTION

template <class T>
EMU_INLINE unsigned __match_any_sync(unsigned mask, T value, EMU_HERE) {
    return (unsigned)emu_warp(EMU_MATCH_ANY, mask, emu_to_bits(value), 0, 32, file, line);
}
template <class T>
EMU_INLINE unsigned __match_all_sync(unsigned mask, T value, int *all_equal, EMU_HERE) {
    unsigned lanes = (unsigned)emu_warp(EMU_MATCH_ALL, mask, emu_to_bits(value), 0, 32, file, line);
    *all_equal = lanes != 0;
    return lanes;
}
