"""The merges of a text, step by step: they must end where the tokenizer does."""

import html
import itertools
import json
import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.tokenizers import BPETokenizer, ByteTokenizer
from minillm.viz.merges import MergesView, merge_figure, merge_steps
from minillm.viz.merges_steps import MOST

TEXT = "the cat sat there, and then the mat 水水 was théré's; the hat </b>"
TOKENIZER = BPETokenizer.train(TEXT * 3, vocab_size=290)
WITHOUT_MERGES = BPETokenizer(TOKENIZER.vocabulary, None)
WITH_SPACE = BPETokenizer(TOKENIZER.vocabulary, TOKENIZER.merges, add_prefix_space=True)
WORDS = st.lists(st.sampled_from([*TEXT.split(" "), "\n", "é", "水"]), min_size=1, max_size=8)


def tokens_of(step):
    return [token for word in step.words for token in word]


@given(
    text=st.one_of(st.text(min_size=1, max_size=20), WORDS.map(" ".join)),
    tokenizer=st.sampled_from([TOKENIZER, WITHOUT_MERGES, WITH_SPACE]),
)
def test_steps_lead_from_bytes_to_the_tokenizers_own_tokens(text, tokenizer):
    steps = merge_steps(text, tokenizer)
    told = (" " if tokenizer is WITH_SPACE and text[0] != " " else "") + text
    assert tokens_of(steps[0]) == [bytes([byte]) for byte in told.encode()]
    found = [tokenizer.id_of(token) for token in tokens_of(steps[-1])]
    assert found == tokenizer.encode(text).tolist()
    for before, after in itertools.pairwise(steps):
        assert b"".join(tokens_of(after)) == told.encode()
        assert after.tokens < before.tokens
        assert b"".join(after.pair) in tokens_of(after)


def test_steps_by_hand():
    merges = [(b"t", b"h"), (b"th", b"e"), (b" ", b"the")]
    bytes_ = [bytes([byte]) for byte in range(256)]
    tokens = [*bytes_, *(a + b for a, b in merges)]
    tokenizer = BPETokenizer({token: i for i, token in enumerate(tokens)}, merges)
    steps = merge_steps("the the", tokenizer)
    assert [step.pair for step in steps] == [None, *merges]
    assert [step.rank for step in steps] == [None, 0, 1, 2]
    assert [step.tokens for step in steps] == [7, 5, 3, 2]
    assert steps[2].words == ((b"the",), (b" ", b"the"))


def test_a_word_that_is_a_token_is_one_even_if_no_merges_lead_there():
    vocabulary = {bytes([byte]): byte for byte in range(256)} | {b"abc": 256}
    tokenizer = BPETokenizer(vocabulary, None)
    last = merge_steps("abc ab", tokenizer)[-1]
    assert (last.pair, last.words) == (None, ((b"abc",), (b" ", b"a", b"b")))
    assert "tokens themselves" in MergesView("abc", tokenizer).data()["steps"][-1]["pair"]


def test_the_picture_holds_every_token_and_frames_the_last_ones():
    text = "the cat sat thé 水"
    figure = merge_figure(text, TOKENIZER, title="merges")
    (axes,) = figure.axes
    steps = merge_steps(text, TOKENIZER)
    framed = [patch for patch in axes.patches if patch.get_linewidth() > 0]
    assert len(framed) == steps[-1].tokens
    spans = {
        (place, sum(map(len, word[:k])), token)
        for step in steps
        for place, word in enumerate(step.words)
        for k, token in enumerate(word)
    }
    assert len(axes.patches) == len(spans)
    words = [found.get_text() for found in axes.texts]
    assert {"the", "E6"} <= set(words) | set(" ".join(words).split())
    figure.canvas.draw()


def test_a_long_text_goes_on_in_the_next_line():
    short, long = (merge_figure("the cat " * many, TOKENIZER) for many in (2, 12))
    assert long.get_figwidth() < 3 * short.get_figwidth()
    assert long.get_figheight() > 1.8 * short.get_figheight()


def test_the_view_has_every_step_and_speaks_without_javascript():
    view = MergesView(TEXT, TOKENIZER)
    page = view.page()
    found = re.search(r"const data = (\{.*?\});\n", page, re.S)
    data = json.loads(found.group(1))
    steps = merge_steps(TEXT, TOKENIZER)
    assert [len(step["tokens"]) for step in data["steps"]] == [step.tokens for step in steps]
    assert data["bytes"] == len(TEXT.encode())
    for step, told in zip(steps[1:], data["steps"][1:], strict=True):
        new = [label for label, _, fresh in told["tokens"] if fresh]
        assert len(new) == tokens_of(step).count(b"".join(step.pair)) > 0
        assert f"merge {step.rank + 1} of" in told["pair"]
    body = view.body()
    spans = re.findall(r'<span class="c\d">(.*?)</span>', body)
    assert [html.unescape(text) for text in spans] == [t[0] for t in data["steps"][-1]["tokens"]]
    assert "</b>" not in body
    assert view.figure().axes
    assert "srcdoc" in view._repr_html_()


def test_pieces_have_the_colour_of_the_token_they_end_up_in():
    first, *_, last = MergesView("the cat", TOKENIZER).data()["steps"]
    colours = [colour for _, colour, _ in first["tokens"]]
    sizes = [len(token) for token in tokens_of(merge_steps("the cat", TOKENIZER)[-1])]
    ends = [c for (_, c, _), size in zip(last["tokens"], sizes, strict=True) for _ in range(size)]
    assert colours == ends


def test_what_cannot_be_merged_is_refused():
    with pytest.raises(UserError, match=r"BPE tokenizer's, got a ByteTokenizer"):
        merge_steps("a", ByteTokenizer())
    with pytest.raises(UserError, match=f"1 to {MOST} bytes, got 0"):
        merge_steps("", TOKENIZER)
    with pytest.raises(UserError, match=f"got {MOST + 2}"):
        merge_steps("é" * (MOST // 2 + 1), TOKENIZER)
