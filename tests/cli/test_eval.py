import shutil
from pathlib import Path

import numpy as np
import pytest

from minillm.data import load_corpus, split_documents
from minillm.metrics import evaluate
from minillm.models.language_model import load_model


@pytest.mark.parametrize("kind", ["gpt", "lstm", "ngram"])
def test_scores_the_test_part_of_the_runs_own_text(minillm, trained, book, kind):
    done = minillm("eval", trained / kind)
    split = split_documents(load_corpus(book).documents)
    expected = evaluate(load_model(trained / kind / "best"), split.test)
    assert done.code == 0
    assert done.err == ""
    assert str(expected) in done.out
    assert f"{kind} from {trained / kind}" in done.out
    for args in (["--part", "test", "--data", book], ["--part", "test"]):
        assert minillm("eval", trained / kind, *args).out == done.out
    assert (
        minillm("eval", trained / kind / "best").out.splitlines()[1:] == (done.out.splitlines()[1:])
    )


def test_scores_all_of_another_text(minillm, trained, tmp_path):
    other = tmp_path / "other.txt"
    other.write_text("The cat is here. ☃")
    done = minillm("eval", trained / "gpt", "--data", other)
    expected = evaluate(load_model(trained / "gpt" / "best"), load_corpus(other).documents)
    assert str(expected) in done.out
    assert "3 bytes are of characters that the model has never seen" in done.out


def test_parts_and_splits_can_be_chosen(minillm, trained, book):
    documents = load_corpus(book).documents
    model = load_model(trained / "ngram" / "best")
    half = split_documents(documents, (0.5, 0.25, 0.25))
    done = minillm("eval", trained / "ngram", "--part", "validation", "--split", "0.5,0.25,0.25")
    assert str(evaluate(model, half.validation)) in done.out
    done = minillm("eval", trained / "ngram", "--part", "all")
    assert str(evaluate(model, documents)) in done.out


def test_without_a_test_part_it_is_the_validation_part(minillm, book):
    args = ["--data", book, "--split", "0.9,0.1,0"]
    assert minillm("train", "unigram", "--out", "run", *args).code == 0
    assert "validation of text from" in minillm("eval", "run").out


def test_a_checkpoint_that_left_its_run_needs_a_text(mistake, minillm, trained, book, tmp_path):
    load_model(trained / "gpt" / "best").save(tmp_path / "alone")
    assert "name a text with --data" in mistake("eval", tmp_path / "alone")
    assert minillm("eval", tmp_path / "alone", "--data", book).code == 0


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--part", "tset"], "unknown part 'tset': did you mean test?"),
        (["--split", "1,0,0", "--part", "test"], "the test part is empty"),
        (["--split", "0.5,0.6,0"], "fractions must sum to 1"),
        (["--split", "a,b,c"], "split must be three numbers like 0.8,0.1,0.1, got 'a,b,c'"),
        (["--data", "missing.txt"], "missing.txt: no such file or folder"),
    ],
)
def test_a_wrong_wish_is_refused(mistake, trained, args, message):
    assert message in mistake("eval", trained / "gpt", *args)


def test_a_damaged_run_file_is_named(mistake, own_gpt):
    for text, message in (
        ("{", "run.json is damaged or no JSON"),
        ('{"format": "other"}', "run.json is not of the format"),
        ('{"format": "minillm-settings-1", "model": 3}', "run.json is damaged"),
    ):
        Path(own_gpt, "run.json").write_text(text)
        assert message in mistake("eval", own_gpt)


def test_perplexity_beyond_float64_is_still_a_line(minillm, own_gpt):
    from minillm.files import read_safetensors, save_safetensors

    path = own_gpt / "best" / "weights.safetensors"
    weights = read_safetensors(path)
    weights["norm.gain"] = np.full_like(weights["norm.gain"], 1e6)
    save_safetensors(path, weights)
    done = minillm("eval", own_gpt)
    assert done.code == 0, done
    assert "perplexity inf" in done.out
    worst = "the perplexity is beyond float64: the worst token, "
    assert f". {worst}" in done.out
    shutil.copytree(own_gpt, "again")
    assert f"again: {worst}" in minillm("eval", own_gpt, "again").out
