"""OUT/run.json: what a run was started with, so that it can be resumed and scored without repeating
its settings."""

import json
from pathlib import Path

from minillm.errors import UserError
from minillm.files import read_json, write_text

__all__ = ["read_run", "write_run"]

RUN_FILE = "run.json"
FORMAT = "minillm-settings-1"


def write_run(out, model, settings):
    """Write OUT/run.json, making the folder where it is missing.

    Parameters
    ----------
    out : the run's folder
    model : str, the model's kind
    settings : dict that JSON can hold: data, split, tokenizer, and the fields of the model's
        configuration and of TrainConfig that are not at their defaults

    Raises
    ------
    UserError
        if the folder cannot be made or written to.
    """
    out = Path(out)
    try:
        out.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {out}: {error.strerror}") from None
    run = {"format": FORMAT, "model": model, "settings": settings}
    write_text(out / RUN_FILE, json.dumps(run, indent=1, ensure_ascii=False) + "\n")


def read_run(run):
    """(model, settings) of a run's folder, or of the run that a checkpoint's folder is in; or None.

    Raises
    ------
    UserError
        if the file is damaged.
    """
    run = Path(run)
    if (run / "model.json").exists():
        run = run.resolve().parent  # a link like OUT/best leads to a folder in the run's own
    path = run / RUN_FILE
    if not path.exists():
        return None
    saved = read_json(path)
    if saved.get("format") != FORMAT:
        raise UserError(f"{path} is not of the format {FORMAT}")
    model, settings = saved.get("model"), saved.get("settings")
    if not isinstance(model, str) or not isinstance(settings, dict):
        raise UserError(f"{path} is damaged: no model or no settings in it")
    return model, settings
