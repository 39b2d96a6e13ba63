"""How surprised a neural model is by each token of a text: -log p, in nats.

A recurrent model reads the whole stream and carries its state along; so does a neural n-gram, whose
state is the few ids that it sees. A GPT sees a block at a time;
its windows overlap by half, and of each only the half that no window has scored before counts, so
that every prediction has at least half a block before it where the text has that much.
"""

import numpy as np

__all__ = ["score_stream", "score_windows"]

TOKENS_AT_ONCE = 4096  # of a forward pass, whose cache grows with them
LOGITS_AT_ONCE = 1 << 22


def score_windows(forward, inputs, targets, block):
    """Score with windows of `block` tokens.

    Parameters
    ----------
    forward : (B, T) ids -> logits (B, T, V)
    inputs, targets : (N,) int, the token before each and the token itself
    block : int

    Returns
    -------
    nats : (N,) float64
    correct : (N,) bool, the token was the model's likeliest
    """
    n, block = len(inputs), min(block, len(inputs))
    nats, correct = np.empty(n), np.empty(n, bool)
    if n == 0:
        return nats, correct
    stride = max(1, block - block // 2)
    starts = np.append(np.arange(0, n - block, stride), n - block)  # (W,), the last ends the text
    fresh = np.append(0, starts[:-1] + block)  # (W,), the first position no window has scored yet
    for rows in _parts(len(starts), max(1, TOKENS_AT_ONCE // block)):
        positions = starts[rows, None] + np.arange(block)  # (B, T)
        counted = positions >= fresh[rows, None]  # (B, T)
        logits = forward(inputs[positions])[counted]  # (M, V)
        where = positions[counted]  # (M,)
        nats[where], correct[where] = _score_logits(logits, targets[where])
    return nats, correct


def score_stream(forward, inputs, targets):
    """Score a stream in one go, the state carried over.

    Parameters
    ----------
    forward : (1, T) ids and a state (None at first) -> logits (1, T, V) and the state after them
    inputs, targets : (N,) int, the token before each and the token itself

    Returns
    -------
    nats, correct : as `score_windows`
    """
    nats, correct = np.empty(len(inputs)), np.empty(len(inputs), bool)
    state = None
    for part in _parts(len(inputs), TOKENS_AT_ONCE):
        logits, state = forward(inputs[None, part], state)
        nats[part], correct[part] = _score_logits(logits[0], targets[part])
    return nats, correct


def _score_logits(logits, targets):
    """-log softmax(logits)[target] in float64, and whether the target had the largest logit."""
    nats, correct = np.empty(len(targets)), np.empty(len(targets), bool)
    for part in _parts(len(targets), max(1, LOGITS_AT_ONCE // logits.shape[1])):
        z = logits[part].astype(np.float64)  # (M, V)
        correct[part] = z.argmax(-1) == targets[part]
        z -= z.max(-1, keepdims=True)
        nats[part] = np.log(np.exp(z).sum(-1)) - z[np.arange(len(z)), targets[part]]
    return nats, correct


def _parts(n, size):
    """Slices that cover range(n), each at most `size` long."""
    return [slice(start, min(start + size, n)) for start in range(0, n, size)]
