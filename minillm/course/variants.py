"""A variant for each student: another default of a keyword, another layout of an argument.

    [variants]
    softmax = {axis = [-1, 0]}                              # the default of a keyword argument
    linear = {weight = ["(C_in, C_out)", "(C_out, C_in)"]}  # a matrix, as it is or transposed

Which one a student gets is a hash of the assignment's name and version and the student's: the same
on every machine, and no table has to be kept. The grader's reference stays as it is: a case is
turned for the student, and the gradient that is expected is turned with it (see draw.py).
"""

import ast
import hashlib
import re

from minillm.course import source
from minillm.errors import UserError, require

__all__ = ["is_turned", "set_variant", "variant_of"]


def variant_of(assignment, student):
    """{task: {keyword: value}} of one student, {} where the manifest has no variants."""
    chosen: dict[str, dict] = {}
    for task, table in assignment.variants.items():
        for keyword, values in table.items():
            good = isinstance(values, list) and values
            require(f"variants: {task}: {keyword}", values, good, "an array of values")
            text = "\n".join([assignment.name, assignment.version, student, task, keyword])
            number = int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big")
            chosen.setdefault(task, {})[keyword] = values[number % len(values)]
    return chosen


def set_variant(text, function, parameter, value):
    """A module's text in a variant of one of its functions, with its solution and its docstring.

    A text without such a parameter stays as it is.

    Raises
    ------
    UserError
        for a shape that is neither the documented one nor its transpose.
    """
    node = source.functions(text).get(function)
    if node is None or parameter not in {a.arg for a in _parameters(node)}:
        return text
    if parameter in _with_default(node):
        return source.set_default(text, function, parameter, value)
    documented = _shape(node, parameter)
    if not is_turned(documented, value):
        return text
    text = _turned_backward(text, f"{function}_backward", function, parameter)
    text = _turned_forward(text, function, parameter)
    return _turned_words(text, function, parameter, documented, value)


def is_turned(documented, value):
    """Whether a matrix lies the other way round in a variant; both are shapes as text."""
    names, wanted = (re.findall(r"\w+", str(shape)) for shape in (documented, value))
    fits = len(names) == 2 and wanted in (names, names[::-1])
    require("the layout of a variant", value, fits, f"{documented} or its transpose")
    return wanted != names


def _turned_forward(text, function, parameter):
    """The solution begins by turning what it was given."""
    node = source.functions(text)[function]
    lines = text.splitlines(keepends=True)
    first = node.body[1] if ast.get_docstring(node) else node.body[0]
    indent = " " * first.col_offset
    lines.insert(first.lineno - 1, f"{indent}{parameter} = {parameter}.T\n")
    return "".join(lines)


def _turned_backward(text, backward, function, parameter):
    """The solution's last line turns the gradient back."""
    node = source.functions(text)[backward]
    last = node.body[-1]
    place = [a.arg for a in source.functions(text)[function].args.args].index(parameter)
    value = last.value if isinstance(last, ast.Return) else None
    gradient = value.elts[place] if isinstance(value, ast.Tuple) else value
    if not isinstance(gradient, ast.Name):
        raise UserError(f"{backward} does not end by returning d{parameter} by a name")
    lines = text.splitlines(keepends=True)
    row = gradient.lineno - 1
    line, end = lines[row].encode(), gradient.col_offset + len(gradient.id.encode())
    lines[row] = (line[:end] + b".T" + line[end:]).decode()
    return "".join(lines)


def _turned_words(text, function, parameter, documented, value):
    """The docstring's shape and equation; what the module says of the old shape goes."""
    node = source.functions(text)[function]
    lines = text.splitlines(keepends=True)
    for at in range(node.body[0].lineno - 1, node.body[0].end_lineno):
        if re.match(rf"\s*{parameter}\s*:", lines[at]):
            lines[at] = lines[at].replace(documented, value)
        elif "Equation:" in lines[at]:
            lines[at] = re.sub(rf"\b{parameter}\b", f"{parameter}.T", lines[at])
    head = ast.parse(text).body[0]
    words = "".join(lines[: head.end_lineno])
    sentences = re.split(r"(?<=\.)(?=\s)", words)
    kept = "".join(s[: len(s) - len(s.lstrip())] if documented in s else s for s in sentences)
    return re.sub(r"\n{3,}", "\n\n", kept) + "".join(lines[head.end_lineno :])


def _parameters(node):
    return node.args.posonlyargs + node.args.args + node.args.kwonlyargs


def _with_default(node):
    """The parameters that have a default other than None."""
    positional = node.args.posonlyargs + node.args.args
    count = len(node.args.defaults)
    pairs = list(zip(positional[len(positional) - count :], node.args.defaults, strict=True))
    pairs += zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True)
    return {
        argument.arg
        for argument, default in pairs
        if default is not None and getattr(default, "value", 0) is not None
    }


def _shape(node, parameter):
    """What the docstring says of a parameter's shape, as text."""
    line = re.compile(rf"^\s*(?:\w+, )*{parameter}(?:, \w+)*\s*:\s*(\([^)]*\))", re.MULTILINE)
    match = line.search(ast.get_docstring(node) or "")
    if match is None:
        raise UserError(f"the docstring of {node.name} gives no shape of {parameter}")
    return match[1]
