"""add_layer_norm: the residual sum joins layer norm's passes over a piece."""

import numpy as np

from minillm.ops._op import check_shape, register
from minillm.ops.fast.layer_norm import normalise_rows, normalise_rows_backward


def add_layer_norm(x, residual, gain, bias, *, eps=1e-5):
    check_shape("residual", residual, x.shape)
    check_shape("gain", gain, x.shape[-1:])
    check_shape("bias", bias, x.shape[-1:])
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    total = np.empty(rows.shape, rows.dtype)
    y, saved = normalise_rows(rows, residual.reshape(rows.shape), total, gain, bias, eps)
    return (y.reshape(x.shape), total.reshape(x.shape)), (*saved, gain, x.shape)


def add_layer_norm_backward(dout, cache):
    normed, inv_std, gain, shape = cache
    dy, dtotal = (None if d is None else d.reshape(normed.shape) for d in dout)
    if dy is None:
        dx = np.zeros_like(normed) if dtotal is None else dtotal.copy()
        dgain, dbias = np.zeros_like(gain), np.zeros_like(gain)
    else:
        dx, dgain, dbias = normalise_rows_backward(dy, dtotal, normed, inv_std, gain)
    dx = dx.reshape(shape)
    # forward: total = x + residual
    return dx, dx, dgain, dbias


register("add_layer_norm", "fast", add_layer_norm, add_layer_norm_backward)
