"""The same weights in transformers' GPT-2: its `generate` must find what ours finds."""

import numpy as np
import pytest
import torch
from transformers import GPT2Config, GPT2LMHeadModel

from minillm.generation import beam_search, generate
from minillm.models.gpt import GPTConfig
from minillm.models.language_model import LanguageModel
from minillm.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer("abcdefghijklmno")  # V = 17
END = TOKENIZER.end_id
BLOCK, PROMPT, NEW = 24, [3, 1, 4, 1], 12


@pytest.fixture(scope="module")
def theirs():
    """A small random GPT-2 whose weights are large enough for clear preferences."""
    config = GPT2Config(
        vocab_size=TOKENIZER.vocab_size,
        n_positions=BLOCK,
        n_embd=16,
        n_layer=2,
        n_head=2,
        initializer_range=0.8,
        bos_token_id=END,
        eos_token_id=END,
    )
    torch.manual_seed(3)
    model = GPT2LMHeadModel(config).double().eval()
    for parameter in model.parameters():
        parameter.data += 0.1 * torch.randn_like(parameter)
    model.generation_config.pad_token_id = END
    return model


@pytest.fixture(scope="module")
def ours(theirs):
    arrays = {k: v.numpy() for k, v in theirs.transformer.state_dict().items()}

    def layer(name):
        return {"weight": arrays[f"{name}.weight"], "bias": arrays[f"{name}.bias"]}

    def norm(name):
        return {"gain": arrays[f"{name}.weight"], "bias": arrays[f"{name}.bias"]}

    def block(h):
        attention = {"qkv": layer(f"{h}.attn.c_attn"), "out": layer(f"{h}.attn.c_proj")}
        mlp = {"up": layer(f"{h}.mlp.c_fc"), "down": layer(f"{h}.mlp.c_proj")}
        norms = {"norm1": norm(f"{h}.ln_1"), "norm2": norm(f"{h}.ln_2")}
        return norms | {"attention": attention, "mlp": mlp}

    params = {
        "wte": arrays["wte.weight"],
        "wpe": arrays["wpe.weight"],
        "blocks": [block("h.0"), block("h.1")],
        "norm": norm("ln_f"),
    }
    config = GPTConfig(TOKENIZER.vocab_size, BLOCK, 2, 2, 16)
    return LanguageModel("gpt", config, params, TOKENIZER)


def search(theirs, prompt=PROMPT, **settings):
    with torch.no_grad():
        out = theirs.generate(
            torch.tensor([prompt]),
            attention_mask=torch.ones(1, len(prompt), dtype=torch.long),
            do_sample=False,
            max_new_tokens=NEW,
            return_dict_in_generate=True,
            output_scores=True,
            **settings,
        )
    return out


@pytest.mark.parametrize("prompt", [[5], PROMPT, [2, 7, 1, 8, 2, 8]])
def test_greedy(ours, theirs, prompt):
    expected = search(theirs, prompt, eos_token_id=None).sequences[0, len(prompt) :]
    ids = generate(ours, prompt, max_new_tokens=NEW, greedy=True)
    assert ids.tolist() == expected.tolist()


def test_greedy_with_repetition_penalty(ours, theirs):
    expected = search(theirs, eos_token_id=None, repetition_penalty=1.7).sequences[0, len(PROMPT) :]
    ids = generate(ours, PROMPT, max_new_tokens=NEW, greedy=True, repetition_penalty=1.7)
    assert ids.tolist() == expected.tolist()
    plain = generate(ours, PROMPT, max_new_tokens=NEW, greedy=True)
    assert ids.tolist() != plain.tolist()


@pytest.mark.parametrize(
    ("beams", "length_penalty", "stop"),
    [
        (2, 1.0, None),
        (2, 2.5, 8),
        (3, 1.0, 8),
        (3, -1.0, 9),
        (3, 0.0, END),
        (8, 0.0, None),
        (8, 0.0, 3),
        (8, 1.0, 8),
        (8, -1.0, 10),
    ],
)
def test_beam_search(ours, theirs, beams, length_penalty, stop):
    out = search(
        theirs,
        num_beams=beams,
        num_return_sequences=beams,
        length_penalty=length_penalty,
        early_stopping="never",
        eos_token_id=stop,
    )
    expected = []
    for row in out.sequences[:, len(PROMPT) :].tolist():
        expected.append(row[: row.index(stop)] if stop in row else row)
    found = beam_search(
        ours,
        PROMPT,
        beams=beams,
        max_new_tokens=NEW,
        length_penalty=length_penalty,
        stop_id=stop,
    )
    # theirs adds up the log probabilities in float32
    scores = [score for _, score in found]
    np.testing.assert_allclose(scores, out.sequences_scores, rtol=NEW * 2.0**-23)
    assert [ids.tolist() for ids, _ in found] == expected
