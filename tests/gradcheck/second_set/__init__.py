"""The second set: wrong backwards written without knowledge of the rules that diagnose them."""

from tests.gradcheck.second_set import (
    algebra,
    attention,
    blocks,
    convolution,
    dense,
    distances,
    gates,
    losses,
    ngram,
    norms,
    pointwise,
    positional,
    randomness,
    recurrent,
    words,
)
from tests.gradcheck.second_set._entry import Entry, Subject

SUBJECTS = tuple(Subject.every)
ENTRIES = tuple(entry for subject in SUBJECTS for entry in subject.entries)
