// What cuda_fp16.h and cuda_bf16.h have in common: included by each, with EMU_SCALAR and EMU_PAIR set to
// its two types. Every function widens to float, computes, and rounds once.
//
// No include guard: it is a template, written as a file so that the functions are real overloads, to
// which arguments convert as they do with CUDA's.

#define EMU_WIDE(v) ((float)(v))
// For functions of one or two operations in double: no second rounding on the way.
#define EMU_NARROW(expression) emu::to_16_bits(EMU_SCALAR{}, (double)(expression))

// ---- operators ---------------------------------------------------------------------------------------

#define EMU_OPERATOR(symbol, name, name2)                                                             \
    EMU_INLINE EMU_SCALAR name(EMU_SCALAR a, EMU_SCALAR b) { return EMU_WIDE(a) symbol EMU_WIDE(b); } \
    EMU_INLINE EMU_SCALAR operator symbol(EMU_SCALAR a, EMU_SCALAR b) { return name(a, b); }          \
    EMU_INLINE EMU_SCALAR& operator symbol##=(EMU_SCALAR& a, EMU_SCALAR b) { return a = name(a, b); } \
    EMU_INLINE EMU_PAIR name2(EMU_PAIR a, EMU_PAIR b) { return {name(a.x, b.x), name(a.y, b.y)}; }    \
    EMU_INLINE EMU_PAIR operator symbol(EMU_PAIR a, EMU_PAIR b) { return name2(a, b); }               \
    EMU_INLINE EMU_PAIR& operator symbol##=(EMU_PAIR& a, EMU_PAIR b) { return a = name2(a, b); }
EMU_OPERATOR(+, __hadd, __hadd2)
EMU_OPERATOR(-, __hsub, __hsub2)
EMU_OPERATOR(*, __hmul, __hmul2)
EMU_OPERATOR(/, __hdiv, __h2div)
#undef EMU_OPERATOR

EMU_INLINE EMU_SCALAR __hadd_rn(EMU_SCALAR a, EMU_SCALAR b) { return __hadd(a, b); }
EMU_INLINE EMU_SCALAR __hsub_rn(EMU_SCALAR a, EMU_SCALAR b) { return __hsub(a, b); }
EMU_INLINE EMU_SCALAR __hmul_rn(EMU_SCALAR a, EMU_SCALAR b) { return __hmul(a, b); }
EMU_INLINE EMU_PAIR __hadd2_rn(EMU_PAIR a, EMU_PAIR b) { return __hadd2(a, b); }
EMU_INLINE EMU_PAIR __hmul2_rn(EMU_PAIR a, EMU_PAIR b) { return __hmul2(a, b); }

// Negation and magnitude touch the sign's bit alone, so NaN and -0 come out as on the GPU.
EMU_INLINE EMU_SCALAR __hneg(EMU_SCALAR v) {
    v.bits ^= 0x8000;
    return v;
}
EMU_INLINE EMU_SCALAR __habs(EMU_SCALAR v) {
    v.bits &= 0x7fff;
    return v;
}
EMU_INLINE EMU_PAIR __hneg2(EMU_PAIR v) { return {__hneg(v.x), __hneg(v.y)}; }
EMU_INLINE EMU_PAIR __habs2(EMU_PAIR v) { return {__habs(v.x), __habs(v.y)}; }
EMU_INLINE EMU_SCALAR operator-(EMU_SCALAR v) { return __hneg(v); }
EMU_INLINE EMU_SCALAR operator+(EMU_SCALAR v) { return v; }
EMU_INLINE EMU_PAIR operator-(EMU_PAIR v) { return __hneg2(v); }
EMU_INLINE EMU_SCALAR& operator++(EMU_SCALAR& v) { return v = __hadd(v, EMU_SCALAR(1.0f)); }
EMU_INLINE EMU_SCALAR& operator--(EMU_SCALAR& v) { return v = __hsub(v, EMU_SCALAR(1.0f)); }

