"""WordPiece against Hugging Face's `tokenizers` and `transformers`, and against itself."""

import itertools
import json
import random
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import BertWordPieceTokenizer, Tokenizer
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from minillm.errors import UserError
from minillm.tokenizers import bert_unicode
from minillm.tokenizers.bert_text import BertText
from minillm.tokenizers.wordpiece import SPECIAL, WordPieceTokenizer
from minillm.tokenizers.wordpiece_train import LONGEST_WORD, _alphabet, count_words, train_simple

TEXT = (
    """The tokenizer's words, lower-cased: naïve cafés, Ünïcode; "don't" -- 3.14 and x_1 = y[0]!
Das Mädchen aß Äpfel. Le garçon a mangé. Кошка спит на ковре. Η γάτα κοιμάται, ΟΔΟΣ σς.
猫在垫子上睡觉。 東京は夜の七時。 고양이가 잔다. बिल्ली सो रही है। İstanbul'da bir kedi. ﬁn ｆｕｌｌ ①
e\u0301 """
    + "tokens of words that come again and again are joined to pieces " * 3
)
SETTINGS = [
    {},
    {"lowercase": False},
    {"strip_accents": False},
    {"lowercase": False, "strip_accents": True},
    {"clean": False},
    {"chinese": False},
]
MARKS = [chr(code) for code in bert_unicode.COMBINING]
KEPT_MARKS = [c for c in MARKS if ord(c) not in bert_unicode.NONSPACING]
DECOMPOSED = [chr(code) for code in bert_unicode.DECOMPOSED if not 0xAC00 <= code <= 0xD7A3]
ALL = [chr(code) for code in range(sys.maxunicode + 1) if not 0xD800 <= code < 0xE000]
ANY_TEXT = st.lists(
    st.one_of(
        st.text(st.characters(codec="utf-8"), max_size=8),
        st.text(st.sampled_from(MARKS), max_size=3),
        st.text(st.sampled_from(KEPT_MARKS), max_size=3),
        st.text(st.sampled_from(DECOMPOSED), max_size=3),
        st.sampled_from(
            [" ", "\n", "\x0b", "\x85", "\u2028", "\x00", "\ufffd", "[SEP]", "a" * 101]
        ),
        st.integers(0, len(TEXT) - 9).map(lambda place: TEXT[place : place + 9]),
    )
).map("".join)


def peer_normalizer(rules):
    return BertNormalizer(rules.clean, rules.chinese, rules.strip_accents, rules.lowercase)


def peer_words(text, rules):
    normal = peer_normalizer(rules).normalize_str(text)
    return [word for word, _ in BertPreTokenizer().pre_tokenize_str(normal)]


@pytest.fixture(scope="module")
def pairs(tmp_path_factory):
    """Ours and the peer that reads our tokenizer.json, for each of SETTINGS."""
    made = []
    for settings in SETTINGS:
        path = tmp_path_factory.mktemp("wordpiece") / "tokenizer.json"
        texts = [TEXT, " ".join("e" + mark + "e" for mark in MARKS)]
        ours = WordPieceTokenizer.train(texts, vocab_size=1500, min_frequency=1, **settings)
        ours.save_tokenizer_json(path)
        made.append((ours, Tokenizer.from_file(str(path))))
    return made


@pytest.fixture(scope="module")
def ours(pairs):
    return pairs[0][0]


@pytest.mark.parametrize("rules", [BertText(), BertText(False, None, False, False)])
def test_every_character_becomes_what_the_peer_makes_of_it(rules):
    """Also the recipe of the tables in bert_unicode.py: ask the peer about every code point."""
    text = "x".join([*ALL[:0x1F800], *ALL[0x1F800::53], *ALL[0xE0000 - 2048 : 0xE0200 - 2048]])
    expected = peer_normalizer(rules).normalize_str(text)
    words = [word for word, _ in BertPreTokenizer().pre_tokenize_str(expected)]
    assert rules.words(text) == words


@given(text=ANY_TEXT, settings=st.sampled_from(SETTINGS))
def test_words_are_the_peers_whatever_the_order_of_accents(text, settings):
    rules = BertText(**settings)
    chunks = rules.chunk.findall(text)
    assert rules.words(text) == peer_words(text, rules)
    assert rules.words(text) == [w for c in chunks for w, _ in rules.aligned_words_of(c)]


