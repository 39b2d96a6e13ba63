"""Backwards that are known to be wrong, one module an op: what the checker is measured by."""

from minillm.gradcheck.catalogue._entry import Tools, Wrong, load, sizes, wrong

__all__ = ["Tools", "Wrong", "load", "sizes", "wrong"]
