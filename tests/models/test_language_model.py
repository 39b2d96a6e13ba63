import dataclasses
import json
import math
import shutil

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import minillm.models.folder
from minillm.errors import UserError
from minillm.generation import beam_search, generate
from minillm.models import scoring
from minillm.models.baselines import Uniform, Unigram
from minillm.models.language_model import KINDS, LanguageModel, encode_prompt, load_model
from minillm.models.ngram import NGram
from minillm.tokenizers import ByteTokenizer, CharTokenizer
from minillm.tree import flatten, map_leaves

TOKENIZER = CharTokenizer("abcdefg \n")  # V = 11
SMALL = {
    "gpt2": ("gpt", {"block_size": 6, "n_layer": 2, "n_head": 2, "n_embd": 12}),
    "llama": (
        "gpt",
        {"block_size": 5, "n_layer": 2, "n_head": 4, "n_kv_head": 2, "n_embd": 16, "bias": False}
        | {"norm": "rms", "mlp": "swiglu", "position": "rotary", "tied": False},
    ),
    "rnn": ("rnn", {"n_embd": 7, "n_hidden": 9, "n_layer": 2}),
    "lstm": ("lstm", {"n_embd": 7, "n_hidden": 9, "n_layer": 2}),
    "gru": ("gru", {"n_embd": 9, "n_hidden": 9, "n_layer": 1, "tied": True}),
    "neural-ngram": ("neural-ngram", {"order": 4, "n_embd": 5, "n_hidden": 9, "direct": True}),
    "neural-bigram": ("neural-ngram", {"order": 2, "n_embd": 5, "n_hidden": 9}),
}
every_model = pytest.mark.parametrize("name", SMALL)


def small(name, dtype=np.float64, seed=0, **changes):
    """A model whose predictions depend clearly on their context: all weights far from 0."""
    kind, settings = SMALL[name]
    model = LanguageModel.create(kind, TOKENIZER, dtype=dtype, **(settings | changes))
    rng = np.random.default_rng([seed, len(name)])
    model.params = map_leaves(
        lambda leaf: (leaf + 0.3 * rng.standard_normal(leaf.shape)).astype(dtype), model.params
    )
    return model


def some_ids(n, seed=0):
    return np.random.default_rng([seed, n]).integers(0, TOKENIZER.vocab_size, n, dtype=np.int32)


def last_logits(model, ids):
    """The logits after ids, by the plain forward over all of them."""
    out, _ = model.module.forward(model.params, ids=ids[None], config=model.config)
    return (out[0] if model.module.STATEFUL else out)[0, -1]


def nats_of(logits, target):
    logits = [float(x) for x in logits]
    peak = max(logits)
    return peak + math.log(sum(math.exp(x - peak) for x in logits)) - logits[target]


def window_start(position, n, block):
    """Where the window begins that predicts a position: the first one to reach it."""
    stride, start = block - block // 2, 0
    while start + block <= position:
        start = min(start + stride, n - block)
    return start


@every_model
@pytest.mark.parametrize("n", [1, 2, 5, 6, 7, 8, 9, 10, 23])
def test_score_is_the_loss_of_each_prediction_made_alone(name, n):
    model = small(name)
    ids = some_ids(n)
    nats, correct = model.score(ids)
    inputs = np.concatenate([[TOKENIZER.end_id], ids])
    for i, target in enumerate(ids):
        start = window_start(i, n, model.block) if model.block else 0
        assert model.block is None or i < model.block or i - start >= model.block // 2
        logits = last_logits(model, inputs[start : i + 1])
        assert nats[i] == pytest.approx(nats_of(logits, target), rel=1e-11, abs=1e-11)
        assert correct[i] == (logits.argmax() == target)
    assert nats.dtype == np.float64
    assert correct.dtype == bool


