import io
import json
import sys
from pathlib import Path

import numpy as np
import pytest

from minillm.metrics import bleu, chrf, classification, rouge, sequence_scores, ter
from tests.metrics.texts import LINES

REFERENCE = LINES[:4]
FIRST = [line.replace("and", "then") for line in REFERENCE]
SECOND = [line.replace("the", "a") for line in REFERENCE]
TAGS = ["B-PER I-PER O", "O B-LOC", "O O I-ORG"]
OTHER = ["B-PER O O", "O B-LOC", "O O I-ORG"]


def write(name, lines):
    Path(name).write_text("".join(f"{line}\n" for line in lines))
    return name


@pytest.fixture
def files(minillm):
    return [
        write(name, lines)
        for name, lines in (("a.txt", FIRST), ("b.txt", SECOND), ("r.txt", REFERENCE))
    ]


def test_scores_and_their_signatures(minillm, files):
    first, _, reference = files
    metrics = [part for name in ("bleu", "chrf", "ter", "rouge") for part in ("--metric", name)]
    done = minillm("score", *metrics, first, "--ref", reference, "--json", "out.json")
    expected = [bleu(FIRST, REFERENCE), chrf(FIRST, REFERENCE), ter(FIRST, REFERENCE)]
    expected += rouge(FIRST, REFERENCE).values()
    assert (done.code, done.err) == (0, "")
    assert done.out.splitlines() == [str(result) for result in expected]
    told = json.loads(Path("out.json").read_text())["scores"]
    assert told["bleu"]["score"] == expected[0].score
    assert told["bleu"]["signature"] in done.out
    assert told["rouge"]["rougeL"]["f"] == expected[5].f


def test_settings_reach_their_metric(minillm, files):
    first, second, reference = files
    args = ["--metric", "bleu", "--metric", "chrf", first, "--ref", reference, "--ref", second]
    done = minillm("score", *args, "--tokenizer", "char", "--lowercase", "--word-order", 2)
    several = list(zip(REFERENCE, SECOND, strict=True))
    assert str(bleu(FIRST, several, tokenizer="char", lowercase=True)) in done.out
    assert str(chrf(FIRST, several, lowercase=True, word_order=2)) in done.out
    args = ["--metric", "rouge", "--types", "rouge2,rougeLsum", "--line-break", "<n>"]
    write("s.txt", ["the mill<n>the river"] * 4)
    done = minillm("score", *args, "s.txt", "--ref", reference)
    lines = ["the mill\nthe river"] * 4
    assert done.out.splitlines() == [
        str(r) for r in rouge(lines, REFERENCE, types=("rouge2", "rougeLsum")).values()
    ]


def test_labels_and_tags(minillm):
    target, predicted = ["cat", "dog", "cat", "owl"], ["cat", "cat", "cat", "owl"]
    args = [write("p.txt", predicted), "--ref", write("t.txt", target)]
    done = minillm("score", "--metric", "f1", "--metric", "accuracy", *args)
    assert str(classification(predicted, target)) in done.out
    assert "accuracy 0.7500 (3 of 4)" in done.out
    assert "\ncat   2   0   0\n" in done.out
    args = [write("p.txt", OTHER), "--ref", write("t.txt", TAGS), "--metric", "seqeval"]
    for options, scheme in ([], None), (["--scheme", "IOB2"], "IOB2"):
        done = minillm("score", *args, *options)
        split = [[line.split() for line in lines] for lines in (OTHER, TAGS)]
        found = sequence_scores(*split, scheme=scheme)
        assert (
            f"{found} of entities ({'lenient' if scheme is None else 'strict, IOB2'})" in done.out
        )
    columns = ["he B-PER", "is O", "", "in O", "Rome B-LOC"]
    args = [write("p.txt", columns), "--ref", write("t.txt", columns), "--metric", "seqeval"]
    assert "F1 micro 1.0000" in minillm("score", *args, "--columns").out


