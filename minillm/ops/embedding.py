"""Word embeddings by look-up (Bengio, Ducharme, Vincent & Jauvin 2003, JMLR 3, section 2: "C").

Left out: a check that the ids are in range, which is made on the host when a batch is made; a
frozen padding row.
"""

import numpy as np

from minillm.ops._check import check_integers
from minillm.ops._op import check_shape, op


@op
def embedding(weight, *, ids):
    """Look up one row of the weight for each id.

    Equation: y[b, t] = weight[ids[b, t]]

    Parameters
    ----------
    weight : (V, C)
    ids : (...) integers in [0, V)

    Returns
    -------
    y : (..., C)

    Raises
    ------
    ValueError
        where the weight is no matrix or the ids are no integers.
    """
    check_shape("weight", weight, (None, None))
    check_integers("ids", ids)
    return weight[ids], (weight, ids)


@embedding.defbackward
def embedding_backward(dy, cache):
    weight, ids = cache
    # forward: y = weight[ids]; a repeated id gets all its gradients, of which `+=` keeps only one
    dweight = np.zeros_like(weight)  # (V, C)
    np.add.at(dweight, ids, dy)
    return dweight
