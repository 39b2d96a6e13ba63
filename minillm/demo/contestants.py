"""Who takes part in the demo, and with what settings.

The steps are fixed, so that the same seed gives the same table on the same machine; they were
chosen to take RNN, LSTM and GPT about 15, 40 and 75 seconds on two free cores of 2020.
`max_seconds` only keeps a slow machine within the five minutes.
"""

import dataclasses

__all__ = [
    "CONTESTANTS",
    "LONG_RUN",
    "LONG_RUN_BITS",
    "LONG_RUN_MINUTES",
    "Contestant",
    "settings_of",
]

ALL = {"schedule": "cosine", "clip": 1.0, "final_lr": 1e-4}


@dataclasses.dataclass(frozen=True)
class Contestant:
    """One row of the table.

    name : what the row and its folder are called
    kind : see minillm.models
    shape : of the model; training: fields of TrainConfig; short: those that --short changes
    """

    name: str
    kind: str
    about: str
    shape: dict = dataclasses.field(default_factory=dict)
    training: dict = dataclasses.field(default_factory=dict)
    short: dict = dataclasses.field(default_factory=dict)


CONTESTANTS = (
    Contestant("uniform", "uniform", "every character is equally likely"),
    Contestant("unigram", "unigram", "how often each character occurs"),
    Contestant(
        "kneser-ney",
        "ngram",
        "5 characters decide the next, interpolated modified Kneser-Ney",
        {"order": 6},
    ),
    Contestant(
        "rnn",
        "rnn",
        "1 layer of 256 channels",
        {"n_embd": 64, "n_hidden": 256, "n_layer": 1},
        {"steps": 2400, "block": 64, "batch": 16, "lr": 2e-3, "warmup": 50, "max_seconds": 40},
        {"steps": 150, "warmup": 20, "max_seconds": 6},
    ),
    Contestant(
        "lstm",
        "lstm",
        "1 layer of 256 channels",
        {"n_embd": 64, "n_hidden": 256, "n_layer": 1},
        {"steps": 1800, "block": 64, "batch": 16, "lr": 5e-3, "warmup": 50, "max_seconds": 80},
        {"steps": 100, "warmup": 20, "max_seconds": 9},
    ),
    Contestant(
        "gpt",
        "gpt",
        "2 layers, 4 heads, 128 channels, rotary positions, sees 128 characters",
        {"n_layer": 2, "n_head": 4, "n_embd": 128, "position": "rotary", "block_size": 128},
        {"steps": 2400, "block": 128, "batch": 8, "lr": 3e-3, "warmup": 50, "max_seconds": 150},
        {"steps": 120, "warmup": 20, "max_seconds": 13},
    ),
)

# Measured with Python 3.11's help pages, where Kneser-Ney has 1.88.
LONG_RUN_MINUTES, LONG_RUN_BITS = 12, 1.77
LONG_RUN = (
    "minillm train gpt --out runs/gpt --n-head 6 --n-embd 192 --position rotary --dropout 0.1 "
    "--block 128 --batch 12 --steps 4000 --lr 2e-3 --final-lr 1e-4"
)


def settings_of(contestant, *, short, seed):
    """The fields of TrainConfig for a contestant that is trained."""
    settings = ALL | contestant.training | (contestant.short if short else {})
    steps = settings["steps"]
    every = steps // 6 if short else steps // 20
    return settings | {
        "eval_every": every,
        "eval_batches": 4 if short else 10,
        "log_every": every,
        "checkpoint_every": steps,
        "seed": seed,
    }
