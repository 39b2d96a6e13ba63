"""What the Triton kernels' matrix products make of float32 numbers.

"float32"  multiplies them as they are: what NumPy computes, up to rounding.
"tf32"     rounds each factor to 10 bits of mantissa, as tensor cores do (NVIDIA A100 whitepaper).
"bf16"     rounds each factor to bfloat16, 7 bits of mantissa; sums stay in float32
           (mixed precision, Micikevicius et al. 2018, arXiv:1710.03740). Parameters and gradients
           stay float32 in memory.
"""

import contextlib
import os
from contextvars import ContextVar

from minillm.errors import UserError

__all__ = ["PRECISIONS", "current", "precision"]

PRECISIONS = ("float32", "tf32", "bf16")
_PRECISION: ContextVar[str | None] = ContextVar("minillm_precision", default=None)


def current():
    """The precision in force: the innermost `precision(...)`, or MINILLM_PRECISION, or "float32".

    Raises
    ------
    UserError
        when the environment variable MINILLM_PRECISION names no precision.
    """
    chosen = _PRECISION.get()
    return _checked(os.environ.get("MINILLM_PRECISION", "float32")) if chosen is None else chosen


@contextlib.contextmanager
def precision(name):
    """Compute the products inside `with precision(name):` in that precision.

    Raises
    ------
    UserError
        for a name that is none of PRECISIONS.
    """
    token = _PRECISION.set(_checked(name))
    try:
        yield
    finally:
        _PRECISION.reset(token)


def _checked(name):
    if name not in PRECISIONS:
        raise UserError(f"precision must be one of {', '.join(PRECISIONS)}, got {name!r}")
    return name
