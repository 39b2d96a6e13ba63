// CUDA's mathematical functions, integer intrinsics and type casts, on the CPU's own.
//
// The C library's float functions (expf, tanhf, erff, fmaf, ...) have CUDA's names already. The fast
// intrinsics (__expf, __fdividef, ...) are computed to full precision here: a GPU's are a few units in
// the last place worse (CUDA C++ Programming Guide, "Mathematical Functions"), so a tolerance that
// holds here may not hold there.

#pragma once

#include <limits.h>
#include <math.h>
#include <stdint.h>
#include <string.h>
#include <time.h>

#include <cmath>
#include <type_traits>

#include "emu_vectors.h"

// ---- what nvcc knows and g++ does not ----------------------------------------------------------

#ifndef __builtin_assume
#define __builtin_assume(condition) \
    do {                            \
        if (!(condition)) __builtin_unreachable(); \
    } while (0)
#endif

#define CUDART_INF_F __builtin_inff()
#define CUDART_NAN_F __builtin_nanf("")
#define CUDART_INF __builtin_inf()
#define CUDART_NAN __builtin_nan("")
#define CUDART_PI_F 3.141592654f
#define CUDART_PI 3.1415926535897931e+0
#define CUDART_MIN_DENORM_F 1.401298464e-45f
#define CUDART_MAX_NORMAL_F 3.402823466e38f

namespace emu {
template <class To, class From>
EMU_INLINE To bit_cast(From value) {
    static_assert(sizeof(To) == sizeof(From), "a bit cast keeps the size");
    To out;
    memcpy(&out, &value, sizeof out);
    return out;
}

// g++ may join a product and a sum into one fused operation, as nvcc does; the _rn intrinsics
// forbid it, on both.
template <class T>
EMU_INLINE T rounded_here(T value) {
#if defined(__x86_64__)
    __asm__("" : "+x"(value));
#elif defined(__aarch64__)
    __asm__("" : "+w"(value));
#endif
    return value;
}
}  // namespace emu

// ---- casts of the bits -------------------------------------------------------------------------

EMU_INLINE int __float_as_int(float v) { return emu::bit_cast<int>(v); }
EMU_INLINE unsigned int __float_as_uint(float v) { return emu::bit_cast<unsigned int>(v); }
EMU_INLINE float __int_as_float(int v) { return emu::bit_cast<float>(v); }
EMU_INLINE float __uint_as_float(unsigned int v) { return emu::bit_cast<float>(v); }
EMU_INLINE long long __double_as_longlong(double v) { return emu::bit_cast<long long>(v); }
EMU_INLINE double __longlong_as_double(long long v) { return emu::bit_cast<double>(v); }
EMU_INLINE int __double2hiint(double v) { return (int)(__double_as_longlong(v) >> 32); }
EMU_INLINE int __double2loint(double v) { return (int)__double_as_longlong(v); }
EMU_INLINE double __hiloint2double(int high, int low) {
    return __longlong_as_double((long long)(((uint64_t)(uint32_t)high << 32) | (uint32_t)low));
}

// ---- numbers to numbers: _rn to the nearest even, _rz toward 0, _rd down, _ru up ----------------
// A GPU clamps what does not fit and turns NaN into 0 (PTX ISA, cvt); a plain C cast is undefined.

namespace emu {
template <class Int, class Float>
EMU_INLINE Int clamped(Float v) {
    if (v != v) return 0;
    const Float limit = (Float)std::ldexp((Float)1, (int)sizeof(Int) * CHAR_BIT - std::is_signed<Int>::value);
    if (v >= limit) return (Int)~((Int)std::is_signed<Int>::value << (sizeof(Int) * CHAR_BIT - 1));
    if (std::is_signed<Int>::value ? v < -limit : v < 0)
        return std::is_signed<Int>::value ? (Int)((Int)1 << (sizeof(Int) * CHAR_BIT - 1)) : 0;
    return (Int)v;
}
}  // namespace emu

