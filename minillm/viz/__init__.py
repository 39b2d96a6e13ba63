"""Pictures of training and of what a model looks at."""

from minillm.viz.attention import attention_maps, attention_weights, token_names
from minillm.viz.curves import learning_curves, loss_curve
from minillm.viz.style import save

__all__ = [
    "attention_maps",
    "attention_weights",
    "learning_curves",
    "loss_curve",
    "save",
    "token_names",
]
