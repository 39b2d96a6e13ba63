"""chrF as its formula says, for characters and one reference: the specification of chrf.py.

Popović 2015, section 2: the F-score of the mean precision and the mean recall.
"""

from minillm.metrics.bleu_simple import ngrams

__all__ = ["chrf_simple"]


def chrf_simple(hypotheses, references, order=6, beta=2):
    """100 (1 + beta^2) P R / (beta^2 P + R) of str with a reference each, white space left out."""
    precisions, recalls = [], []
    for n in range(1, order + 1):
        hypothesis_total = reference_total = shared = 0
        for hypothesis, reference in zip(hypotheses, references, strict=True):
            ours = ngrams("".join(hypothesis.split()), n)
            theirs = ngrams("".join(reference.split()), n)
            if theirs:
                hypothesis_total += ours.total()
            reference_total += theirs.total()
            shared += (ours & theirs).total()
        if hypothesis_total and reference_total:
            precisions.append(shared / hypothesis_total)
            recalls.append(shared / reference_total)
    if not any(precisions):
        return 0.0
    p, r = sum(precisions) / len(precisions), sum(recalls) / len(recalls)
    return 100 * (1 + beta**2) * p * r / (beta**2 * p + r)
