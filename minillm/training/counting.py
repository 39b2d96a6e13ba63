"""Models that are counted rather than trained, kept in the same folders as those that are."""

import contextlib
from pathlib import Path

from minillm.errors import UserError
from minillm.files import new_folder
from minillm.models.baselines import Uniform, Unigram
from minillm.models.ngram import NGram, NGramConfig
from minillm.training import checkpoint

__all__ = ["COUNTED", "check_new", "check_settings", "count_model"]

COUNTED = {
    "uniform": lambda ids, tokenizer: Uniform(tokenizer),
    "unigram": Unigram.train,
    "ngram": NGram.train,
}


def check_settings(kind, settings):
    """Refuse settings that are out of range, before any text is read.

    Raises
    ------
    UserError
        naming the setting.
    """
    if kind == "ngram":
        NGramConfig(**settings)


def check_new(out):
    """Refuse a folder that holds a run already.

    Raises
    ------
    UserError
        naming it.
    """
    if checkpoint.holds_a_run(Path(out)):
        raise UserError(f"{out} holds a run already: choose another folder")


def count_model(kind, ids, tokenizer, out, *, progress=None, **settings):
    """Count a text and save the model as a run of no steps: OUT/step-000000, OUT/last, OUT/best.

    Parameters
    ----------
    kind : str, a key of COUNTED
    ids : (N,) int, each document followed by the end id
    tokenizer : what made the ids
    out : the run's folder
    progress : function of (done, total), told now and then where counting takes long
    settings : of the n-gram: those of NGramConfig, and `held_out` (T,), see NGram.train

    Returns
    -------
    model

    Raises
    ------
    UserError
        when `out` holds a run already or cannot be written, or for settings out of range.
    """
    out = Path(out)
    check_new(out)
    if kind == "ngram":
        settings["progress"] = progress
    model = COUNTED[kind](ids, tokenizer, **settings)
    with _no_folder_left_empty(out):
        with new_folder(out / "step-000000") as folder:
            model.save(folder)
        checkpoint.link(out, "step-000000", best=True)
    return model


@contextlib.contextmanager
def _no_folder_left_empty(out):
    """After an error or Ctrl-C, folders that were made inside and hold nothing are removed."""
    made = [folder for folder in (out, *out.parents) if not folder.exists()]
    try:
        yield
    except BaseException:
        with contextlib.suppress(OSError):
            for folder in made:
                folder.rmdir()
        raise
