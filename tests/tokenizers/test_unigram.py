"""The unigram tokenizer against SentencePiece: ids, texts, offsets."""

import json
import pickle
import sys

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.tokenizers.sentencepiece_model import NORMAL, pack_model, unpack_model
from minillm.tokenizers.unigram import UnigramTokenizer
from tests.tokenizers.threads import wrong_in_threads
from tests.tokenizers.unigram_models import ENGLISH, SETTINGS, chinese, model

ANY = st.characters(codec="utf-8")
PARTS = st.sampled_from(
    [" ", "  ", "\n", "\u2581", "▁the", "the", "The", "é", "e\u0301", "ﬁ", "\u3000", "天", "月盈",
     "\x00", "\u200b", "<sep>", "##", "foo bar", "<s>", "</s>", "<unk>", "<0x41>", "\ufffd", "123",
     "====", "----", "¨", "\xa0", "\U0001f600", "か\u3099"]
)  # fmt: skip
TEXTS = st.lists(ANY | PARTS, max_size=20).map("".join)
_pairs: dict = {}


def both(name):
    if name not in _pairs:
        tokenizer = UnigramTokenizer(unpack_model(model(name)))
        _pairs[name] = tokenizer, sentencepiece.SentencePieceProcessor(model_proto=model(name))
    return _pairs[name]


@pytest.mark.parametrize("name", list(SETTINGS))
@given(text=TEXTS)
def test_ids_texts_and_offsets_are_sentencepieces(name, text):
    ours, theirs = both(name)
    ids = ours.encode(text)
    assert ids.dtype == np.int32
    assert ids.tolist() == theirs.encode(text)
    assert ours.decode(ids) == theirs.decode(ids.tolist())
    again, spans = ours.encode_with_offsets(text)
    assert np.array_equal(again, ids)
    if name != "bytes":  # where a part of a character has all of it here
        proto = theirs.encode(text, out_type="proto")
        data = text.encode()
        lengths = np.array([len(data[:n].decode(errors="ignore")) for n in range(len(data) + 1)])
        expected = [[lengths[p.begin], lengths[p.end]] for p in proto.pieces]
        assert spans.tolist() == expected


@pytest.mark.parametrize("name", list(SETTINGS))
def test_a_long_text_is_cut_as_by_sentencepiece(name):
    ours, theirs = both(name)
    text = "\n".join(ENGLISH[:3500]) + "=" * 3000 + "".join(chinese()) + ("ab" * 50 + " ") * 20
    ids = theirs.encode(text)
    assert ours.encode(text).tolist() == ids
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("name", list(SETTINGS))
@given(data=st.data())
def test_any_ids_decode_as_by_sentencepiece(name, data):
    ours, theirs = both(name)
    ids = data.draw(st.lists(st.integers(0, len(theirs) - 1), max_size=12))
    assert ours.decode(ids) == theirs.decode(ids)


@pytest.mark.parametrize("name", list(SETTINGS))
@given(chunks=st.lists(TEXTS, max_size=5))
def test_a_stream_gives_the_ids_of_the_whole(name, chunks):
    ours, _ = both(name)
    whole = ours.encode("".join(chunks), special="all")
    found = [i for ids in ours.encode_stream(chunks, special="all") for i in ids.tolist()]
    assert found == whole.tolist()


def test_a_stream_is_not_held_back():
    ours, _ = both("default")
    chunks = [line + "\n" for line in ENGLISH[:50]]
    assert sum(1 for _ in ours.encode_stream(chunks)) > 40


@given(text=TEXTS)
def test_lossless_where_it_says_so(text):
    ours = both("identity")[0]
    assert ours.lossless
    assert not both("default")[0].lossless
    ids = ours.encode(text)
    assert ours.unknown_bytes(text) == sum(
        len(c.encode()) for c in text if c == "\u2581" or not _known(ours, c)
    )
    if ours.unknown_id not in ids:
        assert ours.decode(ids) == text.replace("\u2581", " ")


def _known(tokenizer, c):
    return c.replace(" ", "\u2581") in tokenizer.vocabulary.pieces


