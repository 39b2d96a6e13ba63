import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest
import tokenizers

from minillm.cli.decoding import decoded
from minillm.cli.tokenizing import open_tokenizer
from minillm.tokenizers import load_tokenizer_file

TEXT = "The baker's bread: 12 loaves, and a piece of 面包 🥖!\n\n  Who'll eat it?\n"
TRAINED = [
    ("char", "t.json", []),
    ("word", "t.json", ["--vocab-size", 100]),
    ("whitespace", "t.json", ["--min-frequency", 2]),
    ("bpe", "t.json", ["--vocab-size", 300, "--special", "<|user|>"]),
    ("bpe", "t.tiktoken", ["--vocab-size", 300]),
    ("wordpiece", "t.json", ["--vocab-size", 120, "--no-lowercase"]),
    ("wordpiece", "t.txt", ["--vocab-size", 120]),
    ("unigram", "t.json", ["--vocab-size", 80]),
    ("unigram", "t.model", ["--vocab-size", 80]),
]


def feed(monkeypatch, data):
    data = data.encode() if isinstance(data, str) else data
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(data)))


@pytest.mark.parametrize(("kind", "out", "options"), TRAINED)
def test_what_was_trained_can_be_used(minillm, book, kind, out, options):
    done = minillm("tokenize", "train", "--kind", kind, "--data", book, "--out", out, *options)
    assert (done.code, done.err) == (0, ""), done
    name = f"{out}@gpt2" if out.endswith(".tiktoken") else out
    tokenizer = load_tokenizer_file(name)
    assert f"a {kind} tokenizer with a vocabulary of {tokenizer.vocab_size:,}" in done.out
    text = book.read_text()
    ids = tokenizer.encode(text)
    printed = minillm("tokenize", "encode", "-t", name, book).out
    assert printed.split() == [str(i) for i in ids]
    Path("ids.txt").write_text(printed)
    assert minillm("tokenize", "decode", "-t", name, "ids.txt").out == tokenizer.decode(ids)
    if kind == "bpe":
        assert tokenizer.decode(ids) == text
    if (kind, out) in (("bpe", "t.json"), ("wordpiece", "t.json")):
        theirs = tokenizers.Tokenizer.from_file(out)
        assert theirs.encode(text, add_special_tokens=False).ids == ids.tolist()


def test_a_file_goes_through_a_pipe_and_comes_back(minillm, monkeypatch, tmp_path):
    Path("in.txt").write_text(TEXT * 50)
    ids = minillm("tokenize", "encode", "-t", "byte", "in.txt").out
    assert [int(i) for i in ids.split()] == list((TEXT * 50).encode())
    feed(monkeypatch, ids)
    assert minillm("tokenize", "decode", "-t", "byte").out == TEXT * 50
    feed(monkeypatch, TEXT)
    done = minillm("tokenize", "encode", "-t", "byte")
    assert [int(i) for i in done.out.split()] == list(TEXT.encode())


def test_a_file_is_written_whole_or_not_at_all(minillm, mistake):
    Path("in.txt").write_text(TEXT * 3)
    args = ["tokenize", "encode", "-t", "byte", "in.txt", "--out", "ids.txt"]
    assert minillm(*args) == (0, "", "")
    assert minillm("tokenize", "decode", "-t", "byte", "ids.txt", "--out", "b.txt").out == ""
    assert Path("b.txt").read_text() == TEXT * 3
    Path("ids.txt").write_text("97 98 9999")
    mistake("tokenize", "decode", "-t", "byte", "ids.txt", "--out", "c.txt")
    assert sorted(path.name for path in Path().iterdir()) == ["b.txt", "ids.txt", "in.txt"]


