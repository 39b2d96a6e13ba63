"""Checkpoints: OUT/step-000123/, and the links OUT/last and OUT/best to two of these folders.

    weights.safetensors, model.json   the model, as `model.save` writes it
    optimizer.safetensors             the optimizer's state
    state.json                        settings, counters, the data's fingerprint
    state.safetensors                 a recurrent model's state, where there is one

A folder gets its name when it is complete, and a link is swapped only after that: whenever the
process is killed, `last` leads to a whole checkpoint.
"""

import contextlib
import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np

from minillm.errors import UserError
from minillm.files import (
    TEMPORARY,
    new_folder,
    read_json,
    read_safetensors,
    replace_link,
    save_safetensors,
    write_text,
)
from minillm.models.folder import describe_folder
from minillm.tree import flatten, leaves, unflatten

__all__ = [
    "find_last",
    "forget_start",
    "holds_a_run",
    "link",
    "load_arrays",
    "never_saved_a_step",
    "read_state",
    "save_checkpoint",
    "tidy",
]

FORMAT = "minillm-run-1"
LINKS = ("last", "best")
START = "step-000000"


def save_checkpoint(out, state, *, model, optimizer_state, recurrent_state, best):
    """Write OUT/step-N with N = state["step"], then point `last`, and `best` where asked, at it.

    Raises
    ------
    UserError
        naming the file and the reason; the checkpoints that were there stay as they were.
    """
    out = Path(out)
    name = f"step-{state['step']:06d}"
    with new_folder(out / name) as folder:
        model.save(folder)
        save_safetensors(folder / "optimizer.safetensors", flatten(optimizer_state))
        if recurrent_state is not None:
            save_safetensors(folder / "state.safetensors", _named(recurrent_state))
        write_text(folder / "state.json", json.dumps({"format": FORMAT, **state}, indent=1))
    link(out, name, best=best)


def read_state(folder):
    """The dict that was saved as `state`.

    Raises
    ------
    UserError
        when the file is missing, damaged or of another format.
    """
    path = Path(folder) / "state.json"
    state = read_json(path)
    if state.get("format") != FORMAT:
        raise UserError(f"{path} is not of the format {FORMAT}")
    return state


def load_arrays(folder, *, model, optimizer_state):
    """Fill the model's parameters and the optimizer's state from a checkpoint, in place.

    Returns
    -------
    recurrent_state : nest or None

    Raises
    ------
    UserError
        when a file is missing or damaged, or the checkpoint is another model's.
    """
    folder = Path(folder)
    _check_same_model(describe_folder(folder), model, folder)
    _fill(model.params, folder / "weights.safetensors")
    _fill(optimizer_state, folder / "optimizer.safetensors")
    recurrent = folder / "state.safetensors"
    return _unnamed(read_safetensors(recurrent)) if recurrent.exists() else None


def link(out, name, *, best):
    """Point `last`, and `best` where asked, at the checkpoint `name`; remove what is left over.

    `last` goes first: `best` is never newer than it, and a resumed run can mend it.
    """
    out = Path(out)
    replace_link(out / "last", name)
    if best:
        replace_link(out / "best", name)
    tidy(out)


def find_last(out):
    """The folder of the newest complete checkpoint, or None.

    Without the link there is at most the very first folder, if the run was killed between the two.
    """
    out = Path(out)
    if (out / "last").exists():
        return out / os.readlink(out / "last")
    return max(_step_folders(out), default=None)


def holds_a_run(out):
    """Whether a training run has left anything in this folder."""
    out = Path(out)
    return any(os.path.lexists(out / n) for n in (*LINKS, "metrics.jsonl")) or bool(
        _step_folders(out)
    )


def never_saved_a_step(out):
    """Whether all that a run has left here is its start: nothing learnt is lost with it."""
    start = Path(out) / START
    return _step_folders(Path(out)) == [start] and (start / "state.json").exists()


def forget_start(out):
    """Remove the start of a run that never saved a step, for another one to begin here."""
    out = Path(out)
    if never_saved_a_step(out):
        for name in LINKS:
            (out / name).unlink(missing_ok=True)
        tidy(out)


def tidy(out):
    """Remove the step folders that no link points to, and what a killed process left unfinished."""
    out = Path(out)
    kept = {os.readlink(out / n) for n in LINKS if (out / n).is_symlink()}
    for folder in _step_folders(out):
        if folder.name not in kept:
            # under another name first: no half-removed folder ever looks like a checkpoint
            doomed = out / f"{TEMPORARY}{folder.name}-old"
            with contextlib.suppress(OSError):
                os.replace(folder, doomed)
    for leftover in out.glob(f"{TEMPORARY}*"):
        if leftover.is_dir() and not leftover.is_symlink():
            shutil.rmtree(leftover, ignore_errors=True)
        else:
            leftover.unlink(missing_ok=True)


def _step_folders(out):
    return [p for p in out.glob("step-*") if p.is_dir() and p.name[5:].isdecimal()]


def _check_same_model(saved, model, folder):
    here = {
        "kind": model.kind,
        "config": dataclasses.asdict(model.config),
        "tokenizer": model.tokenizer.to_dict(),
    }
    for name, value in json.loads(json.dumps(here)).items():
        if saved.get(name) != value:
            what = f"{saved.get(name)!r}, not {value!r}" if name == "kind" else "not this model's"
            raise UserError(f"{folder}: the checkpoint's {name} is {what}")


def _fill(nest, path):
    """Copy a file's arrays into those of the nest: equal values at the nest's own addresses."""
    try:
        loaded = unflatten(read_safetensors(path), like=nest)
    except UserError:
        raise
    except ValueError as error:
        raise UserError(f"{path}: {error}") from error
    for (name, array), (_, value) in zip(leaves(nest), leaves(loaded), strict=True):
        if array.dtype != value.dtype:
            raise UserError(f"{path}: {name} must be {array.dtype}, got {value.dtype}")
        np.copyto(array, value)


def _named(state):
    """A recurrent state as {name: array}; one that is a single array is called "state"."""
    return flatten({"state": state})


def _unnamed(flat):
    """The inverse, for what recurrent layers use: an array, or a dict of arrays."""
    if "state" in flat:
        return flat["state"]
    return {name.removeprefix("state."): array for name, array in flat.items()}
