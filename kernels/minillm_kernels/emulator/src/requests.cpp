#include "requests.h"

#include <string.h>

#include "../include/emu_memory.h"

namespace emu {

constexpr size_t most_pending = 1 << 16;  // of one place in the code, for one warp

void Requests::add(int thread, uint32_t site, uintptr_t address, uint32_t size, bool shared) {
    if (site >= place_of_.size()) place_of_.resize(site + 4096);
    uint32_t place = place_of_[site];
    if (!place) {
        sites_.push_back(site);
        place = place_of_[site] = (uint32_t)sites_.size();
        for (auto &costs : costs_) costs.resize(sites_.size());
    }
    --place;
    Warp_places &warp = warps_[thread / lanes];
    if (place >= warp.places.size()) warp.places.resize(place + 64);
    Place &p = warp.places[place];
    if (!p.touched) {
        p.touched = true;
        warp.touched.push_back(place);
    }
    int lane = thread % lanes;
    uint32_t number = p.count[lane]++;
    if (number < p.first) {  // so far behind the others that they were not waited for
        Request alone = {};
        alone.address[lane] = address;
        alone.size[lane] = (uint8_t)size;
        alone.mask = 1u << lane;
        alone.shared = shared;
        settle(alone, place);
        return;
    }
    uint32_t k = number - p.first;
    if (k >= p.pending.size()) p.pending.resize(k + 1);
    Request &request = p.pending[k];
    request.address[lane] = address;
    request.size[lane] = (uint8_t)size;
    request.mask |= 1u << lane;
    request.shared = shared;
    // Complete; or a lane is far ahead, as one that waits in a loop is.
    while (!p.pending.empty() && (p.pending.front().mask == ~0u || p.pending.size() > most_pending)) {
        settle(p.pending.front(), place);
        p.pending.pop_front();
        ++p.first;
    }
}

// The warp is together again: what is pending will get no further lanes.
void Requests::flush(int w, unsigned) {
    Warp_places &warp = warps_[w];
    for (uint32_t place : warp.touched) {
        Place &p = warp.places[place];
        for (const Request &request : p.pending)
            if (request.mask) settle(request, place);
        p.pending.clear();
        p.first = 0;
        memset(p.count, 0, sizeof p.count);
        p.touched = false;
    }
    warp.touched.clear();
}

void Requests::settle(const Request &request, uint32_t place) {
    Access lane[lanes];
    uint64_t bytes = 0;
    for (int l = 0; l < lanes; ++l) {
        bool active = request.mask >> l & 1;
        lane[l] = {active ? request.address[l] : 0, active ? request.size[l] : 0u, active};
        bytes += lane[l].size;
    }
    Cost &cost = costs_[request.shared][place];
    cost.requests += 1;
    cost.bytes += bytes;
    if (request.shared) {
        cost.transfers += (uint64_t)bank_wavefronts(lane, lanes);
        cost.ideal_transfers += (uint64_t)ideal_wavefronts(lane, lanes);
    } else {
        cost.transfers += (uint64_t)sectors(lane, lanes);
        cost.ideal_transfers += (uint64_t)ideal_sectors(lane, lanes);
    }
}

std::vector<Cost> Requests::costs() const {
    std::vector<Cost> out;
    for (uint32_t shared = 0; shared < 2; ++shared)
        for (size_t i = 0; i < sites_.size(); ++i)
            if (costs_[shared][i].requests) {
                out.push_back(costs_[shared][i]);
                out.back().site = sites_[i];
                out.back().shared = shared;
            }
    return out;
}

}  // namespace emu
