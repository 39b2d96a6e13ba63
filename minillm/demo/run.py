"""Train every contestant on one split, score each on the test part, and keep what they left."""

import dataclasses
import json
import math
import platform
import time
from pathlib import Path

import numpy as np

from minillm.cores import available_cores
from minillm.data.prepare import prepare
from minillm.demo.contestants import CONTESTANTS, settings_of
from minillm.demo.folder import FORMAT, MARK, demo_folder
from minillm.demo.report import conclusion, draw_attention, draw_curves, table
from minillm.errors import UserError
from minillm.files import write_text
from minillm.generation import generate
from minillm.metrics import evaluate
from minillm.models.language_model import LanguageModel, encode_prompt
from minillm.training import TrainConfig, Trainer
from minillm.training.counting import COUNTED, count_model
from minillm.training.run_file import write_run

__all__ = ["Result", "run_demo"]

PROMPT, LENGTH, TEMPERATURE = "The ", 100, 0.7


@dataclasses.dataclass(frozen=True)
class Result:
    """A row of the table.

    bits_per_byte : on the test part; validation: on the validation part
    parameters, seconds : of the training or counting
    text : what it wrote, on one line
    curve : (seconds, bits per byte on a sample of the validation part), or None
    stopped : "steps", or "time" where the machine was too slow for them
    """

    name: str
    bits_per_byte: float
    validation: float
    parameters: int
    seconds: float
    text: str
    curve: tuple[list, list] | None = None
    stopped: str = "steps"


def run_demo(out, *, short=False, seed=0):
    """Run the demo into the folder `out`, telling on stdout how it goes.

    Parameters
    ----------
    out : path; an earlier demo's folder is replaced when this one is complete
    short : bool, a few steps only, to see that everything works
    seed : int

    Returns
    -------
    results : list of Result

    Raises
    ------
    UserError
        if `out` is something else's folder or cannot be written.
    KeyboardInterrupt
        after Ctrl-C; `out` is as it was before.
    """
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")
    out = Path(out)
    with demo_folder(out) as folder:
        text = prepare("topics")
        print(f"{text.describe()}\n{available_cores()} cores", flush=True)
        results = []
        for contestant in CONTESTANTS:
            model, result = _compete(contestant, text, folder, short=short, seed=seed)
            results.append(result)
        names = draw_curves(results, folder), draw_attention(model, text.split.test, folder)
        said = f"{table(results)}\n\n{conclusion(results, short=short)}\n"
        write_text(folder / "table.txt", said)
        _write_mark(folder, text, results, short=short, seed=seed)
    print(f"\n{said}")
    for name, what in names:
        print(f"{out / name}: {what}")
    print(f"{out / 'table.txt'}, {out / MARK}: the table above, for people and for programs")
    print(f'The models: minillm generate {out / "gpt"} --prompt "The "')
    return results


def _compete(contestant, text, folder, *, short, seed):
    """Train or count one model, score it, let it write; returns (model, Result)."""
    print(f"\n{contestant.name}: {contestant.about}", flush=True)
    out, kind, began = folder / contestant.name, contestant.kind, time.perf_counter()
    curve, stopped, settings = None, "steps", dict(contestant.shape)
    if kind in COUNTED:
        model = count_model(kind, text.train, text.tokenizer, out, **contestant.shape)
        seconds = time.perf_counter() - began
    else:
        training = settings_of(contestant, short=short, seed=seed)
        settings |= training
        model = LanguageModel.create(kind, text.tokenizer, seed=seed, **contestant.shape)
        trainer = Trainer(model, (text.train, text.validation), TrainConfig(**training), out)
        result = trainer.run()
        if result.stopped.startswith("SIG"):
            raise KeyboardInterrupt
        seconds, stopped = result.seconds, result.stopped
        curve = _curve(result.history, text)
        model = LanguageModel.load(out / "best")
    write_run(out, kind, {"data": ["topics"], "tokenizer": "char", **settings})
    test, validation = (evaluate(model, d) for d in (text.split.test, text.split.validation))
    row = Result(
        name=contestant.name,
        bits_per_byte=test.bits_per_byte,
        validation=validation.bits_per_byte,
        parameters=model.n_parameters,
        seconds=seconds,
        text=_write(model, seed),
        curve=curve,
        stopped=stopped,
    )
    print(f"{row.bits_per_byte:.3f} bits per byte on the test text after {seconds:.1f} s: ", end="")
    print(row.text[:60], flush=True)
    return model, row


def _curve(history, text):
    """The validation losses of a log, in bits per byte, against the seconds.

    A loss is a mean over sampled tokens; over the whole part there are so many tokens for each
    byte, and unknown characters pay as they do in `bits_per_byte`.
    """
    documents = text.split.validation
    n_bytes = sum(len(d.text.encode()) for d in documents)
    tokens = len(text.validation) / n_bytes
    lost = sum(text.tokenizer.unknown_bytes(d.text) for d in documents) / n_bytes
    lines = [line for line in history if line["validation_loss"] is not None]
    bits = [line["validation_loss"] / math.log(2) * tokens + 8 * lost for line in lines]
    return [line["seconds"] for line in lines], bits


def _write(model, seed):
    """One line of the model's own, the prompt included."""
    ids = generate(
        model,
        encode_prompt(model.tokenizer, PROMPT),
        max_new_tokens=LENGTH,
        temperature=TEMPERATURE,
        rng=np.random.default_rng(seed),
    )
    return " ".join((PROMPT + model.tokenizer.decode(ids)).split())


def _write_mark(folder, text, results, *, short, seed):
    mark = {
        "format": FORMAT,
        "short": short,
        "seed": seed,
        "text": text.describe(),
        "prompt": PROMPT,
        "temperature": TEMPERATURE,
        "cores": available_cores(),
        "python": platform.python_version(),
        "numpy": np.__version__,
        "results": [dataclasses.asdict(r) for r in results],
    }
    write_text(folder / MARK, json.dumps(mark, indent=1, ensure_ascii=False) + "\n")
