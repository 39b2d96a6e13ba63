"""nvcc's builds of this run, each made once whatever number of tests look at it."""

import functools

from minillm_kernels.cuda.compiler import compile_cubin

__all__ = ["build"]


def build(rung, arch, macros=None):
    """A rung compiled for an architecture: a `Compiled`."""
    items = tuple(sorted((name, str(value)) for name, value in (macros or {}).items()))
    return _build(rung.path, arch, items)


@functools.cache
def _build(path, arch, items):
    return compile_cubin(path, arch, dict(items))
