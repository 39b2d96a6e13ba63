// CUDA's bfloat16 on the CPU, under the names of NVIDIA's cuda_bf16.h: the upper 16 bits of a float.

#pragma once

#include "emu_atomics.h"
#include "emu_conversions.h"
#include "emu_vectors.h"

struct __nv_bfloat16_raw {
    unsigned short x;
};

// No constructor runs by default, so that a __shared__ array of them is plain memory.
struct __nv_bfloat16 {
    unsigned short bits;

    __nv_bfloat16() = default;
    EMU_INLINE __nv_bfloat16(float v) : bits(emu::float_to_bfloat16_bits(v)) {}
    EMU_INLINE __nv_bfloat16(double v) : bits(emu::float_to_bfloat16_bits(emu::round_to_odd(v))) {}
    EMU_INLINE __nv_bfloat16(int v) : __nv_bfloat16((double)v) {}
    EMU_INLINE __nv_bfloat16(unsigned int v) : __nv_bfloat16((double)v) {}
    EMU_INLINE __nv_bfloat16(long v) : __nv_bfloat16((long long)v) {}
    EMU_INLINE __nv_bfloat16(unsigned long v) : __nv_bfloat16((unsigned long long)v) {}
    EMU_INLINE __nv_bfloat16(long long v) : bits(from_wide(v < 0 ? 0 - (unsigned long long)v : v)) {
        if (v < 0) bits |= 0x8000;
    }
    EMU_INLINE __nv_bfloat16(unsigned long long v) : bits(from_wide(v)) {}
    EMU_INLINE __nv_bfloat16(__nv_bfloat16_raw raw) : bits(raw.x) {}
    EMU_INLINE operator float() const { return emu::bfloat16_bits_to_float(bits); }
    EMU_INLINE operator __nv_bfloat16_raw() const { return {bits}; }

   private:
    // 64 bits don't fit a double: those below its last place are joined into one, rounding to odd.
    static EMU_INLINE unsigned short from_wide(unsigned long long v) {
        if (v >> 53) v = (v & ~0xfffULL) | ((v & 0xfff) != 0 ? 0x1000 : 0);
        return emu::float_to_bfloat16_bits(emu::round_to_odd((double)v));
    }
};

struct alignas(4) __nv_bfloat162 {
    __nv_bfloat16 x, y;

    __nv_bfloat162() = default;
    EMU_INLINE __nv_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) : x(x), y(y) {}
};

typedef __nv_bfloat16 nv_bfloat16;
typedef __nv_bfloat162 nv_bfloat162;

namespace emu {
EMU_INLINE __nv_bfloat16 bfloat16_of_bits(unsigned short bits) {
    return __nv_bfloat16(__nv_bfloat16_raw{bits});
}
EMU_INLINE __nv_bfloat16 to_16_bits(__nv_bfloat16, double v) { return __nv_bfloat16(v); }
}  // namespace emu

#define CUDART_INF_BF16 emu::bfloat16_of_bits(0x7f80)
#define CUDART_NAN_BF16 emu::bfloat16_of_bits(0x7fff)
#define CUDART_MIN_DENORM_BF16 emu::bfloat16_of_bits(0x0001)
#define CUDART_MAX_NORMAL_BF16 emu::bfloat16_of_bits(0x7f7f)
#define CUDART_ZERO_BF16 emu::bfloat16_of_bits(0x0000)
#define CUDART_NEG_ZERO_BF16 emu::bfloat16_of_bits(0x8000)
#define CUDART_ONE_BF16 emu::bfloat16_of_bits(0x3f80)

// ---- conversions -----------------------------------------------------------------------------------

EMU_INLINE __nv_bfloat16 __float2bfloat16(float v) { return __nv_bfloat16(v); }
EMU_INLINE __nv_bfloat16 __float2bfloat16_rn(float v) { return __nv_bfloat16(v); }
EMU_INLINE __nv_bfloat16 __double2bfloat16(double v) { return __nv_bfloat16(v); }
EMU_INLINE float __bfloat162float(__nv_bfloat16 v) { return v; }

// Toward 0, down, up: the nearest one, moved by one step if it lies on the wrong side.
EMU_INLINE __nv_bfloat16 __float2bfloat16_rd(float v) {
    const __nv_bfloat16 near(v);
    return (float)near > v ? emu::bfloat16_of_bits(emu::next_bits(near.bits, false)) : near;
}
EMU_INLINE __nv_bfloat16 __float2bfloat16_ru(float v) {
    const __nv_bfloat16 near(v);
    return (float)near < v ? emu::bfloat16_of_bits(emu::next_bits(near.bits, true)) : near;
}
EMU_INLINE __nv_bfloat16 __float2bfloat16_rz(float v) {
    return signbit(v) ? __float2bfloat16_ru(v) : __float2bfloat16_rd(v);
}

