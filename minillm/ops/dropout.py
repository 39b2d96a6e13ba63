"""Dropout (Srivastava, Hinton, Krizhevsky, Sutskever & Salakhutdinov 2014, JMLR 15, section 4).

In the "inverted" form of their section 10: what is kept is scaled up in training, so that nothing
changes afterwards. Left out: masks shared along an axis; the fusion with attention, see
scaled_dot_product_attention.py.
"""

import numpy as np

from minillm.ops._op import op


@op
def dropout(x, *, p, rng=None):
    """Set each value to zero with probability p and scale up the others; off where rng is None.

    Equation: y = x * [u >= p] / (1 - p), u ~ Uniform(0, 1)

    Parameters
    ----------
    x : (...)
    p : float in [0, 1)
    rng : numpy.random.Generator or None; one float32 is drawn for each element, in C order

    Returns
    -------
    y : (...)

    Raises
    ------
    ValueError
        for p outside [0, 1), or an rng that is no generator.
    """
    if not 0 <= p < 1:
        raise ValueError(f"p must be at least 0 and below 1, got {p}")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy.random.Generator or None, got {type(rng).__name__}")
    if rng is None or p == 0:
        return x, None
    # Drawn on the host whatever x is; equal for float32 and float64, so that they can be compared.
    kept = np.asarray(rng.random(x.shape, dtype=np.float32) >= p, like=x)  # (...)
    mask = kept.astype(x.dtype) / (1 - p)  # (...)
    return x * mask, mask


@dropout.defbackward
def dropout_backward(dy, mask):
    # forward: y = x * mask, or y = x
    return dy if mask is None else dy * mask
