// What is told of a block in which everybody waits for somebody who never comes.

#include <string.h>

#include <map>
#include <tuple>

#include "scheduler.h"

namespace emu {

static const char *base_name(const char *path) {
    const char *slash = strrchr(path, '/');
    return slash ? slash + 1 : path;
}

static std::string at(const Site &site) {
    return std::string(base_name(site.file)) + ":" + std::to_string(site.line);
}

const char *operation_name(int operation) {
    static const char *names[] = {
        "__syncwarp",        "__shfl_sync",       "__shfl_up_sync",    "__shfl_down_sync",
        "__shfl_xor_sync",   "__ballot_sync",     "__any_sync",        "__all_sync",
        "__reduce_add_sync", "__reduce_min_sync", "__reduce_max_sync", "__reduce_min_sync",
        "__reduce_max_sync", "__reduce_and_sync", "__reduce_or_sync",  "__reduce_xor_sync",
        "__match_any_sync",  "__match_all_sync",  "__activemask",      "wmma::mma_sync"};
    return names[operation];
}

}  // namespace emu

using namespace emu;

static std::string hex(unsigned mask) {
    char text[16];
    snprintf(text, sizeof text, "0x%08x", mask);
    return text;
}

static std::string count_of(int n, const char *what) {
    return std::to_string(n) + " " + what + (n == 1 ? "" : "s");
}

// Everybody waits: say who stands where, beginning with a barrier if one is involved.
void emu_worker::explain() {
    struct Group {
        int count = 0, example = -1;
    };
    std::map<std::tuple<int, std::string, int, int>, Group> groups;  // (0 barrier | 1 warp, file, line, op)
    for (int t = 0; t < threads; ++t) {
        if (state[t] == State::done) continue;
        bool warp_wait = state[t] == State::in_warp;
        Group &g = groups[{warp_wait, site[t].file, site[t].line, warp_wait ? lane[t].operation : 0}];
        if (!g.count++) g.example = t;
    }
    int returned = threads - alive;
    auto first = groups.begin();
    int culprit = first->second.example;
    Site where = site[culprit];
    std::string text, kind;
    if (state[culprit] == State::at_barrier) {
        kind = "barrier divergence";
        text = "__syncthreads() at line " + std::to_string(where.line) + " is reached by " +
               std::to_string(first->second.count) + " of the block's " + count_of(threads, "thread");
    } else {
        kind = "warp";
        int w = culprit / lanes, base = w * lanes;
        const Lane &mine = lane[culprit];
        text = std::string(operation_name(mine.operation)) + " at line " + std::to_string(where.line) +
               " with mask " + hex(mine.mask) + " waits for lanes that do not come: ";
        unsigned missing = 0;
        std::string why;
        for (unsigned rest = mine.mask; rest; rest &= rest - 1) {
            int l = __builtin_ctz(rest), t = base + l;
            bool here = state[t] == State::in_warp && lane[t].operation == mine.operation &&
                        lane[t].mask == mine.mask;
            if (here) continue;
            if (!missing) {
                why = "lane " + std::to_string(l);
                if (state[t] == State::done)
                    why += " has returned";
                else if (state[t] == State::at_barrier)
                    why += " waits at __syncthreads() at " + at(site[t]);
                else
                    why += std::string(" is in ") + operation_name(lane[t].operation) + " at " +
                           at(site[t]) + " with mask " + hex(lane[t].mask);
            }
            missing |= 1u << l;
        }
        text += why + (missing & (missing - 1)
                           ? " (" + std::to_string(__builtin_popcount(missing)) + " lanes are missing)"
                           : "");
    }
    std::string others;
    for (auto it = groups.begin(); it != groups.end(); ++it) {
        if (it == first) continue;
        int t = it->second.example;
        others += "; " + count_of(it->second.count, "thread") +
                  (it->second.count == 1 ? " waits in " : " wait in ") +
                  (state[t] == State::at_barrier ? "__syncthreads" : operation_name(lane[t].operation)) +
                  "() at " + at(site[t]);
    }
    if (returned)
        others += "; " + count_of(returned, "thread") + (returned == 1 ? " has" : " have") + " returned";
    failure.kind = kind;
    failure.file = where.file;
    failure.line = where.line;
    failure.message = text + others;
    failure.thread = index_of(culprit);
    failure.block = block_index;
    failed = true;
}
