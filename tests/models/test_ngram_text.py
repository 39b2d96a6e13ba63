import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.models import ngram_score, ngram_words
from minillm.models.ngram import NGram
from minillm.models.ngram_lookup import Vocabulary
from minillm.models.ngram_score import back_off_scores
from minillm.models.ngram_text import score_lines, train_on_lines
from minillm.models.ngram_words import read_words
from minillm.tokenizers.char import CharTokenizer
from minillm.tokenizers.word import WordTokenizer
from tests.models.kenlm_text import sentences

# Words of all lengths about eight and sixteen bytes, with a common beginning or end; a word of many
# bytes; NUL, which is no white space; every kind of white space
WORDS = ["a", "b", "山", "abcdefg", "abcdefgh", "abcdefghi", "xbcdefghi", "abcdefghijklmnop"]
WORDS += ["abcdefghijklmnopq", "abcdefghXjklmnopq", "é" * 40, "x" * 600, "x" * 601, "\0", "\0\0"]
SPACES = [" ", "  ", "\t", "\n", "\n\n", "\r\n", "\v", "\f", " \n "]
TEXTS = st.lists(st.sampled_from(WORDS) | st.sampled_from(SPACES) | st.text(max_size=4)).map(
    lambda parts: "".join(parts).encode("utf-8", "ignore")
)


def expected_words(data):
    """The specification: a dictionary, a word at a time."""
    lines = data.split(b"\n")
    lines = lines[:-1] if not lines[-1] else lines
    counts = {}
    for line in lines:
        for word in line.split():
            counts[word] = counts.get(word, 0) + 1
    names = sorted(counts, key=lambda word: -counts[word])  # stable: by appearance
    id_of = {word: i for i, word in enumerate(names)}
    ids = [i for line in lines for i in [*(id_of[w] for w in line.split()), len(names)]]
    return [name.decode() for name in names], [counts[name] for name in names], ids


def assert_words(data, **options):
    found = read_words(data, **options)
    names, counts, ids = expected_words(data)
    assert found.names == names
    assert found.counts.tolist() == counts
    assert found.ids.dtype == np.int32
    assert found.ids.tolist() == ids


@given(data=TEXTS, piece=st.integers(8, 40), threads=st.integers(1, 2))
def test_words_are_those_of_a_dictionary(data, piece, threads):
    assert_words(data)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_words, "PIECE", piece)
        assert_words(data, threads=threads)


@given(data=TEXTS, bits=st.integers(0, 2))
def test_words_of_one_hash_are_told_apart(data, bits):
    """With a multiplier of zero all hashes are equal; with few bits, many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_words, "MULTIPLIER", np.uint64(bits << 62))
        assert_words(data)


@given(data=TEXTS, known=TEXTS, multiplier=st.sampled_from([0, 1 << 63, ngram_words.MULTIPLIER]))
def test_words_are_looked_up_as_the_tokenizer_does(data, known, multiplier):
    names = [name for name in read_words(known).names if name not in ("</s>", "<unk>")]
    tokenizer = WordTokenizer.from_words(names)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_words, "MULTIPLIER", np.uint64(multiplier))
        ids, line_end = Vocabulary(tokenizer).ids(data)
    assert np.array_equal(ids[~line_end], tokenizer.encode(data.decode()))
    assert np.all(ids[line_end] == tokenizer.end_id)
    unended = len(data) > 0 and not data.endswith(b"\n")
    assert np.count_nonzero(line_end) == data.count(b"\n") + unended


def test_what_is_no_utf8_is_named():
    with pytest.raises(UserError, match="byte 6 is 0xff"):
        read_words(b"good\nb\xffd\n")


@given(
    ids=st.lists(st.integers(0, 9), max_size=60),
    order=st.integers(1, 5),
    chunk=st.integers(1, 9),
    smoothing=st.sampled_from(["modified-kneser-ney", "katz", "mle"]),
)
def test_scores_are_the_models(ids, order, chunk, smoothing):
    tokenizer = WordTokenizer(list("abcdefgh"))
    text = np.random.default_rng(0).integers(0, 9, 200)
    model = NGram.train(text, tokenizer, order=order, smoothing=smoothing)
    ids = np.array(ids, np.int64)
    expected = model.log_p(ids)
    assert np.array_equal(back_off_scores(model, ids), expected)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_score, "CHUNK", chunk)
        assert np.array_equal(back_off_scores(model, ids), expected)


@pytest.mark.parametrize("smoothing", ["add-k", "stupid-backoff", "witten-bell"])
def test_lines_of_any_smoothing(smoothing):
    lines = sentences(60)
    model = train_on_lines("\n".join(lines).encode(), order=3, smoothing=smoothing)
    found, stop = score_lines(model, ["the river", "", "unheard"])
    tokenizer = model.tokenizer
    end = tokenizer.end_id
    ids = [*tokenizer.encode("the river"), end, end, tokenizer.unknown_id, end]
    assert np.allclose(found, model.log_p(np.array(ids)) / np.log(10), rtol=1e-12, atol=0)
    assert stop.tolist() == [3, 4, 6]
    found, stop = score_lines(model, [])
    assert len(found) == len(stop) == 0


@pytest.mark.parametrize(
    ("tokenizer", "named"),
    [
        (WordTokenizer(["Hello", ",", " world", "!"]), r"the word tokenizer with split='text'"),
        (CharTokenizer("Helo, wrd!"), "the char tokenizer$"),
    ],
)
def test_lines_of_another_tokenizer_are_refused(tokenizer, named):
    model = NGram.train(tokenizer.encode("Hello, world!"), tokenizer, order=2)
    with pytest.raises(UserError, match=f"words between white space; .* {named}"):
        score_lines(model, ["Hello, world!"])


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ("a b", "lines must be an iterable of str, got one str"),
        (b"a b", "lines must be an iterable of str, got one bytes"),
        (3, "lines must be an iterable of str: 'int' object"),
        (["a", 1], "an iterable of str: sequence item 1: expected str instance, int found"),
        (["a", "b\nc"], "2 lines hold 1 line feeds"),
    ],
)
def test_what_is_no_list_of_lines_is_refused(lines, message):
    with pytest.raises(ValueError, match=message):
        score_lines(train_on_lines(b"a b\n", order=1), lines)


@pytest.mark.parametrize("text", [None, 3, ["a b"]])
def test_what_is_no_text_is_refused(text):
    with pytest.raises(ValueError, match=f"a path or bytes, got {type(text).__name__}"):
        train_on_lines(text)


def test_a_text_is_a_file_or_its_bytes(tmp_path):
    data = "\n".join(sentences(30)).encode()
    (tmp_path / "text").write_bytes(data)
    a, b = train_on_lines(data, order=2), train_on_lines(tmp_path / "text", order=2)
    assert a.tokenizer.words == b.tokenizer.words == [*read_words(data).names, "</s>", "<unk>"]
    assert np.array_equal(a.levels[1].p, b.levels[1].p)
