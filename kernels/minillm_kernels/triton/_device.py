"""What a launch asks of the GPU in hand: its architecture, its multiprocessors, scratch memory."""

import functools

import torch
import triton

from minillm_kernels.require import interpreted

__all__ = ["arch", "give_scratch", "multiprocessors", "sum_type"]


def arch():
    """75, 80 or 90: the newest of ours whose code suits the current GPU; 90 when interpreting."""
    return 90 if interpreted() else _arch(torch.cuda.current_device())


def multiprocessors():
    """How many blocks a kernel that stays resident starts; 3 when interpreting, so that each of
    them takes several tiles even of small products."""
    return 3 if interpreted() else _multiprocessors(torch.cuda.current_device())


def give_scratch():
    """Let kernels of the next launches keep tensor descriptors, 128 bytes each, in GPU memory."""
    if not interpreted():
        triton.set_allocator(_allocate)


def sum_type(dtype):
    """The dtype of sums over numbers of `dtype`: float64 for float64, otherwise float32."""
    return torch.float64 if dtype == torch.float64 else torch.float32


def _allocate(size, alignment, stream):
    return torch.empty(size, dtype=torch.int8, device="cuda")


@functools.cache
def _arch(device):
    major, minor = torch.cuda.get_device_capability(device)
    # wgmma is sm_90a's alone: what comes after runs the code of sm_80.
    return 90 if (major, minor) == (9, 0) else 80 if major >= 8 else 75


@functools.cache
def _multiprocessors(device):
    return torch.cuda.get_device_properties(device).multi_processor_count
