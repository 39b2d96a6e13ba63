"""Language models written out in NumPy, with every gradient derived by hand."""

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from minillm.ops._op import op, register
    from minillm.ops._state import backend, device, trace

__version__ = "0.1.0"
__all__ = ["backend", "device", "op", "register", "trace"]

HOMES = {"op": "_op", "register": "_op"}
HOMES |= dict.fromkeys(("backend", "device", "trace"), "_state")


def __getattr__(name):
    """Load the ops when one asks for them: each run of pytest imports this package's plugin."""
    if name not in HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    importlib.import_module("minillm.ops")
    return getattr(importlib.import_module(f"minillm.ops.{HOMES[name]}"), name)
