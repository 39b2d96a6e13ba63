"""Our side of `minillm bench classical`: BLEU, chrF, TER and ROUGE of 1000 pairs of real text.

The pairs: sentences of Python's help topics, and the same with words left out, replaced, added and
moved. A hypothesis of several sentences has one on each line, as ROUGE-Lsum reads a summary.
"""

import re

import numpy as np

from minillm.data.python import topics
from minillm.errors import UserError
from minillm.metrics.bleu import bleu as our_bleu
from minillm.metrics.chrf import chrf as our_chrf
from minillm.metrics.rouge import rouge as our_rouge
from minillm.metrics.ter import ter as our_ter

__all__ = ["bleu", "chrf", "edited_pairs", "rouge", "ter"]


def edited_pairs(pairs, sentences=1, seed=0):
    """Hypotheses and references, lists of str: `sentences` that follow one another, edited."""
    found = topics()
    if found is None:
        raise UserError("this Python lacks pydoc_data.topics, the text that is to be scored")
    rng = np.random.default_rng(seed)
    pool = [
        sentence.split()
        for _, text in found[0]
        for paragraph in re.split(r"\n\s*\n", text)
        for sentence in re.split(r"(?<=[.!?])\s+", " ".join(paragraph.split()))
        if 8 <= len(sentence.split()) <= 40
    ]
    words = [word for sentence in pool for word in sentence]
    hypotheses, references = [], []
    for start in rng.integers(0, len(pool) - sentences, pairs).tolist():
        taken = pool[start : start + sentences]
        references.append("\n".join(map(" ".join, taken)))
        hypotheses.append("\n".join(" ".join(_edited(line, words, rng)) for line in taken))
    return hypotheses, references


def _edited(line, words, rng):
    """A sentence of which about one word in five is wrong, and in half of them a run is moved."""
    result = []
    for word, what in zip(line, rng.random(len(line)).tolist(), strict=True):
        other = words[rng.integers(len(words))]
        if what < 0.08:
            continue
        result.append(other if what < 0.16 else word)
        if what > 0.95:
            result.append(other)
    if rng.random() < 0.5:
        start, size = rng.integers(0, len(result) + 1), 6
        moved = result[start : start + size]
        del result[start : start + size]
        place = rng.integers(0, len(result) + 1)
        result[place:place] = moved
    return result


def bleu(threads, *, pairs=1000, cached=False):
    """BLEU of a corpus; `cached` is the peer's, that has seen the texts before."""
    hypotheses, references = edited_pairs(pairs)
    return lambda: our_bleu(hypotheses, references), 1


def chrf(threads, *, pairs=1000, word_order=0):
    hypotheses, references = edited_pairs(pairs)
    return lambda: our_chrf(hypotheses, references, word_order=word_order), 1


def ter(threads, *, pairs=1000, cached=False):
    hypotheses, references = edited_pairs(pairs)
    return lambda: our_ter(hypotheses, references), 1


def rouge(threads, *, pairs=1000, sentences=3, types, stem=False):
    """ROUGE of each pair and their mean."""
    hypotheses, references = edited_pairs(pairs, sentences)
    return lambda: our_rouge(hypotheses, references, types=types, stem=stem), 1
