// The bits of 16-bit floats: rounding to half and bfloat16, and back. Pure functions on integers.
//
//            sign  exponent  fraction   largest    smallest normal   step of the subnormals
// half         1       5        10       65504         2^-14               2^-24
// bfloat16     1       8         7     3.39e38         2^-126              2^-133
//
// Rounding is to nearest, ties to even (IEEE 754-2019, 4.3.1); NaN becomes 0x7fff, the GPU's canonical
// one (PTX ISA, cvt). A double is rounded to float by round-to-odd first, which keeps a mark of what was
// cut off, so that the second rounding is right too (Boldo & Melquiond 2008, "Emulation of FMA and
// correctly rounded sums: proved algorithms using rounding to odd").

#pragma once

#include <math.h>
#include <stdint.h>
#include <string.h>

#include "emu_math.h"

namespace emu {

EMU_INLINE float half_bits_to_float(uint16_t half) {
    // The exponent and fraction one float's place further down are 2^112 times too small; multiplying
    // by 2^112 is exact and normalises the subnormals on its way.
    const uint32_t magnitude = (uint32_t)(half & 0x7fff) << 13;
    uint32_t bits = bit_cast<uint32_t>(bit_cast<float>(magnitude) * 0x1p112f);
    if (magnitude >= 0x7c00u << 13) bits |= 0x7f800000;  // infinity and NaN stay what they are
    return bit_cast<float>(bits | (uint32_t)(half & 0x8000) << 16);
}

EMU_INLINE uint16_t float_to_half_bits(float value) {
    const uint32_t bits = bit_cast<uint32_t>(value);
    const uint32_t magnitude = bits & 0x7fffffff;
    const uint16_t sign = (uint16_t)(bits >> 16 & 0x8000);
    if (magnitude > 0x7f800000) return 0x7fff;
    if (magnitude >= 0x47800000) return sign | 0x7c00;  // 2^16 and more: infinity
    if (magnitude < 0x38800000) {
        // Below 2^-14: adding 0.5, whose last place is 2^-24, makes the CPU round to that step.
        const float shifted = bit_cast<float>(magnitude) + 0.5f;
        return sign | (uint16_t)(bit_cast<uint32_t>(shifted) - 0x3f000000);
    }
    // Move the exponent's bias from 127 to 15, and round 13 bits away; a carry may run up into
    // the exponent, which is then right as well (65520 and more become infinity that way).
    return sign | (uint16_t)((magnitude - (112u << 23) + 0xfff + (magnitude >> 13 & 1)) >> 13);
}

EMU_INLINE float bfloat16_bits_to_float(uint16_t value) { return bit_cast<float>((uint32_t)value << 16); }

EMU_INLINE uint16_t float_to_bfloat16_bits(float value) {
    const uint32_t bits = bit_cast<uint32_t>(value);
    if ((bits & 0x7fffffff) > 0x7f800000) return 0x7fff;
    return (uint16_t)((bits + 0x7fff + (bits >> 16 & 1)) >> 16);
}

// The double's float neighbour toward 0, its last bit set if anything was lost.
EMU_INLINE float round_to_odd(double value) {
    const float nearest = (float)value;
    if (value != value || (double)nearest == value) return nearest;
    uint32_t bits = bit_cast<uint32_t>(nearest);
    if (fabs((double)nearest) > fabs(value)) --bits;  // from infinity to the largest, too
    return bit_cast<float>(bits | 1);
}

// a*b + c for 16-bit floats, exact but for a last bit that says whether it was inexact: rounding the
// result to 16 bits is then rounding the true value. a*b is exact in double; the sum's error is
// Knuth's two-sum.
EMU_INLINE double fma_to_odd(float a, float b, float c) {
    const double product = (double)a * b;
    const double sum = product + c;
    if (!(fabs(sum) <= 0x1.fffffffffffffp1023)) return sum;
    const double part = sum - product;
    const double error = (product - (sum - part)) + (c - part);
    if (error == 0) return sum;
    uint64_t bits = bit_cast<uint64_t>(sum);
    if ((error < 0) != (sum < 0)) --bits;  // the true value lies nearer to 0
    return bit_cast<double>(bits | 1);
}

// tf32: a float whose fraction is cut to 10 bits. cvt.rna rounds to nearest, ties away from 0.
EMU_INLINE float round_to_tf32(float value) {
    uint32_t bits = bit_cast<uint32_t>(value);
    if ((bits & 0x7f800000) != 0x7f800000) bits += 0x1000;
    return bit_cast<float>(bits & ~0x1fffu);
}
EMU_INLINE float cut_to_tf32(float value) {
    return bit_cast<float>(bit_cast<uint32_t>(value) & ~0x1fffu);
}

// For the directed roundings: the next 16-bit float down or up from `bits` (not NaN).
EMU_INLINE uint16_t next_bits(uint16_t bits, bool up) {
    if ((bits & 0x7fff) == 0) return up ? 0x0001 : 0x8001;
    return (bits >> 15 != 0) == up ? bits - 1 : bits + 1;
}

}  // namespace emu
