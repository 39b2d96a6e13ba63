"""What the second set is made of: forwards in plain NumPy, each with backwards."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

__all__ = ["Entry", "Subject", "different", "sigmoid", "softmax"]


@dataclass(frozen=True)
class Entry:
    """A wrong backward, and the causes that its author would own up to.

    A cause None stands for a mistake of no listed kind, where the checker should stay silent.
    """

    subject: "Subject"
    name: str
    wrong: Callable
    causes: tuple[str | None, ...]
    note: str
    case: Callable

    @property
    def full_name(self):
        return f"{self.subject.name}.{self.name}"


class Subject:
    """forward(*args, **kwargs) -> (out, cache), its right backward, and case(rng) -> args, kwargs.

    `wrong(causes, note)` adds a wrong backward; one that shows only at other points brings its own
    case.
    """

    every: "list[Subject]" = []  # noqa: RUF012 - the one list of all subjects

    def __init__(self, forward, right, case):
        self.name, self.forward, self.right, self.case = forward.__name__, forward, right, case
        self.entries: list[Entry] = []
        Subject.every.append(self)

    def wrong(self, causes, note, case=None):
        causes = causes if isinstance(causes, tuple) else (causes,)

        def add(backward):
            name, point = backward.__name__, case or self.case
            self.entries.append(Entry(self, name, backward, causes, note, point))
            return backward

        return add


def different(rng, n, least=2, largest=6):
    """n sizes, no two alike, so that no axis can pass for another."""
    return tuple(int(size) for size in least + rng.permutation(max(largest - least + 1, n))[:n])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def softmax(x, axis=-1):
    e = np.exp(x - x.max(axis, keepdims=True))
    return e / e.sum(axis, keepdims=True)
