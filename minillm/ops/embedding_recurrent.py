"""Recurrent layers that read tokens (Mikolov et al. 2010, "Recurrent neural network based language
model", section 2: the input is a one-hot vector).

Here it is its parts in sequence. Another backend may use that an embedding's rows pass through the
first layer's weights before time plays any part: the product is needed once for each token of the
vocabulary, not for each token of the text.

Left out: the head and the loss, see linear_cross_entropy.py.
"""

from minillm.ops._op import op
from minillm.ops.dropout import dropout as dropout_op
from minillm.ops.embedding import embedding
from minillm.ops.gru import gru
from minillm.ops.lstm import lstm
from minillm.ops.rnn import rnn

LAYERS = {"rnn": rnn, "lstm": lstm, "gru": gru}


@op
def embedding_recurrent(weight, state, params, *, ids, cell, dropout=0.0, rng=None):
    """Look the ids up and run recurrent layers over them.

    Equation: y, state' = layers(dropout(weight[ids]), state)

    Parameters
    ----------
    weight : (V, C)
    state, params : as in rnn, lstm or gru
    ids : (B, T) integers in [0, V)
    cell : "rnn", "lstm" or "gru"
    dropout : float, the share of the embedding, and of each layer's outputs, that the next layer
        does not see
    rng : numpy.random.Generator or None, None turns dropout off

    Returns
    -------
    y : (B, T, K)
    state' : like the state

    Raises
    ------
    ValueError
        for an unknown cell, ids that are no (B, T) integers, and as the parts do.
    """
    layers = check_cell_and_ids(cell, ids)
    x, cache_embedding = embedding(weight, ids=ids)  # (B, T, C)
    x, cache_dropout = dropout_op(x, p=dropout, rng=rng)
    out, cache_layers = layers(x, state, params, dropout=dropout, rng=rng)  # y: (B, T, K)
    return out, (cache_embedding, cache_dropout, layers, cache_layers)


@embedding_recurrent.defbackward
def embedding_recurrent_backward(dout, cache):
    cache_embedding, cache_dropout, layers, cache_layers = cache
    # forward: y, state' = layers(x, state)
    dx, dstate, dparams = layers.backward(dout, cache_layers)
    # forward: x = dropout(weight[ids])
    dx = dropout_op.backward(dx, cache_dropout)  # (B, T, C)
    return embedding.backward(dx, cache_embedding), dstate, dparams


def check_cell_and_ids(cell, ids):
    """The cell's layers."""
    if cell not in LAYERS:
        raise ValueError(f"cell must be one of {', '.join(LAYERS)}, got {cell!r}")
    if getattr(ids, "ndim", None) != 2:
        raise ValueError(f"ids must have shape (B, T), got {getattr(ids, 'shape', type(ids))}")
    return LAYERS[cell]
