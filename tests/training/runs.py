"""Small real runs for the trainer's tests; as a program, one run in a process of its own.

python -m tests.training.runs OUT KIND [key=value ...]   (resumes where OUT holds a checkpoint)
"""

import json
import os
import sys
from pathlib import Path

import numpy as np

from minillm.models.language_model import LanguageModel
from minillm.tokenizers import CharTokenizer
from minillm.training import TrainConfig, Trainer

TOKENIZER = CharTokenizer("abcdefghij")
SHAPES = {
    "gpt": {"block_size": 8, "n_layer": 1, "n_head": 2, "n_embd": 16, "dropout": 0.2},
    "lstm": {"n_embd": 8, "n_hidden": 12, "n_layer": 2, "dropout": 0.2},
    "gru": {"n_embd": 8, "n_hidden": 12, "n_layer": 1},
    "neural-ngram": {"order": 3, "n_embd": 8, "n_hidden": 12, "dropout": 0.2},
}
SETTINGS = {
    "steps": 12,
    "batch": 5,
    "block": 8,
    "lr": 0.02,
    "warmup": 2,
    "eval_every": 4,
    "eval_batches": 2,
    "log_every": 3,
    "checkpoint_every": 5,
    "threads": 2,
    "seed": 3,
}


def text(n, seed):
    """Letters that mostly follow the alphabet, so that there is something to learn."""
    rng = np.random.default_rng(seed)
    return (np.cumsum(rng.choice([1, 1, 1, 2, 7], n)) % 10).astype(np.int32)


DATA = (text(1500, 0), text(300, 1))


def model(kind="gpt", **shape):
    return LanguageModel.create(kind, TOKENIZER, seed=1, **(SHAPES[kind] | shape))


def trainer(out, kind="gpt", *, data=DATA, resume=False, lm=None, **settings):
    config = TrainConfig(**(SETTINGS | settings))
    return Trainer(lm or model(kind), data, config, out, resume=resume, progress=False)


def weights(out, link="last"):
    return (Path(out) / link / "weights.safetensors").read_bytes()


def metrics(out):
    """The log without what depends on the clock."""
    lines = [json.loads(line) for line in (Path(out) / "metrics.jsonl").read_text().splitlines()]
    timed = ("seconds", "tokens_per_second")
    return [{k: v for k, v in line.items() if k not in timed} for line in lines]


def same_run(a, b):
    """Assert that two runs left the same files, times aside."""
    a, b = Path(a), Path(b)
    for link in ("last", "best"):
        assert os.readlink(a / link) == os.readlink(b / link)
        files = sorted(p.name for p in (a / link).iterdir())
        assert files == sorted(p.name for p in (b / link).iterdir())
        for name in files:
            if name != "state.json":
                assert (a / link / name).read_bytes() == (b / link / name).read_bytes(), name
    assert sorted(p.name for p in a.iterdir()) == sorted(p.name for p in b.iterdir())
    assert metrics(a) == metrics(b)


if __name__ == "__main__":
    out, kind = Path(sys.argv[1]), sys.argv[2]
    settings = {key: json.loads(value) for key, value in (s.split("=") for s in sys.argv[3:])}
    resume = (out / "last").exists() or any(out.glob("step-*"))
    run = trainer(out, kind, resume=resume, **settings)
    print("ready", flush=True)
    print(run.run().stopped, flush=True)
