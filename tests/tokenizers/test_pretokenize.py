"""Words are those of the published patterns, by Hugging Face's and tiktoken's engines."""

import itertools
from pydoc_data.topics import topics

import numpy as np
import pytest
import tiktoken
from hypothesis import given, settings
from hypothesis import strategies as st
from tokenizers import Regex, pre_tokenizers

from minillm.errors import UserError
from minillm.tokenizers import pretokenize
from minillm.tokenizers.pretokenize import (
    PATTERNS,
    cut_places,
    safe_cut,
    split_simple,
    word_starts,
)
from minillm.tokenizers.unicode_classes import (
    LETTER,
    NUMBER,
    OTHER,
    RANGES,
    SPACE,
    code_point_classes,
)

REAL = "\n".join(topics[name] for name in sorted(topics))[:300_000]
WRITTEN = """It's 2024: "we'll", they said, YOU'RE 12345 steps ahead!!!\x20\x20\x20
\tdef f(x):\r\n\r\n        return x **2   # 3.14159…\n  \n \n
今天天气很好，我们去公园吧！一共１２３４５个人。\u3000\u3000他说：「好」\n
Größe naïve Ελλάδα Привет мир! हिन्दी में ٣٤٥٦ العربية 한국어 ᏣᎳᎩ
👩\u200d👩\u200d👧 🇫🇷🇩🇪 ☃\ufe0f x'ſ X'S 'Sx ''s '\u0085 \u2028 \u2029\n\u00a0a \x00\x1b[0m \x1c\x1d
"""
# What the rules tell apart: each class and what is special in it, in ASCII and beyond.
SPECIAL = [
    *" \n\r\t'\"(sSlLvVeErRdDmMtTaA019",
    *("é", "ſ", "K", "中", "ℓ", "٣", "Ⅷ", "½", "\u3000", "\u2028", "\u0085", "\u00a0", "\u180e"),
    *("\ufeff", "\u200b", "\u200d", "\u0301", "😀", "\x00", "\x1c", "\x7f", "\U0010ffff", "ﬆ", "ŉ"),
]
texts = st.one_of(
    st.text(st.sampled_from(SPECIAL), max_size=30),
    st.text(st.characters(exclude_categories=["Cs"]), max_size=30),
    st.text(st.sampled_from(" \n\t'sa1!中\u3000"), max_size=12),
)
names = st.sampled_from(list(PATTERNS))


def by_hugging_face(text, pattern):
    # Its engine reads {1,3}+ as another repetition; nothing is given back of the digits anyway.
    written = PATTERNS[pattern].replace("{1,3}+", "{1,3}")
    split = pre_tokenizers.Split(Regex(written), "isolated")
    return [word for word, _ in split.pre_tokenize_str(text)]


def by_tiktoken(text, pattern):
    """The words, since every string of bytes in the text is a token."""
    data = text.encode()
    parts = {data[a:b] for a in range(len(data)) for b in range(a + 1, len(data) + 1)}
    parts |= {bytes([byte]) for byte in range(256)}
    ranks = {part: rank for rank, part in enumerate(sorted(parts, key=lambda p: (len(p), p)))}
    encoding = tiktoken.Encoding(
        "parts", pat_str=PATTERNS[pattern], mergeable_ranks=ranks, special_tokens={}
    )
    return [
        token.decode() for token in encoding.decode_tokens_bytes(encoding.encode_ordinary(text))
    ]


def by_rules(text, pattern):
    data = text.encode()
    bounds = [*word_starts(data, pattern).tolist(), len(data)]
    return [data[a:b].decode() for a, b in itertools.pairwise(bounds)]


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("text", [WRITTEN, REAL[:100_000]])
def test_words_are_hugging_faces(text, pattern):
    expected = by_hugging_face(text, pattern)
    assert split_simple(text, pattern) == expected
    assert by_rules(text, pattern) == expected


def test_words_are_those_of_byte_level():
    found = pre_tokenizers.ByteLevel(add_prefix_space=False).pre_tokenize_str(WRITTEN)
    assert split_simple(WRITTEN, "gpt2") == [WRITTEN[a:b] for _, (a, b) in found]


@given(texts, names)
@settings(max_examples=200)
def test_any_text(text, pattern):
    expected = by_hugging_face(text, pattern)
    assert split_simple(text, pattern) == expected
    assert by_rules(text, pattern) == expected


