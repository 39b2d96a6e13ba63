"""Training and generation with arrays that live elsewhere: a stand-in that refuses NumPy as CuPy
does. What CUDA computes is not seen here; whether anything mixes the two memories is."""

import dataclasses

import numpy as np
import pytest

import minillm
from minillm.errors import UserError
from minillm.generation import beam_search, generate
from minillm.models.language_model import LanguageModel
from minillm.ops._state import Registry
from minillm.optim import SGD, Adagrad, Adam, AdamW, RMSprop
from minillm.tokenizers import CharTokenizer
from minillm.training import TrainConfig, Trainer
from minillm.tree import flatten, leaves
from minillm_kernels.device import GPU, UpdateOnGPU
from tests.gradcheck import standin_cupy
from tests.ops.harness import assert_close

TEXT = "the cat sat on the mat and the dog sat on the log. " * 8
EPS = np.finfo(np.float64).eps
LLAMA = {"norm": "rms", "mlp": "swiglu", "position": "rotary", "tied": False, "bias": False}


@pytest.fixture
def elsewhere(monkeypatch):
    """A backend "elsewhere" without kernels: every op is its reference, on stand-in arrays."""
    monkeypatch.setitem(Registry.devices, "elsewhere", GPU(standin_cupy.cupy, UpdateOnGPU))
    monkeypatch.setattr(Registry, "loaded", Registry.loaded | {"elsewhere"})
    return "elsewhere"


def new_model(kind, **settings):
    small = {"n_layer": 2, "n_hidden": 6, "n_embd": 5}
    if kind == "gpt":
        small = {"n_layer": 2, "n_embd": 8, "n_head": 2, "block_size": 8}
    if kind == "neural-ngram":
        small = {"order": 3, "n_hidden": 6, "n_embd": 5}
    tokenizer = CharTokenizer.train([TEXT])
    return LanguageModel.create(kind, tokenizer, seed=3, dtype=np.float64, **(small | settings))


def trained(kind, out, *, rule="adamw", **settings):
    model = new_model(kind, **settings)
    ids = np.asarray(model.tokenizer.encode(TEXT))
    config = TrainConfig(
        steps=3,
        batch=4,
        block=8,
        optimizer=rule,
        lr=0.01,
        clip=0.5,
        accumulation=2,
        threads=1,
        weight_decay=0.1,
        eval_every=2,
        log_every=1,
    )
    trainer = Trainer(model, (ids[:300], ids[300:]), config, out, progress=False)
    return model, trainer, trainer.run()


KINDS = [
    ("gpt", {}),
    ("gpt", LLAMA),
    ("gpt", {"dropout": 0.2}),
    ("lstm", {}),
    ("gru", {}),
    ("rnn", {}),
    ("neural-ngram", {"direct": True, "dropout": 0.2}),
]


@pytest.mark.parametrize(("kind", "settings"), KINDS)
def test_training_elsewhere_is_training_here(kind, settings, elsewhere, tmp_path):
    with minillm.backend("numpy"):
        here, _, result = trained(kind, tmp_path / "here", **settings)
    with minillm.backend(elsewhere):
        there, trainer, other = trained(kind, tmp_path / "there", **settings)
    assert all(type(p) is standin_cupy.ndarray for _, p in leaves(trainer.params))
    assert all(type(p) is np.ndarray for _, p in leaves(there.params))
    assert_close(there.params, here.params, 1e4 * EPS, "trained elsewhere,")
    pairs = zip(result.history, other.history, strict=True)
    for line, other_line in pairs:
        for name in ("train_loss", "validation_loss", "grad_norm"):
            if line[name] is None:
                assert other_line[name] is None
            else:
                assert other_line[name] == pytest.approx(line[name], rel=1e-10), name
    assert (
        flatten(LanguageModel.load(tmp_path / "there" / "last").params).keys()
        == flatten(here.params).keys()
    )


