"""When the exponentials of a softmax may be taken without subtracting the maximum first."""

import numpy as np


def needs_peak(x, weight, scale=1.0):
    """Whether exp of a logit, scale * (a row of x) . (a row of weight), could leave the range.

    |logit| <= scale * |x| * |weight| (Cauchy and Schwarz); where that is small, a sum of
    exponentials over any number of keys stays finite and no term loses its precision.
    """
    longest = [np.sqrt(np.vecdot(rows, rows).max(initial=0)) for rows in (x, weight)]
    limit = 40 if x.dtype == np.float32 else 300
    return not abs(scale) * longest[0] * longest[1] <= limit
