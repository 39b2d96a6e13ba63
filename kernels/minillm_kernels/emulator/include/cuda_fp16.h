// CUDA's half and half2 on the CPU, under the names of NVIDIA's cuda_fp16.h.
//
// A half is 16 bits that are widened to float for every operation and rounded once after it, as on the
// GPU: float has more than 2*11 + 2 bits, so the rounding of a sum, product, quotient or root computed
// in float is the right one (Figueroa 1995, "When is double rounding innocuous?").

#pragma once

#include "emu_atomics.h"
#include "emu_conversions.h"
#include "emu_vectors.h"

struct __half_raw {
    unsigned short x;
};

// No constructor runs by default, so that `__shared__ half tile[16][16]` is plain memory.
struct __half {
    unsigned short bits;

    __half() = default;
    EMU_INLINE __half(float v) : bits(emu::float_to_half_bits(v)) {}
    EMU_INLINE __half(double v) : bits(emu::float_to_half_bits(emu::round_to_odd(v))) {}
    EMU_INLINE __half(int v) : __half((double)v) {}
    EMU_INLINE __half(unsigned int v) : __half((double)v) {}
    EMU_INLINE __half(long v) : __half((double)v) {}
    EMU_INLINE __half(unsigned long v) : __half((double)v) {}
    EMU_INLINE __half(long long v) : __half((double)v) {}
    EMU_INLINE __half(unsigned long long v) : __half((double)v) {}
    EMU_INLINE __half(__half_raw raw) : bits(raw.x) {}
    EMU_INLINE operator float() const { return emu::half_bits_to_float(bits); }
    EMU_INLINE operator __half_raw() const { return {bits}; }
};

struct alignas(4) __half2 {
    __half x, y;

    __half2() = default;
    EMU_INLINE __half2(__half x, __half y) : x(x), y(y) {}
};

typedef __half half;
typedef __half2 half2;
typedef __half __nv_half;
typedef __half2 __nv_half2;

namespace emu {
EMU_INLINE __half half_of_bits(unsigned short bits) { return __half(__half_raw{bits}); }
EMU_INLINE __half to_16_bits(__half, double v) { return __half(v); }
}  // namespace emu

#define CUDART_INF_FP16 emu::half_of_bits(0x7c00)
#define CUDART_NAN_FP16 emu::half_of_bits(0x7fff)
#define CUDART_MIN_DENORM_FP16 emu::half_of_bits(0x0001)
#define CUDART_MAX_NORMAL_FP16 emu::half_of_bits(0x7bff)
#define CUDART_ZERO_FP16 emu::half_of_bits(0x0000)
#define CUDART_NEG_ZERO_FP16 emu::half_of_bits(0x8000)
#define CUDART_ONE_FP16 emu::half_of_bits(0x3c00)

// ---- conversions -----------------------------------------------------------------------------------

EMU_INLINE __half __float2half(float v) { return __half(v); }
EMU_INLINE __half __float2half_rn(float v) { return __half(v); }
EMU_INLINE __half __double2half(double v) { return __half(v); }
EMU_INLINE float __half2float(__half v) { return v; }

// Toward 0, down, up: the nearest one, moved by one step if it lies on the wrong side.
EMU_INLINE __half __float2half_rd(float v) {
    const __half near(v);
    return (float)near > v ? emu::half_of_bits(emu::next_bits(near.bits, false)) : near;
}
EMU_INLINE __half __float2half_ru(float v) {
    const __half near(v);
    return (float)near < v ? emu::half_of_bits(emu::next_bits(near.bits, true)) : near;
}
EMU_INLINE __half __float2half_rz(float v) {
    return signbit(v) ? __float2half_ru(v) : __float2half_rd(v);
}

EMU_INLINE __half2 __floats2half2_rn(float x, float y) { return __half2(__half(x), __half(y)); }
EMU_INLINE __half2 __float2half2_rn(float v) { return __half2(__half(v), __half(v)); }
EMU_INLINE __half2 __float22half2_rn(float2 v) { return __half2(__half(v.x), __half(v.y)); }
EMU_INLINE float2 __half22float2(__half2 v) { return {(float)v.x, (float)v.y}; }

#define EMU_HALF_INTEGER(name, type)                                                               \
    EMU_INLINE type __half2##name##_rn(__half v) { return emu::clamped<type>(nearbyintf(v)); }     \
    EMU_INLINE type __half2##name##_rz(__half v) { return emu::clamped<type>(truncf(v)); }         \
    EMU_INLINE type __half2##name##_rd(__half v) { return emu::clamped<type>(floorf(v)); }         \
    EMU_INLINE type __half2##name##_ru(__half v) { return emu::clamped<type>(ceilf(v)); }          \
    EMU_INLINE __half __##name##2half_rn(type v) { return __half((double)v); }
EMU_HALF_INTEGER(int, int)
EMU_HALF_INTEGER(uint, unsigned int)
EMU_HALF_INTEGER(short, short)
EMU_HALF_INTEGER(ushort, unsigned short)
EMU_HALF_INTEGER(ll, long long)
EMU_HALF_INTEGER(ull, unsigned long long)
#undef EMU_HALF_INTEGER

EMU_INLINE short __half_as_short(__half v) { return (short)v.bits; }
EMU_INLINE unsigned short __half_as_ushort(__half v) { return v.bits; }
EMU_INLINE __half __short_as_half(short v) { return emu::half_of_bits((unsigned short)v); }
EMU_INLINE __half __ushort_as_half(unsigned short v) { return emu::half_of_bits(v); }

EMU_INLINE __half2 make_half2(__half x, __half y) { return __half2(x, y); }
EMU_INLINE __half2 __halves2half2(__half x, __half y) { return __half2(x, y); }
EMU_INLINE __half2 __half2half2(__half v) { return __half2(v, v); }
EMU_INLINE __half __low2half(__half2 v) { return v.x; }
EMU_INLINE __half __high2half(__half2 v) { return v.y; }
EMU_INLINE float __low2float(__half2 v) { return v.x; }
EMU_INLINE float __high2float(__half2 v) { return v.y; }
EMU_INLINE __half2 __low2half2(__half2 v) { return __half2(v.x, v.x); }
EMU_INLINE __half2 __high2half2(__half2 v) { return __half2(v.y, v.y); }
EMU_INLINE __half2 __lows2half2(__half2 a, __half2 b) { return __half2(a.x, b.x); }
EMU_INLINE __half2 __highs2half2(__half2 a, __half2 b) { return __half2(a.y, b.y); }
EMU_INLINE __half2 __lowhigh2highlow(__half2 v) { return __half2(v.y, v.x); }

// ---- arithmetic, comparisons, functions: the same for half and bfloat16 ------------------------------

#define EMU_SCALAR __half
#define EMU_PAIR __half2
#include "emu_16_bits.h"
#undef EMU_SCALAR
#undef EMU_PAIR
