"""Wrong backwards of scaled dot-product attention."""

import numpy as np

from minillm.gradcheck.catalogue._attention import attention_case, regroup, sum_to_shape
from minillm.gradcheck.catalogue._entry import wrong


def case(rng, ops):
    args, kwargs = attention_case(rng)
    if rng.random() < 0.95:
        kwargs |= {"dropout": 0.3, "rng": np.random.default_rng(rng.integers(2**32))}
    return args, kwargs


def backward(dout, saved, ops, *, softmax=None, dropout=None, values=None):
    """The backward once more, with places to go wrong in.

    softmax(dweights, weights), dropout(dkept, cache): their backwards; values: the weights that
    met the values.
    """
    q, k, v, bias, scale, kept, cache_softmax, cache_dropout = saved
    H, G = q.shape[1], k.shape[1]
    weights = cache_softmax.saved[0]
    dout = regroup(dout, G)
    dv = regroup(kept if values is None else values, G).swapaxes(-1, -2) @ dout
    dkept = regroup(dout @ v.swapaxes(-1, -2), H)
    dweights = (dropout or ops.dropout.backward)(dkept, cache_dropout)
    dlogits = (softmax or softmax_backward)(dweights, weights)
    dbias = None if bias is None else sum_to_shape(dlogits, bias.shape)
    dlogits = scale * regroup(dlogits, G)
    return regroup(dlogits @ k, H), dlogits.swapaxes(-1, -2) @ regroup(q, G), dv, dbias


def softmax_backward(dweights, weights):
    return weights * (dweights - (dweights * weights).sum(-1, keepdims=True))


@wrong("missing_term", "Softmax as if its sum were a constant: each row's mean is not subtracted.")
def without_the_softmax_term(dout, saved, ops):
    return backward(dout, saved, ops, softmax=lambda dweights, weights: weights * dweights)


@wrong(
    ("missing_term", "local_derivative"),
    "The diagonal of softmax's Jacobian alone, p (1 - p), as if it were a sigmoid.",
)
def softmax_as_a_sigmoid(dout, saved, ops):
    return backward(
        dout, saved, ops, softmax=lambda dweights, weights: weights * (1 - weights) * dweights
    )


@wrong("factor", "The scale 1 / sqrt(d) is applied to the logits and forgotten on the way back.")
def scale_forgotten(dout, saved, ops):
    dq, dk, dv, dbias = ops.right(dout, saved)
    return dq / saved[4], dk / saved[4], dv, dbias


@wrong("factor", "The bias is added after the scale, but gets its gradient scaled as well.")
def scale_on_the_bias_too(dout, saved, ops):
    dq, dk, dv, dbias = ops.right(dout, saved)
    return dq, dk, dv, None if dbias is None else dbias * saved[4]


@wrong(
    "mask_forgotten",
    "The dropped weights get a gradient too (aws-neuron/nki-samples, pull request 81).",
)
def dropout_forgotten(dout, saved, ops):
    return backward(dout, saved, ops, dropout=lambda dkept, cache: dkept)


@wrong(
    "local_derivative",
    "Softmax's backward reads the weights after dropout (the same pull request, other half).",
)
def softmax_of_the_dropped_weights(dout, saved, ops):
    kept = saved[5]
    return backward(dout, saved, ops, softmax=lambda dweights, _: softmax_backward(dweights, kept))


@wrong("mask_forgotten", "The values' gradient takes the weights as they were before dropout.")
def values_by_all_weights(dout, saved, ops):
    return backward(dout, saved, ops, values=saved[6].saved[0])


@wrong("mask_forgotten", "The weights are made again in backward, without the mask.")
def mask_forgotten(dout, saved, ops):
    q, k, v, bias, scale, _, _, cache_dropout = saved
    logits = scale * regroup(regroup(q, k.shape[1]) @ k.swapaxes(-1, -2), q.shape[1])
    weights, cache = ops.softmax(logits if bias is None else logits + bias)
    kept = weights if cache_dropout.saved is None else weights * cache_dropout.saved
    return backward(dout, (q, k, v, bias, scale, kept, cache, cache_dropout), ops)


@wrong(
    ("overwritten", "missing_sum"),
    "Keys and values get the gradient of the last query head of their group, not of all of them.",
)
def one_head_of_each_group(dout, saved, ops):
    dq, *_, dbias = ops.right(dout, saved)
    ratio = saved[0].shape[1] // saved[1].shape[1]
    last = np.zeros_like(dout)
    last[:, ratio - 1 :: ratio] = dout[:, ratio - 1 :: ratio]
    return dq, *ops.right(last, saved)[1:3], dbias


@wrong("missing_sum", "A bias for all sequences or queries gets the gradient of the first of them.")
def bias_not_summed(dout, saved, ops):
    dq, dk, dv, dbias = ops.right(dout, saved)
    if dbias is not None:
        full = np.broadcast_to(saved[3], saved[5].shape).copy()
        dlogits = ops.right(dout, (*saved[:3], full, *saved[4:]))[3]
        dbias = dlogits[tuple(slice(n) for n in dbias.shape)]
    return dq, dk, dv, dbias


@wrong("wrong_step", "The upstream gradient is read from the other end of the sequence for v.")
def values_for_the_wrong_query(dout, saved, ops):
    dq, dk, _, dbias = ops.right(dout, saved)
    return dq, dk, ops.right(dout[:, :, ::-1], saved)[2], dbias


@wrong("zero", "The bias was taken for a constant, like a mask: its gradient stays at zero.")
def bias_gets_nothing(dout, saved, ops):
    *grads, dbias = ops.right(dout, saved)
    return *grads, None if dbias is None else np.zeros_like(dbias)
