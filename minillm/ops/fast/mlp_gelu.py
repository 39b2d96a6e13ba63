"""mlp_gelu: bias, GELU and its derivative in one run of passes between the two products."""

import numpy as np

from minillm.ops._op import check_shape, register
from minillm.ops._state import Registry
from minillm.ops.fast.gelu import gelu_rows
from minillm.ops.fast.linear import sum_rows


def mlp_gelu(x, weight_up, bias_up, weight_down, bias_down, *, approximate="tanh"):
    if approximate != "tanh":
        arguments = (x, weight_up, bias_up, weight_down, bias_down)
        y, saved = Registry.ops["mlp_gelu"]["numpy"][0](*arguments, approximate=approximate)
        return y, ("numpy", saved)
    check_shape("weight_up", weight_up, (x.shape[-1], None))
    check_shape("weight_down", weight_down, (weight_up.shape[1], None))
    rows = x.reshape(-1, x.shape[-1])  # (N, C)
    hidden = np.matmul(rows, weight_up)  # (N, F)
    derivative = np.empty_like(hidden)
    if bias_up is not None:
        check_shape("bias_up", bias_up, weight_up.shape[1:])
    gelu_rows(hidden, bias_up, derivative)
    y = np.matmul(hidden, weight_down)  # (N, C_out)
    if bias_down is not None:
        check_shape("bias_down", bias_down, weight_down.shape[1:])
        y += bias_down
    saved = (rows, hidden, derivative, weight_up, weight_down, bias_up, bias_down)
    return y.reshape(*x.shape[:-1], weight_down.shape[1]), (x.shape, saved)


def mlp_gelu_backward(dy, cache):
    shape, saved = cache
    if shape == "numpy":
        return Registry.ops["mlp_gelu"]["numpy"][1](dy, saved)
    rows, hidden, derivative, weight_up, weight_down, bias_up, bias_down = saved
    dys = dy.reshape(-1, weight_down.shape[1])  # (N, C_out)
    # forward: y = gelu(h) @ weight_down + bias_down
    dh = np.matmul(dys, weight_down.T)  # (N, F)
    dweight_down = np.matmul(hidden.T, dys)
    # forward: gelu(h), whose derivative was saved
    dh *= derivative
    # forward: h = x @ weight_up + bias_up
    dx = np.matmul(dh, weight_up.T).reshape(shape)
    dweight_up = np.matmul(rows.T, dh)
    dbias_up = None if bias_up is None else sum_rows(dh)
    dbias_down = None if bias_down is None else sum_rows(dys)
    return dx, dweight_up, dbias_up, dweight_down, dbias_down


register("mlp_gelu", "fast", mlp_gelu, mlp_gelu_backward)
