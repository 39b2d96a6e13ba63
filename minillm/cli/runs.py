"""What a RUN is on the command line: a run's folder, or the folder of one checkpoint."""

import contextlib
import gzip
import zlib
from pathlib import Path

import numpy as np

from minillm.cli.progress import showing
from minillm.errors import UserError
from minillm.models.language_model import load_model
from minillm.models.ngram_arpa import ESCAPED
from minillm.models.ngram_arpa_read import read_arpa
from minillm.tokenizers import load_tokenizer_file
from minillm.tree import leaves

__all__ = ["arpa_file", "find_checkpoint", "load_run"]


def find_checkpoint(run):
    """The folder with the weights: RUN itself, or its `best`, or else its `last`.

    Raises
    ------
    UserError
        if there is none.
    """
    run = Path(run)
    if not run.exists():
        raise UserError(f"{run}: no such folder")
    if not run.is_dir():
        raise UserError(f"{run}: a file; a run or a checkpoint is a folder")
    for folder in (run, run / "best", run / "last"):
        if (folder / "model.json").exists() or (folder / "weights.safetensors").exists():
            return folder
    raise UserError(f"{run}: no model here: neither model.json nor best nor last")


def arpa_file(run):
    """(its path, the tokenizer behind an @ in it or None) of a RUN that is a file, else None."""
    if Path(run).is_file():
        return Path(run), None
    path, _, tokenizer = str(run).rpartition("@")
    return (Path(path), tokenizer) if path and Path(path).is_file() else None


def load_run(run, tokenizer=None):
    """The model of a RUN, and the folder or ARPA file that it came from.

    Parameters
    ----------
    run : path; of an ARPA file, "FILE@TOKENIZER" names the tokenizer too
    tokenizer : str or None, what an ARPA file's words are the tokens of, unless its name says it;
        None: words by white space

    Raises
    ------
    UserError
        if there is none, it is damaged, or a weight is not a finite number.
    """
    if (found := arpa_file(run)) is not None:
        path, its_own = found
        return _load_arpa(path, its_own or tokenizer), path
    if tokenizer is not None:
        raise UserError(f"{run}: a run has its tokenizer; another is for ARPA files")
    folder = find_checkpoint(run)
    model = load_model(folder)
    for name, weight in leaves(getattr(model, "params", {})):
        if not np.isfinite(weight).all():
            bad = weight.size - int(np.isfinite(weight).sum())
            raise UserError(f"{folder}: {bad} of {weight.size} weights in {name} are NaN or inf")
    return model, folder


def _load_arpa(path, tokenizer):
    with open(path, "rb") as file:
        start = file.read(2)
    name = Path(path).name.removesuffix(".gz")
    if start != b"\x1f\x8b" and not name.endswith((".arpa", ".lm")):
        raise UserError(f"{path}: a file; a run is a folder, and an ARPA file ends in .arpa or .gz")
    if tokenizer is None and _is_of_pieces(path):
        raise UserError(
            f"{path}: written with %XX, of tokens that are no words: name their tokenizer, "
            f"as in {path}@tok.json (eval: or --tokenizer)"
        )
    made = None if tokenizer is None else load_tokenizer_file(tokenizer)
    with showing(f"reading {path}") as progress:
        return read_arpa(path, made, progress=progress)


def _is_of_pieces(path):
    """Whether an ARPA file's first line says that its words are escaped."""
    with contextlib.suppress(EOFError, OSError, zlib.error):  # damaged: who reads it says how
        with open(path, "rb") as file:
            zipped = file.read(2) == b"\x1f\x8b"
        with gzip.open(path) if zipped else open(path, "rb") as file:
            return file.readline(200).strip() == ESCAPED.encode()
    return False
