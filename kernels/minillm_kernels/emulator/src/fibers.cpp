#include "fibers.h"

#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "../include/emu_runtime.h"

namespace emu {

const size_t Stacks::bytes = EMU_STACK_BYTES;

static size_t guard_bytes() {
    static const size_t page = (size_t)sysconf(_SC_PAGESIZE);
    return page;
}

Stacks::~Stacks() {
    if (mapping_) munmap(mapping_, mapped_);
}

bool Stacks::reserve(int count) {
    if (count <= count_) return true;
    if (mapping_) munmap(mapping_, mapped_);
    mapping_ = base_ = nullptr;
    count_ = 0;
    mapped_ = (size_t)(count + 1) * bytes;  // one more, to align
    void *got = mmap(nullptr, mapped_, PROT_READ | PROT_WRITE,
                     MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) return false;
    mapping_ = (char *)got;
    base_ = (char *)(((uintptr_t)got + bytes - 1) & ~(uintptr_t)(bytes - 1));
    for (int slot = 0; slot < count; ++slot)
        if (mprotect(base_ + (size_t)slot * bytes, guard_bytes(), PROT_NONE)) return false;
    count_ = count;
    return true;
}

bool Stacks::is_guard(const void *address) const {
    return holds(address) && (uintptr_t)((char *)address - base_) % bytes < guard_bytes();
}

bool Stacks::has_room(const void *frame) const {
    return ((uintptr_t)frame & (bytes - 1)) > guard_bytes() + 16 * 1024;
}

#ifdef EMU_UCONTEXT

void prepare(Context &context, void (*entry)(), char *bottom, char *top) {
    getcontext(&context.saved);
    context.saved.uc_stack.ss_sp = bottom;
    context.saved.uc_stack.ss_size = (size_t)(top - bottom);
    context.saved.uc_link = nullptr;
    makecontext(&context.saved, entry, 0);
}

void switch_to(Context &from, Context &to) { swapcontext(&from.saved, &to.saved); }

#else

extern "C" void emu_switch(void **save, void *load);

#if defined(__x86_64__)
__asm__(
    ".text\n"
    ".globl emu_switch\n"
    ".hidden emu_switch\n"
    ".type emu_switch, @function\n"
    "emu_switch:\n"
    "    pushq %rbp\n"
    "    pushq %rbx\n"
    "    pushq %r12\n"
    "    pushq %r13\n"
    "    pushq %r14\n"
    "    pushq %r15\n"
    "    movq %rsp, (%rdi)\n"
    "    movq %rsi, %rsp\n"
    "    popq %r15\n"
    "    popq %r14\n"
    "    popq %r13\n"
    "    popq %r12\n"
    "    popq %rbx\n"
    "    popq %rbp\n"
    "    ret\n"
    ".size emu_switch, .-emu_switch\n");

void prepare(Context &context, void (*entry)(), char *, char *top) {
    // emu_switch takes six registers and returns to `entry`, which must find the stack as if called:
    // 8 bytes (the address it would return to) below a multiple of 16.
    void **sp = (void **)((uintptr_t)top & ~(uintptr_t)15);
    *--sp = nullptr;
    *--sp = (void *)entry;
    sp -= 6;
    memset(sp, 0, 6 * sizeof *sp);
    context.stack_pointer = sp;
}

#elif defined(__aarch64__)
__asm__(
    ".text\n"
    ".globl emu_switch\n"
    ".hidden emu_switch\n"
    ".type emu_switch, %function\n"
    "emu_switch:\n"
    "    sub sp, sp, #160\n"
    "    stp x19, x20, [sp, #0]\n"
    "    stp x21, x22, [sp, #16]\n"
    "    stp x23, x24, [sp, #32]\n"
    "    stp x25, x26, [sp, #48]\n"
    "    stp x27, x28, [sp, #64]\n"
    "    stp x29, x30, [sp, #80]\n"
    "    stp d8, d9, [sp, #96]\n"
    "    stp d10, d11, [sp, #112]\n"
    "    stp d12, d13, [sp, #128]\n"
    "    stp d14, d15, [sp, #144]\n"
    "    mov x9, sp\n"
    "    str x9, [x0]\n"
    "    mov sp, x1\n"
    "    ldp x19, x20, [sp, #0]\n"
    "    ldp x21, x22, [sp, #16]\n"
    "    ldp x23, x24, [sp, #32]\n"
    "    ldp x25, x26, [sp, #48]\n"
    "    ldp x27, x28, [sp, #64]\n"
    "    ldp x29, x30, [sp, #80]\n"
    "    ldp d8, d9, [sp, #96]\n"
    "    ldp d10, d11, [sp, #112]\n"
    "    ldp d12, d13, [sp, #128]\n"
    "    ldp d14, d15, [sp, #144]\n"
    "    add sp, sp, #160\n"
    "    ret\n"
    ".size emu_switch, .-emu_switch\n");

void prepare(Context &context, void (*entry)(), char *, char *top) {
    void **sp = (void **)((uintptr_t)top & ~(uintptr_t)15) - 20;
    memset(sp, 0, 20 * sizeof *sp);
    sp[11] = (void *)entry;  // x30, to which emu_switch returns
    context.stack_pointer = sp;
}
#endif

// A fiber that is itself the next one stays: emu_switch would load what it had saved before.
void switch_to(Context &from, Context &to) {
    if (&from != &to) emu_switch(&from.stack_pointer, to.stack_pointer);
}

#endif

}  // namespace emu
