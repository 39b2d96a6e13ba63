"""Wrong solutions of hw1."""

from tests.course.wrong import Wrong


def _wrong(name, check, *edits, file="ngram_simple.py"):
    return Wrong(name, check, {file: list(edits)})


COUNT = """\
        for token in ids:
            for length in range(min(self.order, len(text) + 1)):
                followers[tuple(text[len(text) - length :])][token] += 1
            text.append(token)
            if token == self.end_id:
                text = [self.end_id]
        return followers
"""
SCANNED = """\
        padded = [self.end_id, *ids]
        for i in range(1, len(padded)):
            for length in range(self.order):
                if i < length or self.end_id in padded[i - length + 1 : i]:
                    break
                gram = tuple(padded[i - length : i + 1])
                if gram[:-1] not in followers or gram[-1] not in followers[gram[:-1]]:
                    every = range(len(padded) - length)
                    found = sum(tuple(padded[j : j + length + 1]) == gram for j in every)
                    start = length == 0 and gram[-1] == self.end_id
                    followers[gram[:-1]][gram[-1]] = found - start
        return followers
"""
PLACES = """\
        before = Counter(
            (*context[1:], token)
            for context, seen in followers.items()
            for token in seen
            if context
        )
"""
SCANNED_PLACES = """\
        grams = [(*context, token) for context, seen in followers.items() for token in seen]
        before = {gram: found for gram in grams if (found := sum(g[1:] == gram for g in grams))}
"""
RETURNED = "{token: before.get((*context, token), count) for token, count in seen.items()}"

