"""Longest common subsequences, a row of the table at a time in the bits of one integer.

Allison & Dix 1986, "A bit-string longest-common-subsequence algorithm", in the form of Hyyrö 2004,
"Bit-parallel LCS-length computation revisited", figure 1: in row i, bit j is 0 where the longest
subsequence common to the first i tokens of the one list and the first j + 1 of the other is longer
than without the last of these. The plain table is in rouge_simple.py.
"""

__all__ = ["lcs_length", "lcs_places", "masks_of"]


def masks_of(tokens):
    """Token -> an integer with the bits of the places where it stands."""
    masks: dict = {}
    for j, token in enumerate(tokens):
        masks[token] = masks.get(token, 0) | 1 << j
    return masks


def lcs_length(tokens, masks, size):
    """The length of the longest subsequence that tokens share with a list of `size` tokens.

    masks : the other list's, by `masks_of`
    """
    full = row = (1 << size) - 1
    for token in tokens:
        if found := masks.get(token):
            both = row & found
            row = (row + both) | (row - both)
    return size - (row & full).bit_count()


def lcs_places(tokens, masks, size):
    """Which places of `tokens` a longest common subsequence takes, from the last to the first.

    Of several, the one found by going back from the table's end: diagonally at equal tokens, else
    up (to the token before) unless only the other list's token before keeps the length.
    """
    full = row = (1 << size) - 1
    places, rows = [], [row]  # tokens that the other list lacks change no row and are never taken
    for i, token in enumerate(tokens):
        if found := masks.get(token):
            both = row & found
            row = ((row + both) | (row - both)) & full
            places.append((i, found))
            rows.append(row)
    taken = []
    length, width = size - row.bit_count(), size  # of the subsequence, and of the columns left
    for (i, found), above in zip(reversed(places), reversed(rows[:-1]), strict=True):
        if length == 0:
            break
        if not found >> (width - 1) & 1:
            if width - (above & (1 << width) - 1).bit_count() == length:
                continue
            # going left, the first column that is no longer equal without this row is its match
            width = (found & (1 << width) - 1).bit_length()
        taken.append(i)
        length, width = length - 1, width - 1
    return taken
