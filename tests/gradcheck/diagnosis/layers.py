"""Larger functions, composed of those in functions.py, whose backwards take the mistake to make."""

import numpy as np

from tests.gradcheck.diagnosis import functions as f


def sigmoid(z):
    return 1 / (1 + np.exp(-z))


def swiglu(x, gate, up, down):
    """down(silu(x gate) * (x up))."""
    g, u = x @ gate, x @ up
    s = sigmoid(g)
    return (g * s * u) @ down, (x, gate, up, down, g, u, s)


def swiglu_back(dy, cache, wrong=None):
    x, gate, up, down, g, u, s = cache
    dh = dy @ down.T
    dg, du = dh * u * s * (1 + g * (1 - s)), dh * g * s
    if wrong == "gate as sigmoid":
        dg = dh * u * s * (1 - s)
    if wrong == "silu as identity":
        dg = dh * u
    if wrong == "up with gate":
        du = dh * g
    if wrong == "exchanged":
        dg, du = du, dg
    dx = dg @ gate.T + du @ up.T
    if wrong == "one path of x":
        dx = dg @ gate.T
    if wrong == "other path of x":
        dx = du @ up.T
    return dx, x.T @ dg, x.T @ du, (g * s * u).T @ dy


def gru_cell(x, h, w, u, b, bh):
    """Gates r, z, n in the columns; n = tanh(x w + b + r * (h u + bh)); h' = (1 - z) n + z h."""
    k = h.shape[1]
    a, c = x @ w + b, h @ u + bh
    r, z = sigmoid(a[:, :k] + c[:, :k]), sigmoid(a[:, k : 2 * k] + c[:, k : 2 * k])
    n = np.tanh(a[:, 2 * k :] + r * c[:, 2 * k :])
    return (1 - z) * n + z * h, (x, h, w, u, r, z, n, c[:, 2 * k :])


def gru_cell_back(dy, cache, wrong=None):
    x, h, w, u, r, z, n, cn = cache
    dn = dy * (1 - z) * (1 - n * n)
    dz = dy * (h - n) * z * (1 - z)
    dr = dn * cn * r * (1 - r)
    dhn = dn * r
    if wrong == "z turned":
        dz = -dz
    if wrong == "r not applied":
        dhn = dn
    if wrong == "n as sigmoid":
        dn = dy * (1 - z) * n * (1 - n)
        dr, dhn = dn * cn * r * (1 - r), dn * r
    if wrong == "r zero":
        dr = 0 * dr
    if wrong == "z without n":
        dz = dy * h * z * (1 - z)
    da, dc = np.concatenate([dr, dz, dn], 1), np.concatenate([dr, dz, dhn], 1)
    dh = dc @ u.T + dy * z
    if wrong == "no direct path":
        dh = dc @ u.T
    if wrong == "direct path alone":
        dh = dy * z
    du = h.T @ dc
    if wrong == "new state":
        du = ((1 - z) * n + z * h).T @ dc
    return da @ w.T, dh, x.T @ da, du, da.sum(0), (da if wrong == "bh as b" else dc).sum(0)


