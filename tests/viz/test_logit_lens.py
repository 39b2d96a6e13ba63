import numpy as np
import pytest

from minillm.models.gpt import gpt
from minillm.viz import save
from minillm.viz.logit_lens import lens_probabilities, logit_lens, residual_stream
from tests.viz.test_attention import CONFIGS, a_gpt, norm, softmax

IDS = np.array([3, 1, 4, 1, 5])


@pytest.mark.parametrize("name", CONFIGS)
def test_the_last_level_is_the_model_and_the_first_the_embedding(name):
    config = CONFIGS[name]
    params = a_gpt(config)
    p = lens_probabilities(params, IDS, config)
    assert p.shape == (3, 5, 11)
    logits, _ = gpt(params, ids=IDS[None], config=config)
    np.testing.assert_allclose(p[-1], [softmax(row) for row in logits[0]], rtol=1e-10)

    x = params["wte"][IDS] + (params["wpe"][:5] if "wpe" in params else 0)
    np.testing.assert_allclose(residual_stream(params, IDS, config)[0], x, rtol=1e-12)
    hidden = norm(x, params["norm"]["gain"], params["norm"].get("bias"), config)
    head = params.get("head", params["wte"])
    np.testing.assert_allclose(p[0], [softmax(row) for row in hidden @ head.T], rtol=1e-10)


def test_a_block_that_writes_nothing_changes_nothing():
    config = CONFIGS["gpt2"]
    params = a_gpt(config)
    for part in ("attention", "mlp"):
        for leaf in params["blocks"][1][part]["out" if part == "attention" else "down"].values():
            leaf[...] = 0
    p = lens_probabilities(params, IDS, config)
    np.testing.assert_allclose(p[2], p[1], rtol=1e-12)
    assert np.abs(p[1] - p[0]).max() > 1e-3


def test_each_box_says_the_likeliest_token(tmp_path):
    p = np.random.default_rng(0).dirichlet(np.ones(4) / 3, (3, 2))
    vocabulary = ["a", "$b", "\n", "a very long token"]
    targets = np.array([p[2, 0].argmax(), (p[:, 1].argmax(-1).max() + 1) % 4])
    figure = logit_lens(p, ["x", "y"], vocabulary, targets=targets, title="lens")
    axes = figure.axes[0]
    words = [text.get_text() for text in axes.texts]
    shown = ["a", r"\$b", "⏎", "a␣very␣l…"]
    assert words[::2] == [shown[i] for i in p.argmax(-1).flat]
    assert words[1::2] == [f"{100 * x:.0f}%" for x in p.max(-1).flat]
    orange = [patch.get_linewidth() == 1.8 for patch in axes.patches]
    assert orange == (p.argmax(-1) == targets).ravel().tolist()
    assert [label.get_text() for label in axes.get_yticklabels()][:2] == ["embedding", "layer 1"]
    save(figure, tmp_path / "lens.png")


def test_what_does_not_belong_together_is_refused():
    p = np.full((2, 3, 4), 0.25)
    with pytest.raises(ValueError, match=r"shape \(L \+ 1, 2, 4\), got \(2, 3, 4\)"):
        logit_lens(p, ["a", "b"], list("abcd"))
    with pytest.raises(ValueError, match=r"targets must have shape \(3,\), got \(2,\)"):
        logit_lens(p, list("abc"), list("abcd"), targets=np.array([1, 2]))