@given(texts, names)
@settings(max_examples=60)
def test_any_text_by_tiktoken(text, pattern):
    assert by_rules(text, pattern) == by_tiktoken(text, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_all_short_texts(pattern):
    """Every string of up to four characters that the rules tell apart."""
    kinds = " \n\t'sa1!"
    for size in range(5):
        for characters in itertools.product(kinds, repeat=size):
            text = "".join(characters)
            assert by_rules(text, pattern) == split_simple(text, pattern), repr(text)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("frame", ["a{}b ", "{}", "1{}2\n", " {}'{}s!", "'{}a\t{}{}\r\n"])
def test_code_points_on_every_border_of_a_class(frame, pattern):
    edges = {code + d for rs in RANGES.values() for r in rs for code in r for d in (-1, 0, 1)}
    edges = sorted(code for code in edges if not 0xD800 <= code < 0xE000 and code >= 0)
    text = "".join(frame.replace("{}", chr(code)) for code in edges)
    assert by_rules(text, pattern) == by_hugging_face(text, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
@pytest.mark.parametrize("frame", ["{}{}s", "x'{}{}a", " {}1{}", "\n{}{}\n b"])
def test_every_two_ascii_characters(frame, pattern):
    text = "".join(
        frame.replace("{}", chr(a), 1).replace("{}", chr(b)) for a in range(128) for b in range(128)
    )
    assert by_rules(text, pattern) == by_hugging_face(text, pattern)


@pytest.mark.parametrize("pattern", PATTERNS)
def test_every_code_point_is_cut_as_one_of_its_class(pattern):
    codes = np.r_[0x80:0xD800, 0xE000:0x110000].astype("<u4")
    kinds = code_point_classes()[codes]
    alike = np.zeros(4, "<u4")
    alike[[OTHER, LETTER, NUMBER, SPACE]] = [ord(c) for c in "!x0\t"]
    found = []
    for characters in (codes, alike[kinds]):
        row = np.full((len(codes), 3), ord("x"), "<u4")
        row[:, 1] = row[:, 2] = characters
        data = row.tobytes().decode("utf-32-le").encode()
        place = np.cumsum(np.frombuffer(data, np.uint8) & 0xC0 != 0x80) - 1  # byte -> character
        found.append(place[word_starts(data, pattern)])
    np.testing.assert_array_equal(*found)


@given(st.lists(texts, max_size=5), names, st.sampled_from([1, 2, 5, 17]))
@settings(max_examples=150)
def test_blocks_and_borders_change_nothing(documents, pattern, block):
    data = b"\xff".join(text.encode() for text in documents)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(pretokenize, "BLOCK", block)
        starts = word_starts(np.frombuffer(data, np.uint8), pattern)
    words = [data[a:b] for a, b in itertools.pairwise([*starts.tolist(), len(data)])]
    expected = []
    for text in documents:
        expected += [b"\xff", *(word.encode() for word in split_simple(text, pattern))]
    assert words == expected[1:]


@given(texts, texts, names)
@settings(max_examples=200)
def test_cut_is_safe_whatever_follows(text, more, pattern):
    size = safe_cut(text, pattern)
    assert 0 <= size <= len(text)
    whole = split_simple(text + more, pattern)
    assert split_simple(text[:size], pattern) + split_simple((text + more)[size:], pattern) == whole


@pytest.mark.parametrize("pattern", PATTERNS)
def test_cuts_are_found(pattern):
    assert safe_cut("", pattern) == 0
    assert safe_cut("one two three", pattern) == 7
    assert 0 < safe_cut("今天天气很好，我们去公园吧！" * 3, pattern) < 42  # no space at all
    assert safe_cut("a" * 300, pattern) == 0


@given(st.lists(texts).map("".join), names, st.integers(1, 40))
@settings(max_examples=100)
def test_places_to_cut_bytes(text, pattern, size):
    data = text.encode()
    places = cut_places(np.frombuffer(data, np.uint8), size)
    pieces = [data[a:b].decode() for a, b in itertools.pairwise(places)]
    assert "".join(pieces) == text
    words = [word for piece in pieces for word in split_simple(piece, pattern)]
    assert words == split_simple(text, pattern)


def test_places_to_cut_are_found():
    data = np.frombuffer(REAL.encode(), np.uint8)
    assert np.all(np.diff(cut_places(data, 1000)) < 2000)


def test_bad_input():
    with pytest.raises(ValueError, match=r"pattern must be one of gpt2, .*, got 'o200k'"):
        word_starts(b"a", "o200k")
    with pytest.raises(ValueError, match="pattern must be one of"):
        split_simple("a", None)
    with pytest.raises(ValueError, match="valid UTF-8"):
        word_starts(b"ab\xe4\xb8 c", "gpt2")
    with pytest.raises(ValueError, match=r"uint8 \(N,\), got int64 \(2,\)"):
        word_starts(np.array([1, 2]), "gpt2")
    with pytest.raises(UserError, match=r"U\+D800"):
        safe_cut("\ud800", "gpt2")
