"""A text coloured by surprise, for every kind of model."""

import json
import math
import re
from html.parser import HTMLParser

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.metrics import bits_per_byte
from minillm.models.baselines import Uniform, Unigram
from minillm.models.language_model import LanguageModel
from minillm.models.mixture import LinearMixture
from minillm.models.ngram import NGram
from minillm.tokenizers import ByteTokenizer, CharTokenizer
from minillm.tokenizers.word import WordTokenizer
from minillm.viz.ramp import ink_on, shade
from minillm.viz.style import save
from minillm.viz.surprise import SurpriseView, guesses

TEXT = "the cat sat on the mat & ate <it>\n\tthe hat 水"
CHARS = CharTokenizer.train(TEXT)
IDS = np.append(CHARS.encode(TEXT), CHARS.end_id)


def neural(kind, **settings):
    return LanguageModel.create(kind, CHARS, seed=3, n_layer=1, n_embd=8, **settings)


NGRAM = NGram.train(IDS, CHARS, order=3, smoothing="witten-bell")
MODELS = {
    "uniform": Uniform(CHARS),
    "unigram": Unigram.train(IDS, CHARS),
    "ngram": NGRAM,
    "gpt": neural("gpt", n_head=2, block_size=64),
    "rnn": neural("rnn", n_hidden=8),
    "lstm": neural("lstm", n_hidden=8),
    "gru": neural("gru", n_hidden=8),
    "neural-ngram": LanguageModel.create("neural-ngram", CHARS, seed=3, order=3, n_hidden=8),
}
MODELS["mixture"] = LinearMixture([NGRAM, MODELS["lstm"]], [0.25, 0.75])


