"""A gradient checker for anybody's layers: NumPy, CuPy or torch, with or without minillm's ops.

    report = check_vjp(forward, backward, args)   # forward -> (out, cache); backward(dout, cache)
    report.verdict                                # "pass", "fail" or "inconclusive"
    print(report)                                 # where it is wrong, and what it may be

Forward is compared with backward alone: a forward that computes something else than it should, and
its true derivative, agree with one another. Check it against another implementation.
"""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minillm.gradcheck.adapters import check_module, check_torch
    from minillm.gradcheck.check import check_function, check_layer, check_op, check_vjp
    from minillm.gradcheck.drawing import draw
    from minillm.gradcheck.report import Diagnosis, Finding, GradientError, LeafResult, Report

HOMES = {
    "adapters": ("check_module", "check_torch"),
    "check": ("check_function", "check_layer", "check_op", "check_vjp"),
    "drawing": ("draw",),
    "report": ("Diagnosis", "Finding", "GradientError", "LeafResult", "Report"),
}
__all__ = [
    "Diagnosis",
    "Finding",
    "GradientError",
    "LeafResult",
    "Report",
    "check_function",
    "check_layer",
    "check_module",
    "check_op",
    "check_torch",
    "check_vjp",
    "draw",
]


def __getattr__(name):
    """Load what is asked for: each run of pytest imports the plugin beside this, and no NumPy."""
    for home, names in HOMES.items():
        if name in names:
            return getattr(importlib.import_module(f"minillm.gradcheck.{home}"), name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
