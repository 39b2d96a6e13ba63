"""The functional core: one op a file, its forward and its hand-derived backward side by side.

Dimension letters, the same in every file:

B batch · T query positions (time) · S key positions · C model channels · H heads (query)
G key/value heads · D channels of a head · F feed-forward channels · K recurrent channels
V vocabulary · N rows of any kind · L layers
"""

from minillm.ops.add_layer_norm import add_layer_norm
from minillm.ops.add_rms_norm import add_rms_norm
from minillm.ops.binary_cross_entropy import binary_cross_entropy
from minillm.ops.cross_entropy import cross_entropy
from minillm.ops.dropout import dropout
from minillm.ops.embedding import embedding
from minillm.ops.embedding_recurrent import embedding_recurrent
from minillm.ops.flash_attention import flash_attention
from minillm.ops.gelu import gelu
from minillm.ops.gru import gru
from minillm.ops.gru_cell import gru_cell
from minillm.ops.layer_norm import layer_norm
from minillm.ops.linear import linear
from minillm.ops.linear_cross_entropy import linear_cross_entropy
from minillm.ops.log_softmax import log_softmax
from minillm.ops.lstm import lstm
from minillm.ops.lstm_cell import lstm_cell
from minillm.ops.mlp_gelu import mlp_gelu
from minillm.ops.mse import mse
from minillm.ops.multi_head_attention import multi_head_attention
from minillm.ops.relu import relu
from minillm.ops.rms_norm import rms_norm
from minillm.ops.rnn import rnn
from minillm.ops.rnn_cell import rnn_cell
from minillm.ops.rotary import rotary
from minillm.ops.scaled_dot_product_attention import scaled_dot_product_attention
from minillm.ops.sigmoid import sigmoid
from minillm.ops.silu import silu
from minillm.ops.sinusoidal import sinusoidal
from minillm.ops.softmax import softmax
from minillm.ops.swiglu import swiglu
from minillm.ops.tanh import tanh
from minillm.ops.transformer_block import transformer_block

__all__ = [
    "add_layer_norm",
    "add_rms_norm",
    "binary_cross_entropy",
    "cross_entropy",
    "dropout",
    "embedding",
    "embedding_recurrent",
    "flash_attention",
    "gelu",
    "gru",
    "gru_cell",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "log_softmax",
    "lstm",
    "lstm_cell",
    "mlp_gelu",
    "mse",
    "multi_head_attention",
    "relu",
    "rms_norm",
    "rnn",
    "rnn_cell",
    "rotary",
    "scaled_dot_product_attention",
    "sigmoid",
    "silu",
    "sinusoidal",
    "softmax",
    "swiglu",
    "tanh",
    "transformer_block",
]

from minillm.ops import fast as _fast  # registers the CPU's default pairs
