"""Cases for an op, drawn from the shapes that its docstring gives.

A case is a tree that crosses the pipe: module, function, args, kwargs, dout, and the names of the
gradients. `size` bounds its dimensions, so that the first case that fails is a small one.
"""

import inspect

import numpy as np

import minillm
from minillm.gradcheck.docstring import ANY, documented
from minillm.tree import map_leaves

__all__ = ["OpCases"]


class OpCases:
    """Draws cases of one op.

    Parameters
    ----------
    op : the reference
    flat : str, the module's name in the student's folder
    task : Task, whose `arguments` and `options` add to the docstring
    defaults : {keyword: value}, a variant's: the student's function has them as its defaults
    """

    def __init__(self, op, flat, task, defaults=None):
        self.op, self.flat = op, flat
        self.name = op.__name__
        self.defaults = dict(defaults or {})
        parameters = inspect.signature(op).parameters
        self.positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.optional = [name for name in self.positional if parameters[name].default is None]
        said = {k: v for k, v in task.arguments.items() if k.partition(".")[0] in parameters}
        needed = {
            name
            for name, p in parameters.items()
            if name in self.positional or p.default is p.empty or name in said
        }
        found = documented(op) | documented(_saying(op, said))
        self.arrays = {path: a for path, a in found.items() if path.partition(".")[0] in needed}
        self.options = {
            k: v for k, v in task.options.items() if k in parameters and k not in self.defaults
        }

    @property
    def gradients(self):
        return [f"d{name}" for name in self.positional]

    def draw(self, rng, size, *, dtype=np.float64, leading=(1, 3), large=None, none=True):
        """One case.

        Parameters
        ----------
        rng : numpy.random.Generator
        size : int from 1, about the largest dimension
        leading : (least, most + 1), how many dimensions `...` stands for
        large : {letter: int, "...": list of int}, sizes that are wanted instead
        none : bool, whether an optional argument may be None
        """
        sizes = self._sizes(rng, size, leading) | {
            key: tuple(value) if key == "..." else (value,) for key, value in (large or {}).items()
        }
        absent = {name for name in self.optional if none and size > 1 and rng.random() < 0.25}
        values: dict = {}
        for path, array in self.arrays.items():
            if path.partition(".")[0] not in absent:
                _place(values, path, self._array(rng, array, sizes, size, dtype))
        kwargs = {
            key: choices[int(rng.integers(len(choices)))] for key, choices in self.options.items()
        }
        kwargs |= {key: value for key, value in values.items() if key not in self.positional}
        case = {
            "module": self.flat,
            "function": self.name,
            "args": [values.get(name) for name in self.positional],
            "kwargs": kwargs,
            "gradients": self.gradients,
            "names": self.positional,
        }
        with minillm.backend("numpy"):
            out, _ = self.op(*case["args"], **self.defaults | kwargs)
        return case | {"dout": map_leaves(lambda x: self._values(rng, x.shape, size, dtype), out)}

    def for_reference(self, case):
        """The same case for the reference, whose defaults are its own."""
        return case | {"kwargs": self.defaults | case["kwargs"]}

    def _sizes(self, rng, size, leading):
        letters = dict.fromkeys(
            letter
            for array in self.arrays.values()
            for letter in [d.letter for d in array.dimensions] + [array.below]
            if letter and letter != "..." and not letter.isdecimal()
        )
        count = int(rng.integers(*leading))
        if any(a.dimensions == (ANY,) and a.kind == "float" for a in self.arrays.values()):
            count = max(count, 1)
        drawn = 1 + rng.permutation(len(letters) + count + size)[: len(letters) + count]
        found = {letter: (int(n),) for letter, n in zip(letters, drawn, strict=False)}
        return found | {"...": tuple(int(n) for n in drawn[len(letters) :])}

    def _array(self, rng, array, sizes, size, dtype):
        shape = tuple(
            n
            for d in array.dimensions
            for n in ([d.factor * m for m in sizes[d.letter]] if d.letter else [d.factor])
        )
        if array.kind == "int":
            below = int(array.below) if array.below.isdecimal() else sizes[array.below][0]
            return rng.integers(0, below, shape)
        if array.kind == "bool":
            return rng.random(shape) < 0.7
        return self._values(rng, shape, size, dtype)

    def _values(self, rng, shape, size, dtype):
        """Off zero and off any initial value; of few digits where a person may read them."""
        values = 1.5 * rng.standard_normal(shape) + 0.3
        return np.asarray(values.round(1) if size < 3 else values, dtype)


def _saying(op, arguments):
    """A function with op's signature and a docstring that gives the shapes of some arguments."""

    def stand_in():
        pass

    stand_in.__doc__ = "\n".join(f"{name} : {text}" for name, text in arguments.items())
    stand_in.__signature__ = inspect.signature(op)  # type: ignore[attr-defined]
    return stand_in


def _place(values, path, array):
    """Put an array at a dotted path of a nest of dicts."""
    *parents, last = path.split(".")
    for key in parents:
        values = values.setdefault(key, {})
    values[last] = array
