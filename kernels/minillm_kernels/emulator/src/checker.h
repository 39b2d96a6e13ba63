// The checker: watches every access of a launch, told of them by tsan.cpp and of barriers by the
// scheduler. Checked launches have one worker, so nothing here needs a lock.
//
// Memory is watched in granules, each with a cell that remembers who wrote it last and who read it
// since. Two accesses of one cell by different threads, at least one a write and not both atomic, are
// a race unless something orders them:
//   - a __syncthreads of the block between them: their interval numbers differ;
//   - for two lanes of one warp, a __syncwarp that both took part in: vector clocks of the lanes
//     (Mattern 1989; the cells as in FastTrack, Flanagan & Freund 2009). Shuffles and votes exchange
//     registers and order no memory (CUDA C++ Programming Guide, "Warp Shuffle Functions");
//   - for two threads of a block, an atomic on one word after a fence in the first and before in the other;
//   - between blocks, an atomic on one word after a __threadfence in the first and before in the other.

#pragma once

#include <stdint.h>

#include <string>
#include <unordered_map>
#include <vector>

#include "requests.h"
#include "scheduler.h"

namespace emu {

enum Access_kind : uint8_t { reads, writes, updates };  // updates: an atomic

// One access as a cell remembers it.
struct Stamp {
    uint32_t interval;  // between which barriers, counted over all blocks; 0: never
    uint32_t clock;     // of the lane
    uint32_t site;
    uint16_t thread : 15, atomic : 1;
    uint16_t progress;  // how many accesses the thread had made in the interval
};
constexpr uint8_t not_ours = 254;  // owner of what g++ keeps beside a __shared__ variable

struct Cell {
    Stamp write;
    Stamp read[3];  // the last readers, of two warps where there are two; and one of an earlier block
};

enum Range_kind : int32_t { shared_memory = -1, variable = -2, nowhere = -3 };

struct Range {
    uintptr_t begin, end;      // an argument's array, or the library's variables
    uintptr_t outer_begin, outer_end;  // with its red zone, which may be read and written
    uintptr_t reserve_begin, reserve_end;  // addresses that are nobody else's
    int32_t index;             // which argument, or a Range_kind
    Cell *cells;
    size_t cell_bytes;
};

enum Finding_kind : int32_t {
    found_race,
    found_out_of_bounds,
    found_uninitialised,
    found_misaligned,
    found_undefined_shuffle,
    found_bad_index,
};

// Read by launch.py's ctypes structure: keep the order.
struct Finding {
    int32_t kind, range;
    int32_t access, other_access;  // Access_kind
    uint32_t site, other_site;     // offsets of the code in the library
    uint32_t thread[3], other_thread[3], block[3], other_block[3];
    uint32_t size;
    int32_t line;  // where there is no code address
    int64_t offset;  // bytes from the range's beginning; an index for found_bad_index
    uint64_t count;
    int32_t same_warp, other_is_later;
    char file[200], text[100];
};

struct Options {
    int32_t races, bounds, uninitialised, banks, coalescing;
    int32_t padded;  // a structure of the file has bytes that belong to no member
    int32_t wide;    // the file names types that lie at multiples of 16 bytes
    int32_t sealed;  // stop at the first access by which a kernel could reach memory that is not its own
};

struct Checker {
    Options options;
    emu_worker *worker = nullptr;
    uintptr_t code = 0;  // where the library lies
    int shift = 2;       // granules are 1 << shift bytes

    uintptr_t shared = 0;
    size_t shared_bytes = 0;
    std::vector<uint8_t> shared_owned;  // granules that belong to a variable
    std::vector<std::pair<size_t, size_t>> shared_spans;  // (offset, bytes) of the variables
    Cell *shared_cells = nullptr;
    std::vector<Range> ranges;
    size_t last_range = 0;

    uint32_t interval = 0, block_first = 1;
    std::vector<uint32_t> block_starts;  // intervals
    std::vector<uint64_t> block_numbers;
    uint32_t clock[max_threads];
    uint32_t progress[max_threads];
    uint32_t seen[max_threads][lanes];  // of each lane of the warp, how much this one knows

    struct Fence {
        uint32_t interval, progress;
    };
    struct Knowledge {
        uint32_t interval = 0;
        std::vector<uint32_t> of;  // each thread, up to which of its accesses
    };
    bool fences = false;            // in this interval
    Fence fence[max_threads] = {};  // each thread's last
    Knowledge knows[max_threads];
    std::unordered_map<uintptr_t, Knowledge> handed;  // on by an atomic, by its address

    bool fenced = false;
    std::vector<uint32_t> acquired;  // earlier blocks (by order) that this one comes after
    std::unordered_map<uintptr_t, std::vector<uint32_t>> released;

    std::vector<Finding> findings;
    std::unordered_map<uint64_t, size_t> known;  // findings by their sites
    size_t last_found = 0;
    Requests requests;
    uint32_t accesses = 0;

    // Two writes by one line that may have written the same value: known at the next access only.
    struct {
        bool waits = false;
        Stamp before, now;
        int32_t range;
        size_t offset;
        uint32_t size;
        const void *address;
        char value[16];
    } twice;
    void judge_twice();

    void access(uintptr_t address, uint32_t size, Access_kind kind, bool aligned, uintptr_t pc);
    void let_others_run(Access_kind kind);
    void in_shared(size_t offset, uint32_t size, Access_kind kind, uint32_t site, int thread);
    bool in_ranges(uintptr_t address, uint32_t size, Access_kind kind, uint32_t site, int thread);
    void watch(Cell *cells, uintptr_t address, size_t offset, uint32_t size, Access_kind kind, uint32_t site, int thread,
               int32_t range);
    bool ordered(const Stamp &before, int thread, int32_t range);
    void synchronise(uintptr_t address);
    void synchronise_threads(uintptr_t address, int thread);
    Finding *find(Finding_kind kind, uint32_t site, uint32_t other, Access_kind access, int32_t range);
    void race(const Stamp &before, Access_kind kind_before, const Stamp &now, Access_kind kind,
              int32_t range, size_t offset, uint32_t size);
    [[noreturn]] void stop();
};

extern thread_local Checker *the_checker;  // of the checked launch that this thread runs, if any

void checker_block_starts(Checker *checker, emu_worker *worker);
void checker_block_ends(Checker *checker);
void checker_barrier(Checker *checker);
void checker_syncwarp(Checker *checker, int warp, unsigned mask);
void checker_converged(Checker *checker, int warp);
void checker_undefined_shuffle(Checker *checker, int thread, int from_lane, Site site);
void checker_fence(Checker *checker);

}  // namespace emu
