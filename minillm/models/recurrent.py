"""Recurrent language models: an embedding, layers of RNN, LSTM or GRU, and a head over the
vocabulary (Mikolov et al. 2010, "Recurrent neural network based language model", section 2; with
stacked LSTMs and dropout between them, but never through time, Zaremba, Sutskever & Vinyals 2014,
arXiv:1409.2329, eq. 4-6). The tied head is Press & Wolf's (2017, arXiv:1608.05859).

The state goes in and comes out: passing one batch's on to the next is truncated back-propagation
through time (Williams & Peng 1990), for the state is no parameter and ends the gradient.

Left out: a projection between hidden and embedding size, dropout of weights, adaptive softmax.
"""

import dataclasses

import numpy as np

from minillm.ops import dropout, embedding_recurrent, linear, linear_cross_entropy
from minillm.ops._op import op
from minillm.ops._recurrent import given
from minillm.tree import map_leaves

STATEFUL = True  # a batch may go on where the one before it ended
GATES = {"rnn": 1, "lstm": 4, "gru": 3}  # of each cell


@dataclasses.dataclass(frozen=True)
class RecurrentConfig:
    """The shape of a recurrent language model.

    vocab_size V, cell "rnn", "lstm" or "gru", n_embd C, n_hidden K, n_layer L, dropout: a
    probability, tied: one array embeds and predicts (n_embd must be n_hidden).
    """

    vocab_size: int
    cell: str = "lstm"
    n_embd: int = 128
    n_hidden: int = 128
    n_layer: int = 2
    dropout: float = 0.0
    tied: bool = False

    def __post_init__(self):
        for name in ("vocab_size", "n_embd", "n_hidden", "n_layer"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")
        if self.cell not in GATES:
            raise ValueError(f"cell must be one of {', '.join(GATES)}, got {self.cell!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout!r}")
        if self.tied and self.n_embd != self.n_hidden:
            raise ValueError(
                f"tied needs n_embd == n_hidden, got n_embd {self.n_embd}, n_hidden {self.n_hidden}"
            )


def init(config, rng, dtype=np.float32):
    """torch's start: uniform in ±1/sqrt(K) (LSTM, GRU and RNN layers, and the head), N(0, 1) for
    the embedding. A tied array is uniform in ±0.1, as in AWD-LSTM (Merity, Keskar & Socher 2018,
    arXiv:1708.02182), since N(0, 1) would make the first logits far too large. The LSTM's forget
    bias is 1, so that it remembers from the start (Jozefowicz, Zaremba & Sutskever 2015, section
    3.2).

    Returns
    -------
    params : dict
        embedding {weight (V, C)}, layers: L dicts as in rnn_cell, lstm_cell, gru_cell,
        head {weight (V, K) unless tied, bias (V,)}
    """
    V, C, K = config.vocab_size, config.n_embd, config.n_hidden
    bound, width = 1 / np.sqrt(K), GATES[config.cell] * K

    def uniform(*shape, bound=bound):
        return rng.uniform(-bound, bound, shape).astype(dtype)

    def layer(channels):
        weights = {"weight_x": uniform(channels, width), "weight_h": uniform(K, width)}
        weights["bias"] = uniform(width)
        if config.cell == "lstm":
            weights["bias"][K : 2 * K] = 1
        if config.cell == "gru":
            weights["bias_h"] = uniform(width)
        return weights

    table = uniform(V, C, bound=0.1) if config.tied else rng.standard_normal((V, C)).astype(dtype)
    layers = [layer(C if index == 0 else K) for index in range(config.n_layer)]
    head = {} if config.tied else {"weight": uniform(V, K)}
    return {"embedding": {"weight": table}, "layers": layers, "head": head | {"bias": uniform(V)}}


@op
def recurrent_hidden(params, *, ids, config, state=None, rng=None):
    """Embed the ids and run the layers over them.

    Equation: hidden, state' = dropout(layers(dropout(embedding[ids]), state))

    Parameters
    ----------
    params : see `init`
    ids : (B, T) integers in [0, V)
    config : RecurrentConfig
    state : what an earlier call returned, or None for zeros; (L, B, K), an LSTM's {"h", "c"}
    rng : numpy.random.Generator or None (no dropout)

    Returns
    -------
    hidden : (B, T, K)
    state' : the state after the last id, like `state`

    Raises
    ------
    ValueError
        for ids that are no (B, T) integers, or a state of another shape.
    """
    table, p = params["embedding"]["weight"], config.dropout
    (y, state), cache_layers = embedding_recurrent(
        table, state, params["layers"], ids=ids, cell=config.cell, dropout=p, rng=rng
    )  # y: (B, T, K)
    hidden, cache_dropout = dropout(y, p=p, rng=rng)
    return (hidden, state), (cache_layers, cache_dropout, table, hidden.shape)


@recurrent_hidden.defbackward
def recurrent_hidden_backward(dout, cache):
    cache_layers, cache_dropout, table, shape = cache
    dhidden, dstate = given(dout[0], table, shape), dout[1]
    # forward: hidden = dropout(y)
    dy = dropout.backward(dhidden, cache_dropout)
    # forward: y, state' = layers(dropout(embedding[ids]), state); the state is no parameter
    dtable, _, dlayers = embedding_recurrent.backward((dy, dstate), cache_layers)
    return {"embedding": {"weight": dtable}, "layers": dlayers}


@op
def recurrent(params, *, ids, config, state=None, rng=None):
    """The logits of the token after each position.

    Equation: logits = hidden @ head.T + bias

    Parameters
    ----------
    params, ids, config, state, rng : see recurrent_hidden

    Returns
    -------
    logits : (B, T, V)
    state' : like `state`
    """
    (hidden, state), cache_hidden = recurrent_hidden(
        params, ids=ids, config=config, state=state, rng=rng
    )
    logits, cache_head = linear(hidden, _head(params).T, params["head"]["bias"])  # (B, T, V)
    return (logits, state), (params, logits.shape, cache_hidden, cache_head)


@recurrent.defbackward
def recurrent_backward(dout, cache):
    params, shape, cache_hidden, cache_head = cache
    dlogits, dstate = given(dout[0], _head(params), shape), dout[1]
    # forward: logits = hidden @ head.T + bias
    dhidden, dhead_t, dbias = linear.backward(dlogits, cache_head)
    grads = recurrent_hidden.backward((dhidden, dstate), cache_hidden)
    return _with_head(grads, params, dhead_t.T, dbias)


@op
def recurrent_loss(params, *, ids, targets, config, state=None, rng=None):
    """The mean negative log-likelihood of the targets, in nats, without keeping the logits.

    Equation: loss = -mean(log softmax(hidden @ head.T + bias)[targets])

    Parameters
    ----------
    params, ids, config, state, rng : see recurrent_hidden
    targets : (B, T) integers in [0, V), or -100: does not count

    Returns
    -------
    loss : scalar, nats a token
    state' : like `state`
    """
    (hidden, state), cache_hidden = recurrent_hidden(
        params, ids=ids, config=config, state=state, rng=rng
    )
    bias = params["head"]["bias"]
    loss, cache_head = linear_cross_entropy(hidden, _head(params), bias, targets=targets)
    return (loss, state), (params, cache_hidden, cache_head)


@recurrent_loss.defbackward
def recurrent_loss_backward(dout, cache):
    params, cache_hidden, cache_head = cache
    dloss, dstate = 0.0 if dout[0] is None else dout[0], dout[1]
    # forward: loss = cross_entropy(hidden @ head.T + bias, targets)
    dhidden, dhead, dbias = linear_cross_entropy.backward(dloss, cache_head)
    grads = recurrent_hidden.backward((dhidden, dstate), cache_hidden)
    return _with_head(grads, params, dhead, dbias)


def _head(params):
    """(V, K): the head's own weight, or the embedding's where the two are tied."""
    return params["head"].get("weight", params["embedding"]["weight"])


def _with_head(grads, params, dhead, dbias):
    if "weight" in params["head"]:
        return grads | {"head": {"weight": dhead, "bias": dbias}}
    # a tied array has embedded and predicted: its two gradients add up
    grads["embedding"]["weight"] = grads["embedding"]["weight"] + dhead
    return grads | {"head": {"bias": dbias}}


def start(params, config, batch, dtype=None):
    """The past of `batch` texts of which nothing has been read.

    Returns
    -------
    past : {"state": (L, B, K) of zeros, an LSTM's {"h", "c"}}
    """
    shape = config.n_layer, batch, config.n_hidden
    table = params["embedding"]["weight"]
    dtype = table.dtype if dtype is None else dtype
    if config.cell == "lstm":
        return {"state": {name: np.zeros(shape, dtype, like=table) for name in ("h", "c")}}
    return {"state": np.zeros(shape, dtype, like=table)}


def step(params, past, *, ids, config):
    """Read ids (B, n), n >= 1, and score what follows: logits (B, V). Moves `past` on."""
    (hidden, past["state"]), _ = recurrent_hidden(
        params, ids=ids, config=config, state=past["state"]
    )
    return linear(hidden[:, -1], _head(params).T, params["head"]["bias"])[0]


def reorder(past, index):
    """A new past whose text number b is the old one's number index[b]; beams are kept so."""
    return {"state": map_leaves(lambda leaf: leaf[:, index], past["state"])}


forward, backward = recurrent, recurrent_backward
loss, loss_backward = recurrent_loss, recurrent_loss_backward
