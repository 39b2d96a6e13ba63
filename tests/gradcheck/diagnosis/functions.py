"""Small functions with right backwards, for the wrong ones to be made from.

Each pair is forward(*args, **kwargs) -> (out, cache) and backward(dout, cache) -> gradients.
"""

import numpy as np


def affine(x, weight, bias):
    return x @ weight + bias, (x, weight)


def affine_back(dy, cache):
    x, weight = cache
    return dy @ weight.T, x.T @ dy, dy.sum(0)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    y = e / e.sum(-1, keepdims=True)
    return y, y


def softmax_back(dy, y):
    return y * (dy - (dy * y).sum(-1, keepdims=True))


def log_softmax(x):
    y = x - x.max(-1, keepdims=True)
    y = y - np.log(np.exp(y).sum(-1, keepdims=True))
    return y, y


def norm(x, gain, bias, *, axis=-1, eps=1e-5):
    """Layer norm over the last axis; batch norm over the first."""
    centred = x - x.mean(axis, keepdims=True)
    inv = 1 / np.sqrt((centred**2).mean(axis, keepdims=True) + eps)
    n = centred * inv
    return n * gain + bias, (n, inv, gain, axis)


def norm_back(dy, cache, mean=1.0, normed=1.0, scale=True, inverse=True):
    n, inv, gain, axis = cache
    dn = dy * gain if scale else dy
    dx = dn - mean * dn.mean(axis, keepdims=True) - normed * n * (dn * n).mean(axis, keepdims=True)
    lead = tuple(range(dy.ndim - 1))
    return (inv * dx if inverse else dx), (dy * n).sum(lead), dy.sum(lead)


def rms(x, gain, *, eps=1e-5):
    inv = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)
    return x * inv * gain, (x, inv, gain)


def rms_back(dy, cache, normed=1.0):
    x, inv, gain = cache
    n, dn = x * inv, dy * gain
    dx = inv * (dn - normed * n * (dn * n).mean(-1, keepdims=True))
    return dx, (dy * n).sum(tuple(range(dy.ndim - 1)))


def attention(q, k, v, *, scale, causal=False):
    """q (B, T, D), k (B, S, D), v (B, S, E)."""
    scores = scale * q @ k.swapaxes(1, 2)
    if causal:
        scores = np.where(np.tri(q.shape[1], k.shape[1], dtype=bool), scores, -np.inf)
    p, _ = softmax(scores)
    return p @ v, (q, k, v, p, scale)


def attention_back(dy, cache, subtract=1.0, scaled=True):
    q, k, v, p, scale = cache
    dp = dy @ v.swapaxes(1, 2)
    ds = p * (dp - subtract * (dp * p).sum(-1, keepdims=True)) * (scale if scaled else 1)
    return ds @ k, ds.swapaxes(1, 2) @ q, p.swapaxes(1, 2) @ dy


def grouped(q, k, *, group):
    """Scores of query heads (H, T, D) with key heads (H / group, S, D) that they share."""
    return q @ np.repeat(k, group, 0).swapaxes(1, 2), (q, k, group)


def grouped_back(dy, cache):
    q, k, group = cache
    dk = (dy.swapaxes(1, 2) @ q).reshape(len(k), group, *k.shape[1:]).sum(1)
    return dy @ np.repeat(k, group, 0), dk


def embedding(weight, *, ids):
    return weight[ids], (ids, weight.shape)


def embedding_back(dy, cache):
    ids, shape = cache
    dweight = np.zeros(shape)
    np.add.at(dweight, ids, dy)
    return dweight


def rnn(x, h, w, u, b):
    """x (B, T, C), h (B, K): h_t = tanh(x_t w + h_{t-1} u + b)."""
    states = [h]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ w + states[-1] @ u + b))
    return np.stack(states[1:], 1), (x, states, w, u)


def rnn_back(dy, cache, keep=True, add=True, late=0, derive=True, first=0):
    x, states, w, u = cache
    dx, dw, du = np.zeros_like(x), np.zeros_like(w), np.zeros_like(u)
    dh, db = np.zeros_like(states[0]), np.zeros(u.shape[1])
    for t in range(x.shape[1] - 1, first - 1, -1):
        dz = (dy[:, t] + (dh if keep else 0)) * ((1 - states[t + 1] ** 2) if derive else 1)
        dx[:, t] = dz @ w.T
        one, two, three = x[:, t].T @ dz, states[t + late].T @ dz, dz.sum(0)
        dw, du, db = (dw + one, du + two, db + three) if add else (one, two, three)
        dh = dz @ u.T
    return dx, dh, dw, du, db