def test_two_systems_are_compared(minillm, files):
    first, second, reference = files
    args = ["--metric", "bleu", "--metric", "ter", first, "--ref", reference, "--compare", second]
    done = minillm("score", *args, "--samples", 50, "--seed", 3, "--json", "out.json")
    assert done.code == 0, done
    assert f"BLEU of {second} beside {first}: difference" in done.out
    assert f"TER of {second} beside {first} (less is better): difference" in done.out
    told = json.loads(Path("out.json").read_text())
    comparison = told["comparisons"]["bleu"]["BLEU"]
    expected = bleu(SECOND, REFERENCE).score - bleu(FIRST, REFERENCE).score
    assert comparison["difference"]["score"] == pytest.approx(expected)
    assert comparison["samples"] == 50
    assert told["compared_scores"]["bleu"]["score"] == bleu(SECOND, REFERENCE).score
    again = minillm("score", *args, "--samples", 50, "--seed", 3)
    assert again.out == done.out


@pytest.mark.parametrize("metric", ["chrf", "rouge", "accuracy", "f1"])
def test_every_metric_can_be_compared(minillm, files, metric):
    args = ["--metric", metric, files[0], "--ref", files[2], "--compare", files[2]]
    done = minillm("score", *args, "--samples", 20)
    assert done.code == 0, done
    assert "; better in 100.0% of 20 samples" in done.out


def test_words_that_a_tokenizer_does_not_see_are_told(minillm):
    chinese = ["猫坐在窗边看着外面的雨", "傍晚屋子里很安静没有声音", "", "a cat sits"]
    args = [write("zh.txt", chinese), "--ref", "zh.txt", "--metric"]
    hint = "note: no word of a-z or 0-9 in 4 lines: try --tokenizer unicode\n"
    assert minillm("score", *args, "rouge").out.endswith(hint)
    both = minillm("score", *args, "rouge", "--compare", "zh.txt", "--samples", 2).out
    assert hint.replace("4", "6") in both
    assert "note" not in minillm("score", *args, "rouge", "--tokenizer", "unicode").out
    hint = "note: 4 lines have no spaces between words: try --tokenizer zh\n"
    assert minillm("score", *args, "bleu").out.endswith(hint)
    assert "note" not in minillm("score", *args, "bleu", "--tokenizer", "zh").out


def test_tags_of_another_scheme_are_told(minillm):
    tags = ["B-PER I-PER O", "O B-LOC I-LOC"]
    args = [write("p.txt", tags), "--ref", "p.txt", "--metric", "seqeval"]
    hint = "note: by IOBES the references hold no entity: are their tags of another scheme?\n"
    assert minillm("score", *args, "--scheme", "IOBES").out.endswith(hint)
    assert "note" not in minillm("score", *args, "--scheme", "IOB2").out
    assert "note" not in minillm("score", *args).out


def test_equal_systems_have_no_p(minillm, files):
    args = ["--metric", "bleu", "--metric", "ter", files[0], "--compare", files[0]]
    done = minillm("score", *args, "--ref", files[2], "--samples", 20)
    assert done.out.count("no difference in 20 samples: p means nothing here (seed 12345)") == 2
    assert "p =" not in done.out


def test_less_is_better_the_other_way(minillm, files):
    first, _, reference = files
    args = ["--metric", "ter", first, "--compare", reference, "--ref", reference]
    done = minillm("score", *args, "--samples", 20, "--json", "out.json")
    told = json.loads(Path("out.json").read_text())["comparisons"]["ter"]["TER"]
    assert f"TER of {reference} beside {first} (less is better): difference -" in done.out
    assert "; better in 100.0% of 20 samples" in done.out
    assert told["better"] == 1
    assert told["second"]["score"] == 0 < told["first"]["score"]
    assert told["difference"]["score"] == -told["first"]["score"]
    assert told["difference"]["low"] <= told["difference"]["high"] < 0


def test_entities_are_compared(minillm):
    args = [write("p.txt", OTHER), "--compare", write("t.txt", TAGS), "--ref", "t.txt"]
    done = minillm("score", "--metric", "seqeval", *args, "--samples", 20)
    assert "F1 macro of t.txt beside p.txt: difference" in done.out


