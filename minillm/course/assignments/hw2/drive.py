"""How hw2's functions are called.

A wrong kind of answer is said in the student's terms here; what is right is said in the grader.
"""


def counted(modules, kept, case):
    """{pair: count} of what `count_pairs` finds."""
    found = modules("bpe_simple").count_pairs(case["tokens"], case["words"])
    if not isinstance(found, dict):
        raise TypeError(f"count_pairs must return a dict, got {type(found).__name__}")
    return {_pair(pair, "a key of count_pairs"): int(n) for pair, n in found.items() if n}


def chosen(modules, kept, case):
    """The pair that `best_pair` chooses."""
    return _pair(modules("bpe_simple").best_pair(case["pairs"], case["age"]), "best_pair's answer")


def joined(modules, kept, case):
    """What `join_pair` makes of a word's tokens, and what is left of the list that it got."""
    parts = list(case["parts"])
    tokens = modules("bpe_simple").join_pair(parts, case["pair"])
    return {"tokens": _tokens(tokens, "join_pair"), "parts": _tokens(parts, "the list that came")}


def learned(modules, kept, case):
    """The merges that `learn_merges` makes."""
    settings = {name: case[name] for name in ("n_merges", "min_frequency") if name in case}
    merges = modules("bpe_simple").learn_merges(case["words"], **settings)
    if not isinstance(merges, list):
        raise TypeError(f"learn_merges must return a list, got {type(merges).__name__}")
    return [_pair(pair, "a merge") for pair in merges]


def encoded(modules, kept, case):
    """The tokens that `encode_word` makes of each word."""
    encode = modules("bpe_simple").encode_word
    return [_tokens(encode(word, case["merges"]), "encode_word") for word in case["asked"]]


def decoded(modules, kept, case):
    """The text that `decode_simple` makes of tokens."""
    text = modules("bpe_simple").decode_simple(case["tokens"])
    if not isinstance(text, str):
        raise TypeError(f"decode_simple must return a str, got {type(text).__name__}")
    return text


def _tokens(parts, name):
    if not isinstance(parts, list):
        raise TypeError(f"{name} must return a list of bytes, got {type(parts).__name__}")
    for part in parts:
        if not isinstance(part, bytes):
            raise TypeError(f"{name}: a token must be bytes, got {part!r:.40}")
    return parts


def _pair(pair, name):
    good = isinstance(pair, tuple) and len(pair) == 2
    if not good or not all(isinstance(part, bytes) for part in pair):
        raise TypeError(f"{name} must be a tuple of two bytes, got {pair!r:.60}")
    return pair
