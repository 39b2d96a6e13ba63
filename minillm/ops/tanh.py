"""The hyperbolic tangent (LeCun, Bottou, Orr & Müller 1998, Efficient BackProp, section 4.4).

Left out: the scaled 1.7159 tanh(2x/3) that they recommend.
"""

import numpy as np

from minillm.ops._op import op


@op
def tanh(x):
    """Squash each value into (-1, 1).

    Equation: y = tanh(x)

    Parameters
    ----------
    x : (...)

    Returns
    -------
    y : (...)
    """
    y = np.tanh(x)  # (...)
    return y, y


@tanh.defbackward
def tanh_backward(dy, y):
    # forward: y = tanh(x)
    return dy * (1 - y * y)
