"""Training: each step by brute force, and the whole beside SentencePiece's trainer."""

import collections
import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.tokenizers.sentencepiece_model import BYTE, CONTROL, NORMAL, Rules, unpack_model
from minillm.tokenizers.sentencepiece_text import Normalizer
from minillm.tokenizers.unigram import UnigramTokenizer
from minillm.tokenizers.unigram_em import digamma
from minillm.tokenizers.unigram_lattice import Lattice, prefixes
from minillm.tokenizers.unigram_seed import characters_to_keep, count_segments, seed_pieces
from minillm.tokenizers.unigram_train import _Model, train_vocabulary
from tests.tokenizers.unigram_models import ENGLISH, chinese, train

SPACES = Rules(remove_extra_whitespaces=False)
TINY = ["the cat sat on the mat", "the cats sat on mats", "a mat, the 水水 mat 3水水"]


def nats_per_character(vocabulary, lines):
    """-log p of the lines over their characters, of all ways to cut them together.

    The scores are made to sum to 1 first, since neither trainer's do to the last.
    """
    normal = np.array(vocabulary.types) == NORMAL
    known = {p: i for i, p in enumerate(vocabulary.pieces) if normal[i]}
    scores = vocabulary.scores.astype(float)
    scores -= np.log(np.exp(scores[normal]).sum())
    words: collections.Counter = collections.Counter()
    for line in lines:
        words.update(f" {line}".replace(" ", " ▁").split())
    found = prefixes(known)
    unknown = (-1, scores[normal].min() - 10)
    total = sum(n * Lattice(w, found, scores, unknown).forward()[-1] for w, n in words.items())
    return -total / sum(map(len, lines))


@pytest.mark.parametrize(("name", "vocab_size"), [("english", 400), ("english", 1200), ("zh", 600)])
def test_texts_are_as_probable_as_under_sentencepieces_training(name, vocab_size):
    lines = ENGLISH[:900] if name == "english" else chinese(700)
    ours = train_vocabulary(lines, vocab_size=vocab_size)
    theirs = unpack_model(
        train(
            lines,
            vocab_size,
            normalization_rule_name="identity",
            remove_extra_whitespaces=False,
        )
    )
    assert len(ours.pieces) == len(theirs.pieces) == vocab_size
    assert nats_per_character(ours, lines) < 1.01 * nats_per_character(theirs, lines)
    assert len(set(ours.pieces) & set(theirs.pieces)) > 0.6 * vocab_size


def test_words_are_cut_where_scripts_meet_and_at_spaces():
    found = count_segments(TINY, Normalizer(SPACES))
    assert found == {
        "▁the": 4, "▁cat": 1, "▁cats": 1, "▁sat": 2, "▁on": 2, "▁mat": 3, "▁mats": 1, "▁a": 1,
        ",": 1, "▁水水": 1, "▁3": 1, "水水": 1,
    }  # fmt: skip
    assert count_segments("a  b", Normalizer(SPACES), whitespace_pieces=True) == {
        "▁a": 1, "▁▁b": 1,
    }  # fmt: skip
    # A mark goes with what stands before it, kana with Han; symbols stand alone.
    assert set(count_segments("e\u0301aж カ水x<s>y", Normalizer(SPACES), symbols=["<s>"])) == {
        "▁e\u0301a", "ж", "▁カ水", "x", "y",
    }  # fmt: skip


@given(st.dictionaries(st.text("ab▁水,", min_size=1, max_size=7), st.integers(1, 3), min_size=1))
def test_seeds_by_brute_force(segments):
    found = seed_pieces(segments, dict.fromkeys("ab▁水,", 1), longest=4)
    counts: collections.Counter = collections.Counter()
    follows = collections.defaultdict(collections.Counter)
    for segment, n in segments.items():
        for start, stop in itertools.combinations(range(len(segment) + 1), 2):
            counts[segment[start:stop]] += n
            following = segment[start : stop + 1]
            if stop < len(segment) and len(following) <= 4 and valid(following):
                follows[segment[start:stop]][segment[stop]] += n
    expected = {}
    for part, n in counts.items():
        alone = max(follows[part].values(), default=0) < n or len(part) == 4
        if len(part) == 1:
            expected[part] = n
        elif len(part) <= 4 and n >= 2 and valid(part) and alone:
            expected[part] = n * len(part)
    assert dict(zip(found.pieces, found.counts, strict=True)) == expected
    text = "".join(segments)
    for start, size, piece in zip(found.start, found.size, found.piece, strict=True):
        assert text[start : start + size] == found.pieces[piece]


