"""Losses by margins and by distances."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different


def hinge(scores, *, targets):
    """The multiclass hinge loss with margin 1, averaged."""
    n = np.arange(len(targets))
    margins = np.maximum(scores - scores[n, targets][:, None] + 1, 0)
    margins[n, targets] = 0
    return margins.sum() / len(n), (margins, targets)


def hinge_backward(dout, cache):
    margins, targets = cache
    d = (margins > 0).astype(float)
    d[np.arange(len(targets)), targets] = -d.sum(1)
    return dout * d / len(targets)


def hinge_case(rng):
    n, k = different(rng, 2, 4, 7)
    return [1.5 * rng.standard_normal((n, k))], {"targets": rng.integers(k, size=n)}


HINGE = Subject(hinge, hinge_backward, hinge_case)


@HINGE.wrong(("overwritten", "part_wrong"), "The right class's score gets nothing.")
def right_class_left_out(dout, cache):
    margins, targets = cache
    return dout * (margins > 0) / len(targets)


@HINGE.wrong("part_wrong", "-1 for the right class, however many margins it is in.")
def right_class_once(dout, cache):
    d = hinge_backward(dout, cache)
    targets = cache[1]
    d[np.arange(len(targets)), targets] = -dout / len(targets)
    return d


@HINGE.wrong("mask_forgotten", "All classes count, whether or not they break the margin.")
def all_classes_count(dout, cache):
    margins, targets = cache
    d = np.ones_like(margins)
    d[np.arange(len(targets)), targets] = 1 - d.shape[1]
    return dout * d / len(targets)


@HINGE.wrong("factor", "Not averaged over the batch.")
def summed(dout, cache):
    return hinge_backward(dout, cache) * len(cache[1])


def mean_square(prediction, target):
    difference = prediction - target
    return (difference**2).mean(), difference


def mean_square_backward(dout, difference):
    d = dout * 2 * difference / difference.size
    return d, -d


def two_case(rng):
    shape = different(rng, 2, 3)
    return [rng.standard_normal(shape), 2 * rng.standard_normal(shape)], {}


SQUARE = Subject(mean_square, mean_square_backward, two_case)


@SQUARE.wrong("factor", "The square's 2, as if the loss were a half of it.")
def without_the_two(dout, difference):
    d = dout * difference / difference.size
    return d, -d


@SQUARE.wrong("factor", "Averaged over the batch only, where the forward averages over all.")
def averaged_over_the_batch_only(dout, difference):
    d = dout * 2 * difference / len(difference)
    return d, -d


@SQUARE.wrong("sign", "Target less prediction.")
def target_less_prediction(dout, difference):
    d, minus_d = mean_square_backward(dout, difference)
    return minus_d, d


@SQUARE.wrong("missing", "The target isn't learnt, or so it was thought.")
def none_for_the_target(dout, difference):
    return mean_square_backward(dout, difference)[0], None


@SQUARE.wrong("shape", "Averaged over the features for good measure.")
def one_a_sample(dout, difference):
    d, minus_d = mean_square_backward(dout, difference)
    return d.sum(1), minus_d.sum(1)


def absolute(prediction, target, *, weights):
    """The weighted mean of absolute differences."""
    difference = prediction - target
    return (weights * np.abs(difference)).mean(), (difference, weights)


def absolute_backward(dout, cache):
    difference, weights = cache
    d = dout * weights * np.sign(difference) / difference.size
    return d, -d


def absolute_case(rng):
    args, _ = two_case(rng)
    return args, {"weights": rng.permutation(np.arange(args[0].size) % 3).reshape(args[0].shape)}


ABSOLUTE = Subject(absolute, absolute_backward, absolute_case)


@ABSOLUTE.wrong("local_derivative", "The difference, as for the square, where its sign belongs.")
def difference_for_its_sign(dout, cache):
    difference, weights = cache
    d = dout * weights * difference / difference.size
    return d, -d


@ABSOLUTE.wrong(("mask_forgotten", "local_derivative"), "The weights, some of them 0, left out.")
def weights_left_out(dout, cache):
    difference, _ = cache
    d = dout * np.sign(difference) / difference.size
    return d, -d


def huber(prediction, target, *, delta=0.8):
    """Huber's loss, one value a sample."""
    r = prediction - target
    small = np.abs(r) <= delta
    each = np.where(small, r**2 / 2, delta * (np.abs(r) - delta / 2))
    return each.sum(1), (r, small, delta)


def huber_backward(dout, cache):
    r, small, delta = cache
    d = dout[:, None] * np.where(small, r, delta * np.sign(r))
    return d, -d


HUBER = Subject(huber, huber_backward, two_case)


@HUBER.wrong(("mask_forgotten", "local_derivative"), "The square's derivative everywhere.")
def square_everywhere(dout, cache):
    d = dout[:, None] * cache[0]
    return d, -d


@HUBER.wrong(("part_wrong", "local_derivative"), "delta is left out of the straight part.")
def straight_part_without_delta(dout, cache):
    r, small, _ = cache
    d = dout[:, None] * np.where(small, r, np.sign(r))
    return d, -d


@HUBER.wrong("upstream_ignored", "The samples' losses are taken to be added up with weight 1.")
def samples_alike(dout, cache):
    return huber_backward(np.ones_like(dout), cache)


def triplet(anchor, positive, negative, *, margin=1.0):
    near, far = anchor - positive, anchor - negative
    loss = np.maximum((near**2).sum(1) - (far**2).sum(1) + margin, 0)
    return loss.sum(), (near, far, loss > 0)


def triplet_backward(dout, cache):
    near, far, active = cache
    d = 2 * dout * active[:, None]
    return d * (near - far), -d * near, d * far


def triplet_case(rng):
    n, d = 7 + int(rng.integers(3)), different(rng, 1, 3)[0]
    anchor, positive, negative = rng.standard_normal((3, n, d))
    negative[:3] += 9  # far away: triplets that cost nothing
    return [anchor, positive, negative], {}


TRIPLET = Subject(triplet, triplet_backward, triplet_case)


@TRIPLET.wrong("mask_forgotten", "Triplets that cost nothing push all the same.")
def idle_ones_push(dout, cache):
    near, far, _ = cache
    return 2 * dout * (near - far), -2 * dout * near, 2 * dout * far


@TRIPLET.wrong("overwritten", "The anchor's part in the second distance is left out.")
def anchor_once(dout, cache):
    near, _, active = cache
    return (2 * dout * active[:, None] * near, *triplet_backward(dout, cache)[1:])


@TRIPLET.wrong("other_parameter", "Positive and negative change places.")
def positive_for_negative(dout, cache):
    danchor, dpositive, dnegative = triplet_backward(dout, cache)
    return danchor, dnegative, dpositive
