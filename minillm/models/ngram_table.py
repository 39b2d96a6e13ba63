"""Where an integer stands in an array, for many at once: a hash table with open addressing.

A key's home is the top bits of the key times an odd constant (Knuth, The Art of Computer
Programming vol. 3, sec. 6.4, multiplicative hashing); it lies there or in the first free place
after it (linear probing). What a place holds is compared with the key asked for, always: two keys
with one home are told apart.

Both ways go without a loop over the keys. Filling: with the keys sorted by home, the i-th goes to
the larger of its home and the place after its predecessor's, which is i + max over j <= i of
(home_j - j). Asking: all keys look at their places at once, those that are neither found nor at a
free place go one place on, and so a few times until none is left.

Left out: adding and taking out single keys; an n-gram model never changes.
"""

import numpy as np

__all__ = ["MULTIPLIER", "HashTable"]

FREE = -1
MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)  # 2^64 over the golden ratio
LOAD = 0.5  # keys a home, which keeps the searches short
CHUNK = 1 << 15  # keys looked up at once: what that takes stays in the processor's cache


class HashTable:
    """The place of each of distinct keys in the array that they came in.

    Parameters
    ----------
    keys : int64 (M,), distinct, none negative, fewer than 2^31
    """

    def __init__(self, keys):
        bits = _bits(len(keys))
        self._shift = np.uint64(64 - bits)
        home = self._home(keys)  # (M,)
        index_bits = max(1, len(keys).bit_length())
        if bits + index_bits <= 63:  # the index rides in the low bits of a plain sort
            packed = np.sort(home << index_bits | np.arange(len(keys)))
            by_home, home = packed & (1 << index_bits) - 1, packed >> index_bits
        else:
            by_home = np.argsort(home, kind="stable")
            home = home[by_home]
        i = np.arange(len(keys))
        place = np.maximum.accumulate(home - i) + i  # (M,)
        # One free place follows the last key, so that every search ends.
        size = max(1 << bits, int(place[-1]) + 2 if len(keys) else 0)
        self._keys = np.full(size, FREE, np.int64)
        self._keys[place] = keys[by_home]
        self._index = np.full(size, -1, np.int32)  # -1 is also the answer at a free place
        self._index[place] = by_home

    def _home(self, keys):
        mixed = keys.view(np.uint64)
        mixed = mixed ^ mixed >> np.uint64(32)  # so that no regular step undoes the constant
        return (mixed * MULTIPLIER >> self._shift).view(np.int64)

    @staticmethod
    def needed(n):
        """How many bytes of memory making a table of n keys takes, at most."""
        return 12 * (1 << _bits(n)) + 64 * n

    @property
    def nbytes(self):
        """The memory that the table takes, in bytes."""
        return self._keys.nbytes + self._index.nbytes

    def find(self, keys):
        """The index of each key, int64 (n,); -1 for one that is not there.

        Parameters
        ----------
        keys : int64 (n,); a negative one is never there
        """
        keys = np.ascontiguousarray(keys, np.int64)
        found = np.empty(len(keys), np.int64)
        for start in range(0, len(keys), CHUNK):
            part = slice(start, start + CHUNK)
            self._find(keys[part], found[part])
        return found

    def _find(self, keys, found):
        place = self._home(keys)  # (n,)
        held = self._keys.take(place)
        found[:] = self._index.take(place)
        rest = np.flatnonzero((held != keys) & (held != FREE))
        place, keys = place[rest], keys[rest]
        while len(rest):
            place += 1
            held = self._keys.take(place)
            found[rest] = self._index.take(place)
            on = np.flatnonzero((held != keys) & (held != FREE))
            rest, place, keys = rest[on], place[on], keys[on]


def _bits(n):
    """A table of n keys has two to the power of this many homes."""
    return max(1, int(n / LOAD).bit_length())
