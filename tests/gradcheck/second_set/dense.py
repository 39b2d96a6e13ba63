"""Affine layers, a perceptron of two, and products of matrices."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different


def affine(x, w, b):
    flat = x.reshape(len(x), -1)
    return flat @ w + b, (x, w)


def affine_backward(dout, cache):
    x, w = cache
    flat = x.reshape(len(x), -1)
    return (dout @ w.T).reshape(x.shape), flat.T @ dout, dout.sum(0)


def affine_case(rng):
    n, d, e, m = different(rng, 4)
    return [rng.standard_normal(s) for s in [(n, d, e), (d * e, m), (m,)]], {}


AFFINE = Subject(affine, affine_backward, affine_case)


@AFFINE.wrong("missing_sum", "The bias was broadcast over the batch; nobody summed it back.")
def bias_not_summed(dout, cache):
    dx, dw, _ = affine_backward(dout, cache)
    return dx, dw, dout


@AFFINE.wrong("transposed", "The two factors of dw in the order of the forward's memory.")
def weight_the_other_way(dout, cache):
    x, w = cache
    flat = x.reshape(len(x), -1)
    return (dout @ w.T).reshape(x.shape), dout.T @ flat, dout.sum(0)


@AFFINE.wrong("shape", "The input was flattened in forward and not given its shape back.")
def input_left_flat(dout, cache):
    x, w = cache
    return dout @ w.T, x.reshape(len(x), -1).T @ dout, dout.sum(0)


@AFFINE.wrong("factor", "Averaged over the batch in the layer; the loss had done so already.")
def averaged_over_the_batch_again(dout, cache):
    dx, dw, db = affine_backward(dout, cache)
    return dx, dw / len(dout), db / len(dout)


@AFFINE.wrong(None, "Feedback alignment: a fixed random matrix carries the error back.")
def through_a_random_matrix(dout, cache):
    _, w = cache
    dx, dw, db = affine_backward(dout, cache)
    random = np.random.default_rng(11).standard_normal(w.shape)
    return (dout @ random.T).reshape(dx.shape), dw, db


@AFFINE.wrong(
    "dtype",
    "np.zeros makes float64, whatever the layer computes in.",
    case=lambda rng: ([a.astype(np.float32) for a in affine_case(rng)[0]], {}),
)
def collected_in_float64(dout, cache):
    x, w = cache
    dw, db = np.zeros(w.shape), np.zeros(w.shape[1])
    for row, d in zip(x.reshape(len(x), -1), dout, strict=True):
        dw += np.outer(row, d)
        db += d
    return (dout @ w.T).reshape(x.shape), dw, db


def mlp(x, params):
    a = x @ params["w1"] + params["b1"]
    h = np.maximum(a, 0)
    return h @ params["w2"] + params["b2"], (x, params, a, h)


def mlp_backward(dout, cache):
    x, params, a, h = cache
    da = dout @ params["w2"].T * (a > 0)
    dparams = {"w1": x.T @ da, "b1": da.sum(0), "w2": h.T @ dout, "b2": dout.sum(0)}
    return da @ params["w1"].T, dparams


def mlp_case(rng):
    n, d, m = different(rng, 3, 3, 7)
    h = m  # as many hidden units as outputs: the two biases are of one shape
    shapes = {"w1": (d, h), "b1": (h,), "w2": (h, m), "b2": (m,)}
    return [rng.standard_normal((n, d)), {k: rng.standard_normal(s) for k, s in shapes.items()}], {}


MLP = Subject(mlp, mlp_backward, mlp_case)


@MLP.wrong("mask_forgotten", "The ReLU's gate is left out on the way back.")
def without_the_relus_gate(dout, cache):
    x, params, _, h = cache
    da = dout @ params["w2"].T
    dparams = {"w1": x.T @ da, "b1": da.sum(0), "w2": h.T @ dout, "b2": dout.sum(0)}
    return da @ params["w1"].T, dparams


@MLP.wrong(("mask_forgotten", "local_derivative"), "The ReLU's gate read off the gradient.")
def gate_of_the_gradient(dout, cache):
    x, params, _, h = cache
    dh = dout @ params["w2"].T
    da = dh * (dh > 0)
    dparams = {"w1": x.T @ da, "b1": da.sum(0), "w2": h.T @ dout, "b2": dout.sum(0)}
    return da @ params["w1"].T, dparams


@MLP.wrong("other_parameter", "The biases' gradients under each other's name.")
def biases_exchanged(dout, cache):
    dx, g = mlp_backward(dout, cache)
    return dx, {"w1": g["w1"], "b1": g["b2"], "w2": g["w2"], "b2": g["b1"]}


@MLP.wrong("transposed", "The second weight isn't transposed; it is square, so nothing complains.")
def second_weight_not_transposed(dout, cache):
    x, params, a, h = cache
    da = dout @ params["w2"] * (a > 0)
    dparams = {"w1": x.T @ da, "b1": da.sum(0), "w2": h.T @ dout, "b2": dout.sum(0)}
    return da @ params["w1"].T, dparams


@MLP.wrong((None, "upstream_ignored"), "Weight decay added to gradients of a forward without any.")
def with_weight_decay(dout, cache):
    params = cache[1]
    dx, g = mlp_backward(dout, cache)
    for name in ("w1", "w2"):
        g[name] = g[name] + 0.1 * params[name]
    return dx, g


@MLP.wrong("missing", "The second bias never got a line of its own.")
def one_bias_left_out(dout, cache):
    dx, g = mlp_backward(dout, cache)
    del g["b2"]
    return dx, g


@MLP.wrong("mutates", "The gate is applied to dout in place.")
def gated_in_place(dout, cache):
    x, params, a, h = cache
    dparams = {"w2": h.T @ dout, "b2": dout.sum(0)}
    dout @= params["w2"].T
    dout *= a > 0
    dparams |= {"w1": x.T @ dout, "b1": dout.sum(0)}
    return dout @ params["w1"].T, dparams


def bilinear(x, a, z):
    return np.einsum("nd,de,ne->n", x, a, z), (x, a, z)


def bilinear_backward(dout, cache):
    x, a, z = cache
    d = dout[:, None]
    return d * (z @ a.T), x.T @ (d * z), d * (x @ a)


def bilinear_case(rng):
    n, d = different(rng, 2, 3)
    return [rng.standard_normal(s) for s in [(n, d), (d, d), (n, d)]], {}


BILINEAR = Subject(bilinear, bilinear_backward, bilinear_case)


@BILINEAR.wrong("transposed", "z and x change places in the matrix's gradient.")
def matrix_transposed(dout, cache):
    x, _, z = cache
    dx, _, dz = bilinear_backward(dout, cache)
    return dx, (dout[:, None] * z).T @ x, dz


@BILINEAR.wrong("other_parameter", "Returned in the order dz, da, dx.")
def sides_exchanged(dout, cache):
    dx, da, dz = bilinear_backward(dout, cache)
    return dz, da, dx


@BILINEAR.wrong("upstream_ignored", "The output is a score, so dout is taken for 1.")
def score_has_no_upstream(dout, cache):
    return bilinear_backward(np.ones_like(dout), cache)


def outer_product(a, b):
    return a[:, :, None] * b[:, None, :], (a, b)


def outer_product_backward(dout, cache):
    a, b = cache
    return (dout * b[:, None, :]).sum(2), (dout * a[:, :, None]).sum(1)


def outer_product_case(rng):
    n, d = different(rng, 2, 3)
    return [rng.standard_normal((n, d)), rng.standard_normal((n, d))], {}


OUTER = Subject(outer_product, outer_product_backward, outer_product_case)


@OUTER.wrong("transposed", "Rows and columns of dout confused in a's gradient.")
def columns_for_rows(dout, cache):
    _, b = cache
    return (dout * b[:, :, None]).sum(1), outer_product_backward(dout, cache)[1]


@OUTER.wrong("local_derivative", "The derivative of a product by a taken to be a.")
def own_factor_for_the_other(dout, cache):
    a, b = cache
    return (dout * a[:, :, None]).sum(2), (dout * b[:, None, :]).sum(1)


def shared_product(w, x):
    """One matrix for a batch of matrices, ij,bjk->bik."""
    return np.einsum("ij,bjk->bik", w, x), (w, x)


def shared_product_backward(dout, cache):
    w, x = cache
    return np.einsum("bik,bjk->ij", dout, x), np.einsum("ij,bik->bjk", w, dout)


def shared_product_case(rng):
    b, i, k = different(rng, 3)
    return [rng.standard_normal((i, i)), rng.standard_normal((b, i, k))], {}


SHARED = Subject(shared_product, shared_product_backward, shared_product_case)


@SHARED.wrong("missing_sum", "A gradient of the matrix for each of the batch.")
def one_a_sample(dout, cache):
    w, x = cache
    return dout @ x.transpose(0, 2, 1), np.einsum("ij,bik->bjk", w, dout)


@SHARED.wrong("transposed", "The letters of w as in forward.")
def letters_as_in_forward(dout, cache):
    w, x = cache
    return np.einsum("bik,bjk->ij", dout, x), np.einsum("ij,bjk->bik", w, dout)


@SHARED.wrong("overwritten", "The loop over the batch keeps the last product.")
def last_of_the_batch(dout, cache):
    w, x = cache
    for d, sample in zip(dout, x, strict=True):
        dw = d @ sample.T
    return dw, np.einsum("ij,bik->bjk", w, dout)
