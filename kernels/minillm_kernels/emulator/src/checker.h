// What the scheduler tells the checker; see checker.cpp. Without a checker none of it is called.

#pragma once

#include "scheduler.h"

namespace emu {

void checker_block_starts(Checker *checker, emu_worker *worker);
void checker_block_ends(Checker *checker);
void checker_barrier(Checker *checker);
void checker_syncwarp(Checker *checker, int warp, unsigned mask);
void checker_undefined_shuffle(Checker *checker, int thread, int from_lane, Site site);
void checker_fence(Checker *checker);

}  // namespace emu