def test_accents_that_stay_change_places():
    """U+1D165 (class 216) and U+302E (class 224) are no accents that BERT drops."""
    rules = BertText()
    assert rules.words("a\u302e\U0001d165") == ["a\U0001d165\u302e"]
    assert rules.words("a\u302e\u093e\U0001d165") == ["a\u302e\u093e\U0001d165"]
    assert rules.words("E\u0301\u0323") == ["e"]
    assert BertText(strip_accents=False).words("a\u302e\U0001d165") == ["a\u302e\U0001d165"]


@given(data=st.data())
def test_ids_offsets_and_decoding_are_the_peers(pairs, data):
    text = data.draw(ANY_TEXT)
    ours, peer = data.draw(st.sampled_from(pairs))
    text = text.replace("[UNK]", "")
    expected = peer.encode(text, add_special_tokens=False)
    ids, spans = ours.encode_with_offsets(text, special="all")
    assert ids.dtype == np.int32
    assert ids.tolist() == expected.ids
    assert [tuple(span) for span in spans.tolist()] == expected.offsets
    assert ours.encode(text, special="all").tolist() == expected.ids
    assert ours.decode(ours.encode(text)) == peer.decode(
        ours.encode(text).tolist(), skip_special_tokens=False
    )


def test_many_random_texts_have_the_peers_ids(pairs):
    rng = random.Random(0)
    kinds = [MARKS, KEPT_MARKS, DECOMPOSED, "the  to\t\n", "e.'n!?", ALL, ALL[:400], TEXT]
    for ours, peer in pairs:
        texts = [
            "".join(rng.choice(rng.choice(kinds)) for _ in range(rng.randint(0, 30)))
            for _ in range(300)
        ]
        expected = peer.encode_batch(texts, add_special_tokens=False)
        for text, theirs in zip(texts, expected, strict=True):
            ids, spans = ours.encode_with_offsets(text)
            assert ids.tolist() == ours.encode(text).tolist() == theirs.ids
            assert [tuple(span) for span in spans.tolist()] == theirs.offsets


def test_a_vocabulary_file_gives_transformers_the_same_ids(ours, tmp_path):
    from transformers import BertTokenizer

    ours.save_vocabulary(tmp_path / "vocab.txt")
    theirs = BertTokenizer(str(tmp_path / "vocab.txt"))
    expected = theirs(TEXT, add_special_tokens=False)["input_ids"]
    assert ours.encode(TEXT).tolist() == expected
    assert expected.count(ours.unknown_id) < len(expected) / 10
    again = WordPieceTokenizer.from_vocabulary(tmp_path / "vocab.txt")
    assert again.to_dict() == ours.to_dict()
    with_ends = theirs(TEXT)["input_ids"]
    assert (with_ends[0], with_ends[-1]) == (ours.special_tokens["[CLS]"], ours.end_id)


def test_tokenizer_json_puts_bert_s_tokens_around(pairs):
    ours, peer = pairs[0]
    encoded = peer.encode("the words", "the pieces")
    first, second = ours.encode("the words").tolist(), ours.encode("the pieces").tolist()
    cls, sep = ours.special_tokens["[CLS]"], ours.end_id
    assert encoded.ids == [cls, *first, sep, *second, sep]
    assert encoded.type_ids == [0] * (len(first) + 2) + [1] * (len(second) + 1)


def test_tokenizer_json_is_read_again_ours_or_the_peers(pairs, tmp_path):
    for ours, peer in pairs:
        ours.save_tokenizer_json(tmp_path / "ours.json")
        peer.save(str(tmp_path / "theirs.json"))
        for path in tmp_path.iterdir():
            assert WordPieceTokenizer.from_tokenizer_json(path).to_dict() == ours.to_dict()


def test_words_are_cut_by_the_longest_piece_first():
    tokens = [*SPECIAL, "un", "##aff", "##able", "##a", "unaff", "##b", "a"]
    ours = WordPieceTokenizer(tokens)
    names = [ours.token_name(i) for i in ours.encode("unaffable unaffab unaffx Ua A")]
    assert names == ["unaff", "##able", "unaff", "##a", "##b", "[UNK]", "[UNK]", "a"]
    assert len(ours.pieces("a" * 100)) == 100
    assert ours.pieces("a" * 101) == [ours.unknown_id]
    assert ours.unknown_bytes("unaffable 水 unaffx") == 3 + 6
    assert ours.decode(ours.encode("unaffable a 水 a")) == "unaffable a [UNK] a"


def test_special_tokens_stand_apart(ours):
    text = "the [SEP] words [MASK]"
    plain, asked = ours.encode(text), ours.encode(text, special=["[SEP]"])
    assert not np.isin(plain, list(ours.special_tokens.values())).any()
    assert np.count_nonzero(asked == ours.end_id) == 1
    assert ours.special_tokens["[MASK]"] not in asked
    assert list(ours.special_tokens) == ["[PAD]", "[CLS]", "[SEP]", "[MASK]"]
    assert ours.unknown_id == 1


