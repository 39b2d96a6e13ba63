// A launch: blocks drawn by workers, one thread of the machine each, and what becomes of a kernel
// that crashes. Python starts a launch, waits in short steps (so that Ctrl-C is heard) and ends it.

#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <ucontext.h>

#include <algorithm>
#include <condition_variable>
#include <memory>
#include <mutex>
#include <numeric>
#include <thread>
#include <vector>

#include "checker.h"
#include "scheduler.h"

using namespace emu;

namespace {

constexpr int signals[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGURG};
constexpr int signal_count = sizeof signals / sizeof *signals;
struct sigaction before[signal_count];
int active_launches = 0;
std::mutex signal_mutex;

const void *program_counter(const ucontext_t *context) {
#if defined(__x86_64__)
    return (const void *)context->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (const void *)context->uc_mcontext.pc;
#else
    return nullptr;
#endif
}

// In a signal handler nothing may be allocated: what happened is noted and told later.
struct Noted {
    int signal;
    void *address;
    const void *pc;
};
thread_local Noted noted;

void on_signal(int number, siginfo_t *info, void *context) {
    emu_worker *worker = current_worker;
    if (worker && worker->in_kernel) {
        if (number == SIGURG && (!worker->launch->stop || worker->busy)) return;  // it comes again
        noted = {number, info->si_addr, program_counter((ucontext_t *)context)};
        worker->in_kernel = false;
        siglongjmp(worker->escape, 1);
    }
    if (number == SIGURG) return;
    for (int i = 0; i < signal_count; ++i) {  // not ours: as if we had never come
        if (signals[i] != number) continue;
        struct sigaction &old = before[i];
        if (old.sa_flags & SA_SIGINFO) {
            old.sa_sigaction(number, info, context);
        } else if (old.sa_handler != SIG_DFL && old.sa_handler != SIG_IGN) {
            old.sa_handler(number);
        } else {
            signal(number, SIG_DFL);
            raise(number);
        }
    }
}

void catch_signals() {
    std::lock_guard<std::mutex> lock(signal_mutex);
    if (active_launches++) return;
    struct sigaction ours;
    memset(&ours, 0, sizeof ours);
    ours.sa_sigaction = on_signal;
    ours.sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER;
    for (int i = 0; i < signal_count; ++i) sigaction(signals[i], &ours, &before[i]);
}

void release_signals() {
    std::lock_guard<std::mutex> lock(signal_mutex);
    if (--active_launches) return;
    for (int i = 0; i < signal_count; ++i) sigaction(signals[i], &before[i], nullptr);
}

std::mutex pool_mutex;
std::vector<std::unique_ptr<emu_worker>> pool;  // idle workers, their stacks still warm

std::unique_ptr<emu_worker> take_worker() {
    std::lock_guard<std::mutex> lock(pool_mutex);
    if (pool.empty()) return std::unique_ptr<emu_worker>(new emu_worker());
    std::unique_ptr<emu_worker> worker = std::move(pool.back());
    pool.pop_back();
    return worker;
}

void give_worker(std::unique_ptr<emu_worker> worker) {
    std::lock_guard<std::mutex> lock(pool_mutex);
    pool.push_back(std::move(worker));
}

struct Running {
    Launch launch;
    uint64_t blocks, factor, shift, chunk;
    void *(*anchor)() = nullptr;  // an address in the library's shared memory
    uint64_t anchor_offset = 0;
    std::vector<std::thread> threads;
    std::mutex mutex;
    std::condition_variable ended;
    int working = 0;
    bool failed = false;
    Failure failure;
    uint64_t failed_block = 0;
};

void explain_signal(emu_worker *worker) {
    Failure &f = worker->failure;
    char text[200];
    f.kind = "fault";
    f.pc = worker->calling ? (const char *)worker->calling - 1 : noted.pc;
    worker->calling = nullptr;
    switch (noted.signal) {
        case SIGFPE: f.message = "an integer is divided by zero (or the smallest one by -1)"; break;
        case SIGABRT: f.message = "abort() was called"; break;
        case SIGURG: f.kind = "stopped", f.message = "the launch was stopped"; break;
        case SIGSEGV:
        case SIGBUS:
            if (worker->stacks.is_guard(noted.address)) {
                snprintf(text, sizeof text, "%s", stack_overflow);
            } else {
                snprintf(text, sizeof text, "address %p is read or written, where there is no memory",
                         noted.address);
            }
            f.message = text;
            break;
        default: f.message = "the machine refuses an instruction (__builtin_trap, or a jump astray)";
    }
    f.thread = worker->index_of(worker->current);
    f.block = worker->block_index;
    worker->failed = true;
}

void work(Running *running) {
    std::unique_ptr<emu_worker> worker = take_worker();
    Launch &launch = running->launch;
    worker->launch = &launch;
    worker->threads = (int)(launch.block.x * launch.block.y * launch.block.z);
    worker->failed = worker->busy = false;
    worker->calling = nullptr;
    worker->failure = Failure();
    static thread_local char alternate[64 * 1024];
    stack_t stack = {};
    stack.ss_sp = alternate;
    stack.ss_size = sizeof alternate;
    sigaltstack(&stack, nullptr);
    noted = {};
    current_worker = worker.get();
    bool ready = worker->stacks.reserve(worker->threads);
    if (!ready) {
        worker->failed = true;
        worker->failure.kind = "memory";
        worker->failure.message = "there is no memory for the threads' stacks";
    }
    // This thread's shared memory is made here, not at a kernel's first access: before glibc 2.39 that
    // could lose vector registers, which g++ takes to be kept (sourceware.org bug 31372).
    uintptr_t anchor = (uintptr_t)running->anchor();
    if (launch.checker) {
        launch.checker->shared = anchor - running->anchor_offset;
        the_checker = launch.checker;
    }
    while (ready && !worker->failed && !launch.stop) {
        uint64_t first = launch.next_block.fetch_add(running->chunk);
        if (first >= running->blocks) break;
        uint64_t last = std::min(first + running->chunk, running->blocks);
        for (uint64_t i = first; i < last && !worker->failed && !launch.stop; ++i) {
            // A permutation of the blocks: factor and their number have no common divisor.
            uint64_t number = (uint64_t)(((unsigned __int128)i * running->factor + running->shift) % running->blocks);
            worker->run_block(number);
            if (noted.signal && !worker->failed) explain_signal(worker.get());
        }
    }
    if (launch.checker) the_checker = nullptr;
    current_worker = nullptr;
    stack.ss_flags = SS_DISABLE;
    sigaltstack(&stack, nullptr);
    std::lock_guard<std::mutex> lock(running->mutex);
    if (worker->failed) {
        launch.stop = true;
        if (!running->failed || worker->block_number < running->failed_block) {
            running->failed = true;
            running->failure = worker->failure;
            running->failed_block = worker->block_number;
        }
    }
    give_worker(std::move(worker));
    if (--running->working == 0) running->ended.notify_all();
}

}  // namespace

