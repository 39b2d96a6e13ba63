"""The view of a text in tokens, and bytes per token by language."""

import html
import itertools
import re
from html.parser import HTMLParser

import click
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.errors import UserError
from minillm.tokenizers import ByteTokenizer, CharTokenizer
from minillm.tokenizers.word import WordTokenizer
from minillm.tokenizers.wordpiece import WordPieceTokenizer
from minillm.viz import bytes_per_token, bytes_per_token_bars, bytes_per_token_table, save
from minillm.viz.languages import SAMPLES
from minillm.viz.style import fonts
from minillm.viz.tokens import TokenView, visible

TEXT = "The cat's 水\n\tsat $5 \x1b[31m & <b>"
TOKENIZERS = {
    "word": WordTokenizer.train(TEXT.replace("5", "6")),
    "wordpiece": WordPieceTokenizer.train("the cat sat & cats", vocab_size=60, min_frequency=1),
    "byte": ByteTokenizer(),
    "char": CharTokenizer.train("abc"),
}
ANY_TEXT = st.text(st.one_of(st.characters(codec="utf-8"), st.sampled_from("\n\t \x1bab水e\u0301")))


def plain(view):
    return view.terminal(colour=False).splitlines()


def test_the_view_by_hand():
    view = TokenView("The cat\nsat 水", {"w": TOKENIZERS["wordpiece"], "b": ByteTokenizer()})
    assert plain(view) == [
        "w: 4 tokens, 3.75 bytes each, 1 unknown",
        "[The]␣[cat]⏎",
        "[sat]␣[?水]",
        "",
        "b: 15 tokens, 1.00 bytes each",
        "[T][h][e][␣][c][a][t][⏎]",
        "[s][a][t][␣][<0xE6>][<0xB0>][<0xB4>]",
    ]
    assert plain(TokenView("ab", ByteTokenizer(), ids=True))[1] == "[a=97][b=98]"
    assert plain(TokenView("", ByteTokenizer()))[0] == "byte: 0 tokens"
    words = WordTokenizer.train("cat sat")
    assert plain(TokenView("cat \x1bsat", words))[1] == "[cat][?␣<U+001B>][?sat]"
    assert repr(view) == view.terminal(colour=False)


@given(text=ANY_TEXT, name=st.sampled_from(list(TOKENIZERS)))
def test_all_of_the_text_is_shown_in_order(text, name):
    tokenizer = TOKENIZERS[name]
    view = TokenView(text, {name: tokenizer})
    pieces = view.pieces[name]
    assert [p.id for p in pieces if p.id is not None] == tokenizer.encode(text).tolist()
    assert [p.unknown for p in pieces if p.id is not None] == [
        i == tokenizer.unknown_id for i in tokenizer.encode(text)
    ]
    if name != "byte":
        shown = "".join(p.shown for p in pieces).replace("\N{DOTTED CIRCLE}", "")
        assert shown == "".join(map(visible, text)).replace("\N{DOTTED CIRCLE}", "")


@given(text=ANY_TEXT)
def test_nothing_in_a_text_can_do_anything(text):
    shown = visible(text)
    assert shown.isprintable()
    assert not re.search(r"[\x00-\x20\x7f-\xa0\u200e\u200f\u202a-\u202e\u2066-\u2069]", shown)
    for line in TokenView(text, TOKENIZERS).terminal(colour=True).split("\n"):
        assert "\x1b[31m" not in click.unstyle(line)
        assert click.unstyle(line).isprintable()


def test_white_space_and_signs_are_visible():
    assert visible(" \t\r\n\xa0") == "␣⇥↵⏎<U+00A0>"
    assert visible("\u202ea\x1b") == "<U+202E>a<U+001B>"
    assert visible("\u0301") == "\N{DOTTED CIRCLE}\u0301"
    assert visible("e\u0301") == "e\u0301"


