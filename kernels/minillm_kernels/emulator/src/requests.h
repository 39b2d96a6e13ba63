// Which accesses of a warp's lanes make one request to memory, and what the requests of each line cost.
//
// Lanes run one after another here. The k-th time that lanes pass one place in the code since the warp
// was last together (a barrier, a __syncwarp, a shuffle) counts as one request: what they would do
// together if they ran in step. A lane that left a branch out is missing from its requests.

#pragma once

#include <stdint.h>

#include <deque>
#include <vector>

#include "scheduler.h"

namespace emu {

struct Request {
    uintptr_t address[lanes];
    uint8_t size[lanes];
    unsigned mask;
    bool shared;
};

// What all requests of one place in the code cost. Read by launch.py's ctypes structure.
struct Cost {
    uint32_t site, shared;
    uint64_t requests, transfers, ideal_transfers, bytes;  // wavefronts of shared memory, or sectors
};

class Requests {
  public:
    void add(int thread, uint32_t site, uintptr_t address, uint32_t size, bool shared);
    void flush(int warp, unsigned exist);
    std::vector<Cost> costs() const;

  private:
    struct Place {  // one place in the code, for one warp
        uint32_t count[lanes] = {};
        uint32_t first = 0;  // the number of the oldest pending request
        std::deque<Request> pending;
        bool touched = false;
    };
    struct Warp_places {
        std::vector<Place> places;
        std::vector<uint32_t> touched;
    };
    void settle(const Request &request, uint32_t place);

    std::vector<uint32_t> place_of_;  // by code offset, 0: none yet
    std::vector<Cost> costs_[2];      // global, shared; by place
    std::vector<uint32_t> sites_;
    Warp_places warps_[max_threads / lanes];
};

}  // namespace emu
