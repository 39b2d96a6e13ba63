"""Modified Kneser-Ney against KenLM: files of its lmplz always, its programs where they are."""

import itertools
import os
import shutil
import subprocess
from pathlib import Path

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.models.ngram_arpa import write_arpa
from minillm.models.ngram_arpa_read import read_arpa
from minillm.models.ngram_text import score_lines, train_on_lines
from tests.models.kenlm_text import sentences

FIXTURES = Path(__file__).parent / "fixtures"
# KenLM computes in 32 bits and prints about 7 digits; the issue asks for 1e-5.
TOL = 2e-6
LINES = sentences()
OTHERS = [*sentences(20, seed=1), "", "the river", "unheard of", "the unheard river", "twice"]


def text_of(lines):
    return "".join(f"{line}\n" for line in lines).encode()


def trained(lines=LINES, order=3, **settings):
    return train_on_lines(text_of(lines), order=order, compatibility="kenlm", **settings)


CASES = {
    "order3": lambda: trained(),
    "pruned": lambda: trained(prune=(0, 1, 2)),
    "fallback": lambda: trained(LINES[:12], 4),
}


def assert_equal_models(found, expected):
    """The same n-grams with the same numbers, whatever the ids."""
    names = found.tokenizer.words
    id_of = {name: i for i, name in enumerate(expected.tokenizer.words)}
    assert sorted(names) == sorted(id_of)
    ours = np.array([id_of[name] for name in names])
    node = ours  # for each n-gram of found, its id in expected
    size = found.vocab_size
    for k, (a, b) in enumerate(zip(found.levels, expected.levels, strict=True)):
        assert len(a.keys) == len(b.keys)
        if k:
            before, node = node, b.find(node[a.keys // size], ours[a.keys % size])
            assert np.all(node >= 0)
            used = np.diff(a.first) > 0  # a weight that nothing uses is not written
            weights = np.log10(a.backoff[used]), np.log10(b.backoff[before][used])
            assert np.allclose(*weights, rtol=0, atol=TOL)
        assert np.allclose(np.log10(a.p), np.log10(b.p[node]), rtol=0, atol=TOL)


@pytest.mark.parametrize("name", CASES)
def test_equals_lmplz(name):
    model = CASES[name]()
    assert_equal_models(model, read_arpa(FIXTURES / f"{name}.arpa.gz"))
    assert bool(model.notes) == (name == "fallback")


def test_the_textbook_differs_by_a_single_count():
    textbook = train_on_lines(text_of(LINES), order=3)
    kenlm = read_arpa(FIXTURES / "order3.arpa.gz")
    a, b = (score_lines(model, LINES)[0] for model in (textbook, kenlm))
    assert 1e-4 < np.abs(a - b).max() < 0.05


def test_scores_are_full_scores_of_the_file():
    model, read = trained(), read_arpa(FIXTURES / "order3.arpa.gz")
    scores, stop = score_lines(model, OTHERS)
    assert np.allclose(scores, score_lines(read, OTHERS)[0], rtol=0, atol=TOL)
    assert stop.tolist() == np.cumsum([len(line.split()) + 1 for line in OTHERS]).tolist()
    with pytest.raises(ValueError, match="1 lines hold 1 line feeds"):
        score_lines(model, ["a\nb"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (b"", "no text"),
        (b"a <s> b\n", "the word '<s>'"),
        (b"a </s>\n", "the word '</s>'"),
        (b"a <unk>\n", "the word '<unk>'"),
        (b"a \xe9\n", "byte 2 is 0xe9"),
        (Path("/no/such/file"), "cannot read /no/such/file: No such file"),
    ],
)
def test_a_text_that_cannot_be_counted(text, message):
    with pytest.raises(UserError, match=message):
        train_on_lines(text, order=2)


@pytest.mark.parametrize("name", CASES)
def test_kenlm_gives_the_same_scores(tmp_path, name):
    kenlm = pytest.importorskip("kenlm")
    model = CASES[name]()
    write_arpa(model, tmp_path / "ours.arpa")
    theirs = kenlm.Model(str(tmp_path / "ours.arpa"))
    expected = [score for line in OTHERS for score, *_ in theirs.full_scores(line)]
    assert np.allclose(score_lines(model, OTHERS)[0], expected, rtol=0, atol=TOL)
    total = sum(theirs.score(line) for line in OTHERS)
    assert abs(score_lines(model, OTHERS)[0].sum() - total) < 1e-3


def test_equals_lmplz_live(tmp_path):
    if not (lmplz := os.environ.get("LMPLZ") or shutil.which("lmplz")):
        pytest.skip("KenLM's lmplz is not here")
    cases = itertools.product(((300, 3), (40, 2), (25, 5), (5, 1)), ((), (0, 1), (0, 0, 2)))
    for (lines, order), prune in cases:
        prune = prune[:order]
        text = sentences(lines, seed=lines + order)
        (tmp_path / "text").write_bytes(text_of(text))
        command = [lmplz, "-o", str(order), "--text", str(tmp_path / "text"), "-S", "100M"]
        command += ["--discount_fallback", "--arpa", str(tmp_path / "arpa"), "-T", str(tmp_path)]
        command += ["--prune", *map(str, prune)] if prune else []
        subprocess.run(command, check=True, capture_output=True)
        model = trained(text, order, prune=prune or None)
        assert_equal_models(model, read_arpa(tmp_path / "arpa"))
