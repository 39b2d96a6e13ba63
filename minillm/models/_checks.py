"""What models ask of ids, on the host, when a batch is made: inside a step nothing is read back."""

import numpy as np

__all__ = ["check_ids"]


def check_ids(ids, vocab_size):
    """Refuse ids that no row of the embedding belongs to; of any shape, none at all included.

    Returns
    -------
    ids : the same, as an array

    Raises
    ------
    ValueError
        for a dtype that is not integer, or ids outside [0, vocab_size): names the smallest or the
        largest of them and the vocabulary.
    """
    array = np.asarray(ids)
    if array.dtype.kind not in "iu" and array.size:
        raise ValueError(f"ids must be integers, got {array.dtype} of shape {array.shape}")
    if array.size and int(array.min()) < 0:
        raise ValueError(
            f"ids must be in [0, {vocab_size}), the vocabulary's; the smallest is {array.min()}"
        )
    if array.size and int(array.max()) >= vocab_size:
        raise ValueError(
            f"ids must be in [0, {vocab_size}), the vocabulary's; the largest is {array.max()}"
        )
    return array
