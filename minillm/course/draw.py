"""Cases for an op, drawn from the shapes that its docstring gives.

A case is a tree that crosses the pipe: module, function, args, kwargs, dout, and the names of the
gradients. `size` bounds its dimensions, so that the first case that fails is a small one.
"""

import copy
import inspect

import numpy as np

import minillm
from minillm.course.variants import is_turned
from minillm.gradcheck.docstring import ANY, documented
from minillm.tree import map_leaves

__all__ = ["EDGES", "OpCases"]

ABSENT = 0.25  # how often an optional argument, or the gradient of one of several outputs, is None
GIVEN = 0.7  # how often a keyword argument is given; else its default holds
EDGES = ("ones", "no leading", "some ones", "more leading", "square")


class OpCases:
    """Draws cases of one op.

    Parameters
    ----------
    op : the reference
    flat : str, the module's name in the student's folder
    task : Task, whose `arguments` and `options` add to the docstring
    defaults : {parameter: value}, a variant's: the student's function has these defaults of
        keywords, and reads these layouts of matrices
    own : function own(rng, size, large) -> (args, kwargs) of cases.py, where a docstring does not
        do; its floats may be float64, whatever is asked for
    """

    def __init__(self, op, flat, task, defaults=None, own=None):
        self.op, self.flat, self.own = op, flat, own
        self.name = op.__name__
        parameters = inspect.signature(op).parameters
        self.positional = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
        self.optional = [name for name in self.positional if parameters[name].default is None]
        said = {k: v for k, v in task.arguments.items() if k.partition(".")[0] in parameters}
        needed = {
            name
            for name, p in parameters.items()
            if name in self.positional or p.default is p.empty or name in said
        }
        found = documented(_with_all(op)) | documented(_saying(op, said))
        self.arrays = {path: a for path, a in found.items() if path.partition(".")[0] in needed}
        self.options = {k: v for k, v in task.options.items() if k in parameters}
        variant = dict(defaults or {})
        self.defaults = {k: v for k, v in variant.items() if k not in self.positional}
        self.turned = [
            name
            for name in self.positional
            if name in variant and is_turned(_text(found[name]), variant[name])
        ]

    @property
    def gradients(self):
        return [f"d{name}" for name in self.positional]

    def drawn_by(self, own):
        """The same op with another function that draws its arguments."""
        other = copy.copy(self)
        other.own = own
        return other

    def draw(self, rng, size, *, dtype=np.float64, edge=None, large=None, none=True):
        """One case.

        Parameters
        ----------
        rng : numpy.random.Generator
        size : int from 1, about the largest dimension
        edge : one of EDGES, which shapes are wanted; None for dimensions that all differ
        large : {letter: int, "...": list of int}, sizes that are wanted instead
        none : bool, whether an optional argument, or a part of dout, may be None
        """
        if self.own:
            args, kwargs = self.own(rng, size, large)
            args = map_leaves(lambda x: x if x.dtype.kind != "f" else x.astype(dtype), args)
        else:
            args, kwargs = self._documented(rng, size, dtype, edge, large, none)
        with minillm.backend("numpy"):
            out, _ = self.op(*args, **self.defaults | kwargs)
        case = {
            "module": self.flat,
            "function": self.name,
            "args": self._turn(args, self.positional),
            "kwargs": kwargs,
            "gradients": self.gradients,
            "names": self.positional,
        }
        dout = map_leaves(lambda x: self._values(rng, x.shape, size, dtype), out)
        return case | {"dout": self._with_gaps(rng, dout) if none and size > 1 else dout}

    def _with_gaps(self, rng, dout):
        """An upstream gradient of several outputs, of which some get None: a gradient of zero."""
        if isinstance(dout, dict):
            return {key: self._part(rng, part) for key, part in dout.items()}
        if isinstance(dout, list | tuple):
            return type(dout)(self._part(rng, part) for part in dout)
        return dout

    def _part(self, rng, part):
        return None if rng.random() < ABSENT else self._with_gaps(rng, part)

    def _documented(self, rng, size, dtype, edge, large, none):
        """(args, kwargs) of the shapes that the docstring gives."""
        sizes = self._sizes(rng, size, edge) | {
            key: tuple(value) if key == "..." else (value,) for key, value in (large or {}).items()
        }
        often = ABSENT if none and size > 1 and edge is None else float(edge == "more leading")
        absent = {name for name in self.optional if rng.random() < often}
        values: dict = {}
        for path, array in self.arrays.items():
            if path.partition(".")[0] not in absent:
                _place(values, path, self._array(rng, array, sizes, size, dtype))
        kwargs = {
            key: choices[int(rng.integers(len(choices)))]
            for key, choices in self.options.items()
            if rng.random() < GIVEN
        }
        kwargs |= {key: value for key, value in values.items() if key not in self.positional}
        return [values.get(name) for name in self.positional], kwargs

    def for_reference(self, case):
        """The same case for the reference, whose defaults and layouts are its own."""
        args = self._turn(case["args"], self.positional)
        return case | {"args": args, "kwargs": self.defaults | case["kwargs"]}

    def for_student(self, answer):
        """The reference's answer as it is expected of a student, in the layout of the variant."""
        values = self._turn(list(answer.values()), [name[1:] for name in answer])
        return dict(zip(answer, values, strict=True))

    def _turn(self, arrays, names):
        pairs = zip(arrays, names, strict=True)
        return [np.ascontiguousarray(x.T) if name in self.turned else x for x, name in pairs]

    def _sizes(self, rng, size, edge):
        letters = dict.fromkeys(
            letter
            for array in self.arrays.values()
            for letter in [d.letter for d in array.dimensions] + [array.below]
            if letter and letter != "..." and not letter.isdecimal()
        )
        fewest = int(
            any(a.dimensions == (ANY,) and a.kind == "float" for a in self.arrays.values())
        )
        usual = int(rng.integers(1, 3))
        count = {"no leading": fewest, "more leading": 3, "some ones": 2}.get(edge, usual)
        n = len(letters) + count
        least = 1 if size < 3 else 2  # ones hide mistakes: they are an edge
        drawn = least + rng.permutation(n + size)[:n]
        if edge in ("ones", "square"):
            drawn[:] = 1 if edge == "ones" else 3
        elif edge == "some ones":
            drawn[rng.permutation(n)[: max(1, n // 2)]] = 1
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


def _text(array):
    """A documented shape as text: (C, 4K)."""
    sizes = [f"{d.factor if d.factor > 1 else ''}{d.letter}" for d in array.dimensions]
    return f"({', '.join(sizes)})"


def _with_all(op):
    """A function with op's docstring, where `(C,) or None` is (C,): whether it is None is drawn."""
    stand_in = _saying(op, {})
    stand_in.__doc__ = (inspect.getdoc(op) or "").replace(" or None", "")
    return stand_in


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
