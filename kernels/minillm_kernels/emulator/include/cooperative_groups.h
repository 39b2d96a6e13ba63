// Cooperative groups are another way to write barriers and shuffles; the emulator has the plain ones.

#error "the emulator has no cooperative groups: use __syncthreads(), __syncwarp(mask) and __shfl_sync(mask, ...)"
