"""Results that took long to compute, kept in a run folder, so that a restart loses nothing."""

import hashlib
import inspect
import io
import json
import zipfile
from pathlib import Path

import numpy as np

from minillm.errors import UserError
from minillm.files import write_bytes
from minillm.training.batches import fingerprint
from minillm.training.checkpoint import holds_a_run
from minillm.training.trainer import Trainer
from minillm.tree import leaves

__all__ = ["keep", "train_or_load"]

SETTINGS = "__settings__"


def keep(path, function, **settings):
    """What `function(**settings)` returns, computed once and read from a file ever after.

    It is computed again when the settings or the function's source differ from those that the file
    was made with; what else it reads (a text, another function) does not count.

    Parameters
    ----------
    path : str or Path, of the .npz file; its folder is made where it is missing
    function : called with the settings, returns {name: array or number}
    settings : anything that JSON can hold

    Returns
    -------
    results : {name: array or number}, the same whether computed or read

    Raises
    ------
    UserError
        if the function has no source, the settings are nothing that JSON can hold, the results
        are no dict of arrays, or the file cannot be written.
    """
    path = Path(path)
    try:
        asked = json.dumps([settings, inspect.getsource(function)], sort_keys=True)
    except TypeError as error:
        raise UserError(f"function must have a source, settings a form in JSON: {error}") from None
    except OSError:
        raise UserError(f"function must have a source, {function!r} has none") from None
    found = _read(path, asked)
    if found is not None:
        return found
    results = function(**settings)
    if not isinstance(results, dict):
        raise UserError(f"{function.__name__} must return a dict, got {type(results).__name__}")
    arrays = {name: np.asarray(value) for name, value in results.items()}
    for name, array in arrays.items():
        if array.dtype.hasobject or name == SETTINGS:
            raise UserError(f"{name!r} is no array of numbers or text that can be kept")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {path.parent}: {error.strerror}") from None
    file = io.BytesIO()
    np.savez_compressed(file, allow_pickle=False, **{SETTINGS: np.array(asked)}, **arrays)
    write_bytes(path, file.getvalue())
    return {name: _plain(array) for name, array in arrays.items()}


def train_or_load(model, data, config, out, *, progress=True):
    """Train a model in place, or give it the weights that the same training left before.

    The run lies in a folder of its own below `out`, named after all that decides it: the model's
    kind, configuration and first weights, the data and the TrainConfig. A run that was interrupted
    continues from its last checkpoint. Changed settings make a new folder; the old one stays.

    Parameters
    ----------
    model : a LanguageModel, with its first weights
    data : (training ids, validation ids or None), 1-D integer arrays
    config : TrainConfig; `threads` should be given, it decides how gradients are added up
    out : str or Path
    progress : bool, show a bar or lines

    Returns
    -------
    result : TrainResult, as Trainer.run gives it

    Raises
    ------
    UserError, TrainingDiverged
        as Trainer does.
    """
    name = hashlib.sha256()
    name.update(json.dumps([model.kind, repr(model.config), config.to_dict()]).encode())
    name.update("".join(fingerprint(ids) for ids in data if ids is not None).encode())
    for path, leaf in leaves(model.params):
        name.update(path.encode() + np.ascontiguousarray(leaf).tobytes())
    folder = Path(out) / name.hexdigest()[:12]
    return Trainer(model, data, config, folder, resume=holds_a_run(folder), progress=progress).run()


def _read(path, asked):
    """The results in a file, or None where it is missing, damaged or made with other settings."""
    try:
        with np.load(io.BytesIO(path.read_bytes()), allow_pickle=False) as file:
            if file[SETTINGS] != asked:
                return None
            return {name: _plain(file[name]) for name in file.files if name != SETTINGS}
    except (OSError, ValueError, KeyError, EOFError, zipfile.BadZipFile):
        return None


def _plain(array):
    return array if array.ndim else array.item()