def test_special_tokens_and_names():
    ours, theirs = both("bytes")
    assert ours.special_tokens == {"<s>": 1, "</s>": 2, "<ctl>": 3}
    assert ours.end_id == theirs.eos_id()
    ids = ours.encode("a</s>b", special=["</s>"])
    assert ids.tolist() == [*theirs.encode("a"), 2, *theirs.encode("b")]
    assert ours.decode(ids, special=True) == "a</s>b"
    assert 2 not in ours.encode("a</s>b")
    assert [ours.token_name(i) for i in range(ours.vocab_size)] == [
        theirs.id_to_piece(i) for i in range(len(theirs))
    ]
    without = both("no end")[0]
    assert without.end_id == without.vocab_size - 1 == len(both("no end")[1])
    assert without.token_name(without.end_id) == "</s>"
    assert without.decode([without.end_id]) == ""


def test_a_byte_of_a_character_stands_for_all_of_it():
    ours, _ = both("bytes")
    ids, spans = ours.encode_with_offsets("a\U0001f600")
    assert [ours.token_name(i) for i in ids[-4:]] == ["<0xF0>", "<0x9F>", "<0x98>", "<0x80>"]
    assert spans[-4:].tolist() == [[1, 2]] * 4
    assert ours.unknown_bytes("a\U0001f600") == 0


def test_saved_and_loaded(tmp_path):
    for name in ("default", "bytes"):
        ours, theirs = both(name)
        text = "The cat  sat on é天地 <sep> mats."
        loaded = UnigramTokenizer.from_dict(json.loads(json.dumps(ours.to_dict())))
        ours.save(tmp_path / "t.json")
        ours.save_model(tmp_path / "t.model")
        for again in (
            loaded,
            UnigramTokenizer.load(tmp_path / "t.json"),
            UnigramTokenizer.load_model(tmp_path / "t.model"),
        ):
            assert again.encode(text).tolist() == theirs.encode(text)
            assert again.end_id == ours.end_id


def test_sampling_and_nbest():
    ours, theirs = both("default")
    rng = np.random.default_rng(0)
    text = "The interpreter raises an exception."
    best = ours.encode(text).tolist()
    assert ours.sample(text, rng=rng, alpha=1000.0).tolist() == best
    assert ours.sample(text, rng=rng, nbest_size=1).tolist() == best
    drawn = {tuple(ours.sample(text, rng=rng, alpha=0.2).tolist()) for _ in range(20)}
    assert len(drawn) > 10
    found = ours.nbest(text, 8)
    assert {ours.decode(ids) for ids in drawn} == {text} == {ours.decode(ids) for ids, _ in found}
    assert {tuple(ours.sample(text, rng=rng, alpha=0.1, nbest_size=3)) for _ in range(50)} == {
        tuple(ids.tolist()) for ids, _ in found[:3]
    }
    assert sorted(ids.tolist() for ids, _ in found) == sorted(
        theirs.nbest_encode(text, nbest_size=8)
    )
    assert ours.sample("", rng=rng).tolist() == []
    with pytest.raises(ValueError, match="alpha must be"):
        ours.sample(text, rng=rng, alpha=-1.0)
    with pytest.raises(ValueError, match="n must be at least 1"):
        ours.nbest(text, 0)


def test_a_lone_surrogate_is_refused():
    for ours in (both("default")[0], both("identity")[0]):
        for work in (ours.encode, ours.encode_with_offsets, ours.unknown_bytes):
            with pytest.raises(UserError, match=r"lone surrogate, U\+D83D, at character 2"):
                work("ab\ud83d")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pieces": None}, "damaged"),
        ({"scores": [0.0]}, "differ in number"),
        ({"rules": {"charsmap": "!!"}}, "damaged"),
        ({"rules": {"charsmap": "", "colour": 1}}, "damaged"),
        ({"byte_fallback": True}, "all 256 bytes"),
        ({"byte_fallback": "x"}, "byte_fallback must be true or false"),
        ({"eos": {}}, "eos must be a text"),
        ({"eos": ""}, "eos must be a name"),
        ({"eos": "\ud800"}, "eos holds a lone surrogate"),
        ({"unknown_surface": 1.5}, "unknown_surface must be a text"),
        ({"rules": {"charsmap": "", "name": 1}}, "name must be a text"),
        ({"rules": {"charsmap": "", "add_dummy_prefix": 1}}, "add_dummy_prefix must be true"),
    ],
)
def test_a_broken_description_is_refused(change, message):
    saved = {**both("identity")[0].to_dict(), **change}
    with pytest.raises(UserError, match=message):
        UnigramTokenizer.from_dict(saved)
    with pytest.raises(UserError, match="must have 'pieces'"):
        UnigramTokenizer.from_dict({"kind": "unigram"})


