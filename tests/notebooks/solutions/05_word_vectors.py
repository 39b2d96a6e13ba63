# %% solution="contexts"
def contexts_of(ids, order, padding):
    padded = np.concatenate([np.full(order - 2, padding), ids])
    return np.stack([padded[k : k + len(ids)] for k in range(order - 1)], axis=1)


# %% wrong="contexts"
def contexts_of(ids, order, padding):
    padded = np.concatenate([np.full(order - 1, padding), ids])  # one too many: the id before last
    return np.stack([padded[k : k + len(ids)] for k in range(order - 1)], axis=1)


# %% wrong="contexts"
def contexts_of(ids, order, padding):
    rows = [ids]
    for _ in range(order - 2):
        rows.append(np.roll(rows[-1], 1))  # the end of the text comes before its beginning
    return np.stack(rows[::-1], axis=1)


# %% solution="scatter"
def add_rows(ids, rows, size):
    grad = np.zeros((size, rows.shape[1]))
    np.add.at(grad, ids, rows)
    return grad


# %% wrong="scatter"
def add_rows(ids, rows, size):
    grad = np.zeros((size, rows.shape[1]))
    grad[ids] += rows  # of a repeated id the last one stays
    return grad


# %% solution="nearest"
def nearest_ids(table, i, n):
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    order = np.argsort(-(unit @ unit[i]))
    return [j for j in order if j != i][:n]


# %% wrong="nearest"
def nearest_ids(table, i, n):
    order = np.argsort(-(table @ table[i]))  # long rows win
    return [j for j in order if j != i][:n]


# %% wrong="nearest"
def nearest_ids(table, i, n):
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    return np.argsort(-(unit @ unit[i]))[:n]


# %% wrong="nearest"
def nearest_ids(table, i, n):
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    order = np.argsort(-np.abs(unit @ unit[i]))  # the opposite direction counts as near
    return order[order != i][:n]


# %% wrong="nearest"
def nearest_ids(table, i, n):
    unit = table / np.linalg.norm(table, axis=1, keepdims=True)
    cosine = unit @ unit[i]
    cosine[i] = -2
    return np.sort(np.argpartition(-cosine, n)[:n])  # the right ones, not the nearest first


# %% solution="pair"
def pair_loss(v, u):
    logits = u @ v
    sign = np.where(np.arange(len(u)) == 0, 1, -1)
    return np.logaddexp(0, -sign * logits).sum(), (v, u, logits)


def pair_loss_backward(dloss, cache):
    v, u, logits = cache
    dlogits = dloss * (1 / (1 + np.exp(-logits)) - (np.arange(len(u)) == 0))
    return dlogits @ u, dlogits[:, None] * v


# %% wrong="pair"
def pair_loss(v, u):
    logits = u @ v
    return np.logaddexp(0, -logits).sum(), (v, u, logits)  # all answers "yes"


def pair_loss_backward(dloss, cache):
    v, u, logits = cache
    dlogits = dloss * (1 / (1 + np.exp(-logits)) - 1)
    return dlogits @ u, dlogits[:, None] * v


# %% wrong="pair"
def pair_loss(v, u):
    logits = u @ v
    sign = np.where(np.arange(len(u)) == 0, 1, -1)
    return np.logaddexp(0, -sign * logits).sum(), (v, u, logits)


def pair_loss_backward(dloss, cache):
    v, u, logits = cache
    dlogits = dloss / (1 + np.exp(-logits))  # the context's 1 is missing
    return dlogits @ u, dlogits[:, None] * v
