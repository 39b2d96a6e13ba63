"""Numbers that compare models."""

from minillm.metrics.bleu import BLEU, bleu, bleu_from_statistics, bleu_statistics
from minillm.metrics.bootstrap import (
    Comparison,
    Interval,
    bootstrap,
    of_sums,
    paired_bootstrap,
)
from minillm.metrics.chrf import ChrF, chrf, chrf_from_statistics, chrf_statistics
from minillm.metrics.classification import (
    Classification,
    Confusion,
    Scores,
    classification,
    confusion_matrix,
)
from minillm.metrics.crossval import CrossValidation, cross_validate, k_fold, stratified_k_fold
from minillm.metrics.evaluate import Evaluation, evaluate
from minillm.metrics.language import accuracy, bits_per_byte, perplexity
from minillm.metrics.rouge import Rouge, rouge, rouge_statistics
from minillm.metrics.sequence import entities, sequence_scores
from minillm.metrics.ter import TER, ter, ter_from_statistics, ter_statistics

__all__ = [
    "BLEU",
    "TER",
    "ChrF",
    "Classification",
    "Comparison",
    "Confusion",
    "CrossValidation",
    "Evaluation",
    "Interval",
    "Rouge",
    "Scores",
    "accuracy",
    "bits_per_byte",
    "bleu",
    "bleu_from_statistics",
    "bleu_statistics",
    "bootstrap",
    "chrf",
    "chrf_from_statistics",
    "chrf_statistics",
    "classification",
    "confusion_matrix",
    "cross_validate",
    "entities",
    "evaluate",
    "k_fold",
    "of_sums",
    "paired_bootstrap",
    "perplexity",
    "rouge",
    "rouge_statistics",
    "sequence_scores",
    "stratified_k_fold",
    "ter",
    "ter_from_statistics",
    "ter_statistics",
]
