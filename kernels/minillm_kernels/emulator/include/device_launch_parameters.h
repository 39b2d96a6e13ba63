#pragma once  // cuda_emulator.h, read before any file, has all of it
