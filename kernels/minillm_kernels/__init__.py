"""The GPU fast path: the hot ops of `minillm.ops` again, in CUDA C and in Triton.

`with minillm.backend("cupy"):` and `with minillm.backend("triton"):` find this package through
minillm's registry. Importing it loads neither CuPy nor torch nor Triton.

cuda/      numbered CUDA C kernels, an idea a step, run by CuPy on a GPU or by the emulator on a CPU
emulator/  runs those files on a CPU and watches every access
triton/    one op a file, forward and backward
bench/     measured beside the vendor's libraries; results/ keeps what was measured
"""
