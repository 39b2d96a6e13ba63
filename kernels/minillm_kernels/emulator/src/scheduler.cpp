#include "scheduler.h"

#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "checker.h"

namespace emu {

thread_local emu_worker *current_worker;

bool same(const Site &a, const Site &b) {
    return a.line == b.line && (a.file == b.file || !strcmp(a.file, b.file));
}

std::string place(uint3 i) {
    return "(" + std::to_string(i.x) + "," + std::to_string(i.y) + "," + std::to_string(i.z) + ")";
}

const char *const stack_overflow =
    "the thread's stack overflows: its local arrays and calls take more than the emulator's "
    EMU_TEXT(EMU_STACK_KB) " KB";

static void fiber_entry() { emu_self()->worker->run_fiber(); }

}  // namespace emu

using namespace emu;

uint3 emu_worker::index_of(int t) const {
    uint3 size = launch->block;
    unsigned n = (unsigned)t;
    return {n % size.x, n / size.x % size.y, n / size.x / size.y};
}

// ---- running the fibers --------------------------------------------------------------------------

void emu_worker::reset() {
    alive = threads;
    head = tail = 0;
    arrived = trues = 0;
    mixed = false;
    free_count = threads;
    for (int t = 0; t < threads; ++t) {
        state[t] = State::fresh;
        company[t] = 0;
        free_slots[t] = threads - 1 - t;
        order[t] = (uint16_t)t;
    }
    for (int w = 0; w * lanes < threads; ++w) {
        int n = std::min(lanes, threads - w * lanes);
        warp[w] = {n == lanes ? ~0u : (1u << n) - 1, 0, 0};
    }
    for (int t = threads - 1; t > 0; --t)
        std::swap(order[t], order[random.below((uint32_t)t + 1)]);
}

bool emu_worker::run_block(uint64_t number) {
    uint3 grid = launch->grid;
    block_number = number;
    block_index = {(unsigned)(number % grid.x), (unsigned)(number / grid.x % grid.y),
                   (unsigned)(number / grid.x / grid.y)};
    random.seed(launch->seed, number);
    reset();
    for (int i = 0; i < threads; ++i) push_back(order[i]);
    if (launch->checker) checker_block_starts(launch->checker, this);
    if (sigsetjmp(escape, 0) == 0) {
        while (alive) {
            int t = pop();
            if (t >= 0) {
                resume(t, home);
            } else if (!settle()) {
                explain();
                return false;
            }
        }
    }
    in_kernel = busy = false;
    if (launch->checker) checker_block_ends(launch->checker);
    return !failed;
}

// Write who the fiber in this slot is, where emu_self() finds it.
void emu_worker::start(int t, int s) {
    slot[t] = s;
    state[t] = State::running;
    emu_thread *self = (emu_thread *)(stacks.end(s) - EMU_THREAD_BYTES);
    self->thread_index = index_of(t);
    self->block_index = block_index;
    self->block_size = dim3(launch->block);
    self->grid_size = dim3(launch->grid);
    self->worker = this;
    self->linear = (uint32_t)t;
    self->spins = 0;
}

void emu_worker::resume(int t, Context &from) {
    current = t;
    if (state[t] == State::fresh) {
        int s = free_slots[--free_count];
        start(t, s);
        // Stacks start at different lines of the cache: at equal ones, all fibers would want the
        // same few lines, since stacks are a large power of two apart.
        char *top = stacks.end(s) - EMU_THREAD_BYTES - s % 32 * 320;
        prepare(context[t], fiber_entry, stacks.bottom(s), top);
    } else {
        state[t] = State::running;
    }
    in_kernel = true;
    switch_to(from, context[t]);
}

void emu_worker::park() {
    int me = current, next = pop();
    if (next < 0) {
        in_kernel = false;
        switch_to(context[me], home);
    } else {
        resume(next, context[me]);
    }
}

// The life of a fiber: a thread that ends gives its stack, still warm, to the next one that starts.
void emu_worker::run_fiber() {
    for (;;) {
        int me = current;
        try {
            launch->kernel->call(launch->kernel->function, launch->arguments);
        } catch (...) {
            fail("exception", {"", 0}, "a C++ exception left the kernel; CUDA has none in kernels");
        }
        finish(me);
        int next = pop();
        if (next >= 0 && state[next] == State::fresh) {
            current = next;
            start(next, slot[me]);
            continue;
        }
        free_slots[free_count++] = slot[me];
        if (next < 0) {
            in_kernel = false;
            switch_to(context[me], home);
        } else {
            resume(next, context[me]);
        }
        __builtin_unreachable();
    }
}

