# %% solution="attend"
def attend(q, k, v):
    """Scaled dot-product attention without a mask, (T, E)."""
    scores = q @ k.T / np.sqrt(q.shape[-1])
    weights = np.exp(scores - scores.max(-1, keepdims=True))
    return weights / weights.sum(-1, keepdims=True) @ v


# %% wrong="attend"
def attend(q, k, v):
    """Normalised over the queries."""
    weights = np.exp(q @ k.T / np.sqrt(q.shape[-1]))
    return weights / weights.sum(0) @ v


# %% wrong="attend"
def attend(q, k, v):
    """Without the scale."""
    weights = np.exp(q @ k.T)
    return weights / weights.sum(-1, keepdims=True) @ v


# %% wrong="attend"
def attend(q, k, v):
    """Overflows where the scores are large."""
    weights = np.exp(q @ k.T / np.sqrt(q.shape[-1]))
    return weights / weights.sum(-1, keepdims=True) @ v


# %% solution="padding_mask"
def padding_mask(lengths, S):
    """A bool array (B, 1, 1, S) for lengths (B,)."""
    return (np.arange(S) < np.asarray(lengths)[:, None])[:, None, None]


# %% wrong="padding_mask"
def padding_mask(lengths, S):
    """One token too many."""
    return (np.arange(S) <= np.asarray(lengths)[:, None])[:, None, None]


# %% wrong="padding_mask"
def padding_mask(lengths, S):
    """Hides the queries, not the keys."""
    return (np.arange(S) < np.asarray(lengths)[:, None])[:, None, :, None]


# %% solution="alibi"
def alibi(T, slopes):
    """The bias (1, H, T, T) for slopes (H,)."""
    distance = np.arange(T)[:, None] - np.arange(T)  # (T, T)
    bias = -np.asarray(slopes)[:, None, None] * distance
    return np.where(distance >= 0, bias, -np.inf)[None]


# %% wrong="alibi"
def alibi(T, slopes):
    """The distance with the wrong sign."""
    distance = np.arange(T)[:, None] - np.arange(T)
    bias = np.asarray(slopes)[:, None, None] * distance
    return np.where(distance >= 0, bias, -np.inf)[None]


# %% wrong="alibi"
def alibi(T, slopes):
    """Lets a token see what follows."""
    distance = np.abs(np.arange(T)[:, None] - np.arange(T))
    return (-np.asarray(slopes)[:, None, None] * distance)[None]


# %% solution="attention_backward"
def head_backward(dout, cache):
    """The gradients (dq, dk, dv)."""
    q, k, v, scale, weights = cache
    dv = weights.T @ dout
    dweights = dout @ v.T
    dscores = weights * (dweights - (dweights * weights).sum(-1, keepdims=True))
    return scale * dscores @ k, scale * dscores.T @ q, dv


# %% wrong="attention_backward"
def head_backward(dout, cache):
    """Forgets what the softmax takes back."""
    q, k, v, scale, weights = cache
    dscores = weights * (dout @ v.T)
    return scale * dscores @ k, scale * dscores.T @ q, weights.T @ dout


# %% wrong="attention_backward"
def head_backward(dout, cache):
    """Forgets the scale."""
    q, k, v, _, weights = cache
    dweights = dout @ v.T
    dscores = weights * (dweights - (dweights * weights).sum(-1, keepdims=True))
    return dscores @ k, dscores.T @ q, weights.T @ dout