@given(block=st.integers(1, 9), n=st.integers(0, 40))
def test_every_position_is_scored_once_and_sees_half_a_block(block, n):
    seen = []

    def forward(ids):
        """The logits of a model that says how many tokens it saw, and which was the last."""
        seen.append(ids.shape)
        length = np.broadcast_to(np.arange(1, ids.shape[1] + 1), ids.shape)
        return np.stack([ids.astype(float), length.astype(float)], axis=-1)

    original = scoring._score_logits
    scoring._score_logits = lambda logits, targets: (logits[:, 1], logits[:, 0] == targets)
    try:
        context, same = scoring.score_windows(forward, np.arange(n), np.arange(n), block)
    finally:
        scoring._score_logits = original
    assert same.all()  # each position's own logits came back to it
    assert len(context) == n
    for position, length in enumerate(context):
        assert min(position + 1, block // 2 + 1) <= length <= min(block, position + 1)
    assert all(rows * length <= max(scoring.TOKENS_AT_ONCE, block) for rows, length in seen)


@every_model
def test_score_in_parts_is_score_at_once(name, monkeypatch):
    model, ids = small(name), some_ids(50)
    whole = model.score(ids)
    monkeypatch.setattr(scoring, "TOKENS_AT_ONCE", 13)
    monkeypatch.setattr(scoring, "LOGITS_AT_ONCE", 40)
    parts = model.score(ids)
    np.testing.assert_allclose(parts[0], whole[0], rtol=1e-12)
    np.testing.assert_array_equal(parts[1], whole[1])


@every_model
def test_score_of_nothing_and_of_ids_out_of_range(name):
    model = small(name)
    assert [len(x) for x in model.score(np.empty(0, np.int32))] == [0, 0]
    for bad in (TOKENIZER.vocab_size, -1):
        with pytest.raises(ValueError, match=rf"\[0, {TOKENIZER.vocab_size}\).*{bad}"):
            model.score([1, bad])


@every_model
@pytest.mark.parametrize("prompt", [1, 4, 9])
def test_stepping_gives_the_logits_of_the_plain_forward(name, prompt):
    """Batches, prompts longer than the block, and past the block, where the window slides."""
    model = small(name)
    texts = np.stack([some_ids(20, seed) for seed in range(3)])  # (B, T)
    past = model.start(batch=3)
    start = 0
    for end in [prompt, *range(prompt + 1, 21)]:
        begin = 0 if end == prompt else end - 1
        logits = model.step(past, texts[:, begin:end])
        if model.block and end - start > model.block:
            start = end - model.block // 2
        expected = np.stack([last_logits(model, text[start:end]) for text in texts])
        np.testing.assert_allclose(logits, expected, rtol=1e-10, atol=1e-11)


@every_model
def test_generation_with_the_past_equals_generation_without(name):
    model = small(name, dtype=np.float32)
    ids = generate(model, some_ids(3), max_new_tokens=40, rng=1, temperature=0.8)

    class Forgetful:
        vocab_size, tokenizer = model.vocab_size, TOKENIZER

        def start(self, batch):
            return {"ids": np.empty((batch, 0), np.int32), "start": 0}

        def step(self, past, ids):
            past["ids"] = text = np.concatenate([past["ids"], ids], axis=1)
            if model.block and text.shape[1] - past["start"] > model.block:
                past["start"] = text.shape[1] - model.block // 2
            return last_logits(model, text[0, past["start"] :])[None]

    expected = generate(Forgetful(), some_ids(3), max_new_tokens=40, rng=1, temperature=0.8)
    assert ids.tolist() == expected.tolist()
    assert len(set(ids.tolist())) > 3


@every_model
def test_reordered_pasts_go_on_as_the_texts_they_belong_to(name):
    model = small(name)
    texts = np.stack([some_ids(8, seed) for seed in range(3)])
    past = model.start(3)
    model.step(past, texts[:, :5])
    index = np.array([2, 0, 0, 1])
    moved = model.reorder(past, index)
    for t in range(5, 8):
        logits = model.step(moved, texts[index][:, t : t + 1])
        alone = model.start(4)
        model.step(alone, texts[index][:, :5])
        for k in range(5, t + 1):
            expected = model.step(alone, texts[index][:, k : k + 1])
        np.testing.assert_allclose(logits, expected, rtol=1e-10, atol=1e-11)


@every_model
def test_beams_score_what_the_model_scores(name):
    model = small(name)
    prompt = np.array([TOKENIZER.end_id], np.int32)
    for ids, score in beam_search(model, prompt, beams=4, max_new_tokens=5, length_penalty=0):
        assert score == pytest.approx(-model.score(ids)[0].sum(), rel=1e-10)


@every_model
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_save_and_load(name, dtype, tmp_path):
    model = small(name, dtype)
    model.save(tmp_path / "new" / "folder")
    assert sorted(p.name for p in (tmp_path / "new/folder").iterdir()) == [
        "model.json",
        "weights.safetensors",
    ]
    again = load_model(tmp_path / "new/folder")
    assert (again.kind, again.config) == (model.kind, model.config)
    assert again.tokenizer.to_dict() == TOKENIZER.to_dict()
    saved, read = flatten(model.params), flatten(again.params)
    assert list(saved) == list(read)
    for key, leaf in saved.items():
        assert read[key].dtype == dtype
        assert read[key].flags.writeable
        np.testing.assert_array_equal(read[key], leaf)
    ids = some_ids(15)
    np.testing.assert_array_equal(again.score(ids)[0], model.score(ids)[0])


def test_equal_models_are_equal_bytes(tmp_path):
    for folder in "ab":
        small("gpt2").save(tmp_path / folder)
    for file in ("model.json", "weights.safetensors"):
        assert (tmp_path / "a" / file).read_bytes() == (tmp_path / "b" / file).read_bytes()


@pytest.mark.parametrize("kind", [Uniform, Unigram, NGram])
def test_load_model_finds_the_counted_kinds(kind, tmp_path):
    ids = some_ids(60)
    kind_model = kind(TOKENIZER) if kind is Uniform else kind.train(ids, TOKENIZER)
    kind_model.save(tmp_path)
    again = load_model(tmp_path)
    assert type(again) is kind
    np.testing.assert_array_equal(again.score(ids)[0], kind_model.score(ids)[0])
    with pytest.raises(UserError, match=f"unknown model '{kind.kind}'; there are: gpt, rnn"):
        LanguageModel.load(tmp_path)


def test_attributes():
    gpt, lstm = small("gpt2"), small("lstm")
    fourgram, bigram = small("neural-ngram"), small("neural-bigram")
    assert (gpt.block, lstm.block, fourgram.block) == (6, None, None)
    assert (gpt.reach, lstm.reach, fourgram.reach) == (None, None, 3)
    assert fourgram.context == "3 tokens before it"
    assert bigram.context == "1 token before it"
    assert gpt.context == "up to 6 tokens before it, at least 4 where the text has them"
    assert lstm.context == "every token before it"
    assert gpt.vocab_size == lstm.vocab_size == 11
    V, C, T = 11, 12, 6
    assert gpt.n_parameters == V * C + T * C + 2 * (12 * C * C + 13 * C) + 2 * C
    assert small("gru").n_parameters == V * 9 + (2 * 9 * 27 + 2 * 27) + V
    assert small("gpt2", np.float32).dtype == np.float32


def test_a_seed_gives_the_weights():
    weights = [
        flatten(LanguageModel.create("gpt", TOKENIZER, seed=s, n_embd=8, n_head=2).params)["wte"]
        for s in (1, 1, 2)
    ]
    assert np.array_equal(weights[0], weights[1])
    assert not np.array_equal(weights[0], weights[2])


@pytest.mark.parametrize(
    ("kind", "settings", "message"),
    [
        ("bert", {}, "unknown model 'bert'; there are: gpt, rnn, lstm, gru"),
        ("gpt", {"n_heads": 4}, "gpt has no setting 'n_heads'; there are: .*n_head"),
        ("gpt", {"n_embd": 10, "n_head": 3}, "gpt: n_embd 10 must be a multiple of n_head 3"),
        ("lstm", {"n_layer": -1}, "lstm: n_layer must be a whole number of at least 1, got -1"),
        ("lstm", {"cell": "gru"}, "kind 'lstm', but its cell is 'gru'"),
        ("rnn", {"dropout": "much"}, "rnn: "),
    ],
)
def test_wrong_settings_are_named(kind, settings, message):
    with pytest.raises(UserError, match=message):
        LanguageModel.create(kind, TOKENIZER, **settings)


def test_a_tokenizer_of_another_size_is_refused():
    model = small("gpt2")
    larger = CharTokenizer("abcdefg \nxyz")
    with pytest.raises(UserError, match="has 14 tokens, but the model's embedding has 11"):
        LanguageModel("gpt", model.config, model.params, larger)


def test_unknown_characters_in_a_prompt_are_named():
    assert encode_prompt(TOKENIZER, "bad cab").tolist() == TOKENIZER.encode("bad cab").tolist()
    assert encode_prompt(TOKENIZER, "").size == 0
    assert encode_prompt(ByteTokenizer(), "你好").size == 6
    with pytest.raises(UserError, match=r"never seen: '你' \(U\+4F60\), 'Z' \(U\+005A\)$"):
        encode_prompt(TOKENIZER, "a你bZ你")
    with pytest.raises(UserError, match=r"'L' \(U\+004C\) and 3 more$"):
        encode_prompt(TOKENIZER, "HIJKLMNO")
    with pytest.raises(UserError, match="lone surrogate"):
        encode_prompt(TOKENIZER, "a\udce4")


@pytest.fixture
def saved(tmp_path):
    small("gpt2", np.float32).save(tmp_path / "gpt")
    small("lstm", np.float32).save(tmp_path / "lstm")
    return tmp_path / "gpt"


def refused(folder, message):
    with pytest.raises(UserError, match=message) as caught:
        load_model(folder)
    assert str(folder) in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_missing_folder_or_file(saved):
    refused(saved / "nowhere", "no such folder")
    refused(saved / "model.json", r"cannot be read: Not a directory")
    (saved / "weights.safetensors").unlink()
    refused(saved, "no model here, weights.safetensors is missing")
    (saved / "weights.safetensors").mkdir()
    refused(saved, "cannot be read: Is a directory")
    shutil.rmtree(saved / "weights.safetensors")
    (saved / "model.json").unlink()
    refused(saved, "no model here, model.json is missing")


def test_truncated_weights(saved):
    data = (saved / "weights.safetensors").read_bytes()
    for length in (0, 5, 8, 100, len(data) // 2, len(data) - 1):
        (saved / "weights.safetensors").write_bytes(data[:length])
        refused(saved, r"weights.safetensors: cut off or damaged")
    (saved / "weights.safetensors").write_bytes(b"\xff" * 200)
    refused(saved, r"weights.safetensors: cut off or damaged")


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "null", "3", '{"format": "minillm-model-1"}', "\x00\x01", "[" * 100_000],
)
def test_a_damaged_description(saved, text):
    (saved / "model.json").write_text(text)
    refused(saved, r"model.json: damaged, not the description of a model")


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"format": "minillm-model-9"}, "of the format 'minillm-model-9'; this version reads"),
        ({"kind": "bert"}, "unknown model 'bert'"),
        ({"kind": "lstm"}, "lstm has no setting"),
        ({"kind": ["gpt"]}, "damaged"),
        ({"config": {"vocab_size": 11}}, "parameters do not match: missing"),
        ({"config": {}}, "gpt: .*vocab_size"),
        ({"config": {"vocab_size": "many"}}, "gpt: vocab_size must be a whole number"),
        ({"tokenizer": {"kind": "runes"}}, "unknown tokenizer 'runes'"),
        ({"tokenizer": ByteTokenizer().to_dict()}, "tokenizer has 257 tokens, but .* 11"),
        (
            {"tokenizer": CharTokenizer("abcdefg \nxyz").to_dict()},
            "tokenizer has 14 tokens, but the model's embedding has 11",
        ),
    ],
)
def test_a_description_of_something_else(saved, change, message):
    description = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    (saved / "model.json").write_text(json.dumps(description | change), encoding="utf-8")
    refused(saved, message)