void emu_worker::finish(int t) {
    state[t] = State::done;
    --alive;
    warp[t / lanes].exited |= 1u << t % lanes;
}

// ---- the block's barrier -------------------------------------------------------------------------

int emu_worker::barrier(int kind, int predicate, Site here) {
    int me = current;
    state[me] = State::at_barrier;
    site[me] = here;
    trues += predicate != 0;
    if (arrived++ == 0)
        barrier_site = here;
    else if (!same(here, barrier_site))
        mixed = true;
    if (arrived < threads || mixed) {  // a thread that has returned never comes
        park();
        return barrier_value;
    }
    release_barrier(kind);
    return barrier_value;
}

void emu_worker::release_barrier(int kind) {
    int me = current, n = threads;
    barrier_value = kind == EMU_BARRIER_COUNT ? trues
                    : kind == EMU_BARRIER_AND ? trues == n
                                              : trues != 0;
    arrived = trues = 0;
    if (launch->checker) checker_barrier(launch->checker);
    if (launch->shuffle) {
        for (int i = n - 1; i > 0; --i) std::swap(order[i], order[random.below((uint32_t)i + 1)]);
        for (int i = 0; i < n; ++i) push_back(order[i]);
        park();
        return;
    }
    // The block's order, begun anywhere and read in either direction: costs nothing.
    uint64_t drawn = random.next();
    int from = (int)((drawn >> 32) * (uint64_t)n >> 32), step = drawn & 1 ? 1 : -1;
    for (int i = 0; i < n; ++i) {
        int t = order[from];
        if (t != me) push_back(t);
        from += step;
        if (from == n) from = 0;
        if (from < 0) from = n - 1;
    }
    state[me] = State::running;
}

// ---- warps ---------------------------------------------------------------------------------------

uint64_t emu_worker::warp_operation(Lane brought) {
    int me = current, w = me / lanes, l = me % lanes;
    brought.mask &= warp[w].exist;  // a block's last warp may have fewer lanes
    if (brought.operation != EMU_ACTIVEMASK && !(brought.mask >> l & 1))
        fail("warp", brought.site,
             std::string(operation_name(brought.operation)) + " is called by lane " + std::to_string(l) +
                 ", which its mask does not name");
    lane[me] = brought;
    site[me] = brought.site;
    state[me] = State::in_warp;
    warp[w].waiting |= 1u << l;
    if (brought.operation == EMU_ACTIVEMASK || !complete(w * lanes, brought.mask)) {
        park();
        return lane[me].result;
    }
    perform(w * lanes, brought.mask);
    warp[w].waiting &= ~brought.mask;
    state[me] = State::running;
    unsigned turn = launch->shuffle ? random.below(lanes) : (unsigned)l;
    for (unsigned i = 0; i < lanes; ++i) {
        unsigned other = (i + turn) % lanes;
        if (brought.mask >> other & 1) company[w * lanes + (int)other] = brought.mask;
        if ((brought.mask >> other & 1) && (int)other != l) push_front(w * lanes + (int)other);
    }
    return lane[me].result;
}

// Whether all that the mask names wait at this operation with this mask.
bool emu_worker::complete(int first, unsigned mask) {
    if ((warp[first / lanes].waiting & mask) != mask) return false;
    const Lane &mine = lane[current];
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        const Lane &other = lane[first + __builtin_ctz(rest)];
        if (other.operation != mine.operation || other.mask != mask) return false;
    }
    return true;
}

// PTX ISA, shfl.sync: from which lane of its segment a lane reads; its own where there is none.
static int source(int operation, int l, int argument, int width) {
    int first = l & ~(width - 1), end = first + width, from = l;
    if (operation == EMU_SHUFFLE) return first | (argument & (width - 1));
    if (operation == EMU_SHUFFLE_UP) from = l - (argument & 31);
    if (operation == EMU_SHUFFLE_DOWN) from = l + (argument & 31);
    if (operation == EMU_SHUFFLE_XOR) from = l ^ (argument & 31);
    if (operation == EMU_SHUFFLE_UP) return from < first ? l : from;
    return from >= end ? l : from;
}

