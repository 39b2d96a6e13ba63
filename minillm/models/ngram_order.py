"""Whether an order suits a text, told before hours and all memory have gone into it.

The lengths of its documents say at how many places n-grams of length n can end: P_n. Of M_n
different ones, P_n - M_n places repeat one. An n-gram that differs from all others still does so
with a token more, so the repeats never become more as n grows: M_m >= P_m - (P_n - M_n) for m > n.
That is what the longer ones take at the least, known while the short ones are counted.
"""

import numpy as np

from minillm.errors import UserError

__all__ = ["Places", "check_order"]

ALWAYS = 1000  # an order that any text may have: levels without n-grams are no burden yet
AHEAD = 1 << 20  # lengths looked at; those beyond would only take more


def check_order(ids, order, end_id):
    """Refuse an order that no document of a stream of ids (N,) is long enough for.

    Raises
    ------
    UserError
        naming the order, the longest document and the largest order there may be.
    """
    if order <= ALWAYS:
        return
    longest = int(_documents(ids, end_id).max(initial=0))
    if order > (limit := max(ALWAYS, longest + 1)):
        raise UserError(
            f"order {order} is too much for a text whose longest document has {longest} tokens, "
            f"its end included: take {limit} or less"
        )


class Places:
    """The places of a text where n-grams of each length can end.

    Parameters
    ----------
    ids : integers (N,), each document followed by end_id
    order : int, of the longest n-grams to count
    end_id : int
    """

    def __init__(self, ids, order, end_id):
        longest = _documents(ids, end_id) + 1  # n-gram of each document: an end stands before it
        top = min(order, AHEAD, int(longest.max(initial=1)))
        many = np.bincount(np.minimum(longest, top), minlength=top + 1)
        long_enough = np.cumsum(many[::-1])[::-1]  # (top + 1,) documents, by length of n-gram
        # P_n - P_top, (top + 1,); only differences are asked for
        self._places = np.append(np.cumsum(long_enough[-2::-1])[::-1], 0)
        self._sums = np.append(0, np.cumsum(self._places))
        self._last = min(order - 1, top)  # what the very longest take is left out

    def still_to_come(self, length, grams):
        """How many different n-grams there are at the least that are longer.

        Parameters
        ----------
        length : int >= 2, that has been counted
        grams : int, the different n-grams found of it

        Returns
        -------
        n : int, those longer than `length` and shorter than the order together
        """
        if length >= self._last:
            return 0
        repeats = int(self._places[length]) - grams
        # places become fewer: up to here there are more than repeats
        stop = int(np.searchsorted(-self._places[: self._last + 1], -repeats))
        sums = self._sums
        return int(sums[stop] - sums[length + 1]) - repeats * (stop - length - 1)


def _documents(ids, end_id):
    """The number of tokens of each document, its end included, int (D,)."""
    ends = np.flatnonzero(np.asarray(ids) == end_id)
    return np.diff(np.concatenate([[-1], ends, [len(ids) - 1]]))