#define EMU_TO_INTEGER(from, name, type)                                                        \
    EMU_INLINE type __##from##2##name##_rn(from v) { return emu::clamped<type>(std::nearbyint(v)); } \
    EMU_INLINE type __##from##2##name##_rz(from v) { return emu::clamped<type>(std::trunc(v)); }     \
    EMU_INLINE type __##from##2##name##_rd(from v) { return emu::clamped<type>(std::floor(v)); }     \
    EMU_INLINE type __##from##2##name##_ru(from v) { return emu::clamped<type>(std::ceil(v)); }
EMU_TO_INTEGER(float, int, int)
EMU_TO_INTEGER(float, uint, unsigned int)
EMU_TO_INTEGER(float, ll, long long)
EMU_TO_INTEGER(float, ull, unsigned long long)
EMU_TO_INTEGER(double, int, int)
EMU_TO_INTEGER(double, uint, unsigned int)
EMU_TO_INTEGER(double, ll, long long)
EMU_TO_INTEGER(double, ull, unsigned long long)
#undef EMU_TO_INTEGER

EMU_INLINE float __int2float_rn(int v) { return (float)v; }
EMU_INLINE float __uint2float_rn(unsigned int v) { return (float)v; }
EMU_INLINE float __ll2float_rn(long long v) { return (float)v; }
EMU_INLINE float __ull2float_rn(unsigned long long v) { return (float)v; }
EMU_INLINE double __int2double_rn(int v) { return v; }
EMU_INLINE double __uint2double_rn(unsigned int v) { return v; }
EMU_INLINE float __double2float_rn(double v) { return (float)v; }

// ---- arithmetic ----------------------------------------------------------------------------------

#define EMU_ROUNDED(name, type, expression) \
    EMU_INLINE type name(type a, type b) { return emu::rounded_here<type>(expression); }
EMU_ROUNDED(__fadd_rn, float, a + b)
EMU_ROUNDED(__fsub_rn, float, a - b)
EMU_ROUNDED(__fmul_rn, float, a * b)
EMU_ROUNDED(__fdiv_rn, float, a / b)
EMU_ROUNDED(__dadd_rn, double, a + b)
EMU_ROUNDED(__dsub_rn, double, a - b)
EMU_ROUNDED(__dmul_rn, double, a * b)
EMU_ROUNDED(__ddiv_rn, double, a / b)
#undef EMU_ROUNDED
EMU_INLINE float __fmaf_rn(float a, float b, float c) { return fmaf(a, b, c); }
EMU_INLINE double __fma_rn(double a, double b, double c) { return fma(a, b, c); }
EMU_INLINE float __frcp_rn(float v) { return emu::rounded_here(1.0f / v); }
EMU_INLINE double __drcp_rn(double v) { return emu::rounded_here(1.0 / v); }
EMU_INLINE float __fsqrt_rn(float v) { return sqrtf(v); }
EMU_INLINE double __dsqrt_rn(double v) { return sqrt(v); }
EMU_INLINE float rsqrtf(float v) { return (float)(1.0 / sqrt((double)v)); }
EMU_INLINE double rsqrt(double v) { return 1.0 / sqrt(v); }
EMU_INLINE float rsqrt(float v) { return rsqrtf(v); }
EMU_INLINE float __frsqrt_rn(float v) { return rsqrtf(v); }
EMU_INLINE float rcbrtf(float v) { return 1.0f / cbrtf(v); }
EMU_INLINE float __fdividef(float a, float b) { return a / b; }
EMU_INLINE float fdividef(float a, float b) { return a / b; }
EMU_INLINE float __saturatef(float v) { return v > 0 ? (v < 1 ? v : 1.0f) : 0.0f; }  // NaN gives 0
EMU_INLINE float normcdff(float v) { return 0.5f * erfcf(-v * 0.70710678118654752f); }
EMU_INLINE double normcdf(double v) { return 0.5 * erfc(-v * 0.70710678118654752); }
EMU_INLINE float sinpif(float v) { return (float)sin(3.14159265358979324 * fmod((double)v, 2.0)); }
EMU_INLINE float cospif(float v) { return (float)cos(3.14159265358979324 * fmod((double)v, 2.0)); }