def test_standard_input_and_line_ends(minillm, files, monkeypatch):
    text = "".join(f"{line}\r\n" for line in FIRST).encode()
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text)))
    done = minillm("score", "--metric", "bleu", "-", "--ref", files[2])
    assert done.out == f"{bleu(FIRST, REFERENCE)}\n"


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--metric", "blue"], "unknown metric 'blue': did you mean bleu?"),
        ([], "missing option '--metric'"),
        (["--metric", "bleu", "--beta", 2], "bleu takes no --beta: it is for chrf"),
        (["--metric", "bleu", "--tokenizer", "none", "--smoothing", "no"], "smoothing"),
        (["--metric", "bleu", "--samples", 9], "--samples is for --compare"),
        (
            ["--metric", "bleu", "--compare", "b.txt", "--level", 1],
            "level must be a number",
        ),
        (["--metric", "bleu", "--compare", "b.txt", "--seed", "-1"], "seed must be at least 0"),
        (["--metric", "bleu", "--compare", "no.txt"], "no.txt: no such file"),
        (["--metric", "bleu", "--ref", "short.txt"], "a.txt has 4 lines, but short.txt has 1"),
        (["--metric", "f1", "--ref", "b.txt"], "labels have one --ref"),
        (["--metric", "seqeval"], "'the' is no tag"),
        (["--metric", "f1", "--zero-division", 0.5], "--zero-division must be 0 or 1, got 0.5"),
        (["--metric", "seqeval", "--zero-division", "nan"], "must be 0 or 1, got nan"),
        (["--metric", "bleu", "--max-order", 0], "--max-order must be at least 1, got 0"),
        (["--metric", "chrf", "--char-order", "-1"], "char_order must be a whole number"),
        (["--metric", "chrf", "--beta", 0], "beta must be a number above 0"),
        (["--metric", "seqeval", "--scheme", "BIO"], "unknown scheme 'BIO'"),
        (["--metric", "rouge", "--types", "rougeX"], "rougeX"),
        (["--metric", "bleu", "--compare", "b.txt", "--samples", 0], "--samples must be at least"),
        (["--metric", "bleu", "--compare", "b.txt", "--samples", 10**11], "at most 1,000,000, got"),
        (["--metric", "bleu", "--compare", "b.txt", "--level", 95], "such as 0.95, got 95"),
        (["--metric", "bleu", "--metric", "rouge", "--tokenizer", "zh"], "'zh'"),
        (["--metric", "bleu", "--max-order", 10**6], "--max-order must be at most 100, got"),
        (["--metric", "chrf", "--char-order", 10**6], "--char-order must be at most 100, got"),
        (["--metric", "rouge", "--types", "rouge99999999999"], "N of at most 100, got rouge99999"),
    ],
)
def test_a_mistake_is_named_and_nothing_printed(minillm, files, args, message):
    write("short.txt", ["one"])
    done = minillm("score", "a.txt", "--ref", "r.txt", *args)
    assert (done.code, done.out, done.err.count("\n")) == (2, "", 1)
    assert message in done.err


def test_empty_files_are_named(mistake, minillm):
    for name in ("e.txt", "f.txt"):
        Path(name).write_text("")
    assert "there is nothing to score" in mistake(
        "score", "e.txt", "--ref", "f.txt", "--metric", "bleu"
    )


def test_a_quotient_over_zero_may_be_one(minillm):
    args = [write("p.txt", ["a", "a"]), "--ref", write("t.txt", ["b", "a"]), "--metric", "f1"]
    out = minillm("score", *args, "--zero-division", 1).out
    row = next(line for line in out.splitlines() if line.startswith("b "))
    assert [float(x) for x in row.split()[1:4]] == [1.0, 0.0, 0.0]
    assert np.isclose(classification(["a", "a"], ["b", "a"], zero_division=1).macro.precision, 0.75)
