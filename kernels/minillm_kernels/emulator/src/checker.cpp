#include "checker.h"

#include <string.h>
#include <sys/mman.h>

#include <algorithm>

namespace emu {

thread_local Checker *the_checker = nullptr;

// ---- what the scheduler tells ----------------------------------------------------------------------

static void next_interval(Checker *c) {
    if (c->twice.waits) c->judge_twice();
    ++c->interval;
    c->fences = false;
    memset(c->progress, 0, sizeof c->progress);
    for (int w = 0; w * lanes < c->worker->threads; ++w) c->requests.flush(w, c->worker->warp[w].exist);
}

void checker_block_starts(Checker *c, emu_worker *worker) {
    c->worker = worker;
    next_interval(c);
    c->block_first = c->interval;
    c->block_starts.push_back(c->interval);
    c->block_numbers.push_back(worker->block_number);
    for (int t = 0; t < worker->threads; ++t) c->clock[t] = 1;
    memset(c->seen, 0, sizeof c->seen);
    c->fenced = false;
    c->acquired.clear();
    // Shared memory begins with whatever the last block left; NaN shows better in a result.
    for (auto [offset, bytes] : c->shared_spans) memset((char *)c->shared + offset, 0xff, bytes);
}

void checker_block_ends(Checker *c) { next_interval(c); }
void checker_barrier(Checker *c) {
    Busy busy(c->worker);
    next_interval(c);
}

// All lanes of the mask learn what any of them knows.
void checker_syncwarp(Checker *c, int warp, unsigned mask) {
    uint32_t joined[lanes] = {};
    int first = warp * lanes;
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        int l = __builtin_ctz(rest);
        for (int i = 0; i < lanes; ++i) joined[i] = std::max(joined[i], c->seen[first + l][i]);
        joined[l] = std::max(joined[l], c->clock[first + l]);
    }
    for (unsigned rest = mask; rest; rest &= rest - 1) {
        int l = __builtin_ctz(rest);
        memcpy(c->seen[first + l], joined, sizeof joined);
        ++c->clock[first + l];
    }
}

void checker_converged(Checker *c, int warp) {
    Busy busy(c->worker);
    c->requests.flush(warp, c->worker->warp[warp].exist);
}

void checker_fence(Checker *c) {
    int t = c->worker->current;
    c->fenced = c->fences = true;
    c->fence[t] = {c->interval, c->progress[t]};
}

static void copy(uint32_t (&to)[3], uint3 from) { to[0] = from.x, to[1] = from.y, to[2] = from.z; }

void checker_undefined_shuffle(Checker *c, int thread, int from_lane, Site site) {
    Busy busy(c->worker);
    Finding *f = c->find(found_undefined_shuffle, (uint32_t)site.line, 0, reads, nowhere);
    if (!f) return;
    f->line = site.line;
    f->offset = from_lane;
    copy(f->thread, c->worker->index_of(thread));
    snprintf(f->file, sizeof f->file, "%s", site.file);
}

// ---- findings ----------------------------------------------------------------------------------------

// A new finding to fill in, or nullptr where this one is known already and only counted.
Finding *Checker::find(Finding_kind kind, uint32_t site, uint32_t other, Access_kind kind_of_access, int32_t range) {
    uint64_t key = ((uint64_t)site * 0x9E3779B97F4A7C15ull ^ other) * 8 + (uint64_t)kind;
    key = key * 0xBF58476D1CE4E5B9ull + (uint64_t)(range + 8);
    auto [place, fresh] = known.emplace(key, findings.size());
    last_found = place->second;
    if (!fresh) {
        ++findings[place->second].count;
        return nullptr;
    }
    findings.emplace_back();
    Finding &f = findings.back();
    memset(&f, 0, sizeof f);
    f.kind = kind;
    f.site = site;
    f.other_site = other;
    f.access = kind_of_access;
    f.range = range;
    f.count = 1;
    copy(f.block, worker->block_index);
    copy(f.thread, worker->index_of(worker->current));
    return &f;
}

// The kernel cannot go on; what it did wrong is among the findings.
void Checker::stop() {
    worker->fail("checked", {"", 0}, "the launch was stopped there: the access would have crashed it");
}