def valid(piece):
    """Of one script, and a space at its start alone, or nothing else."""
    body = piece.removeprefix("▁")
    kinds = {"水": "han", ",": "common", "▁": "any"}
    scripts = {kinds.get(c, "latin") for c in piece} - {"any"}
    return len(scripts) < 2 and ("▁" not in body or set(piece) == {"▁"} or two_spaces(piece))


def two_spaces(piece):
    # Segments of words never hold a space behind another character; only two side by side matter.
    return not any(piece[i : i + 2] == "▁▁" and piece[i + 2 : i + 3] not in ("", "▁")
                   for i in range(len(piece)))  # fmt: skip


def test_one_step_of_em_by_brute_force():
    segments = count_segments(TINY, Normalizer(SPACES))
    model = _Model(seed_pieces(segments, dict(characters_to_keep(segments, 1.0))))
    pieces = {piece: i for i, piece in enumerate(model.seeds.pieces)}
    expected = np.zeros(len(pieces))
    for segment, count in segments.items():
        lattice = Lattice(segment, prefixes(pieces), model.scores, (-1, -50.0))
        for (_, _, i), p in lattice.marginals().items():
            expected[i] += count * p
    model.step()
    stays = expected >= 0.5
    assert 0 < stays.sum() < len(pieces)
    assert np.array_equal(model.alive, stays)
    scores = digamma(expected[stays]) - digamma(expected[stays].sum())
    assert model.scores[stays] == pytest.approx(scores)
    assert (model.scores[~stays] == scores.min() - 10).all()


