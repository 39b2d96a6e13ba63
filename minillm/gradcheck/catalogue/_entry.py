"""What an entry of the catalogue is: a backward that is wrong, and the mistake that it makes."""

import importlib
import pkgutil
from collections.abc import Callable
from dataclasses import dataclass

__all__ = ["Tools", "Wrong", "load", "sizes", "wrong"]


@dataclass(frozen=True)
class Wrong:
    """A wrong backward of one op.

    backward(dout, saved, tools) -> gradients, from what the op's numpy pair saved;
    case(rng, tools) -> (args, kwargs), a point to check it at, of another shape each time;
    causes: the diagnoses that name the mistake, any of which is right; note: how it is made.
    """

    op: str
    name: str
    backward: Callable
    case: Callable
    causes: tuple[str, ...]
    note: str


class Tools:
    """The ops, by attribute, and `right`, the true backward of the one at hand.

    The checker knows no ops: whoever runs the catalogue brings them.
    """

    def __init__(self, ops, right):
        self._ops, self.right = ops, right

    def __getattr__(self, name):
        return getattr(self._ops, name)


def wrong(cause, note):
    """Mark a function of a catalogue module as a wrong backward with this cause (or causes)."""

    def mark(function):
        causes = (cause,) if isinstance(cause, str) else tuple(cause)
        function.wrong = (causes, note)
        return function

    return mark


def sizes(rng, n, least=2, largest=6, ones=0.15):
    """n sizes, no two alike, each then made 1 with probability `ones`: no axis hides another."""
    drawn = least + rng.permutation(max(largest - least + 1, n))[:n]
    return tuple(1 if rng.random() < ones else int(size) for size in drawn)


def load(package="minillm.gradcheck.catalogue"):
    """All entries, read from the package's modules; a module's name is its op's."""
    entries = []
    for found in pkgutil.iter_modules(importlib.import_module(package).__path__):
        if found.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package}.{found.name}")
        for name, function in vars(module).items():
            if hasattr(function, "wrong"):
                entries.append(Wrong(found.name, name, function, module.case, *function.wrong))
    return entries
