import numpy as np
import pytest

from minillm.models.gpt import GPTConfig, init
from minillm.tokenizers import ByteTokenizer, CharTokenizer
from minillm.tree import map_leaves
from minillm.viz import attention_maps, attention_weights, save, token_names

CONFIGS = {
    "gpt2": GPTConfig(11, block_size=9, n_layer=2, n_head=3, n_embd=12),
    "llama": GPTConfig(
        11, 9, 2, 4, 16, n_kv_head=2, norm="rms", mlp="swiglu", position="rotary", bias=False
    ),
}


def a_gpt(config):
    rng = np.random.default_rng(3)
    params = init(config, rng, np.float64)
    return map_leaves(lambda leaf: leaf + 0.4 * rng.standard_normal(leaf.shape), params)


def softmax(x):
    e = np.exp(x - x.max())
    return e / e.sum()


def norm(x, gain, bias, config):
    if config.norm == "layer":
        x = x - x.mean(-1, keepdims=True)
    x = x / np.sqrt((x**2).mean(-1, keepdims=True) + config.eps)
    return x * gain + (0 if bias is None else bias)


def turn(x, position, base):
    """Rotary positions as complex numbers: pair i turns by position * base**(-2 i / D)."""
    half = len(x) // 2
    turned = (x[:half] + 1j * x[half:]) * np.exp(1j * position * base ** (-np.arange(half) / half))
    return np.concatenate([turned.real, turned.imag])


@pytest.mark.parametrize("name", CONFIGS)
def test_weights_of_the_first_layer_by_hand(name):
    """The softmax of scaled products, one query and one head at a time."""
    config = CONFIGS[name]
    params, ids = a_gpt(config), np.array([3, 1, 4, 1, 5, 9, 2])
    weights = attention_weights(params, ids, config)
    H, G, D, T = config.n_head, config.kv_heads, config.head_size, len(ids)
    assert weights.shape == (2, H, T, T)

    block = params["blocks"][0]
    x = params["wte"][ids] + (params["wpe"][:T] if "wpe" in params else 0)
    x = norm(x, block["norm1"]["gain"], block["norm1"].get("bias"), config)
    qkv = block["attention"]["qkv"]
    projected = x @ qkv["weight"] + (qkv["bias"] if config.bias else 0)
    for h in range(H):
        g = h // (H // G)
        q = projected[:, h * D : (h + 1) * D]
        k = projected[:, (H + g) * D : (H + g + 1) * D]
        if config.position == "rotary":
            q, k = ([turn(row, t, config.rotary_base) for t, row in enumerate(m)] for m in (q, k))
        for t in range(T):
            expected = softmax(np.array([q[t] @ k[s] / np.sqrt(D) for s in range(t + 1)]))
            np.testing.assert_allclose(weights[0, h, t, : t + 1], expected, rtol=1e-10)
            assert np.all(weights[0, h, t, t + 1 :] == 0)


@pytest.mark.parametrize("name", CONFIGS)
def test_every_row_is_a_distribution_over_the_past(name):
    config = CONFIGS[name]
    weights = attention_weights(a_gpt(config), np.arange(9), config)
    np.testing.assert_allclose(weights.sum(-1), 1, rtol=1e-12)
    assert np.all(weights >= 0)
    assert np.all(np.triu(weights, 1) == 0)
    assert len({w.tobytes() for w in weights.reshape(-1, 9, 9)}) == weights[..., 0, 0].size


def test_token_names():
    tokenizer = CharTokenizer(" $a\n")
    ids = [*tokenizer.encode("a $\n"), tokenizer.end_id, tokenizer.unknown_id]
    assert token_names(tokenizer, ids) == ["a", "␣", r"\$", "⏎", "end", "\N{REPLACEMENT CHARACTER}"]
    assert token_names(ByteTokenizer(), [97, 0, 256])[::2] == ["a", "end"]


@pytest.mark.parametrize(("layers", "heads", "length"), [(1, 1, 1), (2, 3, 5), (2, 2, 45)])
def test_maps_show_the_weights_given(layers, heads, length, tmp_path):
    rng = np.random.default_rng(0)
    weights = np.tril(rng.random((layers, heads, length, length)))
    tokens = [chr(97 + i % 26) for i in range(length)]
    figure = attention_maps(weights, tokens, title="maps")
    pictures, (bar,) = figure.axes[:-1], figure.axes[-1:]
    assert len(pictures) == layers * heads
    for axes, expected in zip(pictures, weights.reshape(-1, length, length), strict=True):
        shown = axes.images[0].get_array()
        np.testing.assert_array_equal(shown.filled(0), expected)
        assert shown.mask.sum() == length * (length - 1) / 2
    labels = [label.get_text() for label in pictures[0].get_yticklabels()]
    assert labels == (tokens if length <= 40 else [])
    assert [t.get_text() for t in bar.get_yticklabels()] == ["0%", "5%", "25%", "50%", "100%"]
    assert pictures[0].get_title() == "head 1"
    save(figure, tmp_path / "maps.png")


def test_characters_that_no_font_has_still_draw(tmp_path):
    tokenizer = CharTokenizer("你好\U0010fffd 🙂$")
    names = token_names(tokenizer, np.arange(tokenizer.vocab_size))
    figure = attention_maps(np.full((1, 1, len(names), len(names)), 0.1), names)
    save(figure, tmp_path / "maps.png")


def test_weights_and_tokens_must_belong_together():
    with pytest.raises(ValueError, match=r"shape \(L, H, 3, 3\), got \(1, 1, 2, 2\)"):
        attention_maps(np.ones((1, 1, 2, 2)), ["a", "b", "c"])
