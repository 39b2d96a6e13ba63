"""What the tests of the ops draw: shapes of distinct sizes and ones, and seeds."""

import pytest
from hypothesis import strategies as st

from tests.ops.harness import BACKENDS

seeds = st.integers(0, 2**32 - 1)
on_each_backend = pytest.mark.parametrize("backend", BACKENDS)


def sizes(n, largest=5):
    """n sizes, no two alike, of which some are then made 1: a transposed axis cannot hide."""
    return st.tuples(
        st.permutations(range(2, max(largest, n + 1) + 1)), st.sets(st.integers(0, max(n - 1, 0)))
    ).map(lambda drawn: tuple(1 if i in drawn[1] else drawn[0][i] for i in range(n)))


def shapes(least=1, most=3, largest=5):
    """A shape of `least` to `most` axes."""
    return st.integers(least, most).flatmap(lambda n: sizes(n, largest))
