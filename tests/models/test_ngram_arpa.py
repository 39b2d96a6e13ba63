import gzip

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.models import ngram_arpa, ngram_arpa_read
from minillm.models.ngram import NGram
from minillm.models.ngram_arpa import arpa_names, unescape, write_arpa
from minillm.models.ngram_arpa_read import read_arpa
from minillm.models.ngram_text import score_lines, train_on_lines
from minillm.tokenizers import ByteTokenizer, CharTokenizer
from minillm.tokenizers.word import WordTokenizer

# Probabilities and weights are written with nine digits; a score is a product of a few of them.
TOL = 1e-7
TEXT = b"the cat saw the dog\nthe dog saw\n\nthe cat slept\n"
# As SRILM writes it: back-off weights left out where they are 0, and -99 for "never"
SRILM = r"""
\data\
ngram 1=5
ngram 2=3
ngram 3=1

\1-grams:
-0.6	</s>
-99	<s>	-0.25
-0.5	a	-0.125
-1	b
-1	c

\2-grams:
-0.25	<s> a	-0.5
-0.375	a b	-0.0625
-0.5 b </s>

\3-grams:
-0.125	<s> a b

\end\
"""


def scores(model, ids):
    return model.log_p(np.array(ids)) / np.log(10)


def test_a_file_by_hand(tmp_path):
    path = tmp_path / "model.arpa"
    path.write_text(SRILM)
    model = read_arpa(path)
    assert model.tokenizer.words == ["</s>", "a", "b", "c", "<unk>"]
    assert model.config.order == 3
    found, stop = score_lines(model, ["a b", "c a b", "", "b zzz"])
    expected = [
        *(-0.25, -0.125, -0.0625 - 0.5),  # <s> a; <s> a b; a b </s> backs off from "a b" to b </s>
        *(-0.25 - 1, -0.5, -0.375, -0.0625 - 0.5),  # <s> c backs off from <s>; c has no weight
        -0.25 - 0.6,
        *(-0.25 - 1, -100, -0.6),
    ]
    assert np.allclose(found, expected, rtol=0, atol=1e-12)
    assert stop.tolist() == [3, 7, 8, 11]


@pytest.mark.parametrize("name", ["model.arpa", "model.arpa.gz"])
@pytest.mark.parametrize("smoothing", ["modified-kneser-ney", "katz", "witten-bell", "mle"])
@pytest.mark.parametrize("order", [1, 2, 4])
def test_written_and_read(tmp_path, name, smoothing, order):
    model = train_on_lines(TEXT, order=order, smoothing=smoothing)
    told = []
    write_arpa(model, tmp_path / name, progress=lambda *at: told.append(at))
    data = (tmp_path / name).read_bytes()
    assert (data[:2] == b"\x1f\x8b") == name.endswith(".gz")
    assert told[-1] == (model.n_parameters, model.n_parameters)
    told.clear()
    read = read_arpa(tmp_path / name, progress=lambda *at: told.append(at))
    assert told[-1] == (model.n_parameters + 1, model.n_parameters + 1)  # <s> is a line, too
    assert read.tokenizer.words == model.tokenizer.words
    ids = np.random.default_rng(0).integers(0, model.vocab_size, 200)
    a, b = scores(model, ids), scores(read, ids)
    assert np.allclose(a, b, rtol=0, atol=TOL)  # of what is impossible both are -inf
    write_arpa(read, tmp_path / f"again-{name}")
    if name == "model.arpa":
        assert (tmp_path / "again-model.arpa").read_bytes() == data


@settings(max_examples=15)
@given(ids=st.lists(st.integers(0, 6), min_size=1, max_size=40), order=st.integers(1, 4))
def test_any_tokenizer_is_read_back_with_itself(tmp_path_factory, ids, order):
    tokenizer = CharTokenizer("a b\n%")
    path = tmp_path_factory.getbasetemp() / "char.arpa"
    model = NGram.train(np.array(ids), tokenizer, order=order)
    write_arpa(model, path)
    assert path.read_text().startswith("# minillm: in words, %XX is a byte of UTF-8\n")
    read = read_arpa(path, tokenizer)
    assert read.tokenizer is tokenizer
    for a, b in zip(model.levels, read.levels, strict=True):
        assert np.array_equal(a.keys, b.keys)
        assert np.allclose(np.log10(a.p), np.log10(b.p), rtol=0, atol=TOL)
    assert read_arpa(path).tokenizer.words[:5] == list("a b\n%")


