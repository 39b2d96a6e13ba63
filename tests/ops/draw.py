"""What the tests of the ops draw: shapes of distinct sizes and ones, and seeds."""

import pytest

from minillm.gradcheck.strategies import seeds, shapes, sizes
from tests.ops.harness import BACKENDS

__all__ = ["on_each_backend", "seeds", "shapes", "sizes"]

on_each_backend = pytest.mark.parametrize("backend", BACKENDS)
