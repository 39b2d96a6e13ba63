// One worker: runs a block at a time, its CUDA threads in turn as fibers on one thread of the machine.
//
// A thread runs until it has to wait: at the block's barrier, or for other lanes of its warp. Threads
// that can run stand in a queue, in an order drawn from (seed, block): the same seed gives the same
// order. When the queue is empty and threads are left, nobody can ever run: that is reported.

#pragma once

#include <setjmp.h>
#include <stdint.h>

#include <atomic>
#include <string>
#include <vector>

#include "../include/emu_runtime.h"
#include "../include/emu_warp.h"
#include "fibers.h"

namespace emu {

#define EMU_TEXT_OF(x) #x
#define EMU_TEXT(x) EMU_TEXT_OF(x)

constexpr int max_threads = 1024;
constexpr int lanes = 32;

struct Checker;

struct Random {  // xorshift64*, Vigna 2016 (arXiv:1402.6246)
    uint64_t state;
    void seed(uint64_t a, uint64_t b) {
        state = (a + 1) * 0x9E3779B97F4A7C15ull ^ (b + 0x7F4A7C15ull) * 0xBF58476D1CE4E5B9ull;
        if (!state) state = 1;
        for (int i = 0; i < 4; ++i) next();
    }
    uint64_t next() {
        state ^= state >> 12;
        state ^= state << 25;
        state ^= state >> 27;
        return state * 0x2545F4914F6CDD1Dull;
    }
    uint32_t below(uint32_t n) { return (uint32_t)((next() >> 32) * n >> 32); }
};

struct Site {
    const char *file;
    int line;
};
bool same(const Site &a, const Site &b);

enum class State : uint8_t { fresh, running, at_barrier, in_warp, done };

// What one lane brought to a warp operation.
struct Lane {
    Site site;
    unsigned mask;
    int operation, argument, width;
    uint64_t value, result;
};

struct Warp {
    unsigned exist, waiting, exited;
};

// What went wrong; launch.py makes the error's text of it.
struct Failure {
    std::string kind, file, message;
    int line = 0;
    const void *pc = nullptr;  // where there is no line yet
    uint3 thread{}, block{};
};

struct Launch {
    const emu_kernel *kernel;
    void **arguments;
    uint3 grid, block;
    uint64_t seed;
    bool shuffle;  // a new order after each barrier (checking), or one a block, turned
    std::atomic<uint64_t> next_block{0};
    std::atomic<bool> stop{false};
    Checker *checker = nullptr;
};

}  // namespace emu

struct emu_worker {
    emu::Launch *launch;
    emu::Stacks stacks;
    emu::Failure failure;
    bool failed;

    int threads, alive, current;
    uint3 block_index;
    uint64_t block_number;
    emu::Random random;

    emu::Context home, context[emu::max_threads];
    emu::State state[emu::max_threads];
    emu::Site site[emu::max_threads];
    emu::Lane lane[emu::max_threads];
    emu::Warp warp[emu::max_threads / emu::lanes];
    unsigned company[emu::max_threads];  // the mask of a lane's last warp operation, 0 before
    int slot[emu::max_threads], free_slots[emu::max_threads], free_count;
    uint16_t order[emu::max_threads];

    static constexpr unsigned ring = 2 * emu::max_threads;
    uint16_t queue[ring];
    unsigned head, tail;  // modulo ring

    int arrived, trues, barrier_value;
    bool mixed;
    emu::Site barrier_site;

    sigjmp_buf escape;  // out of a fiber that cannot go on
    volatile bool in_kernel;
    volatile bool busy;  // in our own code, which holds memory's locks: not to be left by a signal

    const void *calling;  // the place in the kernel that called one of our functions which may fault

    bool run_block(uint64_t number);  // false when it failed
    void reset();
    int pop() { return head == tail ? -1 : queue[head++ % ring]; }
    void push_back(int t) { queue[tail++ % ring] = (uint16_t)t; }
    void push_front(int t) { queue[--head % ring] = (uint16_t)t; }

    void park();  // until someone puts the current thread into the queue
    void resume(int t, emu::Context &from);
    void start(int t, int slot);
    void run_fiber();
    void finish(int t);

    int barrier(int kind, int predicate, emu::Site site);
    void release_barrier(int kind);
    uint64_t warp_operation(emu::Lane brought);
    bool complete(int first, unsigned mask);
    void perform(int first, unsigned mask);
    bool settle_without(int first);  // the lanes of a warp that have returned
    bool settle();  // with an empty queue: let lanes that asked who is active go on
    void explain();  // who waits for whom (explain.cpp)
    [[noreturn]] void fail(const char *kind, emu::Site site, std::string message);
    void leave_if_stopped();  // where a signal could not
    [[noreturn]] void overflow(const void *pc);  // of the current thread's stack
    uint3 index_of(int t) const;
};

namespace emu {
// While it lives, no signal makes the worker leave its block.
struct Busy {
    emu_worker *worker;
    explicit Busy(emu_worker *w) : worker(w) { worker->busy = true; }
    ~Busy() { worker->busy = false; }
};
extern thread_local emu_worker *current_worker;
std::string place(uint3 index);
const char *operation_name(int operation);  // of a warp
extern const char *const stack_overflow;  // a message
}  // namespace emu
