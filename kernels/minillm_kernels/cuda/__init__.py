"""CUDA C in numbered steps: the ladders, run by CuPy on a GPU or by the emulator on the CPU."""
