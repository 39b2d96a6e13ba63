"""A generation to step through: it is `generate`'s, and says truly what was cut."""

import math
import re

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.generation import Sampling, generate
from minillm.models.baselines import Uniform
from minillm.models.language_model import LanguageModel
from minillm.models.ngram import NGram
from minillm.tokenizers import CharTokenizer
from minillm.viz.generation_view import GenerationView
from minillm.viz.style import save

TEXT = "the cat sat on the mat & ate <it>\n\tthe hat 水"
CHARS = CharTokenizer.train(TEXT)
IDS = np.append(CHARS.encode(TEXT), CHARS.end_id)
NGRAM = NGram.train(IDS, CHARS, order=3, smoothing="witten-bell")
GPT = LanguageModel.create(
    "gpt", CHARS, seed=1, n_layer=1, n_head=2, n_embd=8, block_size=8, tied=False
)
SETTINGS = [
    {},
    {"temperature": 0.7, "top_k": 6, "top_p": 0.8, "min_p": 0.05},
    {"repetition_penalty": 1.5, "top_k": 2},
    {"greedy": True},
    {"min_p": 1.0, "temperature": 2.0},
]


@pytest.mark.parametrize("model", [NGRAM, GPT], ids=["ngram", "gpt"])
@pytest.mark.parametrize("settings", SETTINGS)
def test_the_text_is_generates_and_the_candidates_are_the_models(model, settings):
    prompt = CHARS.encode("the ")
    view = GenerationView(model, "the ", max_new_tokens=12, seed=5, top=6, **settings)
    ids = generate(model, prompt, max_new_tokens=12, rng=5, **settings)
    assert [step.id for step in view.steps] == ids.tolist()
    assert view.text == "the " + CHARS.decode(ids)
    past, seen = model.start(1), prompt
    logits = model.step(past, prompt[None])[0]
    for step in view.steps:
        p = softmax(logits)
        assert [c.p for c in step.candidates[:5]] == pytest.approx(-np.sort(-p)[:5])
        assert step.p == pytest.approx(p[step.id])
        assert [c.name for c in step.candidates if c.drawn] == [step.name]
        if not settings.get("greedy"):
            if penalty := settings.get("repetition_penalty"):
                logits = logits.copy()
                met = logits[np.unique(seen)]
                logits[np.unique(seen)] = np.where(met < 0, met * penalty, met / penalty)
            plain = {k: v for k, v in settings.items() if k != "repetition_penalty"}
            q = softmax(Sampling(**plain).filter(logits))
            assert step.q == pytest.approx(q[step.id])
            assert step.kept == np.count_nonzero(q)
            assert step.mass == pytest.approx(p[q > 0].sum())
        for c in step.candidates:
            assert (c.cut != "") == (c.q == 0)
        seen = np.append(seen, step.id)
        logits = model.step(past, seen[None, -1:])[0]


def softmax(logits):
    e = np.exp(np.asarray(logits, float) - logits.max())
    return e / e.sum()


class _Fixed(Uniform):
    """Always the same distribution."""

    def __init__(self, p):
        super().__init__(CharTokenizer("abcdefg"))
        self.p = np.append(p, np.full(self.vocab_size - len(p), 1e-9))


def test_each_cut_is_named_by_hand():
    model = _Fixed([0.5, 0.2, 0.15, 0.1, 0.05])
    (step,) = GenerationView(
        model, "", max_new_tokens=1, top=5, seed=0, top_k=4, top_p=0.8, min_p=0.45
    ).steps
    assert [c.cut for c in step.candidates] == ["", "min-p", "min-p", "top-p", "top-k"]
    assert step.kept == 1
    assert step.mass == pytest.approx(0.5)
    (step,) = GenerationView(model, "", max_new_tokens=1, top=2, seed=0, greedy=True).steps
    assert [(c.q, c.cut) for c in step.candidates] == [(1, ""), (0, "greedy")]


def test_what_came_is_shown_even_if_it_was_unlikely():
    model = _Fixed([0.5, 0.2, 0.15, 0.1, 0.05])
    for step in GenerationView(model, "", max_new_tokens=30, top=2).steps:
        assert sum(c.drawn for c in step.candidates) == 1
        assert len(step.candidates) == 2


def test_a_stop_token_ends_the_text_and_is_shown():
    stop = CHARS.encode("t")[0]
    view = GenerationView(NGRAM, "the ma", max_new_tokens=50, greedy=True, stop_id=stop)
    assert view.steps[-1].name == "t"
    assert view.text == "the ma"
    assert len(view.steps) == 1


def test_the_page_shows_all_and_lets_nothing_act():
    view = GenerationView(NGRAM, "the <it>", max_new_tokens=25, temperature=1.5, top_k=3)
    body = view.body()
    assert "&lt;it&gt;" in body
    assert "<it>" not in body
    assert body.count('<span class="s') == 25 == len(view.data())
    kinds = [int(k) for k in re.findall(r'class="s(\d+)"', body)]
    most = math.log2(CHARS.vocab_size)
    assert kinds == [round(min(-math.log2(s.p) / most, 1) * 15) for s in view.steps]
    assert view.data()[0][0].startswith("token 1: ")
    assert f"3 of {CHARS.vocab_size} tokens could come" in view.data()[0][0]
    assert "temperature 1.5, top-k 3, seed 0" in body
    assert "http" not in view.page()
    assert repr(view) == f"temperature 1.5, top-k 3, seed 0: {view.text!r}"
    assert GenerationView(NGRAM, "", max_new_tokens=1, greedy=True).how() == "greedy"
    assert GenerationView(NGRAM, "", max_new_tokens=1).how().startswith("the model's own")


def test_the_picture_has_two_bars_a_candidate(tmp_path):
    view = GenerationView(GPT, "the ", max_new_tokens=9, top=4, min_p=0.5, seed=2)
    figure = view.figure(title="A title")
    assert len(figure.axes) == 4
    for axes, step in zip(figure.axes, view.steps, strict=False):
        widths = [bar.get_width() for bar in axes.patches]
        assert widths == [c.p for c in step.candidates] + [c.q for c in step.candidates]
        assert len(axes.get_yticks()) == 4
    assert len(view.figure(steps=(7, 8, 9)).axes) == 2
    save(figure, tmp_path / "x.png")
    with pytest.raises(ValueError, match="has the steps 0 to 8"):
        view.figure(steps=(20,))


def test_what_cannot_be_shown_is_refused():
    with pytest.raises(ValueError, match="at least 1, got 0 and 10: there is nothing to show"):
        GenerationView(NGRAM, "the", max_new_tokens=0)
    with pytest.raises(UserError, match=r"never seen: 'Z' \(U\+005A\)"):
        GenerationView(NGRAM, "Z")
    with pytest.raises(UserError, match="top_p must be above 0 and at most 1"):
        GenerationView(NGRAM, "the", top_p=2.0)


def test_bars_of_all_candidates_stand_on_one_grid():
    view = GenerationView(NGRAM, "the ", max_new_tokens=2)
    assert "#rows {display: grid" in view.style()
    assert ".row {display: contents}" in view.style()
