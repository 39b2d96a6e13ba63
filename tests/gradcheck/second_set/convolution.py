"""Convolutions, by columns and by loops, and pooling."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different


def columns(x, k, stride):
    """(N, C, H, W) to (N, C, k, k, Ho, Wo)."""
    n, c, h, w = x.shape
    ho, wo = (h - k) // stride + 1, (w - k) // stride + 1
    cols = np.empty((n, c, k, k, ho, wo))
    for i in range(k):
        for j in range(k):
            cols[:, :, i, j] = x[:, :, i : i + stride * ho : stride, j : j + stride * wo : stride]
    return cols


def image(cols, shape, stride, add=True):
    """The way back: each column's values added where they came from."""
    x = np.zeros(shape)
    k, (ho, wo) = cols.shape[2], cols.shape[4:]
    for i in range(k):
        for j in range(k):
            part = np.s_[:, :, i : i + stride * ho : stride, j : j + stride * wo : stride]
            x[part] = x[part] + cols[:, :, i, j] if add else cols[:, :, i, j]
    return x


def conv2d(x, w, b, *, stride=1, pad=1):
    """x (N, C, H, W), w (F, C, k, k), b (F,)."""
    padded = np.pad(x, ((0, 0), (0, 0), (pad, pad), (pad, pad)))
    cols = columns(padded, w.shape[2], stride)
    out = np.einsum("ncijhw,fcij->nfhw", cols, w) + b[:, None, None]
    return out, (padded, cols, w, stride, pad)


def conv2d_padded_dx(dout, cache, add=True):
    padded, _, w, stride, _ = cache
    return image(np.einsum("nfhw,fcij->ncijhw", dout, w), padded.shape, stride, add)


def conv2d_backward(dout, cache):
    _, cols, _, _, pad = cache
    dx = conv2d_padded_dx(dout, cache)[:, :, pad:-pad, pad:-pad]
    return dx, np.einsum("nfhw,ncijhw->fcij", dout, cols), dout.sum((0, 2, 3))


def conv2d_case(rng):
    n, c, f = different(rng, 3, 2, 4)
    shapes = [(n, c, 5, 6), (f, c, 3, 3), (f,)]
    return [rng.standard_normal(s) for s in shapes], {"stride": 1 + int(rng.integers(2))}


CONV2D = Subject(conv2d, conv2d_backward, conv2d_case)


@CONV2D.wrong("overwritten", "col2im with = where windows overlap.")
def windows_overwrite(dout, cache):
    pad = cache[-1]
    dx = conv2d_padded_dx(dout, cache, add=False)[:, :, pad:-pad, pad:-pad]
    return (dx, *conv2d_backward(dout, cache)[1:])


@CONV2D.wrong("shape", "The padding isn't cut off again.")
def padding_left_on(dout, cache):
    return (conv2d_padded_dx(dout, cache), *conv2d_backward(dout, cache)[1:])


@CONV2D.wrong("missing_sum", "The bias summed over the batch, not over the positions.")
def bias_for_each_position(dout, cache):
    return (*conv2d_backward(dout, cache)[:2], dout.sum(0))


@CONV2D.wrong("transposed", "The kernel's rows and columns exchanged in its gradient.")
def kernels_rows_for_columns(dout, cache):
    dx, dw, db = conv2d_backward(dout, cache)
    return dx, dw.swapaxes(2, 3), db


@CONV2D.wrong("overwritten", "The loop over the samples writes dw anew.")
def last_sample_alone(dout, cache):
    dx, _, db = conv2d_backward(dout, cache)
    for d, cols in zip(dout, cache[1], strict=True):
        dw = np.einsum("fhw,cijhw->fcij", d, cols)
    return dx, dw, db


@CONV2D.wrong(None, "The kernel turned by 180 degrees once too often in dx.")
def kernel_turned(dout, cache):
    padded, cols, w, stride, pad = cache
    turned = (padded, cols, w[:, :, ::-1, ::-1], stride, pad)
    dx = conv2d_padded_dx(dout, turned)[:, :, pad:-pad, pad:-pad]
    return (dx, *conv2d_backward(dout, cache)[1:])


def conv1d(x, w):
    """A causal convolution by loops, x (N, T, C), w (K, C, F)."""
    out = np.zeros((*x.shape[:2], w.shape[2]))
    for t in range(x.shape[1]):
        for k in range(min(len(w), t + 1)):
            out[:, t] += x[:, t - k] @ w[k]
    return out, (x, w)


def conv1d_backward(dout, cache, turn=1, late=0):
    x, w = cache
    dx, dw = np.zeros_like(x), np.zeros_like(w)
    for t in range(x.shape[1]):
        for k in range(min(len(w), t + 1)):
            dx[:, t - k] += dout[:, t] @ w[::turn][k].T
            dw[k] += x[:, max(t - k - late, 0)].T @ dout[:, t]
    return dx, dw


