"""Writing models in other people's formats."""

from minillm.cli.progress import showing
from minillm.errors import UserError
from minillm.models.ngram_arpa import write_arpa
from minillm.models.ngram_smoothing import SCORE, SMOOTHINGS

__all__ = ["check_arpa", "export_arpa"]


def check_arpa(smoothing):
    """Refuse a smoothing that an ARPA file cannot hold, before anything is counted."""
    known = SMOOTHINGS[smoothing]
    if known.alone or known.form == SCORE:
        raise UserError(f"{smoothing} has no back-off weights, which --arpa needs")


def export_arpa(model, path):
    """Write an n-gram model as an ARPA file, and say so."""
    if model.kind != "ngram":
        raise UserError(f"an ARPA file holds an n-gram model, not one of kind {model.kind}")
    with showing(f"writing {path}") as progress:
        write_arpa(model, path, progress=progress)
    print(f"{path}: the model as an ARPA file")
