"""The segments that a unigram encoder has solved, and their best paths, in arrays that grow."""

import dataclasses
import sys

import numpy as np

__all__ = ["Paths", "Solved"]


@dataclasses.dataclass(frozen=True)
class Paths:
    """The best paths of R segments; never changed, a longer one takes its place.

    Attributes
    ----------
    ids : int32, the paths one after the other
    start, size : int64 (R,), where each begins there, and its length
    margin : float64 (R,), by how much each won, see `Encoder.solve`
    effort : int64 (R,)
    reach : float64 (R,), how far from the sum before it a sum inside can be
    """

    ids: np.ndarray
    start: np.ndarray
    size: np.ndarray
    margin: np.ndarray
    effort: np.ndarray
    reach: np.ndarray

    def __add__(self, solved):
        """With more of them: a list of (ids, margin, effort, reach)."""
        paths, margin, effort, reach = zip(*solved, strict=True)
        size = np.append(self.size, [len(path) for path in paths])
        return Paths(
            ids=np.append(self.ids, np.array([i for path in paths for i in path], np.int32)),
            start=np.cumsum(size) - size,
            size=size,
            margin=np.append(self.margin, margin),
            effort=np.append(self.effort, effort),
            reach=np.append(self.reach, reach),
        )


class Solved:
    """Segments to rows of `Paths`; any threads may use it at once, without a lock.

    What is known is never changed, but replaced as a whole when more is. A thread goes on with what
    it found; of two that learn at once, one's work is lost, and done again when it is needed.

    Parameters
    ----------
    solve : function of a segment: (ids, margin, effort, reach)
    """

    def __init__(self, solve):
        self._solve = solve
        whole, real = np.empty(0, np.int64), np.empty(0)
        paths = Paths(np.empty(0, np.int32), whole, whole, real, whole, real)
        self._known: tuple[dict, Paths, int] = {}, paths, 0

    def look_up(self, segments):
        """The row of each segment, int64 (N,), and the Paths that have them."""
        rows, paths, texts = self._known
        if new := list(set(segments).difference(rows)):
            paths = paths + [self._solve(segment) for segment in new]
            rows = rows | {segment: len(rows) + k for k, segment in enumerate(new)}
            self._known = rows, paths, texts + sum(map(sys.getsizeof, new))
        return np.array([rows[segment] for segment in segments]), paths

    @property
    def nbytes(self):
        """The memory taken, in bytes, the numbers in the dict of segments aside."""
        rows, paths, texts = self._known
        return sum(array.nbytes for array in vars(paths).values()) + texts + sys.getsizeof(rows)
