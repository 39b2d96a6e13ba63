"""Attention: one head, many heads, over another sequence, with rotations and relative biases."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different, softmax


def softmax_backward(d, p):
    return p * (d - (d * p).sum(-1, keepdims=True))


def flip(x):
    return np.swapaxes(x, -1, -2)


def attention(q, k, v):
    p = softmax(q @ flip(k) / np.sqrt(q.shape[-1]))
    return p @ v, (q, k, v, p)


def attention_parts(dscores, dout, cache):
    """From the gradient of the scaled scores."""
    q, k, _, p = cache
    scale = 1 / np.sqrt(q.shape[-1])
    return dscores @ k * scale, flip(dscores) @ q * scale, flip(p) @ dout


def attention_backward(dout, cache):
    *_, v, p = cache
    return attention_parts(softmax_backward(dout @ flip(v), p), dout, cache)


def attention_case(rng):
    b, t, d = different(rng, 3, 2, 5)
    return [rng.standard_normal((b, t, d)) for _ in range(3)], {}


ATTENTION = Subject(attention, attention_backward, attention_case)


@ATTENTION.wrong("factor", "The root of d is left out.")
def scores_not_scaled(dout, cache):
    dq, dk, dv = attention_backward(dout, cache)
    root = np.sqrt(cache[0].shape[-1])
    return dq * root, dk * root, dv


@ATTENTION.wrong("missing_term", "The softmax's way back is p times the gradient.")
def softmax_without_its_sum(dout, cache):
    *_, v, p = cache
    return attention_parts(p * (dout @ flip(v)), dout, cache)


@ATTENTION.wrong("transposed", "The scores' gradient isn't transposed for the keys.")
def keys_scores_not_transposed(dout, cache):
    q, _, v, p = cache
    dq, _, dv = attention_backward(dout, cache)
    dscores = softmax_backward(dout @ flip(v), p)
    return dq, dscores @ q / np.sqrt(q.shape[-1]), dv


@ATTENTION.wrong("other_parameter", "Queries and keys change places.")
def queries_and_keys_exchanged(dout, cache):
    dq, dk, dv = attention_backward(dout, cache)
    return dk, dq, dv


@ATTENTION.wrong("transposed", "p for p transposed in dv.")
def values_weights_not_transposed(dout, cache):
    dq, dk, _ = attention_backward(dout, cache)
    return dq, dk, cache[-1] @ dout


def causal(x, params):
    """One head of causal self-attention with its projections."""
    q, k, v = x @ params["wq"], x @ params["wk"], x @ params["wv"]
    scores = q @ flip(k) / np.sqrt(q.shape[-1])
    seen = np.tril(np.ones(scores.shape[-2:], bool))
    p = softmax(np.where(seen, scores, -np.inf))
    return p @ v, (x, params, q, k, v, p, scores)


def causal_parts(p, dout, cache):
    x, params, q, k, v, *_ = cache
    dq, dk, dv = attention_parts(softmax_backward(dout @ flip(v), p), dout, (q, k, v, p))
    shares = {"wq": dq, "wk": dk, "wv": dv}
    grads = {name: np.einsum("btd,bte->de", x, d) for name, d in shares.items()}
    return {name: d @ params[name].T for name, d in shares.items()}, grads


def causal_backward(dout, cache):
    dx, grads = causal_parts(cache[5], dout, cache)
    return sum(dx.values()), grads


def causal_case(rng):
    b, t, c = different(rng, 3, 3, 6)
    params = {name: 0.7 * rng.standard_normal((c, c)) for name in ("wq", "wk", "wv")}
    return [rng.standard_normal((b, t, c)), params], {}


CAUSAL = Subject(causal, causal_backward, causal_case)


@CAUSAL.wrong("mask_forgotten", "Backward computes the weights again, without the mask.")
def weights_without_the_mask(dout, cache):
    dx, grads = causal_parts(softmax(cache[6]), dout, cache)
    return sum(dx.values()), grads


@CAUSAL.wrong("overwritten", "dx = for queries, keys and values in turn: the values' is left.")
def values_share_alone(dout, cache):
    dx, grads = causal_parts(cache[5], dout, cache)
    return dx["wv"], grads


@CAUSAL.wrong("overwritten", "The keys' share of dx is missing.")
def without_the_keys_share(dout, cache):
    dx, grads = causal_parts(cache[5], dout, cache)
    return dx["wq"] + dx["wv"], grads


@CAUSAL.wrong("other_parameter", "A fused weight cut in the order q, v, k.")
def cut_in_another_order(dout, cache):
    dx, g = causal_backward(dout, cache)
    return dx, {"wq": g["wq"], "wk": g["wv"], "wv": g["wk"]}


def heads_of(x, heads):
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def merged(x):
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def multi_head(q, k, v, *, heads):
    out, cache = attention(*(heads_of(a, heads) for a in (q, k, v)))
    return merged(out), (cache, heads)


def multi_head_backward(dout, cache):
    inner, heads = cache
    return tuple(merged(g) for g in attention_backward(heads_of(dout, heads), inner))


def multi_head_case(rng):
    b, t = different(rng, 2, 2, 4)
    return [rng.standard_normal((b, t, 6)) for _ in range(3)], {"heads": 2 + int(rng.integers(2))}


MULTI = Subject(multi_head, multi_head_backward, multi_head_case)


@MULTI.wrong("factor", "The root of the model's width, not of the head's.")
def root_of_the_models_width(dout, cache):
    dq, dk, dv = multi_head_backward(dout, cache)
    return dq / np.sqrt(cache[1]), dk / np.sqrt(cache[1]), dv


@MULTI.wrong("part_wrong", "The last head's queries and keys get nothing.")
def last_head_left_out(dout, cache):
    inner, heads = cache
    dq, dk, dv = attention_backward(heads_of(dout, heads), inner)
    dq[:, -1] = dk[:, -1] = 0
    return merged(dq), merged(dk), merged(dv)


@MULTI.wrong(None, "The heads merged without bringing them back behind the positions.")
def merged_without_swapping(dout, cache):
    inner, heads = cache
    grads = attention_backward(heads_of(dout, heads), inner)
    return tuple(g.reshape(dout.shape) for g in grads)


def cross(x, memory, wk, wv, *, padding):
    """x attends to a padded memory, (B, T, C) to (B, S, C)."""
    k, v = memory @ wk, memory @ wv
    scores = np.where(padding[:, None], -np.inf, x @ flip(k) / np.sqrt(x.shape[-1]))
    p = softmax(scores)
    return p @ v, (x, memory, wk, wv, k, v, p, padding)


def cross_parts(dscores, dout, cache, turned=False):
    """dx, and memory's two shares, and the weights'."""
    x, memory, wk, wv, k, v, p, _ = cache
    dx, dk, dv = attention_parts(dscores, dout, (x, k, v, p))
    dwk, dwv = (np.einsum("bsc,bsd->cd", memory, d) for d in (dk, dv))
    return dx, (dk @ (wk if turned else wk.T), dv @ wv.T), dwk, dwv


def cross_backward(dout, cache):
    *_, v, p, _ = cache
    dx, dmemory, dwk, dwv = cross_parts(softmax_backward(dout @ flip(v), p), dout, cache)
    return dx, sum(dmemory), dwk, dwv


def cross_case(rng):
    b, t, s, c = different(rng, 4, 3, 6)
    padding = np.zeros((b, s), bool)
    padding[0, -1] = padding[1, -2:] = True
    shapes = [(b, t, c), (b, s, c), (c, c), (c, c)]
    return [0.8 * rng.standard_normal(shape) for shape in shapes], {"padding": padding}


CROSS = Subject(cross, cross_backward, cross_case)


@CROSS.wrong("overwritten", "The memory is read twice; the second gradient replaces the first.")
def memory_by_the_values_alone(dout, cache):
    *_, v, p, _ = cache
    dx, dmemory, dwk, dwv = cross_parts(softmax_backward(dout @ flip(v), p), dout, cache)
    return dx, dmemory[1], dwk, dwv


@CROSS.wrong("mask_forgotten", "Dropped the padding where the weights are computed again.")
def padding_forgotten(dout, cache):
    x, memory, wk, wv, k, v, _, padding = cache
    p = softmax(x @ flip(k) / np.sqrt(x.shape[-1]))
    again = (x, memory, wk, wv, k, v, p, padding)
    return cross_backward(dout, again)


@CROSS.wrong("transposed", "wk as in forward on the way back to the memory.")
def key_weight_not_transposed(dout, cache):
    *_, v, p, _ = cache
    dscores = softmax_backward(dout @ flip(v), p)
    dx, dmemory, dwk, dwv = cross_parts(dscores, dout, cache, turned=True)
    return dx, sum(dmemory), dwk, dwv


@CROSS.wrong("zero", "The encoder is left out: its memory's gradient stays zero.")
def encoder_left_out(dout, cache):
    dx, dmemory, dwk, dwv = cross_backward(dout, cache)
    return dx, np.zeros_like(dmemory), dwk, dwv
