"""The Gaussian error linear unit (Hendrycks & Gimpel 2016, arXiv:1606.08415, section 2).

`approximate="none"` is their definition x P(X <= x), X ~ N(0, 1); "tanh" is their approximation,
the one of GPT-2 and BERT. Left out: their cheaper x sigmoid(1.702 x).
"""

import math

import numpy as np

from minillm.ops._erf import erf
from minillm.ops._op import op

SQRT_2_OVER_PI = math.sqrt(2 / math.pi)


@op
def gelu(x, *, approximate="none"):
    """Weight each value by the chance that a standard normal one is smaller.

    Equation: y = x * (1 + erf(x / sqrt(2))) / 2,
        or by tanh: y = x * (1 + tanh(sqrt(2 / pi) * (x + 0.044715 * x^3))) / 2

    Parameters
    ----------
    x : (...)
    approximate : "none" or "tanh"

    Returns
    -------
    y : (...)

    Raises
    ------
    ValueError
        for another `approximate`.
    """
    if approximate == "none":
        cdf = 0.5 * (1 + erf(x * math.sqrt(0.5)))  # (...)
    elif approximate == "tanh":
        cdf = 0.5 * (1 + np.tanh(SQRT_2_OVER_PI * (x + 0.044715 * (x * x * x))))  # (...)
    else:
        raise ValueError(f"approximate must be 'none' or 'tanh', got {approximate!r}")
    return x * cdf, (x, cdf, approximate)


@gelu.defbackward
def gelu_backward(dy, cache):
    x, cdf, approximate = cache
    if approximate == "none":
        # forward: cdf = (1 + erf(x / sqrt(2))) / 2, whose slope is the normal density
        slope = np.exp(-0.5 * (x * x)) * (1 / math.sqrt(2 * math.pi))  # (...)
    else:
        # forward: cdf = (1 + tanh(u)) / 2, u = sqrt(2 / pi) * (x + 0.044715 * x^3);
        # (1 - tanh(u)^2) / 2 = 2 * cdf * (1 - cdf)
        slope = 2 * cdf * (1 - cdf) * (SQRT_2_OVER_PI * (1 + 3 * 0.044715 * (x * x)))  # (...)
    # forward: y = x * cdf
    return dy * (cdf + x * slope)
