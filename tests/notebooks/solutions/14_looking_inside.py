# %% solution="guess_next"
def guess_next(ids):
    """The id expected after ids (T,), or None."""
    earlier = np.flatnonzero(ids[:-1] == ids[-1])
    return ids[earlier[-1] + 1] if len(earlier) else None


# %% wrong="guess_next"
def guess_next(ids):
    """The first occurrence, not the last."""
    earlier = np.flatnonzero(ids[:-1] == ids[-1])
    return ids[earlier[0] + 1] if len(earlier) else None


# %% solution="duplicate_score"
def duplicate_score(weights, ids):
    """The score of each head, (L, H), for weights (L, H, T, T) and ids (T,)."""
    copies = np.tril(ids[:, None] == ids, -1)  # (T, T)
    has_one = copies.any(-1)
    return (weights * copies).sum(-1)[..., has_one].mean(-1)


# %% wrong="duplicate_score"
def duplicate_score(weights, ids):
    """Counts a token as a copy of itself."""
    copies = np.tril(ids[:, None] == ids)
    return (weights * copies).sum(-1).mean(-1)


# %% wrong="duplicate_score"
def duplicate_score(weights, ids):
    """The mean over all tokens."""
    copies = np.tril(ids[:, None] == ids, -1)
    return (weights * copies).sum(-1).mean(-1)


# %% solution="by_head"
def by_head(z, W_out):
    """What each head writes, (H, T, C); their sum is join_heads(z) @ W_out."""
    H, _, D = z.shape
    return z @ W_out.reshape(H, D, -1)


# %% wrong="by_head"
def by_head(z, W_out):
    """The rows of W_out dealt out like cards."""
    H, _, D = z.shape
    return z @ W_out.reshape(D, H, -1).swapaxes(0, 1)


# %% solution="mean_ablate"
def mean_ablate(attention, head, mean):
    """The params {"qkv", "out"} of an attention layer whose head always gives `mean` (D,)."""
    rows = slice(head * len(mean), (head + 1) * len(mean))
    weight, bias = attention["out"]["weight"], attention["out"]["bias"]
    silent = weight.copy()
    silent[rows] = 0
    out = {"weight": silent, "bias": bias + mean @ weight[rows]}
    return {"qkv": attention["qkv"], "out": out}


# %% wrong="mean_ablate"
def mean_ablate(attention, head, mean):
    """Silences the head and forgets its mean."""
    copy = map_leaves(np.copy, attention)
    copy["out"]["weight"][head * len(mean) : (head + 1) * len(mean)] = 0
    return copy


# %% wrong="mean_ablate"
def mean_ablate(attention, head, mean):
    """Works in place."""
    rows = slice(head * len(mean), (head + 1) * len(mean))
    attention["out"]["bias"] += mean @ attention["out"]["weight"][rows]
    attention["out"]["weight"][rows] = 0
    return attention