EMU_INLINE float __expf(float v) { return expf(v); }
EMU_INLINE float __exp10f(float v) { return (float)pow(10.0, (double)v); }
EMU_INLINE float __logf(float v) { return logf(v); }
EMU_INLINE float __log2f(float v) { return log2f(v); }
EMU_INLINE float __log10f(float v) { return log10f(v); }
EMU_INLINE float __powf(float a, float b) { return powf(a, b); }
EMU_INLINE float __sinf(float v) { return sinf(v); }
EMU_INLINE float __cosf(float v) { return cosf(v); }
EMU_INLINE float __tanf(float v) { return tanf(v); }
EMU_INLINE float __tanhf(float v) { return tanhf(v); }
EMU_INLINE void __sincosf(float v, float* sine, float* cosine) {
    *sine = sinf(v);
    *cosine = cosf(v);
}
#ifndef __USE_GNU  // glibc declares these only for GNU sources, which g++'s are
EMU_INLINE float exp10f(float v) { return __exp10f(v); }
EMU_INLINE double exp10(double v) { return pow(10.0, v); }
EMU_INLINE void sincosf(float v, float* sine, float* cosine) { __sincosf(v, sine, cosine); }
#endif

// ---- min and max: of two floats, the one that is a number (fminf's rule) -------------------------

#define EMU_MIN_MAX(type)                                         \
    EMU_INLINE type min(type a, type b) { return b < a ? b : a; } \
    EMU_INLINE type max(type a, type b) { return a < b ? b : a; }
EMU_MIN_MAX(int)
EMU_MIN_MAX(unsigned int)
EMU_MIN_MAX(long)
EMU_MIN_MAX(unsigned long)
EMU_MIN_MAX(long long)
EMU_MIN_MAX(unsigned long long)
#undef EMU_MIN_MAX
EMU_INLINE unsigned int min(int a, unsigned int b) { return min((unsigned int)a, b); }
EMU_INLINE unsigned int min(unsigned int a, int b) { return min(a, (unsigned int)b); }
EMU_INLINE unsigned int max(int a, unsigned int b) { return max((unsigned int)a, b); }
EMU_INLINE unsigned int max(unsigned int a, int b) { return max(a, (unsigned int)b); }
EMU_INLINE float min(float a, float b) { return fminf(a, b); }
EMU_INLINE float max(float a, float b) { return fmaxf(a, b); }
EMU_INLINE double min(double a, double b) { return fmin(a, b); }
EMU_INLINE double max(double a, double b) { return fmax(a, b); }
EMU_INLINE double min(float a, double b) { return fmin(a, b); }
EMU_INLINE double min(double a, float b) { return fmin(a, b); }
EMU_INLINE double max(float a, double b) { return fmax(a, b); }
EMU_INLINE double max(double a, float b) { return fmax(a, b); }

// ---- integers --------------------------------------------------------------------------------------

