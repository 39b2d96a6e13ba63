"""A neural n-gram model (Bengio et al. 2003): concatenated embeddings into a tanh layer."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different


def neural_ngram(params, *, ids):
    x = params["table"][ids].reshape(len(ids), -1)
    h = np.tanh(x @ params["w1"] + params["b1"])
    return h @ params["w2"] + params["b2"], (params, ids, x, h)


def gradients(dout, cache, da):
    """What follows from da, the gradient before the tanh."""
    params, ids, x, h = cache
    dx = (da @ params["w1"].T).reshape(*ids.shape, -1)
    dtable = np.zeros_like(params["table"])
    np.add.at(dtable, ids, dx)
    grads = {"table": dtable, "w1": x.T @ da, "b1": da.sum(0)}
    return grads | {"w2": h.T @ dout, "b2": dout.sum(0)}


def neural_ngram_backward(dout, cache):
    params, _, _, h = cache
    return gradients(dout, cache, dout @ params["w2"].T * (1 - h**2))


def neural_ngram_case(rng):
    n, d, h, v = different(rng, 4, 3, 7)
    shapes = {"table": (v, d), "w1": (3 * d, h), "b1": (h,), "w2": (h, v), "b2": (v,)}
    ids = rng.integers(v, size=(n, 3))
    ids[0, 1] = ids[0, 0]
    return [{k: 0.6 * rng.standard_normal(s) for k, s in shapes.items()}], {"ids": ids}


NGRAM = Subject(neural_ngram, neural_ngram_backward, neural_ngram_case)


@NGRAM.wrong("local_derivative", "1 - h: the square is missing.")
def tanh_not_squared(dout, cache):
    params, _, _, h = cache
    return gradients(dout, cache, dout @ params["w2"].T * (1 - h))


@NGRAM.wrong("local_derivative", "The tanh is passed by.")
def tanh_passed_by(dout, cache):
    return gradients(dout, cache, dout @ cache[0]["w2"].T)


@NGRAM.wrong("wrong_step", "The slices go to the context's words in the opposite order.")
def context_turned_round(dout, cache):
    params, ids, x, h = cache
    g = neural_ngram_backward(dout, cache)
    turned = gradients(dout, (params, ids[:, ::-1], x, h), dout @ params["w2"].T * (1 - h**2))
    return g | {"table": turned["table"]}


@NGRAM.wrong("overwritten", "Fancy indexing with +=, and words that come twice.")
def words_that_come_twice(dout, cache):
    params, ids, _, h = cache
    g = neural_ngram_backward(dout, cache)
    da = dout @ params["w2"].T * (1 - h**2)
    g["table"] = np.zeros_like(params["table"])
    g["table"][ids] += (da @ params["w1"].T).reshape(*ids.shape, -1)
    return g


@NGRAM.wrong("missing_sum", "b2 keeps a row a sample.")
def output_bias_not_summed(dout, cache):
    return neural_ngram_backward(dout, cache) | {"b2": dout}


@NGRAM.wrong("zero", "The word vectors are left as they were drawn.")
def words_not_learnt(dout, cache):
    g = neural_ngram_backward(dout, cache)
    return g | {"table": np.zeros_like(g["table"])}