def test_colours_only_in_a_terminal_that_wants_them(monkeypatch):
    view = TokenView("ab cd", TOKENIZERS["word"])
    assert "\x1b[" not in view.terminal()
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    monkeypatch.delenv("NO_COLOR", raising=False)
    assert "\x1b[" in view.terminal()
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b[" not in view.terminal()
    assert "\x1b[" in view.terminal(colour=True)


def test_neighbours_differ_in_colour():
    coloured = TokenView("abc", ByteTokenizer()).terminal(colour=True)
    backgrounds = re.findall(r"\x1b\[48;2;[\d;]+m", coloured)
    assert len(set(backgrounds)) == len(backgrounds) == 3
    assert click.unstyle(coloured).split("\n")[1] == "abc"


class Reader(HTMLParser):
    """What of a page can be read, and which tags it is made of."""

    def __init__(self, page):
        super().__init__()
        self.text, self.tags, self.titles, self._style = "", [], [], False
        self.feed(page)

    def handle_starttag(self, tag, attributes):
        self.tags.append(tag)
        self.titles += [value for name, value in attributes if name == "title"]
        self._style = tag == "style"

    def handle_endtag(self, tag):
        self._style = False

    def handle_data(self, data):
        self.text += "" if self._style else data


@given(text=ANY_TEXT)
def test_the_page_shows_the_text_and_lets_none_of_it_act(text):
    view = TokenView("<script>&amp;" + text, {"<words>": TOKENIZERS["word"]})
    page = Reader(view.page())
    shown = "".join(p.shown for p in view.pieces["<words>"])
    assert page.text.strip().endswith(shown)
    assert "<words> " in page.text
    assert "script" not in page.tags
    assert set(page.tags) <= {
        *("html", "head", "meta", "title", "body", "style", "div", "section"),
        *("h4", "small", "p", "span", "wbr", "br", "i", "sub"),
    }
    assert page.tags.count("span") == sum(p.id is not None for p in view.pieces["<words>"])


def test_the_notebook_gets_the_same_with_numbers_and_names():
    view = TokenView("the cats", TOKENIZERS["wordpiece"], ids=True)
    page = view._repr_html_()
    assert page == view.html()
    assert "http" not in page
    ids = TOKENIZERS["wordpiece"].encode("the cats").tolist()
    assert [int(i) for i in re.findall(r"<sub>(\d+)</sub>", page)] == ids
    titles = Reader(page).titles
    assert titles == [f"{i}: {TOKENIZERS['wordpiece'].token_name(i)}" for i in ids]
    assert html.escape("<U+001B>") in TokenView("\x1b", ByteTokenizer()).html()


def test_special_tokens_are_shown_where_asked_for():
    text = "the<|endoftext|>"
    view = TokenView(text, {"b": ByteTokenizer(), "w": TOKENIZERS["wordpiece"]}, special="all")
    assert view.pieces["b"][-1].id == 256
    assert view.pieces["b"][-1].shown == "<|endoftext|>"
    assert len(view.pieces["w"]) > 3
    named = TokenView("a[SEP]<|endoftext|>", TOKENIZERS, special=["[SEP]"])
    assert named.pieces["wordpiece"][1].id == TOKENIZERS["wordpiece"].end_id
    assert named.pieces["byte"][-1].id == ord(">")
    for wrong in ("[NONE]", ["[SEP]", "[NONE]"]):  # a name that none of them has
        with pytest.raises(UserError, match=r"no special token '\[NONE\]'; there are: <\|endof"):
            TokenView("a", TOKENIZERS, special=wrong)


@pytest.mark.parametrize("ids", [False, True])
def test_the_picture_has_a_box_for_each_token(ids, tmp_path):
    text = TEXT + SAMPLES["Hindi"][:9] + SAMPLES["Arabic"][:9]
    view = TokenView(text, TOKENIZERS, ids=ids)
    figure = view.figure(width=5, title="A $title")
    boxes = figure.axes[0].patches
    pieces = [p for row in view.pieces.values() for p in row if p.id is not None]
    assert len(boxes) == len(pieces)
    words = [t.get_text() for t in figure.axes[0].texts]
    assert [w for w in words if w in TOKENIZERS] == list(TOKENIZERS)
    if ids:
        assert {str(p.id) for p in pieces} <= set(words)
    left, right = zip(*((b.get_x(), b.get_x() + b.get_width()) for b in boxes), strict=True)
    assert min(left) > 0
    assert max(right) < 5 * 72
    tops = np.array([b.get_y() for b in boxes])
    for row in np.unique(tops):  # no two in a line overlap
        edges = sorted((a, b) for a, b, t in zip(left, right, tops, strict=True) if t == row)
        assert all(a[1] < b[0] + 0.01 for a, b in itertools.pairwise(edges))
    save(figure, tmp_path / "tokens.png")


def test_a_title_can_be_anything(tmp_path):
    figure = TokenView("a", ByteTokenizer()).figure(title="cost $x_{ and $y 水\x1b")
    title = figure.axes[0].texts[0]
    assert title.get_text() == r"cost \$x_{ and \$y 水"
    assert title.get_fontfamily() == fonts()
    save(figure, tmp_path / "title.png")


def test_a_long_text_is_drawn_in_part(tmp_path, monkeypatch):
    monkeypatch.setattr("minillm.viz.tokens_picture.MOST", 150)
    figure = TokenView("ab" * 600, ByteTokenizer()).figure()
    assert len(figure.axes[0].patches) == 150
    assert figure.axes[0].texts[-1].get_text() == "and 1,050 more"
    save(TokenView("", ByteTokenizer()).figure(), tmp_path / "empty.png")


# Bytes per token


def test_bytes_per_token_by_hand():
    held = bytes_per_token(
        {"byte": ByteTokenizer(), "char": CharTokenizer("ab水")}, {"x": "ab水", "y": "aé", "z": ""}
    )
    assert held["x"]["byte"].per_token == 1
    assert held["x"]["char"].per_token == 5 / 3
    assert held["y"]["char"].per_token == 1 / 2  # é is lost
    assert held["y"]["char"].unknown == 2 / 3
    assert np.isnan(held["z"]["char"].per_token)
    assert bytes_per_token_table(held).splitlines() == [
        "bytes per token  byte                char",
        "x                1.00                1.67",
        "y                1.00  0.50 (67% unknown)",
        "z                 nan                 nan",
    ]


def test_bars_are_as_long_as_the_numbers(tmp_path):
    held = bytes_per_token({"byte": ByteTokenizer(), "char": CharTokenizer.train(SAMPLES["Greek"])})
    figure = bytes_per_token_bars(held, title="Bytes")
    axes = figure.axes[0]
    widths = [bar.get_width() for bar in axes.patches]
    expected = [row[name].per_token for name in ("byte", "char") for row in held.values()]
    np.testing.assert_allclose(widths, expected)
    assert [label.get_text() for label in axes.get_yticklabels()] == list(SAMPLES)
    assert [text.get_text() for text in axes.get_legend().get_texts()] == ["byte", "char"]
    notes = [text.get_text().strip() for text in axes.texts]
    assert len(notes) == sum(row["char"].unknown_bytes > 0 for row in held.values())
    assert held["Greek"]["char"].unknown_bytes == 0
    save(figure, tmp_path / "bars.png")
    with pytest.raises(ValueError, match="at least one language and one tokenizer"):
        bytes_per_token_bars({})
