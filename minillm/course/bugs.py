"""Find and fix: a file is handed out with a mistake in it, to be named and mended.

    [[task]]
    parts = ["minillm.ops.embedding"]   # one module; it is handed out whole, but for its mistake
    causes = ["overwritten"]            # the names of the mistake that count, the best one first
    [[task.bug]]                        # one or more edits of the reference
    function = "embedding_backward"
    right = "np.add.at(dweight, ids, dy)"
    wrong = "dweight[ids] += dy"

The student mends the file and writes the mistake's name into its constant CAUSE. The names are the
gradient checker's diagnoses, and one for what no comparison of a backward with its own forward can
show.
"""

from dataclasses import dataclass

from minillm.course import source
from minillm.errors import UserError

__all__ = ["CAUSES", "Bug", "broken", "cause_judge", "with_cause"]

CAUSES = {
    "sign": "a gradient has the wrong sign",
    "factor": "a gradient is a constant times the true one",
    "transposed": "axes are exchanged, or a matrix is used where its transpose belongs",
    "missing_sum": "a parameter was broadcast, and its gradient is not summed over those axes",
    "overwritten": "an element is used more than once, and all but one of its gradients are lost",
    "missing_term": "one way by which an argument reaches the output is left out",
    "mask_forgotten": "what forward hid, dropped or clipped gets a gradient all the same",
    "part_wrong": "one part of a gradient is wrong, one gate's or head's, and the rest is right",
    "other_parameter": "a gradient is another parameter's, or made of another's value",
    "wrong_step": "a gradient belongs to another time step",
    "zero": "a gradient is zero",
    "local_derivative": "the derivative of an elementwise function is wrong",
    "upstream_ignored": "the gradient that comes from above is not used",
    "shape": "a gradient has another shape than its parameter",
    "dtype": "a gradient has another dtype than its parameter",
    "missing": "a gradient is not returned",
    "mutates": "an array that came in is written to",
    "not_deterministic": "the same call gives something else each time",
    "cache_spent": "backward changes what forward saved, and a second call goes wrong",
    "not_finite": "there are infinities or NaNs where there need be none",
    "forward": "backward is the derivative of its forward, and forward computes something else",
}


@dataclass(frozen=True)
class Bug:
    """An edit of the reference: in `function`, `wrong` stands for the one `right`."""

    function: str
    right: str
    wrong: str


def broken(text, bugs):
    """The text of a module with its mistake.

    Raises
    ------
    UserError
        where a function does not hold what the edit replaces exactly once.
    """
    for bug in bugs:
        whole = source.source_of(text, bug.function)
        count = whole.count(bug.right)
        if count != 1:
            raise UserError(
                f"bug of {bug.function}: right must stand there once, got {count} times: "
                f"{bug.right!r:.80}"
            )
        text = source.replace_functions(text, {bug.function: whole.replace(bug.right, bug.wrong)})
    return text


def with_cause(text, cause):
    """The text of a module with the constant CAUSE below its imports."""
    lines = text.splitlines(keepends=True)
    end = source.end_of_imports(text)
    comment = "" if cause else "  # the name of the mistake, from the list in README.md"
    lines[end:end] = [f'\nCAUSE = "{cause}"{comment}\n']
    return "".join(lines)


def cause_judge(causes, judge):
    """A judge of {"cause", "answer"}: the name counts only where the file is mended.

    Else the name could be had by going through the list, with nothing understood.

    Parameters
    ----------
    causes : names that are right
    judge : (case, expected, came) -> what is wrong with the answer, or None
    """

    def judged(case, expected, came):
        if not isinstance(came, dict) or came.keys() != {"cause", "answer"}:
            return "the answer must hold cause and answer"
        problem = judge(case["case"], expected, came["answer"])
        if problem:
            return f"CAUSE counts once the file is mended, and {problem}"
        cause = came["cause"]
        if isinstance(cause, str) and not cause:
            return "CAUSE is still empty"
        if not isinstance(cause, str) or cause not in CAUSES:
            return f"CAUSE must be a name from the list in README.md, got {cause!r:.60}"
        return None if cause in causes else f"CAUSE is {cause!r}, which is not what was wrong"

    return judged