class Reader(HTMLParser):
    """The tokens of a page's text, and the tags that it is made of."""

    def __init__(self, page):
        super().__init__()
        self.tags, self.tokens, self.titles, self._inside = [], [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        if tag == "span":
            self._inside = True
            self.tokens.append("")
            self.titles.append(dict(attributes)["title"])

    def handle_endtag(self, tag):
        self._inside = self._inside and tag != "span"

    def handle_data(self, data):
        if self._inside:
            self.tokens[-1] += data


@pytest.mark.parametrize("name", MODELS)
def test_the_bits_are_those_of_the_models_score(name):
    model, view = MODELS[name], SurpriseView(MODELS[name], TEXT)
    nats, _ = model.score(CHARS.encode(TEXT))
    (bits,) = view.bits.values()
    np.testing.assert_allclose(bits, nats / math.log(2), rtol=1e-5)
    each = bits_per_byte(nats, len(TEXT.encode()))
    assert view.per_byte == {model.kind: pytest.approx(each)}
    assert repr(view) == (
        f"{model.kind}: {bits.mean():.2f} bits per token, {each:.2f} bits per byte, "
        f"{len(bits)} tokens"
    )


def test_what_was_expected_by_hand():
    tokenizer = CharTokenizer("ab水")
    p = np.full(tokenizer.vocab_size, 0.0)
    p[tokenizer.encode("a")], p[tokenizer.encode("水")] = 0.75, 0.25
    found = guesses(_Fixed(tokenizer, p), "a水b", top=2)
    assert [g.p for g in found] == pytest.approx([0.75, 0.25, 0])
    assert [g.bits for g in found] == pytest.approx([math.log2(4 / 3), 2, math.inf])
    assert [g.rank for g in found] == [1, 2, 3]
    assert [g.size for g in found] == [1, 3, 1]
    assert found[0].top == [("a", pytest.approx(0.75)), ("水", pytest.approx(0.25))]
    view = SurpriseView({"x": _Fixed(tokenizer, p)}, "a水b")
    assert "impossible" in json.dumps(view.data())
    assert "inf bits per byte" in view.heading("x")
    save_all(view)


class _Fixed(Uniform):
    def __init__(self, tokenizer, p):
        super().__init__(tokenizer)
        self.p = p

    def step(self, past, ids):
        with np.errstate(divide="ignore"):
            return super().step(past, ids)


def save_all(view, **settings):
    """Draw all that a view can draw."""
    view._repr_html_()
    return view.figure(**settings)


def test_the_page_shows_each_token_in_its_shade_and_lets_none_act():
    text = "<script>alert(1)</script> " + TEXT
    view = SurpriseView({"<b>uni</b>": MODELS["unigram"], "ngram": NGRAM}, text)
    page = Reader(view.body())
    rows = view.data()
    assert len(page.tokens) == len(rows) == sum(map(len, view.bits.values()))
    assert "script" not in page.tags
    assert "b" not in page.tags
    shown = [p.shown for held in view.pieces.values() for p in held if p.id is not None]
    assert page.tokens == shown
    kinds = [int(k) for k in re.findall(r'class="s(\d+)', view.body())]
    bits = np.concatenate(list(view.bits.values()))
    np.testing.assert_array_equal(kinds, np.round(np.minimum(bits / view.most, 1) * 15))
    assert "</script><" not in view.page().split("const data")[1].split("\n")[0]
    assert f"{bits[0]:.2f} bits, p = " in page.titles[0]
    assert rows[0][1] == f"{bits[0]:.2f} bits"
    assert "http" not in view.page()


def test_each_place_tells_the_likeliest_tokens():
    view = SurpriseView(NGRAM, TEXT, top=3)
    for row, guess in zip(view.data(), view.guesses["ngram"], strict=True):
        assert [n for n, _, _ in row[3]] == [n for n, _ in guess.top]
        assert len(guess.top) == 3
        assert sorted((p for _, p in guess.top), reverse=True) == [p for _, p in guess.top]
        assert (guess.rank == 1) == (guess.p == guess.top[0][1])


def test_parts_of_a_character_and_unknown_tokens(tmp_path):
    byte = SurpriseView(Uniform(ByteTokenizer()), "é水a")
    assert [g.size for g in byte.guesses["uniform"]] == [None] * 5 + [1]
    assert byte.per_byte["uniform"] == pytest.approx(math.log2(257))
    words = WordTokenizer.train("the cat sat")
    view = SurpriseView(Uniform(words), "the dog  sat")
    assert "not in the vocabulary" in view.data()[1][2]
    lost = words.unknown_bytes("the dog  sat")
    nats = np.full(len(view.bits["uniform"]), math.log(words.vocab_size))
    assert view.per_byte["uniform"] == pytest.approx(bits_per_byte(nats, 12, lost))
    blind = WordTokenizer.train("the cat sat", split="whitespace")
    for text, told in (("the cat", True), ("the  cat", False)):  # its tokens tell no blanks
        assert (SurpriseView(Uniform(blind), text).per_byte["uniform"] is not None) == told
    save(view.figure(), tmp_path / "x.png")


def test_the_picture_and_its_scale(tmp_path):
    view = SurpriseView({"uniform": MODELS["uniform"], "gpt": MODELS["gpt"]}, TEXT, most=4)
    figure = save_all(view, width=5, title="A $title")
    words = [t.get_text() for t in figure.axes[0].texts]
    assert {"0", "1", "≥ 4 bits", "p = 1", "1/2", "≤ 1/16"} <= set(words)
    boxes = [b for b in figure.axes[0].patches if b.get_height() == 14]
    assert len(boxes) == len(view.data())
    save(figure, tmp_path / "x.png")
    save(SurpriseView(NGRAM, "").figure(), tmp_path / "empty.png")
    assert SurpriseView(NGRAM, "").heading("ngram") == "no tokens"
    SurpriseView(NGRAM, "").page()


def test_the_scale_ends_at_a_blind_guess():
    assert SurpriseView(Uniform(ByteTokenizer()), "a").most == 9  # log2 257, rounded up
    assert shade(0) == "#f7fbff"
    assert shade(1) == shade(2) == "#08306b"
    lights = [sum(int(shade(i / 15)[k : k + 2], 16) for k in (1, 3, 5)) for i in range(16)]
    assert lights == sorted(lights, reverse=True)
    assert len(set(lights)) == 16
    assert (ink_on(shade(0)), ink_on(shade(1))) == ("#000000", "#ffffff")


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(UserError, match="gives scores, not a distribution"):
        SurpriseView(NGram.train(IDS, CHARS, order=2, smoothing="stupid-backoff"), "the")
    with pytest.raises(ValueError, match="at least one model, got none"):
        SurpriseView({}, "the")
    with pytest.raises(ValueError, match="most must be above 0 bits, got -1"):
        SurpriseView(NGRAM, "the", most=-1)
