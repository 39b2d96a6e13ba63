"""Texts as lists of words, and words as numbers: what word vectors are trained on."""

import dataclasses
from collections import Counter

import numpy as np
import regex

from minillm.errors import UserError, whole

__all__ = ["NumberedWords", "number_words", "words_of"]

# Letters with marks, digits and underscores inside, as in names of Python; one apostrophe as in
# "don't". A Chinese character is a word.
LETTER = r"[\p{L}_--\p{Han}]"
INSIDE = r"[[\p{L}\p{M}\p{N}_]--\p{Han}]"
WORD = regex.compile(rf"(?V1)\p{{Han}}|(?<!{INSIDE}){LETTER}{INSIDE}*(?:['’]\p{{L}}{{1,2}}\b)?")


def words_of(text):
    """The words of a text in lower case, in order; numbers and punctuation are left out.

    Examples
    --------
    >>> words_of("Don't call list.sort() twice; it isn't a 2nd rate.")
    ["don't", 'call', 'list', 'sort', 'twice', 'it', "isn't", 'a', 'rate']
    """
    return WORD.findall(text.lower())


@dataclasses.dataclass(frozen=True)
class NumberedWords:
    """Documents as numbers.

    words : list of V str, the most frequent first; a word's place is its id
    counts : (V,) int64, how often each came
    ids : (N,) int32, all documents' words one after the other, the rare ones left out
    document : (N,) int32, the number of the document that each stands in, never falling
    """

    words: list[str]
    counts: np.ndarray
    ids: np.ndarray
    document: np.ndarray


def number_words(documents, *, min_count=5):
    """Number the words of documents that come at least `min_count` times; others are left out.

    Words of equal frequency stand in the order in which they first appear.

    Parameters
    ----------
    documents : list of lists of str
    min_count : int >= 1

    Raises
    ------
    UserError
        for a document that is a str, a `min_count` below 1, or when no word comes so often.
    """
    min_count = whole("min_count", min_count, 1)
    documents = list(documents)
    if any(isinstance(document, str) for document in documents):
        raise UserError("documents must be lists of words, got a text: see words_of")
    counts = Counter(word for document in documents for word in document)
    words = [word for word, count in counts.most_common() if count >= min_count]
    if not words:
        raise UserError(
            f"no word comes {min_count} times or more in {sum(counts.values()):,} words of "
            f"{len(documents):,} documents"
        )
    number = {word: i for i, word in enumerate(words)}
    kept = [[number[w] for w in document if w in number] for document in documents]
    ids = np.array([i for row in kept for i in row], np.int32)
    document = np.repeat(np.arange(len(kept), dtype=np.int32), [len(row) for row in kept])
    return NumberedWords(words, np.array([counts[w] for w in words], np.int64), ids, document)
