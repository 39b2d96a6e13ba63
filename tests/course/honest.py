"""Two solutions of the same functions, written apart from one another and from the reference."""

ANN = {
    "linear.py": """
import numpy as np

from _op import op


@op
def linear(x, weight, bias=None):
    out = np.einsum("...i,io->...o", x, weight)
    if bias is not None:
        out = out + bias
    saved = {"x": x, "w": weight, "b": bias is not None}
    return out, saved


@linear.defbackward
def linear_backward(dy, cache):
    x, w = cache["x"], cache["w"]
    rows = x.reshape(-1, x.shape[-1])
    grads = dy.reshape(-1, dy.shape[-1])
    dw = np.zeros_like(w)
    for row, grad in zip(rows, grads, strict=True):
        dw += np.outer(row, grad)
    db = None
    if cache["b"]:
        db = grads.sum(axis=0)
    return (grads @ w.T).reshape(x.shape), dw, db
""",
    "softmax.py": """
import numpy as np

from _op import op


@op
def softmax(x, *, axis=-1):
    top = np.max(x, axis=axis, keepdims=True)
    top[np.isneginf(top)] = 0
    e = np.exp(x - top)
    total = e.sum(axis=axis, keepdims=True)
    probs = np.divide(e, total, out=np.zeros_like(e), where=total > 0)
    return probs, {"p": probs, "axis": axis}


@softmax.defbackward
def softmax_backward(dy, cache):
    p = cache["p"]
    weighted = p * dy
    inner = np.sum(weighted, axis=cache["axis"], keepdims=True)
    return weighted - p * inner
""",
    "layer_norm.py": """
import numpy as np

from _op import op


@op
def layer_norm(x, gain, bias, *, eps=1e-5):
    n = x.shape[-1]
    mu = x.sum(axis=-1, keepdims=True) / n
    var = np.var(x, axis=-1, keepdims=True)
    std = np.sqrt(var + eps)
    xhat = (x - mu) / std
    return gain * xhat + bias, {"xhat": xhat, "std": std, "gain": gain, "n": n}


@layer_norm.defbackward
def layer_norm_backward(dy, cache):
    xhat, std, n = cache["xhat"], cache["std"], cache["n"]
    axes = tuple(range(dy.ndim - 1))
    dgain = (dy * xhat).sum(axis=axes)
    dbias = dy.sum(axis=axes)
    g = dy * cache["gain"]
    total = g.sum(axis=-1, keepdims=True)
    along = (g * xhat).sum(axis=-1, keepdims=True)
    dx = (n * g - total - xhat * along) / (n * std)
    return dx, dgain, dbias
""",
}

BEN = {
    "linear.py": """
import numpy

from _op import op


@op
def linear(x, weight, bias=None):
    y = numpy.matmul(x, weight)
    if bias is None:
        return y, (x, weight, False)
    return y + bias, (x, weight, True)


@linear.defbackward
def linear_backward(dy, cache):
    inputs, matrix, has_bias = cache
    leading = list(range(inputs.ndim - 1))
    dmatrix = numpy.tensordot(inputs, dy, axes=(leading, leading))
    dinputs = numpy.matmul(dy, numpy.swapaxes(matrix, 0, 1))
    if not has_bias:
        return dinputs, dmatrix, None
    return dinputs, dmatrix, dy.reshape(-1, dy.shape[-1]).sum(0)
""",
    "softmax.py": """
import numpy

from _op import op


@op
def softmax(x, *, axis=-1):
    rows = numpy.moveaxis(x, axis, -1)
    shifted = rows - numpy.maximum(rows.max(-1, keepdims=True), -1e300)
    powers = numpy.exp(shifted)
    sums = powers.sum(-1, keepdims=True)
    sums = numpy.where(sums == 0, 1, sums)
    result = numpy.moveaxis(powers / sums, -1, axis)
    return result, (result, axis)


@softmax.defbackward
def softmax_backward(dy, cache):
    result, axis = cache
    s = numpy.moveaxis(result, axis, -1)
    d = numpy.moveaxis(dy, axis, -1)
    dots = numpy.einsum("...i,...i->...", s, d)
    dx = s * (d - dots[..., None])
    return numpy.moveaxis(dx, -1, axis)
""",
    "layer_norm.py": """
import numpy

from _op import op


@op
def layer_norm(x, gain, bias, *, eps=1e-5):
    average = x.mean(axis=-1)[..., None]
    spread = ((x - average) ** 2).mean(axis=-1)[..., None]
    scale = (spread + eps) ** -0.5
    standard = (x - average) * scale
    return standard * gain + bias, (x, average, scale, gain)


@layer_norm.defbackward
def layer_norm_backward(dy, cache):
    x, average, scale, gain = cache
    deviation = x - average
    count = x.shape[-1]
    flat = dy.reshape(-1, count)
    dbias = flat.sum(0)
    dgain = (flat * (deviation * scale).reshape(-1, count)).sum(0)
    upstream = dy * gain
    dscale = (upstream * deviation).sum(axis=-1)[..., None]
    dspread = -0.5 * dscale * scale**3
    ddeviation = upstream * scale + 2 * deviation * dspread / count
    dx = ddeviation - ddeviation.mean(axis=-1)[..., None]
    return dx, dgain, dbias
""",
}
