// atomicAdd and its company, as real CPU atomics: blocks run on several threads of the machine.
//
// Everything goes through g++'s __atomic builtins. Under -fsanitize=thread these become calls of
// __tsan_atomic*, by which the race checker tells them from ordinary reads and writes. The order is
// relaxed, as CUDA's is (CUDA C++ Programming Guide, "Atomic Functions": they order nothing else).
// atomicX_block and atomicX_system differ only in who must see it atomically: everybody does here.
// The atomics of __half and __nv_bfloat16 stand in cuda_fp16.h and cuda_bf16.h.

#pragma once

#include <stdint.h>
#include <string.h>

#include "emu_runtime.h"
#include "emu_vectors.h"

namespace emu {

// For what the CPU has no instruction: repeat compare-and-swap until nobody came between.
template <class Bits, class T, class Update>
EMU_INLINE T atomic_update(T* address, Update update) {
    static_assert(sizeof(Bits) == sizeof(T), "the bits of a value are as many as the value's");
    Bits* place = reinterpret_cast<Bits*>(address);
    Bits seen = __atomic_load_n(place, __ATOMIC_RELAXED);
    for (;;) {
        T old, next;
        memcpy(&old, &seen, sizeof old);
        next = update(old);
        Bits wanted;
        memcpy(&wanted, &next, sizeof wanted);
        if (__atomic_compare_exchange_n(place, &seen, wanted, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED))
            return old;
    }
}

}  // namespace emu

#define EMU_SCOPED(name, type, arguments, values)                                            \
    EMU_INLINE type name##_block arguments { return name values; }                           \
    EMU_INLINE type name##_system arguments { return name values; }

#define EMU_FETCH(name, type, builtin)                                                       \
    EMU_INLINE type name(type* address, type value) {                                        \
        emu_turn();                                                                          \
        return builtin(address, value, __ATOMIC_RELAXED);                                    \
    }                                                                                        \
    EMU_SCOPED(name, type, (type * address, type value), (address, value))

#define EMU_UPDATE(name, type, bits, expression)                                             \
    EMU_INLINE type name(type* address, type value) {                                        \
        emu_turn();                                                                          \
        return emu::atomic_update<bits>(address, [=](type old) -> type { return expression; }); \
    }                                                                                        \
    EMU_SCOPED(name, type, (type * address, type value), (address, value))

EMU_FETCH(atomicAdd, int, __atomic_fetch_add)
EMU_FETCH(atomicAdd, unsigned int, __atomic_fetch_add)
EMU_FETCH(atomicAdd, unsigned long long, __atomic_fetch_add)
EMU_UPDATE(atomicAdd, float, uint32_t, old + value)
EMU_UPDATE(atomicAdd, double, uint64_t, old + value)
EMU_FETCH(atomicSub, int, __atomic_fetch_sub)
EMU_FETCH(atomicSub, unsigned int, __atomic_fetch_sub)

#define EMU_MIN_MAX_ATOMIC(type, bits)                          \
    EMU_UPDATE(atomicMin, type, bits, value < old ? value : old) \
    EMU_UPDATE(atomicMax, type, bits, old < value ? value : old)
EMU_MIN_MAX_ATOMIC(int, uint32_t)
EMU_MIN_MAX_ATOMIC(unsigned int, uint32_t)
EMU_MIN_MAX_ATOMIC(long long, uint64_t)
EMU_MIN_MAX_ATOMIC(unsigned long long, uint64_t)
#undef EMU_MIN_MAX_ATOMIC

#define EMU_BITWISE(type)                               \
    EMU_FETCH(atomicAnd, type, __atomic_fetch_and)      \
    EMU_FETCH(atomicOr, type, __atomic_fetch_or)        \
    EMU_FETCH(atomicXor, type, __atomic_fetch_xor)
EMU_BITWISE(int)
EMU_BITWISE(unsigned int)
EMU_BITWISE(unsigned long long)
#undef EMU_BITWISE

// Counts 0, 1, ..., value, 0, ... and back again.
EMU_UPDATE(atomicInc, unsigned int, uint32_t, old >= value ? 0 : old + 1)
EMU_UPDATE(atomicDec, unsigned int, uint32_t, old == 0 || old > value ? value : old - 1)

EMU_FETCH(atomicExch, int, __atomic_exchange_n)
EMU_FETCH(atomicExch, unsigned int, __atomic_exchange_n)
EMU_FETCH(atomicExch, unsigned long long, __atomic_exchange_n)
EMU_INLINE float atomicExch(float* address, float value) {
    uint32_t bits, old;
    memcpy(&bits, &value, 4);
    old = __atomic_exchange_n(reinterpret_cast<uint32_t*>(address), bits, __ATOMIC_RELAXED);
    memcpy(&value, &old, 4);
    return value;
}
EMU_SCOPED(atomicExch, float, (float* address, float value), (address, value))

#define EMU_COMPARE(type)                                                                          \
    EMU_INLINE type atomicCAS(type* address, type compare, type value) {                           \
        emu_turn();                                                                                \
        __atomic_compare_exchange_n(address, &compare, value, false, __ATOMIC_RELAXED,             \
                                    __ATOMIC_RELAXED);                                             \
        return compare; /* on failure the builtin wrote there what it found */                     \
    }                                                                                              \
    EMU_SCOPED(atomicCAS, type, (type * address, type compare, type value), (address, compare, value))
EMU_COMPARE(int)
EMU_COMPARE(unsigned int)
EMU_COMPARE(unsigned long long)
EMU_COMPARE(unsigned short)
#undef EMU_COMPARE