def test_a_vocabulary_larger_than_the_embedding(saved):
    """Configuration and tokenizer agree, the weights do not."""
    description = json.loads((saved / "model.json").read_text(encoding="utf-8"))
    description["tokenizer"] = CharTokenizer("abcdefg \nxyz").to_dict()
    description["config"]["vocab_size"] = 14
    (saved / "model.json").write_text(json.dumps(description), encoding="utf-8")
    refused(saved, r"wte must have shape \(14, 12\), got \(11, 12\)")


def test_weights_of_another_model(saved):
    shutil.copy(saved.parent / "lstm" / "weights.safetensors", saved / "weights.safetensors")
    refused(saved, r"parameters do not match: missing .*wte")


@pytest.mark.parametrize("dtype", [np.int32, np.float16])
def test_weights_of_another_dtype(saved, dtype):
    model = load_model(saved)
    arrays = flatten(model.params)
    arrays["norm.gain"] = arrays["norm.gain"].astype(dtype)
    minillm.models.folder.save_folder(
        saved, "gpt", dataclasses.asdict(model.config), TOKENIZER, arrays
    )
    refused(saved, f"weights must be all float32 or all float64, got .*{np.dtype(dtype)}")


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("in the way")
    for path in (tmp_path / "file", tmp_path / "file" / "below"):
        with pytest.raises(UserError, match=f"cannot make the folder {path}"):
            small("gpt2").save(path)


def test_a_failed_save_leaves_the_old_model(saved, monkeypatch):
    """The disk is full: the first write fails, and what was there can still be read."""
    before = load_model(saved).score(some_ids(9))[0]

    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(UserError, match="No space left on device"):
        small("gpt2", np.float32, seed=5).save(saved)
    assert sorted(p.name for p in saved.iterdir()) == ["model.json", "weights.safetensors"]
    np.testing.assert_array_equal(load_model(saved).score(some_ids(9))[0], before)


def test_kinds_offer_what_the_trainer_needs():
    for module, config in KINDS.values():
        for function in ("init", "forward", "loss"):
            assert callable(getattr(module, function))
        assert isinstance(module.STATEFUL, bool)
        assert dataclasses.is_dataclass(config)
