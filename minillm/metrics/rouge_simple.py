"""ROUGE of one text and one reference as its formulas say: the specification of rouge.py.

Lin 2004, sections 2 (ROUGE-N), 3.1 (ROUGE-L) and 3.2 (ROUGE-L of summaries).
"""

from collections import Counter

from minillm.metrics.bleu_simple import ngrams

__all__ = ["rouge_l", "rouge_lsum", "rouge_n"]


def scores(shared, hypothesis, reference):
    """(precision, recall, F) of what is shared, and how much there is of both."""
    p = shared / hypothesis if hypothesis else 0.0
    r = shared / reference if reference else 0.0
    return p, r, 2 * p * r / (p + r) if shared else 0.0


def rouge_n(hypothesis, reference, n):
    """ROUGE-N of two lists of words."""
    ours, theirs = ngrams(hypothesis, n), ngrams(reference, n)
    return scores((ours & theirs).total(), ours.total(), theirs.total())


def rouge_l(hypothesis, reference):
    """ROUGE-L of two lists of words."""
    shared = lcs_table(reference, hypothesis)[-1][-1]
    return scores(shared, len(hypothesis), len(reference))


def rouge_lsum(hypothesis, reference):
    """ROUGE-Lsum of two lists of lines, each a list of words."""
    ours = Counter(word for line in hypothesis for word in line)
    theirs = Counter(word for line in reference for word in line)
    shared: Counter[str] = Counter()
    for line in reference:
        union = {place for other in hypothesis for place in lcs_path(line, other)}
        shared.update(line[place] for place in union)
    return scores((shared & ours & theirs).total(), ours.total(), theirs.total())


def lcs_table(a, b):
    """The length of the longest common subsequence of a[:i] and b[:j], at [i][j]."""
    table = [[0] * (len(b) + 1)]
    for word in a:
        above, row = table[-1], [0]
        for j, other in enumerate(b):
            row.append(above[j] + 1 if word == other else max(above[j + 1], row[j]))
        table.append(row)
    return table


def lcs_path(a, b):
    """The places in `a` of one longest common subsequence, from the last to the first."""
    table, i, j, path = lcs_table(a, b), len(a), len(b), []
    while i and j:
        if a[i - 1] == b[j - 1]:
            i, j = i - 1, j - 1
            path.append(i)
        elif table[i][j - 1] > table[i - 1][j]:
            j -= 1
        else:
            i -= 1
    return path
