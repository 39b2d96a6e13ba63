"""Reading a stream with all lengths of n-grams at once."""

import dataclasses

import numpy as np

__all__ = ["ABSENT", "UNSEEN", "Step", "walk"]

# In place of the id of the n-gram that a text ends in:
UNSEEN = -1  # it was not counted
ABSENT = -2  # the document, or what is known of it, is not as long as that


@dataclasses.dataclass(frozen=True)
class Step:
    """One length's view of a stream of tokens (N + 1,), whose tokens[1:] are predicted.

    here : int (n,), the places in tokens[1:] whose context of this length was seen
    context : int (n,), those contexts
    found : int (n,), the n-gram that each makes with its token; UNSEEN if none
    unseen : bool (N,), where there is a context of this length that was not seen
    """

    here: np.ndarray
    context: np.ndarray
    found: np.ndarray
    unseen: np.ndarray


def walk(levels, tokens, end_id):
    """For each level from the second on: (level, Step). tokens : int64 (N + 1,)."""
    node = tokens  # the n-gram of this length that ends at each token
    ends = tokens[1:] == end_id
    for level in levels[1:]:
        context = node[:-1]
        here = np.flatnonzero(context >= 0)
        unseen = context == UNSEEN
        found = level.find(context[here], tokens[here + 1])
        yield level, Step(here, context[here], found, unseen)
        node = np.full(len(tokens), ABSENT)
        node[1:][unseen] = UNSEEN
        node[here + 1] = found
        node[1:][ends] = ABSENT  # the end id stands for all that came before
