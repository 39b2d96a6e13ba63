"""The table of replacements in a SentencePiece model, its `precompiled_charsmap`.

It is a double-array trie over UTF-8 (Aoe 1989, in the units of darts-clone) whose values point into
a block of strings, each ended by a zero byte. A unit of the trie has in its low 8 bits the byte
that leads to it (and bit 31 where it holds a value instead), in bit 8 whether a rule ends there, in
bit 9 whether its offset counts in 256s, and from bit 10 on the offset: a node's child by a byte is
at `node ^ offset ^ byte`, the value of the rule that ends there at `node ^ offset`.
"""

import numpy as np

from minillm.errors import UserError

__all__ = ["Charsmap"]


class Charsmap:
    """The rules: what is replaced, one character or several, and what stands for it.

    Attributes
    ----------
    single : dict, code point -> str, the rules of one character, as `str.translate` takes them
    first : set of the characters with which a rule of several begins
    later : set of the characters that such a rule has after its first
    spaces : bool, whether some rule gives two spaces side by side

    Raises
    ------
    UserError
        for bytes that are no such table.
    """

    def __init__(self, blob=b""):
        self.single, self.first, self.later, self.spaces = {}, set(), set(), False
        self._label = np.zeros(0, np.int64)
        if not blob:
            return
        size = int.from_bytes(blob[:4], "little")
        if size < 1024 or size % 1024 or size > len(blob) - 5 or blob[-1]:
            raise UserError("the model's table of replacements (precompiled_charsmap) is damaged")
        units = np.frombuffer(blob, "<u4", size // 4, 4).astype(np.int64)
        self._block = blob[4 + size :]
        self.spaces = b"  " in self._block
        self._label, self._value = units & 0x800000FF, units & 0x7FFFFFFF
        self._ends = (units >> 8 & 1).astype(bool)
        self._base = ((units >> 10) << ((units & 0x200) >> 6)) ^ np.arange(len(units))
        try:
            self._read()
        except (IndexError, ValueError):
            raise UserError("the model's table of replacements is damaged") from None

    def longest(self, text, place):
        """What the longest rule at a place gives, and how many characters it takes; None, 0."""
        new, length, node, stop = None, 0, 0, place
        while stop < len(text) and len(self._label):
            for byte in text[stop].encode():
                node = int(self._base[node]) ^ byte
                if node >= len(self._label) or self._label[node] != byte:
                    return new, length
            stop += 1
            if (found := self._new(node)) is not None:
                new, length = found, stop - place
            if text[stop : stop + 1] not in self.later:
                break
        return new, length

    def _new(self, node):
        """What stands for the text that leads to a node, None without a rule."""
        if not self._ends[node]:
            return None
        start = int(self._value[self._base[node]])
        if start >= len(self._block):
            return None
        return self._block[start : self._block.index(b"\0", start)].decode()

    def _read(self):
        """Find the rules of one character, and which characters stand where in the others.

        Different texts lead to one node where all that can follow is the same: the rules are many
        times more than the nodes, each of which is looked at once.
        """
        _, codes, nodes = self._children(np.zeros(1, np.int64))
        for code, node in zip(codes.tolist(), nodes.tolist(), strict=True):
            if (new := self._new(node)) is not None:
                self.single[code] = new
        seen = np.zeros(len(self._label), bool)
        fresh = np.unique(nodes)
        while len(fresh):
            seen[fresh] = True
            parent, after, child = self._children(fresh)
            if not self.first:
                self.first = set(map(chr, codes[np.isin(nodes, parent)].tolist()))
            self.later |= set(map(chr, after.tolist()))
            fresh = np.unique(child[~seen[child]])

    def _children(self, nodes):
        """The nodes one character below: for each its parent, the code point, itself."""
        parent, code, left = nodes, np.zeros_like(nodes), np.zeros_like(nodes)
        parent, byte, nodes = self._step(parent, nodes, 1, 0xF8)
        more = (byte >= 0xC0).astype(np.int64) + (byte >= 0xE0) + (byte >= 0xF0)
        code, left = byte & (0xFF >> (more + (more > 0))), more
        done = []
        while True:
            done += [np.stack([parent, code, nodes])[:, left == 0]]
            parent, code, nodes, left = (x[left > 0] for x in (parent, code, nodes, left))
            if len(nodes) == 0:
                return np.concatenate(done, axis=1)
            row, byte, nodes = self._step(np.arange(len(nodes)), nodes, 0x80, 0xC0)
            parent, code, left = parent[row], code[row] << 6 | byte & 0x3F, left[row] - 1

    def _step(self, names, nodes, low, high):
        """The children by a byte in [low, high): the parent's name, the byte, the child."""
        bytes_ = np.arange(low, high)
        child = self._base[nodes, None] ^ bytes_  # (nodes, bytes)
        child[child >= len(self._label)] = 0
        row, column = np.nonzero(self._label[child] == bytes_)
        return names[row], bytes_[column], child[row, column]