def lstm_cell(x, h, c, w, u, b):
    """Gates i, f, g, o in the columns of w (C, 4K), u (K, 4K) and b (4K,)."""
    z = x @ w + h @ u + b
    k = c.shape[1]
    i, f, o = (1 / (1 + np.exp(-z[:, s : s + k])) for s in (0, k, 3 * k))
    g = np.tanh(z[:, 2 * k : 3 * k])
    new = f * c + i * g
    return {"h": o * np.tanh(new), "c": new}, (x, h, c, w, u, i, f, g, o, new)


def lstm_cell_back(
    d, cache, old=True, turned=None, g_sigmoid=False, order=(0, 1, 2, 3), use_c=True
):
    x, h, c, w, u, i, f, g, o, new = cache
    t = np.tanh(new)
    dnew = (d["c"] if use_c else 0) + d["h"] * o * (1 - t**2)
    before = c if old else new
    dg = dnew * i * (g * (1 - g) if g_sigmoid else 1 - g**2)
    gates = [dnew * g * i * (1 - i), dnew * before * f * (1 - f), dg, d["h"] * t * o * (1 - o)]
    if turned is not None:
        gates[turned] = -gates[turned]
    dz = np.concatenate([gates[j] for j in order], 1)
    return dz @ w.T, dz @ u.T, dnew * f, x.T @ dz, h.T @ dz, dz.sum(0)


def conv(x, w):
    """Valid convolution of x (T, C) with w (K, C, F)."""
    steps = len(x) - len(w) + 1
    return sum(x[j : j + steps] @ w[j] for j in range(len(w))), (x, w, steps)


def conv_back(dy, cache, add=True, kernel=1):
    x, w, steps = cache
    dx = np.zeros_like(x)
    for t in range(steps):
        window = np.einsum("kcf,f->kc", w[::kernel], dy[t])
        dx[t : t + len(w)] = window + (dx[t : t + len(w)] if add else 0)
    return dx, np.stack([x[j : j + steps].T @ dy for j in range(len(w))])


def max_pool(x, *, width):
    """Maximum over blocks of `width` along the first axis of x (T, C)."""
    blocks = x.reshape(len(x) // width, width, -1)
    return blocks.max(1), (blocks == blocks.max(1, keepdims=True), x.shape)


def max_pool_back(dy, cache):
    chosen, shape = cache
    return (chosen * dy[:, None]).reshape(shape)


def cross_entropy(logits, *, targets, ignore=-1):
    """Mean over the rows that count."""
    logp, _ = log_softmax(logits)
    count = targets != ignore
    rows = np.flatnonzero(count)
    return -logp[rows, targets[rows]].mean(), (np.exp(logp), targets, count)


def cross_entropy_back(d, cache, hot=1.0, mean=True, ignored=True):
    p, targets, count = cache
    dx = p.copy()
    dx[np.arange(len(p)), targets] -= hot
    return d * dx * (count[:, None] if ignored else 1) / (count.sum() if mean else 1)


def mlp(x, w1, b1, w2, b2):
    z = x @ w1 + b1
    a = np.tanh(z)
    return a @ w2 + b2, (x, w1, a, w2)


def mlp_back(dy, cache, derivative=lambda a: 1 - a * a):
    x, w1, a, w2 = cache
    dz = dy @ w2.T * derivative(a)
    return dz @ w1.T, x.T @ dz, dz.sum(0), a.T @ dy, dy.sum(0)


def residual(x, w, b):
    """x + relu(x w + b), w square."""
    z = x @ w + b
    return x + np.maximum(z, 0), (x, w, z)


def residual_back(dy, cache, skip=True, gate=True):
    x, w, z = cache
    dz = dy * (z > 0) if gate else dy
    return dz @ w.T + (dy if skip else 0), x.T @ dz, dz.sum(0)


def tied(weight, b, *, ids):
    """Scores of every word after each of ids, with one matrix for both ends."""
    h = np.tanh(weight[ids])
    return h @ weight.T + b, (weight, h, ids)


def tied_back(dy, cache, head=True, inner=True):
    weight, h, ids = cache
    dweight = dy.T @ h if head else np.zeros_like(weight)
    if inner:
        np.add.at(dweight, ids, dy @ weight * (1 - h * h))
    return dweight, dy.sum(0)