def test_a_vocabulary_that_is_none_is_refused():
    for name, value, message in [
        ("pieces", lambda v: [v[3], *v[1:]], "each there once"),
        ("types", lambda v: [NORMAL] * len(v), "one piece of the type unknown"),
        ("pieces", lambda v: [*v[:-1], "\ud800"], "lone surrogate"),
        ("types", lambda v: [*v[:-1], True], "of type True"),
        ("scores", lambda v: [float("nan"), *v[1:]], "finite"),
    ]:
        saved = both("identity")[0].to_dict()
        saved[name] = value(saved[name])
        with pytest.raises(UserError, match=message):
            UnigramTokenizer.from_dict(saved)


def test_ours_trained_is_cut_alike_by_sentencepiece():
    lines = [*ENGLISH[:800], *chinese(100)]
    for settings in (
        {},
        {"byte_fallback": True, "special_tokens": ["<x>"], "user_symbols": ["print", "天天"]},
        {"whitespace_pieces": True, "character_coverage": 0.99},
    ):
        ours = UnigramTokenizer.train(lines, vocab_size=700, **settings)
        theirs = sentencepiece.SentencePieceProcessor(model_proto=pack_model(ours.vocabulary))
        for text in ["\n".join(lines), "  print x天天天地 \U0001f600é\t<x>", " a"]:
            assert ours.encode(text).tolist() == theirs.encode(text)
            assert ours.decode(ours.encode(text)) == theirs.decode(theirs.encode(text))


TABLE = {"_block", "look_up", "__add__"}  # where what was solved is kept and used


def test_an_interrupt_leaves_nothing_half_done():
    ours, _ = both("default")
    texts = ["\n".join(ENGLISH[a : a + 15]) for a in (0, 10, 20)]
    expected = [ours.encode(text).tolist() for text in texts]
    left = 0

    def trace(frame, event, _):
        nonlocal left
        if event == "call":
            return trace if frame.f_code.co_name in TABLE else None
        left -= event == "line"
        if left == 0 and event == "line":
            raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    fresh = UnigramTokenizer(ours.vocabulary)._encoder
    tokenizer = UnigramTokenizer(ours.vocabulary)
    for step in range(1, 1000):
        tokenizer._encoder._solved = type(fresh._solved)(tokenizer._encoder._solve_alone)
        assert tokenizer.encode(texts[0]).tolist() == expected[0]
        left = step
        try:
            sys.settrace(trace)
            tokenizer.encode(texts[1])
        except KeyboardInterrupt:
            pass
        else:
            break  # there are fewer steps
        finally:
            sys.settrace(before)
        assert [tokenizer.encode(text).tolist() for text in texts] == expected
    assert 20 < step < 999


def test_threads_share_a_tokenizer():
    ours, _ = both("default")
    rng = np.random.default_rng(2)
    words = ["".join(rng.choice(list("abcdefgh"), rng.integers(1, 9))) for _ in range(3000)]
    texts = [" ".join(words[i] for i in rng.integers(0, 3000, 200)) for _ in range(24)]
    expected = [ours.encode(text).tolist() for text in texts]
    tokenizer = UnigramTokenizer(ours.vocabulary)
    assert wrong_in_threads(tokenizer, texts, expected, rng) == []


def test_bytes_on_both_sides_of_a_special_token_are_no_character():
    ours, theirs = both("bytes")
    first = ours.encode("\U0001f600")[-4:].tolist()
    for ids in (first, [*first[:2], 2, *first[2:]], [1, *first[:3], 3, first[3]]):
        assert ours.decode(ids) == theirs.decode(ids)
    without = both("no end")[0]
    assert without.decode([without.end_id, *without.encode("a b"), without.end_id]) == "a b"


def test_pickled_without_what_it_remembers():
    ours, _ = both("identity")
    text = "\n".join(ENGLISH[:200])
    ids = ours.encode(text)
    saved = pickle.dumps(ours)
    assert len(saved) < 100_000
    assert np.array_equal(pickle.loads(saved).encode(text), ids)
