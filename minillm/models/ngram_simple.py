"""N-gram models in plain Python: the specification that the fast ones are tested against.

Counting is one loop over the text, smoothing one function of what was seen after a context. Read it
first; then ngram_counts.py and ngram_smoothing.py do the same for all n-grams of a length at once.

Sources and derivations: docs/models/ngram.md. Left out: Good-Turing and Jelinek-Mercer's weights,
whose own files are as plain; pruning.
"""

from collections import Counter, defaultdict

__all__ = ["SimpleKatz", "SimpleNGram"]


class SimpleNGram:
    """Predicts a token from the order - 1 before it, by interpolation with shorter contexts.

    Parameters
    ----------
    ids : list of int, each document followed by end_id
    order, vocab_size, end_id : int
    smoothing : str, one of SIMPLE's names
    """

    def __init__(self, ids, *, order, vocab_size, end_id, smoothing="modified-kneser-ney"):
        self.order, self.vocab_size, self.end_id = order, vocab_size, end_id
        self.shares = SIMPLE[smoothing]
        self.followers = self.count(ids)
        if smoothing.endswith("kneser-ney"):
            self.followers = self.places(self.followers)

    def count(self, ids):
        """How often each token follows each context of less than `order` tokens.

        A document's start is the context (end_id,); no context reaches into the document before.

        Returns
        -------
        followers : {context, a tuple of tokens: {token: count}}, of what was seen
        """
        followers: dict[tuple, Counter] = defaultdict(Counter)
        text = [self.end_id]  # of the document so far
        for token in ids:
            for length in range(min(self.order, len(text) + 1)):
                followers[tuple(text[len(text) - length :])][token] += 1
            text.append(token)
            if token == self.end_id:
                text = [self.end_id]
        return followers

    def places(self, followers):
        """In how many places each n-gram stands, the different tokens before it, for its count.

        The longest n-grams and those at a document's start have nothing counted before them: they
        keep their counts.

        Parameters
        ----------
        followers : as `count` gives it

        Returns
        -------
        followers : the same n-grams, {context: {token: places, or count}}
        """
        before = Counter(
            (*context[1:], token)
            for context, seen in followers.items()
            for token in seen
            if context
        )
        return {
            context: {token: before.get((*context, token), count) for token, count in seen.items()}
            for context, seen in followers.items()
        }

    def p(self, token, context):
        """p(token | context), a tuple of any tokens."""
        if self.end_id in context:  # what comes before a document's end is forgotten
            last = len(context) - 1 - context[::-1].index(self.end_id)
            context = context[last:]
        return self.p_after(token, context[max(0, len(context) - self.order + 1) :])

    def p_after(self, token, context):
        """p(token | context), a tuple of less than `order` tokens.

        Equation: p(w | c) = share(w) + weight p(w | c'), or p(w | c') where c was never seen
        """
        lower = self.p_shorter(token, context)
        seen = self.followers.get(context)
        if not seen:
            return lower
        share, weight = self.shares(self, seen, len(context) + 1)
        return share.get(token, 0) + weight * lower

    def p_shorter(self, token, context):
        """p(w | c'), c' being c without its first token; 1 / vocab_size below the empty context."""
        return self.p_after(token, context[1:]) if context else 1 / self.vocab_size

    def counts_of_counts(self, length):
        """How many n-grams of a length have the count 1, 2, ..., a Counter {count: n-grams}."""
        grams = (seen for context, seen in self.followers.items() if len(context) == length - 1)
        return Counter(count for seen in grams for count in seen.values())


# Each takes the model, the counts of what was seen after a context, {token: count}, and the length
# of those n-grams. It returns what each of the tokens has of its own, {token: share}, and the
# weight of the shorter context. In the equations c(cw) is a count, c(c.) the sum of all after c,
# and N1+(c.) how many different tokens they are.


def mle(model, seen, length):
    """Relative frequencies.

    Equation: p(w | c) = c(cw) / c(c.)
    """
    total = sum(seen.values())
    return {t: c / total for t, c in seen.items()}, 0.0


def witten_bell(model, seen, length):
    """As much for the unseen as there were new tokens (Witten & Bell 1991, method C).

    Equation: p(w | c) = (c(cw) + N1+(c.) p(w | c')) / (c(c.) + N1+(c.))
    """
    total = sum(seen.values()) + len(seen)
    return {t: c / total for t, c in seen.items()}, len(seen) / total


def one_discount(model, seen, length):
    """Absolute discounting (Ney, Essen & Kneser 1994); over places it is Kneser-Ney.

    Equation: p(w | c) = (max(c(cw) - D, 0) + D N1+(c.) p(w | c')) / c(c.), D = n1 / (n1 + 2 n2)

    n1 and n2 are the counts of counts of this length; where one of them is 0, D is 0.5.
    """
    n = model.counts_of_counts(length)
    d = n[1] / (n[1] + 2 * n[2]) if n[1] and n[2] else 0.5
    total = sum(seen.values())
    return {t: (c - d) / total for t, c in seen.items()}, d * len(seen) / total


def three_discounts(model, seen, length):
    """Discounts for counts of 1, of 2 and of 3 or more (Chen & Goodman 1999, eq. 26).

    Equation: D_r = r - (r + 1) Y n_(r+1) / n_r for r = 1, 2, 3, with Y = n1 / (n1 + 2 n2)

    Where one of n1 to n4 is 0, or a discount would not be positive, they are 0.5, 1 and 1.5.
    """
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


SIMPLE = {
    "mle": mle,
    "witten-bell": witten_bell,
    "absolute-discounting": one_discount,
    "kneser-ney": one_discount,
    "modified-kneser-ney": three_discounts,
}


class SimpleKatz(SimpleNGram):
    """Backs off: asks the shorter context only for what was not seen (Katz 1987).

    Parameters
    ----------
    ids, order, vocab_size, end_id : as for SimpleNGram
    """

    def __init__(self, ids, *, order, vocab_size, end_id):
        super().__init__(ids, order=order, vocab_size=vocab_size, end_id=end_id, smoothing="mle")

    def p_after(self, token, context):
        lower = self.p_shorter(token, context)
        seen = self.followers.get(context)
        if not seen:
            return lower
        share = katz(self, seen, len(context) + 1)
        return share[token] if token in share else self.bow(context, share) * lower

    def bow(self, context, share):
        """What is left to the unseen tokens, over what the shorter context gives them."""
        unseen = [t for t in range(self.vocab_size) if t not in share]
        return (1 - sum(share.values())) / sum(self.p_shorter(t, context) for t in unseen)


def katz(model, seen, length, k=5):
    """What each of the seen tokens has: counts up to k are Good and Turing's, larger ones stay."""
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
    return share
