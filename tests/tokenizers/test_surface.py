"""What holds for every kind of tokenizer."""

import functools
import json
import re
import tracemalloc

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.files import read_chunks
from minillm.tokenizers import KINDS, load_tokenizer
from minillm.tokenizers.surface import Surface, regroup
from minillm.tokenizers.word import WordTokenizer
from minillm.tokenizers.wordpiece import WordPieceTokenizer

TEXT = (
    """A cat sat on the mat; it's purring.  Two cats -- 3 more!\r\n\tIndented = "text"
Die Katze saß da. Кошка спит. 一只白鹭站在水里,一动不动。 naïve café \N{CAT FACE}
"""
    + "the cat and the mat and the cat " * 3
)
CLASSES = KINDS | {"word": WordTokenizer, "wordpiece": WordPieceTokenizer}
SETTINGS = {
    "bpe": {"vocab_size": 300},
    "wordpiece": {"vocab_size": 200, "min_frequency": 1},
    "unigram": {"vocab_size": 120},
}
CASES = {kind: (kind, SETTINGS.get(kind, {})) for kind in CLASSES} | {
    "whitespace": ("word", {"split": "whitespace"})
}
SPECIAL = ("<|endoftext|>", "[SEP]", "</s>")
ANY_TEXT = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=6),
        st.text("a \n\t't.猫1\u0301", max_size=6),
        st.text("5〇〡Ⅷ猫a ", max_size=6),  # numbers some of which are Chinese
        st.sampled_from(SPECIAL),
        st.integers(0, len(TEXT) - 12).map(lambda place: TEXT[place : place + 12]),
    ),
    max_size=8,
).map("".join)


@functools.cache
def trained(name):
    kind, settings = CASES[name]
    return CLASSES[kind].train(TEXT, **settings)


@pytest.fixture(params=CASES)
def tokenizer(request):
    return trained(request.param)


ASKED = st.sampled_from([(), "all"])


@pytest.mark.parametrize("name", CASES)
@given(text=ANY_TEXT, special=ASKED, data=st.data())
def test_a_stream_has_the_ids_of_the_whole_however_it_is_cut(name, text, special, data):
    tokenizer = trained(name)
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    for pieces in (chunks, list(text)):
        rows = list(tokenizer.encode_stream(iter(pieces), special=special))
        found = np.concatenate([np.empty(0, np.int32), *rows])
        assert found.tolist() == tokenizer.encode(text, special=special).tolist()


@pytest.mark.parametrize("name", CASES)
@given(texts=st.lists(ANY_TEXT, max_size=4), special=ASKED)
def test_a_batch_is_its_texts_one_by_one(name, texts, special):
    tokenizer = trained(name)
    rows = tokenizer.encode_batch(texts, special=special)
    expected = [tokenizer.encode(text, special=special) for text in texts]
    assert [row.tolist() for row in rows] == [row.tolist() for row in expected]
    assert all(row.dtype == np.int32 and row.ndim == 1 for row in rows)
    assert tokenizer.decode_batch(rows) == [tokenizer.decode(row) for row in rows]


@pytest.mark.parametrize("name", CASES)
@given(text=ANY_TEXT, special=ASKED)
def test_offsets_go_through_the_text(name, text, special):
    tokenizer = trained(name)
    ids, spans = tokenizer.encode_with_offsets(text, special=special)
    assert ids.tolist() == tokenizer.encode(text, special=special).tolist()
    assert spans.shape == (len(ids), 2)
    assert spans.dtype == np.int64
    start, stop = spans.T
    assert np.all((start >= 0) & (start <= stop) & (stop <= len(text)))
    assert np.all(np.diff(start) >= 0)
    assert np.all(np.diff(stop) >= 0)
    if tokenizer.lossless:  # no character is left out
        assert np.all(start[1:] <= stop[:-1])
        assert (start.min(initial=0), stop.max(initial=0)) == (0, len(text))
    names = {i: special_name for special_name, i in tokenizer.special_tokens.items()}
    for i, (a, b) in zip(ids.tolist(), spans.tolist(), strict=True):
        if i in names:
            assert text[a:b] == names[i]


@pytest.mark.parametrize("name", CASES)
@given(text=ANY_TEXT)
def test_what_is_lossless_gives_the_text_back(name, text):
    tokenizer = trained(name)
    ids = tokenizer.encode(text)
    lost = tokenizer.unknown_bytes(text)
    assert 0 <= lost <= len(text.encode())
    assert (lost > 0) == (tokenizer.unknown_id is not None and tokenizer.unknown_id in ids)
    if tokenizer.lossless and not lost:
        assert tokenizer.decode(ids) == text
        asked = tokenizer.encode(text, special="all")
        assert tokenizer.decode(asked, special=True) == text


