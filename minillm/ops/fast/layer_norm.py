"""layer_norm, all passes over a piece of rows while it is in the cache."""

import numpy as np

from minillm.ops._op import check_shape, register
from minillm.ops.fast._pieces import pieces


def layer_norm(x, gain, bias, *, eps=1e-5):
    check_shape("gain", gain, x.shape[-1:])
    check_shape("bias", bias, x.shape[-1:])
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    y, saved = normalise_rows(rows, None, None, gain, bias, eps)
    return y.reshape(x.shape), (*saved, gain)


def normalise_rows(rows, residual, total, gain, bias, eps):
    """Layer norm of `rows`, or of `rows + residual` which is then written to `total`."""
    n, width = rows.shape
    normed, y = np.empty((n, width), rows.dtype), np.empty((n, width), rows.dtype)
    inv_std = np.empty((n, 1), rows.dtype)
    average = np.full((width, 1), 1 / width, rows.dtype)
    gains, biases = tile(gain, n), tile(bias, n)
    for piece in pieces(n, width):
        xs = rows[piece]
        if residual is not None:
            xs = np.add(xs, residual[piece], out=total[piece])
        centred = np.subtract(xs, xs @ average, out=normed[piece])
        squares = np.multiply(centred, centred, out=y[piece])
        scale = squares @ average  # (piece, 1), the variance
        scale += eps
        np.sqrt(scale, out=scale)
        np.divide(1, scale, out=inv_std[piece])
        centred *= inv_std[piece]
        np.multiply(centred, gains[: len(xs)], out=y[piece])
        y[piece] += biases[: len(xs)]
    return y, (normed, inv_std)


def tile(row, n):
    """As many copies of a row as a piece has rows: a pass over two full arrays has one long loop
    where a broadcast row has a short one for every row."""
    rows = next(pieces(n, len(row)), slice(0, 0)).stop
    return np.tile(row, (rows, 1))


def layer_norm_backward(dy, cache):
    normed, inv_std, gain = cache
    drows = dy.reshape(normed.shape)
    dx, dgain, dbias = normalise_rows_backward(drows, None, normed, inv_std, gain)
    return dx.reshape(dy.shape), dgain, dbias


def normalise_rows_backward(dy, dtotal, normed, inv_std, gain):
    """The reverse of `normalise_rows`; `dtotal` is what flows into the sum from elsewhere."""
    n, width = normed.shape
    dx = np.empty((n, width), normed.dtype)
    dgain, dbias = np.zeros(width, normed.dtype), np.zeros(width, normed.dtype)
    gain_average = (gain / width)[:, None]  # (C, 1): dy @ it = mean(dnormed)
    gains = tile(gain, n)
    work = np.empty_like(gains)
    for piece in pieces(n, width):
        dys, ns, out = dy[piece], normed[piece], dx[piece]
        ones = np.ones(len(ns), normed.dtype)
        # forward: y = normed * gain + bias
        product = np.multiply(dys, ns, out=work[: len(ns)])  # dy * normed
        dgain += ones @ product
        dbias += ones @ dys
        # forward: normed = (x - mean) * inv_std, with dnormed = dy * gain:
        # dx = inv_std * (dnormed - mean(dnormed) - normed * mean(dnormed * normed))
        share = product @ gain_average  # (piece, 1): mean(dnormed * normed)
        mean = dys @ gain_average  # (piece, 1)
        np.multiply(ns, share, out=product)
        product += mean
        np.multiply(dys, gains[: len(ns)], out=out)
        out -= product
        out *= inv_std[piece]
        if dtotal is not None:
            out += dtotal[piece]
    return dx, dgain, dbias


register("layer_norm", "fast", layer_norm, layer_norm_backward)