EMU_INLINE __nv_bfloat162 __floats2bfloat162_rn(float x, float y) {
    return __nv_bfloat162(__nv_bfloat16(x), __nv_bfloat16(y));
}
EMU_INLINE __nv_bfloat162 __float2bfloat162_rn(float v) { return __floats2bfloat162_rn(v, v); }
EMU_INLINE __nv_bfloat162 __float22bfloat162_rn(float2 v) { return __floats2bfloat162_rn(v.x, v.y); }
EMU_INLINE float2 __bfloat1622float2(__nv_bfloat162 v) { return {(float)v.x, (float)v.y}; }

#define EMU_BFLOAT16_INTEGER(name, type)                                                               \
    EMU_INLINE type __bfloat162##name##_rn(__nv_bfloat16 v) { return emu::clamped<type>(nearbyintf(v)); } \
    EMU_INLINE type __bfloat162##name##_rz(__nv_bfloat16 v) { return emu::clamped<type>(truncf(v)); }     \
    EMU_INLINE type __bfloat162##name##_rd(__nv_bfloat16 v) { return emu::clamped<type>(floorf(v)); }     \
    EMU_INLINE type __bfloat162##name##_ru(__nv_bfloat16 v) { return emu::clamped<type>(ceilf(v)); }      \
    EMU_INLINE __nv_bfloat16 __##name##2bfloat16_rn(type v) { return __nv_bfloat16(v); }
EMU_BFLOAT16_INTEGER(int, int)
EMU_BFLOAT16_INTEGER(uint, unsigned int)
EMU_BFLOAT16_INTEGER(ll, long long)
EMU_BFLOAT16_INTEGER(ull, unsigned long long)
#undef EMU_BFLOAT16_INTEGER

EMU_INLINE short __bfloat16_as_short(__nv_bfloat16 v) { return (short)v.bits; }
EMU_INLINE unsigned short __bfloat16_as_ushort(__nv_bfloat16 v) { return v.bits; }
EMU_INLINE __nv_bfloat16 __short_as_bfloat16(short v) { return emu::bfloat16_of_bits((unsigned short)v); }
EMU_INLINE __nv_bfloat16 __ushort_as_bfloat16(unsigned short v) { return emu::bfloat16_of_bits(v); }

EMU_INLINE __nv_bfloat162 make_bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return __nv_bfloat162(x, y); }
EMU_INLINE __nv_bfloat162 __halves2bfloat162(__nv_bfloat16 x, __nv_bfloat16 y) { return __nv_bfloat162(x, y); }
EMU_INLINE __nv_bfloat162 __bfloat162bfloat162(__nv_bfloat16 v) { return __nv_bfloat162(v, v); }
EMU_INLINE __nv_bfloat16 __low2bfloat16(__nv_bfloat162 v) { return v.x; }
EMU_INLINE __nv_bfloat16 __high2bfloat16(__nv_bfloat162 v) { return v.y; }
EMU_INLINE float __low2float(__nv_bfloat162 v) { return v.x; }
EMU_INLINE float __high2float(__nv_bfloat162 v) { return v.y; }
EMU_INLINE __nv_bfloat162 __low2bfloat162(__nv_bfloat162 v) { return __nv_bfloat162(v.x, v.x); }
EMU_INLINE __nv_bfloat162 __high2bfloat162(__nv_bfloat162 v) { return __nv_bfloat162(v.y, v.y); }
EMU_INLINE __nv_bfloat162 __lows2bfloat162(__nv_bfloat162 a, __nv_bfloat162 b) { return __nv_bfloat162(a.x, b.x); }
EMU_INLINE __nv_bfloat162 __highs2bfloat162(__nv_bfloat162 a, __nv_bfloat162 b) { return __nv_bfloat162(a.y, b.y); }
EMU_INLINE __nv_bfloat162 __lowhigh2highlow(__nv_bfloat162 v) { return __nv_bfloat162(v.y, v.x); }

// ---- arithmetic, comparisons, functions: the same for half and bfloat16 ------------------------------

#define EMU_SCALAR __nv_bfloat16
#define EMU_PAIR __nv_bfloat162
#include "emu_16_bits.h"
#undef EMU_SCALAR
#undef EMU_PAIR
