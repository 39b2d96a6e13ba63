"""Batches of token ids: random blocks, or streams that continue from batch to batch.

Both are functions of the step's number alone and keep no state, so that a resumed run reads the
same data as one that was never stopped. What an op does not read back from the GPU, the range of
ids, is checked here on the host, once.
"""

import numpy as np

from minillm.errors import UserError
from minillm.tokenizers.base import check_ids

__all__ = ["RandomBlocks", "Streams", "encode_documents"]


def encode_documents(documents, tokenizer):
    """All documents as one stream of ids, int32 (N,), each followed by the tokenizer's end id."""
    end = np.array([tokenizer.end_id], np.int32)
    pieces = [piece for d in documents for piece in (tokenizer.encode(d.text), end)]
    return np.concatenate(pieces) if pieces else np.empty(0, np.int32)


class RandomBlocks:
    """Blocks that start at random places, as nanoGPT draws them.

    Parameters
    ----------
    ids : integers (N,)
    block : int T, tokens in a block
    batch : int B, blocks in a batch
    seed : int >= 0
    vocab_size : int, refuse ids that are not below it

    Raises
    ------
    UserError
        if the text has no room for one block and its targets: N < T + 1.
    ValueError
        for a size below 1, a negative seed, or ids that are out of range.
    """

    def __init__(self, ids, *, block, batch, seed, vocab_size):
        self.ids = _checked(ids, block, batch, vocab_size)
        self.block, self.batch_size, self.seed = block, batch, seed
        if seed < 0:
            raise ValueError(f"seed must be at least 0, got {seed}")
        if len(self.ids) < block + 1:
            raise UserError(
                f"the text is too short: {len(self.ids)} tokens, but a block of {block} "
                f"and its targets need {block + 1}"
            )

    def batch(self, step):
        """The batch of a step: ids (B, T) and targets (B, T), the tokens that follow them."""
        rng = np.random.default_rng(np.random.SeedSequence([self.seed, step, 0]))
        starts = rng.integers(0, len(self.ids) - self.block, size=self.batch_size)  # (B,)
        windows = self.ids[starts[:, None] + np.arange(self.block + 1)]  # (B, T + 1)
        return windows[:, :-1].copy(), windows[:, 1:].copy()


class Streams:
    """The text cut into B contiguous streams, read in blocks of T: for truncated back-propagation.

    A batch continues where the one before stopped, so a recurrent state is carried from each to the
    next; after the last block all streams begin again. Up to B * T tokens at the streams' ends
    fill no block and are not read.

    Parameters
    ----------
    ids : integers (N,)
    block : int T
    batch : int B
    vocab_size : int, refuse ids that are not below it

    Attributes
    ----------
    steps : int, batches until all streams begin again

    Raises
    ------
    UserError
        if the text has no block for each stream: N < B * T + 1.
    ValueError
        for a size below 1, or ids that are out of range.
    """

    def __init__(self, ids, *, block, batch, vocab_size):
        ids = _checked(ids, block, batch, vocab_size)
        if len(ids) < batch * block + 1:
            raise UserError(
                f"the text is too short: {len(ids)} tokens, but {batch} streams with blocks of "
                f"{block} and their targets need {batch * block + 1}"
            )
        self.block, self.batch_size = block, batch
        length = (len(ids) - 1) // batch
        self._ids = ids[: batch * length].reshape(batch, length)  # (B, length)
        self._targets = ids[1 : batch * length + 1].reshape(batch, length)  # (B, length)
        self.steps = length // block

    def batch(self, step):
        """The batch of a step: ids (B, T) and targets (B, T), the tokens that follow them."""
        start = step % self.steps * self.block
        cut = slice(start, start + self.block)
        return self._ids[:, cut].copy(), self._targets[:, cut].copy()

    def restarts(self, step):
        """Whether the streams begin at this step, so that a state must not be carried into it."""
        return step % self.steps == 0


def _checked(ids, block, batch, vocab_size):
    for name, size in (("block", block), ("batch", batch)):
        if size < 1:
            raise ValueError(f"{name} must be at least 1, got {size}")
    return check_ids(ids, vocab_size).astype(np.int32, copy=False)
