"""A model's folder: weights.safetensors and model.json, written whole or not at all."""

import json
import os
from pathlib import Path

from safetensors import SafetensorError
from safetensors.numpy import load as arrays_from_bytes
from safetensors.numpy import save as arrays_to_bytes

from minillm.errors import UserError
from minillm.tokenizers import load_tokenizer

__all__ = ["load_folder", "save_folder"]

FORMAT = "minillm-model-1"


def save_folder(folder, kind, config, tokenizer, arrays):
    """Write a model of counts; a reader sees each file's old version or its new one, whole.

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
    files = {
        "weights.safetensors": arrays_to_bytes(arrays),
        "model.json": json.dumps(description, ensure_ascii=False, indent=1).encode(),
    }
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, data in files.items():
            unfinished = folder / f".{name}.{os.getpid()}"
            try:
                with unfinished.open("wb") as file:
                    file.write(data)
                    file.flush()
                    os.fsync(file.fileno())
                os.replace(unfinished, folder / name)
            finally:
                unfinished.unlink(missing_ok=True)
    except OSError as error:
        raise UserError(f"{folder}: cannot be written: {error.strerror}") from None


def load_folder(folder, kind):
    """The config, tokenizer and arrays of a saved model of a kind.

    Raises
    ------
    UserError
        if a file is missing, cut off or not what `save_folder` writes, or of another kind.
    """
    folder = Path(folder)
    try:
        text, weights = (
            (folder / name).read_bytes() for name in ("model.json", "weights.safetensors")
        )
    except FileNotFoundError as error:
        raise UserError(
            f"{folder}: no model here: there is no {Path(error.filename).name}"
        ) from None
    except OSError as error:
        raise UserError(f"{error.filename}: cannot be read: {error.strerror}") from None
    try:
        description = json.loads(text)
        found = description["kind"]
        config, tokenizer = description["config"], description["tokenizer"]
    except (ValueError, KeyError, TypeError):
        raise UserError(f"{folder / 'model.json'}: damaged: not a model's description") from None
    if found != kind:
        raise UserError(f"{folder}: a model of kind {found!r}, but {kind!r} was expected")
    try:
        arrays = arrays_from_bytes(weights)
    except SafetensorError as error:
        raise UserError(f"{folder / 'weights.safetensors'}: cut off or damaged: {error}") from None
    return config, load_tokenizer(tokenizer), arrays
