"""The neural n-gram: a network that reads the n - 1 tokens before the next one (Bengio, Ducharme,
Vincent & Jauvin 2003, "A neural probabilistic language model", JMLR 3, section 2, eq. 1).

A counted n-gram knows a context or does not. Here each token has a vector, so that a context which
never occurred is read like the ones near it that did.

Where a text begins there are no n - 1 tokens yet. Each missing one is the padding id V, the last
row of the embedding: it means "nothing is known here", is learnt like any other row, and is never
predicted. The beginning of a block in training is such a beginning too.

Left out: the paper's mixture with a counted trigram, see minillm/models/mixture.py; its weight
decay is AdamW's; dropout is not the paper's.
"""

import dataclasses

import numpy as np

from minillm.ops import dropout, embedding, linear, linear_cross_entropy, tanh
from minillm.ops._op import op

STATEFUL = False  # the loss of a batch depends on nothing before it


@dataclasses.dataclass(frozen=True)
class NeuralNgramConfig:
    """The shape of a neural n-gram.

    vocab_size V, order n (n - 1 tokens are read), n_embd C (the paper's m), n_hidden K (its h),
    direct: the paper's W, connections from the embeddings straight to the scores; dropout: a
    probability.
    """

    vocab_size: int
    order: int = 5
    n_embd: int = 128
    n_hidden: int = 128
    direct: bool = False
    dropout: float = 0.0

    def __post_init__(self):
        for name, least in (("vocab_size", 1), ("order", 2), ("n_embd", 1), ("n_hidden", 1)):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < least:
                raise ValueError(
                    f"{name} must be a whole number of at least {least}, got {value!r}"
                )
        if not isinstance(self.direct, bool):
            raise ValueError(f"direct must be True or False, got {self.direct!r}")
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout must be at least 0 and below 1, got {self.dropout!r}")

    @property
    def reach(self):
        """How many tokens a prediction sees."""
        return self.order - 1

    @property
    def n_features(self):
        """F, what the head reads: the hidden units, and with `direct` the embeddings too."""
        return self.n_hidden + (self.reach * self.n_embd if self.direct else 0)


def init(config, rng, dtype=np.float32):
    """As recurrent.py begins: N(0, 1) for the embedding, the rest uniform in ±1/sqrt(inputs).

    Returns
    -------
    params : dict
        embedding {weight (V + 1, C)}, the paper's C, with the padding's row V;
        hidden {weight ((n - 1) C, K), bias (K,)}, its H and d;
        head {weight (V, F), bias (V,)}, its U, beside it W where there is one, and b
    """
    V, C, K, F = config.vocab_size, config.n_embd, config.n_hidden, config.n_features
    inputs = config.reach * C

    def uniform(n_in, *shape):
        return rng.uniform(-1 / np.sqrt(n_in), 1 / np.sqrt(n_in), shape).astype(dtype)

    return {
        "embedding": {"weight": rng.standard_normal((V + 1, C)).astype(dtype)},
        "hidden": {"weight": uniform(inputs, inputs, K), "bias": uniform(inputs, K)},
        "head": {"weight": uniform(F, V, F), "bias": uniform(F, V)},
    }


def contexts(ids, config):
    """The last n - 1 ids at each position, its own included; V where there is none yet.

    Parameters
    ----------
    ids : (B, T) integers

    Returns
    -------
    context : (B, T, n - 1), the oldest first
    """
    missing = config.reach - 1
    pad = np.full_like(ids, config.vocab_size, shape=(len(ids), missing))
    padded = np.concatenate([pad, ids], axis=1)  # (B, n - 2 + T)
    steps = np.arange(ids.shape[1], like=ids)[:, None] + np.arange(config.reach, like=ids)
    return padded[:, steps]  # (B, T, n - 1)


@op
def neural_ngram_features(params, *, ids, config, rng=None):
    """What the head reads: the hidden units over the embeddings of the last n - 1 tokens.

    Equation: features = [tanh(d + H x), x], x = (C(w[t-n+2]), ..., C(w[t])); x only with `direct`

    Parameters
    ----------
    params : see `init`
    ids : (B, T) integers in [0, V)
    config : NeuralNgramConfig
    rng : numpy.random.Generator or None (no dropout)

    Returns
    -------
    features : (B, T, F)

    Raises
    ------
    ValueError
        for ids that are no (B, T) integers.
    """
    if getattr(ids, "ndim", None) != 2:
        raise ValueError(f"ids must have shape (B, T), got {getattr(ids, 'shape', type(ids))}")
    p, hidden = config.dropout, params["hidden"]
    vectors, cache_embedding = embedding(
        params["embedding"]["weight"], ids=contexts(ids, config)
    )  # (B, T, n - 1, C)
    x = vectors.reshape(*ids.shape, -1)  # (B, T, (n - 1) C)
    x, cache_x = dropout(x, p=p, rng=rng)
    z, cache_hidden = linear(x, hidden["weight"], hidden["bias"])  # (B, T, K)
    a, cache_tanh = tanh(z)  # (B, T, K)
    a, cache_a = dropout(a, p=p, rng=rng)
    features = np.concatenate([a, x], axis=-1) if config.direct else a  # (B, T, F)
    caches = cache_embedding, cache_x, cache_hidden, cache_tanh, cache_a
    return features, (config, vectors.shape, caches)


