"""Wrong backwards of root-mean-square normalisation."""

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    *leading, width = sizes(rng, int(rng.integers(2, 4)), ones=0.08)
    width = max(width, 2)
    x = 2 * rng.standard_normal((*leading, width)) + 1
    return (x, rng.standard_normal(width)), {"eps": float(rng.choice([1e-3, 0.1]))}


def mean(a):
    return a.mean(-1, keepdims=True)


@wrong("missing_term", "The root mean square is held constant.")
def norm_held_constant(dy, saved, ops):
    _, inv_rms, gain = saved
    return inv_rms * gain * dy, ops.right(dy, saved)[1]


@wrong(("missing_term", "factor"), "A sum along the row where the root's share is a mean.")
def sum_for_the_mean(dy, saved, ops):
    normed, inv_rms, gain = saved
    dn = dy * gain
    share = normed * (dn * normed).sum(-1, keepdims=True)
    return inv_rms * (dn - share), ops.right(dy, saved)[1]


@wrong(("missing_term", "local_derivative"), "Copied from layer norm, with its share of a mean.")
def centred_as_layer_norm(dy, saved, ops):
    normed, inv_rms, gain = saved
    dn = dy * gain
    dx = inv_rms * (dn - mean(dn) - normed * mean(dn * normed))
    return dx, ops.right(dy, saved)[1]


@wrong("missing_term", "The root's share is taken of dy, not of dy * gain.")
def gain_left_out_of_the_share(dy, saved, ops):
    normed, inv_rms, gain = saved
    dx = inv_rms * (dy * gain - normed * mean(dy * normed))
    return dx, ops.right(dy, saved)[1]


@wrong(
    "local_derivative",
    "The gain is left out of dx, which at its first value, 1, shows nowhere (karpathy/llm.c, 763).",
)
def gain_forgotten(dy, saved, ops):
    normed, inv_rms, _ = saved
    return inv_rms * (dy - normed * mean(dy * normed)), ops.right(dy, saved)[1]


@wrong(("local_derivative", "other_parameter"), "dgain is the sum of dy: that of a bias.")
def gain_gradient_of_a_bias(dy, saved, ops):
    dx, dgain = ops.right(dy, saved)
    return dx, dy.reshape(-1, len(dgain)).sum(0)


@wrong("missing", "None for the gain, which then never learns (unslothai/unsloth, issue 4533).")
def gain_gets_none(dy, saved, ops):
    return ops.right(dy, saved)[0], None