@pytest.mark.parametrize("name", CASES)
@given(text=ANY_TEXT)
def test_no_text_makes_special_tokens_unasked(name, text):
    tokenizer = trained(name)
    ids = tokenizer.encode("".join(tokenizer.special_tokens) + text)
    assert not np.isin(ids, list(tokenizer.special_tokens.values())).any()
    assert np.all((ids >= 0) & (ids < tokenizer.vocab_size))


def test_special_tokens_are_found_where_asked_for(tokenizer):
    end = next(n for n, i in tokenizer.special_tokens.items() if i == tokenizer.end_id)
    before, after = tokenizer.encode("cat"), tokenizer.encode(" the mat")
    text = f"cat{end} the mat{end}"
    for special in (end, [end], "all"):
        ids = tokenizer.encode(text, special=special)
        expected = [*before, tokenizer.end_id, *after, tokenizer.end_id]
        assert ids.tolist() == expected
    assert tokenizer.decode(ids).count(end) == 0
    assert tokenizer.decode(ids, special=True).count(end) == 2
    with pytest.raises(UserError, match="no special token '<none>'; there are: "):
        tokenizer.encode("cat", special=["<none>"])
    with pytest.raises(UserError, match="no special token"):
        list(tokenizer.encode_stream(["cat"], special=["<none>"]))


def test_saved_and_loaded(tokenizer, tmp_path):
    tokenizer.save(tmp_path / "t.json")
    for loaded in (
        type(tokenizer).load(tmp_path / "t.json"),
        type(tokenizer).from_dict(json.loads(json.dumps(tokenizer.to_dict()))),
    ):
        assert loaded.encode(TEXT).tolist() == tokenizer.encode(TEXT).tolist()
        assert loaded.encode("\N{CAT}?\x00").tolist() == tokenizer.encode("\N{CAT}?\x00").tolist()
        assert loaded.special_tokens == tokenizer.special_tokens
        assert loaded.to_dict() == tokenizer.to_dict()
        for name in ("vocab_size", "end_id", "unknown_id", "lossless"):
            assert getattr(loaded, name) == getattr(tokenizer, name)
    other = next(cls for cls in CLASSES.values() if not isinstance(tokenizer, cls))
    with pytest.raises(UserError, match=r"t\.json: a tokenizer of kind .*, not"):
        other.load(tmp_path / "t.json")
    if tokenizer.kind in KINDS:
        assert load_tokenizer(tokenizer.to_dict()).vocab_size == tokenizer.vocab_size


def test_a_file_that_is_no_tokenizer_is_named(tmp_path):
    (tmp_path / "t.json").write_text('{"kind": "char"}')
    with pytest.raises(UserError, match=r"t\.json: a saved char tokenizer must have"):
        KINDS["char"].load(tmp_path / "t.json")
    with pytest.raises(UserError, match=r"cannot read .*none"):
        KINDS["char"].load(tmp_path / "none.json")


def test_lone_surrogates_are_refused(tokenizer):
    for text in ("cat \ud83d", "\udc00", "cat\ud83d\ude00"):
        for function in (
            tokenizer.encode,
            tokenizer.encode_with_offsets,
            lambda text: list(tokenizer.encode_stream([text])),
            lambda text: tokenizer.encode_batch([text]),
            lambda text: tokenizer.encode(text, special="all"),
        ):
            with pytest.raises(UserError, match=r"lone surrogate, U\+D[8C]3?[0D]"):
                function(text)
    with pytest.raises(UserError, match="lone surrogate"):
        type(tokenizer).train("the cat \ud83d", **SETTINGS.get(tokenizer.kind, {}))


def test_no_text_has_no_tokens(tokenizer):
    ids, spans = tokenizer.encode_with_offsets("")
    assert (ids.shape, spans.shape) == ((0,), (0, 2))
    assert tokenizer.encode("", special="all").dtype == np.int32
    assert tokenizer.decode([]) == ""
    assert list(tokenizer.encode_stream([])) == list(tokenizer.encode_stream(["", ""])) == []
    assert tokenizer.unknown_bytes("") == 0


def test_every_token_has_a_name(tokenizer):
    names = [tokenizer.token_name(i) for i in range(tokenizer.vocab_size)]
    assert all(isinstance(name, str) and name for name in names)
    for name, i in tokenizer.special_tokens.items():
        assert names[i] == name
    for wrong in (-1, tokenizer.vocab_size):
        with pytest.raises(ValueError, match=str(wrong)):
            tokenizer.token_name(wrong)