# Training


def peer_vocabulary(texts, vocab_size, min_frequency):
    """The peer's tokens, its hash table's order of the characters taken out of its hands: they are
    handed over as special tokens, in our order."""
    tokens, _ = _alphabet(count_words(texts, BertText()), list(SPECIAL), 1000)
    peer = BertWordPieceTokenizer()
    peer.train_from_iterator(
        texts,
        vocab_size=vocab_size,
        min_frequency=min_frequency,
        special_tokens=tokens,
        show_progress=False,
    )
    vocabulary = peer.get_vocab()
    return sorted(vocabulary, key=vocabulary.__getitem__)


@given(
    words=st.lists(st.text("abc", min_size=1, max_size=9), min_size=1, max_size=60),
    vocab_size=st.sampled_from([5, 20, 60, 300]),
    min_frequency=st.integers(0, 3),
)
def test_training_is_the_peers_token_by_token(words, vocab_size, min_frequency):
    texts = [" ".join(words[: len(words) // 2]), " ".join(words[len(words) // 2 :])]
    settings = {"vocab_size": vocab_size, "min_frequency": min_frequency}
    trained = WordPieceTokenizer.train(texts, **settings).tokens
    assert trained == peer_vocabulary(texts, **settings)
    counts = count_words(texts, BertText())
    assert trained == train_simple(
        counts, special_tokens=list(SPECIAL), alphabet_size=1000, **settings
    )


def test_training_on_real_text_is_the_peers():
    from pydoc_data.topics import topics

    texts = list(topics.values())[:12]
    calls = []
    ours = WordPieceTokenizer.train(texts, vocab_size=900, progress=lambda *n: calls.append(n))
    assert ours.tokens == peer_vocabulary(texts, 900, 2)
    assert len(ours.tokens) == 900
    assert calls[-1][0] == calls[-1][1]
    assert [n for n, _ in calls] == sorted(n for n, _ in calls)
    assert "the" in ours.tokens


def test_a_small_alphabet_keeps_the_most_frequent_characters():
    ours = WordPieceTokenizer.train("aab abb c", vocab_size=100, alphabet_size=2)
    assert ours.tokens[5:9] == ["a", "b", "##a", "##b"]
    assert ours.encode("c").tolist() == [ours.unknown_id]


@pytest.mark.parametrize("piece", [7, 1 << 20])
def test_training_does_not_notice_where_a_long_text_is_cut(piece, monkeypatch):
    monkeypatch.setattr("minillm.tokenizers.wordpiece_train.PIECE", piece)
    expected = {}
    for word in BertText().words(TEXT):
        expected[word] = expected.get(word, 0) + 1
    assert count_words(iter([TEXT]), BertText()) == expected


def test_words_too_long_to_be_encoded_teach_nothing():
    word = "".join("abcdef"[i * i % 7 % 6] for i in range(LONGEST_WORD))
    settings = {"vocab_size": 40, "min_frequency": 1}
    assert word in WordPieceTokenizer.train(word, **settings | {"vocab_size": 300}).tokens
    tokens = WordPieceTokenizer.train(f"{word}x ab ab", **settings).tokens
    counts = count_words(f"{word}x ab ab", BertText())
    assert tokens == train_simple(
        counts, special_tokens=list(SPECIAL), alphabet_size=1000, **settings
    )
    assert "##x" in tokens
    assert [token for token in tokens[5:] if len(token.removeprefix("##")) > 1] == ["ab"]


def test_a_vocabulary_too_small_for_the_special_tokens_is_refused():
    with pytest.raises(UserError, match=r"vocab_size must be at least 6, .*got 5"):
        WordPieceTokenizer.train("a b", vocab_size=5, special_tokens="<a>")


# What is refused

ADDED = {"id": 1, "content": "[UNK]", "special": True}
ADDED |= dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)


@pytest.mark.parametrize(
    ("tokens", "message"),
    [
        (["[UNK]", "[SEP]", "a", "a"], "each token once, 'a' comes twice"),
        (["[UNK]", "a"], r"has no '\[SEP\]'"),
        (["[SEP]", "a"], r"has no '\[UNK\]'"),
        (["[UNK]", "[SEP]", "\ud800"], "lone surrogate"),
    ],
)
def test_a_wrong_vocabulary_is_refused(tokens, message):
    with pytest.raises(UserError, match=message):
        WordPieceTokenizer(tokens)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"tokens": None}, "cannot have 'tokens' as None"),
        ({"tokens": ["a", 1]}, "cannot have 'tokens'"),
        ({"lowercase": "yes"}, "cannot have 'lowercase' as 'yes'"),
        ({"max_input_chars_per_word": True}, "cannot have 'max_input"),
        ({"colour": 1}, "cannot have 'colour'"),
    ],
)
def test_a_damaged_description_is_refused(ours, change, message):
    with pytest.raises(UserError, match=message):
        WordPieceTokenizer.from_dict(ours.to_dict() | change)
    with pytest.raises(UserError, match="must have its 'tokens'"):
        WordPieceTokenizer.from_dict({"kind": "wordpiece"})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"model": {"type": "BPE"}}, "no WordPiece tokenizer.json"),
        (
            {"model": {"type": "WordPiece", "unk_token": "[UNK]", "vocab": ["a"]}},
            r"t\.json: no WordPiece tokenizer\.json",
        ),
        (
            {"model": {"type": "WordPiece", "unk_token": 3, "vocab": {}}, "added_tokens": []},
            r"t\.json: a saved wordpiece tokenizer cannot have 'unknown' as 3",
        ),
        ({"normalizer": None}, "no WordPiece tokenizer.json"),
        ({"decoder": {"type": "WordPiece", "prefix": "##", "cleanup": False}}, "decoder must be"),
        ({"decoder": {"type": "ByteLevel"}}, r"t\.json: its decoder must be .*ByteLevel"),
        ({"decoder": 1}, "decoder must be .*got 1"),
        ({"added_tokens": [ADDED | {"special": False}]}, r"t\.json: .*'\[UNK\]' is not special"),
        ({"added_tokens": [ADDED | {"lstrip": True}]}, "has lstrip, which is not supported"),
        ({"added_tokens": [ADDED | {"rstrip": True}]}, "has rstrip, which is not supported"),
        ({"added_tokens": [ADDED | {"single_word": True}]}, "has single_word"),
        ({"added_tokens": 1}, "must have 'added_tokens' as a list"),
        ({"added_tokens": [ADDED | {"content": "x", "id": 1.5}]}, "must have 'id' as a int"),
        ({"pre_tokenizer": {"type": "Whitespace"}}, "got WordPiece, BertNormalizer, Whitespace"),
    ],
)
def test_another_tokenizer_json_is_refused(ours, change, message, tmp_path):
    ours.save_tokenizer_json(tmp_path / "t.json")
    saved = json.loads((tmp_path / "t.json").read_text())
    (tmp_path / "t.json").write_text(json.dumps(saved | change))
    with pytest.raises(UserError, match=message):
        WordPieceTokenizer.from_tokenizer_json(tmp_path / "t.json")