EMU_INLINE int __popc(unsigned int v) { return __builtin_popcount(v); }
EMU_INLINE int __popcll(unsigned long long v) { return __builtin_popcountll(v); }
EMU_INLINE int __clz(int v) { return v ? __builtin_clz((unsigned int)v) : 32; }
EMU_INLINE int __clzll(long long v) { return v ? __builtin_clzll((unsigned long long)v) : 64; }
EMU_INLINE int __ffs(int v) { return __builtin_ffs(v); }
EMU_INLINE int __ffsll(long long v) { return __builtin_ffsll(v); }
EMU_INLINE unsigned int __brev(unsigned int v) {
    v = (v >> 1 & 0x55555555u) | (v & 0x55555555u) << 1;
    v = (v >> 2 & 0x33333333u) | (v & 0x33333333u) << 2;
    v = (v >> 4 & 0x0F0F0F0Fu) | (v & 0x0F0F0F0Fu) << 4;
    return __builtin_bswap32(v);
}
EMU_INLINE unsigned long long __brevll(unsigned long long v) {
    return (unsigned long long)__brev((unsigned int)v) << 32 | __brev((unsigned int)(v >> 32));
}
// Picks 4 of the 8 bytes of (low, high); a selector's top bit spreads the byte's sign instead.
EMU_INLINE unsigned int __byte_perm(unsigned int low, unsigned int high, unsigned int selectors) {
    const uint64_t bytes = (uint64_t)high << 32 | low;
    unsigned int out = 0;
    for (int i = 0; i < 4; ++i) {
        const unsigned int selector = selectors >> (4 * i);
        unsigned int byte = (unsigned int)(bytes >> (8 * (selector & 7))) & 0xFF;
        if (selector & 8) byte = byte & 0x80 ? 0xFF : 0;
        out |= byte << (8 * i);
    }
    return out;
}
EMU_INLINE unsigned int __funnelshift_l(unsigned int low, unsigned int high, unsigned int shift) {
    return (unsigned int)((((uint64_t)high << 32 | low) << (shift & 31)) >> 32);
}
EMU_INLINE unsigned int __funnelshift_r(unsigned int low, unsigned int high, unsigned int shift) {
    return (unsigned int)(((uint64_t)high << 32 | low) >> (shift & 31));
}
EMU_INLINE int __mulhi(int a, int b) { return (int)(((int64_t)a * b) >> 32); }
EMU_INLINE unsigned int __umulhi(unsigned int a, unsigned int b) {
    return (unsigned int)(((uint64_t)a * b) >> 32);
}
EMU_INLINE long long __mul64hi(long long a, long long b) { return (long long)(((__int128)a * b) >> 64); }
EMU_INLINE unsigned long long __umul64hi(unsigned long long a, unsigned long long b) {
    return (unsigned long long)(((unsigned __int128)a * b) >> 64);
}
EMU_INLINE int __mul24(int a, int b) { return (int)((unsigned)(a << 8 >> 8) * (unsigned)(b << 8 >> 8)); }
EMU_INLINE unsigned int __umul24(unsigned int a, unsigned int b) {
    return (a & 0xFFFFFF) * (b & 0xFFFFFF);
}
EMU_INLINE unsigned int __usad(unsigned int a, unsigned int b, unsigned int c) {
    return (a > b ? a - b : b - a) + c;
}
EMU_INLINE unsigned int __sad(int a, int b, unsigned int c) {
    return (unsigned int)(a > b ? (int64_t)a - b : (int64_t)b - a) + c;
}
EMU_INLINE int __dp4a(int a, int b, int c) {
    for (int i = 0; i < 32; i += 8) c += (signed char)(a >> i) * (signed char)(b >> i);
    return c;
}

// ---- loads and stores with a hint for the caches, which do nothing here ---------------------------

#define EMU_LOAD(name)          \
    template <class T>          \
    EMU_INLINE T name(const T* address) { return *address; }
EMU_LOAD(__ldg)
EMU_LOAD(__ldca)
EMU_LOAD(__ldcg)
EMU_LOAD(__ldcs)
EMU_LOAD(__ldlu)
EMU_LOAD(__ldcv)
#undef EMU_LOAD
#define EMU_STORE(name)                               \
    template <class T, class V>                       \
    EMU_INLINE void name(T* address, V value) { *address = value; }
EMU_STORE(__stwb)
EMU_STORE(__stcg)
EMU_STORE(__stcs)
EMU_STORE(__stwt)
#undef EMU_STORE

// ---- clocks: nanoseconds of the CPU. They say nothing about a GPU's speed --------------------------

EMU_INLINE long long clock64() {
    timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000000000LL + now.tv_nsec;
}
EMU_INLINE unsigned long long __globaltimer() { return (unsigned long long)clock64(); }