def test_special_tokens_and_offsets(minillm):
    args = ["tokenize", "encode", "-t", "byte", "--text", "a<|endoftext|>é"]
    assert minillm(*args).out.split() == [str(i) for i in "a<|endoftext|>é".encode()]
    for special in ("all", "<|endoftext|>"):
        assert minillm(*args, "--special", special).out.split() == ["97", "256", "195", "169"]
    lines = minillm(*args, "--special", "all", "--offsets").out.splitlines()
    assert lines == ["97 0 1", "256 1 14", "195 14 15", "169 14 15"]
    Path("ids.txt").write_text("97 256 98")
    assert minillm("tokenize", "decode", "-t", "byte", "ids.txt").out == "ab"
    shown = minillm("tokenize", "decode", "-t", "byte", "ids.txt", "--special").out
    assert shown == "a<|endoftext|>b"


@pytest.mark.parametrize("kind", ["byte", "bpe", "wordpiece", "unigram", "word", "whitespace"])
def test_pieces_decode_to_what_the_whole_does(minillm, book, kind):
    name = "byte"
    if kind != "byte":
        name = "t.json"
        size = [] if kind == "whitespace" else ["--vocab-size", 280 if kind == "bpe" else 90]
        minillm("tokenize", "train", "--kind", kind, "--data", book, "--out", name, *size)
    tokenizer = open_tokenizer(name)
    ids = tokenizer.encode(book.read_text()[:300] + TEXT)
    for size in (1, 2, 7, 64):
        pieces = [ids[i : i + size] for i in range(0, len(ids), size)]
        assert "".join(decoded(tokenizer, pieces)) == tokenizer.decode(ids)
    broken = np.array([97, 0xE9, 0x9D] + [0xE9] * 20 + [98])
    if kind == "byte":
        text = "".join(decoded(tokenizer, [broken[:3], broken[3:]]))
        assert text.startswith("a") and text.endswith("b")  # noqa: PT018


def test_a_run_has_a_tokenizer_too(minillm, trained):
    out = minillm("tokenize", "encode", "-t", trained / "ngram", "--text", "cat").out
    assert out.split() == [str(i) for i in load_tokenizer_file(trained / "ngram").encode("cat")]


def test_files_of_others_are_known_by_what_they_hold(minillm, book):
    text = book.read_text()
    bpe = tokenizers.ByteLevelBPETokenizer()
    bpe.train_from_iterator([text], vocab_size=300, special_tokens=["<|endoftext|>"])
    pieces = tokenizers.BertWordPieceTokenizer()
    pieces.train_from_iterator([text], vocab_size=100, show_progress=False)
    Path("gpt2").mkdir()
    bpe.save_model("gpt2")
    bpe.save("a.data")
    pieces.save("b.data")
    pieces.save_model(".", "bert")
    for names, theirs in (
        (["gpt2", "gpt2/vocab.json", "gpt2/merges.txt", "a.data"], bpe),
        (["b.data", "bert-vocab.txt"], pieces),
    ):
        ids = theirs.encode(text, add_special_tokens=False).ids
        for name in names:
            printed = minillm("tokenize", "encode", "-t", name, book)
            assert printed.out.split() == [str(i) for i in ids], name


def test_a_tokenizer_trains_a_model_and_stands_in_the_table(minillm, book):
    minillm("tokenize", "train", "--kind", "bpe", "--data", book, "--vocab-size", 300,
            "--out", "t.json")  # fmt: skip
    common = ["train", "ngram", "--data", book, "--order", 3]
    for name, options in {
        "a": ["--tokenizer", "t.json"],
        "b": ["--tokenizer", "bpe", "--vocab-size", 280],
        "c": ["--tokenizer", "word", "--smoothing", "witten-bell"],
        "d": ["--tokenizer", "whitespace", "--smoothing", "stupid-backoff", "--prune", "0,0,1"],
    }.items():
        done = minillm(*common, "--out", name, *options)
        assert done.code == 0, done
    done = minillm("eval", "a", "b", "c", "d", "--json", "e.json")
    assert done.code == 0, done
    told = json.loads(Path("e.json").read_text())
    assert len({row["bytes"] for row in told.values()}) == 1
    assert told["d"]["bits_per_byte"] is None
    assert all(0 < told[name]["bits_per_byte"] < 8 for name in "abc")
    rows = {line.split()[0]: line for line in done.out.splitlines()[1:6] if line[0] != " "}
    assert f"{told['a']['bits_per_byte']:.4f}" in rows["a"]
    assert "bpe 300" in rows["a"]
    assert "n/a" in rows["d"]
    assert "d: its numbers are scores, not probabilities" in done.out