def test_gaps_in_a_vocabulary_and_bad_files_are_refused(ours, tmp_path):
    path = tmp_path / "t.json"
    ours.save_tokenizer_json(path)
    for wrong in (10_000, float("inf"), "7", None, len(ours.tokens) + 0.0):
        saved = json.loads(path.read_text())
        saved["model"]["vocab"]["gap"] = wrong
        (tmp_path / "wrong.json").write_text(json.dumps(saved))
        with pytest.raises(UserError, match="ids of its vocabulary are not 0 to"):
            WordPieceTokenizer.from_tokenizer_json(tmp_path / "wrong.json")
    with pytest.raises(UserError, match="cannot read"):
        WordPieceTokenizer.from_vocabulary(tmp_path / "none.txt")
    (tmp_path / "bad.txt").write_bytes(b"[UNK]\n\xff\n")
    with pytest.raises(UserError, match="not UTF-8"):
        WordPieceTokenizer.from_vocabulary(tmp_path / "bad.txt")
    broken = WordPieceTokenizer(["[UNK]", "[SEP]", "a\nb"])
    with pytest.raises(UserError, match="a token a line"):
        broken.save_vocabulary(tmp_path / "vocab.txt")


def test_what_is_remembered_is_bounded(monkeypatch, ours):
    monkeypatch.setattr("minillm.tokenizers.wordpiece.REMEMBERED", 8)
    words = ["".join(pair) for pair in itertools.product("abcdef", repeat=2)]
    fresh = WordPieceTokenizer.from_dict(ours.to_dict())
    assert fresh.encode(" ".join(words)).tolist() == ours.encode(" ".join(words)).tolist()
    assert len(fresh._memory) <= 8
    fresh.encode("a" * 5000)
    assert "a" * 5000 not in fresh._memory
