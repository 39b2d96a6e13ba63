"""N-gram models from the command line: smoothings, ARPA files, one table."""

import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from minillm.cli.settings import SMOOTHINGS
from minillm.cli.words import NUMBERS
from minillm.data import Document, load_corpus
from minillm.data.prepare import by_line, prepare, split_lines
from minillm.metrics import evaluate
from minillm.models.language_model import load_model
from minillm.models.ngram import NGram

WORDS = ["--tokenizer", "whitespace", "--lines", "--order", 3]
SETTINGS = {
    "add-k": ["--k", 0.5],
    "absolute-discounting": ["--discount", 0.6],
    "katz": ["--cutoff", 3],
    "stupid-backoff": ["--factor", 0.3],
    "jelinek-mercer": ["--buckets", 2],
}


@pytest.mark.parametrize("smoothing", SMOOTHINGS)
def test_every_smoothing_can_be_trained(minillm, book, smoothing):
    options = ["--smoothing", smoothing, "--order", 3, *SETTINGS.get(smoothing, [])]
    done = minillm("train", "ngram", "--data", book, "--out", "run", *options)
    assert (done.code, done.err) == (0, ""), done
    scores = smoothing == "stupid-backoff"
    assert ("gives scores, not probabilities" in done.out) == scores
    assert ("n/a" in done.out) == scores
    model = load_model("run/best")
    assert model.config.smoothing == smoothing
    for note in model.notes:
        assert f"note: {note}" in done.out
    if smoothing == "mle":
        assert "impossible to the model, the first" in done.out
    if smoothing in SETTINGS:
        flag, value = SETTINGS[smoothing]
        assert getattr(model.config, flag.removeprefix("--")) == value
    assert str(evaluate(model, prepare(str(book)).split.test)) in minillm("eval", "run").out


def test_weights_are_found_on_the_validation_part(minillm, book):
    common = ["train", "ngram", "--data", book, "--smoothing", "jelinek-mercer", "--order", 2]
    done = minillm(*common, "--out", "a")
    text = prepare(str(book))
    settings = {"order": 2, "smoothing": "jelinek-mercer"}
    expected = NGram.train(text.train, text.tokenizer, held_out=text.validation, **settings)
    assert load_model("a/best").config == expected.config
    assert "the rest counted" not in done.out
    done = minillm(*common, "--split", "0.9,0,0.1", "--out", "b")
    assert "note: weights found on the last" in done.out, done


def test_pruning_and_the_kenlm_mode_arrive(minillm, book):
    common = ["train", "ngram", "--data", book, *WORDS]
    minillm(*common, "--out", "a", "--prune", "0,0,1", "--compatibility", "kenlm")
    text = prepare(str(book), tokenizer="whitespace", lines=True)
    settings = {"order": 3, "prune": (0, 0, 1), "compatibility": "kenlm"}
    expected = NGram.train(text.train, text.tokenizer, **settings)
    assert load_model("a/best").n_parameters == expected.n_parameters
    Path("t.toml").write_text('order = 3\nprune = [0, 0, 1]\ncompatibility = "kenlm"\nlines = true')
    minillm(*common[:4], "--tokenizer", "whitespace", "--config", "t.toml", "--out", "b")
    assert load_model("b/best").config == load_model("a/best").config


@pytest.mark.parametrize("name", ["m.arpa", "m.arpa.gz"])
def test_an_arpa_file_is_the_model(minillm, book, name):
    done = minillm("train", "ngram", "--data", book, *WORDS, "--out", "run", "--arpa", name)
    assert f"{name}: the model as an ARPA file" in done.out
    run = minillm("eval", "run", "--data", book, "--json", "run.json")
    file = minillm("eval", name, "--data", book, "--json", "file.json")
    assert (run.code, file.code) == (0, 0), file
    mine = json.loads(Path("run.json").read_text())["run"]
    its = json.loads(Path("file.json").read_text())[name]
    assert its["bits_per_byte"] == pytest.approx(mine["bits_per_byte"], rel=1e-6)
    assert its["tokens"] == mine["tokens"]
    assert minillm("export", "run", "--arpa", f"again-{name}").code == 0
    assert Path(f"again-{name}").read_bytes() == Path(name).read_bytes()


