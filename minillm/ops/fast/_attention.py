"""The products and passes between queries and keys, a few heads and a block of queries at a time.

Against the reference it saves: the keys that no query of a block may see; the pass that subtracts
the running maximum, where Cauchy and Schwarz bound every logit (`needs_peak`); and in backward the
passes that subtract the log-sum-exp and sum(dout * out), which ride along as one more column of the
products: [q, -lse] @ [k, 1].T = q @ k.T - lse.
"""

import numpy as np

from minillm.ops.fast._bounds import needs_peak

ROWS = 64  # queries that meet their keys at a time
PIECE = 1 << 18  # logits at a time: 1 MiB in float32


def attend(q, k, v, scale, causal, out):
    """Write softmax(scale * q @ k.T) @ v to `out`; all are views of any strides.

    q, out : (B, G, R, T, D), R query heads a key/value head; k, v : (B, G, S, D)
    causal needs T <= S. Returns lse (B, G, R, T, 1).
    """
    *_, T, _ = q.shape
    S = k.shape[2]
    lse = np.empty((*q.shape[:4], 1), q.dtype)
    ones = np.ones((S, 1), q.dtype)
    hide = hidden_corner(min(ROWS, T), q.dtype) if causal else None
    shift = needs_peak(q, k, scale)
    for part in head_pieces(q.shape, S):
        scaled = q[part] * q.dtype.type(scale)  # (b, g, R, T, D)
        keys = k[part].swapaxes(-1, -2)[:, :, None]  # (b, g, 1, D, S)
        values, mixed, sums = v[part][:, :, None], out[part], lse[part]
        buffer = np.empty(scaled[..., :1].size // T * min(ROWS, T) * S, q.dtype)
        for start in range(0, T, ROWS):
            rows = slice(start, min(start + ROWS, T))
            seen = rows.stop + S - T if causal else S
            weights = matmul_into(buffer, scaled[..., rows, :], keys[..., :seen])
            if causal:
                hide_future(weights, hide)
            if shift:
                peak = weights.max(-1, keepdims=True)
                weights -= peak
            np.exp(weights, out=weights)
            total = weights @ ones[:seen]  # (b, g, R, rows, 1)
            block = mixed[..., rows, :]
            np.matmul(weights, values[..., :seen, :], out=block)
            block *= 1 / total
            np.log(total, out=sums[..., rows, :])
            if shift:
                sums[..., rows, :] += peak
    return lse


def attend_backward(dout, q, k, v, out, lse, scale, causal, dq, dk, dv):
    """Write the gradients of `attend` to dq, dk, dv; the weights are made again from `lse`."""
    T = q.shape[3]
    S = k.shape[2]
    hide = hidden_corner(min(ROWS, T), q.dtype) if causal else None
    for part in head_pieces(q.shape, S):
        # forward: weights = exp(logits - lse); one more column subtracts lse in the product
        scaled, keys = with_column(q[part], -lse[part]), with_column(k[part], 1)
        scaled[..., :-1] *= scale
        # backward of softmax: dlogits = weights * (dout @ v.T - sum(dout * out))
        shared = np.vecdot(dout[part], out[part])[..., None]  # (b, g, R, T, 1)
        douts, values = with_column(dout[part], -shared), with_column(v[part], 1)
        keys_t = keys.swapaxes(-1, -2)[:, :, None]  # (b, g, 1, D + 1, S)
        values_t = values.swapaxes(-1, -2)[:, :, None]
        keys, dkeys, dvalues = k[part][:, :, None], dk[part], dv[part]
        dkeys[...], dvalues[...] = 0, 0
        size = scaled[..., :1].size // T * min(ROWS, T) * S
        buffer, other = np.empty(size, q.dtype), np.empty(size, q.dtype)
        for start in range(0, T, ROWS):
            rows = slice(start, min(start + ROWS, T))
            seen = rows.stop + S - T if causal else S
            weights = matmul_into(buffer, scaled[..., rows, :], keys_t[..., :seen])
            if causal:
                hide_future(weights, hide)
            np.exp(weights, out=weights)
            dlogits = matmul_into(other, douts[..., rows, :], values_t[..., :seen])
            dlogits *= weights
            dqueries = dq[part][..., rows, :]
            np.matmul(dlogits, keys[..., :seen, :], out=dqueries)
            dqueries *= scale
            # a key/value head sums over the R query heads that read it
            dkeys[..., :seen, :] += sum_group(dlogits, scaled[..., rows, :-1])
            dvalues[..., :seen, :] += sum_group(weights, douts[..., rows, :-1])


def head_pieces(shape, S):
    """Slices over batch and key/value heads so that a block's logits stay in the cache."""
    B, G, R, T, _ = shape
    heads = max(1, PIECE // max(1, R * min(ROWS, T) * S))
    if heads >= G:
        step = max(1, heads // G)
        return [(slice(b, b + step),) for b in range(0, B, step)]
    return [(slice(b, b + 1), slice(g, g + heads)) for b in range(B) for g in range(0, G, heads)]


def matmul_into(buffer, a, b):
    """a @ b in the front of a flat buffer."""
    shape = (*np.broadcast_shapes(a.shape[:-2], b.shape[:-2]), a.shape[-2], b.shape[-1])
    return np.matmul(a, b, out=buffer[: np.prod(shape)].reshape(shape))


def hidden_corner(n, dtype):
    """(n, n): -inf above the diagonal, 0 elsewhere."""
    return np.triu(np.full((n, n), -np.inf, dtype), 1)


def hide_future(logits, hide):
    """Hide the keys behind each query; the last key belongs to the last query of the block."""
    n = logits.shape[-2]
    logits[..., -n:] += hide[:n, :n]


def with_column(x, column):
    """x (..., D) with one more column: a contiguous (..., D + 1)."""
    wide = np.empty((*x.shape[:-1], x.shape[-1] + 1), x.dtype)
    wide[..., :-1] = x
    wide[..., -1:] = column
    return wide


def sum_group(left, right):
    """sum over the group's query heads of left.T @ right: (b, g, seen, D)."""
    products = left.swapaxes(-1, -2) @ right  # (b, g, R, seen, D)
    return products[:, :, 0] if products.shape[2] == 1 else products.sum(2)
