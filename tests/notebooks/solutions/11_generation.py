# %% solution="past_bytes"
def past_bytes(config, batch, bytes_each):
    numbers = 2 * config.n_layer * config.kv_heads * config.head_size * config.block_size
    return batch * numbers * bytes_each


# %% wrong="past_bytes"
def past_bytes(config, batch, bytes_each):
    # all query heads, as if none were shared
    return 2 * config.n_layer * batch * config.n_embd * config.block_size * bytes_each


# %% solution="nucleus"
def nucleus(p, share):
    order = np.argsort(-p)
    count = int(np.searchsorted(np.cumsum(p[order]), share)) + 1
    kept = np.zeros(len(p), bool)
    kept[order[:count]] = True
    return kept


# %% wrong="nucleus"
def nucleus(p, share):
    # without the token with which the share is reached
    order = np.argsort(-p)
    kept = np.zeros(len(p), bool)
    kept[order[np.cumsum(p[order]) <= share]] = True
    return kept


# %% wrong="nucleus"
def nucleus(p, share):
    # min-p
    return p >= (1 - share) * p.max()


# %% solution="typical"
def typical(p, share):
    nats = -np.log(p)
    order = np.argsort(np.abs(nats - np.sum(p * nats)))
    count = int(np.searchsorted(np.cumsum(p[order]), share)) + 1
    kept = np.zeros(len(p), bool)
    kept[order[:count]] = True
    return kept


# %% wrong="typical"
def typical(p, share):
    # the nucleus
    order = np.argsort(-p)
    count = int(np.searchsorted(np.cumsum(p[order]), share)) + 1
    kept = np.zeros(len(p), bool)
    kept[order[:count]] = True
    return kept


# %% solution="speculative"
def speculative(p, q):
    missing = np.maximum(p - q, 0)
    total = missing.sum()
    return np.minimum(1, p / q), missing / total if total > 0 else p


# %% wrong="speculative"
def speculative(p, q):
    # draws from p itself: what q had too much of comes a second time
    return np.minimum(1, p / q), p


# %% wrong="speculative"
def speculative(p, q):
    # never trusts the small model: right, but nothing is gained
    return np.zeros_like(p), p


# %% wrong="past_bytes"
def past_bytes(config, batch, bytes_each):
    # the keys without the values
    heads = config.n_layer * config.kv_heads * config.head_size
    return batch * heads * config.block_size * bytes_each


# %% wrong="past_bytes"
def past_bytes(config, batch, bytes_each):
    # numbers of four bytes, whatever was asked for
    heads = config.n_layer * config.kv_heads * config.head_size
    return 2 * batch * heads * config.block_size * 4


# %% wrong="nucleus"
def nucleus(p, share):
    # one too many
    order = np.argsort(-p)
    kept = np.zeros(len(p), bool)
    kept[order[: int(np.searchsorted(np.cumsum(p[order]), share)) + 2]] = True
    return kept


# %% wrong="nucleus"
def nucleus(p, share):
    # the places of the sorted row, not those of the tokens
    row = np.sort(p)[::-1]
    return np.cumsum(row) - row < share


# %% wrong="typical"
def typical(p, share):
    # probabilities compared, not their logarithms
    order = np.argsort(np.abs(p - np.exp(np.sum(p * np.log(p)))))
    kept = np.zeros(len(p), bool)
    kept[order[: int(np.searchsorted(np.cumsum(p[order]), share)) + 1]] = True
    return kept


# %% wrong="typical"
def typical(p, share):
    # the entropy in bits, the surprise in nats
    order = np.argsort(np.abs(-np.log(p) + np.sum(p * np.log2(p))))
    kept = np.zeros(len(p), bool)
    kept[order[: int(np.searchsorted(np.cumsum(p[order]), share)) + 1]] = True
    return kept


# %% wrong="typical"
def typical(p, share):
    # without the token with which the share is reached
    nats = -np.log(p)
    order = np.argsort(np.abs(nats - np.sum(p * nats)))
    kept = np.zeros(len(p), bool)
    kept[order[np.cumsum(p[order]) <= share]] = True
    return kept


# %% wrong="speculative"
def speculative(p, q):
    # what is too much on either side
    off = np.abs(p - q)
    return np.minimum(1, p / q), off / off.sum() if off.sum() > 0 else p


# %% wrong="speculative"
def speculative(p, q):
    # not made to sum to 1
    return np.minimum(1, p / q), np.maximum(p - q, 0)
