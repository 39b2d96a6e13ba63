"""A model's folder: weights.safetensors and model.json, each written whole or not at all."""

import contextlib
import json
from pathlib import Path

import safetensors
import safetensors.numpy

from minillm.errors import UserError
from minillm.files import save_safetensors, write_text
from minillm.tokenizers import load_tokenizer

__all__ = ["describe_folder", "load_folder", "save_folder"]

FORMAT = "minillm-model-1"
DESCRIPTION, WEIGHTS = "model.json", "weights.safetensors"


def save_folder(folder, kind, config, tokenizer, arrays):
    """Write a model; a reader sees each file's old version or its new one, whole.

    Parameters
    ----------
    folder : path, made where it does not exist
    kind : str, what `describe_folder` finds the class by
    config : dict that JSON can hold
    tokenizer : with `to_dict`
    arrays : {name: array}

    Raises
    ------
    UserError
        if the folder cannot be made or written to.
    """
    folder = Path(folder)
    description = {
        "format": FORMAT,
        "kind": kind,
        "config": config,
        "tokenizer": tokenizer.to_dict(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
    save_safetensors(folder / WEIGHTS, arrays)
    write_text(folder / DESCRIPTION, json.dumps(description, ensure_ascii=False, indent=1) + "\n")


def describe_folder(folder):
    """What model.json says: a dict with "kind" (str), "config" (dict) and "tokenizer" (dict).

    Raises
    ------
    UserError
        if there is no model in the folder, or its description is damaged or of another format.
    """
    path = Path(folder) / DESCRIPTION
    with _readable(folder):
        text = path.read_bytes()
    try:
        description = json.loads(text)
        found = description["format"]
        types = {"kind": str, "config": dict, "tokenizer": dict}
        whole = all(isinstance(description[name], type_) for name, type_ in types.items())
    except (ValueError, KeyError, TypeError, RecursionError):
        found, whole = FORMAT, False
    if found != FORMAT:
        raise UserError(f"{path}: of the format {found!r}; this version reads {FORMAT!r}")
    if not whole:
        raise UserError(f"{path}: damaged, not the description of a model")
    return description


def load_folder(folder, kind):
    """The config (dict), the tokenizer and the arrays of a saved model of a kind.

    Raises
    ------
    UserError
        if a file is missing, cut off or not what `save_folder` writes, or of another kind.
    """
    description, path = describe_folder(folder), Path(folder) / WEIGHTS
    if description["kind"] != kind:
        raise UserError(f"{folder}: a model of kind {description['kind']!r}, expected {kind!r}")
    try:
        tokenizer = load_tokenizer(description["tokenizer"])
    except UserError as error:
        raise UserError(f"{Path(folder) / DESCRIPTION}: {error}") from None
    with _readable(folder):
        path.open("rb").close()  # safetensors reports a folder or a missing right less clearly
    try:
        arrays = safetensors.numpy.load_file(path)
    except (safetensors.SafetensorError, ValueError, KeyError, AttributeError) as error:
        raise UserError(f"{path}: cut off or damaged: {error}") from None
    return description["config"], tokenizer, arrays


@contextlib.contextmanager
def _readable(folder):
    try:
        yield
    except FileNotFoundError as error:
        if not Path(folder).exists():
            raise UserError(f"{folder}: no such folder") from None
        missing = Path(error.filename).name
        raise UserError(f"{folder}: no model here, {missing} is missing") from None
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from None
