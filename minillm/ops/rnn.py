"""Layers of simple recurrent cells over time (Elman 1990), trained by back-propagation through time
(Werbos 1990, Proc. IEEE 78, 1550-1560).

Left out: both directions at once; sequences of different lengths (pad them, and let the loss ignore
the padding); the cell's own mathematics, see rnn_cell.py.
"""

import numpy as np

from minillm.ops._op import op
from minillm.ops._recurrent import add_into, check_layers, given, start
from minillm.ops.dropout import dropout as dropout_op
from minillm.ops.rnn_cell import rnn_cell


@op
def rnn(x, state, params, *, dropout=0.0, rng=None):
    """Run each layer's cell along the sequence; a layer's outputs are the next one's inputs.

    Equation: h[t] = rnn_cell(x[t], h[t - 1]) for t = 0 .. T - 1, in every layer; y = the last h

    Parameters
    ----------
    x : (B, T, C)
    state : (L, B, K) the hidden states before the first step; None for zeros
    params : list of L dicts, see rnn_cell; the first reads C channels, the others K
    dropout : float, the share of a layer's outputs that the next layer does not see
    rng : numpy.random.Generator or None, None turns dropout off

    Returns
    -------
    y : (B, T, K) the last layer's hidden states
    state : (L, B, K) every layer's hidden state after the last step

    Raises
    ------
    ValueError
        for shapes that do not fit, no time step, or no layer.
    """
    h_start = start(state, check_layers(x, params, gates=1), x)  # (L, B, K)
    ends, caches = [], []
    for layer, weights in enumerate(params):
        dropped = None
        if layer > 0:
            x, dropped = dropout_op(x, p=dropout, rng=rng)
        h, outputs, steps = h_start[layer], [], []
        for t in range(x.shape[1]):
            h, step = rnn_cell(x[:, t], h, weights)  # (B, K)
            outputs.append(h)
            steps.append(step)
        x = np.stack(outputs, axis=1)  # (B, T, K)
        ends.append(h)
        caches.append((dropped, steps))
    end = np.stack(ends)  # (L, B, K)
    return (x, end), (caches, x, end, params, state is not None)


@rnn.defbackward
def rnn_backward(dout, cache):
    caches, y, end, params, state_given = cache
    dx, dend = given(dout[0], y), given(dout[1], end)
    dstate = np.empty_like(end)
    dparams: list[dict] = []
    for layer in reversed(range(len(params))):
        dropped, steps = caches[layer]
        dy, dxs = dx, []  # forward: x = stack(outputs), so a layer's dx is the dy of the one below
        dh = dend[layer]  # (B, K)
        dweights = {key: np.zeros_like(weight) for key, weight in params[layer].items()}
        for t in reversed(range(len(steps))):
            # forward: h[t] is read twice, as the output y[:, t] and by step t + 1
            dx_t, dh, dstep = rnn_cell.backward(dh + dy[:, t], steps[t])
            dxs.append(dx_t)
            # forward: the same weights at every step, so their gradients add up
            add_into(dweights, dstep)
        dx = np.stack(dxs[::-1], axis=1)  # (B, T, K), in the first layer (B, T, C)
        if layer > 0:
            dx = dropout_op.backward(dx, dropped)
        dstate[layer] = dh
        dparams.insert(0, dweights)
    return dx, dstate if state_given else None, dparams
