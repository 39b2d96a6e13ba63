"""Language models written out in NumPy, with every gradient derived by hand."""

from minillm.ops._op import op, register
from minillm.ops._state import backend, trace

__version__ = "0.1.0"
__all__ = ["backend", "op", "register", "trace"]
