"""Wrong solutions of hw2."""

from tests.course.wrong import Wrong

FILE = "bpe_simple.py"


def _wrong(name, check, *edits):
    return Wrong(name, check, {FILE: list(edits)})


COUNT = """\
        for pair in pairwise(parts):
            pairs[pair] += words[word]
"""
BEST = "return max(pairs, key=lambda pair: (pairs[pair], -age[pair[0]], -age[pair[1]]))"
JOIN = """\
    result, i = [], 0
    while i < len(parts):
        size = 2 if (*parts[i : i + 2],) == pair else 1
        result.append(b"".join(parts[i : i + size]))
        i += size
    return result
"""
ENCODE = """\
    while found := [p for p in pairwise(parts) if p in rank]:
        parts = join_pair(parts, min(found, key=rank.__getitem__))
    return parts
"""
LONGEST = """\
    known, result, i = {a + b for a, b in merges} | set(parts), [], 0
    while i < len(word):
        end = max(j for j in range(i + 1, len(word) + 1) if word[i:j] in known)
        result.append(word[i:end])
        i = end
    return result
"""

WRONG = {
    "count_pairs": [
        _wrong(
            "the last token's neighbour is the first",
            "one word",
            (COUNT, COUNT.replace("pairwise(parts)", "zip(parts, parts[1:] + parts[:1])")),
        ),
        _wrong("each word counts once", "several words", ("+= words[word]", "+= 1")),
        _wrong(
            "bytes instead of tokens",
            "several words",
            ("pairwise(parts)", "pairwise(split_bytes(word))"),
        ),
        _wrong("each pair once a word", "overlaps", ("pairwise(parts)", "set(pairwise(parts))")),
        _wrong(
            "pairs that share a token count once",
            "overlaps",
            (
                COUNT,
                "        i = 0\n"
                "        while i + 1 < len(parts):\n"
                "            pairs[parts[i], parts[i + 1]] += words[word]\n"
                "            i += 2 if parts[i + 1 : i + 3] == [parts[i]] * 2 else 1\n",
            ),
        ),
        _wrong(
            "a word has a first token",
            "no pairs",
            (
                COUNT,
                "        before = parts[0]\n"
                "        for part in parts[1:]:\n"
                "            pairs[before, part] += words[word]\n"
                "            before = part\n",
            ),
        ),
    ],
    "best_pair": [
        _wrong("the rarest", "most frequent", (BEST, BEST.replace("max", "min"))),
        _wrong(
            "the first of equals in the table",
            "first part",
            (BEST, "return max(pairs, key=pairs.get)"),
        ),
        _wrong(
            "the younger of equals",
            "first part",
            (BEST, BEST.replace("-age", "age")),
        ),
        _wrong(
            "equal first parts are not told apart",
            "second part",
            (BEST, BEST.replace(", -age[pair[1]]", "")),
        ),
        _wrong(
            "the order of the alphabet",
            "ages",
            (BEST, "return min(pairs, key=lambda pair: (-pairs[pair], pair))"),
        ),
        _wrong(
            "the shorter of equals",
            "ages",
            (
                BEST,
                BEST.replace("-age[pair[0]], ", "-len(pair[0] + pair[1]), -age[pair[0]], "),
            ),
        ),
    ],
    "join_pair": [
        _wrong(
            "the last token is lost",
            "one place",
            ("while i < len(parts):\n        size", "while i < len(parts) - 1:\n        size"),
        ),
        _wrong(
            "joins once",
            "many places",
            (
                JOIN,
                "    for i, found in enumerate(pairwise(parts)):\n"
                "        if found == pair:\n"
                '            return [*parts[:i], b"".join(pair), *parts[i + 2 :]]\n'
                "    return list(parts)\n",
            ),
        ),
        _wrong(
            "writes to the list that came",
            "many places",
            (
                JOIN,
                "    i = 0\n"
                "    while i + 1 < len(parts):\n"
                "        if (parts[i], parts[i + 1]) == pair:\n"
                '            parts[i : i + 2] = [b"".join(pair)]\n'
                "        i += 1\n"
                "    return parts\n",
            ),
        ),
        _wrong(
            "from the right",
            "overlaps",
            (
                JOIN,
                "    result, i = [], len(parts)\n"
                "    while i > 0:\n"
                "        size = 2 if (*parts[max(i - 2, 0) : i],) == pair else 1\n"
                '        result.insert(0, b"".join(parts[i - size : i]))\n'
                "        i -= size\n"
                "    return result\n",
            ),
        ),
        _wrong(
            "each token is used twice",
            "one place",
            ("        i += size\n", "        i += 1\n"),
        ),
        _wrong(
            "looks at the bytes",
            "same bytes",
            (
                "size = 2 if (*parts[i : i + 2],) == pair else 1",
                'size = 2 if b"".join(parts[i : i + 2]) == b"".join(pair) else 1',
            ),
        ),
        _wrong(
            "an empty word has a last token",
            "nothing to join",
            (JOIN, JOIN.replace("    result, i", "    parts[-1]\n    result, i")),
        ),
    ],
    "learn_merges": [
        _wrong(
            "new tokens are the oldest",
            "small texts",
            (
                "age[best[0] + best[1]] = len(age)",
                "age[best[0] + best[1]] = -len(age)",
            ),
        ),
        _wrong(
            "one merge too many",
            "small texts",
            ("while len(merges) < n_merges:", "while len(merges) <= n_merges:"),
        ),
        _wrong(
            "the words are not joined",
            "small texts",
            ("tokens = {word: join_pair(parts, best) for word, parts in tokens.items()}", "pass"),
        ),
        _wrong(
            "always one merge at least",
            "ends",
            (
                "while len(merges) < n_merges:",
                "while not merges or len(merges) < n_merges:",
            ),
        ),
        _wrong("does not end", "ends", ("        if not pairs:\n            break\n", "")),
        _wrong(
            "min_frequency is not looked at",
            "min_frequency",
            ("        if pairs[best] < min_frequency:\n            break\n", ""),
        ),
        _wrong(
            "min_frequency is too rare",
            "min_frequency",
            ("pairs[best] < min_frequency", "pairs[best] <= min_frequency > 0"),
        ),
        _wrong(
            "bytes by their value",
            "byte order",
            (
                "for place, byte in enumerate(BYTE_ORDER)}\n    merges",
                "for place, byte in enumerate(range(256))}\n    merges",
            ),
        ),
        _wrong(
            "a word's space is dropped",
            "manual",
            ("{word: split_bytes(word) for", '{word: split_bytes(word.lstrip(b" ")) for'),
        ),
    ],
    "encode_word": [
        _wrong(
            "joins one place only",
            "one merge",
            (
                ENCODE,
                "    for pair in merges:\n"
                "        for i, found in enumerate(pairwise(parts)):\n"
                "            if found == pair:\n"
                '                parts = [*parts[:i], b"".join(pair), *parts[i + 2 :]]\n'
                "                break\n"
                "    return parts\n",
            ),
        ),
        _wrong(
            "the first pair in the word",
            "earliest first",
            ("min(found, key=rank.__getitem__)", "found[0]"),
        ),
        _wrong(
            "the merge learned last",
            "earliest first",
            ("min(found, key=rank.__getitem__)", "max(found, key=rank.__getitem__)"),
        ),
        _wrong("the longest token that fits", "earliest first", (ENCODE, LONGEST)),
        _wrong(
            "each merge that fits at first",
            "again",
            (
                ENCODE,
                "    for pair in sorted({p for p in pairwise(parts) if p in rank}, key=rank.get):\n"
                "        parts = join_pair(parts, pair)\n"
                "    return parts\n",
            ),
        ),
        _wrong(
            "without merges nothing is done",
            "short words",
            ("    rank = {pair", "    if not merges:\n        return [word]\n    rank = {pair"),
        ),
        _wrong(
            "bytes must be text",
            "short words",
            (
                "parts = split_bytes(word)\n    while",
                "parts = [c.encode() for c in word.decode()]\n    while",
            ),
        ),
        _wrong(
            "searches the list of merges",
            "long word",
            ("if p in rank]", "if p in merges]"),
        ),
    ],
    "decode_simple": [
        _wrong(
            "each token by itself",
            "characters",
            (
                'return b"".join(tokens).decode(errors="replace")',
                'return "".join(token.decode(errors="replace") for token in tokens)',
            ),
        ),
        _wrong("what is damaged raises", "damaged", ('decode(errors="replace")', "decode()")),
        _wrong("what is damaged is left out", "damaged", ('errors="replace"', 'errors="ignore"')),
    ],
}
