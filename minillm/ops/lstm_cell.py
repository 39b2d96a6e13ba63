"""One step of long short-term memory (Hochreiter & Schmidhuber 1997, Neural Computation 9,
1735-1780), with the forget gate of Gers, Schmidhuber & Cummins 2000 (Neural Computation 12,
2451-2471).

Left out: peephole connections and projections; the loop over time, see lstm.py.
"""

import numpy as np

from minillm.ops._op import check_shape, op
from minillm.ops._recurrent import check_cell, check_state, given, sigmoid


@op
def lstm_cell(x, state, params):
    """Forget a share of the memory cell, write to it, and show a share of it.

    Equation: c' = f * c + i * g, h' = o * tanh(c'), where i, f, o = sigmoid, g = tanh of
        x W_x + h W_h + b

    Parameters
    ----------
    x : (B, C)
    state : {"h": (B, K), "c": (B, K)}
    params : {"weight_x": (C, 4K), "weight_h": (K, 4K), "bias": (4K,)}, the gates in torch's
        order: input i, forget f, candidate g, output o

    Returns
    -------
    state' : {"h": (B, K), "c": (B, K)}

    Raises
    ------
    ValueError
        for shapes that do not fit, or a key that is missing or unknown.
    """
    h, c = check_state(state, optional=False).values()
    check_cell(x, h, params, gates=4)
    check_shape("c", c, h.shape)
    a = x @ params["weight_x"] + h @ params["weight_h"] + params["bias"]  # (B, 4K)
    a_i, a_f, a_g, a_o = np.split(a, 4, axis=-1)  # (B, K) each
    i, f, g, o = sigmoid(a_i), sigmoid(a_f), np.tanh(a_g), sigmoid(a_o)
    c_new = f * c + i * g
    tanh_c = np.tanh(c_new)
    h_new = o * tanh_c
    return {"h": h_new, "c": c_new}, (x, h, c, i, f, g, o, tanh_c, params)


@lstm_cell.defbackward
def lstm_cell_backward(dstate, cache):
    x, h, c, i, f, g, o, tanh_c, params = cache
    dh_new, dc_new = check_state(dstate, "dstate").values()
    dh_new, dc_new = given(dh_new, h), given(dc_new, c)  # (B, K) each
    # forward: h_new = o * tanh(c_new); c_new is an output too, so its gradient has two parts
    do = dh_new * tanh_c
    dc_new = dc_new + dh_new * o * (1 - tanh_c**2)
    # forward: c_new = f * c + i * g
    df, dc = dc_new * c, dc_new * f
    di, dg = dc_new * g, dc_new * i
    # forward: i, f, o = sigmoid, with sigmoid' = s * (1 - s); g = tanh, with tanh' = 1 - tanh**2
    da = np.concatenate(
        [di * i * (1 - i), df * f * (1 - f), dg * (1 - g**2), do * o * (1 - o)], axis=-1
    )  # (B, 4K)
    # forward: a = x @ weight_x + h @ weight_h + bias
    dparams = {"weight_x": x.T @ da, "weight_h": h.T @ da, "bias": da.sum(0)}
    return da @ params["weight_x"].T, {"h": da @ params["weight_h"].T, "c": dc}, dparams
