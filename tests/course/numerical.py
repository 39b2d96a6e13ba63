"""Backwards that derive nothing: the gradient of x comes by differences.

A column of all rows is moved at once, and the rest is left as it is derived. All are exact to
rounding, so that only the clock tells.
"""

__all__ = ["NUMERICAL", "STATES"]

COLUMNS = """
    z, grad = x.astype(complex), np.empty_like(x)
    for j in range(x.shape[-1]):
        z[..., j] += 1e-30j
        grad[..., j] = (value(z).imag / 1e-30 * up).sum(-1)
        z[..., j] = x[..., j]
    dx = grad
"""
RESULT = "    return np.moveaxis(dx, -1, axis)"
ALONE = COLUMNS + "    return dx"

LINEAR = """
    dx = np.empty_like(x)
    z, y = x.copy(), x @ weight
    for j in range(c_in):  # linear, so a difference of any size is exact
        z[..., j] += 1
        dx[..., j] = ((z @ weight - y) * dy).sum(-1)
        z[..., j] = x[..., j]
"""
SOFTMAX = """
    x, up = np.moveaxis(x, axis, -1), np.moveaxis(dy, axis, -1)
    def value(z):
        w = np.exp(z - z.real.max(-1, keepdims=True))
        return w / w.sum(-1, keepdims=True)
"""
LOG_SOFTMAX = """
    x, up = np.moveaxis(x, axis, -1), np.moveaxis(dy, axis, -1)
    def value(z):
        z = z - z.real.max(-1, keepdims=True)
        return z - np.log(np.exp(z).sum(-1, keepdims=True))
"""
CROSS_ENTROPY = """
    x, up = logits, np.ones((1,))
    def value(z):
        z = z - z.real.max(-1, keepdims=True)
        logs = z - np.log(np.exp(z).sum(-1, keepdims=True))
        nats = -np.take_along_axis(logs, known[..., None], -1)
        nats = (1 - label_smoothing) * nats - label_smoothing * logs.mean(-1, keepdims=True)
        return np.where(counted[..., None], nats, 0) * (dloss / count)
"""
LAYER_NORM = """
    up = dy
    def value(z):
        c = z - z.mean(-1, keepdims=True)
        return c / np.sqrt((c * c).mean(-1, keepdims=True) + eps) * gain + bias
"""
RNN_CELL = """
    up = dh_new
    def value(z):
        return np.tanh(z @ params["weight_x"] + h @ params["weight_h"] + params["bias"])
"""
LSTM_CELL = """
    up = np.ones(1)
    def value(z):
        a = z @ params["weight_x"] + h @ params["weight_h"] + params["bias"]
        i, f, g, o = np.split(a, 4, axis=-1)
        i, f, o = (0.5 * np.tanh(0.5 * s) + 0.5 for s in (i, f, o))
        c_now = f * c + i * np.tanh(g)
        h_now = o * np.tanh(c_now)
        return dh_new * h_now + dc_now * c_now
"""
NUMERICAL = {  # (assignment, op): edits of its file
    ("hw3", "linear"): [
        ("    dx = dy @ weight.T  # (..., C_in)\n", LINEAR),
        ("from _op", "import numpy as np\nfrom _op"),
    ],
    ("hw3", "softmax"): [
        ("return y, (y, axis)", "return y, (y, axis, x)"),
        ("y, axis = cache\n", "y, axis, x = cache\n" + SOFTMAX + COLUMNS),
        ("    return y * (dy - (dy * y).sum(axis, keepdims=True))", RESULT),
    ],
    ("hw3", "log_softmax"): [
        ("return y, (y, axis)", "return y, (y, axis, x)"),
        ("y, axis = cache\n", "y, axis, x = cache\n" + LOG_SOFTMAX + COLUMNS),
        ("    return dy - np.exp(y) * dy.sum(axis, keepdims=True)", RESULT),
    ],
    ("hw3", "cross_entropy"): [
        ("(log_probs, counted,", "(logits, log_probs, counted,"),
        (
            "    log_probs, counted, known, count, label_smoothing = cache\n",
            "    logits, log_probs, counted, known, count, label_smoothing = cache\n",
        ),
        ("    return dnats * (probs - wanted.astype(probs.dtype))", CROSS_ENTROPY + ALONE),
    ],
    ("hw3", "layer_norm"): [
        ("(normed, inv_std, gain)", "(normed, inv_std, gain, x, bias, eps)"),
        ("normed, inv_std, gain = cache", "normed, inv_std, gain, x, bias, eps = cache"),
        ("    return dx, dgain", LAYER_NORM + COLUMNS + "    return dx, dgain"),
    ],
    ("hw4", "rnn_cell"): [
        ('    return da @ params["weight_x"].T,', RNN_CELL + COLUMNS + "    return dx,"),
    ],
    ("hw4", "lstm_cell"): [
        ("    # forward: h_new = o", "    dc_now = dc_new\n    # forward: h_new = o"),
        ('    return da @ params["weight_x"].T,', LSTM_CELL + COLUMNS + "    return dx,"),
    ],
}
# The same of what the cells carry: h, and c.
STATE_COLUMNS = """
    grads = []
    for place in range(len(held)):
        grad, z = np.empty_like(held[place]), held[place].astype(complex)
        for j in range(z.shape[-1]):
            z[..., j] += 1e-30j
            moved = [*held[:place], z, *held[place + 1 :]]
            grad[..., j] = (value(*moved).imag / 1e-30).sum(-1)
            z[..., j] = held[place][..., j]
        grads.append(grad)
"""
RNN_CELL_STATE = """
    held = [h]
    def value(h):
        a = x @ params["weight_x"] + h @ params["weight_h"] + params["bias"]
        return np.tanh(a) * dh_new
"""
LSTM_CELL_STATE = "    held = [h, c]\n" + LSTM_CELL.replace("value(z)", "value(h, c)").replace(
    "z @", "x @"
)
STATES = {  # op: edits of its file
    "rnn_cell": [
        (
            'return da @ params["weight_x"].T, da @ params["weight_h"].T,',
            f'{RNN_CELL_STATE}{STATE_COLUMNS}    return da @ params["weight_x"].T, *grads,',
        ),
    ],
    "lstm_cell": [
        ("    # forward: h_new = o", "    dc_now = dc_new\n    # forward: h_new = o"),
        (
            '    return da @ params["weight_x"].T, {"h": da @ params["weight_h"].T, "c": dc},',
            f"{LSTM_CELL_STATE}{STATE_COLUMNS}"
            '    return da @ params["weight_x"].T, dict(zip("hc", grads)),',
        ),
    ],
}
