// The PTX of rungs 09 and 10 as PTX ISA 9.0 describes it, in C++ on top of the emulator: the kernels
// around it run unchanged, with their own indices, descriptors and barriers.
//
// What is asynchronous on a GPU happens here at one of two extremes, chosen when the file is compiled:
// at once (someone who should have waited before giving a buffer away is found), or with -DCOPIES_LATE
// and -DPRODUCTS_LATE as late as the rules allow (someone who reads before waiting is found).
//
// Written from the ISA's text, not from the kernels: where both say the same thing, they say it in
// different ways. No standard headers of C++: the emulator's macros would break them.
// The model is for one block at a time (emulator_settings(workers=1)): its state is in plain variables.
// Here is what ptx_model_mma.h (rung 09) and ptx_model_wgmma.h (rung 10) share.

#pragma once

#include <stdint.h>
#include <stdio.h>
#include <string.h>

#ifdef COPIES_LATE
constexpr bool copies_late = true;
#else
constexpr bool copies_late = false;
#endif
#ifdef PRODUCTS_LATE
constexpr bool products_late = true;
#else
constexpr bool products_late = false;
#endif

static void refuse(const char *why) {
    fprintf(stderr, "the model refuses: %s\n", why);
    __trap();
}

static float number(uint16_t bits) {
    HALF value;
    memcpy(&value, &bits, 2);
    return (float)value;
}

static int self() { return (int)emu_self()->linear; }
