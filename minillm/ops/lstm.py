"""Layers of long short-term memory over time (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber &
Cummins 2000), trained by back-propagation through time (Werbos 1990, Proc. IEEE 78, 1550-1560).

Left out: both directions at once; sequences of different lengths (pad them, and let the loss ignore
the padding); the cell's own mathematics, see lstm_cell.py.
"""

import numpy as np

from minillm.ops._op import op
from minillm.ops._recurrent import add_into, check_layers, check_state, given, start
from minillm.ops.dropout import dropout as dropout_op
from minillm.ops.lstm_cell import lstm_cell


@op
def lstm(x, state, params, *, dropout=0.0, rng=None):
    """Run each layer's cell along the sequence; a layer's outputs are the next one's inputs.

    Equation: h[t], c[t] = lstm_cell(x[t], h[t - 1], c[t - 1]) for t = 0 .. T - 1, in every layer;
        y = the last h

    Parameters
    ----------
    x : (B, T, C)
    state : {"h": (L, B, K), "c": (L, B, K)} before the first step; None for zeros
    params : list of L dicts, see lstm_cell; the first reads C channels, the others K
    dropout : float, the share of a layer's outputs that the next layer does not see
    rng : numpy.random.Generator or None, None turns dropout off

    Returns
    -------
    y : (B, T, K) the last layer's hidden states
    state : {"h": (L, B, K), "c": (L, B, K)} of every layer after the last step

    Raises
    ------
    ValueError
        for shapes that do not fit, no time step, or no layer.
    """
    shape = check_layers(x, params, gates=4)
    h_start, c_start = (
        start(s, shape, x, f"state[{name!r}]") for name, s in check_state(state).items()
    )
    h_ends, c_ends, caches = [], [], []
    for layer, weights in enumerate(params):
        dropped = None
        if layer > 0:
            x, dropped = dropout_op(x, p=dropout, rng=rng)
        now = {"h": h_start[layer], "c": c_start[layer]}  # (B, K) each
        outputs, steps = [], []
        for t in range(x.shape[1]):
            now, step = lstm_cell(x[:, t], now, weights)
            outputs.append(now["h"])
            steps.append(step)
        x = np.stack(outputs, axis=1)  # (B, T, K)
        h_ends.append(now["h"])
        c_ends.append(now["c"])
        caches.append((dropped, steps))
    end = {"h": np.stack(h_ends), "c": np.stack(c_ends)}  # (L, B, K) each
    return (x, end), (caches, x, end, params, state is not None)


@lstm.defbackward
def lstm_backward(dout, cache):
    caches, y, end, params, state_given = cache
    dx, dend = given(dout[0], y), check_state(dout[1], "dstate")
    dend = {key: given(dend[key], end[key]) for key in end}
    dstate = {key: np.empty_like(array) for key, array in end.items()}
    dparams: list[dict] = []
    for layer in reversed(range(len(params))):
        dropped, steps = caches[layer]
        dy, dxs = dx, []  # forward: x = stack(outputs), so a layer's dx is the dy of the one below
        dnow = {key: array[layer] for key, array in dend.items()}  # (B, K) each
        dweights = {key: np.zeros_like(weight) for key, weight in params[layer].items()}
        for t in reversed(range(len(steps))):
            # forward: h[t] is read twice, as the output y[:, t] and by step t + 1; c[t] only there
            dnow = {"h": dnow["h"] + dy[:, t], "c": dnow["c"]}
            dx_t, dnow, dstep = lstm_cell.backward(dnow, steps[t])
            dxs.append(dx_t)
            # forward: the same weights at every step, so their gradients add up
            add_into(dweights, dstep)
        dx = np.stack(dxs[::-1], axis=1)  # (B, T, K), in the first layer (B, T, C)
        if layer > 0:
            dx = dropout_op.backward(dx, dropped)
        dstate["h"][layer], dstate["c"][layer] = dnow["h"], dnow["c"]
        dparams.insert(0, dweights)
    return dx, dstate if state_given else None, dparams
