"""`minillm course`: assignments released, checked and graded."""

import click

from minillm.cli.options import Command, Commands

__all__ = ["course"]

TIER = click.option(
    "--tier",
    metavar="NAME",
    help="Isolation of the students' code: uid (another user: for marks) or same (for trying). "
    "[default: the strongest that this system allows]",
)


@click.group(cls=Commands, invoke_without_command=True)
@click.pass_context
def course(context):
    """Assignments made from this code: release, check, grade."""
    if context.invoked_subcommand is None:
        click.echo(context.get_help())


@course.command("list", cls=Command, example="  minillm course list")
def list_():
    """Which assignments there are, their hours and tasks."""
    from minillm.cli.coursing import listed

    click.echo(listed())


@course.command(cls=Command, example="  minillm course release hw3 --to handouts/hw3")
@click.argument("assignment")
@click.option("--to", metavar="DIR", required=True, help="Where to write the students' files.")
@click.option("--student", metavar="NAME", help="With the variant of this student.")
@click.option("--students", metavar="FILE", help="One folder for each name in this file.")
def release(assignment, to, student, students):
    """Write an assignment for students.

    Starter files, the handout (README.md and a notebook), a self-check, AGENTS.md for AI tutors;
    once it is proved that nothing of a solution is given away and that every check can be passed.
    """
    from minillm.cli.coursing import run_release

    run_release(assignment, to, student, students)


@course.command(
    cls=Command,
    example="  minillm course check handouts/hw3\n"
    "  minillm course check handouts/hw3 layer_norm --hint",
)
@click.argument("folder")
@click.argument("tasks", nargs=-1, metavar="[TASK]...")
@click.option("--seed", type=click.IntRange(min=0), default=0, metavar="N", help="Other inputs.")
@click.option("--hint", is_flag=True, help="A hint for what fails; the next one each time.")
@TIER
def check(folder, tasks, seed, hint, tier):
    """Check what a student has written, in seconds, without a network.

    Exit code 0: all that ran holds; 1: something fails or is not implemented yet.
    """
    from minillm.cli.coursing import run_check

    return run_check(folder, tasks, seed, hint, tier)


@course.command(
    cls=Command,
    groups={
        "What is drawn": ["seed", "variants"],
        "How it runs": ["jobs", "tier"],
    },
    example="  minillm course grade submissions --out graded --fail-under 50",
)
@click.argument("submissions")
@click.option("--out", metavar="DIR", required=True, help="Where feedback and tables are written.")
@click.option("--assignment", metavar="NAME", help="Such as hw3. [default: told by the files]")
@click.option(
    "--fail-under",
    type=click.FloatRange(0, 100),
    metavar="PERCENT",
    help="Exit with 1 if a submission has less.",
)
@click.option(
    "--seed",
    type=click.IntRange(min=0),
    metavar="N",
    help="Grade again as recorded. [default: fresh]",
)
@click.option("--variants", is_flag=True, help="Each student has the variant of their name.")
@click.option("--jobs", type=click.IntRange(min=1), metavar="N", help="[default: one a core]")
@TIER
def grade(submissions, out, assignment, fail_under, seed, variants, jobs, tier):
    """Grade a folder of submissions: a sub-folder, or a .zip, for each student.

    Exit code 1: below --fail-under; 3: a check came out inconclusive, which is ours to fix.
    """
    from minillm.cli.coursing import run_grade

    return run_grade(submissions, out, assignment, fail_under, seed, variants, jobs, tier)


@course.command(cls=Command, example="  minillm course bundle hw3 --to hw3-autograder.zip")
@click.argument("assignment")
@click.option("--to", metavar="FILE", required=True, help="The .zip, or a folder, to write.")
def bundle(assignment, to):
    """Pack the grader for Gradescope, with a Dockerfile for grading a folder in a container."""
    from minillm.cli.coursing import run_bundle

    run_bundle(assignment, to)
