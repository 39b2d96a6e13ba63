// CUDA's nvcuda::wmma on the CPU: D = A @ B + C, one small matrix product by a whole warp.
//
// A fragment is the share that one lane holds of a matrix. Here every element lies in exactly one
// lane, element_of() says where; CUDA promises no layout, only that fragments of the same type share
// one, so a kernel may work on x[i] elementwise and nothing else. (For accumulators of 16 columns ours
// is that of the mma instructions: PTX ISA, "Matrix Fragments for mma.m16n8k16".)
// Loads and stores are ordinary ones, each lane's of its own share, two neighbours at once where
// memory has them so. The counts of conflicts and sectors that come of it are those of this layout.
//
// Products are exact and sums are float's, rounded to half once at the end if C is half. The tensor
// cores' inner sums round differently: the last bits may differ.

#pragma once

#include <stdint.h>

#include <type_traits>

#include "cuda_bf16.h"
#include "cuda_fp16.h"
#include "emu_warp.h"

namespace nvcuda {
namespace wmma {

struct row_major;
struct col_major;
struct matrix_a;
struct matrix_b;
struct accumulator;
namespace precision {
struct tf32;
}
enum layout_t { mem_row_major, mem_col_major };

namespace emu_detail {

template <class T>
struct Stored {
    typedef T type;
};
template <>
struct Stored<precision::tf32> {
    typedef float type;
};

template <class Use, int m, int n, int k>
struct Extent;  // rows and columns of a fragment's matrix, and which of them runs inside a pair
template <int m, int n, int k>
struct Extent<matrix_a, m, n, k> {
    static constexpr int rows = m, columns = k;
    static constexpr bool pairs_along_row = true;
};
template <int m, int n, int k>
struct Extent<matrix_b, m, n, k> {
    static constexpr int rows = k, columns = n;
    static constexpr bool pairs_along_row = false;
};
template <int m, int n, int k>
struct Extent<accumulator, m, n, k> {
    static constexpr int rows = m, columns = n;
    static constexpr bool pairs_along_row = true;
};

template <class T, int m, int n, int k>
constexpr bool shape_exists() {
    const bool wide = (m == 16 && n == 16 && k == 16) || (m == 32 && n == 8 && k == 16) ||
                      (m == 8 && n == 32 && k == 16);
    const bool tf32 = m == 16 && n == 16 && k == 8;
    if (std::is_same<T, precision::tf32>::value) return tf32;
    if (std::is_same<T, float>::value) return wide || tf32;
    return wide;
}

struct Place {
    int row, column;
};

// Where element i of a lane's share lies. The matrix is cut into 8 x 8 tiles, in each of which lane l
// holds two neighbours: of row l / 4 the columns 2 (l % 4) and the next (rows and columns swapped for B).
template <class Extent>
EMU_INLINE constexpr Place element_of(int lane, int i) {
    const int across_tiles = (Extent::pairs_along_row ? Extent::rows : Extent::columns) / 8;
    const int tile = i / 2;
    const int across = tile % across_tiles * 8 + lane / 4;
    const int along = tile / across_tiles * 8 + lane % 4 * 2 + i % 2;
    return Extent::pairs_along_row ? Place{across, along} : Place{along, across};
}

template <class T>
struct alignas(2 * sizeof(T)) Pair {
    T first, second;
};

}  // namespace emu_detail

namespace emu_detail {

// A fragment less its memory layout, which matters to its load alone.
template <class Use, int m, int n, int k, class T>
struct Share {
    static_assert(shape_exists<T, m, n, k>(),
                  "wmma has no such shape: 16x16x16, 32x8x16, 8x32x16, and 16x16x8 for tf32");
    static_assert(std::is_same<T, __half>::value || std::is_same<T, __nv_bfloat16>::value ||
                      std::is_same<T, signed char>::value || std::is_same<T, unsigned char>::value ||
                      std::is_same<T, precision::tf32>::value || std::is_same<Use, accumulator>::value,
                  "wmma multiplies __half, __nv_bfloat16, signed and unsigned char, precision::tf32");
    typedef Extent<Use, m, n, k> extent;
    typedef typename Stored<T>::type element_type;
    static constexpr int num_elements = extent::rows * extent::columns / 32;
    static constexpr int num_storage_elements = num_elements;
    element_type x[num_elements];
};

}  // namespace emu_detail

template <class Use, int m, int n, int k, class T, class Layout = void>
class fragment : public emu_detail::Share<Use, m, n, k, T> {};

EMU_INLINE float __float_to_tf32(float v) { return ::emu::round_to_tf32(v); }

template <class Use, int m, int n, int k, class T, class Layout, class V>
EMU_INLINE void fill_fragment(fragment<Use, m, n, k, T, Layout>& a, const V& value) {
    typedef typename fragment<Use, m, n, k, T, Layout>::element_type Element;
    for (int i = 0; i < a.num_elements; ++i) a.x[i] = Element(value);
}

namespace emu_detail {

[[noreturn]] EMU_INLINE void refuse(const char* message, const char* file, int line) {
    emu_fail("wmma", file, line, message);
}

// What the hardware takes for granted, and answers with wrong numbers or a fault if it isn't so.
// NumPy's arrays begin at multiples of 16 bytes, a GPU's at multiples of 256; checked launches put them
// where a GPU would.
#ifdef __MINILLM_CHECKED__
constexpr unsigned tile_alignment = 32;
#else
constexpr unsigned tile_alignment = 16;
#endif

template <class Element>
EMU_INLINE void check_tile(const void* pointer, unsigned stride, const char* file, int line) {
    char message[160];
    const unsigned beyond = (uintptr_t)pointer % tile_alignment, multiple = 16 / sizeof(Element);
    if (beyond == 0 && stride % multiple == 0) return;
    if (beyond != 0)
        snprintf(message, sizeof message,
                 "a tile must begin at a multiple of 32 bytes; this one begins %u bytes beyond one of %u",
                 beyond, tile_alignment);
    else
        snprintf(message, sizeof message,
                 "a tile's stride must be a multiple of %u elements (16 bytes); this one is %u", multiple,
                 stride);
    refuse(message, file, line);
}

template <bool row_major, class Fragment, class Element>
EMU_INLINE void load(Fragment& a, const Element* pointer, unsigned stride, const char* file, int line) {
    check_tile<Element>(pointer, stride, file, line);
    const int lane = (int)(emu_self()->linear % 32);
    if (Fragment::extent::pairs_along_row == row_major) {
        for (int i = 0; i < a.num_elements; i += 2) {
            const Place p = element_of<typename Fragment::extent>(lane, i);
            const Element* address = row_major ? pointer + p.row * (size_t)stride + p.column
                                               : pointer + p.column * (size_t)stride + p.row;
            const Pair<Element> both = *reinterpret_cast<const Pair<Element>*>(address);
            a.x[i] = both.first;
            a.x[i + 1] = both.second;
        }
    } else {
        for (int i = 0; i < a.num_elements; ++i) {
            const Place p = element_of<typename Fragment::extent>(lane, i);
            a.x[i] = row_major ? pointer[p.row * (size_t)stride + p.column]
                               : pointer[p.column * (size_t)stride + p.row];
        }
    }
}

template <bool row_major, class Fragment, class Element>
EMU_INLINE void store(Element* pointer, const Fragment& a, unsigned stride, const char* file, int line) {
    check_tile<Element>(pointer, stride, file, line);
    const int lane = (int)(emu_self()->linear % 32);
    for (int i = 0; i < a.num_elements; i += row_major ? 2 : 1) {
        const Place p = element_of<typename Fragment::extent>(lane, i);
        if (row_major) {
            Pair<Element> both;
            both.first = a.x[i];
            both.second = a.x[i + 1];
            *reinterpret_cast<Pair<Element>*>(pointer + p.row * (size_t)stride + p.column) = both;
        } else {
            pointer[p.column * (size_t)stride + p.row] = a.x[i];
        }
    }
}

}  // namespace emu_detail

template <class Use, int m, int n, int k, class T, class Layout>
EMU_INLINE void load_matrix_sync(fragment<Use, m, n, k, T, Layout>& a,
                                 const typename emu_detail::Stored<T>::type* pointer, unsigned stride,
                                 EMU_HERE) {
    static_assert(!std::is_same<Layout, void>::value, "an accumulator's load needs a layout_t argument");
    emu_detail::load<std::is_same<Layout, row_major>::value>(a, pointer, stride, file, line);
}

template <int m, int n, int k, class T>
EMU_INLINE void load_matrix_sync(fragment<accumulator, m, n, k, T>& a, const T* pointer, unsigned stride,
                                 layout_t layout, EMU_HERE) {
    if (layout == mem_row_major)
        emu_detail::load<true>(a, pointer, stride, file, line);
    else
        emu_detail::load<false>(a, pointer, stride, file, line);
}

template <int m, int n, int k, class T>
EMU_INLINE void store_matrix_sync(T* pointer, const fragment<accumulator, m, n, k, T>& a, unsigned stride,
                                  layout_t layout, EMU_HERE) {
    if (layout == mem_row_major)
        emu_detail::store<true>(pointer, a, stride, file, line);
    else
        emu_detail::store<false>(pointer, a, stride, file, line);
}

namespace emu_detail {

// The four fragments of one lane, which mma_sync lays open to its warp.
template <class A, class B, class C, class D>
struct Shares : emu_share {
    const A* a;
    const B* b;
    const C* c;
    D* d;
};

EMU_INLINE void check_warp(const char* file, int line) {
    const emu_thread& self = *emu_self();
    if ((self.linear | 31) >= self.block_size.x * self.block_size.y * self.block_size.z)
        refuse("mma_sync takes whole warps; this block's size is no multiple of 32 threads", file, line);
}

// A tensor core sees 10 bits of a tf32's fraction, whatever the float held below them.
template <class T>
EMU_INLINE float factor(typename Stored<T>::type v) {
    return std::is_same<T, precision::tf32>::value ? ::emu::cut_to_tf32((float)v) : (float)v;
}

// The whole product, by the last lane to arrive, from all the lanes' fragments.
template <int m, int n, int k, class TA, class TB, class A, class B, class C, class D>
__attribute__((no_sanitize("thread"))) void multiply(emu_share* const* lanes) {
    typedef Shares<A, B, C, D> Mine;
    typedef typename std::conditional<std::is_same<typename C::element_type, int>::value, int, float>::type Sum;
    Sum left[m][k], right[k][n], sum[m][n];
    for (int lane = 0; lane < 32; ++lane) {
        const Mine& mine = *static_cast<const Mine*>(lanes[lane]);
        for (int i = 0; i < A::num_elements; ++i) {
            const Place p = element_of<typename A::extent>(lane, i);
            left[p.row][p.column] = (Sum)factor<TA>(mine.a->x[i]);
        }
        for (int i = 0; i < B::num_elements; ++i) {
            const Place p = element_of<typename B::extent>(lane, i);
            right[p.row][p.column] = (Sum)factor<TB>(mine.b->x[i]);
        }
        for (int i = 0; i < C::num_elements; ++i) {
            const Place p = element_of<typename C::extent>(lane, i);
            sum[p.row][p.column] = (Sum)mine.c->x[i];
        }
    }
    for (int row = 0; row < m; ++row)
        for (int inner = 0; inner < k; ++inner)
            for (int column = 0; column < n; ++column)
                sum[row][column] += left[row][inner] * right[inner][column];
    for (int lane = 0; lane < 32; ++lane) {
        const Mine& mine = *static_cast<const Mine*>(lanes[lane]);
        for (int i = 0; i < D::num_elements; ++i) {
            const Place p = element_of<typename D::extent>(lane, i);
            mine.d->x[i] = typename D::element_type(sum[p.row][p.column]);
        }
    }
}

}  // namespace emu_detail

template <int m, int n, int k, class TA, class LA, class TB, class LB, class TC, class TD>
EMU_INLINE void mma_sync(fragment<accumulator, m, n, k, TD>& d, const fragment<matrix_a, m, n, k, TA, LA>& a,
                         const fragment<matrix_b, m, n, k, TB, LB>& b,
                         const fragment<accumulator, m, n, k, TC>& c, bool = false, EMU_HERE) {
    const bool narrow = sizeof(typename emu_detail::Stored<TA>::type) == 1;  // 8-bit integers
    static_assert(std::is_same<TA, TB>::value, "wmma multiplies two matrices of one type");
    static_assert(std::is_same<TC, typename std::conditional<narrow, int, float>::type>::value ||
                      (std::is_same<TA, __half>::value && std::is_same<TC, __half>::value),
                  "wmma sums __half in __half or float, bfloat16 and tf32 in float, 8 bits in int");
    typedef emu_detail::Share<matrix_a, m, n, k, TA> A;
    typedef emu_detail::Share<matrix_b, m, n, k, TB> B;
    typedef emu_detail::Share<accumulator, m, n, k, TC> C;
    typedef emu_detail::Share<accumulator, m, n, k, TD> D;
    emu_detail::check_warp(file, line);
    emu_detail::Shares<A, B, C, D> mine;
    mine.work = &emu_detail::multiply<m, n, k, TA, TB, A, B, C, D>;
    mine.a = &a;
    mine.b = &b;
    mine.c = &c;
    mine.d = &d;
    emu_together(&mine, file, line);
}

}  // namespace wmma
}  // namespace nvcuda
