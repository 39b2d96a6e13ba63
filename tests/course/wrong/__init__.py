"""Wrong solutions of each assignment: for every check at least one that fails it first.

A module here is named like its assignment and holds

    WRONG = {"task": [Wrong("what is wrong", "the first check that fails", {file: [(old, new)]})]}

where the texts replace parts of the reference, as it is handed out.
"""

from dataclasses import dataclass

__all__ = ["Wrong", "edited"]


@dataclass(frozen=True)
class Wrong:
    """One plausible mistake.

    Attributes
    ----------
    name : str, what is wrong
    check : str, the first check of the task that must fail
    edits : {file: [(old text, new text)]}; each old text must be there
    also : further checks that it fails, and that nothing else here fails first
    """

    name: str
    check: str
    edits: dict
    also: tuple = ()


def edited(text, edits):
    """A text with parts of it replaced; an AssertionError where one is not there."""
    for old, new in edits:
        assert old in text, f"not in the reference: {old!r}"
        text = text.replace(old, new)
    return text
