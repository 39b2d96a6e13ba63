"""embedding_recurrent: the first layer's products are made once for each token of the vocabulary.

Without dropout in between, x @ weight_x = (table @ weight_x)[ids], and backward needs the gates'
gradients only as their sum over each token's places. With 65 characters and 2048 places in a batch
that is three of the twelve large products of two layers' step.
"""

from minillm.ops._check import check_integers
from minillm.ops._op import check_shape, register
from minillm.ops._state import Registry
from minillm.ops.embedding_recurrent import check_cell_and_ids


def embedding_recurrent(weight, state, params, *, ids, cell, dropout=0.0, rng=None):
    check_cell_and_ids(cell, ids)
    check_integers("ids", ids)
    check_shape("weight", weight, (None, None))
    if not _pays(weight, ids) or (rng is not None and dropout > 0):
        forward, backward = Registry.ops["embedding_recurrent"]["numpy"]  # the parts are fast ones
        out, cache = forward(weight, state, params, ids=ids, cell=cell, dropout=dropout, rng=rng)
    else:
        forward, backward = Registry.ops[cell]["fast"]
        out, cache = forward((weight, ids), state, params, dropout=dropout, rng=rng)
    return out, (backward, cache)


def embedding_recurrent_backward(dout, cache):
    backward, cache = cache
    return backward(dout, cache)


def _pays(weight, ids):
    """Does it halve the first layer's multiplications outside the loop over time?"""
    (vocabulary, channels), places = weight.shape, ids.size
    return 2 * vocabulary * (3 * channels + places) <= 3 * channels * places


register("embedding_recurrent", "fast", embedding_recurrent, embedding_recurrent_backward)
