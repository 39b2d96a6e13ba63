"""Every smoothing as its formula says it: dicts and exact fractions, one probability at a time."""

import math
from collections import Counter, defaultdict
from fractions import Fraction

HALF = Fraction(1, 2)
ALONE = ("add-k", "good-turing")
KNESER_NEY = ("kneser-ney", "modified-kneser-ney")


class BruteForce:
    """An n-gram model over documents that begin with one end id as context."""

    def __init__(
        self,
        ids,
        order,
        vocab_size,
        end,
        smoothing="modified-kneser-ney",
        *,
        k=1,
        discount=None,
        cutoff=5,
        factor=0.4,
        buckets=1,
        weights=None,
        prune=None,
    ):
        self.order, self.vocab_size, self.end, self.smoothing = order, vocab_size, end, smoothing
        self.k, self.factor, self.buckets = Fraction(k), Fraction(factor), buckets
        self.weights, self.prune, self.cutoff = weights, prune, cutoff
        self.raw, before = Counter(), defaultdict(set)
        for document in self.documents(ids):
            for t in range(1, len(document)):
                for n in range(1, min(order, t + 1) + 1):
                    gram = tuple(document[t - n + 1 : t + 1])
                    self.raw[gram] += 1
                    if n > 1:
                        before[gram[1:]].add(gram[0])
        self.counts = dict(self.raw)
        if smoothing in KNESER_NEY:
            for gram in self.raw:
                if len(gram) < order and before[gram]:
                    self.counts[gram] = len(before[gram])
        self.followers = defaultdict(dict)
        for gram, count in self.counts.items():
            self.followers[gram[:-1]][gram[-1]] = count
        self.many = {
            n: Counter(c for gram, c in self.counts.items() if len(gram) == n)
            for n in range(1, order + 1)
        }
        self.discounts = {n: self.discounts_of(n) for n in self.many}
        self.discount = {
            n: Fraction(discount) if discount else self.one_discount(n) for n in self.many
        }
        self.memo = {}

    def documents(self, ids):
        document = [self.end]
        for token in ids:
            document.append(token)
            if token == self.end:
                yield document
                document = [self.end]
        if len(document) > 1:
            yield document

    def distribution(self, context):
        """After any tokens: those before a document's end are forgotten, the end is kept."""
        context = list(context)
        ends = [i for i, token in enumerate(context) if token == self.end]
        context = context[ends[-1] :] if ends else context
        context = tuple(context[max(0, len(context) - self.order + 1) :])
        return [float(self.p(token, context)) for token in range(self.vocab_size)]

    def p(self, token, context):
        """p(token | context), the context being at most order - 1 tokens of one document."""
        if (token, context) not in self.memo:
            self.memo[token, context] = self.compute(token, context)
        return self.memo[token, context]

    def lower(self, token, context):
        if not context or self.smoothing in ALONE:
            return Fraction(1, self.vocab_size)
        return self.p(token, context[1:])

    def compute(self, token, context):
        seen = self.followers[context]
        if self.smoothing == "stupid-backoff":
            if token in self.kept(context):
                return Fraction(seen[token], sum(seen.values()))
            return self.factor * self.p(token, context[1:]) if context else Fraction(0)
        if not seen:
            return self.lower(token, context)
        if self.smoothing in ("katz", "good-turing"):
            return self.back_off(token, context)
        share = getattr(self, self.smoothing.replace("-", "_"))(context)
        kept = self.kept(context)
        left = 1 - sum(share[t] for t in kept)
        return share.get(token, 0) * (token in kept) + left * self.lower(token, context)

    def kept(self, context):
        """The tokens seen after a context whose n-grams were not pruned."""
        n = len(context) + 1
        threshold = self.prune[min(n, len(self.prune)) - 1] if self.prune else 0
        return [t for t in self.followers[context] if self.raw[(*context, t)] > threshold]

    # What each token has of its own after a context, {token: share}; the rest is the lower one's.

    def mle(self, context):
        seen = self.followers[context]
        return {t: Fraction(c, sum(seen.values())) for t, c in seen.items()}

    def add_k(self, context):
        seen = self.followers[context]
        total = sum(seen.values()) + self.k * self.vocab_size
        return {t: c / total for t, c in seen.items()}

    def witten_bell(self, context):
        seen = self.followers[context]
        return {t: Fraction(c, sum(seen.values()) + len(seen)) for t, c in seen.items()}

    def absolute_discounting(self, context):
        seen, d = self.followers[context], self.discount[len(context) + 1]
        return {t: (c - d) / sum(seen.values()) for t, c in seen.items()}

    kneser_ney = absolute_discounting  # over other counts

    def modified_kneser_ney(self, context):
        seen, d = self.followers[context], self.discounts[len(context) + 1]
        return {t: (c - d[min(c, 3)]) / sum(seen.values()) for t, c in seen.items()}

    def jelinek_mercer(self, context):
        seen = self.followers[context]
        total = sum(seen.values())
        bucket = min(total.bit_length() - 1, self.buckets - 1)
        weight = Fraction(self.weights[len(context)][bucket])
        return {t: weight * c / total for t, c in seen.items()}

    def discounts_of(self, n):
        many = self.many[n]
        if many[1] and many[2] and many[3] and many[4]:
            y = Fraction(many[1], many[1] + 2 * many[2])
            d = [i - (i + 1) * y * many[i + 1] / many[i] for i in (1, 2, 3)]
            if min(d) > 0:
                return [0, *d]
        return [0, HALF, 1, 3 * HALF]

    def one_discount(self, n):
        n1, n2 = self.many[n][1], self.many[n][2]
        return Fraction(n1, n1 + 2 * n2) if n1 and n2 else HALF

    def back_off(self, token, context):
        """Discounted counts; the rest shared out among the unseen as the lower one shares it."""
        share = self.discounted(context)
        kept = self.kept(context)
        if len(kept) == self.vocab_size:
            return share[token] / sum(share.values())
        if token in kept:
            return share[token]
        unseen = sum(self.lower(t, context) for t in range(self.vocab_size) if t not in kept)
        left = 1 - sum(share[t] for t in kept)
        return left * self.lower(token, context) / unseen

    def discounted(self, context):
        seen, n = self.followers[context], len(context) + 1
        total = sum(seen.values())
        if self.smoothing == "katz":
            d = self.katz_discounts(n)
            if all(d.get(c, 1) == 1 for c in seen.values()):
                total += 1
            return {t: d.get(c, 1) * c / total for t, c in seen.items()}
        star = self.simple_good_turing(n)
        scale = 1
        if n == 1 and self.many[1][1] and self.many[1][1] < total:
            scale = (total - self.many[1][1]) / sum(star[c] for c in seen.values())
        return {t: scale * star[c] / total for t, c in seen.items()}

    def katz_discounts(self, n):
        many, k = self.many[n], self.cutoff
        while k > 1:
            if all(many[r] for r in range(1, k + 2)) and (k + 1) * many[k + 1] < many[1]:
                a, d = Fraction((k + 1) * many[k + 1], many[1]), {}
                for r in range(1, k + 1):
                    d[r] = (Fraction((r + 1) * many[r + 1], many[r]) / r - a) / (1 - a)
                if all(0 < x < 1 for x in d.values()):
                    return d
            k -= 1
        return {r: (r - HALF) / r for r in range(1, self.cutoff + 1)}

    def simple_good_turing(self, n):
        """Gale & Sampson 1995: Z_r, the line through their logarithms, the switch."""
        many = self.many[n]
        r = sorted(many)
        if len(r) < 2:
            return {c: float(c) - 0.5 for c in r}
        x, y = [], []
        for i, c in enumerate(r):
            q = r[i - 1] if i else 0
            t = r[i + 1] if i + 1 < len(r) else 2 * c - q
            x.append(math.log(c))
            y.append(math.log(many[c] / (0.5 * (t - q))))
        mx, my = sum(x) / len(x), sum(y) / len(y)
        slope = sum((a - mx) * (b - my) for a, b in zip(x, y, strict=True))
        slope /= sum((a - mx) ** 2 for a in x)
        if slope >= -1:
            return {c: float(c) - 0.5 for c in r}
        height = my - slope * mx
        star, switched = {}, False
        for c in r:
            smooth = [math.exp(height + slope * math.log(v)) for v in (c, c + 1)]
            by_line = (c + 1) * smooth[1] / smooth[0]
            above = many[c + 1]
            by_turing = (c + 1) * above / many[c]
            width = 1.65 * math.sqrt((c + 1) ** 2 * above / many[c] ** 2 * (1 + above / many[c]))
            switched |= not above or abs(by_line - by_turing) <= width or by_turing >= c
            star[c] = by_line if switched else by_turing
        return star