// a*b + c, rounded once.
EMU_INLINE EMU_SCALAR __hfma(EMU_SCALAR a, EMU_SCALAR b, EMU_SCALAR c) {
    return EMU_NARROW(emu::fma_to_odd(a, b, c));
}
EMU_INLINE EMU_PAIR __hfma2(EMU_PAIR a, EMU_PAIR b, EMU_PAIR c) {
    return {__hfma(a.x, b.x, c.x), __hfma(a.y, b.y, c.y)};
}

// ---- saturated to [0, 1], NaN to 0; relu: negative to 0 ------------------------------------------------

EMU_INLINE EMU_SCALAR __hadd_sat(EMU_SCALAR a, EMU_SCALAR b) { return __saturatef(__hadd(a, b)); }
EMU_INLINE EMU_SCALAR __hsub_sat(EMU_SCALAR a, EMU_SCALAR b) { return __saturatef(__hsub(a, b)); }
EMU_INLINE EMU_SCALAR __hmul_sat(EMU_SCALAR a, EMU_SCALAR b) { return __saturatef(__hmul(a, b)); }
EMU_INLINE EMU_SCALAR __hfma_sat(EMU_SCALAR a, EMU_SCALAR b, EMU_SCALAR c) {
    return __saturatef(__hfma(a, b, c));
}
EMU_INLINE EMU_SCALAR __hfma_relu(EMU_SCALAR a, EMU_SCALAR b, EMU_SCALAR c) {
    const EMU_SCALAR v = __hfma(a, b, c);
    return EMU_WIDE(v) < 0 ? EMU_SCALAR(0.0f) : v;
}
EMU_INLINE EMU_PAIR __hfma2_relu(EMU_PAIR a, EMU_PAIR b, EMU_PAIR c) {
    return {__hfma_relu(a.x, b.x, c.x), __hfma_relu(a.y, b.y, c.y)};
}

// ---- comparisons: false with a NaN, but for != and the ...u (unordered) ones, which are true -------------

#define EMU_COMPARISON(symbol, name)                                                               \
    EMU_INLINE bool __h##name(EMU_SCALAR a, EMU_SCALAR b) { return EMU_WIDE(a) symbol EMU_WIDE(b); } \
    EMU_INLINE bool __h##name##u(EMU_SCALAR a, EMU_SCALAR b) {                                     \
        return EMU_WIDE(a) != EMU_WIDE(a) || EMU_WIDE(b) != EMU_WIDE(b) ||                         \
               EMU_WIDE(a) symbol EMU_WIDE(b);                                                     \
    }                                                                                              \
    EMU_INLINE bool operator symbol(EMU_SCALAR a, EMU_SCALAR b) { return __h##name(a, b); }        \
    EMU_INLINE EMU_PAIR __h##name##2(EMU_PAIR a, EMU_PAIR b) {                                     \
        return {EMU_SCALAR(__h##name(a.x, b.x) ? 1.0f : 0.0f),                                     \
                EMU_SCALAR(__h##name(a.y, b.y) ? 1.0f : 0.0f)};                                    \
    }                                                                                              \
    EMU_INLINE bool __hb##name##2(EMU_PAIR a, EMU_PAIR b) {                                        \
        return __h##name(a.x, b.x) && __h##name(a.y, b.y);                                         \
    }
EMU_COMPARISON(==, eq)
EMU_COMPARISON(<, lt)
EMU_COMPARISON(<=, le)
EMU_COMPARISON(>, gt)
EMU_COMPARISON(>=, ge)
#undef EMU_COMPARISON
// CUDA's __hne is ordered (false with a NaN), while its operator != is not.
EMU_INLINE bool __hne(EMU_SCALAR a, EMU_SCALAR b) { return __hlt(a, b) || __hgt(a, b); }
EMU_INLINE bool __hneu(EMU_SCALAR a, EMU_SCALAR b) { return EMU_WIDE(a) != EMU_WIDE(b); }
EMU_INLINE bool operator!=(EMU_SCALAR a, EMU_SCALAR b) { return __hneu(a, b); }
EMU_INLINE bool operator==(EMU_PAIR a, EMU_PAIR b) { return __hbeq2(a, b); }
EMU_INLINE bool operator!=(EMU_PAIR a, EMU_PAIR b) { return __hneu(a.x, b.x) && __hneu(a.y, b.y); }
EMU_INLINE bool __hisnan(EMU_SCALAR v) { return EMU_WIDE(v) != EMU_WIDE(v); }
EMU_INLINE int __hisinf(EMU_SCALAR v) {
    return fabsf(EMU_WIDE(v)) == CUDART_INF_F ? (EMU_WIDE(v) < 0 ? -1 : 1) : 0;
}

// The one that is a number; __hmax_nan: NaN if either is. Of two zeros, +0 is the larger.
#define EMU_EXTREME(name, symbol, minus)                                                    \
    EMU_INLINE EMU_SCALAR name(EMU_SCALAR a, EMU_SCALAR b) {                              \
        if (__hisnan(a) || __hisnan(b)) return __hisnan(a) ? b : a;                       \
        if (EMU_WIDE(a) == EMU_WIDE(b)) return signbit(EMU_WIDE(a)) == minus ? a : b;     \
        return EMU_WIDE(a) symbol EMU_WIDE(b) ? a : b;                                    \
    }                                                                                     \
    EMU_INLINE EMU_SCALAR name##_nan(EMU_SCALAR a, EMU_SCALAR b) {                        \
        if (__hisnan(a) || __hisnan(b)) return EMU_SCALAR(CUDART_NAN_F);                  \
        return name(a, b);                                                                \
    }
EMU_EXTREME(__hmax, >, false)
EMU_EXTREME(__hmin, <, true)
#undef EMU_EXTREME
EMU_INLINE EMU_PAIR __hmax2(EMU_PAIR a, EMU_PAIR b) { return {__hmax(a.x, b.x), __hmax(a.y, b.y)}; }
EMU_INLINE EMU_PAIR __hmin2(EMU_PAIR a, EMU_PAIR b) { return {__hmin(a.x, b.x), __hmin(a.y, b.y)}; }

// ---- functions ---------------------------------------------------------------------------------------------

#define EMU_FUNCTION(name, expression)                                         \
    EMU_INLINE EMU_SCALAR h##name(EMU_SCALAR a) {                              \
        const double v = EMU_WIDE(a);                                          \
        return EMU_NARROW(expression);                                         \
    }                                                                          \
    EMU_INLINE EMU_PAIR h2##name(EMU_PAIR a) { return {h##name(a.x), h##name(a.y)}; }
