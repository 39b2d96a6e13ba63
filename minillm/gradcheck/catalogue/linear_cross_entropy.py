"""Wrong backwards of the output head and its loss in one op."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    batch, rows, width, vocabulary = sizes(rng, 4, 2, 5, ones=0.08)
    vocabulary = max(vocabulary, 2)  # of one token alone the loss is 0 whatever the logits
    rows = max(rows, 3)
    leading = (batch, rows) if rng.random() < 0.6 else (rows,)
    targets = rng.integers(vocabulary, size=leading)
    kwargs = {"targets": targets, "ignore_index": int(rng.choice([-100, -1]))}
    targets.flat[rng.integers(targets.size)] = kwargs["ignore_index"]
    if rng.random() < 0.95:
        kwargs["label_smoothing"] = 0.2
    bias = rng.standard_normal(vocabulary) if rng.random() < 0.95 else None
    x = rng.standard_normal((*leading, width))
    return (x, rng.standard_normal((vocabulary, width)), bias), kwargs


def pieces(saved):
    """x as rows (N, C), the weight (V, C) and the bias; the loss' saved values, one a row."""
    (x, weight_t, bias), (log_probs, counted, known, count, smoothing) = (c.saved for c in saved)
    rows = x.reshape(-1, x.shape[-1])
    log_probs = log_probs.reshape(len(rows), -1)
    return rows, weight_t.T, bias, (log_probs, counted.ravel(), known.ravel(), count, smoothing)


def dlogits_of(dloss, loss_saved):
    """(N, V), written once more."""
    log_probs, counted, known, count, smoothing = loss_saved
    V = log_probs.shape[1]
    wanted = (1 - smoothing) * np.eye(V)[known] + smoothing / V
    return dloss / count * counted[:, None] * (np.exp(log_probs) - wanted)


def from_dlogits(dlogits, saved):
    rows, weight, bias, _ = pieces(saved)
    dx = (dlogits @ weight).reshape(saved[0].saved[0].shape)
    return dx, dlogits.T @ rows, None if bias is None else dlogits.sum(0)


@wrong("transposed", "The gradient comes as (C, V) and is reshaped to (V, C), not transposed.")
def weight_reshaped(dloss, saved, ops):
    dx, dweight, dbias = ops.right(dloss, saved)
    return dx, dweight.T.reshape(dweight.shape), dbias


@wrong("overwritten", "In pieces over the rows, each piece writes the weight's gradient anew.")
def weight_of_the_last_piece(dloss, saved, ops):
    dx, _, dbias = ops.right(dloss, saved)
    rows, _, _, loss_saved = pieces(saved)
    last = (len(rows) + 1) // 2
    return dx, dlogits_of(dloss, loss_saved)[last:].T @ rows[last:], dbias


@wrong("factor", "The mean is taken over all tokens, also those that do not count.")
def averaged_over_all_tokens(dloss, saved, ops):
    counted, count = saved[1].saved[1], saved[1].saved[3]
    return scaled(ops.right(dloss, saved), count / counted.size)


@wrong("factor", "A sum where the loss is a mean: N times too large.")
def not_averaged(dloss, saved, ops):
    return scaled(ops.right(dloss, saved), saved[1].saved[3])


def scaled(grads, factor):
    return tuple(None if grad is None else grad * factor for grad in grads)


@wrong(
    "upstream_ignored", "The gradients are made in forward, and backward gives them as they are."
)
def upstream_ignored(dloss, saved, ops):
    return ops.right(np.ones_like(dloss), saved)


@wrong("mask_forgotten", "ignore_index stands in the loss alone: ignored tokens get a gradient.")
def ignored_tokens_counted(dloss, saved, ops):
    log_probs, counted, *rest = pieces(saved)[3]
    return from_dlogits(dlogits_of(dloss, (log_probs, np.ones_like(counted), *rest)), saved)


@wrong("missing_term", "The probabilities alone: the target's own 1 is never subtracted.")
def target_not_subtracted(dloss, saved, ops):
    log_probs, counted, _, count, _ = pieces(saved)[3]
    return from_dlogits(dloss / count * counted[:, None] * np.exp(log_probs), saved)


@wrong("local_derivative", "Label smoothing stands in the loss alone: the gradient is without it.")
def smoothing_forgotten(dloss, saved, ops):
    *loss_saved, _ = pieces(saved)[3]
    return from_dlogits(dlogits_of(dloss, (*loss_saved, 0.0)), saved)


@wrong("local_derivative", "The logits are made again in backward, and the bias is forgotten.")
def logits_without_bias(dloss, saved, ops):
    rows, weight, _, (_, *loss_saved) = pieces(saved)
    log_probs, _ = ops.log_softmax(rows @ weight.T)
    return from_dlogits(dlogits_of(dloss, (log_probs, *loss_saved)), saved)


@wrong("missing_sum", "The bias gets the first counted token's gradient, not the sum over all.")
def bias_of_one_token(dloss, saved, ops):
    dx, dweight, dbias = ops.right(dloss, saved)
    loss_saved = pieces(saved)[3]
    first = int(np.argmax(loss_saved[1]))
    return dx, dweight, None if dbias is None else dlogits_of(dloss, loss_saved)[first]


@wrong("sign", "Target minus probability, the step downhill instead of the gradient.")
def target_minus_probability(dloss, saved, ops):
    return scaled(ops.right(dloss, saved), -1)


@wrong("overwritten", "A loop over the positions assigns; the weight hears of the last one alone.")
def weight_from_the_last_position(dloss, saved, ops):
    dx, _, dbias = ops.right(dloss, saved)
    (x, _, _), loss_saved = saved[0].saved, pieces(saved)[3]
    dlogits = dlogits_of(dloss, loss_saved).reshape(*x.shape[:-1], -1)
    last = dlogits[..., -1, :].reshape(-1, dlogits.shape[-1])
    return dx, last.T @ x[..., -1, :].reshape(-1, x.shape[-1]), dbias


@wrong("missing_sum", "The bias is summed over the batch, but not over the positions.")
def bias_not_summed_over_positions(dloss, saved, ops):
    dx, dweight, dbias = ops.right(dloss, saved)
    (x, _, _), loss_saved = saved[0].saved, pieces(saved)[3]
    dlogits = dlogits_of(dloss, loss_saved).reshape(*x.shape[:-1], -1)
    first = dlogits[..., 0, :].reshape(-1, dlogits.shape[-1])
    return dx, dweight, None if dbias is None else first.sum(0)