def test_an_arpa_file_of_other_tokens_needs_their_tokenizer(minillm, book):
    args = ["--data", book, "--order", 3]
    minillm("train", "ngram", *args, "--out", "run", "--arpa", "m.arpa")
    out = minillm("eval", "m.arpa", "--data", book, "--tokenizer", "run", "--json", "a.json")
    assert out.code == 0, out
    minillm("eval", "run", "--data", book, "--json", "b.json")
    a, b = (json.loads(Path(n).read_text()) for n in ("a.json", "b.json"))
    assert a["m.arpa"]["bits_per_byte"] == pytest.approx(b["run"]["bits_per_byte"], rel=1e-6)


def test_kenlm_reads_what_was_written(minillm, book):
    kenlm = pytest.importorskip("kenlm")
    minillm("train", "ngram", "--data", book, *WORDS, "--out", "run", "--arpa", "m.arpa")
    theirs = kenlm.Model("m.arpa")
    lines = [d.text for d in by_line(load_corpus(str(book)).documents)]
    total = sum(theirs.score(line) for line in lines)
    told = evaluate(load_model("run/best"), [Document("d", line) for line in lines])
    assert -total * 2.302585092994046 == pytest.approx(told.nats_per_token * told.tokens, rel=1e-5)


def test_lines_are_split_whole_and_empty_ones_stay():
    documents = by_line([Document("a", "one\n\ntwo\nthree"), Document("b", "four\n")])
    assert [d.text for d in documents] == ["one", "", "two", "three", "four"]
    assert documents[2].name == "a:3"
    for fractions in ((1, 0, 0), (0.5, 0.25, 0.25), (0, 0, 1), (0.8, 0.1, 0.1)):
        split = split_lines(documents, fractions)
        assert [*split.train, *split.validation, *split.test] == documents
        for part, share in zip(
            (split.train, split.test), (fractions[0], fractions[2]), strict=True
        ):
            assert (len(part) == 0) == (share == 0) or 0 < share < 0.3


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--smoothing", "kneser"], "unknown smoothing 'kneser': did you mean kneser-ney?"),
        (["--k", 1], "modified-kneser-ney has no k: it is for add-k"),
        (["--smoothing", "add-k", "--k", 0], "k must be"),
        (["--prune", "1,0"], "prune must be at most 5 whole numbers"),
        (["--prune", "a"], "prune must be whole numbers like 0,0,1, got 'a'"),
        (["--compatibility", "srilm"], "unknown compatibility 'srilm': "),
        (["--smoothing", "add-k", "--arpa", "m.arpa"], "add-k has no back-off weights, which --ar"),
        (["--tokenizer", "word", "--vocab-size", 1], "vocab_size must be above"),
        (["--tokenizer", "char", "--vocab-size", 10], "no vocab_size to choose"),
        (["--tokenizer", "none.json"], "unknown tokenizer 'none.json', and no such file"),
    ],
)
def test_a_wrong_setting_is_named(mistake, book, args, message):
    assert message in mistake("train", "ngram", "--data", book, "--out", "run", *args)
    assert not Path("run").exists()


def test_other_models_take_no_n_gram_settings(mistake, trained, book):
    error = mistake("train", "gpt", "--out", "r", "--smoothing", "katz")
    assert "gpt takes no --smoothing: it is for ngram" in error
    assert "unigram takes no --arpa" in mistake(
        "train", "unigram", "--out", "r", "--arpa", "m.arpa"
    )
    error = mistake("export", trained / "gpt", "--arpa", "m.arpa")
    assert "an ARPA file holds an n-gram model, not one of kind gpt" in error
    Path("m.arpa").write_text("no model")
    assert "m.arpa" in mistake("eval", "m.arpa", "--data", book)
    Path("m.bin").write_text("no model")
    assert "m.bin: a file; a run is a folder" in mistake("eval", "m.bin")
    error = mistake("eval", trained / "ngram", trained / "ngram")
    assert "named twice" in error