def test_detours_and_losses_by_brute_force():
    segments = count_segments(ENGLISH[:40], Normalizer(SPACES))
    model = _Model(seed_pieces(segments, dict(characters_to_keep(segments, 1.0))))
    model.step()
    alive, scores = model.alive.copy(), model.scores.copy()
    total, of, parts = model.detours()
    pieces = {p: i for i, p in enumerate(model.seeds.pieces) if alive[i]}
    unknown = (-1, float(scores.min()))
    loss, count = {}, collections.Counter()
    for segment, n in segments.items():
        for i in Lattice(segment, prefixes(pieces), scores, unknown).viterbi()[0]:
            count[i] += n
    whole = sum(n for i, n in count.items() if i >= 0)
    for piece, i in pieces.items():
        others = {p: j for p, j in pieces.items() if j != i}
        lattice = Lattice(piece, prefixes(others), scores, unknown)
        if len(piece) == 1:
            assert total[i] == -np.inf
            continue
        assert total[i] == pytest.approx(lattice.viterbi()[1])
        found = parts[of == i]
        assert scores[found].sum() == pytest.approx(total[i])
        f = count[i]
        if f and total[i] <= scores[i]:
            wider = whole + f * (len(found) - 1)
            detour = sum(np.log((count[j] * bool(alive[j]) + f) / wider) for j in found.tolist())
            loss[i] = f * (np.log(f / whole) - detour)
    model.prune(len(loss) // 2)
    left = [i for i in loss if model.alive[i]]
    assert 0 < len(left) < len(loss)
    worst = min(loss[i] for i in left)
    assert all(loss[i] <= worst + 1e-9 for i in loss if not model.alive[i])


def test_what_training_is_told_to_keep():
    rounds = []
    tokenizer = UnigramTokenizer.train(
        iter(TINY),
        vocab_size=320,
        byte_fallback=True,
        special_tokens=["<pad>"],
        user_symbols=["mat"],
        required_characters="Ω",
        progress=lambda done, total: rounds.append((done, total)),
    )
    v = tokenizer.vocabulary
    assert v.pieces[:5] == ("<unk>", "<s>", "</s>", "<pad>", "mat")
    assert v.types.count(BYTE) == 256
    assert v.types.count(CONTROL) == 3
    assert {*"theca,水3Ω▁"} <= set(v.pieces)
    assert not any("mat" in piece and piece != "mat" for piece in v.pieces)
    assert len(v.pieces) <= 320  # the text has not so many
    assert rounds[-1][0] == rounds[-1][1]
    assert tokenizer.decode(tokenizer.encode("the mat é")) == "the mat é"


def test_spaces_can_be_pieces_and_nothing_else_with_them():
    code = "def f():\n        return 1\n    pass\n        return 2\n" * 3
    tokenizer = UnigramTokenizer.train(code, vocab_size=60, whitespace_pieces=True)
    pieces = [p for p in tokenizer.vocabulary.pieces if "▁▁" in p]
    assert pieces
    assert all(set(piece) == {"▁"} for piece in pieces)
    assert tokenizer.decode(tokenizer.encode(code)) == code


def test_rare_characters_are_left_out():
    assert characters_to_keep({"aaab": 5, "c": 1}, 0.95) == {"a": 15, "b": 5}
    assert characters_to_keep({"aaab": 5, "c": 1}, 0.5, "z") == {"z": 0, "a": 15}
    tokenizer = UnigramTokenizer.train("aaab " * 500 + "Ω", vocab_size=10)
    assert "Ω" not in tokenizer.vocabulary.pieces
    assert tokenizer.unknown_bytes("aΩ") == 2


@pytest.mark.parametrize(
    "text", ["a", "a" * 3000, "    ", "\n\n a\n", "ab\0" * 9, "\u0301б\u0301a" * 9]
)
def test_odd_texts_are_trained_on_and_had_back(text):
    tokenizer = UnigramTokenizer.train(text, vocab_size=60)
    ids = tokenizer.encode(text)
    assert len(ids) <= len(text) + 1
    if "\0" not in text:
        assert tokenizer.decode(ids) == text


def test_training_twice_gives_the_same():
    a, b = (UnigramTokenizer.train(ENGLISH[:100], vocab_size=200).to_dict() for _ in range(2))
    assert a == b


def test_a_text_or_size_that_cannot_be_is_refused():
    for empty in ("", []):
        with pytest.raises(UserError, match=r"no text|at least"):
            UnigramTokenizer.train(empty, vocab_size=100)
    with pytest.raises(UserError, match=r"vocab_size must be at least 10 for 7 characters"):
        UnigramTokenizer.train("abcdef", vocab_size=9)
    with pytest.raises(UserError, match="lone surrogate"):
        UnigramTokenizer.train("ab\ud800")
    with pytest.raises(UserError, match="comes twice"):
        UnigramTokenizer.train("ab", special_tokens=["<x>", "<x>"])
    with pytest.raises(UserError, match="there twice"):
        UnigramTokenizer.train("ab", special_tokens=["<x>"], user_symbols=["<x>"])
    with pytest.raises(UserError, match="escape_whitespaces"):
        UnigramTokenizer.train("ab", rules=Rules(escape_whitespaces=False))
    with pytest.raises(ValueError, match="a text must be a str"):
        UnigramTokenizer.train([b"ab"])


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        ("vocab_size", "300", "vocab_size must be a whole number"),
        ("vocab_size", True, "vocab_size must be a whole number"),
        ("steps", 0, "steps must be a whole number of at least 1"),
        ("longest", 0, "longest must be"),
        ("seed_size", 1.5, "seed_size must be"),
        ("shrink", 1.0, r"shrink must be in \(0, 1\)"),
        ("shrink", "x", "shrink must be a number"),
        ("character_coverage", 7, r"character_coverage must be in \(0, 1\], got 7"),
        ("character_coverage", float("nan"), "character_coverage must be in"),
        ("special_tokens", "\ud800", "lone surrogate"),
        ("special_tokens", [""], "must have a name"),
        ("user_symbols", ["\ud800"], "lone surrogate"),
        ("required_characters", "\ud800", "lone surrogate"),
    ],
)
def test_settings_out_of_range_are_refused(name, value, message):
    with pytest.raises(UserError, match=message):
        UnigramTokenizer.train("ab ab", **{name: value})
