"""Pictures of training, of what a model looks at, and of the tokens it reads."""

from minillm.viz.attention import attention_maps, attention_weights, token_names
from minillm.viz.curves import learning_curves, loss_curve
from minillm.viz.languages import bytes_per_token, bytes_per_token_bars, bytes_per_token_table
from minillm.viz.source import show_source
from minillm.viz.style import save
from minillm.viz.tokens import TokenView

__all__ = [
    "TokenView",
    "attention_maps",
    "attention_weights",
    "bytes_per_token",
    "bytes_per_token_bars",
    "bytes_per_token_table",
    "learning_curves",
    "loss_curve",
    "save",
    "show_source",
    "token_names",
]
