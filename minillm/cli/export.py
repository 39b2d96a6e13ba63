"""`minillm export`: a trained model in another program's format."""

import click

from minillm.cli.options import Command

__all__ = ["export"]


@click.command(
    cls=Command,
    example="  minillm export runs/counts --arpa counts.arpa.gz",
)
@click.argument("run")
@click.option(
    "--arpa",
    required=True,
    metavar="FILE",
    help="An ARPA file of an n-gram model; .gz for gzip. A file of that name is replaced.",
)
def export(run, arpa):
    """Write RUN's n-gram model as an ARPA file, which KenLM and SRILM read.

    RUN is a run's folder, the folder of one checkpoint, or an ARPA file (m.arpa@tok.json, if
    its words are a tokenizer's tokens).
    """
    from minillm.cli.exporting import export_arpa
    from minillm.cli.outputs import check_file
    from minillm.cli.runs import load_run

    check_file(arpa)
    model, _ = load_run(run)
    export_arpa(model, arpa)
