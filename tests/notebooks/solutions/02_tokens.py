# %% solution="utf8"
def utf8_bytes(code):
    if code < 0x80:
        return bytes([code])
    more = 1 if code < 0x800 else 2 if code < 0x10000 else 3
    mark = (0b11000000, 0b11100000, 0b11110000)[more - 1]
    first = mark | code >> 6 * more
    return bytes([first, *(0x80 | code >> 6 * i & 0x3F for i in reversed(range(more)))])


# %% wrong="utf8"
def utf8_bytes(code):
    if code < 0x80:
        return bytes([code])
    if code < 0x800:
        return bytes([0xC0 | code >> 6, 0x80 | code & 0x3F])
    return bytes([0xE0 | code >> 12 & 0x0F, 0x80 | code >> 6 & 0x3F, 0x80 | code & 0x3F])


# %% wrong="utf8"
def utf8_bytes(code):
    return code.to_bytes(max(1, (code.bit_length() + 7) // 8), "big")


# %% wrong="utf8"
def utf8_bytes(code):  # the bits in the wrong order
    if code < 0x80:
        return bytes([code])
    more = 1 if code < 0x800 else 2 if code < 0x10000 else 3
    mark = (0b11000000, 0b11100000, 0b11110000)[more - 1]
    return bytes([mark | code >> 6 * more, *(0x80 | code >> 6 * i & 0x3F for i in range(more))])


# %% solution="pair"
def next_merge(words):
    pairs = Counter()
    for word, many in words.items():
        for pair in pairwise(word):
            pairs[pair] += many
    return max(pairs, key=pairs.get)


# %% wrong="pair"
def next_merge(words):
    pairs = Counter(pair for word in words for pair in pairwise(word))
    return max(pairs, key=pairs.get)


# %% wrong="pair"
def next_merge(words):
    tokens = Counter()  # a pair of frequent tokens need not be a frequent pair
    for word, many in words.items():
        for token in word:
            tokens[token] += many
    all_pairs = {pair for word in words for pair in pairwise(word)}
    return max(all_pairs, key=lambda pair: tokens[pair[0]] * tokens[pair[1]])


# %% wrong="pair"
def next_merge(words):
    pairs = Counter()  # in how many words, not how often
    for word, many in words.items():
        for pair in set(pairwise(word)):
            pairs[pair] += many
    return max(pairs, key=pairs.get)


# %% solution="encode"
def encode_word(word, merges):
    rank = {pair: i for i, pair in enumerate(merges)}
    parts = [bytes([byte]) for byte in word]
    while found := [pair for pair in pairwise(parts) if pair in rank]:
        best = min(found, key=rank.get)
        i = 0
        while i < len(parts) - 1:
            if (parts[i], parts[i + 1]) == best:
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
            i += 1
    return parts


# %% wrong="encode"
def encode_word(word, merges):
    known = {a + b for a, b in merges}
    tokens, start = [], 0
    while start < len(word):
        stop = len(word)
        while stop > start + 1 and word[start:stop] not in known:
            stop -= 1
        tokens.append(word[start:stop])
        start = stop
    return tokens


# %% wrong="encode"
def encode_word(word, merges):
    known = set(merges)
    parts = [bytes([byte]) for byte in word]
    while True:  # the first pair from the left that some merge joins
        for i in range(len(parts) - 1):
            if (parts[i], parts[i + 1]) in known:
                parts[i : i + 2] = [parts[i] + parts[i + 1]]
                break
        else:
            return parts


# %% wrong="encode"
def encode_word(word, merges):
    rank = {pair: i for i, pair in enumerate(merges)}
    parts = [bytes([byte]) for byte in word]
    while found := [pair for pair in pairwise(parts) if pair in rank]:
        best = max(found, key=rank.get)  # the latest
        i = next(i for i, pair in enumerate(pairwise(parts)) if pair == best)
        parts[i : i + 2] = [parts[i] + parts[i + 1]]
    return parts


# %% solution="cheapest"
def cheapest(beta, *, width, layers, heads=1):
    cost = {V: (2 * V * width + 24 * width**2 * layers / heads) / b for V, b in beta.items()}
    best = min(cost, key=cost.get)
    return best, cost[best]


# %% wrong="cheapest"
def cheapest(beta, *, width, layers, heads=1):
    cost = {V: (2 * V * width + 24 * width**2 * layers) / b / heads for V, b in beta.items()}
    best = min(cost, key=cost.get)
    return best, cost[best]


# %% wrong="cheapest"
def cheapest(beta, *, width, layers, heads=1):
    cost = {V: 2 * V * width + 24 * width**2 * layers / heads for V in beta}
    best = min(cost, key=cost.get)
    return best, cost[best]


# %% wrong="cheapest"
def cheapest(beta, *, width, layers, heads=1):  # the heads' output layers shared among the tokens
    cost = {V: (2 * V * width / heads + 24 * width**2 * layers) / b for V, b in beta.items()}
    best = min(cost, key=cost.get)
    return best, cost[best]
