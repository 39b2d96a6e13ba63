"""Wrong solutions of hw3."""

from tests.course.wrong import Wrong

DX = "    dx = dy @ weight.T  # (..., C_in)\n"
DWEIGHT = "x.reshape(-1, c_in).T @ dy.reshape(-1, c_out)"
DBIAS = "None if bias is None else sum_to_shape(dy, bias.shape)"
LARGEST = "np.where(largest == -np.inf, 0, largest)"
NORMED = "- normed * (dnormed * normed).mean(-1, keepdims=True)"
NUMERICAL_SOFTMAX = """
    x, h = cache[2], 1e-30
    columns = []
    x, dy = np.moveaxis(x, axis, -1).astype(complex), np.moveaxis(dy, axis, -1)
    for j in range(x.shape[-1]):
        z = x.copy()
        z[..., j] += 1j * h
        w = np.exp(z - z.real.max(-1, keepdims=True))
        columns.append(((w / w.sum(-1, keepdims=True)).imag / h * dy).sum(-1))
    return np.moveaxis(np.stack(columns, -1), -1, axis).astype(y.dtype)
"""


def linear(name, check, old, new):
    return Wrong(name, check, {"linear.py": [(old, new)]})


def softmax(name, check, *edits):
    return Wrong(name, check, {"softmax.py": list(edits)})


def log_softmax(name, check, old, new):
    return Wrong(name, f"log_softmax {check}", {"log_softmax.py": [(old, new)]})


def cross_entropy(name, check, old, new):
    return Wrong(name, f"cross_entropy {check}", {"cross_entropy.py": [(old, new)]})


def layer_norm(name, check, *edits):
    return Wrong(name, check, {"layer_norm.py": list(edits)})


WRONG = {
    "linear": [
        linear("the bias is subtracted", "forward", "y = y + bias", "y = y - bias"),
        linear("the weight is not transposed", "dx", "dy @ weight.T", "dy @ weight"),
        linear("zeros, as for a first layer", "dx", DX, "    dx = 0 * x\n"),
        linear("a mean over the rows", "dweight", DWEIGHT, f"{DWEIGHT} / (x.size / c_in)"),
        linear(
            "the last row's alone",
            "dweight",
            DWEIGHT,
            "x.reshape(-1, c_in)[-1:].T @ dy.reshape(-1, c_out)[-1:]",
        ),
        linear("no sum over the rows", "dbias", DBIAS, "None if bias is None else dy"),
        linear("a gradient without a bias", "dbias", DBIAS, "dy.reshape(-1, c_out).sum(0)"),
        linear(
            "one leading axis is always there",
            "edges",
            DBIAS,
            "None if bias is None else dy.reshape(-1, c_out).sum(0) * (x.ndim > 1)",
        ),
        linear(
            "float64 whatever came", "calls", DX, "    dx = (dy @ weight.T).astype('float64')\n"
        ),
        linear(
            "dy is written to",
            "calls",
            "    return dx, dweight",
            "    dbias = None if bias is None else 1 * dbias\n    dy *= 0\n    return dx, dweight",
        ),
    ],
    "softmax": [
        softmax("-inf less -inf", "extreme", (LARGEST, "largest")),
        softmax(
            "the sum runs over all axes",
            "forward",
            ("weights.sum(axis, keepdims=True)", "weights.sum()"),
        ),
        softmax(
            "the axis is forgotten",
            "forward",
            ("weights.sum(axis, keepdims=True)", "weights.sum(-1, keepdims=True)"),
        ),
        softmax(
            "the Jacobian's diagonal alone",
            "dx",
            ("y * (dy - (dy * y).sum(axis, keepdims=True))", "y * (1 - y) * dy"),
        ),
        softmax(
            "nearly right, as a central difference is",
            "dx",
            ("(dy * y).sum(axis, keepdims=True)", "(dy * y).sum(axis, keepdims=True) * (1 + 1e-8)"),
        ),
        softmax(
            "a complex step",
            "dx",
            ("return y, (y, axis)", "return y, (y, axis, x)"),
            ("    y, axis = cache\n", "    y, axis = cache[:2]\n" + NUMERICAL_SOFTMAX),
        ),
    ],
    "cross_entropy": [
        log_softmax("the base is 2", "forward", "np.log(total)", "np.log2(total)"),
        log_softmax(
            "no maximum is subtracted, and its logarithm is",
            "forward",
            "y = shifted - np.log(total)",
            "y = x - np.log(total)",
        ),
        log_softmax(
            "a softmax's diagonal",
            "dx",
            "dy - np.exp(y) * dy.sum(axis, keepdims=True)",
            "dy * (1 - np.exp(y))",
        ),
        cross_entropy(
            "a sum, no mean",
            "forward",
            "np.where(counted, nats, 0).sum() / count",
            "np.where(counted, nats, 0).sum()",
        ),
        cross_entropy(
            "ignored tokens count in the mean",
            "forward",
            "np.maximum(counted.sum(), 1)",
            "np.maximum(counted.size, 1)",
        ),
        cross_entropy("no smoothing", "forward", "    if label_smoothing:\n", "    if False:\n"),
        cross_entropy("dloss is taken for one", "dlogits", "dloss / count", "1 / count"),
        cross_entropy(
            "ignored tokens learn",
            "dlogits",
            "np.where(counted, dloss / count, 0)",
            "np.broadcast_to(dloss / count, counted.shape)",
        ),
        cross_entropy(
            "float64 whatever came", "calls", "wanted.astype(probs.dtype)", "wanted.astype(float)"
        ),
    ],
    "layer_norm": [
        layer_norm(
            "the deviation of a sample",
            "forward",
            (
                "(centred**2).mean(-1, keepdims=True)",
                "(centred**2).sum(-1, keepdims=True) / max(x.shape[-1] - 1, 1)",
            ),
        ),
        layer_norm(
            "eps outside the root",
            "forward",
            (
                "np.sqrt((centred**2).mean(-1, keepdims=True) + eps)",
                "(np.sqrt((centred**2).mean(-1, keepdims=True)) + eps)",
            ),
        ),
        layer_norm(
            "mean and deviation are constants",
            "dx",
            ("        - dnormed.mean(-1, keepdims=True)\n", ""),
            (NORMED, ""),
        ),
        layer_norm("the variance is a constant", "dx", (NORMED, "")),
        layer_norm(
            "the mean is a constant", "dx", ("        - dnormed.mean(-1, keepdims=True)\n", "")
        ),
        layer_norm(
            "means over all rows", "dx", ("- dnormed.mean(-1, keepdims=True)", "- dnormed.mean()")
        ),
        layer_norm(
            "gain and bias exchanged",
            "dgain",
            ("return dx, dgain, dbias", "return dx, dbias, dgain"),
        ),
        layer_norm(
            "dbias is multiplied by the gain",
            "dbias",
            ("dbias = sum_to_shape(dy, gain.shape)", "dbias = sum_to_shape(dy * gain, gain.shape)"),
        ),
        layer_norm(
            "a loop over the batch forgets that there may be none",
            "edges",
            (
                "dgain = sum_to_shape(dy * normed, gain.shape)",
                "dgain = (dy * normed).reshape(-1, len(gain)).sum(0) * (dy.ndim > 1)",
            ),
        ),
        layer_norm(
            "dy is written to",
            "calls",
            (
                "    dnormed = dy * gain",
                "    dbias = dbias.copy()\n    dy *= gain\n    dnormed = dy",
            ),
        ),
    ],
}
