"""The ids of a text's words in a vocabulary that is given, all words together.

What `WordTokenizer.encode` does by a dictionary, a word at a time. Here the words' hashes
(ngram_words.py) are looked up in an open-addressing table, and each word found is compared with the
vocabulary's, byte for byte. Only where a hash is found and the word is another one, which hardly
ever happens, does a dictionary decide.
"""

import functools

import numpy as np

from minillm.models.ngram_table import HashTable
from minillm.models.ngram_words import LONG, Text, look, spans

__all__ = ["Vocabulary"]


class Vocabulary:
    """The words of a WordTokenizer by white space.

    Parameters
    ----------
    tokenizer : WordTokenizer
    """

    def __init__(self, tokenizer):
        self.tokenizer = tokenizer
        special = set(tokenizer.special_tokens.values())
        self.id = np.array([i for i in range(tokenizer.vocab_size) if i not in special], np.int32)
        self.words = [tokenizer.words[i].encode() for i in self.id.tolist()]
        data = b"".join(word + b"\n" for word in self.words)
        self.text = Text(data)
        self.size = np.fromiter(map(len, self.words), np.int64, len(self.words))
        self.start = np.cumsum(self.size + 1) - self.size - 1
        hashes = self.text.hashes(self.start, self.size) >> np.uint64(1)
        unique, self.first = np.unique(hashes.view(np.int64), return_index=True)
        self.table = HashTable(unique)
        self.first_eight = self.text.start_of(self.start, self.size)

    @functools.cached_property
    def _place(self):
        return {word: i for i, word in enumerate(self.words)}

    def ids(self, data):
        """The ids of the words of a text, the end id after each line, and which those are.

        Parameters
        ----------
        data : bytes, UTF-8

        Returns
        -------
        ids : int64 (N,)
        line_end : bool (N,)
        """
        text = Text(data)
        rows, ends = [np.empty(0, np.int64)], [np.empty(0, bool)]
        for span in spans(data, text.size):
            piece = look(text, span)
            ids = np.full(len(piece.line_end), self.tokenizer.end_id)
            ids[~piece.line_end] = self._look_up(text, piece)
            rows.append(ids)
            ends.append(piece.line_end)
        return np.concatenate(rows), np.concatenate(ends)

    def _look_up(self, text, piece):
        start, size = piece.start, piece.size
        found = self.table.find((piece.hash >> np.uint64(1)).view(np.int64))
        known = np.flatnonzero(found >= 0)
        word = self.first.take(found.take(known))  # its place in the vocabulary
        start, size = start.take(known), size.take(known)
        same = self.size.take(word) == size
        same &= self.first_eight.take(word) == text.start_of(start, size)
        there = self.start.take(word)
        for which, offset in text.later_bytes(np.where(same, size, 0)):
            same[which] &= (
                text.eights[start[which] + offset] == self.text.eights[there[which] + offset]
            )
        ids = np.full(len(found), self.tokenizer.unknown_id)
        ids[known] = self.id.take(word)
        for i in np.flatnonzero(~same | (size > LONG)).tolist():
            place = self._place.get(text.word(start[i], size[i]))
            ids[known[i]] = self.tokenizer.unknown_id if place is None else self.id[place]
        return ids