void emu_worker::perform(int first, unsigned mask) {
    Lane *warp_lanes = lane + first;
    const Lane &mine = lane[current];
    int operation = mine.operation;
    if (launch->checker && mask == (warp[first / lanes].exist & ~warp[first / lanes].exited))
        checker_converged(launch->checker, first / lanes);
    if (operation == EMU_SYNCWARP) {
        if (launch->checker) checker_syncwarp(launch->checker, first / lanes, mask);
        return;
    }
    if (operation >= EMU_SHUFFLE && operation <= EMU_SHUFFLE_XOR) {
        for (unsigned rest = mask; rest; rest &= rest - 1) {
            int l = __builtin_ctz(rest);
            Lane &to = warp_lanes[l];
            if (to.width < 1 || to.width > 32 || to.width & (to.width - 1))
                fail("warp", to.site, std::string(operation_name(operation)) + " has width " +
                                          std::to_string(to.width) + "; allowed are 1, 2, 4, 8, 16, 32");
            int from = source(operation, l, to.argument, to.width);
            if (!(mask >> from & 1)) {  // undefined on a GPU
                if (launch->checker) checker_undefined_shuffle(launch->checker, first + l, from, to.site);
                from = l;
            }
            to.result = warp_lanes[from].value;
        }
        return;
    }
    if (operation == EMU_TOGETHER) {
        emu_share *shares[lanes];
        for (int l = 0; l < lanes; ++l) shares[l] = (emu_share *)(uintptr_t)warp_lanes[l].value;
        shares[0]->work(shares);
        return;
    }
    uint64_t total = operation == EMU_REDUCE_AND || operation == EMU_REDUCE_UMIN ? 0xffffffffu : 0;
    bool begun = false;
    unsigned ballot = 0, equal = 0;
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        int l = __builtin_ctz(rest);
        uint64_t v = warp_lanes[l].value;
        if (v) ballot |= 1u << l;
        if (v == warp_lanes[__builtin_ctz(mask)].value) equal |= 1u << l;
        int32_t a = (int32_t)total, b = (int32_t)v;
        switch (operation) {
            case EMU_REDUCE_ADD: total = (uint32_t)(total + v); break;
            case EMU_REDUCE_MIN: total = (uint32_t)(!begun || b < a ? b : a); break;
            case EMU_REDUCE_MAX: total = (uint32_t)(!begun || b > a ? b : a); break;
            case EMU_REDUCE_UMIN: total = std::min(total, v); break;
            case EMU_REDUCE_UMAX: total = std::max(total, v); break;
            case EMU_REDUCE_AND: total &= v; break;
            case EMU_REDUCE_OR: total |= v; break;
            case EMU_REDUCE_XOR: total ^= v; break;
            default: break;
        }
        begun = true;
    }
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        Lane &to = warp_lanes[__builtin_ctz(rest)];
        switch (operation) {
            case EMU_BALLOT: to.result = ballot; break;
            case EMU_ANY: to.result = ballot != 0; break;
            case EMU_ALL: to.result = ballot == mask; break;
            case EMU_MATCH_ALL: to.result = equal == mask ? mask : 0; break;
            case EMU_MATCH_ANY: {
                unsigned with = 0;
                for (unsigned r = mask; r; r &= r - 1)
                    if (warp_lanes[__builtin_ctz(r)].value == to.value) with |= 1u << __builtin_ctz(r);
                to.result = with;
                break;
            }
            default: to.result = total;
        }
    }
}

// ---- when nobody can run -------------------------------------------------------------------------

// CUDA wants all *non-exited* lanes of a mask (CUDA C++ Programming Guide, "Warp Vote Functions", "Warp
// Synchronization", "Warp Shuffle Functions"): with nobody else left, a __syncwarp or a vote is
// complete without the lanes that have returned, and so is a shuffle that wants nothing of them. But not without one that last worked with another mask.
bool emu_worker::settle_without(int first) {
    Warp &w = warp[first / lanes];
    for (unsigned rest = w.waiting; rest; rest &= rest - 1) {
        int leader = first + __builtin_ctz(rest);
        const Lane &asked = lane[leader];
        unsigned present = asked.mask & ~w.exited;
        bool shuffles = asked.operation >= EMU_SHUFFLE && asked.operation <= EMU_SHUFFLE_XOR;
        bool all = present != asked.mask && (w.waiting & present) == present &&
                   asked.operation != EMU_ACTIVEMASK && asked.operation != EMU_TOGETHER;
        for (unsigned r = present; all && r; r &= r - 1) {
            int l = __builtin_ctz(r);
            const Lane &other = lane[first + l];
            all = other.operation == asked.operation && other.mask == asked.mask;
            if (all && shuffles) all = !(w.exited >> source(other.operation, l, other.argument, other.width) & 1);
        }
        for (unsigned r = asked.mask & w.exited; all && r; r &= r - 1) {
            unsigned last = company[first + __builtin_ctz(r)];
            all = !last || (last & present) == present;  // otherwise it did other things without us
        }
        if (!all) continue;
        current = leader;
        perform(first, present);
        w.waiting &= ~present;
        for (unsigned r = present; r; r &= r - 1) {
            push_back(first + __builtin_ctz(r));
            company[first + __builtin_ctz(r)] = present;
        }
        return true;
    }
    return false;
}

