"""One step of the gated recurrent unit (Cho et al. 2014, arXiv:1406.1078, eq. 5-8).

In the paper the reset gate acts on h before its product with the candidate's weights. Here, as in
cuDNN and torch, it acts on the product, which then has a bias of its own: all three products with
h become one.

Left out: the paper's own order of reset and product; the loop over time, see gru.py.
"""

import numpy as np

from minillm.ops._op import op
from minillm.ops._recurrent import KEYS, check_cell, sigmoid

GRU_KEYS = (*KEYS, "bias_h")


@op
def gru_cell(x, h, params):
    """Keep a share z of the hidden state and fill the rest with a candidate n.

    Equation: h' = (1 - z) * n + z * h, where r, z = sigmoid(a + b),
        n = tanh(a + r * b), a = x W_x + b_x, b = h W_h + b_h

    Parameters
    ----------
    x : (B, C)
    h : (B, K)
    params : {"weight_x": (C, 3K), "weight_h": (K, 3K), "bias": (3K,), "bias_h": (3K,)}, the gates
        in torch's order: reset r, update z, candidate n

    Returns
    -------
    h' : (B, K)

    Raises
    ------
    ValueError
        for shapes that do not fit, or a key that is missing or unknown.
    """
    check_cell(x, h, params, gates=3, keys=GRU_KEYS)
    a_r, a_z, a_n = np.split(x @ params["weight_x"] + params["bias"], 3, axis=-1)  # (B, K) each
    b_r, b_z, b_n = np.split(h @ params["weight_h"] + params["bias_h"], 3, axis=-1)  # (B, K) each
    r, z = sigmoid(a_r + b_r), sigmoid(a_z + b_z)
    n = np.tanh(a_n + r * b_n)
    return (1 - z) * n + z * h, (x, h, r, z, n, b_n, params)


@gru_cell.defbackward
def gru_cell_backward(dh_new, cache):
    x, h, r, z, n, b_n, params = cache
    # forward: h_new = (1 - z) * n + z * h
    dz, dn, dh = dh_new * (h - n), dh_new * (1 - z), dh_new * z  # (B, K) each
    # forward: n = tanh(a_n + r * b_n)
    da_n = dn * (1 - n**2)
    dr, db_n = da_n * b_n, da_n * r
    # forward: r = sigmoid(a_r + b_r), z = sigmoid(a_z + b_z): a and b share their gradient
    da_r, da_z = dr * r * (1 - r), dz * z * (1 - z)
    da = np.concatenate([da_r, da_z, da_n], axis=-1)  # (B, 3K)
    db = np.concatenate([da_r, da_z, db_n], axis=-1)  # (B, 3K)
    # forward: a = x @ weight_x + bias, b = h @ weight_h + bias_h
    dparams = {"weight_x": x.T @ da, "weight_h": h.T @ db, "bias": da.sum(0), "bias_h": db.sum(0)}
    return da @ params["weight_x"].T, dh + db @ params["weight_h"].T, dparams
