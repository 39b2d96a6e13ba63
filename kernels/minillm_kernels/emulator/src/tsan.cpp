// What g++ -fsanitize=thread,bounds calls at each access, in place of the sanitizers' own libraries
// (the names: gcc/sanitizer.def). A plain access is called before it happens; an atomic is done here.

#include <stdint.h>
#include <string.h>

#include "checker.h"

using namespace emu;

namespace {

// The checker, if a kernel calls: the table of kernels is instrumented too, and belongs to no thread.
inline Checker *checker() {
    Checker *c = the_checker;
    return c && c->worker && c->worker->stacks.holds(__builtin_frame_address(0)) ? c : nullptr;
}

inline void told(const void *address, uint64_t size, Access_kind kind, bool aligned, void *pc) {
    Checker *c = checker();
    if (!c) return;
    emu_worker *worker = c->worker;
    if (!worker->stacks.has_room(__builtin_frame_address(0))) worker->overflow(pc);
    worker->busy = true;
    // Only a whole structure or a memcpy is longer than 16 bytes.
    for (uint64_t done = 0; done < size; done += 16) {
        uint32_t part = (uint32_t)(size - done < 16 ? size - done : 16);
        c->access((uintptr_t)address + done, part, kind, aligned, (uintptr_t)pc);
    }
    worker->busy = false;
    c->let_others_run(kind);
}

}  // namespace

#define EXPORT extern "C" __attribute__((visibility("default")))
#define CALLER __builtin_return_address(0)

#define PLAIN(size)                                                                               \
    EXPORT void __tsan_read##size(void *a) { told(a, size, reads, true, CALLER); }                \
    EXPORT void __tsan_write##size(void *a) { told(a, size, writes, true, CALLER); }              \
    EXPORT void __tsan_unaligned_read##size(void *a) { told(a, size, reads, false, CALLER); }     \
    EXPORT void __tsan_unaligned_write##size(void *a) { told(a, size, writes, false, CALLER); }   \
    EXPORT void __tsan_volatile_read##size(void *a) { told(a, size, reads, true, CALLER); }       \
    EXPORT void __tsan_volatile_write##size(void *a) { told(a, size, writes, true, CALLER); }
PLAIN(1)
PLAIN(2)
PLAIN(4)
PLAIN(8)
PLAIN(16)

EXPORT void __tsan_read_range(void *a, uint64_t size) { told(a, size, reads, false, CALLER); }
EXPORT void __tsan_write_range(void *a, uint64_t size) { told(a, size, writes, false, CALLER); }
EXPORT void __tsan_vptr_read(void **) {}
EXPORT void __tsan_vptr_update(void **, void *) {}
EXPORT void __tsan_func_entry(void *) {}
EXPORT void __tsan_func_exit() {}
EXPORT void __tsan_init() {}

// In checked code the kernel's calls of memcpy and its like are calls of these (source.py).
EXPORT void *emu_memcpy(void *to, const void *from, size_t n) {
    told(from, n, reads, false, CALLER);
    told(to, n, writes, false, CALLER);
    return memcpy(to, from, n);
}
EXPORT void *emu_memmove(void *to, const void *from, size_t n) {
    told(from, n, reads, false, CALLER);
    told(to, n, writes, false, CALLER);
    return memmove(to, from, n);
}
EXPORT void *emu_memset(void *to, int value, size_t n) {
    told(to, n, writes, false, CALLER);
    return memset(to, value, n);
}

#define ORDER __ATOMIC_SEQ_CST
#define FETCH(bits, name)                                                                     \
    EXPORT uint##bits##_t __tsan_atomic##bits##_fetch_##name(volatile uint##bits##_t *a,      \
                                                             uint##bits##_t v, int) {         \
        told((void *)a, bits / 8, updates, true, CALLER);                                     \
        return __atomic_fetch_##name(a, v, ORDER);                                            \
    }
#define EXCHANGE(bits, strength)                                                              \
    EXPORT int __tsan_atomic##bits##_compare_exchange_##strength(                             \
        volatile uint##bits##_t *a, uint##bits##_t *expected, uint##bits##_t v, int, int) {   \
        told((void *)a, bits / 8, updates, true, CALLER);                                     \
        return __atomic_compare_exchange_n(a, expected, v, false, ORDER, ORDER);              \
    }
#define ATOMIC(bits)                                                                          \
    EXPORT uint##bits##_t __tsan_atomic##bits##_load(const volatile uint##bits##_t *a, int) { \
        told((void *)a, bits / 8, updates, true, CALLER);                                     \
        return __atomic_load_n(a, ORDER);                                                     \
    }                                                                                         \
    EXPORT void __tsan_atomic##bits##_store(volatile uint##bits##_t *a, uint##bits##_t v, int) { \
        told((void *)a, bits / 8, updates, true, CALLER);                                     \
        __atomic_store_n(a, v, ORDER);                                                        \
    }                                                                                         \
    EXPORT uint##bits##_t __tsan_atomic##bits##_exchange(volatile uint##bits##_t *a,          \
                                                         uint##bits##_t v, int) {             \
        told((void *)a, bits / 8, updates, true, CALLER);                                     \
        return __atomic_exchange_n(a, v, ORDER);                                              \
    }                                                                                         \
    EXPORT uint##bits##_t __tsan_atomic##bits##_compare_exchange_val(                         \
        volatile uint##bits##_t *a, uint##bits##_t expected, uint##bits##_t v, int, int) {    \
        told((void *)a, bits / 8, updates, true, CALLER);                                     \
        __atomic_compare_exchange_n(a, &expected, v, false, ORDER, ORDER);                    \
        return expected;                                                                      \
    }                                                                                         \
    EXCHANGE(bits, strong)                                                                    \
    EXCHANGE(bits, weak)                                                                      \
    FETCH(bits, add)                                                                          \
    FETCH(bits, sub)                                                                          \
    FETCH(bits, and)                                                                          \
    FETCH(bits, or)                                                                           \
    FETCH(bits, xor)                                                                          \
    FETCH(bits, nand)
ATOMIC(8)
ATOMIC(16)
ATOMIC(32)
ATOMIC(64)

EXPORT void __tsan_atomic_thread_fence(int) {
    __atomic_thread_fence(ORDER);
    if (Checker *c = checker()) checker_fence(c);
}
EXPORT void __tsan_atomic_signal_fence(int) {}

// -fsanitize=bounds: an index of an array whose length the type says (libubsan's ubsan_handlers.h).
struct Bounds_data {
    const char *file;
    uint32_t line, column;
    const struct Type {
        uint16_t kind, info;  // of an integer: its signedness and the logarithm of its bits
        char name[1];
    } *array, *index;
};

EXPORT void __ubsan_handle_out_of_bounds(Bounds_data *data, uintptr_t index) {
    Checker *c = checker();
    if (!c || !c->options.bounds) return;
    Busy busy(c->worker);
    int bits = 1 << (data->index->info >> 1);
    int64_t value = (int64_t)index;
    if ((data->index->info & 1) && bits < 64) value = (int64_t)(index << (64 - bits)) >> (64 - bits);
    if (Finding *f = c->find(found_bad_index, data->line, data->column, reads, nowhere)) {
        f->line = (int32_t)data->line;
        f->offset = value;
        snprintf(f->file, sizeof f->file, "%s", data->file);
        snprintf(f->text, sizeof f->text, "%s", data->array->name);
    }
    if (c->options.sealed) c->stop();  // told before it happens, and of a local array by nobody else
}
