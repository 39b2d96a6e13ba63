"""One step of the simple recurrent network (Elman 1990, Cognitive Science 14, 179-211).

Left out: the loop over time, see rnn.py; gates, see lstm_cell.py and gru_cell.py.
"""

import numpy as np

from minillm.ops._op import op
from minillm.ops._recurrent import check_cell


@op
def rnn_cell(x, h, params):
    """Mix this step's input with the hidden state of the step before.

    Equation: h' = tanh(x W_x + h W_h + b)

    Parameters
    ----------
    x : (B, C)
    h : (B, K)
    params : {"weight_x": (C, K), "weight_h": (K, K), "bias": (K,)}

    Returns
    -------
    h' : (B, K)

    Raises
    ------
    ValueError
        for shapes that do not fit, or a key that is missing or unknown.
    """
    check_cell(x, h, params, gates=1)
    h_new = np.tanh(x @ params["weight_x"] + h @ params["weight_h"] + params["bias"])  # (B, K)
    return h_new, (x, h, h_new, params)


@rnn_cell.defbackward
def rnn_cell_backward(dh_new, cache):
    x, h, h_new, params = cache
    # forward: h_new = tanh(a), and tanh' = 1 - tanh**2
    da = dh_new * (1 - h_new**2)  # (B, K)
    # forward: a = x @ weight_x + h @ weight_h + bias
    dparams = {"weight_x": x.T @ da, "weight_h": h.T @ da, "bias": da.sum(0)}
    return da @ params["weight_x"].T, da @ params["weight_h"].T, dparams
