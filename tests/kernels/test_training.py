"""The Trainer and generation on the backends themselves: interpreted, emulated, or on a GPU."""

import numpy as np
import pytest

import minillm
from minillm.generation import generate
from minillm.models.language_model import LanguageModel
from minillm.tokenizers import CharTokenizer
from minillm.training import TrainConfig, Trainer
from tests.ops.harness import assert_close

TEXT = "the cat sat on the mat and the dog sat on the log. " * 4
TOKENIZER = CharTokenizer.train([TEXT])
IDS = np.asarray(TOKENIZER.encode(TEXT))


def trained(out):
    model = LanguageModel.create(
        "gpt", TOKENIZER, seed=3, n_layer=1, n_embd=32, n_head=1, block_size=8
    )
    settings = {"steps": 3, "batch": 2, "block": 8, "lr": 0.01, "clip": 0.5, "eval_every": 3}
    config = TrainConfig(**settings, eval_batches=1, threads=1, weight_decay=0.1)
    result = Trainer(model, (IDS[:150], IDS[150:]), config, out, progress=False).run()
    return model, result


@pytest.mark.parametrize("backend", ["cupy", "triton"])
def test_a_run_is_the_run_on_numpy(backend, place, tmp_path):
    with minillm.backend("numpy"):
        here, expected = trained(tmp_path / "here")
    with minillm.backend(backend):
        there, result = trained(tmp_path / "there")
        text = generate(there, IDS[:5], max_new_tokens=6, greedy=True).tolist()
    # Adam divides by the root of the square of a gradient: where that is near rounding, so is its
    # error; elsewhere three steps of a few hundred additions each
    assert_close(there.params, here.params, 5e-3 * 0.01, f"{backend},")
    for line, other in zip(expected.history, result.history, strict=True):
        assert other["validation_loss"] == pytest.approx(line["validation_loss"], rel=1e-5)
    with minillm.backend("numpy"):
        assert generate(there, IDS[:5], max_new_tokens=6, greedy=True).tolist() == text