def test_what_is_no_text_is_refused(tokenizer):
    for wrong in (b"cat", None, 3):
        with pytest.raises(ValueError, match="text must be a str, got"):
            tokenizer.encode(wrong)
    with pytest.raises(ValueError, match="list of str, got one str"):
        tokenizer.encode_batch("cat")
    with pytest.raises(ValueError, match="a text must be a str, got bytes"):
        type(tokenizer).train([b"cat"], **SETTINGS.get(tokenizer.kind, {}))


@pytest.mark.parametrize("kind", ["word", "bpe", "wordpiece"])
def test_names_of_special_tokens_are_checked(kind):
    def train(special_tokens):
        return CLASSES[kind].train(TEXT, special_tokens=special_tokens, **SETTINGS.get(kind, {}))

    for wrong in ("", ["<a>", ""], ["\ud800"], ["<a>", "<a>"], [5]):
        with pytest.raises(UserError, match="special token"):
            train(wrong)
    one = train("<a>")
    assert "<a>" in one.special_tokens
    assert not {"<", "a", ">"} & set(one.special_tokens)
    assert one.to_dict() == train(["<a>"]).to_dict()


def test_several_texts_train_as_they_come(tokenizer):
    """Cut before a space and a word, as they are, texts have the words of the whole."""
    own = tokenizer.kind == "unigram"  # it puts a space before each text itself
    parts = re.split(r"(?<=\S) (?=\S)" if own else r"(?<=\S)(?= \S)", TEXT)
    assert len(parts) > 30
    settings = dict(SETTINGS.get(tokenizer.kind, {}))
    if tokenizer.kind == "word":
        settings["split"] = tokenizer.split
    several = type(tokenizer).train(iter(parts), **settings)
    assert several.to_dict() == tokenizer.to_dict()


# Special tokens that begin one another


class Letters(Surface):
    """A token a letter, and special ones of which one begins another."""

    vocab_size = 200
    special_tokens = {"<a>": 150, "<a>b": 151, "<a>bc>": 152, "b<": 153}  # noqa: RUF012

    def _encode(self, text):
        return np.frombuffer(text.encode(), np.uint8).astype(np.int32)


@given(text=st.text("<a>bc", max_size=20), data=st.data())
def test_the_longest_special_token_is_found_across_chunks(text, data):
    tokenizer = Letters()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=8)))
    chunks = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    rows = list(tokenizer.encode_stream(chunks, special="all"))
    found = np.concatenate([np.empty(0, np.int32), *rows])
    assert found.tolist() == tokenizer.encode(text, special="all").tolist()


def test_a_special_token_is_found_whichever_chunk_it_ends_in():
    rows = list(Letters().encode_stream(["c<a", ">", "b", "c", "c"], special="all"))
    assert np.concatenate(rows).tolist() == [ord("c"), 151, ord("c"), ord("c")]


# Texts larger than memory


@given(text=st.text("a ", max_size=30), size=st.integers(1, 5))
def test_regroup_loses_nothing(text, size):
    chunks = [text[i : i + size] for i in range(0, len(text), size)]
    pieces = list(regroup(iter(chunks), lambda held: held.rfind(" ") + 1))
    assert "".join(pieces) == text
    assert all(pieces)
    assert all(piece.endswith(" ") for piece in pieces[:-1])


def peak_of(function):
    tracemalloc.start()
    try:
        function()
        return tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def test_a_stream_is_never_held_whole(tokenizer, tmp_path):
    text = TEXT * 2500
    (tmp_path / "long.txt").write_bytes(text.encode())
    tokenizer.encode(TEXT)

    def read():
        for _ in tokenizer.encode_stream(read_chunks(tmp_path / "long.txt", 1 << 13)):
            pass

    assert len(text) > 500_000
    assert peak_of(read) < 2 * len(text)  # all of it with its ids takes nine times that or more


def test_memory_does_not_grow_with_the_file(tmp_path):
    tokenizer, peaks = KINDS["byte"].train(TEXT), []
    for size in (3, 9):
        (tmp_path / "long.txt").write_bytes(b"cats and " * (size << 20 >> 3))
        peaks.append(peak_of(lambda: sum(map(len, tokenizer.encode_file(tmp_path / "long.txt")))))
    assert peaks[1] < 1.05 * peaks[0]


def test_a_file_has_the_ids_of_its_text(tokenizer, tmp_path):
    (tmp_path / "text.txt").write_bytes(b"\xef\xbb\xbf" + TEXT.encode())
    rows = list(tokenizer.encode_file(tmp_path / "text.txt"))
    assert np.concatenate(rows).tolist() == tokenizer.encode(TEXT).tolist()
    (tmp_path / "bad.txt").write_bytes(b"cat \xff")
    with pytest.raises(UserError, match=r"bad\.txt: not UTF-8: byte 4 is 0xff"):
        list(tokenizer.encode_file(tmp_path / "bad.txt"))