def test_runs_on_other_texts_do_not_stand_in_one_table(minillm, mistake, trained, book, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("Quite another text. " * 20)
    minillm("train", "unigram", "--data", other, "--out", "run")
    assert "name one for both with --data" in mistake("eval", "run", trained / "ngram")
    assert minillm("eval", "run", trained / "ngram", "--data", book).code == 0


def test_words_are_written_with_spaces_between(minillm, book):
    minillm("train", "ngram", "--data", book, *WORDS, "--out", "run", "--arpa", "m.arpa")
    texts = []
    for run in ("run", "m.arpa"):
        for how in (["--seed", 3], ["--seed", 3, "--stream"], ["--beams", 2]):
            done = minillm(
                "generate", run, "--prompt", "The miller's boy", "-n", 5, "--no-stop", *how
            )
            assert done.out.startswith("The miller's boy "), done
            words = done.out.split()
            assert set(words) <= {*book.read_text().split(), "<unk>"}
        texts.append(done.out)
    assert texts[0] == texts[1]


@pytest.mark.parametrize("mix", ["linear", "log-linear"])
def test_a_mixture_stands_in_the_table(minillm, mistake, trained, book, mix):
    minillm("train", "unigram", "--data", book, "--out", "run")
    done = minillm("eval", trained / "ngram", "run", "--mix", mix, "--json", "e.json")
    assert done.code == 0, done
    told = json.loads(Path("e.json").read_text())
    assert told[f"{mix} mixture"]["kind"] == f"{mix}-mixture"
    assert f"{mix} mixture: weights 0." in done.out or "weights 1." in done.out
    best = min(row["bits_per_byte"] for name, row in told.items() if "mixture" not in name)
    assert told[f"{mix} mixture"]["bits_per_byte"] < best + 0.1
    error = mistake("eval", trained / "ngram", "run", "--mix", mix, "--part", "validation")
    assert "finds its weights on the validation part" in error


def test_an_arpa_file_of_pieces_wants_its_tokenizer(minillm, mistake, book):
    common = ["train", "ngram", "--data", book, "--order", 3]
    minillm(*common, "--out", "run", "--arpa", "m.arpa")
    minillm("export", "run", "--arpa", "m.arpa.gz")
    minillm("train", "ngram", "--data", book, *WORDS, "--out", "words", "--arpa", "w.arpa")
    for name in ("m.arpa", "m.arpa.gz"):
        for command in (["eval", name, "--data", book], ["generate", name]):
            assert f"name their tokenizer, as in {name}@tok.json" in mistake(*command)
    done = minillm("eval", "m.arpa@run", "w.arpa", "run", "--data", book, "--json", "e.json")
    assert done.code == 0, done
    told = json.loads(Path("e.json").read_text())
    assert told["m.arpa@run"]["bits_per_byte"] == pytest.approx(told["run"]["bits_per_byte"])
    assert (told["run"]["tokenizer"], told["w.arpa"]["tokenizer"]) == ("char", "whitespace")
    assert f"whitespace {told['w.arpa']['vocab_size']}" in done.out
    assert minillm("generate", "m.arpa@run", "-n", 5).code == 0
    assert minillm("export", "m.arpa@run", "--arpa", "again.arpa").code == 0
    assert Path("again.arpa").read_bytes() == Path("m.arpa").read_bytes()
    for runs in (["run"], ["m.arpa@run", "run"]):
        error = mistake("eval", *runs, "--data", book, "--tokenizer", "run")
        assert "--tokenizer is for ARPA files that do not name theirs" in error
    assert "--mix is of several RUNs" in mistake("eval", "run", "--mix", "linear")


def test_words_that_are_lost_have_no_price(minillm, book):
    minillm("train", "ngram", "--data", book, *WORDS, "--out", "run")
    Path("other.txt").write_text("The  zebra\nis here.\n")
    out = minillm("eval", "run", "--data", "other.txt").out
    assert "bytes are of words that the model has never seen\n" in out
    assert "8 bits each" not in out


def test_large_perplexities_keep_the_table_narrow():
    row = SimpleNamespace(perplexity=4.22025040827e46)
    assert NUMBERS["perplexity"](row) == "4.2203e+46"
    assert NUMBERS["perplexity"](SimpleNamespace(perplexity=12345.6)) == "12345.600"