@neural_ngram_features.defbackward
def neural_ngram_features_backward(dfeatures, cache):
    config, shape, caches = cache
    cache_embedding, cache_x, cache_hidden, cache_tanh, cache_a = caches
    # forward: features = [a, x]
    da, dx_direct = np.split(dfeatures, [config.n_hidden], axis=-1)  # (B, T, K), (B, T, F - K)
    # forward: a = dropout(tanh(z))
    da = dropout.backward(da, cache_a)
    dz = tanh.backward(da, cache_tanh)
    # forward: z = x @ H + d
    dx, dweight, dbias = linear.backward(dz, cache_hidden)
    # x went two ways, through the hidden units and past them: its two gradients add up
    if config.direct:
        dx = dx + dx_direct
    # forward: x = dropout(the n - 1 vectors, one after the other)
    dvectors = dropout.backward(dx, cache_x).reshape(shape)  # (B, T, n - 1, C)
    # a token is read at n - 1 positions, and at each from a part of H of its own
    dtable = embedding.backward(dvectors, cache_embedding)
    return {"embedding": {"weight": dtable}, "hidden": {"weight": dweight, "bias": dbias}}


@op
def neural_ngram(params, *, ids, config, rng=None):
    """The logits of the token after each position.

    Equation: y = b + W x + U tanh(d + H x)

    Parameters
    ----------
    params, ids, config, rng : see neural_ngram_features

    Returns
    -------
    logits : (B, T, V)
    """
    features, cache_features = neural_ngram_features(params, ids=ids, config=config, rng=rng)
    head = params["head"]
    logits, cache_head = linear(features, head["weight"].T, head["bias"])  # (B, T, V)
    return logits, (cache_features, cache_head)


@neural_ngram.defbackward
def neural_ngram_backward(dlogits, cache):
    cache_features, cache_head = cache
    # forward: logits = features @ [U, W].T + b
    dfeatures, dweight_t, dbias = linear.backward(dlogits, cache_head)
    grads = neural_ngram_features.backward(dfeatures, cache_features)
    return grads | {"head": {"weight": dweight_t.T, "bias": dbias}}


@op
def neural_ngram_loss(params, *, ids, targets, config, rng=None):
    """The mean negative log-likelihood of the targets, in nats, without keeping the logits.

    Equation: loss = -mean(log softmax(b + W x + U tanh(d + H x))[targets])

    Parameters
    ----------
    params, ids, config, rng : see neural_ngram_features
    targets : (B, T) integers in [0, V), or -100: does not count

    Returns
    -------
    loss : scalar, nats a token
    """
    features, cache_features = neural_ngram_features(params, ids=ids, config=config, rng=rng)
    head = params["head"]
    loss, cache_head = linear_cross_entropy(features, head["weight"], head["bias"], targets=targets)
    return loss, (cache_features, cache_head)


@neural_ngram_loss.defbackward
def neural_ngram_loss_backward(dloss, cache):
    cache_features, cache_head = cache
    # forward: loss = cross_entropy(features @ [U, W].T + b, targets)
    dfeatures, dweight, dbias = linear_cross_entropy.backward(dloss, cache_head)
    grads = neural_ngram_features.backward(dfeatures, cache_features)
    return grads | {"head": {"weight": dweight, "bias": dbias}}


def start(params, config, batch):
    """The past of `batch` texts of which nothing has been read: padding.

    Returns
    -------
    past : {"ids": (B, n - 2)}, what the next prediction sees beside the next id
    """
    table = params["embedding"]["weight"]
    pad = np.full((batch, config.reach - 1), config.vocab_size, np.int32, like=table)
    return {"ids": pad}


def step(params, past, *, ids, config):
    """Read ids (B, n), n >= 1, and score what follows: logits (B, V). Moves `past` on."""
    context = np.concatenate([past["ids"], ids], axis=1)[:, -config.reach :]  # (B, n - 1)
    past["ids"] = context[:, 1:]
    features, _ = neural_ngram_features(params, ids=context, config=config)
    head = params["head"]
    return linear(features[:, -1], head["weight"].T, head["bias"])[0]


def reorder(past, index):
    """A new past whose text number b is the old one's number index[b]; beams are kept so."""
    return {"ids": past["ids"][index]}


forward, backward = neural_ngram, neural_ngram_backward
loss, loss_backward = neural_ngram_loss, neural_ngram_loss_backward
