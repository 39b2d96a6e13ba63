"""What `minillm train` does once its command line is understood."""

import dataclasses
import json
import os
import shlex
from pathlib import Path

from minillm.cli.exporting import check_arpa, export_arpa
from minillm.cli.outputs import check_file, check_folder
from minillm.cli.progress import showing
from minillm.cli.settings import TOKENIZERS
from minillm.cli.words import NUMBERS, duration, table
from minillm.data.prepare import prepare
from minillm.errors import UserError
from minillm.metrics import evaluate
from minillm.models.language_model import KINDS, LanguageModel
from minillm.models.ngram import NGramConfig
from minillm.training import TrainConfig, Trainer
from minillm.training.config import FREE
from minillm.training.counting import check_new, check_settings, count_model
from minillm.training.run_file import read_run, write_run

__all__ = ["count", "fit", "settings_of_run"]

CORPORA = ("topics", "stdlib")
TEXT = {"data": ("topics",), "split": (0.8, 0.1, 0.1), "tokenizer": "char"}
INTERRUPTED = 3


def settings_of_run(out, model, given):
    """The model and the settings of the run in `out`, with what was given now.

    Raises
    ------
    UserError
        if there is no run, or what was given now is not what it was started with.
    """
    saved = read_run(out)
    if saved is None:
        raise UserError(f"{out} holds no run to resume: start one without --resume")
    kind, settings = saved
    if model not in (None, kind):
        raise UserError(f"the run in {out} is of the model {kind}, not {model}")
    for name, value in _absolute(given).items():
        before = settings.get(name, value if name in FREE else None)
        if name not in FREE and json.loads(json.dumps(value)) != before:
            raise UserError(
                f"{name}: the run to resume has {'the default' if before is None else before}, "
                f"not {value}; a run continues with its own settings, others need a new run"
            )
    return kind, settings | given


def fit(kind, out, resume, given):
    """Train a neural model; returns the exit code."""
    out, given = Path(out), TEXT | given
    check_folder(out)
    text = _text(given)
    shape, training = _divide(kind, given)
    config = TrainConfig(**training)
    if kind == "gpt":
        shape["block_size"] = config.block
    model = LanguageModel.create(kind, text.tokenizer, seed=config.seed, **shape)
    print(f"{text.describe()}\n{kind}: {model.n_parameters:,} parameters", flush=True)
    trainer = Trainer(model, (text.train, text.validation), config, out, resume=resume)
    write_run(out, kind, _absolute(given))
    result = trainer.run()
    _draw(out, model, result.history)
    if result.stopped.startswith("SIG"):
        print(f"stopped by {result.stopped} after step {result.step}, which is saved; go on with:")
        print(f"  minillm train --resume --out {out}")
        return INTERRUPTED
    why = {"steps": "", "patience": ", out of patience", "time": ", out of time"}[result.stopped]
    print(f"\n{result.step:,} steps in {duration(result.seconds)}{why}")
    best = LanguageModel.load(out / "best") if result.best_step is not None else model
    _report(best, text, given)
    if result.best_step is not None:
        loss = f"validation loss {result.best_loss:.4f} nats per token at step {result.best_step:,}"
        print(f"{out / 'best'}: the weights of the best {loss}")
    print(f"{out / 'last'}: the newest weights, and all that --resume needs")
    print(f"{out / 'metrics.jsonl'}, {out / 'curve.png'}: what was measured")
    _next(out)
    return 0


def count(kind, out, resume, given, arpa=None):
    """Count a text; returns the exit code."""
    if resume:
        raise UserError(f"{kind} is counted in one go: there is nothing to resume")
    out, given = Path(out), TEXT | given
    names = {field.name for field in dataclasses.fields(NGramConfig)} if kind == "ngram" else set()
    settings = {name: value for name, value in given.items() if name in names}
    check_settings(kind, settings)
    check_new(out)
    check_folder(out)
    if arpa is not None:
        check_arpa(settings.get("smoothing", NGramConfig.smoothing))
        check_file(arpa)
    text = _text(given)
    if settings.get("smoothing") == "jelinek-mercer" and text.validation is not None:
        settings["held_out"] = text.validation
    with showing(f"counting {len(text.train):,} tokens") as progress:
        model = count_model(kind, text.train, text.tokenizer, out, progress=progress, **settings)
    write_run(out, kind, _absolute(given))
    print(f"{text.describe()}\n{kind}: {model.n_parameters:,} parameters")
    for note in getattr(model, "notes", ()):
        print(f"note: {note}")
    if not getattr(model, "is_distribution", True):
        print(f"note: {model.config.smoothing} gives scores, not probabilities: they sum to no 1")
    print()
    _report(model, text, given)
    print(f"{out / 'last'}: the model")
    if arpa is not None:
        export_arpa(model, arpa)
    _next(out)
    return 0


def _divide(kind, given):
    """The settings of the model's configuration, and those of the training's."""
    _, config_class = KINDS[kind]
    of_model = {field.name for field in dataclasses.fields(config_class)}
    of_training = {field.name for field in dataclasses.fields(TrainConfig)}
    return (
        {name: value for name, value in given.items() if name in of_model},
        {name: value for name, value in given.items() if name in of_training},
    )


def _text(given):
    """The text of a run, as prepare() reads it."""
    data = given["data"]
    source = data[0] if len(data) == 1 else list(data)
    with showing(f"training the {given['tokenizer']} tokenizer") as progress:
        return prepare(
            source,
            tokenizer=given["tokenizer"],
            fractions=given["split"],
            vocab_size=given.get("vocab_size"),
            lines=given.get("lines", False),
            progress=progress,
        )


def _absolute(given):
    """The settings with the files' paths in full: a run may be resumed from another folder."""
    given = dict(given)
    if "data" in given:
        given["data"] = [d if d in CORPORA else os.path.abspath(d) for d in given["data"]]
    if given.get("tokenizer", "char") not in TOKENIZERS:
        given["tokenizer"] = os.path.abspath(given["tokenizer"])
    return given


def _draw(out, model, history):
    """OUT/curve.png from the lines of the log."""
    from minillm.viz import loss_curve, save

    def columns(name):
        lines = [line for line in history if line[name] is not None]
        return [line["step"] for line in lines], [line[name] for line in lines]

    validation = columns("validation_loss")
    figure = loss_curve(
        *columns("train_loss"),
        validation=validation if validation[0] else None,
        title=f"{model.kind}, {model.n_parameters:,} parameters",
    )
    save(figure, out / "curve.png")


def _report(model, text, given):
    """A row for the validation part and one for the test part, where the split leaves any."""
    parts = {"validation": text.split.validation, "test": text.split.test}
    newlines = given.get("lines", False)
    rows = {
        name: evaluate(model, part, more_bytes=len(part) if newlines else 0)
        for name, part in parts.items()
        if any(d.text for d in part)
    }
    if not rows:
        return
    print(table(rows, NUMBERS))
    for name, row in rows.items():
        if row.why_infinite:
            print(f"{name}: {row.why_infinite}")
    print(f"Each prediction sees {next(iter(rows.values())).context}.")


def _next(out):
    print(f"\nNow try: minillm generate {shlex.quote(str(out))}")