// __activemask answers with the lanes that have come to the same line by the time all others have
// stopped: the largest set that a GPU could find together there.
bool emu_worker::settle() {
    bool any = false;
    for (int w = 0; w * lanes < threads; ++w) {
        int first = w * lanes;
        unsigned left = 0;
        for (unsigned rest = warp[w].waiting; rest; rest &= rest - 1) {
            int l = __builtin_ctz(rest);
            if (lane[first + l].operation == EMU_ACTIVEMASK) left |= 1u << l;
        }
        while (left) {
            int leader = first + __builtin_ctz(left);
            unsigned group = 0;
            for (unsigned rest = left; rest; rest &= rest - 1) {
                int l = __builtin_ctz(rest);
                if (same(site[first + l], site[leader])) group |= 1u << l;
            }
            for (unsigned rest = group; rest; rest &= rest - 1) {
                int l = __builtin_ctz(rest);
                lane[first + l].result = group;
                push_back(first + l);
            }
            warp[w].waiting &= ~group;
            left &= ~group;
            any = true;
        }
        any = settle_without(first) || any;
    }
    return any;
}

void emu_worker::fail(const char *kind, Site where, std::string message) {
    failure.kind = kind;
    failure.file = where.file;
    failure.line = where.line;
    failure.message = std::move(message);
    failure.thread = index_of(current);
    failure.block = block_index;
    failed = true;
    in_kernel = false;
    siglongjmp(escape, 1);
}

void emu_worker::leave_if_stopped() {
    if (!launch->stop) return;
    in_kernel = false;
    siglongjmp(escape, 1);
}

void emu_worker::overflow(const void *pc) {
    failure.pc = (const char *)pc - 1;
    fail("fault", {"", 0}, stack_overflow);
}

// ---- what kernels call -----------------------------------------------------------------------------

extern "C" {

__attribute__((visibility("default"))) int emu_barrier(int kind, int predicate, const char *file, int line) {
    return emu_self()->worker->barrier(kind, predicate, {file, line});
}

__attribute__((visibility("default"))) uint64_t emu_warp(int operation, unsigned mask, uint64_t value, int argument,
                                                         int width, const char *file, int line) {
    return emu_self()->worker->warp_operation({{file, line}, mask, operation, argument, width, value, 0});
}

__attribute__((visibility("default"))) void emu_fence() {
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    emu_worker *worker = emu_self()->worker;
    if (worker->launch->checker) checker_fence(worker->launch->checker);
}

__attribute__((visibility("default"))) void emu_yield() {
    emu_worker *worker = emu_self()->worker;
    worker->push_back(worker->current);
    worker->park();
}

__attribute__((visibility("default"))) void emu_trap(const char *file, int line) {
    emu_self()->worker->fail("trap", {file, line}, "__trap() was called");
}

__attribute__((visibility("default"))) void emu_assert(const char *expression, const char *file, int line) {
    emu_self()->worker->fail("fault", {file, line}, std::string("an assert failed: ") + expression);
}

__attribute__((visibility("default"))) int emu_printf(const char *format, ...) {
    emu_worker *worker = emu_self()->worker;
    char text[2048];
    va_list arguments;
    va_start(arguments, format);
    worker->calling = __builtin_return_address(0);
    int length = vsnprintf(text, sizeof text, format, arguments);  // takes no lock
    worker->calling = nullptr;
    va_end(arguments);
    Busy busy(worker);
    fwrite(text, 1, std::min((size_t)std::max(length, 0), sizeof text - 1), stdout);
    worker->leave_if_stopped();
    return length;
}

__attribute__((visibility("default"))) void emu_fail(const char *kind, const char *file, int line,
                                                     const char *message) {
    emu_self()->worker->fail(kind, {file, line}, message);
}
}
