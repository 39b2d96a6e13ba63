// Fibers: contexts that hand the processor to one another, and the stacks that they run on.
//
// On x86-64 and aarch64 a switch saves the registers that a called function must keep (System V
// psABI for AMD64, figure 3.4; AAPCS64, section 6.1) and exchanges the stack pointers: a few
// nanoseconds. Elsewhere, or with EMU_UCONTEXT, it is POSIX's swapcontext, which makes a system call.

#pragma once

#include <stddef.h>
#include <stdint.h>

#if !defined(__x86_64__) && !defined(__aarch64__) && !defined(EMU_UCONTEXT)
#define EMU_UCONTEXT
#endif

#ifdef EMU_UCONTEXT
#include <ucontext.h>
#endif

namespace emu {

struct Context {
#ifdef EMU_UCONTEXT
    ucontext_t saved;
#else
    void *stack_pointer;
#endif
};

// Make `context` start in `entry`, which must never return, on a stack that ends at `top`.
void prepare(Context &context, void (*entry)(), char *bottom, char *top);
void switch_to(Context &from, Context &to);

// Stacks for one worker's fibers, each with a page beneath that traps an overflow.
class Stacks {
  public:
    ~Stacks();
    bool reserve(int count);  // false where the machine gives no more
    char *bottom(int slot) const { return base_ + (size_t)slot * bytes; }
    char *end(int slot) const { return bottom(slot) + bytes; }
    bool holds(const void *address) const {
        return (char *)address >= base_ && (char *)address < base_ + (size_t)count_ * bytes;
    }
    bool is_guard(const void *address) const;
    bool has_room(const void *frame) const;  // for our own functions, beneath a kernel's frame
    static const size_t bytes;

  private:
    char *mapping_ = nullptr, *base_ = nullptr;
    size_t mapped_ = 0;
    int count_ = 0;
};

}  // namespace emu