def test_tokens_are_shown(minillm, trained, monkeypatch):
    names = [trained / "ngram", "byte"]
    tokenizers = [arg for name in names for arg in ("-t", name)]
    done = minillm("tokenize", "show", *tokenizers, "--text", "cat é", "--ids")
    assert done.code == 0, done
    assert "ngram: 5 tokens" in done.out
    assert "byte: 6 tokens, 1.00 bytes each" in done.out
    assert "[c=99]" in done.out
    assert "\x1b[" in minillm("tokenize", "show", "-t", "byte", "--text", "cat", "--colour").out
    feed(monkeypatch, "cat")
    files = ["--html", "page.html", "--png", "tokens.png"]
    assert minillm("tokenize", "show", *tokenizers, *files).code == 0
    assert "<section>" in Path("page.html").read_text()
    assert Path("tokens.png").read_bytes().startswith(b"\x89PNG")


def test_languages_are_compared(minillm, trained, book):
    done = minillm("tokenize", "languages", "-t", "byte", "-t", trained / "ngram", "--png", "b.png")
    assert done.code == 0, done
    assert done.out.splitlines()[0].split() == ["bytes", "per", "token", "byte", "ngram"]
    assert "Chinese" in done.out
    assert Path("b.png").exists()
    done = minillm("tokenize", "languages", "-t", "byte", "--data", book)
    assert done.out.splitlines()[1].split() == ["book.txt", "1.00"]


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["train", "--kind", "bep", "--out", "x.json"], "unknown kind 'bep': did you mean bpe?"),
        (["train", "--kind", "bpe", "--out", "x.txt"], "x.txt: a bpe tokenizer is written as"),
        (
            ["train", "--kind", "char", "--vocab-size", 9, "--out", "x.json"],
            "no vocab_size to ch",
        ),
        (["train", "--kind", "bpe", "--vocab-size", 9, "--out", "x.json"], "at least 257"),
        (
            ["train", "--kind", "char", "--pattern", "gpt2", "--out", "x.json"],
            "char takes no --p",
        ),
        (
            ["train", "--kind", "bpe", "--pattern", "gpt", "--out", "x.json"],
            "unknown pattern 'g",
        ),
        (["train", "--kind", "bpe", "--data", "no.txt", "--out", "x.json"], "no.txt: no such file"),
        (["train", "--kind", "bpe", "--min-frequency", "-1", "--out", "x.json"], "at least 0, got"),
        (
            ["train", "--kind", "unigram", "--character-coverage", 7, "--out", "x.model"],
            "at most 1",
        ),
        (["encode", "-t", "no.json"], "no.json: cannot be read: No such file"),
        (["encode", "-t", "byte", "no.txt"], "cannot read no.txt: No such file"),
        (["encode", "-t", "byte", "--text", "a", "b.txt"], "either --text or a file"),
        (["encode", "-t", "byte", "--text", "a", "--special", "<s>"], "no special token '<s>'"),
        (["decode", "-t", "byte", "words.txt"], "words.txt: ids are whole numbers, got 'two'"),
        (["decode", "-t", "byte", "large.txt"], "[0, 257)"),
        (["decode", "-t", "byte", "huge.txt"], "huge.txt: ids must be in [0, 257), got 99999"),
        (["decode", "-t", "byte", "long.txt"], "long.txt: ids are whole numbers, got '99999"),
        (["show", "-t", "byte", "--text", "a", "--special", "nope"], "no special token 'nope'; t"),
        (["encode", "-t", "words.txt@gpt2"], "words.txt"),
        (["encode", "-t", "other.json"], "other.json: JSON, but no tokenizer"),
        (["encode", "-t", "unigram.json"], "of the model 'Unigram'; BPE and WordPiece are read"),
        (["encode", "-t", "vocab.json"], "no merges.txt here"),
        (["encode", "-t", "a.tiktoken"], "does not say how texts are cut"),
        (["encode", "-t", "gpt2-vocab.json"], "whose files must be vocab.json and merges.txt"),
        (
            ["encode", "-t", "words.txt"],
            "words.txt: no tokenizer's file; plain text is read as BERT's vocab.txt",
        ),
        (["encode", "-t", "list.json"], "list.json: no tokenizer: a tokenizer's JSON is an object"),
        (["encode", "-t", "void.json"], "void.json: the file is empty"),
        (["encode", "-t", "gpt2-vocab.json"], "no tokenizer, unless it is a part of GPT-2's"),
        (["encode", "-t", "char"], "(a char tokenizer is trained first: minillm tokenize train"),
        (["encode", "-t", "a.tiktoken@nope"], "no pattern 'nope'; there are: "),
        (["show", "-t", "byte", "no.txt"], "no.txt: no such file"),
        (["encode", "-t", "empty"], "empty: no tokenizer in this folder"),
        (["show", "-t", "byte", "-t", "byte", "--text", "a"], "a tokenizer is named twice"),
        (["encode"], "missing option '--tokenizer'"),
    ],
)
def test_a_mistake_is_named(mistake, args, message):
    Path("empty").mkdir()
    Path("words.txt").write_text("1 two")
    Path("large.txt").write_text("1 9999")
    Path("huge.txt").write_text("1 " + "9" * 23)
    Path("long.txt").write_text("1 " + "9" * 5000)
    Path("other.json").write_text('{"a": "b"}')
    Path("vocab.json").write_text('{"a": 1}')
    Path("gpt2-vocab.json").write_text('{"a": 1}')
    Path("list.json").write_text("[1, 2]")
    Path("void.json").write_text("")
    Path("unigram.json").write_text('{"model": {"type": "Unigram"}}')
    Path("a.tiktoken").write_text("YQ== 0\nYg== 1\n")
    assert message in mistake("tokenize", *args)


