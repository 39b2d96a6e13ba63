"""Which batches a run reads: the training text's in their order, the validation text's fixed."""

import hashlib
from typing import Any

import numpy as np

from minillm.data.batches import RandomBlocks, Streams
from minillm.errors import UserError
from minillm.tokenizers.base import check_ids

__all__ = ["TrainingBatches", "fingerprint", "validation_batches"]


class TrainingBatches:
    """The micro-steps' batches of a run, by their running number alone.

    A stateless model reads random blocks, a stateful one streams that carry its state on.
    """

    def __init__(self, ids, *, config, vocab_size, stateful):
        shape = {"block": config.block, "batch": config.batch, "vocab_size": vocab_size}
        self.source: Any = (
            Streams(ids, **shape) if stateful else RandomBlocks(ids, seed=config.seed, **shape)
        )
        self.stateful = stateful

    def micro_steps(self, first, count):
        """`count` batches from number `first` on: (ids, targets, whether the state starts anew)."""
        return [
            (*self.source.batch(n), not self.stateful or self.source.restarts(n))
            for n in range(first, first + count)
        ]


def validation_batches(ids, *, config, vocab_size, stateful):
    """At most `eval_batches` batches, the same at every evaluation.

    Stateless: blocks that do not overlap, spread evenly over the text. Stateful: streams from the
    beginning, the state carried from batch to batch; a short text gives fewer streams.

    Raises
    ------
    UserError
        if the text has no room for one block.
    """
    ids, block = np.asarray(ids), config.block
    n_blocks = (len(ids) - 1) // block
    if n_blocks < 1:
        raise UserError(
            f"the validation text is too short: {len(ids)} tokens, but a block of {block} "
            f"and its targets need {block + 1}"
        )
    if stateful:
        streams = Streams(
            ids, block=block, batch=min(config.batch, n_blocks), vocab_size=vocab_size
        )
        count = min(config.eval_batches, streams.steps)
        return [(*streams.batch(n), streams.restarts(n)) for n in range(count)]
    ids = check_ids(ids, vocab_size)
    wanted = min(n_blocks, config.batch * config.eval_batches)
    chosen = np.arange(wanted) * n_blocks // wanted  # (wanted,), different and in order
    windows = ids[chosen[:, None] * block + np.arange(block + 1)]  # (wanted, T + 1)
    return [
        (rows[:, :-1].copy(), rows[:, 1:].copy(), True)
        for rows in np.split(windows, range(config.batch, wanted, config.batch))
    ]


def fingerprint(ids):
    """A short text that differs for different data: how many ids, and a hash of them."""
    if ids is None:
        return None
    ids = np.ascontiguousarray(ids, np.int32)
    return f"{len(ids)} tokens, sha256 {hashlib.sha256(ids.tobytes()).hexdigest()[:16]}"