def test_bytes_are_told_apart(tmp_path):
    tokenizer = ByteTokenizer()
    model = NGram.train(np.append(tokenizer.encode("山上 有雪 \0"), tokenizer.end_id), tokenizer)
    write_arpa(model, tmp_path / "bytes.arpa")
    read = read_arpa(tmp_path / "bytes.arpa", tokenizer)
    ids = tokenizer.encode("山上有山 ")
    assert np.allclose(scores(model, ids), scores(read, ids), rtol=0, atol=TOL)


@given(st.text())
def test_names_are_escaped_so_that_they_come_back(name):
    if name.encode("utf-8", "ignore").decode() == name:
        word = ngram_arpa._escape(name)
        assert len(f"x{word}x".split()) == 1 or any(c.isspace() for c in name)
        assert word.encode().split() == [word.encode()]
        assert word not in ("<s>", "</s>", "<unk>")
        assert unescape(word) == name


def test_reserved_names_of_tokens_are_escaped():
    tokenizer = WordTokenizer(["<s>", "x"], end="END", unknown="UNK")
    names, escaped = arpa_names(tokenizer)
    assert names.tolist() == ["%3Cs>", "x", "</s>", "<unk>"]
    assert escaped


def test_what_has_no_arpa_form_is_refused(tmp_path):
    for smoothing in ("add-k", "good-turing", "stupid-backoff"):
        model = train_on_lines(TEXT, order=2, smoothing=smoothing)
        with pytest.raises(UserError, match=f"{smoothing} has no back-off weights"):
            write_arpa(model, tmp_path / "model.arpa")
    assert not list(tmp_path.iterdir())


def test_two_tokens_of_one_name_are_refused(tmp_path):
    model = train_on_lines(TEXT, order=2)
    model.tokenizer.words[1] = model.tokenizer.words[0]
    with pytest.raises(UserError, match="two tokens are named 'the'"):
        write_arpa(model, tmp_path / "model.arpa")


@pytest.mark.parametrize("lines", [1, 2, 1 << 15])
def test_ngrams_without_their_parts_get_them(tmp_path, monkeypatch, lines):
    """As SRILM's pruning leaves it: a trigram whose bigrams are not there."""
    monkeypatch.setattr(ngram_arpa_read, "LINES", lines)
    text = SRILM.replace("-0.375\ta b\t-0.0625\n", "").replace("ngram 2=3", "ngram 2=2")
    text = text.replace("-0.25\t<s> a\t-0.5\n", "").replace("ngram 2=2", "ngram 2=1")
    path = tmp_path / "model.arpa"
    path.write_text(text)
    model = read_arpa(path)
    found, _ = score_lines(model, ["a b", "c a b"])
    expected = [-0.25 - 0.5, -0.125, -0.5, -0.25 - 1, -0.5, -0.125 - 1, -0.5]
    assert np.allclose(found, expected, rtol=0, atol=1e-12)


def test_what_is_impossible_stays_so(tmp_path):
    model = train_on_lines(b"a b a c\nb a\n", order=2, smoothing="mle")
    write_arpa(model, tmp_path / "model.arpa")
    read = read_arpa(tmp_path / "model.arpa")
    a, b = (score_lines(m, ["a a", "c unheard"])[0] for m in (model, read))
    assert np.isneginf(a).tolist() == [False, True, False, True, True, False]
    assert np.allclose(a, b, rtol=0, atol=TOL)
    assert read.next_distribution([0]).tolist() == pytest.approx(model.next_distribution([0]))