def heads(x, n):
    b, t, c = x.shape
    return x.reshape(b, t, n, c // n).swapaxes(1, 2)


def joined(x):
    b, n, t, d = x.shape
    return x.swapaxes(1, 2).reshape(b, t, n * d)


def multi_head(x, qkv, out, *, n_head, causal=False):
    """Attention of x (B, T, C) to itself; qkv (C, 3C) and out (C, C)."""
    q, k, v = (heads(part, n_head) for part in np.split(x @ qkv, 3, -1))
    scores = q @ k.swapaxes(2, 3) * q.shape[-1] ** -0.5
    if causal:
        scores = np.where(np.tri(x.shape[1], dtype=bool), scores, -np.inf)
    p, _ = f.softmax(scores)
    a = joined(p @ v)
    return a @ out, (x, qkv, out, n_head, q, k, v, p, a)


def multi_head_back(dy, cache, wrong=None):
    x, qkv, out, n_head, q, k, v, p, a = cache
    da = heads(dy @ (out if wrong == "out not turned" else out.T), n_head)
    if wrong == "heads reshaped":
        da = (dy @ out.T).reshape(q.shape)
    dv = p.swapaxes(2, 3) @ da
    dp = da @ v.swapaxes(2, 3)
    if wrong == "one head":
        dp = dp * (np.arange(n_head) != 0)[:, None, None]
    total = (dp * p).sum(-1, keepdims=True)
    ds = p * (dp - (0 if wrong == "no sum" else total))
    ds = ds * (1 if wrong == "no scale" else q.shape[-1] ** -0.5)
    dq, dk = ds @ k, ds.swapaxes(2, 3) @ q
    if wrong == "keys not turned":
        dk = ds @ q
    if wrong == "values not turned":
        dv = p @ da
    if wrong == "k turned":
        dk = -dk
    parts = (dk, dq, dv) if wrong == "q and k exchanged" else (dq, dk, dv)
    if wrong == "k left out":
        parts = (dq, 0 * dk, dv)
    d = np.concatenate([joined(part) for part in parts], -1)
    flat = x.reshape(-1, x.shape[-1])
    dqkv = flat.T @ d.reshape(len(flat), -1)
    dout = a.reshape(flat.shape).T @ dy.reshape(flat.shape)
    dx = d @ qkv.T
    if wrong == "v path of x":
        dx = joined(dv) @ qkv[:, -x.shape[-1] :].T
    if wrong == "first batch":
        dqkv = x[0].T @ d[0]
    return dx, dqkv, dout


def block(x, params, *, eps=1e-5):
    """x + mlp(norm(x)) with tanh; params: gain, bias, up, down."""
    y, one = f.norm(x, params["gain"], params["bias"], eps=eps)
    z = np.tanh(y @ params["up"])
    return x + z @ params["down"], (y, one, z, params)


def block_back(dy, cache, wrong=None):
    y, one, z, params = cache
    dz = dy @ params["down"].T * (1 if wrong == "no tanh" else 1 - z * z)
    dn = dz @ params["up"].T
    options = {"mean": 0} if wrong == "no mean" else {"normed": 0} if wrong == "no normed" else {}
    dx, dgain, dbias = f.norm_back(dn, one, **options)
    flat = (-1, dy.shape[-1])
    ddown = z.reshape(-1, z.shape[-1]).T @ dy.reshape(flat)
    dup = y.reshape(flat).T @ dz.reshape(-1, z.shape[-1])
    if wrong == "up with x":
        n, inv, _, _ = one
        dup = (n / inv).reshape(flat).T @ dz.reshape(-1, z.shape[-1])
    grads = {"gain": dgain, "bias": dbias, "up": dup, "down": ddown}
    if wrong == "gain zero":
        grads["gain"] = 0 * dgain
    if wrong == "gain and bias":
        grads["gain"], grads["bias"] = dbias, dgain
    if wrong == "branch alone":
        return dx, grads
    if wrong == "skip alone":
        return dy, grads
    return dx + dy, grads


def linear_loss(x, weight, bias, *, targets, smoothing=0.0):
    """Mean cross entropy of x @ weight.T + bias."""
    n, v = len(x), len(weight)
    logp, _ = f.log_softmax(x @ weight.T + bias)
    goal = np.full((n, v), smoothing / v)
    goal[np.arange(n), targets] += 1 - smoothing
    return -(goal * logp).sum() / n, (x, weight, np.exp(logp), goal, targets)


def linear_loss_back(d, cache, wrong=None):
    x, weight, p, goal, targets = cache
    n = len(x)
    if wrong == "no target":
        goal = 0 * goal
    if wrong == "no smoothing":
        goal = np.eye(len(weight))[targets]
    dz = d * (p - goal) / (1 if wrong == "no mean" else n)
    if wrong == "turned":
        dz = -dz
    dx = dz @ weight
    return (
        dx,
        (0 if wrong == "weight zero" else 1) * dz.T @ x,
        dz.mean(0) if wrong == "bias mean" else dz.sum(0),
    )


def lstm(x, h, c, w, u, b):
    """The cell of functions.py over the steps of x (B, T, C)."""
    out, caches = [], []
    state = {"h": h, "c": c}
    for t in range(x.shape[1]):
        state, cache = f.lstm_cell(x[:, t], state["h"], state["c"], w, u, b)
        out.append(state["h"])
        caches.append(cache)
    return (np.stack(out, 1), state), caches


def lstm_back(douts, caches, wrong=None):
    dy, dstate = douts
    d = dict(dstate)
    if wrong == "state unused":
        d = {key: 0 * value for key, value in d.items()}
    dx, total = [], None
    for t in reversed(range(len(caches))):
        d["h"] = d["h"] + dy[:, t] if wrong != "h dropped" else dy[:, t]
        if wrong == "c dropped" and t < len(caches) - 1:
            d["c"] = 0 * d["c"]
        step, dh, dc, *params = f.lstm_cell_back(d, caches[t], old=wrong != "new c")
        if wrong == "later h" and t + 1 < len(caches):
            params[1] = caches[t + 1][1].T @ _gates(d, caches[t])
        dx.append(step)
        d = {"h": dh, "c": dc}
        total = (
            params
            if total is None or wrong == "assigned"
            else [a + g for a, g in zip(total, params, strict=True)]
        )
    dx = np.stack(dx if wrong == "order of steps" else dx[::-1], 1)
    return dx, d["h"], d["c"], *total


def _gates(d, cache):
    """Upstream of the gates: the gradient of the bias for each row."""
    b = np.eye(len(cache[0]))
    rows = []
    for row in b:
        part = {key: value * row[:, None] for key, value in d.items()}
        rows.append(f.lstm_cell_back(part, cache)[-1])
    return np.stack(rows)