def test_a_vocabulary_of_another_size_is_told(minillm, book):
    train = ["tokenize", "train", "--data", book, "--out", "t.json", "--kind"]
    for kind, size, why in (
        ("wordpiece", 5, "asked for 5, but the characters of the text alone are more"),
        ("bpe", 99999, "asked for 99,999, but the text has no more"),
        ("unigram", 99999, "asked for 99,999, but the text has no more"),
    ):
        assert f"note: {why}" in minillm(*train, kind, "--vocab-size", size).out
    out = minillm(*train, "bpe", "--vocab-size", 300).out
    assert "note" not in out
    assert "bytes a token in the text's first document, " in out
    args = ["--tokenizer", "bpe", "--vocab-size", 99999, "--out", "run"]
    out = minillm("train", "unigram", "--data", book, *args).out
    assert "; asked for 99,999, but the text has no more" in out


def test_one_text_is_one_line(minillm, book):
    minillm("tokenize", "train", "--kind", "wordpiece", "--data", book, "--out", "t.json")
    out = minillm("tokenize", "encode", "-t", "t.json", "--text", "the cat sleeps. The cat").out
    ids = load_tokenizer_file("t.json").encode("the cat sleeps. The cat")
    assert out == " ".join(map(str, ids)) + "\n"


def test_text_that_is_no_utf8_is_named(mistake, monkeypatch):
    feed(monkeypatch, b"abc\xff")
    assert "standard input: not UTF-8 at byte 3" in mistake("tokenize", "encode", "-t", "byte")
