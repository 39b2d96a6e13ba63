"""Skip-gram with negative sampling (Mikolov, Sutskever, Chen, Corrado & Dean 2013, "Distributed
representations of words and phrases and their compositionality", arXiv:1310.4546, eq. 4).

Each word has two vectors: one as the word that is read, one as a word of somebody's context. A
word and what stands near it shall have a large dot product, a word and k words drawn from a noise
distribution a small one. No softmax over the vocabulary is ever computed.

Left out: what the pairs are, see minillm/data/pairs.py; the loop, which updates the touched rows
alone, see minillm/training/skip_gram.py; the hierarchical softmax and the phrases of the paper.
word2vec.c passes over a negative that equals the context; eq. 4 does not, nor do we.
"""

import dataclasses

import numpy as np

from minillm.ops import binary_cross_entropy, embedding
from minillm.ops._check import check_integers
from minillm.ops._op import op


@dataclasses.dataclass(frozen=True)
class SkipGramConfig:
    """vocab_size V, n_embd C."""

    vocab_size: int
    n_embd: int = 64

    def __post_init__(self):
        for name in ("vocab_size", "n_embd"):
            value = getattr(self, name)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ValueError(f"{name} must be a whole number of at least 1, got {value!r}")


def init(config, rng, dtype=np.float32):
    """word2vec.c's start: word vectors uniform in ±1/(2 C), context vectors 0. The first loss is
    (1 + k) log 2, and a context's first gradient is not 0, for the words' vectors differ.

    Returns
    -------
    params : {"word": {"weight": (V, C)}, "context": {"weight": (V, C)}}
    """
    shape = config.vocab_size, config.n_embd
    words = rng.uniform(-0.5 / config.n_embd, 0.5 / config.n_embd, shape)
    return {"word": {"weight": words.astype(dtype)}, "context": {"weight": np.zeros(shape, dtype)}}


@op
def skip_gram(params, *, words, others):
    """How well each of S other words fits each word: the logit that it stood near it.

    Equation: logits[n, s] = context[others[n, s]] . word[words[n]]

    Parameters
    ----------
    params : see `init`
    words : (N,) integers in [0, V)
    others : (N, S) integers in [0, V)

    Returns
    -------
    logits : (N, S)

    Raises
    ------
    ValueError
        for words or others of another shape or dtype.
    """
    check_integers("words", words)
    check_integers("others", others)
    if words.ndim != 1 or others.ndim != 2 or len(others) != len(words):
        raise ValueError(
            f"words must have shape (N,) and others (N, S), got {words.shape} and {others.shape}"
        )
    v, cache_v = embedding(params["word"]["weight"], ids=words)  # (N, C)
    u, cache_u = embedding(params["context"]["weight"], ids=others)  # (N, S, C)
    logits = (u @ v[:, :, None])[..., 0]  # (N, S), each u . v
    return logits, (v, u, cache_v, cache_u)


@skip_gram.defbackward
def skip_gram_backward(dlogits, cache):
    v, u, cache_v, cache_u = cache
    # forward: logits[n, s] = sum over c of u[n, s, c] * v[n, c]; one v met S different u
    dv = (dlogits[:, None, :] @ u)[:, 0]  # (N, C)
    du = dlogits[..., None] * v[:, None, :]  # (N, S, C)
    # forward: v = word[words], u = context[others]; a row that came up twice gets both gradients
    dword = embedding.backward(dv, cache_v)  # (V, C)
    dcontext = embedding.backward(du, cache_u)  # (V, C)
    return {"word": {"weight": dword}, "context": {"weight": dcontext}}


@op
def skip_gram_loss(params, *, words, contexts, negatives):
    """Eq. 4 with its sign turned, as the mean over the pairs, in nats.

    Equation: loss = -mean_n(log sigmoid(u_c . v_w) + sum_k log sigmoid(-u_k . v_w))

    Parameters
    ----------
    params : see `init`
    words, contexts : (N,) integers in [0, V), a word and one that stood near it
    negatives : (N, K) integers in [0, V), K words for each pair from the noise distribution

    Returns
    -------
    loss : scalar, nats a pair
    """
    check_integers("words", words)
    if words.ndim != 1:
        raise ValueError(f"words must have shape (N,), got {words.shape}")
    check_integers("negatives", negatives)
    check_integers("contexts", contexts, words.shape)
    if negatives.ndim != 2 or len(negatives) != len(words):
        raise ValueError(f"negatives must have shape ({len(words)}, K), got {negatives.shape}")
    others = np.concatenate([contexts[:, None], negatives], axis=1)  # (N, S), S = 1 + K
    logits, cache_logits = skip_gram(params, words=words, others=others)  # (N, S)
    targets = np.zeros_like(others)
    targets[:, 0] = 1  # yes, it stood there; no, the others were only drawn
    mean, cache_mean = binary_cross_entropy(logits, targets=targets)
    # the op's mean is over N * S answers, eq. 4 sums the S answers of a pair
    return mean * others.shape[1], (others.shape[1], cache_logits, cache_mean)


@skip_gram_loss.defbackward
def skip_gram_loss_backward(dloss, cache):
    n_answers, cache_logits, cache_mean = cache
    # forward: loss = S * mean(answers)
    dlogits = binary_cross_entropy.backward(dloss * n_answers, cache_mean)  # (N, S)
    # forward: logits = skip_gram(params)
    return skip_gram.backward(dlogits, cache_logits)


forward, backward = skip_gram, skip_gram_backward
loss, loss_backward = skip_gram_loss, skip_gram_loss_backward
