"""Writing models in other people's formats."""

from minillm.errors import UserError

__all__ = ["export_arpa"]


def export_arpa(model, path):
    """Write an n-gram model as an ARPA file, and say so."""
    from minillm.models.ngram_arpa import write_arpa

    if model.kind != "ngram":
        raise UserError(f"an ARPA file holds an n-gram model, not one of kind {model.kind}")
    write_arpa(path, model)
    print(f"{path}: the model as an ARPA file")