def test_a_run_goes_on_here_that_began_elsewhere(elsewhere, tmp_path):
    with minillm.backend("numpy"):
        trained("gpt", tmp_path / "whole")
    with minillm.backend(elsewhere):
        _, trainer, _ = trained("gpt", tmp_path / "parts")
        model, config = new_model("gpt"), dataclasses.replace(trainer.config, steps=5)
        ids = np.asarray(model.tokenizer.encode(TEXT))
        data = ids[:300], ids[300:]
        resumed = Trainer(model, data, config, tmp_path / "parts", resume=True, progress=False)
        assert resumed.run().step == 5
    with minillm.backend("numpy"):
        model = new_model("gpt")
        config = dataclasses.replace(config, steps=5)
        Trainer(model, data, config, tmp_path / "whole", resume=True, progress=False).run()
    assert_close(resumed.model.params, model.params, 1e4 * EPS, "resumed elsewhere,")


@pytest.mark.parametrize(
    ("kind", "settings"), [("gpt", {}), ("gpt", LLAMA), ("lstm", {}), ("neural-ngram", {})]
)
def test_generation_elsewhere_is_generation_here(kind, settings, elsewhere):
    model = new_model(kind, **settings)
    prompt = np.asarray(model.tokenizer.encode("the cat"))
    made = []
    for name in ("numpy", elsewhere):
        with minillm.backend(name):
            made.append(
                (
                    generate(model, prompt, max_new_tokens=12, rng=5).tolist(),
                    [
                        ids.tolist()
                        for ids, _ in beam_search(model, prompt, beams=3, max_new_tokens=4)
                    ],
                    model.score(prompt)[0],
                )
            )
    (here, beams, nats), (there, other_beams, other_nats) = made
    assert here == there
    assert beams == other_beams
    np.testing.assert_allclose(other_nats, nats, rtol=1e-10)


def test_more_threads_than_the_device_has_are_refused(elsewhere, tmp_path):
    model = new_model("gpt")
    ids = np.asarray(model.tokenizer.encode(TEXT))
    config = TrainConfig(steps=1, batch=2, block=8, threads=2)
    with (
        minillm.backend(elsewhere),
        pytest.raises(UserError, match="threads must be 1"),
    ):
        Trainer(model, (ids, None), config, tmp_path / "run", progress=False)


@pytest.mark.parametrize(
    "rule",
    [
        SGD(0.1, momentum=0.9, weight_decay=0.1),
        Adagrad(0.1),
        RMSprop(0.1),
        Adam(0.1, weight_decay=0.1),
        AdamW(0.1, weight_decay=0.1),
    ],
    ids=lambda rule: type(rule).__name__,
)
def test_update_on_the_gpu_is_the_rule_itself(rule):
    rng = np.random.default_rng(1)
    gpu = GPU(standin_cupy.cupy, UpdateOnGPU)
    params = {"w": rng.standard_normal((3, 4)), "b": rng.standard_normal(5)}
    there = gpu.put({name: p.copy() for name, p in params.items()})
    state, moved = rule.init(params), gpu.put(rule.init(params))
    for _ in range(3):
        grads = {name: rng.standard_normal(p.shape) for name, p in params.items()}
        sent = gpu.put(grads)
        rule.update(params, grads, state, 0.05, scale=0.5)
        on_gpu = gpu.optimizer(rule)
        on_gpu.update(there, sent, moved, 0.05, scale=0.5)
        assert on_gpu.global_norm(sent) == pytest.approx(rule.global_norm(grads), rel=1e-14)
    assert_close(gpu.get(there), params, 100 * EPS, "updated elsewhere,")
    assert_close(gpu.get(moved), state, 100 * EPS, "state elsewhere,")
    with pytest.raises(ValueError, match=r"missing \['b'\]"):
        on_gpu.update(there, {"w": sent["w"]}, moved)


def test_standin_is_not_numpy():
    array = standin_cupy.cupy.asarray(np.ones(3))
    with pytest.raises(TypeError, match="Unsupported type"):
        array + np.ones(3)
    with pytest.raises(TypeError, match="Implicit conversion"):
        np.asarray(array)
