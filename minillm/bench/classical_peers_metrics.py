"""The peers' side of `minillm bench classical`: sacrebleu and rouge_score, each at its best.

One scorer object serves all calls. sacrebleu remembers the tokens of the last 65,536 lines that it
saw, so that a benchmark that repeats itself would not pay for them: that memory is emptied before
each call, unless `cached`. The other way to spare it work, n-grams of references kept between
calls, is for several systems on one test set, and is left out.
"""

import logging

from sacrebleu import metrics
from sacrebleu.tokenizers.tokenizer_13a import Tokenizer13a
from sacrebleu.tokenizers.tokenizer_re import TokenizerRegexp
from sacrebleu.tokenizers.tokenizer_ter import TercomTokenizer

from minillm.bench.classical_ours_metrics import edited_pairs

__all__ = ["bleu", "chrf", "rouge", "ter"]


def bleu(threads, *, pairs=1000, cached=False):
    return _sacrebleu(metrics.BLEU(), (Tokenizer13a, TokenizerRegexp), pairs, cached)


def chrf(threads, *, pairs=1000, word_order=0):
    return _sacrebleu(metrics.CHRF(word_order=word_order), (), pairs, False)


def ter(threads, *, pairs=1000, cached=False):
    return _sacrebleu(metrics.TER(), (TercomTokenizer,), pairs, cached)


def _sacrebleu(scorer, remembering, pairs, cached):
    hypotheses, references = edited_pairs(pairs)

    def work():
        for tokenizer in () if cached else remembering:
            tokenizer.__call__.cache_clear()
        return scorer.corpus_score(hypotheses, [references])

    return work, 1


def rouge(threads, *, pairs=1000, sentences=3, types, stem=False):
    from rouge_score.rouge_scorer import RougeScorer

    logging.getLogger("absl").setLevel(logging.WARNING)  # it tells of its default tokenizer
    scorer = RougeScorer(types, use_stemmer=stem)
    hypotheses, references = edited_pairs(pairs, sentences)

    def work():
        found = [scorer.score(r, h) for h, r in zip(hypotheses, references, strict=True)]
        return {name: sum(pair[name].fmeasure for pair in found) / len(found) for name in types}

    return work, 1
