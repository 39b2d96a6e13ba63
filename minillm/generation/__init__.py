"""Text from a trained model: sampling, greedy choice and beam search."""

from minillm.generation.beam import beam_search
from minillm.generation.generate import generate, stream
from minillm.generation.sampling import Sampling

__all__ = ["Sampling", "beam_search", "generate", "stream"]
