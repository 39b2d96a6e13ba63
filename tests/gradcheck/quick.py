"""Checks that end with the first failure: what follows takes time and changes no verdict."""

import contextlib
from unittest import mock

from minillm.gradcheck import run
from minillm.gradcheck.view import DIFFERS

__all__ = ["first_failure_only"]


@contextlib.contextmanager
def first_failure_only():
    """Within it, the leaves after one that fails take over its judgement, and none is explained."""
    judge_leaf = run.judge

    def judge_until_one_fails(problem, *args):
        if not hasattr(problem, "failed"):
            found = judge_leaf(problem, *args)
            if found.state != DIFFERS:
                return found
            problem.failed = found
        return problem.failed

    with (
        mock.patch.object(run, "judge", judge_until_one_fails),
        mock.patch.object(run, "_explain"),
    ):
        yield
