"""Numbers that compare models."""

from minillm.metrics.evaluate import Evaluation, evaluate
from minillm.metrics.language import accuracy, bits_per_byte, perplexity

__all__ = ["Evaluation", "accuracy", "bits_per_byte", "evaluate", "perplexity"]
