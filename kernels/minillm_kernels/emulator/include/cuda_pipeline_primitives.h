// Asynchronous copies (cp.async) run beside the threads; the emulator has no such thing.

#error "the emulator has no asynchronous copies (cp.async): this file needs a GPU of sm_80 or later"
