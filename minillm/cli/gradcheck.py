"""`minillm gradcheck`: check the gradients in somebody's file."""

import click

from minillm.cli.options import Command, OneOf

__all__ = ["gradcheck"]


@click.command(
    cls=Command,
    groups={
        "What the functions get": ["arg", "option", "dtype", "seed"],
        "How strict": ["full", "rtol", "allow_zero"],
    },
    example="  minillm gradcheck layers.py --arg x=4,7 --arg gain=7 --arg bias=7\n"
    "  minillm gradcheck layers.py:cross_entropy --arg logits=8,10 --arg targets=int:8:0..9",
)
@click.argument("file", metavar="FILE[:NAME]", required=False)
@click.option(
    "--arg",
    "-a",
    multiple=True,
    metavar="NAME=SHAPE",
    help="An array: x=4,7 floats; x=4,7:0.1..3 floats in a range; t=() a scalar; "
    "ids=int:8,5:0..9 integers; mask=bool:4,4; y=[0,2,1] values; x=@x.npy a file; "
    "rng=rng a generator; bias=None; params.w=3,5 an entry of a dict; softmax:x=4,7 for the "
    "function softmax only. [default: shapes that a docstring gives as in `x : (..., C)`]",
)
@click.option(
    "--option",
    "-o",
    multiple=True,
    metavar="NAME=VALUE",
    help="Any other argument, as Python writes it: eps=1e-5, causal=True, shape=[2,3].",
)
@click.option(
    "--dtype",
    type=OneOf("dtype", ("float64", "float32")),
    default="float64",
    metavar="NAME",
    help="Of the floats: float64 or float32. [default: float64]",
)
@click.option(
    "--seed",
    type=int,
    default=0,
    metavar="N",
    help="Same seed, same inputs. [default: 0]",
)
@click.option("--full", is_flag=True, help="Check every element; slower.")
@click.option(
    "--rtol",
    type=float,
    metavar="X",
    help="Allow this relative error. [default: from the dtype and the measured rounding]",
)
@click.option(
    "--allow-zero",
    multiple=True,
    metavar="NAME",
    help="An argument whose gradient may be zero everywhere, or all.",
)
@click.option("--json", "as_json", is_flag=True, help="Print one JSON document instead of text.")
@click.option("--self-test", is_flag=True, help="Check the checker on its own catalogue instead.")
def gradcheck(file, self_test, as_json, **choices):
    """Check the backward functions in FILE against numerical derivatives.

    FILE is a Python file; NAME is one of its functions, by default all are checked. A pair is
    f(...) or f_forward(...) returning (out, cache), with f_backward(dout, cache); or f(...)
    returning out, with f_vjp(dout, ...); or an @op of minillm.

    What FILE prints goes to stderr. Exit code: 0 all passed, 1 one failed, 2 a mistake in what was
    typed or in reading FILE, 3 a check was inconclusive and none failed.
    """
    if self_test:
        if file is not None:
            raise click.UsageError(f"--self-test takes no file, got {file}")
        return run_self_test(as_json)
    if file is None:
        raise click.UsageError("missing argument 'FILE[:NAME]'", click.get_current_context())
    from minillm.cli.checking import check_file

    return check_file(file, as_json, **choices)


def run_self_test(as_json):
    """Run the checker on its catalogue of wrong backwards of our ops; returns the exit code."""
    from tqdm import tqdm

    from minillm import backend, ops
    from minillm.gradcheck import selftest
    from minillm.ops._state import Registry

    def pairs(name):
        return Registry.pair(name, "numpy")

    def progress(cases):
        return tqdm(cases, disable=None, leave=False, unit="check")  # in a terminal only

    with backend("numpy"):
        return selftest.run(ops, pairs, click.echo, json=as_json, progress=progress)
