"""N-gram models in plain Python: the specification that the fast ones are tested against.

Counting is one loop over the text, smoothing one function of a context. Read it first; then
ngram_counts.py and ngram_smoothing.py do the same for all n-grams of a length at once.

Left out: Good-Turing and Jelinek-Mercer's weights, whose own files are as plain; pruning.
"""

from collections import Counter, defaultdict

__all__ = ["SimpleNGram"]


class SimpleNGram:
    """Predicts a token from the order - 1 before it.

    Parameters
    ----------
    ids : list of int, each document followed by end_id
    order, vocab_size, end_id : int
    smoothing : str, one of SIMPLE's names
    """

    def __init__(self, ids, *, order, vocab_size, end_id, smoothing="modified-kneser-ney"):
        self.order, self.vocab_size, self.end_id = order, vocab_size, end_id
        self.shares, self.kneser_ney = SIMPLE[smoothing], smoothing.endswith("kneser-ney")
        self.followers = self.count(ids)

    def count(self, ids):
        """How often (for Kneser-Ney: in how many places) each token follows each context."""
        raw: Counter[tuple] = Counter()
        before = defaultdict(set)
        text = [self.end_id]  # of the document so far; its start is an end
        for token in ids:
            text.append(token)
            for n in range(1, min(self.order, len(text)) + 1):
                gram = tuple(text[-n:])
                raw[gram] += 1
                before[gram[1:]].add(gram[0])
            if token == self.end_id:
                text = [self.end_id]
        followers: dict[tuple, dict[int, int]] = defaultdict(dict)
        for gram, count in raw.items():
            places = len(before[gram]) if len(gram) < self.order else 0
            followers[gram[:-1]][gram[-1]] = places if self.kneser_ney and places else count
        return followers

    def p(self, token, context):
        """p(token | context), a tuple of any tokens."""
        if self.end_id in context:  # what comes before a document's end is forgotten
            last = len(context) - 1 - context[::-1].index(self.end_id)
            context = context[last:]
        return self.p_after(token, context[max(0, len(context) - self.order + 1) :])

    def p_after(self, token, context):
        lower = self.p_after(token, context[1:]) if context else 1 / self.vocab_size
        seen = self.followers.get(context)
        if not seen:
            return lower
        share, weight = self.shares(self, seen, len(context) + 1)
        if self.shares is katz:
            return share[token] if token in share else self.bow(context, share) * lower
        return share.get(token, 0) + weight * lower

    def bow(self, context, share):
        """What is left to the unseen tokens, over what the shorter context gives them."""
        unseen = [t for t in range(self.vocab_size) if t not in share]
        lower = sum(
            self.p_after(t, context[1:]) if context else 1 / self.vocab_size for t in unseen
        )
        return (1 - sum(share.values())) / lower

    def counts_of_counts(self, length):
        grams = (seen for context, seen in self.followers.items() if len(context) == length - 1)
        return Counter(count for seen in grams for count in seen.values())


# Each takes the counts of what was seen after a context, {token: count}, and the length of those
# n-grams; it returns what each of the tokens has of its own, and the weight of the shorter context.


def mle(model, seen, length):
    total = sum(seen.values())
    return {t: c / total for t, c in seen.items()}, 0.0


def witten_bell(model, seen, length):
    total = sum(seen.values()) + len(seen)
    return {t: c / total for t, c in seen.items()}, len(seen) / total


def one_discount(model, seen, length):
    n = model.counts_of_counts(length)
    d = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
    total = sum(seen.values())
    return {t: (c - d) / total for t, c in seen.items()}, d * len(seen) / total


def three_discounts(model, seen, length):
    n = model.counts_of_counts(length)
    d = [0, 0.5, 1.0, 1.5]
    if n[1] and n[2] and n[3] and n[4]:
        y = n[1] / (n[1] + 2 * n[2])
        found = [0, *(i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3))]
        if min(found[1:]) > 0:
            d = found
    total = sum(seen.values())
    freed = sum(d[min(c, 3)] for c in seen.values())
    return {t: (c - d[min(c, 3)]) / total for t, c in seen.items()}, freed / total


def katz(model, seen, length, k=5):
    n = model.counts_of_counts(length)
    d = {r: (r - 0.5) / r for r in range(1, k + 1)}
    for cutoff in range(2, k + 1):  # the largest for which there are counts enough
        if all(n[r] for r in range(1, cutoff + 2)):
            a = (cutoff + 1) * n[cutoff + 1] / n[1]
            star = {r: (r + 1) * n[r + 1] / n[r] for r in range(1, cutoff + 1)}
            if a < 1 and all(a < star[r] / r < 1 for r in star):
                d = {r: (star[r] / r - a) / (1 - a) for r in star}
    total = sum(seen.values()) + all(c not in d for c in seen.values())
    share = {t: d.get(c, 1) * c / total for t, c in seen.items()}
    if len(seen) == model.vocab_size:  # nothing is unseen
        share = {t: p / sum(share.values()) for t, p in share.items()}
    return share, 0.0


SIMPLE = {
    "mle": mle,
    "katz": katz,
    "witten-bell": witten_bell,
    "absolute-discounting": one_discount,
    "kneser-ney": one_discount,
    "modified-kneser-ney": three_discounts,
}
