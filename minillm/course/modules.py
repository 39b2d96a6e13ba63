"""Which files an assignment hands out, and what stands in them: reference, stub, or given whole.

In a student's folder the modules lie side by side under the last part of their name:
minillm.ops.layer_norm is layer_norm.py, and minillm.ops._op is the shim that stands for it. A part
that ends in .cu is a file of CUDA C, by its path: see cuda_files.py.
"""

import ast
import functools
import importlib.util
import re
from dataclasses import dataclass
from pathlib import Path

from minillm.course import bugs, cuda_files, source
from minillm.course.cuda_source import KERNEL
from minillm.course.variants import set_variant
from minillm.errors import UserError

__all__ = ["Module", "Modules"]

OP = "minillm.ops._op"
HOME = "minillm"
OURS = (HOME, "minillm_kernels")


@dataclass(frozen=True)
class Module:
    """One file that is handed out.

    Attributes
    ----------
    dotted, flat : its name in minillm, and in the student's folder
    text : the reference, with its imports rewritten
    functions : {task's name: qualified names that the task asks for}
    """

    dotted: str
    flat: str
    text: str
    functions: dict[str, tuple[str, ...]]

    @property
    def given(self):
        return not self.functions

    @property
    def cuda(self):
        return self.dotted.endswith(".cu")

    @property
    def file(self):
        return f"{self.flat}.cu" if self.cuda else f"{self.flat}.py"


class Modules:
    """The files of an assignment, for one variant.

    Parameters
    ----------
    assignment : Assignment
    variant : {task: {parameter: value}}, other defaults and layouts, see variants.py
    """

    def __init__(self, assignment, variant=None):
        self.assignment, self.variant = assignment, variant or {}
        self.order = [task.name for task in assignment.tasks]
        asked: dict[str, dict[str, tuple[str, ...]]] = {}
        for task in assignment.tasks:
            for dotted, chosen in task.functions.items():
                found = chosen or _op_pair(dotted)
                asked.setdefault(dotted, {})[task.name] = found
        self.all = {
            _flat(dotted): Module(dotted, _flat(dotted), self._text(dotted), asked.get(dotted, {}))
            for dotted in self._closure(asked)
        }
        self.tasks_of_file = {
            module.file: list(module.functions) for module in self.all.values() if not module.given
        }

    @property
    def handed_in(self):
        """The names of the files that a student writes."""
        return list(self.tasks_of_file)

    def starter(self, flat):
        """A file as a student gets it: bodies out, all else as it is."""
        module = self.all[flat]
        return self._stubbed(module, [f for names in module.functions.values() for f in names])

    def starters(self):
        """{file: text} of everything that a student gets of the code."""
        return {module.file: self.starter(flat) for flat, module in self.all.items()}

    def solution(self, flat):
        """A file as it is when all is done."""
        return self.all[flat].text

    def child_files(self, task, handed_in):
        """What a task's process holds: the student's own, earlier tasks done, later ones not.

        Parameters
        ----------
        task : str
        handed_in : {file: bytes or text}, what the student wrote

        Returns
        -------
        files : {file: bytes or text}
        replace : {file: {qualified name: source}}, what to put in place in the student's files
        """
        files: dict[str, str | bytes] = {}
        replace: dict[str, dict[str, str]] = {}
        done = set(self.order[: self.order.index(task)])
        for module in self.all.values():
            later = [
                name
                for owner, names in module.functions.items()
                if owner not in done and (owner != task or module.file not in handed_in)
                for name in names
            ]
            if module.cuda:
                if task in module.functions and module.file in handed_in:
                    files[f"{module.flat}.py"] = cuda_files.as_module(
                        module.file, handed_in[module.file], module.text, self._omitted(module)
                    )
                continue
            rest = self._stubbed(module, later)
            if task in module.functions and module.file in handed_in:
                files[module.file] = handed_in[module.file]
                others = [
                    name
                    for owner, names in module.functions.items()
                    if owner != task
                    for name in names
                ]
                if others:
                    replace[module.file] = {n: source.source_of(rest, n) for n in others}
            else:
                files[module.file] = rest
        return files, replace

    def _omitted(self, module):
        return tuple(self.assignment.handout.get("omit", {}).get(module.dotted, ()))

    def _stubbed(self, module, names):
        bodies = {}
        if module.cuda:
            (task,) = module.functions
            return cuda_files.starter(module.text, task, self._omitted(module))
        for task in self.assignment.tasks:
            if task.bugs and set(module.functions.get(task.name, ())) & set(names):
                text = bugs.with_cause(self._text(module.dotted, solved=False), "")
                return bugs.broken(text, task.bugs)
            for name in module.functions.get(task.name, ()):
                if name in names:
                    bodies[name] = _stub_lines(module, task, name)
        return source.stub(module.text, bodies) if bodies else module.text

    def _text(self, dotted, solved=True):
        """A module's text as it is handed out: flat imports, a variant's defaults.

        With `solved` one that has a mistake names its cause.
        """
        if dotted == OP:
            return _shim()
        text = _read(dotted)
        if dotted.endswith(".cu"):
            return text
        leave_out = self.assignment.handout.get("omit", {}).get(dotted, [])
        if leave_out:
            text = source.omit(text, leave_out)
        for task, defaults in self.variant.items():
            for name in self.assignment.task(task).functions.get(dotted, ()) or (
                _op_pair(dotted)[:1] if dotted in self.assignment.task(task).parts else ()
            ):
                for parameter, value in defaults.items():
                    text = set_variant(text, name, parameter, value)
        imports = {name: self._instead(name).rpartition(".")[2] for name in _imported(dotted, text)}
        text = source.rewrite_imports(text, imports)
        for task in self.assignment.tasks:
            if solved and task.bugs and dotted in task.parts:
                text = bugs.with_cause(text, task.causes[0])
        return text

    def _instead(self, dotted):
        """The module that stands in the place of another: as the manifest has it, or itself."""
        return self.assignment.handout.get("imports", {}).get(dotted, dotted)

    def _closure(self, asked):
        """The modules that are asked for, and all of ours that they import, in a settled order."""
        found: dict[str, None] = {}
        left = [*asked, *self.assignment.handout.get("give", ())]
        flat_names: dict[str, str] = {}
        while left:
            dotted = left.pop(0)
            if dotted in found:
                continue
            flat = _flat(dotted)
            if flat_names.setdefault(flat, dotted) != dotted:
                raise UserError(f"{flat_names[flat]} and {dotted} would both be {flat}.py")
            found[dotted] = None
            if dotted == OP or dotted.endswith(".cu"):
                continue
            text = _read(dotted)
            leave_out = self.assignment.handout.get("omit", {}).get(dotted, [])
            text = source.omit(text, leave_out) if leave_out else text
            left += [self._instead(name) for name in _imported(dotted, text)]
        return found


