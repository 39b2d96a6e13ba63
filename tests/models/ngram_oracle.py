"""Interpolated modified Kneser-Ney as the formulas say it: dicts, one probability at a time."""

from collections import Counter, defaultdict


class BruteForce:
    """Chen & Goodman 1999, sec. 3, over documents that begin with one end id as context."""

    def __init__(self, ids, order, vocab_size, end):
        self.order, self.vocab_size, self.end = order, vocab_size, end
        raw, before = Counter(), defaultdict(set)
        for document in self.documents(ids):
            for t in range(1, len(document)):
                for k in range(1, order + 1):
                    if k - 1 <= t:
                        gram = tuple(document[t - k + 1 : t + 1])
                        raw[gram] += 1
                        if k > 1:
                            before[gram[1:]].add(gram[0])
        self.a = {
            gram: len(before[gram]) if len(gram) < order and before[gram] else count
            for gram, count in raw.items()
        }
        self.followers = defaultdict(dict)
        for gram, count in self.a.items():
            self.followers[gram[:-1]][gram[-1]] = count
        self.discounts = {k: self.discounts_of(k) for k in range(1, order + 1)}

    def documents(self, ids):
        document = [self.end]
        for token in ids:
            document.append(token)
            if token == self.end:
                yield document
                document = [self.end]
        if len(document) > 1:
            yield document

    def discounts_of(self, k):
        n = Counter(count for gram, count in self.a.items() if len(gram) == k)
        if n[1] and n[2] and n[3] and n[4]:
            y = n[1] / (n[1] + 2 * n[2])
            d = [i - (i + 1) * y * n[i + 1] / n[i] for i in (1, 2, 3)]
            if min(d) > 0:
                return [0, *d]
        return [0, 0.5, 1.0, 1.5]

    def p(self, token, context):
        """p(token | context), the context being at most order - 1 tokens of one document."""
        followers = self.followers[context]
        total = sum(followers.values())
        lower = self.p(token, context[1:]) if context else 1 / self.vocab_size
        if total == 0:
            return lower
        d = self.discounts[len(context) + 1]
        count = followers.get(token, 0)
        gamma = sum(d[min(c, 3)] for c in followers.values()) / total
        return (count - d[min(count, 3)]) / total + gamma * lower

    def distribution(self, context):
        """After any tokens: those before a document's end are forgotten, the end is kept."""
        context = list(context)
        ends = [i for i, token in enumerate(context) if token == self.end]
        context = context[ends[-1] :] if ends else context
        context = tuple(context[max(0, len(context) - self.order + 1) :])
        return [self.p(token, context) for token in range(self.vocab_size)]
