"""Generation with a GPT, one token after the other: keys and values are kept, not computed again.

What a token attends to never changes once it is there, so a step computes only the new rows and
reads the old keys and values from `past` (Shazeer 2019, arXiv:1911.02150, section 2.3). This is
the forward of gpt.py on a few rows, and no op: nothing is saved for a backward, and `past` is
written to.

A step on one row is so short that calling NumPy takes as long as the arithmetic: therefore few
calls, in place, and for that row functions of its own (`_norm_row`, `_attend_row`) without the
axes of batch and time.

Left out: going on beyond block_size, see LanguageModel.step.
"""

import math

import numpy as np

from minillm.ops.gelu import SQRT_2_OVER_PI

# GELU's numbers as arrays: NumPy converts a Python number anew at every call
GELU = {
    np.dtype(dtype): [np.array(x, dtype) for x in (0.044715 * SQRT_2_OVER_PI, SQRT_2_OVER_PI, 0.5)]
    for dtype in (np.float32, np.float64)
}


def start(params, config, batch, dtype=None):
    """The past of `batch` texts of which nothing has been read.

    Parameters
    ----------
    params, config : see gpt.init
    batch : int, B
    dtype : of the keys and values; None: the parameters'

    Returns
    -------
    past : dict
        "length": int, how many ids have been read; "heads" (L, B, 2 G, block_size, D): each
        layer's G heads of keys, then its G heads of values, of which the first `length` rows are
        there; "views": see _views; "turn": cos and sin of each position's angles,
        (block_size, D/2), None unless rotary; "mean" (C,): x.dot(mean) is the mean of x
    """
    C, D, T = config.n_embd, config.head_size, config.block_size
    dtype = params["wte"].dtype if dtype is None else np.dtype(dtype)
    heads = np.zeros((config.n_layer, batch, 2 * config.kv_heads, T, D), dtype)
    turn = None
    if config.position == "rotary":
        speed = config.rotary_base ** (-np.arange(D // 2) / (D // 2))  # (D/2,)
        angle = np.arange(T)[:, None] * speed  # (T, D/2)
        turn = np.cos(angle).astype(dtype), np.sin(angle).astype(dtype)
    mean = np.full(C, 1 / C, params["wte"].dtype)
    return {"length": 0, "heads": heads, "views": _views(heads), "turn": turn, "mean": mean}


def step(params, past, *, ids, config):
    """Read ids (B, n), n >= 1, and score what follows. Moves `past` on.

    Parameters
    ----------
    params, config : see gpt.init
    past : what `start` or `reorder` returned
    ids : (B, n) integers in [0, V): a prompt, a part of one, or the token chosen last

    Returns
    -------
    logits : (B, V), of the token after the last of ids

    Raises
    ------
    ValueError
        for ids of another batch, or more of them than the block has room for.
    """
    begin, batch = past["length"], past["heads"].shape[1]
    if ids.ndim != 2 or ids.shape[0] != batch or ids.shape[1] < 1:
        raise ValueError(f"ids must be ({batch}, n) with n >= 1, got shape {ids.shape}")
    n = ids.shape[1]
    end = begin + n
    if end > config.block_size:
        raise ValueError(f"{begin} ids read and {n} more do not fit block_size {config.block_size}")
    if batch * n == 1:
        norm, attend, layers = _norm_row, _attend_row, past["views"]
        ids, rows = ids[0, 0], begin
    else:
        norm, attend, layers = _norm_rows, _attend_rows, past["heads"]
        rows = slice(begin, end)
    x = params["wte"][ids]  # (B, n, C), or of a single row (C,)
    x = x + params["wpe"][rows] if "wpe" in params else x.copy()
    if x.ndim == 3:
        x = x.reshape(batch * n, -1)  # (N, C), the texts one below the other
    sizes = config.n_head, config.kv_heads, config.head_size
    turn, mean, eps = past["turn"], past["mean"], config.eps
    for block, heads in zip(params["blocks"], layers, strict=True):
        normed = norm(x, block["norm1"], mean, eps)
        x += attend(normed, block["attention"], heads, begin, end, turn, sizes)
        x += _think(norm(x, block["norm2"], mean, eps), block["mlp"])
    past["length"] = end
    if x.ndim == 2:
        x = x.reshape(batch, n, -1)[:, -1]  # (B, C), each text's last row
    hidden = norm(x, params["norm"], mean, eps)  # (B, C) or (C,)
    return hidden.dot(params.get("head", params["wte"]).T).reshape(batch, -1)


def reorder(past, index):
    """A new past whose text number b is the old one's number index[b]; beams are kept so."""
    length, old = past["length"], past["heads"]
    heads = np.zeros((len(old), len(index), *old.shape[2:]), old.dtype)
    heads[..., :length, :] = old[:, index, :, :length]
    return past | {"heads": heads, "views": _views(heads)}


def _views(heads):
    """Of the first text, each layer's heads (2 G, T, D), keys (G, D, T) and values (G, T, D)."""
    G = heads.shape[2] // 2
    return [(first, first[:G].swapaxes(1, 2), first[G:]) for first in heads[:, 0]]


def _attend_row(x, params, views, begin, end, turn, sizes):
    """Attention of a single row (C,) to all before it and itself; fills its place in `views`."""
    H, G, D = sizes
    heads, keys, values = views
    new = _linear(x, params["qkv"]).reshape(H + 2 * G, 1, D)
    if turn is not None:
        _turn(new[: H + G], turn[0][begin], turn[1][begin])
    heads[:, begin:end] = new[H:]
    q = new[:H].reshape(G, -1, D)  # (G, H/G, D): a group's queries share its keys
    q *= D**-0.5
    weights = q @ keys[:, :, :end]  # (G, H/G, end)
    weights -= np.maximum.reduce(weights, 2, keepdims=True)
    np.exp(weights, weights)
    mixed = weights @ values[:, :end]  # (G, H/G, D)
    mixed /= np.add.reduce(weights, 2, keepdims=True)
    return _linear(mixed.reshape(H * D), params["out"])


def _attend_rows(x, params, heads, begin, end, turn, sizes):
    """The same of the rows begin to end of every text, x (B n, C), into `heads` (B, 2 G, T, D)."""
    H, G, D = sizes
    batch, n = len(heads), end - begin
    new = _linear(x, params["qkv"]).reshape(batch, n, H + 2 * G, D).swapaxes(1, 2)
    if turn is not None:
        _turn(new[:, : H + G], turn[0][begin:end], turn[1][begin:end])
    heads[:, :, begin:end] = new[:, H:]
    q = new[:, :H].reshape(batch, G, -1, D)  # (B, G, H/G n, D)
    q *= D**-0.5
    weights = q @ heads[:, :G, :end].swapaxes(2, 3)  # (B, G, H/G n, end)
    if n > 1:
        future = np.arange(end) > np.arange(begin, end)[:, None]  # (n, end)
        weights.reshape(batch, H, n, end)[:, :, future] = -np.inf
    weights -= np.maximum.reduce(weights, 3, keepdims=True)
    np.exp(weights, weights)
    mixed = weights @ heads[:, G:, :end]  # (B, G, H/G n, D)
    mixed /= np.add.reduce(weights, 3, keepdims=True)
    joined = mixed.reshape(batch, H, n, D).swapaxes(1, 2).reshape(batch * n, H * D)
    return _linear(joined, params["out"])


def _think(x, params):
    """The feed-forward layer, GELU's (its tanh form) or SwiGLU's."""
    wide = _linear(x, params["up"])  # (B n, F)
    cube, linear, half = GELU[wide.dtype]
    if "gate" in params:
        gate = _linear(x, params["gate"])  # (B n, F)
        # silu(g) = g sigmoid(g) = g (1 + tanh(g / 2)) / 2; tanh cannot overflow
        bent = np.tanh(half * gate)
        wide *= gate
    else:
        bent = wide * wide
        bent *= cube
        bent += linear
        bent *= wide
        np.tanh(bent, bent)
    # both are wide (1 + tanh) / 2
    bent *= wide
    bent += wide
    bent *= half
    return _linear(bent, params["down"])


def _linear(x, params):
    y = x.dot(params["weight"])
    bias = params.get("bias")
    if bias is not None:
        y += bias
    return y


def _norm_row(x, params, mean, eps):
    """Layer norm where there is a bias, else RMSNorm, of a single row (C,)."""
    bias = params.get("bias")
    y = x - x.dot(mean) if bias is not None else x.copy()
    y *= params["gain"] * (1 / math.sqrt(y.dot(y) / len(y) + eps))
    if bias is not None:
        y += bias
    return y


def _norm_rows(x, params, mean, eps):
    """The same of each row of x (N, C)."""
    bias = params.get("bias")
    y = x - x.dot(mean)[:, None] if bias is not None else x.copy()
    y /= np.sqrt(np.vecdot(y, y) / len(mean) + eps)[:, None]
    y *= params["gain"]
    if bias is not None:
        y += bias
    return y


def _turn(x, cos, sin):
    """Rotary positions in place, see ops/rotary.py; x (B, heads, n, D), cos and sin (n, D/2)."""
    half = x.shape[-1] // 2
    x1, x2 = x[..., :half], x[..., half:].copy()
    x[..., half:] = x2 * cos + x1 * sin
    x1 *= cos
    x1 -= x2 * sin
