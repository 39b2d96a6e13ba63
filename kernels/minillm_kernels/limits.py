"""What CUDA allows every launch."""

__all__ = ["MAX_GRID"]

MAX_GRID = (2**31 - 1, 65535, 65535)  # CUDA C++ Programming Guide, "Technical Specifications"