def _stub_lines(module, task, name):
    """What stands in the place of a body: what is to be returned, and that nothing is yet."""
    node = source.functions(module.text)[name]
    lines = []
    plain = name.rpartition(".")[2]
    if plain.endswith("_backward"):
        forward = source.functions(module.text).get(plain.removesuffix("_backward"))
        if forward is not None:
            grads = ", ".join(f"d{a.arg}" for a in forward.args.args)
            shaped = "each shaped and typed as its parameter"
            if len(forward.args.args) == 1:
                shaped = f"shaped and typed as {forward.args.args[0].arg}"
            lines.append(f'"""Return {grads}: {shaped}."""')
    chain = _shapes(module.text, node, task.chain)
    if chain:
        lines.append("# By these names the check follows your values on the way:")
        lines += [f"#   {name}  {shape}".rstrip() for name, shape in chain]
    if any(_name(d) == "op" for d in node.decorator_list):
        lines.append("# return the output and a cache: whatever the backward will need")
    return [*lines, f'raise NotImplementedError("{task.name}: {plain}")']


def _shapes(text, node, names):
    """(name, shape comment) of the variables that a function assigns, of some names."""
    lines = text.splitlines()
    found = {}
    for child in ast.walk(node):
        if not isinstance(child, ast.Assign):
            continue
        for target in child.targets:
            if isinstance(target, ast.Name) and target.id in names and target.id not in found:
                match = re.search(r"#\s*(\([^#]*\))", lines[(child.end_lineno or 1) - 1])
                found[target.id] = match[1] if match else ""
    return [(name, found[name]) for name in names if name in found]


def _name(decorator):
    return getattr(decorator, "id", getattr(decorator, "attr", ""))


def _flat(dotted):
    """A module's name in a student's folder."""
    return Path(dotted).stem if dotted.endswith(".cu") else dotted.rpartition(".")[2]


def _op_pair(dotted):
    if dotted.endswith(".cu"):
        return (KERNEL,)
    name = dotted.rpartition(".")[2]
    pair = (name, f"{name}_backward")
    missing = set(pair) - source.functions(_read(dotted)).keys()
    if missing:
        raise UserError(f"{dotted} has no {sorted(missing)[0]}: name its functions")
    return pair


def _imported(dotted, text):
    """The modules of ours that a text imports from."""
    found = []
    for node in ast.walk(ast.parse(text)):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        for name in names:
            if name.partition(".")[0] not in OURS:
                continue
            if isinstance(node, ast.Import) or _is_package(name):
                raise UserError(f"{dotted} imports {name}: a handout needs `from MODULE import`")
            found.append(name)
    return list(dict.fromkeys(found))


def _is_package(dotted):
    return Path(_origin(dotted)).name == "__init__.py"


@functools.cache
def _origin(dotted):
    try:
        spec = importlib.util.find_spec(dotted)
    except ImportError:
        spec = None
    if spec is None or not spec.origin:
        raise UserError(f"there is no module {dotted}")
    return spec.origin


@functools.cache
def _read(dotted):
    if dotted.endswith(".cu"):
        return cuda_files.read(dotted)
    return Path(_origin(dotted)).read_text(encoding="utf-8")


@functools.cache
def _shim():
    """shim.py, and of the decorator's own file the two helpers that an op is written with."""
    text = _read("minillm.course.shim")
    helpers = [source.source_of(_read(OP), name) for name in ("check_shape", "sum_to_shape")]
    return "\n\n".join([text.rstrip("\n") + "\n", *helpers])