def test_back_off_weights_whose_products_are_numbers_are_read(tmp_path):
    (tmp_path / "model.arpa").write_text(
        SRILM.replace("-0.0625", "102").replace("-0.125\n", "102\n")
    )
    model = read_arpa(tmp_path / "model.arpa")
    assert np.isfinite(score_lines(model, ["a b c", "a a c"])[0]).all()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (r"\data\\", "data", "line 23: the file ends too early"),
        ("ngram 2=3", "ngram 3=3", "line 4: expected 'ngram 2=' and a number"),
        ("ngram 2=3", "ngram 2=x", "line 4: expected 'ngram 2='"),
        ("ngram 2=3", "ngram 2=4", r"line 18: expected a number, 2 words .*, got ''"),
        ("ngram 2=3", "ngram 2=2", r"line 17: expected \\3-grams:, got '-0.5 b </s>"),
        ("-0.375\ta b", "-0.375\ta", r"line 16: .* 2 words .*'-0.375\\ta\\t-0.0625'"),
        ("-0.375\ta b", "-0.375\ta b c d", "line 16: expected a number, 2 words"),
        ("-0.375\ta b", "zero\ta b", "line 16: expected a number"),
        ("-0.375\ta b", "nan\ta b", "line 16: not log10 of a probability"),
        ("-0.375\ta b", "0.375\ta b", "line 16: not log10 of a probability"),
        ("a b\t-0.0625", "a b\tnan", "line 16: not log10 of a probability"),
        ("a b\t-0.0625", "a b\t103", "line 16: not log10 of a probability"),
        ("a b\t-0.0625", "a b\t400", "line 16: not log10 of a probability"),
        ("-0.375\ta b", "-0.375\ta x", "line 16: 'x' is not among the words"),
        ("-0.375\ta b", "-0.375\t</s> b", "line 16: <s> must come first, </s> last"),
        ("-0.375\ta b", "-0.375\ta <s>", "line 16: <s> must come first, </s> last"),
        ("-0.375\ta b", "-0.375\tb </s>", "line 17: stands here for the second time"),
        ("-1\tc", "-1\tb", "line 12: 'b' stands here for the second time"),
        (r"\3-grams", r"\4-grams", r"line 19: expected \\3-grams:"),
        (r"\end\\", "", "the file ends too early"),
    ],
)
def test_a_damaged_file_is_named_by_its_line(tmp_path, old, new, message):
    old = old.replace("\\\\", "\\")
    assert old in SRILM
    path = tmp_path / "model.arpa"
    path.write_text(SRILM.replace(old, new))
    with pytest.raises(UserError, match=message) as caught:
        read_arpa(path)
    assert str(path) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_bytes_that_are_no_text_are_named(tmp_path):
    path = tmp_path / "model.arpa"
    path.write_bytes(SRILM.encode().replace(b"-1\tc", b"-1\t\xff"))
    with pytest.raises(UserError, match=r"line 12: the word b'\\xff' is not UTF-8"):
        read_arpa(path)


def test_a_file_that_cannot_be_read(tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*: No such file"):
        read_arpa(tmp_path / "none.arpa")
    path = tmp_path / "model.arpa.gz"
    path.write_bytes(gzip.compress(SRILM.encode())[:-20])
    with pytest.raises(UserError, match="cut off or damaged, no whole gzip file"):
        read_arpa(path)


def test_a_token_that_the_tokenizer_lacks(tmp_path):
    (tmp_path / "model.arpa").write_text(SRILM)
    with pytest.raises(UserError, match="line 12: the tokenizer has no token 'c'"):
        read_arpa(tmp_path / "model.arpa", WordTokenizer(["a", "b"]))


def test_a_writing_that_fails_leaves_the_old_file(tmp_path):
    path = tmp_path / "model.arpa.gz"
    path.write_bytes(b"old")

    def stop(done, total):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_arpa(train_on_lines(TEXT, order=2), path, progress=stop)
    assert path.read_bytes() == b"old"
    assert [file.name for file in tmp_path.iterdir()] == ["model.arpa.gz"]
