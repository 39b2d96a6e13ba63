import os

import numpy as np
import pytest

from minillm.cli.writing import text_pieces
from minillm.generation import beam_search
from minillm.models.language_model import load_model
from minillm.tokenizers import ByteTokenizer, CharTokenizer

KINDS = ["gpt", "lstm", "ngram"]


@pytest.mark.parametrize("kind", KINDS)
def test_the_seed_decides_the_text(minillm, trained, kind):
    args = ["generate", trained / kind, "--prompt", "The ", "-n", 40, "--no-stop"]
    first, again, other = (minillm(*args, "--seed", s) for s in (1, 1, 2))
    assert first.code == 0
    assert first.err == ""
    assert first.out.startswith("The ")
    assert len(first.out) > 20
    assert first.out == again.out != other.out


@pytest.mark.parametrize("kind", KINDS)
def test_streamed_text_is_the_same(minillm, trained, kind):
    args = ["generate", trained / kind, "--prompt", "A ", "-n", 30, "--temperature", 0.7]
    assert minillm(*args, "--stream").out == minillm(*args, "--no-stream").out


def test_every_sampling_flag_changes_the_text(minillm, trained):
    args = ["generate", trained / "lstm", "--prompt", "The cat", "-n", 60, "--no-stop"]
    plain = minillm(*args).out
    for flag in (
        ["--temperature", 0.1],
        ["--top-k", 2],
        ["--top-p", 0.1],
        ["--min-p", 0.9],
        ["--repetition-penalty", 5],
        ["--greedy"],
    ):
        changed = minillm(*args, *flag)
        assert changed.code == 0
        assert changed.out != plain, flag
    greedy = minillm(*args, "--greedy", "--seed", 1).out
    assert greedy == minillm(*args, "--greedy", "--seed", 2).out == minillm(*args, "--top-k", 1).out


@pytest.mark.parametrize("kind", KINDS)
def test_beams_print_the_best_that_the_search_finds(minillm, trained, kind):
    model = load_model(trained / kind / "best")
    ids = model.tokenizer.encode("The ")
    end = model.tokenizer.end_id
    found = beam_search(model, ids, beams=3, max_new_tokens=12, stop_id=end)
    args = ["generate", trained / kind, "--prompt", "The ", "-n", 12, "--beams", 3]
    assert minillm(*args).out == "The " + model.tokenizer.decode(found[0][0]) + "\n"


def test_an_empty_prompt_begins_a_document(minillm, trained):
    done = minillm("generate", trained / "ngram", "-n", 20, "--greedy")
    assert done.code == 0
    assert done.out[0] in "0123456789"  # every line of the text begins so


def test_a_checkpoint_is_a_run_too(minillm, trained):
    args = ["--prompt", "A", "-n", 10]
    whole = minillm("generate", trained / "gpt", *args).out
    assert minillm("generate", trained / "gpt" / "best", *args).out == whole
    step = (trained / "gpt" / "best").resolve()
    assert minillm("generate", step, *args).out == whole


def test_a_run_means_its_best_weights_or_else_its_last(minillm, own_gpt, trained):
    args = ["-n", 10, "--greedy"]
    last = minillm("generate", own_gpt, *args).out
    os.unlink(own_gpt / "best")
    assert minillm("generate", own_gpt, *args).out == last
    os.symlink(trained / "ngram" / "last", own_gpt / "best")
    assert minillm("generate", own_gpt, *args).out != last
    assert minillm("generate", own_gpt / "last", *args).out == last


def test_backends_agree_and_both_run(minillm, trained):
    args = ["generate", trained / "gpt", "--prompt", "A", "-n", 10, "--greedy"]
    assert minillm(*args, "--backend", "numpy").out == minillm(*args, "--backend", "fast").out


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--prompt", "über ☃☃"], "never seen: 'ü' (U+00FC), '☃' (U+2603)"),
        (["--temperature", 0], "temperature must be a number above 0"),
        (["--temperature", "nan"], "temperature must be a number above 0"),
        (["--top-k", 0], "top_k must be a whole number of at least 1, got 0"),
        (["--top-p", 1.5], "top_p must be above 0 and at most 1, got 1.5"),
        (["--min-p", -1], "min_p must be from 0 to 1, got -1.0"),
        (["--repetition-penalty", 0], "repetition_penalty must be from 1e-6 to 1e6"),
        (["-n", -1], "max_new_tokens must be a whole number of at least 0, got -1"),
        (["--seed", -1], "seed must be at least 0, got -1"),
        (["--beams", 0], "beams must be a whole number of at least 1, got 0"),
        (["--beams", 2, "--top-k", 3], "--beams searches and does not draw: it takes no --top-k"),
        (["--beams", 2, "--greedy"], "--beams searches and does not draw: it takes no --greedy"),
        (["--length-penalty", 1], "--length-penalty is for --beams"),
        (["--backend", "cuda"], "'cuda'; this installation has: cupy, fast, numpy, triton"),
    ],
)
def test_a_wrong_wish_is_refused(mistake, trained, args, message):
    assert message in mistake("generate", trained / "gpt", *args)


def test_pieces_hold_a_character_back_until_it_is_whole():
    tokenizer = ByteTokenizer()
    ids = [*tokenizer.encode("né 你好"), 0xE4, 0xBD, 256, 0x41, 0xFF]
    pieces = list(text_pieces(tokenizer, ids))
    assert pieces[:5] == ["n", "é", " ", "你", "好"]
    assert "".join(pieces) == tokenizer.decode(ids)
    chars = CharTokenizer("ab")
    unknown = [0, 3, 3, 1, 3, 2]
    assert "".join(text_pieces(chars, unknown)) == chars.decode(np.array(unknown))


def test_too_many_tokens_for_the_memory_are_named(mistake, trained, monkeypatch):
    def fail(*args, **kwargs):
        raise MemoryError

    monkeypatch.setattr("minillm.cli.writing.stream_tokens", fail)
    error = mistake("generate", trained / "ngram", "-n", 99999999999)
    assert "99,999,999,999 new tokens: a smaller --max-new-tokens" in error
