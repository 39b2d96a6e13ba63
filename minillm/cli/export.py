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
    "--arpa", required=True, metavar="FILE", help="An ARPA file of an n-gram model; .gz for gzip."
)
def export(run, arpa):
    """Write RUN's n-gram model as an ARPA file, which KenLM and SRILM read.

    RUN is a run's folder, the folder of one checkpoint, or an ARPA file.
    """
    from minillm.cli.exporting import export_arpa
    from minillm.cli.runs import load_run

    model, _ = load_run(run)
    export_arpa(model, arpa)
