"""Learning WordPiece's vocabulary, as Hugging Face's `WordPieceTrainer` does.

It joins the pair of pieces that comes most often, as byte-pair encoding does (Sennrich et al. 2016,
arXiv:1508.07909), where Schuster & Nakajima 2012 join the pair that raises the likelihood most,
count(ab) / (count(a) count(b)): BERT's own trainer was never published, and this is the one whose
vocabularies are in use. Of pairs that come equally often, the one with the smaller ids is taken.

What differs: Hugging Face numbers the characters inside words ("##a") as its hash table yields
them, anew in each process, and so breaks ties anew; here they follow the characters in the same
order, that of code points. And nothing is learned from the inside of words that are too long to be
encoded; over there they are joined as any others. Their characters count here too.
"""

import heapq
import itertools
from collections import Counter, defaultdict

from minillm.tokenizers.base import documents, utf8
from minillm.tokenizers.surface import regroup

__all__ = ["LONGEST_WORD", "PREFIX", "count_words", "train_simple", "train_vocabulary"]

LONGEST_WORD = 100  # characters; BERT takes a longer word for unknown
PREFIX = "##"  # before a piece that does not begin its word
PIECE = 1 << 20  # characters whose words are counted at once


def train_vocabulary(
    texts, rules, *, vocab_size, min_frequency, special_tokens, alphabet_size, progress=None
):
    """The tokens: special ones, characters, characters inside words, then what was joined.

    Parameters
    ----------
    texts : str, or an iterable of str
    rules : BertText
    vocab_size : int, how many tokens at most; all characters kept are there in any case
    min_frequency : int, the least count of a pair that is joined
    special_tokens : list of str
    alphabet_size : int, how many characters are kept, the most frequent; others are skipped
    progress : function of (pieces learned, pieces wanted) or None

    Returns
    -------
    tokens : list of str
    """
    counts = count_words(texts, rules)
    tokens, words = _alphabet(counts, special_tokens, alphabet_size)
    merger = _Merger(tokens, words, list(counts.values()))
    wanted = max(0, vocab_size - len(tokens))
    start = len(tokens)
    while len(tokens) < vocab_size and merger.join_next(min_frequency):
        if progress and (len(tokens) - start) % 100 == 0:
            progress(len(tokens) - start, wanted)
    if progress:
        progress(wanted, wanted)
    return tokens


def train_simple(counts, *, vocab_size, min_frequency, special_tokens, alphabet_size):
    """`train_vocabulary` for a notebook: counts every pair anew before each joining.

    Parameters
    ----------
    counts : dict, word -> how often it comes
    """
    tokens, words = _alphabet(counts, special_tokens, alphabet_size)
    ids = {token: i for i, token in enumerate(tokens)}
    while len(tokens) < vocab_size:
        pairs: Counter[tuple[int, int]] = Counter()
        for word, count in zip(words, counts.values(), strict=True):
            for pair in itertools.pairwise(word):
                pairs[pair] += count
        if not pairs:
            break
        pair = min(pairs, key=lambda pair: (-pairs[pair], pair))
        if pairs[pair] < max(min_frequency, 1):
            break
        token = tokens[pair[0]] + tokens[pair[1]].removeprefix(PREFIX)
        if token not in ids:
            ids[token] = len(tokens)
            tokens.append(token)
        for word in words:
            _join(word, pair, ids[token])
    return tokens


def count_words(texts, rules):
    """How often each of BERT's words comes in texts, in order of first appearance."""
    chunks: Counter[str] = Counter()
    for document in documents(texts):
        utf8(document)  # refuses lone surrogates
        slices = (document[i : i + PIECE] for i in range(0, len(document), PIECE))
        for piece in regroup(slices, rules.cut):
            chunks.update(rules.chunk.findall(piece))
    counts: Counter[str] = Counter()
    for chunk, count in chunks.items():
        for word in rules.words_of(chunk):
            counts[word] += count
    return counts


def _alphabet(counts, special_tokens, alphabet_size):
    """The first tokens, and each word as a list of their ids, empty for one that is too long."""
    often: Counter[str] = Counter()
    for word, count in counts.items():
        for c in word:
            often[c] += count
    kept = sorted(sorted(often), key=lambda c: -often[c])[:alphabet_size]
    kept = sorted(kept)
    inner = {c for word in counts for c in word[1:]}
    tokens = list(dict.fromkeys([*special_tokens, *kept]))
    tokens += [PREFIX + c for c in kept if c in inner and PREFIX + c not in special_tokens]
    ids = {token: i for i, token in enumerate(tokens)}
    known = set(kept)
    words = [
        [ids[(PREFIX if place else "") + c] for place, c in enumerate(word) if c in known]
        if len(word) <= LONGEST_WORD
        else []
        for word in counts
    ]
    return tokens, words


class _Merger:
    """Words as lists of ids, and how often and where each pair of neighbours comes."""

    def __init__(self, tokens, words, counts):
        self.tokens, self.words, self.counts = tokens, words, counts
        self.ids = {token: i for i, token in enumerate(tokens)}
        self.often: Counter[tuple[int, int]] = Counter()
        self.where = defaultdict(set)
        for place, word in enumerate(words):
            for pair in itertools.pairwise(word):
                self.often[pair] += counts[place]
                self.where[pair].add(place)
        self.queue = [(-self.often[pair], pair) for pair in self.where]
        heapq.heapify(self.queue)

    def join_next(self, min_frequency):
        """Join the most frequent pair everywhere; False where there is none frequent enough."""
        while self.queue:
            count, pair = heapq.heappop(self.queue)
            now = self.often[pair]
            if now != -count:  # it has changed since it was queued
                if now > 0:
                    heapq.heappush(self.queue, (-now, pair))
                continue
            if now < max(min_frequency, 1):
                return False
            break
        else:
            return False
        token = self.tokens[pair[0]] + self.tokens[pair[1]].removeprefix(PREFIX)
        if token not in self.ids:
            self.ids[token] = len(self.tokens)
            self.tokens.append(token)
        self._join_everywhere(pair, self.ids[token])
        return True

    def _join_everywhere(self, pair, token):
        risen = set()
        for place in self.where.pop(pair):
            word, count = self.words[place], self.counts[place]
            before = list(itertools.pairwise(word))
            _join(word, pair, token)
            for old in before:
                self.often[old] -= count
            for new in itertools.pairwise(word):
                self.often[new] += count
                if token in new:
                    self.where[new].add(place)
                    risen.add(new)
        for new in risen:
            heapq.heappush(self.queue, (-self.often[new], new))


def _join(word, pair, token):
    """Put a token in place of each pair in a list of ids, from the left."""
    place = 0
    while place < len(word) - 1:
        if (word[place], word[place + 1]) == pair:
            word[place : place + 2] = [token]
        place += 1