EMU_FUNCTION(exp, exp(v))
EMU_FUNCTION(exp2, exp2(v))
EMU_FUNCTION(exp10, pow(10.0, v))
EMU_FUNCTION(log, log(v))
EMU_FUNCTION(log2, log2(v))
EMU_FUNCTION(log10, log10(v))
EMU_FUNCTION(sin, sin(v))
EMU_FUNCTION(cos, cos(v))
EMU_FUNCTION(tanh, tanh(v))
EMU_FUNCTION(sqrt, sqrt(v))
EMU_FUNCTION(rsqrt, 1.0 / sqrt(v))
EMU_FUNCTION(rcp, 1.0 / v)
EMU_FUNCTION(ceil, ceil(v))
EMU_FUNCTION(floor, floor(v))
EMU_FUNCTION(trunc, trunc(v))
EMU_FUNCTION(rint, nearbyint(v))
#undef EMU_FUNCTION

// ---- atomics -------------------------------------------------------------------------------------------------

EMU_INLINE EMU_SCALAR atomicAdd(EMU_SCALAR* address, EMU_SCALAR value) {
    return emu::atomic_update<uint16_t>(address, [=](EMU_SCALAR old) { return __hadd(old, value); });
}
EMU_SCOPED(atomicAdd, EMU_SCALAR, (EMU_SCALAR * address, EMU_SCALAR value), (address, value))
// CUDA promises no more than that each half of the pair is added atomically; here both are at once.
EMU_INLINE EMU_PAIR atomicAdd(EMU_PAIR* address, EMU_PAIR value) {
    return emu::atomic_update<uint32_t>(address, [=](EMU_PAIR old) { return __hadd2(old, value); });
}
EMU_SCOPED(atomicAdd, EMU_PAIR, (EMU_PAIR * address, EMU_PAIR value), (address, value))

#undef EMU_NARROW
#undef EMU_WIDE
