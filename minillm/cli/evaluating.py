"""What `minillm eval` does once its command line is understood."""

import dataclasses
import json
from collections.abc import Callable
from typing import Any

from minillm.cli.outputs import check_file
from minillm.cli.runs import arpa_file, load_run
from minillm.cli.words import NUMBERS, table
from minillm.data import encode_documents, load_corpus, split_documents
from minillm.data.prepare import by_line, name_of, split_lines
from minillm.errors import UserError
from minillm.files import write_text
from minillm.metrics import evaluate
from minillm.models.mixture import LinearMixture, LogLinearMixture
from minillm.training.run_file import read_run

__all__ = ["evaluate_runs"]

COLUMNS: dict[str, Callable] = {
    "model": lambda row: row["model"].kind,
    "tokenizer": lambda row: f"{name_of(row['model'].tokenizer)} {row['model'].vocab_size:,}",
    "parameters": lambda row: f"{row['model'].n_parameters:,}",
    "tokens": lambda row: f"{row['evaluation'].tokens:,}",
}


def _of_evaluation(show):
    return lambda row: show(row["evaluation"])


COLUMNS |= {name: _of_evaluation(show) for name, show in NUMBERS.items()}


def evaluate_runs(runs, data, part, split, lines, tokenizer, json_path, mix=None):
    """Print how well RUNs predict a part of a text; of several, all on the same text."""
    check_file(json_path)
    arpa = {run: found for run in runs if (found := arpa_file(run)) is not None}
    if tokenizer is not None and all(own is not None for _, own in arpa.values()):
        raise UserError("--tokenizer is for ARPA files that do not name theirs: a run has its own")
    if mix is not None and len(runs) < 2:
        raise UserError("--mix is of several RUNs, got one")
    rows = {}
    for run in runs:
        if run in rows:
            raise UserError(f"{run} is named twice")
        rows[run] = _evaluated(run, data, part, split, lines, tokenizer)
        if len(runs) == 1:
            _print_one(run, rows[run])
    _check_same_text(rows)
    if mix is not None:
        rows[f"{mix} mixture"] = _mixed(mix, list(rows.values()))
    if len(rows) > 1:
        first = rows[runs[0]]
        print(f"{first['part']} of {first['text']}: {first['evaluation'].bytes:,} bytes")
        print(table(rows, COLUMNS))
        for run, row in rows.items():
            if not row["evaluation"].is_distribution:
                print(f"{run}: its numbers are scores, not probabilities")
            for note in _notes(row):
                print(f"{run}: {note}")
        contexts = {row["evaluation"].context for row in rows.values()}
        for run, row in {"all": first}.items() if len(contexts) == 1 else rows.items():
            print(f"{run}: each prediction sees {row['evaluation'].context}")
    if json_path is not None:
        told = {run: _told(row) for run, row in rows.items()}
        write_text(json_path, json.dumps(told, indent=1, ensure_ascii=False) + "\n")


def _evaluated(run, data, part, split, lines, tokenizer):
    """The model of a RUN, the text that it is scored on, and its Evaluation."""
    arpa = arpa_file(run)
    if arpa is None:
        model, where = load_run(run)
        found = read_run(run)
        saved: dict = {} if found is None else found[1]
    else:
        path, own = arpa
        tokenizer = own or tokenizer
        model, where = load_run(path, tokenizer)
        # an ARPA file's words are mostly those of lines; not so the tokens of a tokenizer of ours
        saved = {"lines": tokenizer is None}
    given = bool(data)
    data = list(data or saved.get("data", ()))
    if not data:
        raise UserError(f"{run} does not say what it was trained on: name a text with --data")
    corpus = load_corpus(data[0] if len(data) == 1 else data)
    lines = saved.get("lines", False) if lines is None else lines
    if lines:
        corpus = dataclasses.replace(corpus, documents=by_line(corpus.documents))
    fractions = split or saved.get("split") or (0.8, 0.1, 0.1)
    parts = (split_lines if lines else split_documents)(corpus.documents, fractions)
    if part is None:
        part = "all" if given else "test" if parts.test else "validation"
    documents = corpus.documents if part == "all" else getattr(parts, part)
    if not documents:
        raise UserError(f"the {part} part is empty: {corpus}, split by {tuple(fractions)}")
    return {
        "model": model,
        "where": where,
        "part": part,
        "text": corpus.description,
        "documents": documents,
        "validation": parts.validation,
        "newlines": len(documents) if lines else 0,
        "evaluation": evaluate(model, documents, more_bytes=len(documents) if lines else 0),
        "unknown_bytes": sum(model.tokenizer.unknown_bytes(d.text) for d in documents),
    }


def _mixed(mix, rows):
    """A mixture of the rows' models as a row of its own, its weights from the validation part."""
    first = rows[0]
    if first["part"] in ("validation", "all"):
        raise UserError(
            "--mix finds its weights on the validation part: score another, --part test"
        )
    if not first["validation"]:
        raise UserError("--mix finds its weights on the validation part, which is empty")
    kind: Any = {"linear": LinearMixture, "log-linear": LogLinearMixture}[mix]
    ids = encode_documents(first["validation"], first["model"].tokenizer)
    model = kind.fit([row["model"] for row in rows], ids)
    weights = ", ".join(f"{weight:.4f}" for weight in model.weights)
    evaluation = evaluate(model, first["documents"], more_bytes=first["newlines"])
    return first | {"model": model, "evaluation": evaluation, "note": f"weights {weights}"}


def _check_same_text(rows):
    """Numbers on different texts do not stand in one table."""
    texts = {
        run: "".join(d.text.replace("\n", "") for d in r["documents"]) for run, r in rows.items()
    }
    first = next(iter(rows))
    for run, text in texts.items():
        if text != texts[first]:
            raise UserError(
                f"{first} and {run} were split otherwise or trained on other texts: "
                "name one for both with --data"
            )


def _print_one(run, row):
    documents, model = row["documents"], row["model"]
    characters = sum(len(d.text) for d in documents)
    print(f"{model.kind} from {row['where']}, {model.n_parameters:,} parameters")
    print(f"{row['part']} of {row['text']}: {len(documents)} documents, {characters:,} characters")
    print(row["evaluation"])
    for note in _notes(row, already_told=True):
        print(note)


def _notes(row, already_told=False):
    if "note" in row:
        yield row["note"]
    if row["evaluation"].why_infinite and not already_told:
        yield row["evaluation"].why_infinite
    if row["unknown_bytes"]:
        what = "words" if row["model"].tokenizer.kind == "word" else "characters"
        price = "" if row["evaluation"].bits_per_byte is None else ": 8 bits each"
        yield (f"{row['unknown_bytes']:,} bytes are of {what} that the model has never seen{price}")
    if row["evaluation"].is_distribution and row["evaluation"].bits_per_byte is None:
        yield "no bits per byte: the tokenizer does not give this text back"


def _told(row):
    numbers = dataclasses.asdict(row["evaluation"])
    numbers |= {name: None for name, value in numbers.items() if value != value}  # NaN
    model = row["model"]
    return numbers | {
        "kind": model.kind,
        "tokenizer": name_of(model.tokenizer),
        "vocab_size": model.vocab_size,
        "parameters": model.n_parameters,
        "unknown_bytes": row["unknown_bytes"],
        "part": row["part"],
        "text": row["text"],
    }
