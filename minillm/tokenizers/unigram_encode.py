"""The most probable pieces of a text, fast, and to the last bit as SentencePiece finds them.

Three ideas beside the Viterbi of unigram_lattice.py:

- Where two characters stand side by side in no piece, every path has a cut between them: the text
  falls into segments (mostly words, and parts of them), each of which is solved once and kept.
- SentencePiece adds scores up in float32 from the text's start, so that far into a text, where an
  ulp is large, near ties fall by rounding. Each solved segment keeps by how much its best path won;
  only where that is within the rounding is it solved again, from the sum that stands before it.
- SentencePiece (0.2.3) takes a sum beyond +-100000 off all sums and goes on; so does this.
"""

import math

import numpy as np

from minillm.tokenizers.base import code_points
from minillm.tokenizers.unigram_lattice import prefixes

__all__ = ["Encoder"]

BLOCK = 1 << 13  # segments whose sums are added up at once
KEPT = 1 << 18  # solved segments kept
RESET = np.float32(100000)
PAIRS = 1 << 22  # a power of two
SHORT = 512  # characters of a text for which one segment after the other is faster


class Encoder:
    """Cuts prepared texts.

    Parameters
    ----------
    pieces : dict, piece -> id below V
    scores : float32 (V + 1,), the last one an unknown character's
    """

    def __init__(self, pieces, scores):
        self.scores = np.asarray(scores, np.float32)
        self.unknown = len(self.scores) - 1
        self._known = prefixes(pieces)
        self._score = list(self.scores)  # np.float32 one by one, which keep their precision in sums
        self._lowest = float(np.abs(self.scores).max())
        characters = np.unique(code_points("".join(pieces)))
        self._class = np.zeros(int(characters.max(initial=0)) + 2, np.int64)  # 0: in no piece
        self._class[characters] = np.arange(1, len(characters) + 1)
        # Pairs share places in the table where characters are very many: that joins what could
        # be cut, which costs time only.
        self._joined = np.zeros(PAIRS, bool)
        self._stride = len(characters) + 1
        ends = np.cumsum([len(piece) for piece in pieces])
        inside = np.ones(int(ends[-1]) if len(ends) else 0, bool)
        inside[ends - 1] = False
        self._joined[self._pairs(code_points("".join(pieces)))[inside[:-1]]] = True
        self._forget()

    def ids(self, prepared):
        """The ids of `path`, from a text's start."""
        if len(prepared) <= SHORT:
            found = self._short(prepared)
            if found is not None:
                return np.array(found, np.int32)
        return self.path(prepared)[0]

    def _short(self, prepared):
        """The ids of a short text, or None where rounding may matter."""
        found, total, start, apart, known = [], 0.0, 0, self._apart, self._few
        for place in range(1, len(prepared) + 1):
            pair = prepared[place - 1 : place + 1]
            if pair not in apart:
                apart[pair] = len(pair) < 2 or bool(self.boundaries(pair)[0])
            if apart[pair]:
                segment, start = prepared[start:place], place
                if segment not in known:
                    ids, margin, effort, end = self.solve(segment, np.float32(0))
                    known[segment] = ids, margin, effort, abs(end) + self._lowest * len(segment)
                ids, margin, effort, reach = known[segment]
                total += float(reach)  # more than the sums are
                if margin <= effort * total * 2**-23 or total >= RESET:
                    return None
                found += ids
        if len(known) > KEPT or len(apart) > KEPT:
            self._forget()
        return found

    def _forget(self):
        self._apart, self._few = {}, {}  # for `_short`
        self._index = {}  # segment -> its row in the arrays below
        self._ids = np.empty(0, np.int32)  # the best paths, one after the other
        self._size = np.empty(0, np.int64)  # the length of each
        self._margin = np.empty(0)  # by how much it won, see `solve`
        self._effort = np.empty(0, np.int64)
        self._reach = np.empty(0)  # how far from the sum before it a sum inside can be

    def _learn(self, segments):
        """Solve segments that are not yet known, and keep them."""
        solved = [self.solve(segment, np.float32(0)) for segment in segments]
        self._index |= {segment: len(self._size) + k for k, segment in enumerate(segments)}
        ids = [i for path, _, _, _ in solved for i in path]
        self._ids = np.append(self._ids, np.array(ids, np.int32))
        self._size = np.append(self._size, [len(path) for path, _, _, _ in solved])
        self._margin = np.append(self._margin, [margin for _, margin, _, _ in solved])
        self._effort = np.append(self._effort, [effort for _, _, effort, _ in solved])
        self._reach = np.append(self._reach, [self._lowest * len(s) for s in segments])
        self._start = np.cumsum(self._size) - self._size

    def _pairs(self, codes):
        kinds = self._class[np.minimum(codes, len(self._class) - 1)]
        return (kinds[:-1] * self._stride + kinds[1:]) & (PAIRS - 1)

    def boundaries(self, prepared):
        """bool (N - 1,), whether every path has a cut behind each character but the last."""
        codes = code_points(prepared)
        return ~self._joined[self._pairs(codes)]

    def segments(self, prepared):
        """A prepared text in parts that no piece reaches out of, a list of str."""
        stops = (np.flatnonzero(self.boundaries(prepared)) + 1).tolist()
        cuts = zip([0, *stops], [*stops, len(prepared)], strict=True)
        return [prepared[a:b] for a, b in cuts] if prepared else []

    def path(self, prepared, total=0.0):
        """The ids of the best path, the unknown characters one by one.

        Parameters
        ----------
        prepared : str
        total : float32, the sum of the scores before it, for a text that goes on after a cut

        Returns
        -------
        ids : int32 (N,)
        total : float32
        """
        total = np.float32(total)
        if not prepared:
            return np.empty(0, np.int32), total
        segments, found = self.segments(prepared), []
        for start in range(0, len(segments), BLOCK):
            ids, total = self._block(segments[start : start + BLOCK], total)
            found.append(ids)
        return np.concatenate(found), total

    def _block(self, segments, total):
        if len(self._index) > KEPT:
            self._forget()
        if new := set(segments).difference(self._index):
            self._learn(list(new))
        row = np.array([self._index[segment] for segment in segments])
        found = []
        while len(row):
            size = self._size[row]
            ends = np.cumsum(size)
            ids = self._ids[np.repeat(self._start[row] - ends + size, size) + np.arange(ends[-1])]
            sums = np.cumsum(np.append(total, self.scores[ids]), dtype=np.float32)
            done, again, total = self._settle(segments[-len(row) :], row, ids, ends, sums)
            found += [ids[: ends[done - 1] if done else 0], again]
            row = row[done + 1 :]
        return np.concatenate(found), total

    def _settle(self, segments, row, ids, ends, sums):
        """Solve those again whose best path may have changed by rounding, up to one where it did.

        Returns
        -------
        done : int, how many segments keep their path
        again : int32, the path of the next, empty where all keep theirs
        total : float32, the sum behind those
        """
        after = sums[ends]
        before = np.append(sums[0], after[:-1])
        reach = np.maximum(np.abs(before), np.abs(after)) + self._reach[row]
        rounding = self._effort[row] * np.spacing(reach.astype(np.float32))
        doubtful = (self._margin[row] <= rounding) | (reach >= RESET)
        for k in np.flatnonzero(doubtful).tolist():
            again, _, _, total = self.solve(segments[k], before[k])
            if total != after[k] or again != ids[ends[k] - self._size[row[k]] : ends[k]].tolist():
                return k, np.array(again, np.int32), total
        return len(row), ids[:0], sums[-1]

    def solve(self, segment, total):
        """The best path of a segment, in float32 from a sum that stands before it.

        Returns
        -------
        ids : list of int
        margin : float, by how much each piece of it won over the next best, at least
        effort : int, how many roundings stand behind such a comparison, at most
        total : float32
        """
        n, known, score = len(segment), self._known, self._score
        best: list = [None] * (n + 1)
        gap, came, piece = [math.inf] * (n + 1), [0] * (n + 1), [0] * (n + 1)
        best[0] = total
        for start in range(n):
            here = best[start]
            if not -RESET <= here <= RESET:
                best[start:] = [None if b is None else b - here for b in best[start:]]
                here = np.float32(0)
            single = False
            for stop in range(start + 1, n + 1):
                i = known.get(segment[start:stop])
                if i is None:
                    break
                if i < 0:
                    continue
                single |= stop == start + 1
                self._offer(best, gap, came, piece, start, stop, i, here + score[i])
            if not single:
                unknown = here + score[-1]
                self._offer(best, gap, came, piece, start, start + 1, self.unknown, unknown)
        ids, margin, place = [], math.inf, n
        while place > 0:
            ids.append(piece[place])
            margin = min(margin, gap[place])
            place = came[place]
        return ids[::-1], margin, len(ids) + n, best[n]

    @staticmethod
    def _offer(best, gap, came, piece, start, stop, i, value):
        """Let a path compete at its end; of equals the first stays."""
        held = best[stop]
        if held is None:
            best[stop], came[stop], piece[stop] = value, start, i
        elif value > held:
            gap[stop] = float(value - held)
            best[stop], came[stop], piece[stop] = value, start, i
        else:
            gap[stop] = min(gap[stop], float(held - value))
