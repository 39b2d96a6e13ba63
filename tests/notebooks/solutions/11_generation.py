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
