"""The products and passes between queries and keys, a few heads and a block of queries at a time.

Against the reference it saves: the keys that no query of a block may see; the passes that find and
subtract a query's largest logit, unless the sum of the exponentials shows the need; and in backward
the passes that subtract the log-sum-exp and sum(dout * out), which ride along as one more row of
the products: [k, 1] @ [q, -lse].T = k @ q.T - lse.

Logits stand transposed, a row for each key: of the three forms of a product, A @ B.T is by far
the slowest on matrices as small as a head's, and so none of the seven here has it.
"""

import numpy as np

from minillm.ops.fast._safe import is_safe

ROWS = 64  # queries that meet their keys at a time
PIECE = 1 << 17  # logits at a time: 512 KiB in float32


def attend(q, k, v, scale, causal, out):
    """Write softmax(scale * q @ k.T) @ v to `out`; all are views of any strides.

    q, out : (B, G, R, T, D), R query heads a key/value head; k, v : (B, G, S, D)
    causal needs T <= S. Returns the log-sum-exp (B, G, R, 1, T).
    """
    T, S = q.shape[3], k.shape[2]
    lse = np.empty((*q.shape[:3], 1, T), q.dtype)
    ones = np.ones((1, S), q.dtype)
    hide = hidden_corner(min(ROWS, T), q.dtype) if causal else None
    for part in head_pieces(q.shape, S):
        scaled = np.multiply(q[part].swapaxes(-1, -2), scale, order="C")  # (b, g, R, D, T)
        keys, values = k[part][:, :, None], v[part][:, :, None]  # (b, g, 1, S, D)
        mixed, sums = out[part], lse[part]
        buffer = np.empty(scaled[..., 0, 0].size * min(ROWS, T) * S, q.dtype)
        for start in range(0, T, ROWS):
            rows = slice(start, min(start + ROWS, T))
            seen = rows.stop + S - T if causal else S
            logits = block_logits(buffer, keys[..., :seen, :], scaled[..., rows], hide)
            with np.errstate(over="ignore", invalid="ignore"):
                weights = np.exp(logits, out=logits)
                total = ones[:, :seen] @ weights  # (b, g, R, 1, rows)
            peak = 0
            if not is_safe(total):
                logits = block_logits(buffer, keys[..., :seen, :], scaled[..., rows], hide)
                peak = logits.max(-2, keepdims=True)
                logits -= peak
                weights = np.exp(logits, out=logits)
                total = ones[:, :seen] @ weights
            block = mixed[..., rows, :]
            np.matmul(weights.swapaxes(-1, -2), values[..., :seen, :], out=block)
            block *= (1 / total).swapaxes(-1, -2)
            np.add(np.log(total), peak, out=sums[..., rows])
    return lse


def attend_backward(dout, q, k, v, out, lse, scale, causal, dq, dk, dv):
    """Write the gradients of `attend` to dq, dk, dv; the weights are made again from `lse`."""
    T, S = q.shape[3], k.shape[2]
    hide = hidden_corner(min(ROWS, T), q.dtype) if causal else None
    for part in head_pieces(q.shape, S):
        queries, douts, dqueries = q[part], dout[part], dq[part]
        # forward: weights = exp(logits - lse); one more row subtracts lse in the product
        scaled = with_row(queries.swapaxes(-1, -2), -lse[part], scale)  # (b, g, R, D + 1, T)
        # backward of softmax: dlogits = weights * (dout @ v.T - sum(dout * out))
        shared = np.vecdot(douts, out[part])[..., None, :]  # (b, g, R, 1, T)
        douts_t = with_row(douts.swapaxes(-1, -2), -shared)
        keys, values = with_ones(k[part])[:, :, None], with_ones(v[part])[:, :, None]
        dkeys, dvalues = dk[part], dv[part]
        size = scaled[..., 0, 0].size * min(ROWS, T) * S
        buffer, other = np.empty(size, q.dtype), np.empty(size, q.dtype)
        # the last queries first: they see every key, so that the others find something to add to
        for start in reversed(range(0, T, ROWS)):
            rows = slice(start, min(start + ROWS, T))
            seen = rows.stop + S - T if causal else S
            logits = block_logits(buffer, keys[..., :seen, :], scaled[..., rows], hide)
            weights = np.exp(logits, out=logits)
            dlogits = matmul_into(other, values[..., :seen, :], douts_t[..., rows])
            dlogits *= weights
            block = dqueries[..., rows, :]
            np.matmul(dlogits.swapaxes(-1, -2), k[part][:, :, None, :seen], out=block)
            block *= scale
            # a key/value head sums over the R query heads that read it
            add = rows.stop < T
            sum_group(dlogits, queries[..., rows, :], dkeys[..., :seen, :], add)
            sum_group(weights, douts[..., rows, :], dvalues[..., :seen, :], add)
        dkeys *= scale


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
    """(n, n): -inf below the diagonal, where a key comes after the query; 0 elsewhere."""
    return np.tril(np.full((n, n), -np.inf, dtype), -1)


def block_logits(buffer, keys, queries_t, hide):
    """The logits (..., seen, rows) of a block; its last key belongs to its last query."""
    logits = matmul_into(buffer, keys, queries_t)
    if hide is not None:
        n = logits.shape[-1]
        logits[..., -n:, :] += hide[:n, :n]
    return logits


def with_row(x, row, scale=1):
    """scale * x (..., D, T) with one more row (..., 1, T) below: a contiguous (..., D + 1, T)."""
    tall = np.empty((*x.shape[:-2], x.shape[-2] + 1, x.shape[-1]), x.dtype)
    np.multiply(x, scale, out=tall[..., :-1, :])
    tall[..., -1:, :] = row
    return tall


def with_ones(x):
    """x (..., S, D) with one more column, of ones: a contiguous (..., S, D + 1)."""
    wide = np.empty((*x.shape[:-1], x.shape[-1] + 1), x.dtype)
    wide[..., :-1] = x
    wide[..., -1] = 1
    return wide


def sum_group(left, right, out, add):
    """Set `out` (b, g, seen, D) to left @ right, summed over a group's R query heads, or add it."""
    if left.shape[2] == 1 and not add:
        np.matmul(left[:, :, 0], right[:, :, 0], out=out)
        return
    products = left @ right  # (b, g, R, seen, D)
    total = products[:, :, 0] if left.shape[2] == 1 else products.sum(2)
    if add:
        out += total
    else:
        out[...] = total
