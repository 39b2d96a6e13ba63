"""The pairs of neighbouring tokens in a set of words, with counts that follow each merge.

Each different word is kept once, with how often it occurs. All words stand in one row of places, a
byte each, with a border between them; a token is where its first byte is. Every pair of neighbours
(a, b) is a number, its id, of which a table knows the parts, the count, and the places where the
pair has stood since there is such a pair. What a merge has to touch is there alone:

    x a b y  ->  x ab y:  (x, a) and (b, y) become rarer, (x, ab) and (ab, y) are new pairs.

No pair becomes more frequent once it is there, for a token comes to be by one merge only; so a
pair's places need not be corrected: some have become other pairs, and none is missing.
"""

import numpy as np

from minillm.tokenizers.bpe_simple import BYTE_ORDER

__all__ = ["Pairs"]

NONE = 0  # the id of no pair: a word's last token, a border, the inside of a token
HOT = 500  # the most frequent pairs, among which the next one is looked for
BEFORE, AFTER, BETWEEN = range(3)  # where a pair stands that a merge replaces


class Pairs:
    """The words in tokens, at first their bytes, and the pairs of neighbours in them.

    Parameters
    ----------
    words : Words
    n_merges : int, the most that will be made

    Attributes
    ----------
    weight : int64 (P,), how often the word occurs that each place belongs to
    ending : int32 (P,), the token whose last byte is at each place
    pair : int32 (P,), the pair whose first token begins at each place, or NONE
    size : int64 (T,), the bytes of each token
    left, right, count : arrays over pairs, with room to grow: the tokens, and how often they meet
    places : int32, the places of one pair after those of another
    first : int64, where each pair's places begin; they end where the next pair's begin
    n_pairs, n_tokens : int
    """

    def __init__(self, words, n_merges):
        border = 256 + n_merges  # a token that stands before each word and after the last
        self.size = np.ones(border + 1, np.int64)
        self.n_tokens = 256
        end = np.cumsum(words.size + 1)
        self.ending = np.full(int(words.size.sum()) + len(end) + 1, border, np.int32)
        inside = np.ones(len(self.ending), bool)
        inside[0] = False
        inside[end] = False
        self.ending[inside] = np.argsort(BYTE_ORDER)[words.in_order()]
        self.weight = np.zeros(len(self.ending), np.int64)
        self.weight[inside] = np.repeat(words.count, words.size)
        self._count_first(np.flatnonzero(inside[:-1] & inside[1:]))

    def _count_first(self, place):
        """The pairs of bytes, which begin at `place`."""
        code = (self.ending[place] << 8 | self.ending[place + 1]).astype(np.uint16)
        order = np.argsort(code, kind="stable")
        code, place = code[order], place[order]
        new, first = _groups(code)
        self.n_pairs = 1
        self.pair = np.zeros(len(self.ending), np.int32)
        self.left, self.right = np.zeros((2, 1), np.int32)
        self.count, self.first = np.zeros(1, np.int64), np.zeros(2, np.int64)
        self.places = np.empty(0, np.int32)
        self.hot, self.limit, self.limit_left = np.empty(0, np.int64), 0, 0
        self._add(code[first] >> 8, code[first] & 0xFF, place, self.weight[place], new, first)
        self._heat()

    def best(self):
        """The most frequent pair; of equals that whose tokens are the oldest; NONE if none is left.

        The tokens' age is their id.
        """
        pair, count = self._best_hot()
        if count < self.limit or (count == self.limit and self.left[pair] > self.limit_left):
            self._heat()  # one that is not hot may be better
            pair, _ = self._best_hot()
        return pair

    def _best_hot(self):
        count = self.count[self.hot]
        most = count.max()
        found = self.hot[count == most]
        if len(found) > 1:
            found = found[np.lexsort((self.right[found], self.left[found]))]
        return int(found[0]), int(most)

    def _heat(self):
        """Find the HOT pairs that come next as counts are now, and where these end.

        They are those more frequent than `limit`, and, of those that are just as frequent, those
        whose left token is not beyond `limit_left`.
        """
        count = self.count[: self.n_pairs]
        k = max(len(count) - HOT, 0)
        self.limit = max(1, int(np.partition(count, k)[k]))
        more = np.flatnonzero(count > self.limit)
        equal = np.flatnonzero(count == self.limit)
        left = self.left[equal]
        if len(equal):
            k = min(max(HOT - len(more), 1), len(equal)) - 1
            self.limit_left = int(np.partition(left, k)[k])
        self.hot = np.concatenate([[NONE], more, equal[left <= self.limit_left]])

    def merge(self, pair):
        """Join a pair wherever it stands, from the left, to a new token; returns its two tokens."""
        a, b = int(self.left[pair]), int(self.right[pair])
        token, self.n_tokens = self.n_tokens, self.n_tokens + 1
        place = self.places[self.first[pair] : self.first[pair + 1]]
        place = place[self.pair[place] == pair]
        if a == b:
            place = _every_second(place, self.size[a])
        second = place + self.size[a]
        end = second + self.size[b]
        self.size[token] = self.size[a] + self.size[b]
        start = place - self.size[self.ending[place - 1]]  # of the token before
        # The pairs that stood around it, with where they stood in the two lowest bits.
        before, after = self.pair[start] << 2, self.pair[second] << 2 | AFTER
        beside = np.flatnonzero(place[1:] == end[:-1])
        if len(beside):  # a b a b: what was one pair between the two is one between new tokens
            before[beside + 1] = NONE
            after[beside] += BETWEEN - AFTER
        self.pair[second] = NONE
        self.pair[place] = NONE
        self.ending[end - 1] = token
        self._replace(np.append(before, after), np.append(start, place), token)
        self.count[pair] = 0
        return a, b

    def _replace(self, old, place, token):
        """Make new pairs with `token` of old ones, which become rarer.

        old : int (n,), 4 * pair + BEFORE, AFTER or BETWEEN; place : int (n,), that of the new pair
        """
        n = len(old)
        bits = n.bit_length()
        packed = old.astype(np.int64) << bits | np.arange(n)  # a plain sort is fastest
        packed.sort()
        packed = packed[packed.searchsorted(4 << bits) :]  # without those of NONE
        place = place[packed & (1 << bits) - 1]
        old = packed >> bits
        new, first = _groups(old)
        old = old[first]
        side, old = old & 3, old >> 2
        weight = self.weight[place]
        left, right = self.left[old], self.right[old]
        left[side != BEFORE] = token
        right[side != AFTER] = token
        count = self._add(left, right, place, weight, new, first)
        np.subtract.at(self.count, old, count)

    def _add(self, left, right, place, weight, new, first):
        """Add pairs, whose places lie group by group; returns their counts."""
        if len(first) == 0:
            return np.empty(0, np.int64)
        low, high = self.n_pairs, self.n_pairs + len(first)
        count = np.add.reduceat(weight, first)
        self.left = _put(self.left, low, left)
        self.right = _put(self.right, low, right)
        self.count = _put(self.count, low, count)
        used = int(self.first[low])
        self.first = _put(self.first, low, np.append(first, len(place)) + used)
        self.places = _put(self.places, used, place)
        self.pair[place] = np.cumsum(new) + (low - 1)
        self.n_pairs = high
        hot = (count > self.limit) | (count == self.limit) & (left <= self.limit_left)
        if hot.any():
            self.hot = np.append(self.hot, np.flatnonzero(hot) + low)
        return count


def _put(array, low, values):
    """The array with `values` from `low` on, moved to a larger one where it has no room."""
    high = low + len(values)
    if high > len(array):
        larger = np.empty(max(2 * len(array), high), array.dtype)
        larger[:low] = array[:low]
        array = larger
    array[low:high] = values
    return array


def _groups(ordered):
    """Whether each value of a sorted array is a new one (n,), and where the new ones are."""
    new = np.ones(len(ordered), bool)
    np.not_equal(ordered[1:], ordered[:-1], out=new[1:])
    return new, np.flatnonzero(new)


def _every_second(place, size):
    """Of places of a pair that overlap, those where it is joined: the first, third, ..."""
    new = np.ones(len(place), bool)
    new[1:] = place[1:] != place[:-1] + size
    index = np.arange(len(place))
    return place[(index - np.maximum.accumulate(np.where(new, index, 0))) % 2 == 0]
