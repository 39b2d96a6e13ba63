"""The CPU's default backend: the same mathematics in cache-sized pieces, held to the same tests.

An op that is not here runs as its reference.
"""

from minillm.ops.fast import (
    add_layer_norm,
    embedding,
    embedding_recurrent,
    flash_attention,
    gelu,
    gru,
    layer_norm,
    linear,
    linear_cross_entropy,
    lstm,
    mlp_gelu,
    multi_head_attention,
    rnn,
)
