"""The rectifier (Nair & Hinton 2010, ICML; Glorot, Bordes & Bengio 2011, AISTATS, section 3).

At 0, where it has no derivative, the gradient is 0 by convention, as in other libraries.
Left out: leaky and parametric variants.
"""

import numpy as np

from minillm.ops._op import op


@op
def relu(x):
    """Cut each negative value off at zero.

    Equation: y = max(x, 0)

    Parameters
    ----------
    x : (...)

    Returns
    -------
    y : (...)
    """
    return np.maximum(x, 0), x


@relu.defbackward
def relu_backward(dy, x):
    # forward: y = max(x, 0)
    return dy * (x > 0)
