// What a kernel is compiled against: who am I, the block's barrier, and how a launch calls a kernel.
//
// A CUDA thread is a fiber, and all fibers of a block run in turn on one thread of the machine. So
// `__shared__` is `thread_local`: one copy a block that is running, found by the linker and needing
// no parsing of declarations. A fiber's stack is EMU_STACK_BYTES long and aligned to that, and what
// a fiber must know of itself lies at the stack's upper end, where any function finds it by the
// stack pointer alone.
//
// `__global__` and `__shared__` stay as marks in the preprocessed text; build.py puts there what g++
// is to see, since it must find the kernels by their marks first.

#pragma once

#include <stddef.h>
#include <stdint.h>

#include <type_traits>
#include <utility>

#include "emu_vectors.h"

#define __global__ __emu_global__
#define __shared__ __emu_shared__
#define __launch_bounds__(...) __emu_launch_bounds__(__VA_ARGS__)
#define __device__
#define __host__
#define __constant__
#define __managed__
#define __grid_constant__
#define __forceinline__ inline __attribute__((always_inline))
#define __inline__ inline
#define __noinline__ __attribute__((noinline))
#define __align__(n) __attribute__((aligned(n)))
#define __maxnreg__(n)
#define __cluster_dims__(...)
#define warpSize 32

// Where a call stands in the .cu file: the last parameters of everything that can be reported.
#define EMU_HERE const char *file = __builtin_FILE(), int line = __builtin_LINE()

#define EMU_STACK_KB 128  // the kernel's frames; a power of two
#define EMU_STACK_BYTES (EMU_STACK_KB * 1024)
#define EMU_MAX_DYNAMIC_SHARED (227 * 1024)

#define EMU_HAS_FAIL

struct emu_worker;

struct emu_thread {
    uint3 thread_index, block_index;
    dim3 block_size, grid_size;
    emu_worker *worker;
    uint32_t linear;  // threadIdx in one number; a warp is 32 neighbours of it
    uint32_t spins;
};
#define EMU_THREAD_BYTES 128
static_assert(sizeof(emu_thread) <= EMU_THREAD_BYTES, "the stack's upper end holds an emu_thread");

static inline __attribute__((always_inline)) emu_thread *emu_self() {
    uintptr_t sp;
#if defined(__x86_64__)
    __asm__("mov %%rsp, %0" : "=r"(sp));
#elif defined(__aarch64__)
    __asm__("mov %0, sp" : "=r"(sp));
#else
    sp = (uintptr_t)__builtin_frame_address(0);
#endif
    return (emu_thread *)((sp | (EMU_STACK_BYTES - 1)) + 1 - EMU_THREAD_BYTES);
}

#define threadIdx (((const emu_thread *)emu_self())->thread_index)
#define blockIdx (((const emu_thread *)emu_self())->block_index)
#define blockDim (((const emu_thread *)emu_self())->block_size)
#define gridDim (((const emu_thread *)emu_self())->grid_size)

enum emu_barrier_kind { EMU_BARRIER_PLAIN, EMU_BARRIER_COUNT, EMU_BARRIER_AND, EMU_BARRIER_OR };

extern "C" {
int emu_barrier(int kind, int predicate, const char *file, int line);
void emu_fence();
void emu_yield();  // lets the block's other threads run: for one that waits for them in a loop
[[noreturn]] void emu_trap(const char *file, int line);
void *emu_memcpy(void *to, const void *from, size_t bytes);
void *emu_memmove(void *to, const void *from, size_t bytes);
void *emu_memset(void *to, int value, size_t bytes);
// Ends the launch with an error of this kind; a header's way to refuse what a GPU could not do.
[[noreturn]] void emu_fail(const char *kind, const char *file, int line, const char *message);
[[noreturn]] void emu_assert(const char *expression, const char *file, int line);
// C's printf, which must not be left by a signal while it holds the lock of stdout.
int emu_printf(const char *format, ...) __attribute__((format(printf, 1, 2)));
}

