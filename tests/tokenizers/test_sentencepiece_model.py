"""SentencePiece's files and its normalizer, against the package."""

import dataclasses

import numpy as np
import pytest
import sentencepiece
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.tokenizers.sentencepiece_charsmap import Charsmap
from minillm.tokenizers.sentencepiece_model import (
    Rules,
    pack_model,
    read_model,
    unpack_model,
    write_model,
)
from minillm.tokenizers.sentencepiece_text import Normalizer
from minillm.tokenizers.unigram import UnigramTokenizer
from tests.tokenizers.unigram_models import ENGLISH, SETTINGS, model, train

ANY = st.characters(codec="utf-8")
AWKWARD = st.sampled_from(
    [
        *"  \t\n\u3000\u2581\x00\x01\u200b\xa0é¨ﷺ½①한がé",
        "e\u0301",
        "か\u3099",
        "\u1100\u1161",
        "<sep>",
    ]
)
TEXTS = st.lists(ANY | AWKWARD, max_size=20).map("".join)


@pytest.mark.parametrize("name", ["default", "suffix", "spaces", "identity", "across words"])
@given(text=TEXTS)
def test_prepared_as_sentencepiece_does(name, text):
    processor = sentencepiece.SentencePieceProcessor(model_proto=model(name))
    vocabulary = unpack_model(model(name))
    normalizer = _normalizer(name)
    assert vocabulary.rules.add_dummy_prefix == (name != "across words")
    assert normalizer.prepare(text) == processor.normalize(text)
    prepared, origin = normalizer.align(text)
    assert prepared == processor.normalize(text)
    assert len(origin) == len(prepared) + 1
    assert np.all(np.diff(origin) >= 0)
    assert origin[-1] <= len(text)


_cached: dict = {}


def _normalizer(name):
    if name not in _cached:
        vocabulary = unpack_model(model(name))
        _cached[name] = Normalizer(vocabulary.rules, suffix=vocabulary.whitespace_as_suffix)
    return _cached[name]


def test_every_third_character_of_unicode_is_prepared_as_by_sentencepiece():
    processor = sentencepiece.SentencePieceProcessor(model_proto=model("default"))
    normalizer = _normalizer("default")
    codes = [c for c in [*range(0x3400), *range(0x3400, 0x110000, 211)] if not 0xD800 <= c < 0xE000]
    texts = [f"a{chr(c)}b" for c in codes]
    assert [normalizer.prepare(text) for text in texts] == [processor.normalize(t) for t in texts]


@pytest.mark.parametrize("name", list(SETTINGS))
def test_what_is_written_is_read_again_and_by_sentencepiece(name, tmp_path):
    vocabulary = unpack_model(model(name))
    write_model(tmp_path / "m.model", vocabulary)
    again = read_model(tmp_path / "m.model")
    for field in dataclasses.fields(vocabulary):
        a, b = getattr(vocabulary, field.name), getattr(again, field.name)
        assert np.array_equal(a, b) if field.name == "scores" else a == b, field.name
    ours = sentencepiece.SentencePieceProcessor(model_file=str(tmp_path / "m.model"))
    theirs = sentencepiece.SentencePieceProcessor(model_proto=model(name))
    for text in ["A  cat, on <sep> the##mat é.", "天地玄黄x", ""]:
        assert ours.encode(text) == theirs.encode(text)
    assert ours.eos_id() == theirs.eos_id()


def test_other_models_and_damaged_files_are_refused(tmp_path):
    bpe = train(ENGLISH[:300], 300, model_type="bpe")
    with pytest.raises(UserError, match="of type BPE; only unigram models"):
        unpack_model(bpe)
    for damaged in (b"", b"no model at all", model("default")[:50_000]):
        with pytest.raises(UserError, match=r"damaged|no SentencePiece model|holds no pieces"):
            unpack_model(damaged)
    (tmp_path / "x.model").write_bytes(b"\xff\xff")
    with pytest.raises(UserError, match=r"x\.model: "):
        read_model(tmp_path / "x.model")
    with pytest.raises(UserError, match="cannot read"):
        read_model(tmp_path / "none.model")


def test_a_damaged_table_of_replacements_is_refused():
    table = unpack_model(model("default")).rules.charsmap
    for damaged in (b"\0", table[:3], table[:5000], table[:-1] + b"x", b"\xff" * 5000 + b"\0"):
        with pytest.raises(UserError, match="table of replacements"):
            Charsmap(damaged)


def test_text_that_goes_on_after_a_cut_has_no_space_added():
    normalizer = Normalizer(Rules())
    assert normalizer.prepare("  a  b ") == "▁a▁b"
    assert normalizer.prepare("  a  b ", first=False) == "▁a▁b"
    assert normalizer.prepare("a", first=False) == "a"
    assert normalizer.prepare("   ", first=False) == ""


def test_packing_is_deterministic():
    vocabulary = unpack_model(model("bytes"))
    assert pack_model(vocabulary) == pack_model(vocabulary)


@pytest.mark.parametrize("text", [b"\x05<unk>", b"\x04</s>", b"\x05 \xe2\x81\x87 "])
def test_texts_that_are_not_utf8_are_refused(text, tmp_path):
    data = bytearray(pack_model(unpack_model(model("default"))))
    data[data.rindex(text) + 2] = 0xFF
    (tmp_path / "x.model").write_bytes(data)
    with pytest.raises(UserError, match=r"x\.model: .*(UTF-8|damaged)"):
        UnigramTokenizer.load_model(tmp_path / "x.model")
