"""Wrong backwards of layer normalisation."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    *leading, width = sizes(rng, int(rng.integers(2, 4)), least=3, ones=0.08)
    width = max(width, 3)  # two values can only become -1 and 1
    x = 2 * rng.standard_normal((*leading, width)) + 1
    eps = float(rng.choice([1e-3, 0.1]))
    return (x, rng.standard_normal(width), rng.standard_normal(width)), {"eps": eps}


def mean(a):
    return a.mean(-1, keepdims=True)


@wrong("missing_term", "The mean takes its share of the gradient; left out.")
def without_mean_term(dy, saved, ops):
    normed, inv_std, gain = saved
    _, dgain, dbias = ops.right(dy, saved)
    dn = dy * gain
    return inv_std * (dn - normed * mean(dn * normed)), dgain, dbias


@wrong("missing_term", "The deviation takes its share of the gradient; left out.")
def without_normalised_term(dy, saved, ops):
    _, inv_std, gain = saved
    _, dgain, dbias = ops.right(dy, saved)
    dn = dy * gain
    return inv_std * (dn - mean(dn)), dgain, dbias


@wrong("missing_term", "Mean and deviation are held constant, as batch norm does once trained.")
def statistics_held_constant(dy, saved, ops):
    _, inv_std, gain = saved
    _, dgain, dbias = ops.right(dy, saved)
    return inv_std * gain * dy, dgain, dbias


@wrong(("missing_term", "factor"), "The deviation's share is divided by C - 1, forward's by C.")
def share_of_an_unbiased_variance(dy, saved, ops):
    normed, inv_std, gain = saved
    _, dgain, dbias = ops.right(dy, saved)
    dn = dy * gain
    share = normed * (dn * normed).sum(-1, keepdims=True) / (normed.shape[-1] - 1)
    return inv_std * (dn - mean(dn) - share), dgain, dbias


@wrong("missing_term", "np.mean without an axis in backward: all rows are taken for one.")
def shares_of_all_rows(dy, saved, ops):
    normed, inv_std, gain = saved
    _, dgain, dbias = ops.right(dy, saved)
    dn = dy * gain
    return inv_std * (dn - dn.mean() - normed * (dn * normed).mean()), dgain, dbias


@wrong("local_derivative", "Backward finds the deviation anew, and leaves eps out of its root.")
def eps_forgotten(dy, saved, ops):
    normed, inv_std, gain = saved
    _, dgain, dbias = ops.right(dy, saved)
    centred = normed / inv_std
    inv_std = 1 / np.sqrt(mean(centred**2))
    normed, dn = centred * inv_std, dy * gain
    return inv_std * (dn - mean(dn) - normed * mean(dn * normed)), dgain, dbias


@wrong("local_derivative", "dgain takes the centred x, before it was divided by the deviation.")
def gain_gradient_of_the_centred(dy, saved, ops):
    normed, inv_std, gain = saved
    dx, _, dbias = ops.right(dy, saved)
    return dx, (dy * normed / inv_std).reshape(-1, len(gain)).sum(0), dbias


@wrong("other_parameter", "The tuple's last two are exchanged; their shapes are the same.")
def gain_and_bias_swapped(dy, saved, ops):
    dx, dgain, dbias = ops.right(dy, saved)
    return dx, dbias, dgain


@wrong(
    "mutates",
    "dy *= gain spoils the caller's array, and dgain, taken after (unslothai/unsloth, 4550).",
)
def upstream_written_to(dy, saved, ops):
    normed, inv_std, gain = saved
    dy *= gain
    dgain = (dy * normed).reshape(-1, len(gain)).sum(0)
    dbias = dy.reshape(-1, len(gain)).sum(0)
    return inv_std * (dy - mean(dy) - normed * mean(dy * normed)), dgain, dbias
