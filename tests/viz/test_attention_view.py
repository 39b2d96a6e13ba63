import html
import re

import numpy as np
import pytest

from minillm.models.language_model import LanguageModel
from minillm.tokenizers import CharTokenizer
from minillm.viz import save
from minillm.viz.attention import attention_maps, attention_weights
from minillm.viz.attention_view import PALETTE, AttentionView


def some_weights(layers=2, heads=3, length=5, causal=True):
    weights = np.random.default_rng(0).random((layers, heads, length, length))
    weights = np.tril(weights) if causal else weights
    return weights / weights.sum(-1, keepdims=True)


def fills(view):
    """The shades of the matrix, row by row, as the page shows them without JavaScript."""
    rows = re.findall(r"<g>(.*?)</g>", view.body())
    return [re.findall(r'fill="(#\w+)"', row) for row in rows]


@pytest.mark.parametrize("causal", [True, False])
def test_the_static_matrix_is_the_head_that_is_asked_for(causal):
    weights = some_weights(causal=causal)
    view = AttentionView(weights, list("abcde"), show=(1, -1, 2))
    for t, row in enumerate(fills(view)):
        seen = weights[1, 2, t, : t + 1] if causal else weights[1, 2, t]
        assert row == [PALETTE[round(w**0.5 * 32)] for w in seen]
    assert ("hidden" in view.body()) is causal


def test_the_data_holds_every_head_in_thousandths():
    weights = some_weights()
    data = AttentionView(weights, list("abcde")).data()
    assert data["show"] == (0, 0, 4)
    for layer, head, t in np.ndindex(2, 3, 5):
        row = data["weights"][layer][head][t]
        np.testing.assert_allclose(row, 1000 * weights[layer, head, t, : t + 1], atol=0.5)
    body = AttentionView(weights, list("abcde")).body()
    assert body.count("<canvas>3</canvas>") == 2  # the number is what shows without scripts


def test_a_token_can_be_any_text_and_does_nothing():
    tokens = ["<script>", "&amp;", "水", "\x1b", ""]
    page = AttentionView(some_weights(), tokens).page()
    assert page.count("<script>") == 2
    assert html.escape("<script>") in page
    assert "\x1b" not in page
    assert "http" not in page


def test_a_model_and_a_text_make_a_view(tmp_path):
    tokenizer = CharTokenizer("abc $\n")
    model = LanguageModel.create("gpt", tokenizer, block_size=8, n_layer=2, n_head=2, n_embd=8)
    view = AttentionView.of(model, "ab $\nc", title="A view")
    ids = tokenizer.encode("ab $\nc")
    expected = attention_weights(model.params, ids, model.config)
    np.testing.assert_array_equal(view.weights, expected)
    assert "<h2>A view</h2>" in view.body()
    figure = view.figure(title="print")
    labels = [label.get_text() for label in figure.axes[0].get_yticklabels()]
    assert labels == ["a", "b", "␣", r"\$", "⏎", "c"]
    save(figure, tmp_path / "view.png")


def test_maps_that_look_ahead_hide_nothing():
    weights = some_weights(causal=False)
    shown = attention_maps(weights, list("abcde")).axes[0].images[0].get_array()
    assert not np.ma.is_masked(shown)


@pytest.mark.parametrize(
    ("weights", "settings", "message"),
    [
        (some_weights(length=4), {}, r"shape \(L, H, 5, 5\), got \(2, 3, 4, 4\)"),
        (2 * some_weights(), {}, r"weights must be in \[0, 1\], got 0.0 to 2"),
        (some_weights(), {"show": (2, 0, 0)}, r"show must be .* got \(2, 0, 0\)"),
        (some_weights(heads=0), {}, "a head expected"),
    ],
)
def test_what_cannot_be_shown_is_refused(weights, settings, message):
    with pytest.raises(ValueError, match=message):
        AttentionView(weights, list("abcde"), **settings)


def test_too_many_tokens_are_refused():
    with pytest.raises(ValueError, match="1 to 128 tokens"):
        AttentionView(np.zeros((1, 1, 129, 129)), ["a"] * 129)
