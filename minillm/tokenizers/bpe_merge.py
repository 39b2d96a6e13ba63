"""Byte-pair merges (Sennrich, Haddow & Birch 2016, arXiv:1508.07909, section 3.2), for many words
at once or for one long word.

Both give what the plain loop gives (bpe_simple.py): while some neighbours are a known pair, join
the pair of the lowest rank, the leftmost of several. Left out: dropout (a regulariser), and words
that need no merging because they are tokens as a whole (bpe_encode.py asks for those first).
"""

import heapq

import numpy as np

from minillm.tokenizers.bpe_hash import HashTable

__all__ = ["Merges", "spread"]

LONGEST = 255  # bytes of a word that goes with others: a place must fit beside a rank
NEVER = np.int32(0x7FFF_FFFF)  # greater than any rank and position: no pair
NOTHING = np.int32(0x7FFF_FFFF)  # in the place of a token: the word has ended
COLUMNS = (2, 4, 6, 8, 10, 12, 16, 24, 32, 64, 128, LONGEST)  # words of about one length together
CELLS = 1 << 16  # bytes of words at a time, so that what a round touches stays in the cache


class Merges:
    """The pairs of neighbouring tokens that are joined, and into what.

    Parameters
    ----------
    pairs : integers (M, 2), the left and the right token
    ranks : integers (M,), which pair goes first: the lowest; several may have the same
    merged : integers (R,), the token that the pairs of each rank become
    byte_ids : integers (256,), the token of each byte

    Raises
    ------
    ValueError
        for more ranks than fit beside a place in 31 bits.
    """

    def __init__(self, pairs, ranks, merged, byte_ids):
        pairs = np.asarray(pairs, np.int64).reshape(-1, 2)
        if len(merged) >= 1 << 23:
            raise ValueError(f"there may be 2^23 - 1 merges, got {len(merged)}")
        self.merged = np.asarray(merged, np.int32)  # (R,)
        self.byte_ids = np.asarray(byte_ids, np.int32)  # (256,)
        # Of a pair that comes twice the last place counts, as Hugging Face reads its files.
        keys, last = np.unique(_keys(pairs[:, 0], pairs[:, 1])[::-1], return_index=True)
        ranks = np.asarray(ranks, np.int64)[::-1][last]
        self._ranks = HashTable(keys, ranks)
        self._rank_of = dict(zip(keys.tolist(), ranks.tolist(), strict=True))
        of_bytes = self._ranks.find(
            _keys(np.repeat(self.byte_ids, 256), np.tile(self.byte_ids, 256))
        )
        self._of_bytes = np.where(of_bytes < 0, NEVER, of_bytes << 8)  # (65536,)

    def many(self, data, starts, lengths):
        """The tokens of many words.

        Parameters
        ----------
        data : uint8 (D,)
        starts, lengths : int64 (N,), where in data each word stands; none is empty

        Returns
        -------
        ids : int32 (T,), one word's after the other's
        counts : int64 (N,), the tokens of each
        """
        group = np.searchsorted(COLUMNS, lengths)
        counts = np.zeros(len(lengths), np.int64)
        parts: list[tuple[np.ndarray, np.ndarray]] = []
        for g in np.unique(group):
            rows = np.flatnonzero(group == g)
            if g == len(COLUMNS):
                for i in rows:
                    one = self.one(data[starts[i] : starts[i] + lengths[i]].tobytes())
                    counts[i] = len(one)
                    parts.append((np.array([i]), np.array(one, np.int32)))
                continue
            step = CELLS // COLUMNS[g]
            for batch in np.split(rows, range(step, len(rows), step)):
                ids = self._joined(data, starts[batch], lengths[batch], COLUMNS[g])  # (n, L)
                counts[batch] = (ids >= 0).sum(axis=1)
                parts.append((batch, ids[ids >= 0]))
        ends = np.cumsum(counts)
        out = np.empty(counts.sum(), np.int32)
        for batch, ids in parts:
            out[spread((ends - counts)[batch], counts[batch])] = ids
        return out, counts

    def _joined(self, data, starts, lengths, columns):
        """The tokens of N words of at most L bytes: int32 (N, L), -1 where no token begins.

        A word is a column here, a token stands in the row of its first byte, and `after` and
        `before` link these rows; row L stands for "none". Each round joins one pair in every word.
        """
        out = np.empty((len(lengths), columns), np.int32)
        rows = np.arange(columns)[:, None]  # (L, 1)
        inside = rows < lengths  # (L, N)
        raw = data.take(starts + rows, mode="clip")  # (L, N)
        ids = np.full((columns + 1, len(lengths)), NOTHING)
        ids[:-1] = np.where(inside, self.byte_ids[raw], -1)
        pairs = raw[:-1].astype(np.int64) << 8 | raw[1:]  # (L - 1, N)
        ranks = np.full_like(ids, NEVER)  # rank << 8 | row: the least is also the leftmost
        ranks[: columns - 1] = np.where(inside[1:], self._of_bytes[pairs] | rows[:-1], NEVER)
        after = np.where(rows + 1 < lengths, rows + 1, columns)  # (L, N)
        before = np.tile(np.append(np.arange(columns) - 1, columns)[:, None], len(lengths))
        before[0] = columns  # (L + 1, N), the last row takes what is written for no token
        words = np.arange(len(lengths))  # the word of each column
        while True:
            best = ranks[:-1].min(axis=0)
            live = np.flatnonzero(best < NEVER)
            if len(live) < 0.8 * len(words):  # let the finished ones go
                done = best == NEVER
                out[words[done]] = ids[:-1, done].T
                if len(live) == 0:
                    return out
                words, best = words[live], best[live]
                ids, ranks = ids.take(live, axis=1), ranks.take(live, axis=1)
                after, before = after.take(live, axis=1), before.take(live, axis=1)
                live = np.arange(len(live))
            else:
                best = best[live]
            self._join(ids, ranks, after, before, best, live)

    def _join(self, ids, ranks, after, before, best, column):
        """Join the best pair of each of the columns."""
        width = ids.shape[1]
        ids, ranks, after, before = (array.reshape(-1) for array in (ids, ranks, after, before))
        row = (best & 255).astype(np.int64)
        here = row * width + column
        right = after[here] * width + column
        new = self.merged[best >> 8]
        ids[here] = new
        ids[right] = -1
        ranks[right] = NEVER
        following = after[right]
        after[here] = following
        following = following * width + column
        before[following] = row
        preceding = before[here]
        rank = self._ranks.find(
            np.concatenate(
                [_keys(ids[preceding * width + column], new), _keys(new, ids[following])]
            )
        )
        rank = np.where(rank < 0, NEVER, rank << 8 | np.concatenate([preceding, row]))
        ranks[preceding * width + column] = rank[: len(row)]
        ranks[here] = rank[len(row) :]

    def one(self, word):
        """The tokens of a word of any length, a list of ints.

        A heap holds the pairs, rank << 32 | place; what has changed since it went in is skipped.
        So a word of n bytes takes time n log n.
        """
        ids = self.byte_ids[np.frombuffer(word, np.uint8)].tolist()
        rank_of, merged, size = self._rank_of.get, self.merged, len(ids)
        heap, current = [], [-1] * size  # current: the rank of the pair that begins at a place
        for place in range(size - 1):
            rank = rank_of(ids[place] << 32 | ids[place + 1])
            if rank is not None:
                heap.append(rank << 32 | place)
                current[place] = rank
        heapq.heapify(heap)
        after, before = list(range(1, size + 1)), list(range(-1, size - 1))
        while heap:
            rank, place = divmod(heapq.heappop(heap), 1 << 32)
            if current[place] != rank:
                continue
            right = after[place]
            new = ids[place] = int(merged[rank])
            ids[right] = current[right] = current[place] = -1
            after[place] = following = after[right]
            if following < size:
                before[following] = place
                rank = rank_of(new << 32 | ids[following])
                if rank is not None:
                    current[place] = rank
                    heapq.heappush(heap, rank << 32 | place)
            preceding = before[place]
            if preceding >= 0:
                rank = rank_of(ids[preceding] << 32 | new)
                current[preceding] = -1 if rank is None else rank
                if rank is not None:
                    heapq.heappush(heap, rank << 32 | preceding)
        return [i for i in ids if i >= 0]


def _keys(left, right):
    return left.astype(np.uint64) << np.uint64(32) | right.astype(np.uint64)


def spread(starts, counts):
    """counts[0] numbers from starts[0] on, then counts[1] numbers from starts[1] on, ..."""
    ends = np.cumsum(counts)
    return np.repeat(starts - (ends - counts), counts) + np.arange(counts.sum())