extern "C" {

struct emu_request {
    const emu_kernel *kernel;
    void **arguments;
    void *checker;
    uint64_t seed;
    uint32_t grid[3], block[3];
    int32_t workers, shuffle;
    void *(*anchor)();
    uint64_t anchor_offset;
};

struct emu_outcome {
    const char *kind, *file, *message;
    const void *pc;
    int32_t line;
    uint32_t thread[3], block[3];
};

#define EXPORT __attribute__((visibility("default")))

EXPORT void *emu_start(const emu_request *request) {
    Running *running = new Running();
    Launch &launch = running->launch;
    launch.kernel = request->kernel;
    launch.arguments = request->arguments;
    launch.checker = (Checker *)request->checker;
    launch.grid = {request->grid[0], request->grid[1], request->grid[2]};
    launch.block = {request->block[0], request->block[1], request->block[2]};
    launch.seed = request->seed;
    launch.shuffle = request->shuffle != 0;
    running->anchor = request->anchor;
    running->anchor_offset = request->anchor_offset;
    uint64_t n = (uint64_t)launch.grid.x * launch.grid.y * launch.grid.z;
    running->blocks = n;
    Random random;
    random.seed(request->seed, ~0ull);
    running->shift = random.next() % n;
    do running->factor = random.next() % n | 1;
    while (std::gcd(running->factor, n) != 1);
    int workers = (int)std::min<uint64_t>((uint64_t)request->workers, n);
    running->chunk = std::max<uint64_t>(1, std::min<uint64_t>(64, n / ((uint64_t)workers * 16)));
    running->working = workers;
    catch_signals();
    for (int i = 0; i < workers; ++i) running->threads.emplace_back(work, running);
    return running;
}

// Whether the launch has ended, within so many milliseconds.
EXPORT int emu_wait(void *handle, int milliseconds) {
    Running *running = (Running *)handle;
    std::unique_lock<std::mutex> lock(running->mutex);
    return running->ended.wait_for(lock, std::chrono::milliseconds(milliseconds),
                                   [=] { return running->working == 0; });
}

// Make the workers leave even an endless loop. To be called until emu_wait is content.
EXPORT void emu_stop(void *handle) {
    Running *running = (Running *)handle;
    running->launch.stop = true;
    std::lock_guard<std::mutex> lock(running->mutex);
    if (running->working)
        for (std::thread &thread : running->threads) pthread_kill(thread.native_handle(), SIGURG);
}

// Fill in what went wrong; 0 if nothing did. The texts live until emu_end.
EXPORT int emu_outcome_of(void *handle, emu_outcome *outcome) {
    Running *running = (Running *)handle;
    if (!running->failed) return 0;
    const Failure &f = running->failure;
    *outcome = {f.kind.c_str(), f.file.c_str(), f.message.c_str(), f.pc, f.line,
                {f.thread.x, f.thread.y, f.thread.z}, {f.block.x, f.block.y, f.block.z}};
    return 1;
}

EXPORT void emu_end(void *handle) {
    Running *running = (Running *)handle;
    for (std::thread &thread : running->threads) thread.join();
    release_signals();
    delete running;
}
}