bool Checker::ordered(const Stamp &before, int thread, int32_t range) {
    if (before.interval == 0) return true;
    if (before.interval < block_first) {  // another block
        if (range == shared_memory) return true;  // whose shared memory was another
        if (acquired.empty()) return false;
        auto after = std::upper_bound(block_starts.begin(), block_starts.end(), before.interval);
        uint32_t order = (uint32_t)(after - block_starts.begin()) - 1;
        return std::find(acquired.begin(), acquired.end(), order) != acquired.end();
    }
    if (before.interval != interval || before.thread == thread) return true;
    if (before.thread / lanes == thread / lanes && seen[thread][before.thread % lanes] >= before.clock) return true;
    const Knowledge &known_here = knows[thread];
    return known_here.interval == interval && known_here.of[before.thread] >= before.progress;
}

void Checker::race(const Stamp &before, Access_kind kind_before, const Stamp &now, Access_kind kind,
                   int32_t range, size_t offset, uint32_t size) {
    int thread = now.thread;
    uint32_t site = now.site;
    bool same_warp = before.interval >= block_first && before.thread / lanes == thread / lanes;
    Finding *f = find(found_race, site, before.site, kind, range);
    if (!f) {  // an example from two warps says more: __syncwarp would not help
        Finding &known_one = findings[last_found];
        if (!known_one.same_warp || same_warp) return;
        f = &known_one;
        copy(f->block, worker->block_index);
    }
    copy(f->thread, worker->index_of(thread));
    f->other_access = kind_before;
    f->offset = (int64_t)offset;
    f->size = size;
    auto after = std::upper_bound(block_starts.begin(), block_starts.end(), before.interval);
    uint64_t number = block_numbers[(size_t)(after - block_starts.begin()) - 1];
    uint3 grid = worker->launch->grid;
    f->other_block[0] = (uint32_t)(number % grid.x);
    f->other_block[1] = (uint32_t)(number / grid.x % grid.y);
    f->other_block[2] = (uint32_t)(number / grid.x / grid.y);
    copy(f->other_thread, worker->index_of(before.thread));
    f->same_warp = same_warp;
    // Which of them comes later in a thread's own course, whatever happened first here.
    f->other_is_later = before.interval >= block_first && before.progress > now.progress;
}

// The same within a block: an atomic hands on what the thread had done before its last fence, and what
// it knew of others; one that finds it takes it. So are locks and flags made.
void Checker::synchronise_threads(uintptr_t address, int thread) {
    auto current = [this](Knowledge &k) {
        if (k.interval != interval) k = {interval, std::vector<uint32_t>(max_threads)};
    };
    auto join = [](Knowledge &to, const Knowledge &from) {
        for (int t = 0; t < max_threads; ++t) to.of[t] = std::max(to.of[t], from.of[t]);
    };
    Knowledge &left = handed[address], &mine = knows[thread];
    if (left.interval == interval) {
        current(mine);
        join(mine, left);
    }
    if (fence[thread].interval != interval) return;
    current(left);
    if (mine.interval == interval) join(left, mine);
    left.of[thread] = std::max(left.of[thread], fence[thread].progress);
}

// An atomic on a word, after a fence, hands on what this block has seen; one that finds it takes it.
void Checker::synchronise(uintptr_t address) {
    std::vector<uint32_t> &left = released[address];
    for (uint32_t order : left)
        if (std::find(acquired.begin(), acquired.end(), order) == acquired.end()) acquired.push_back(order);
    if (!fenced) return;
    uint32_t mine = (uint32_t)block_starts.size() - 1;
    left = acquired;
    left.push_back(mine);
}

// ---- one access -------------------------------------------------------------------------------------

// A flag that several threads set to the same value comes out right in any order (CUDA C++ Programming
// Guide, "SIMT Architecture": which thread's write is the last is undefined, nothing else).
void Checker::judge_twice() {
    twice.waits = false;
    if (memcmp(twice.address, twice.value, twice.size))
        race(twice.before, writes, twice.now, writes, twice.range, twice.offset, twice.size);
}

void Checker::watch(Cell *cells, uintptr_t address, size_t offset, uint32_t size, Access_kind kind, uint32_t site, int thread,
                    int32_t range) {
    bool told = !options.races;  // an access counts once, however many granules it covers
    Stamp now = {interval, clock[thread], site, (uint16_t)thread, kind == updates,
                 (uint16_t)std::min(++progress[thread], 65535u)};
    for (size_t g = offset >> shift; g <= (offset + size - 1) >> shift; ++g) {
        Cell &cell = cells[g];
        bool atomic = kind == updates;
        if (!told && !(atomic && cell.write.atomic) && !ordered(cell.write, thread, range)) {
            told = true;
            if (kind == writes && !cell.write.atomic && cell.write.site == site) {
                twice = {true, cell.write, now, range, offset, size, (const void *)address, {}};
                memcpy(twice.value, twice.address, size);
            } else {
                race(cell.write, cell.write.atomic ? updates : writes, now, kind, range, offset, size);
            }
        }
        if (kind != reads) {
            for (const Stamp &reader : cell.read)
                if (!told && !ordered(reader, thread, range)) {
                    told = true;
                    race(reader, reads, now, kind, range, offset, size);
                }
            cell.write = now;
            continue;
        }
        // Keep two readers of different warps if there are, so that a later writer finds a stranger.
        Stamp &a = cell.read[0], &b = cell.read[1];
        if (a.interval && a.interval < block_first) cell.read[2] = a;
        if (a.interval != interval || a.thread == thread) {
            a = now;
        } else if (b.interval != interval || b.thread == thread || b.thread / lanes == thread / lanes ||
                   a.thread / lanes != thread / lanes) {
            b = now;
        } else {
            a = now;
        }
    }
}

