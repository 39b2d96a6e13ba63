"""A hash table from 64-bit keys to numbers that looks up whole arrays at a time.

Open addressing with linear probing (Knuth, The Art of Computer Programming 3, section 6.4,
algorithm L) and multiplicative hashing (the same section, "Fibonacci hashing"): every step is one
NumPy call on all keys that have not yet found their place. Left out: deletion.
"""

import numpy as np

__all__ = ["EMPTY", "HashTable"]

EMPTY = np.uint64(0xFFFF_FFFF_FFFF_FFFF)  # marks a free slot, so it is no key
GOLDEN = np.uint64(0x9E37_79B9_7F4A_7C15)  # 2^64 / golden ratio, odd
LOAD = 3  # slots a key at least: a probe then meets a free slot or its key almost at once


class HashTable:
    """Keys, uint64 and never `EMPTY`, to values, int32 and never negative.

    Others may call `find` while one thread calls `insert`: a key appears after its value, and the
    arrays are replaced together.

    Parameters
    ----------
    keys : uint64 (N,), each once
    values : int32 (N,)
    """

    def __init__(self, keys=(), values=()):
        self.count = 0
        self._slots = _slots(1 << 10)
        self.insert(np.asarray(keys, np.uint64), np.asarray(values, np.int32))

    @property
    def nbytes(self):
        keys, values, _ = self._slots
        return keys.nbytes + values.nbytes

    def find(self, keys):
        """The value of each key, int32 (N,); -1 where there is none."""
        table, values, shift = self._slots
        slot = ((keys * GOLDEN) >> shift).view(np.int64)  # (N,), below the table's size
        there = table.take(slot, mode="clip")
        found = values.take(slot, mode="clip")
        missed = there != keys
        if not missed.any():
            return found
        found[missed] = -1  # not what the slot says: another thread may just be writing there
        todo = np.flatnonzero(missed & (there != EMPTY))
        slot, keys = slot[todo], keys[todo]
        while len(todo):
            slot = (slot + 1) & (len(table) - 1)
            there = table.take(slot, mode="clip")
            value = values.take(slot, mode="clip")
            hit = there == keys
            found[todo[hit]] = value[hit]
            keep = np.flatnonzero(~hit & (there != EMPTY))
            todo, slot, keys = todo[keep], slot[keep], keys[keep]
        return found

    def insert(self, keys, values):
        """Add new keys, each once and none of them in the table."""
        self.count += len(keys)
        if LOAD * self.count > len(self._slots[0]):
            table, old, _ = self._slots
            kept = table != EMPTY
            keys = np.concatenate([table[kept], keys])
            values = np.concatenate([old[kept], values])
            slots = _slots(1 << (2 * LOAD * self.count).bit_length())
            _fill(slots, keys, values)
            self._slots = slots
        else:
            _fill(self._slots, keys, values)


def _slots(size):
    """Keys and values of a table of 2^n slots, all free, and how far to shift a product to one."""
    shift = np.uint64(65 - size.bit_length())
    return np.full(size, EMPTY), np.full(size, -1, np.int32), shift


def _fill(slots, keys, values):
    """Write keys into free slots; of those that want the same one, the first gets it."""
    table, value_of, shift = slots
    slot = ((keys * GOLDEN) >> shift).view(np.int64)
    while len(keys):
        free = np.flatnonzero(table[slot] == EMPTY)
        _, first = np.unique(slot[free], return_index=True)
        won = free[first]
        value_of[slot[won]] = values[won]  # the value before the key, see HashTable
        table[slot[won]] = keys[won]
        left = np.ones(len(keys), bool)
        left[won] = False
        keys, values = keys[left], values[left]
        slot = (slot[left] + 1) & (len(table) - 1)
