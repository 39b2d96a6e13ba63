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
from minillm.tokenizers.unigram_table import Solved

__all__ = ["Encoder"]

BLOCK = 1 << 13  # segments whose sums are added up at once
MEMORY = 1 << 26  # bytes that solved segments may take before they are dropped
FEW = 1 << 16  # segments of short texts that are kept, and of pairs of characters
LONGEST = 64  # characters of such a segment
RESET = np.float32(100000)
PAIRS = 1 << 22  # a power of two
SHORT = 512  # characters of a text for which one segment after the other is faster


class Encoder:
    """Cuts prepared texts; any threads may use it at once.

    Parameters
    ----------
    pieces : dict, piece -> id below V
    scores : float32 (V + 1,), the last one an unknown character's
    memory : int, bytes that the solved segments of long texts may take
    few : int, how many of short texts are kept
    """

    def __init__(self, pieces, scores, *, memory=MEMORY, few=FEW):
        self.memory, self.few = memory, few
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
        self._solved = Solved(self._solve_alone)
        self._of_short: tuple[dict, dict] = {}, {}  # what `_short` keeps

    def ids(self, prepared):
        """The ids of `path`, from a text's start."""
        if len(prepared) <= SHORT:
            found = self._short(prepared)
            if found is not None:
                return np.array(found, np.int32)
        return self.path(prepared)[0]

    def _short(self, prepared):
        """The ids of a short text, or None where rounding may matter."""
        found, total, start, (apart, known) = [], 0.0, 0, self._of_short
        for place in range(1, len(prepared) + 1):
            pair = prepared[place - 1 : place + 1]
            if pair not in apart:
                apart[pair] = len(pair) < 2 or bool(self.boundaries(pair)[0])
            if apart[pair]:
                segment, start = prepared[start:place], place
                solved = known.get(segment)
                if solved is None:
                    solved = self._solve_alone(segment)
                    if len(segment) <= LONGEST:
                        known[segment] = solved
                ids, margin, effort, reach = solved
                total += 2 * reach  # more than the sums are
                if margin <= effort * total * 2**-23 or total >= RESET:
                    return None
                found += ids
        if len(known) > self.few or len(apart) > self.few:
            self._of_short = {}, {}
        return found

    def _solve_alone(self, segment):
        """A segment's path, margin and effort, see `solve`, and how far a sum inside can go."""
        ids, margin, effort, _ = self.solve(segment, np.float32(0))
        return ids, margin, effort, self._lowest * len(segment)

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
        solved = self._solved
        if solved.nbytes > self.memory:
            solved = self._solved = Solved(self._solve_alone)
        row, paths = solved.look_up(segments)
        found = []
        while len(row):
            size = paths.size[row]
            ends = np.cumsum(size)
            ids = paths.ids[np.repeat(paths.start[row] - ends + size, size) + np.arange(ends[-1])]
            sums = np.cumsum(np.append(total, self.scores[ids]), dtype=np.float32)
            done, again, total = self._settle(segments[-len(row) :], paths, row, ids, ends, sums)
            found += [ids[: ends[done - 1] if done else 0], again]
            row = row[done + 1 :]
        return np.concatenate(found), total

    def _settle(self, segments, paths, row, ids, ends, sums):
        """Solve those again whose best path may have changed by rounding, up to one where it did.

        Returns
        -------
        done : int, how many segments keep their path
        again : int32, the path of the next, empty where all keep theirs
        total : float32, the sum behind those
        """
        after = sums[ends]
        before = np.append(sums[0], after[:-1])
        reach = np.maximum(np.abs(before), np.abs(after)) + paths.reach[row]
        rounding = paths.effort[row] * np.spacing(reach.astype(np.float32))
        doubtful = (paths.margin[row] <= rounding) | (reach >= RESET)
        for k in np.flatnonzero(doubtful).tolist():
            again, _, _, total = self.solve(segments[k], before[k])
            if total != after[k] or again != ids[ends[k] - paths.size[row[k]] : ends[k]].tolist():
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