void Checker::in_shared(size_t offset, uint32_t size, Access_kind kind, uint32_t site, int thread) {
    if (kind == updates && fences) synchronise_threads(shared + offset, thread);
    size_t first = offset >> shift, last = (offset + size - 1) >> shift;
    bool inside = last < shared_owned.size() && shared_owned[first] && shared_owned[last] == shared_owned[first];
    if (!inside) {
        if (options.bounds)
            if (Finding *f = find(found_out_of_bounds, site, 0, kind, shared_memory)) {
                f->offset = (int64_t)offset;
                f->size = size;
            }
        return;
    }
    if (options.uninitialised && kind != writes) {
        size_t unwritten = 0, example = 0;
        for (size_t g = last + 1; g-- > first;)
            if (shared_cells[g].write.interval < block_first) ++unwritten, example = g;
        // A structure is copied with the bytes between its members, which nobody writes.
        if (unwritten && (!options.padded || unwritten == last - first + 1))
            if (Finding *f = find(found_uninitialised, site, 0, kind, shared_memory)) {
                f->offset = (int64_t)(example << shift);
                f->size = 1u << shift;
            }
    }
    watch(shared_cells, shared + offset, offset, size, kind, site, thread, shared_memory);
}

bool Checker::in_ranges(uintptr_t address, uint32_t size, Access_kind kind, uint32_t site, int thread) {
    Range *range = nullptr;
    if (last_range < ranges.size() && address >= ranges[last_range].reserve_begin &&
        address < ranges[last_range].reserve_end) {
        range = &ranges[last_range];
    } else {
        for (size_t i = 0; i < ranges.size(); ++i)
            if (address >= ranges[i].reserve_begin && address < ranges[i].reserve_end) {
                range = &ranges[i];
                last_range = i;
            }
    }
    if (range && address >= range->begin && address + size <= range->end) {
        if (kind == updates) synchronise(address);
        if (kind == updates && fences) synchronise_threads(address, thread);
        if (range->cells && options.races)
            watch(range->cells, address, address - range->begin, size, kind, site, thread, range->index);
        return true;
    }
    bool own = range && range->index == variable;  // the library's own, between variables
    if (own && !options.sealed) return true;
    bool survives = range && !own && address >= range->outer_begin && address + size <= range->outer_end;
    if (options.bounds || !survives)
        if (Finding *f = find(found_out_of_bounds, site, 0, kind, range ? range->index : (int32_t)nowhere)) {
            f->offset = range ? (int64_t)(address - range->begin) : (int64_t)address;
            f->size = size;
        }
    if (!survives) stop();
    return false;
}

void Checker::access(uintptr_t address, uint32_t size, Access_kind kind, bool aligned, uintptr_t pc) {
    if (twice.waits) judge_twice();
    const Stacks &stacks = worker->stacks;
    if (stacks.holds((void *)address) && (kind == reads || !options.sealed)) return;  // a local variable
    int thread = worker->current;
    uint32_t site = (uint32_t)(pc - code - 1);
    uint32_t multiple = size == 16 && !options.wide ? 8 : size;
    if (aligned && size > 1 && address % multiple) {
        if (Finding *f = find(found_misaligned, site, 0, kind, nowhere)) {
            f->offset = (int64_t)(address % size);
            f->size = size;
        }
        stop();
    }
    size_t offset = address - shared;
    if (offset < shared_bytes) {
        if (shared_owned[offset >> shift] == not_ours) return;
        in_shared(offset, size, kind, site, thread);
        if (options.banks && kind != updates) requests.add(thread, site, address, size, true);
    } else if (in_ranges(address, size, kind, site, thread) && options.coalescing && kind != updates) {
        requests.add(thread, site, address, size, false);
    }
}

