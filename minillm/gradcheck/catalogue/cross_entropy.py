"""Wrong backwards of the mean cross-entropy of a softmax."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    *shape, n_vocab = sizes(rng, int(rng.integers(2, 4)), least=3, ones=0.05)
    n_vocab = max(n_vocab, 3)
    ignore_index = int(rng.choice([-100, -1, 0]))
    targets = rng.integers(1, n_vocab, shape)
    ignored = rng.random(shape) < 0.3
    ignored.flat[0], ignored.flat[-1] = True, False  # some are, and not all
    targets[ignored] = ignore_index
    kwargs = {
        "targets": targets,
        "ignore_index": ignore_index,
        "label_smoothing": float(rng.choice([0.0, 0.1, 0.3], p=[0.1, 0.45, 0.45])),
    }
    return (1.5 * rng.standard_normal((*shape, n_vocab)),), kwargs


def parts(saved, smoothing=None):
    """Probabilities, smoothed targets, the column of what counts and the count."""
    log_probs, counted, known, count, said = saved
    smoothing = said if smoothing is None else smoothing
    probs = np.exp(log_probs)
    n_vocab = probs.shape[-1]
    onehot = (np.arange(n_vocab) == known[..., None]).astype(probs.dtype)
    return probs, (1 - smoothing) * onehot + smoothing / n_vocab, counted[..., None], count


@wrong(
    "factor", "Divided by all tokens, also those ignored (as eladhoffer/utils.pytorch, issue 4)."
)
def averaged_over_all_tokens(dloss, saved, ops):
    _, counted, _, count, _ = saved
    return ops.right(dloss, saved) * float(count / counted.size)


@wrong("factor", "Forward takes a mean; backward is that of a sum.")
def not_averaged(dloss, saved, ops):
    return ops.right(dloss, saved) * float(saved[3])


@wrong("mask_forgotten", "ignore_index is obeyed in forward alone.")
def ignored_tokens_counted(dloss, saved, ops):
    probs, wanted, _, count = parts(saved)
    return dloss * (probs - wanted) / count


@wrong(
    "mask_forgotten",
    "The uniform part of the smoothed targets also counts what is ignored (pytorch, issue 73205).",
)
def ignored_tokens_smoothed(dloss, saved, ops):
    probs, wanted, counted, count = parts(saved)
    smoothing, n_vocab = saved[4], probs.shape[-1]
    uniform = smoothing * (probs - 1 / n_vocab)
    return dloss * np.where(counted, probs - wanted, uniform) / count


@wrong(("missing_term", "local_derivative"), "Label smoothing came to forward later.")
def smoothing_forgotten(dloss, saved, ops):
    probs, onehot, counted, count = parts(saved, smoothing=0.0)
    return dloss * counted * (probs - onehot) / count


@wrong(
    ("missing_term", "local_derivative"),
    "Smoothed over the V - 1 others, not over all V: two conventions in one file.",
)
def smoothed_over_the_others(dloss, saved, ops):
    probs, onehot, counted, count = parts(saved, smoothing=0.0)
    smoothing = saved[4]
    wanted = (1 - smoothing) * onehot + smoothing * (1 - onehot) / (probs.shape[-1] - 1)
    return dloss * counted * (probs - wanted) / count


@wrong("missing_term", "-q / p has its softmax part left out but for the target's own entry.")
def target_entry_alone(dloss, saved, ops):
    onehot = parts(saved, smoothing=0.0)[1]
    return ops.right(dloss, saved) * onehot


@wrong("missing_term", "The line dx[range(N), targets] -= 1 was lost: softmax remains.")
def targets_never_subtracted(dloss, saved, ops):
    probs, _, counted, count = parts(saved)
    return dloss * counted * probs / count


@wrong("upstream_ignored", "A loss is taken for the end of all: dloss is 1, is it not?")
def upstream_forgotten(dloss, saved, ops):
    probs, wanted, counted, count = parts(saved)
    return counted * (probs - wanted) / count


@wrong("sign", "The minus of the logarithm is lost.")
def sign_turned(dloss, saved, ops):
    return -ops.right(dloss, saved)


@wrong("dtype", "The one-hot rows are made in float32, and the result cast to them.")
def always_float32(dloss, saved, ops):
    return ops.right(dloss, saved).astype(np.float32)
