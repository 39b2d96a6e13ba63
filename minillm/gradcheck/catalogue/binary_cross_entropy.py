"""Wrong backwards of the mean cross-entropy of a logistic unit."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    shape = sizes(rng, int(rng.integers(2, 4)), ones=0.1)
    targets = rng.random(shape)
    if rng.random() < 0.5:
        targets = targets < 0.5
        targets.flat[0], targets.flat[-1] = False, True  # both answers occur
    return (1.5 * rng.standard_normal(shape),), {"targets": targets}


def probabilities(saved):
    return 1 / (1 + np.exp(-saved[0]))


@wrong(
    "factor",
    "Divided by the batch alone: off by the number of outputs (oysteijo/simd_neuralnet, 1).",
)
def averaged_over_the_batch_alone(dloss, saved, ops):
    return ops.right(dloss, saved) * (saved[0].size / len(saved[0]))


@wrong("local_derivative", "(p - t) / (p (1 - p)) is the probability's gradient, not the logit's.")
def gradient_of_the_probability(dloss, saved, ops):
    probs = probabilities(saved)
    return ops.right(dloss, saved) / (probs * (1 - probs))


@wrong(
    "local_derivative",
    "p - t, with the slope of sigmoid in it, is multiplied by that slope again.",
)
def slope_of_sigmoid_twice(dloss, saved, ops):
    probs = probabilities(saved)
    return ops.right(dloss, saved) * probs * (1 - probs)


@wrong("local_derivative", "Takes its input for probabilities, and forgets the sigmoid.")
def logits_for_probabilities(dloss, saved, ops):
    logits, targets = saved
    return dloss * (logits - targets) / targets.size


@wrong(
    ("missing_term", "local_derivative"),
    "The half of t = 1 alone: no gradient where the label is 0 (deeplearning4j/nd4j, issue 1328).",
)
def positives_alone(dloss, saved, ops):
    _, targets = saved
    return dloss * targets * (probabilities(saved) - 1) / targets.size


@wrong("upstream_ignored", "A loss is taken for the end of all.")
def upstream_forgotten(dloss, saved, ops):
    _, targets = saved
    return (probabilities(saved) - targets) / targets.size


@wrong("factor", "Forward takes a mean; backward is that of a sum.")
def not_averaged(dloss, saved, ops):
    return ops.right(dloss, saved) * saved[0].size
