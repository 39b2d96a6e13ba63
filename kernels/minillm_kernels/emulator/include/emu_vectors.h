// CUDA's built-in vector types: float4, int2, dim3, ... with CUDA's members and alignment.
//
// Sizes and alignments: CUDA C++ Programming Guide, "Built-in Vector Types", Table "Alignment
// Requirements". A vector of 2 or 4 aligns to its whole size, 16 bytes at most, one of 3 to one
// element: that is why float4 can be moved by one 16-byte instruction and float3 can't.
// As in CUDA, they have no arithmetic operators: a kernel may define its own.

#pragma once

#ifndef EMU_INLINE
// Always inlined, so that a report can name the kernel's own line: the debugger's table of inlined
// calls then leads from any of these headers' accesses back to the line that asked for it.
#define EMU_INLINE inline __attribute__((always_inline))
#endif

#define EMU_VECTOR(name, element, align2, align4)                                              \
    struct name##1 {                                                                           \
        element x;                                                                             \
    };                                                                                         \
    struct alignas(align2) name##2 {                                                           \
        element x, y;                                                                          \
    };                                                                                         \
    struct name##3 {                                                                           \
        element x, y, z;                                                                       \
    };                                                                                         \
    struct alignas(align4) name##4 {                                                           \
        element x, y, z, w;                                                                    \
    };                                                                                         \
    EMU_INLINE name##1 make_##name##1(element x) { return {x}; }                               \
    EMU_INLINE name##2 make_##name##2(element x, element y) { return {x, y}; }                 \
    EMU_INLINE name##3 make_##name##3(element x, element y, element z) { return {x, y, z}; }   \
    EMU_INLINE name##4 make_##name##4(element x, element y, element z, element w) {            \
        return {x, y, z, w};                                                                   \
    }

EMU_VECTOR(char, signed char, 2, 4)
EMU_VECTOR(uchar, unsigned char, 2, 4)
EMU_VECTOR(short, short, 4, 8)
EMU_VECTOR(ushort, unsigned short, 4, 8)
EMU_VECTOR(int, int, 8, 16)
EMU_VECTOR(uint, unsigned int, 8, 16)
EMU_VECTOR(long, long, 16, 16)
EMU_VECTOR(ulong, unsigned long, 16, 16)
EMU_VECTOR(longlong, long long, 16, 16)
EMU_VECTOR(ulonglong, unsigned long long, 16, 16)
EMU_VECTOR(float, float, 8, 16)
EMU_VECTOR(double, double, 16, 16)
#undef EMU_VECTOR

// A launch's extent: what isn't said is 1.
struct dim3 {
    unsigned int x, y, z;
    constexpr dim3(unsigned int x = 1, unsigned int y = 1, unsigned int z = 1) : x(x), y(y), z(z) {}
    constexpr dim3(uint3 v) : x(v.x), y(v.y), z(v.z) {}
    constexpr operator uint3() const { return {x, y, z}; }
};
