"""An ARPA file's n-grams before they are a model's, and what the file leaves unsaid.

A token without a line of its own, <unk> among them, has the probability that KenLM gives it. An
n-gram's first or last words may be missing, as SRILM's pruning leaves them; see `complete`.
"""

import numpy as np

from minillm.models.ngram_arpa import LEAST

__all__ = ["Missing", "Table", "complete", "look_up", "power", "unigrams"]

ABSENT = -100.0  # log10 p of a token that is not in the file, as in KenLM


class Table:
    """The n-grams of one length as they stand in the file.

    tokens : int64 (m, n); p, weight : float64 (m,), log10; line : int, of the first one
    """

    def __init__(self, tokens, p, weight, line):
        self.tokens, self.p, self.weight, self.line = tokens, p, weight, line


class Missing(Exception):
    """Some n-gram has no place for its first or last words."""


def unigrams(ids, p, weight, tokenizer):
    """A line for each token of the vocabulary; what follows <s> follows the end id."""
    size = tokenizer.vocab_size
    all_p, all_weight = np.full(size + 1, ABSENT), np.zeros(size + 1)  # <s> at the end
    all_p[ids], all_weight[ids] = p, weight
    all_weight[tokenizer.end_id] = all_weight[size]
    return Table(np.arange(size)[:, None], all_p[:size], all_weight[:size], 0)


def look_up(levels, tokens):
    """The n-gram that each row of tokens (m, k) is; 0 for k = 0, -1 where there is none."""
    if tokens.shape[1] == 0:
        return np.zeros(len(tokens), np.int64)
    gram = tokens[:, 0]
    for k in range(1, tokens.shape[1]):
        gram = levels[k].find(gram, tokens[:, k])
    return gram


def complete(tables):
    """Add the n-grams that longer ones begin or end with, to be given what backing off gives."""
    for table, longer in zip(tables[-2:0:-1], tables[:1:-1], strict=True):
        there = set(map(tuple, table.tokens.tolist()))
        rows = longer.tokens.tolist()
        needed = {tuple(row[:-1]) for row in rows} | {tuple(row[1:]) for row in rows}
        more = np.array(sorted(needed - there), np.int64).reshape(-1, table.tokens.shape[1])
        table.tokens = np.concatenate([table.tokens, more])
        table.p = np.append(table.p, np.full(len(more), np.nan))
        table.weight = np.append(table.weight, np.zeros(len(more)))


def power(log10):
    """10 to the power of (m,), but 0 for LEAST, which stands for the logarithm of 0 in the file."""
    return np.where(log10 == LEAST, 0.0, np.power(10.0, log10))
