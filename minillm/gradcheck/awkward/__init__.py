"""Right but awkward functions: backwards that are correct where a checker is easily mistaken.

Kinks and ties, saturation, magnitudes from 1e-8 to 1e8, float32, empty arrays, gradients that truly
vanish, generators that advance. None of them may be failed, and where the gradient does not vanish
the checker must be able to say that it is right. `load()` gives all families.
"""

from minillm.gradcheck.awkward._family import Case, Family, load

__all__ = ["Case", "Family", "load"]
