# %% solution="averages"
def averages(p, text):
    bits = -np.log2(p)
    return bits.sum() / len(text.encode()), 2 ** bits.mean()


# %% wrong="averages"
def averages(p, text):
    bits = -np.log2(p)
    return bits.sum() / len(text), 2 ** bits.mean()


# %% wrong="averages"
def averages(p, text):
    bits = -np.log2(p)
    return bits.sum() / len(text.encode()), np.exp(bits.mean())


# %% wrong="averages"
def averages(p, text):
    bits = -np.log2(p).sum() / len(text.encode())
    return bits, 2**bits


# %% solution="places"
def places_of_pairs(ids, end_id):
    before = {}
    text = [end_id]
    for token in ids:
        text.append(token)
        if len(text) > 2:
            before.setdefault((text[-2], text[-1]), set()).add(text[-3])
        if token == end_id:
            text = [end_id]
    return {pair: len(tokens) for pair, tokens in before.items() if pair[0] != end_id}


# %% wrong="places"
def places_of_pairs(ids, end_id):
    found = Counter()
    text = [end_id]
    for token in ids:
        text.append(token)
        if len(text) > 2:
            found[text[-2], text[-1]] += 1
        if token == end_id:
            text = [end_id]
    return dict(found)


# %% wrong="places"
def places_of_pairs(ids, end_id):
    before = {}
    for i in range(2, len(ids)):
        u, v, w = ids[i - 2 : i + 1]
        if end_id not in (u, v):
            before.setdefault((v, w), set()).add(u)
    return {pair: len(tokens) for pair, tokens in before.items()}


# %% wrong="places"
def places_of_pairs(ids, end_id):
    before = {}  # the pairs that end a document are left out as well
    for u, v, w in zip([end_id, *ids], ids, ids[1:], strict=False):
        if end_id not in (v, w):
            before.setdefault((v, w), set()).add(u)
    return {pair: len(tokens) for pair, tokens in before.items()}


# %% solution="stupid"
def stupid_back_off(followers, token, context, factor=0.4):
    seen = followers.get(context, {})
    if token in seen:
        return seen[token] / sum(seen.values())
    if not context:
        return 0.0
    return factor * stupid_back_off(followers, token, context[1:], factor)


# %% wrong="stupid"
def stupid_back_off(followers, token, context, factor=0.4):
    seen = followers.get(context)
    if not seen:
        return stupid_back_off(followers, token, context[1:], factor) if context else 0.0
    if token in seen:
        return seen[token] / sum(seen.values())
    return factor * stupid_back_off(followers, token, context[1:], factor) if context else 0.0


# %% wrong="stupid"
def stupid_back_off(followers, token, context, factor=0.4):
    seen = followers.get(context, {})
    if token in seen:
        return seen[token] / sum(seen.values())
    return 0.4 * stupid_back_off(followers, token, context[1:]) if context else 0.0


# %% wrong="stupid"
def stupid_back_off(followers, token, context, factor=0.4):
    for shorter in range(len(context) + 1):
        seen = followers.get(context[shorter:], {})
        if token in seen:
            return (factor if shorter else 1) * seen[token] / sum(seen.values())
    return 0.0


# %% solution="em"
def em_weights(p1, p2, steps=50):
    weights = [0.5]
    for _ in range(steps):
        w = weights[-1]
        weights.append(np.mean(w * p1 / (w * p1 + (1 - w) * p2)))
    return np.array(weights)


# %% wrong="em"
def em_weights(p1, p2, steps=50):
    weights = [0.5]
    for _ in range(steps):
        weights.append(np.mean(p1 / (p1 + p2)))
    return np.array(weights)


# %% wrong="em"
def em_weights(p1, p2, steps=50):
    grid = np.linspace(0.001, 0.999, 999)
    best = grid[np.argmin([-np.log(w * p1 + (1 - w) * p2).mean() for w in grid])]
    return np.array([0.5] + [best] * steps)


# %% wrong="em"
def em_weights(p1, p2, steps=50):
    weights = [0.5]
    for _ in range(steps):  # the share of the first model without its weight
        w = weights[-1]
        weights.append(np.mean(w * p1 / (p1 + p2)))
    return np.array(weights)
