"""The op add_layer_norm of the backend "cupy": the sum and its norm in one pass over the rows."""

import numpy as np

from minillm.ops._op import check_shape, register
from minillm_kernels.cuda._rows import as_rows, check_reachable
from minillm_kernels.cuda.layer_norm import REGISTERS, backward, best_rung, forward

__all__ = ["add_layer_norm", "add_layer_norm_backward"]


def add_layer_norm(x, residual, gain, bias, *, eps=1e-5):
    check_reachable("add_layer_norm", x=x, residual=residual, gain=gain, bias=bias)
    check_shape("residual", residual, x.shape)
    check_shape("gain", gain, x.shape[-1:])
    check_shape("bias", bias, x.shape[-1:])
    a, b = as_rows("x", x), as_rows("residual", residual)  # (N, C)
    gain, bias = (np.ascontiguousarray(p, like=p) for p in (gain, bias))
    rung = best_rung(a, b, gain, bias)
    if rung is REGISTERS:
        (y, total), saved = forward(rung, a, gain, bias, eps=eps, residual=b)
    else:  # rows too long for the registers
        total = a + b
        y, saved = forward(rung, total, gain, bias, eps=eps)
    return (y.reshape(x.shape), total.reshape(x.shape)), (saved, x.shape)


def add_layer_norm_backward(dout, cache):
    saved, shape = cache
    total, gain = saved[:2]
    dy, dtotal = (None if d is None else as_rows("dout", d) for d in dout)  # (N, C)
    if dy is None:
        dy = np.zeros_like(total)
    rung = best_rung(dy, total, gain)
    if rung is REGISTERS:
        dx, dgain, dbias = backward(rung, dy, saved, dtotal=dtotal)
    else:
        dx, dgain, dbias = backward(rung, dy, saved)
        if dtotal is not None:
            dx += dtotal
    dx = dx.reshape(shape)
    return dx, dx, dgain, dbias


register("add_layer_norm", "cupy", add_layer_norm, add_layer_norm_backward)
