"""Draws hw3's cases where shapes are not enough: extreme scores, tokens that do not count."""

import numpy as np

from minillm.ops.softmax import softmax


def extreme(rng, size):
    """Scores in the thousands; then some of -inf; then a row of nothing else."""
    x = 1000 * rng.standard_normal((2, size + 1)).round(1)
    if size > 1:
        x[0, 0] = -np.inf
    if size > 2:
        x[1] = -np.inf
    y, _ = softmax(x, axis=-1)
    return {
        "module": "softmax",
        "function": "softmax",
        "args": [x],
        "kwargs": {"axis": -1},
        "gradients": ["dx"],
        "names": ["x"],
        "dout": rng.standard_normal(y.shape).round(1),
    }


def tokens(rng, size, large):
    """Logits and targets: some are ignored, now and then all."""
    sizes = 1 + rng.permutation(size + 3)
    leading = tuple(int(n) for n in sizes[: rng.integers(0, 3)])
    vocab = int(sizes[-1]) + (size > 1)
    if size == 1:
        leading, vocab = (1,), int(rng.integers(1, 4))
    if large:
        leading, vocab = (large["N"],), large["V"]
    logits = 2 * rng.standard_normal((*leading, vocab))
    targets = rng.integers(0, vocab, leading)
    kwargs = {}
    if rng.random() < 0.5:
        kwargs["label_smoothing"] = 0.1
    if size > 1 and rng.random() < 0.6:
        ignored = -100
        if rng.random() < 0.4:
            ignored = kwargs["ignore_index"] = int(rng.choice([-1, 0]))
        share = 1.0 if rng.random() < 0.1 else 0.3
        targets = np.where(rng.random(leading) < share, ignored, targets)
    return [logits.round(1) if size < 3 else logits], kwargs | {"targets": np.asarray(targets)}
