// Everything that nvcc gives a .cu file without an #include, for g++; read before the file's first line.

#pragma once

#include <assert.h>
#include <stdio.h>

#include <utility>

#include "emu_vectors.h"
// the order matters: what a thread is, what a warp does, then the functions
#include "emu_runtime.h"
#include "emu_warp.h"
#include "emu_math.h"
#include "emu_atomics.h"

#define printf emu_printf
namespace std {
using ::emu_printf;
}

#define __CUDACC__ 1
#define __CUDA_ARCH__ 800  // so far do the intrinsics go; what needs sm_90 is out of reach
#define __MINILLM_EMULATOR__ 1