def conv1d_case(rng):
    n, c, f = different(rng, 3, 2, 4)
    return [rng.standard_normal((n, 6, c)), rng.standard_normal((3, c, f))], {}


CONV1D = Subject(conv1d, conv1d_backward, conv1d_case)


@CONV1D.wrong("wrong_step", "The kernel's gradient with the input of a step before.")
def input_one_step_before(dout, cache):
    return conv1d_backward(dout, cache)[0], conv1d_backward(dout, cache, late=1)[1]


@CONV1D.wrong("overwritten", "dx[t - k] = where three outputs reach back to it.")
def last_output_alone(dout, cache):
    x, w = cache
    dx = np.zeros_like(x)
    for t in range(x.shape[1]):
        for k in range(min(len(w), t + 1)):
            dx[:, t - k] = dout[:, t] @ w[k].T
    return dx, conv1d_backward(dout, cache)[1]


@CONV1D.wrong("part_wrong", "The loop over the taps ends one too early.")
def last_tap_left_out(dout, cache):
    dx, dw = conv1d_backward(dout, cache)
    dw[-1] = 0
    return dx, dw


def max_pool(x, *, k=2):
    """Windows without overlap, (N, C, H, W)."""
    n, c, h, w = x.shape
    windows = x.reshape(n, c, h // k, k, w // k, k)
    out = windows.max((3, 5))
    return out, (windows, out, k)


def spread(dout, k):
    return dout[:, :, :, None, :, None] * np.ones((k, 1, k))


def pooled_shape(d):
    n, c, h, i, w, j = d.shape
    return d.reshape(n, c, h * i, w * j)


def max_pool_backward(dout, cache):
    windows, out, k = cache
    return pooled_shape(spread(dout, k) * (windows == out[:, :, :, None, :, None]))


def pool_case(rng):
    n, c = different(rng, 2, 2, 4)
    return [rng.standard_normal((n, c, 4, 6))], {}


MAX_POOL = Subject(max_pool, max_pool_backward, pool_case)


@MAX_POOL.wrong("mask_forgotten", "All of the window gets the gradient, not its maximum alone.")
def to_all_of_the_window(dout, cache):
    return pooled_shape(spread(dout, cache[2]))


@MAX_POOL.wrong(None, "The gradient goes to each window's upper left corner.")
def to_the_corner(dout, cache):
    dx = np.zeros_like(cache[0])
    dx[:, :, :, 0, :, 0] = dout
    return pooled_shape(dx)


def average_pool(x, *, k=2):
    n, c, h, w = x.shape
    return x.reshape(n, c, h // k, k, w // k, k).mean((3, 5)), k


AVERAGE_POOL = Subject(
    average_pool, lambda dout, k: pooled_shape(spread(dout, k)) / k**2, pool_case
)


@AVERAGE_POOL.wrong("factor", "The window's size is left out.")
def not_over_the_window(dout, k):
    return pooled_shape(spread(dout, k))


@AVERAGE_POOL.wrong("factor", "Over k, not over k times k.")
def over_one_side(dout, k):
    return pooled_shape(spread(dout, k)) / k


@AVERAGE_POOL.wrong(("part_wrong", "overwritten"), "One element of the window gets its share.")
def share_of_the_corner_alone(dout, k):
    dx = np.zeros_like(spread(dout, k))
    dx[:, :, :, 0, :, 0] = dout / k**2
    return pooled_shape(dx)


def upsampled(x, *, k=2):
    """Nearest neighbours, each pixel k times k."""
    return x.repeat(k, 2).repeat(k, 3), k


def upsampled_backward(dout, k):
    n, c, h, w = dout.shape
    return dout.reshape(n, c, h // k, k, w // k, k).sum((3, 5))


UPSAMPLED = Subject(upsampled, upsampled_backward, pool_case)


@UPSAMPLED.wrong(("overwritten", "missing_sum"), "One of each pixel's copies sends its gradient.")
def one_copy_alone(dout, k):
    return dout[:, :, ::k, ::k].copy()


@UPSAMPLED.wrong("factor", "The mean of the copies' gradients.")
def mean_of_the_copies(dout, k):
    return upsampled_backward(dout, k) / k**2


def global_pool(x):
    return x.mean((2, 3)), x.shape


def global_pool_backward(dout, shape):
    return np.broadcast_to(dout[:, :, None, None], shape) / (shape[2] * shape[3])


GLOBAL_POOL = Subject(global_pool, global_pool_backward, pool_case)


@GLOBAL_POOL.wrong("shape", "Left at one value a channel, to be broadcast by whoever wants it.")
def left_to_broadcast(dout, shape):
    return dout[:, :, None, None] / (shape[2] * shape[3])


@GLOBAL_POOL.wrong("factor", "Over the height alone.")
def over_the_height(dout, shape):
    return np.broadcast_to(dout[:, :, None, None], shape) / shape[2]