EMU_INLINE void __syncthreads(EMU_HERE) { emu_barrier(EMU_BARRIER_PLAIN, 0, file, line); }
EMU_INLINE int __syncthreads_count(int predicate, EMU_HERE) {
    return emu_barrier(EMU_BARRIER_COUNT, predicate, file, line);
}
EMU_INLINE int __syncthreads_and(int predicate, EMU_HERE) {
    return emu_barrier(EMU_BARRIER_AND, predicate, file, line);
}
EMU_INLINE int __syncthreads_or(int predicate, EMU_HERE) {
    return emu_barrier(EMU_BARRIER_OR, predicate, file, line);
}
EMU_INLINE void __nanosleep(unsigned) { emu_yield(); }
// Now and then let others run: every atomic does, since a thread may repeat it until another comes.
EMU_INLINE void emu_turn() {
    if ((++emu_self()->spins & 255) == 0) emu_yield();
}
EMU_INLINE void __threadfence() { emu_fence(); }
EMU_INLINE void __threadfence_block() { emu_fence(); }
EMU_INLINE void __threadfence_system() { emu_fence(); }
EMU_INLINE void __trap(EMU_HERE) { emu_trap(file, line); }

#define EMU_UNWATCHED __attribute__((no_sanitize("thread")))

// ---- a kernel's description, for launch.py to check arguments by, and the call itself ------------

struct emu_parameter {
    char kind;          // p pointer, f float, i signed, u unsigned, b bool, s any other type
    char element_kind;  // of what a pointer points to; v void
    uint16_t is_const;  // what a pointer points to is only read
    uint32_t size, element_size;
    const char *type;  // "... [with T = <the type>]"
};

struct emu_kernel {
    const char *name;
    void (*function)();
    void (*call)(void (*function)(), void **arguments);
    const emu_parameter *parameters;
    int count;
    int most_threads;  // from __launch_bounds__, 0 without
};

template <class T>
const char *emu_type_name() {
    return __PRETTY_FUNCTION__;
}

template <class T>
constexpr char emu_kind() {
    return std::is_void<T>::value                                   ? 'v'
           : std::is_pointer<T>::value                              ? 'p'
           : std::is_same<std::remove_cv_t<T>, bool>::value         ? 'b'
           : std::is_floating_point<T>::value                       ? 'f'
           : std::is_integral<T>::value && std::is_signed<T>::value ? 'i'
           : std::is_integral<T>::value                             ? 'u'
                                                                    : 's';
}

template <class T>
constexpr uint32_t emu_size() {
    if constexpr (std::is_void<T>::value || std::is_function<T>::value)
        return 1;
    else
        return sizeof(T);
}

template <class P>
EMU_UNWATCHED emu_parameter emu_describe_parameter() {
    using Value = std::remove_cv_t<P>;
    using Element = std::remove_pointer_t<Value>;
    return {emu_kind<Value>(),  emu_kind<Element>(),    std::is_const<Element>::value,
            sizeof(Value),      emu_size<Element>(),    emu_type_name<Value>()};
}

template <class... P>
struct emu_caller {
    template <size_t... I>
    EMU_UNWATCHED static void with(void (*function)(P...), void **arguments, std::integer_sequence<size_t, I...>) {
        function(*(std::remove_cv_t<P> *)arguments[I]...);
    }
    EMU_UNWATCHED static void call(void (*function)(), void **arguments) {
        with((void (*)(P...))function, arguments, std::index_sequence_for<P...>());
    }
};

template <class... P>
EMU_UNWATCHED emu_kernel emu_describe(const char *name, void (*function)(P...), int most_threads = 0,
                                      int = 0) {
    static const emu_parameter parameters[] = {emu_describe_parameter<P>()..., {}};
    return {name, (void (*)())function, &emu_caller<P...>::call, parameters, (int)sizeof...(P), most_threads};
}

// alignas(16) and alignas(float4) alike, where g++ wants an attribute with a number.
template <class T>
constexpr size_t emu_alignment() {
    return alignof(T);
}
template <size_t N>
constexpr size_t emu_alignment() {
    return N;
}