// A thread may be waiting, in a loop, for what another one writes.
void Checker::let_others_run(Access_kind kind) {
    if ((++accesses & (kind == updates ? 0xfff : 0xfffff)) == 0) emu_yield();
}

}  // namespace emu

// ---- what Python calls ---------------------------------------------------------------------------------

using namespace emu;

namespace {
constexpr size_t red_zone = 64 * 1024, reserve = (size_t)256 << 20, page = 4096;

Cell *new_cells(size_t bytes, int shift, size_t &mapped) {
    mapped = ((bytes >> shift) + 2) * sizeof(Cell);
    void *got = mmap(nullptr, mapped, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    return got == MAP_FAILED ? nullptr : (Cell *)got;
}
}  // namespace

#define EXPORT __attribute__((visibility("default")))

extern "C" {

EXPORT void *emu_checker_new(const Options *options, uintptr_t code, int granule) {
    Checker *c = new Checker();
    c->options = *options;
    c->code = code;
    c->shift = granule >= 4 ? 2 : granule == 2 ? 1 : 0;
    return c;
}

// The shared memory of the thread that runs the launch is found by `anchor`, a function of the library.
// owners: for each granule of the segment, the number of the variable that it belongs to, 0 for none.
EXPORT int emu_checker_shared(void *handle, uint64_t bytes, const uint8_t *owners) {
    Checker *c = (Checker *)handle;
    c->shared_bytes = bytes;
    c->shared_owned.assign(owners, owners + (bytes >> c->shift));
    size_t n = c->shared_owned.size();
    for (size_t g = 0, end; g < n; g = end) {
        for (end = g + 1; end < n && c->shared_owned[end] == c->shared_owned[g];) ++end;
        if (c->shared_owned[g]) c->shared_spans.push_back({g << c->shift, (end - g) << c->shift});
    }
    size_t mapped;
    c->shared_cells = new_cells(bytes, c->shift, mapped);
    return c->shared_cells != nullptr;
}

// Memory for a copy of an argument's array, far from all other memory; 0 where there is none.
EXPORT uintptr_t emu_checker_array(void *handle, int index, uint64_t bytes, uint64_t misalignment) {
    Checker *c = (Checker *)handle;
    size_t inner = (red_zone + misalignment + bytes + red_zone + page - 1) / page * page;
    size_t total = inner + 2 * reserve;
    char *got = (char *)mmap(nullptr, total, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (got == MAP_FAILED) return 0;
    if (mprotect(got + reserve, inner, PROT_READ | PROT_WRITE)) return 0;
    Range r;
    r.index = index;
    r.reserve_begin = (uintptr_t)got;
    r.reserve_end = r.reserve_begin + total;
    r.outer_begin = r.reserve_begin + reserve;
    r.outer_end = r.outer_begin + inner;
    r.begin = r.outer_begin + red_zone + misalignment;
    r.end = r.begin + bytes;
    r.cells = new_cells(bytes, c->shift, r.cell_bytes);
    if (!r.cells) return 0;
    memset((void *)r.outer_begin, 0xff, r.begin - r.outer_begin);
    memset((void *)r.end, 0xff, r.outer_end - r.end);
    c->ranges.push_back(r);
    return r.begin;
}

// The library's own variables.
EXPORT int emu_checker_variables(void *handle, uintptr_t begin, uint64_t bytes) {
    Checker *c = (Checker *)handle;
    Range r = {begin, begin + bytes, begin, begin + bytes, begin, begin + bytes, variable, nullptr, 0};
    r.cells = new_cells(bytes, c->shift, r.cell_bytes);
    c->ranges.push_back(r);
    return r.cells != nullptr;
}

EXPORT uint64_t emu_checker_findings(void *handle, const Finding **findings) {
    Checker *c = (Checker *)handle;
    *findings = c->findings.data();
    return c->findings.size();
}

EXPORT uint64_t emu_checker_costs(void *handle, Cost *costs, uint64_t room) {
    std::vector<Cost> all = ((Checker *)handle)->requests.costs();
    for (size_t i = 0; i < all.size() && i < room; ++i) costs[i] = all[i];
    return all.size();
}

EXPORT void emu_checker_end(void *handle) {
    Checker *c = (Checker *)handle;
    for (Range &r : c->ranges) {
        if (r.cells) munmap(r.cells, r.cell_bytes);
        if (r.index >= 0) munmap((void *)r.reserve_begin, r.reserve_end - r.reserve_begin);
    }
    if (c->shared_cells) munmap(c->shared_cells, ((c->shared_bytes >> c->shift) + 2) * sizeof(Cell));
    delete c;
}
}
