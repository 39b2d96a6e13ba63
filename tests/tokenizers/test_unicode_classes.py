"""The classes of all code points are those of the two engines that published tokenizers run on."""

import itertools

import numpy as np
import pytest
import tiktoken
from tokenizers import Regex, pre_tokenizers

from minillm.tokenizers.unicode_classes import LETTER, NUMBER, RANGES, SPACE, code_point_classes

ALL = np.r_[0:0xD800, 0xE000:0x110000].astype("<u4")  # no surrogates
TEXT = ALL.tobytes().decode("utf-32-le")
CLASSES = [(LETTER, r"\p{L}"), (NUMBER, r"\p{N}"), (SPACE, r"\s")]


def ours(kind):
    codes = ALL[code_point_classes()[ALL] == kind]
    return codes.tobytes().decode("utf-32-le")


@pytest.mark.parametrize(("kind", "escape"), CLASSES)
def test_classes_are_tiktokens(kind, escape):
    # A pattern that matches but one class keeps the bytes of that class alone.
    ranks = {bytes([byte]): byte for byte in range(256)}
    encoding = tiktoken.Encoding(
        "class", pat_str=escape + "+", mergeable_ranks=ranks, special_tokens={}
    )
    assert bytes(encoding.encode_ordinary(TEXT)).decode() == ours(kind)


def test_classes_are_hugging_faces():
    # A pattern of all three classes cuts where one class ends.
    kinds = code_point_classes()[ALL]
    cuts = [0, *(np.flatnonzero(np.diff(kinds)) + 1).tolist(), len(ALL)]
    runs = Regex("|".join(escape + "+" for _, escape in CLASSES))
    found = pre_tokenizers.Split(runs, "isolated").pre_tokenize_str(TEXT)
    assert [piece for piece, _ in found] == [TEXT[a:b] for a, b in itertools.pairwise(cuts)]


def test_ranges_are_in_order_and_apart():
    for ranges in RANGES.values():
        for first, last in ranges:
            assert 0 <= first <= last < 0x110000
        for (_, last), (first, _) in itertools.pairwise(ranges):
            assert first > last + 1
    both = sum(last - first + 1 for ranges in RANGES.values() for first, last in ranges)
    assert both == np.count_nonzero(code_point_classes())  # no code point in two classes


def test_table_cannot_be_written_to():
    with pytest.raises(ValueError, match="read-only"):
        code_point_classes()[0] = 1