WRONG = {
    "count": [
        _wrong(
            "the document's start is counted as a token",
            "one token",
            (
                "        for token in ids:\n",
                "        followers[()][self.end_id] += 1\n        for token in ids:\n",
            ),
        ),
        _wrong(
            "the end is not counted",
            "one token",
            (
                COUNT,
                COUNT.replace(
                    "ids:\n",
                    "ids:\n            if token == self.end_id:\n"
                    "                text = [self.end_id]\n"
                    "                continue\n",
                ),
            ),
        ),
        _wrong(
            "only the longest contexts",
            "contexts",
            ("range(min(self.order, len(text) + 1))", "[min(self.order - 1, len(text))]"),
        ),
        _wrong(
            "no context at a document's start",
            "contexts",
            ("text = [self.end_id]  # of the", "text = []  # of the"),
        ),
        _wrong(
            "contexts reach into the document before",
            "documents",
            (
                "            if token == self.end_id:\n                text = [self.end_id]\n"
                "        return followers",
                "        return followers",
            ),
        ),
        _wrong("the text is searched for each n-gram", "one pass", (COUNT, SCANNED)),
    ],
    "mle": [
        _wrong(
            "divides by the number of different tokens",
            "share",
            (
                "total = sum(seen.values())\n    return {t: c / total",
                "total = len(seen)\n    return {t: c / total",
            ),
        ),
        _wrong("adds the shorter context", "weight", ("seen.items()}, 0.0", "seen.items()}, 1.0")),
    ],
    "witten_bell": [
        _wrong(
            "the new tokens are not in the denominator",
            "share",
            ("total = sum(seen.values()) + len(seen)", "total = sum(seen.values())"),
        ),
        _wrong(
            "the weight is by tokens, not by kinds",
            "weight",
            ("len(seen) / total\n", "sum(seen.values()) / total\n"),
        ),
        _wrong(
            "the weight without its own denominator",
            "weight",
            ("len(seen) / total\n", "len(seen) / sum(seen.values())\n"),
        ),
    ],
    "p_after": [
        _wrong("nothing below unigrams", "empty context", ("else 1 / self.vocab_size", "else 0")),
        _wrong(
            "backs off instead of mixing",
            "empty context",
            (
                "return share.get(token, 0) + weight * lower",
                "return share[token] if token in share else weight * lower",
            ),
        ),
        _wrong(
            "forgets the nearest token first",
            "seen contexts",
            ("self.p_after(token, context[1:])", "self.p_after(token, context[:-1])"),
        ),
        _wrong(
            "the empty context is not asked",
            "seen contexts",
            ("if context else 1 / self.vocab_size", "if len(context) > 1 else 1 / self.vocab_size"),
        ),
        _wrong(
            "an unseen context gives the uniform distribution",
            "unseen contexts",
            (
                "        if not seen:\n            return lower\n",
                "        if not seen:\n            return 1 / self.vocab_size\n",
            ),
        ),
        _wrong(
            "an unseen context is a KeyError",
            "unseen contexts",
            ("seen = self.followers.get(context)", "seen = dict(self.followers)[context]"),
        ),
    ],
    "one_discount": [
        _wrong(
            "n-grams of all lengths in one",
            "counts of counts",
            (" if len(context) == length - 1)", ")"),
        ),
        _wrong(
            "one token too long",
            "counts of counts",
            ("len(context) == length - 1)", "len(context) == length)"),
        ),
        _wrong(
            "the 2 in the denominator is missing",
            "share",
            (
                "d = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2]",
                "d = n[1] / (n[1] + n[2]) if n[1] and n[2]",
            ),
        ),
        _wrong(
            "gives away one discount only",
            "weight",
            ("d * len(seen) / total", "d / total"),
        ),
        _wrong(
            "no fallback",
            "tiny texts",
            (" if n[1] and n[2] else 0.5", ""),
        ),
    ],
    "places": [
        _wrong("leaves the counts as they are", "pairs", (RETURNED, "dict(seen)")),
        _wrong(
            "times, added up over the tokens before",
            "pairs",
            (
                PLACES,
                "        before = Counter()\n"
                "        for context, seen in followers.items():\n"
                "            for token, count in seen.items():\n"
                "                if context:\n"
                "                    before[(*context[1:], token)] += count\n",
            ),
        ),
        _wrong(
            "the longest n-grams have no count left",
            "pairs",
            ("before.get((*context, token), count)", "before[(*context, token)]"),
        ),
        _wrong(
            "places of single tokens only",
            "all lengths",
            ("            if context\n        )", "            if len(context) == 1\n        )"),
        ),
        _wrong(
            "starts have no count left",
            "starts",
            (
                "before.get((*context, token), count)",
                "count if len(context) == self.order - 1 else before[(*context, token)]",
            ),
        ),
        _wrong(
            "what stands at a start has a place less, or none",
            "starts",
            (
                "before.get((*context, token), count)",
                "before.get((*context, token), 1 if context[:1] == (self.end_id,) "
                "and len(context) < self.order - 1 else count)",
            ),
        ),
        _wrong("all n-grams for each n-gram", "large table", (PLACES, SCANNED_PLACES)),
        _wrong(
            "as if a name were everywhere",
            "Francisco",
            (
                "        before = Counter(",
                "        if self.kneser_ney:\n            return followers\n"
                "        before = Counter(",
            ),
            (
                "self.followers = self.count(ids)\n",
                'self.followers, self.kneser_ney = self.count(ids), "kneser" in smoothing\n',
            ),
        ),
    ],
    "three_discounts": [
        _wrong(
            "counts above 3 have no discount",
            "share",
            (
                "return {t: (c - d[min(c, 3)]) / total",
                "return {t: (c - (d[c] if c < 4 else 0)) / total",
            ),
        ),
        _wrong("one Y too many", "share", ("i - (i + 1) * y", "i - i * y")),
        _wrong(
            "the weight of one discount",
            "weight",
            ("freed = sum(d[min(c, 3)] for c in seen.values())", "freed = d[1] * len(seen)"),
        ),
        _wrong(
            "divides by zero in a small text",
            "fallback",
            ("if n[1] and n[2] and n[3] and n[4]:", "if True:"),
        ),
        _wrong(
            "discounts below zero",
            "fallback",
            ("        if min(found[1:]) > 0:\n            d = found\n", "        d = found\n"),
        ),
        _wrong(
            "the counts of counts of single tokens for all lengths",
            "model",
            (
                "    n = model.counts_of_counts(length)\n    d = [0, 0.5, 1.0, 1.5]",
                "    n = model.counts_of_counts(1)\n    d = [0, 0.5, 1.0, 1.5]",
            ),
        ),
    ],
    "measure": [
        _wrong(
            "bits instead of nats",
            "perplexity",
            ("(found := exponential(mean))", "(found := 2**mean)"),
            file="language.py",
        ),
        _wrong(
            "multiplies by ln 2",
            "bits per byte",
            ("nats / math.log(2)", "nats * math.log(2)"),
            file="language.py",
        ),
        _wrong(
            "unknown bytes are free",
            "bits per byte",
            (" + 8 * unknown_bytes", ""),
            file="language.py",
        ),
    ],
}
