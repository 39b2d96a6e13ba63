"""Surgery on Python text: the AST says where a function stands, the text is cut by lines.

So comments and layout survive around the cut. Only the standard library: the student's process
needs it too.
"""

import ast
import io
import re
import tokenize

__all__ = [
    "SourceError",
    "end_of_imports",
    "functions",
    "omit",
    "replace_functions",
    "rewrite_imports",
    "says_something",
    "set_default",
    "source_of",
    "statements",
    "stub",
]

FUNCTION = (ast.FunctionDef, ast.AsyncFunctionDef)


class SourceError(ValueError):
    """A text in which something that was asked for is not found."""


def functions(text):
    """{qualified name: node} of the functions of a module and the methods of its classes."""
    found: dict[str, ast.FunctionDef | ast.AsyncFunctionDef] = {}
    for node in ast.parse(text).body:
        if isinstance(node, FUNCTION):
            found[node.name] = node
        elif isinstance(node, ast.ClassDef):
            found |= {f"{node.name}.{n.name}": n for n in node.body if isinstance(n, FUNCTION)}
    return found


def end_of_imports(text):
    """How many lines of a module its docstring and imports take."""
    first, *rest = ast.parse(text).body
    imports = [node for node in rest if isinstance(node, ast.Import | ast.ImportFrom)]
    return [first, *imports][-1].end_lineno


def source_of(text, name):
    """The text of one function, with its decorators."""
    first, last = _span(_node(text, name))
    return "".join(text.splitlines(keepends=True)[first - 1 : last])


def stub(text, bodies):
    """The text with the bodies of some functions taken out; their docstrings stay.

    Parameters
    ----------
    bodies : {qualified name: lines to stand there instead, without indentation}
    """
    lines = text.splitlines(keepends=True)
    for name in sorted(bodies, key=lambda name: -_node(text, name).lineno):
        node = _node(text, name)
        start = _docstring_end(node) or _header_end(lines, node)
        end = _trailing_comments(lines, node)
        indent = " " * (node.col_offset + 4)
        new = [f"{indent}{line}\n" if line else "\n" for line in bodies[name]]
        if start == node.lineno and node.body[0].lineno == start:  # def f(x): return x
            raise SourceError(f"{name} stands on one line")
        lines[start:end] = new
    return "".join(lines)


def replace_functions(text, sources):
    """The text with some functions, {qualified name: source}, put in place of its own.

    One that is missing is appended, a method to its class; a class that is missing is an error.
    """
    for name, source in sources.items():
        lines = text.splitlines(keepends=True)
        if lines and not lines[-1].endswith("\n"):
            lines[-1] += "\n"
        there = functions(text)
        if name in there:
            first, last = _span(there[name])
            lines[first - 1 : last] = [source]
        elif "." in name:
            owner = name.partition(".")[0]
            for node in ast.parse(text).body:
                if isinstance(node, ast.ClassDef) and node.name == owner:
                    lines[node.end_lineno : node.end_lineno] = ["\n", source]
                    break
            else:
                raise SourceError(f"there is no class {owner}")
        else:
            lines += ["\n\n", source]
        text = "".join(lines)
    return text


def rewrite_imports(text, names):
    """The text with the modules that it imports from renamed, {dotted name: new name}.

    Where another module's namesake stands in for a module's, it keeps the name that it is used by.
    """
    lines = text.splitlines(keepends=True)
    found = [node for node in ast.walk(ast.parse(text)) if isinstance(node, ast.ImportFrom)]
    for node in found:
        module = node.module or ""
        if module in names:
            line, new = lines[node.lineno - 1], names[module]
            old = re.compile(rf"from\s+{re.escape(module)}\s+import")
            line = old.sub(f"from {new} import", line, count=1)
            namesake = module.rpartition(".")[2]
            if new != namesake:
                line = re.sub(rf"(import .*?)\b{namesake}\b", rf"\g<1>{new} as {namesake}", line)
            lines[node.lineno - 1] = line
    return "".join(lines)


def omit(text, names):
    """The text without some functions, classes, constants or imported names.

    Imports that only they need go too.
    """
    tree = ast.parse(text)
    gone = [node for node in tree.body if _defines(node) & set(names)]
    imported = {
        (alias.asname or alias.name).partition(".")[0]
        for node in tree.body
        if isinstance(node, ast.Import | ast.ImportFrom)
        for alias in node.names
    }
    missing = set(names) - set().union(*map(_defines, gone)) - imported
    if missing:
        raise SourceError(f"there is no {', '.join(sorted(missing))}")
    before = _used(tree)
    kept = ast.Module([node for node in tree.body if node not in gone], [])
    unused = (before - _used(kept)) | (imported & set(names))
    lines = text.splitlines(keepends=True)
    for node in reversed(tree.body):
        if node in gone:
            first, last = _span(node)
            while last < len(lines) and not lines[last].strip():
                last += 1
            lines[first - 1 : last] = []
        elif isinstance(node, ast.Import | ast.ImportFrom):
            stay = [a for a in node.names if (a.asname or a.name).partition(".")[0] not in unused]
            if len(stay) < len(node.names):
                new = ast.copy_location(_with_names(node, stay), node)
                lines[node.lineno - 1 : node.end_lineno] = [ast.unparse(new) + "\n"] if stay else []
        elif isinstance(node, ast.Assign) and _defines(node) == {"__all__"}:
            listed = [n for n in ast.literal_eval(node.value) if n not in names]
            lines[node.lineno - 1 : node.end_lineno] = [
                "__all__ = [" + ", ".join(f'"{n}"' for n in listed) + "]\n"
            ]
    return "".join(lines).rstrip("\n") + "\n"


def set_default(text, function, parameter, value):
    """The text with another default of a function's keyword-only or positional parameter."""
    node = _node(text, function)
    pairs = list(zip(node.args.kwonlyargs, node.args.kw_defaults, strict=True))
    positional = node.args.posonlyargs + node.args.args
    count = len(node.args.defaults)
    pairs += list(zip(positional[len(positional) - count :], node.args.defaults, strict=True))
    for argument, default in pairs:
        if argument.arg == parameter and default is not None:
            lines = text.splitlines(keepends=True)
            line = lines[default.lineno - 1].encode()
            line = (
                line[: default.col_offset] + repr(value).encode() + line[default.end_col_offset :]
            )
            lines[default.lineno - 1] = line.decode()
            return "".join(lines)
    raise SourceError(f"{function} has no parameter {parameter} with a default")


def statements(text, names):
    """The normalised statements, as a set, in the bodies of some functions of a text.

    A statement's head stands for it where it has a body of its own; docstrings do not count, nor
    does what says nothing, see `says_something`.
    """
    found = set()
    for name in names:
        node = _node(text, name)
        for child in ast.walk(node):
            if isinstance(child, ast.stmt) and child is not node and says_something(child):
                found.add(normalised(child))
    return found


def normalised(statement):
    """One statement without layout and comments, on one line; of a compound one, its head."""
    if hasattr(statement, "body"):
        return ast.unparse(statement).partition("\n")[0]
    return " ".join(ast.unparse(statement).split())


def says_something(statement):
    """Whether a statement computes anything: `return dx, dbias` and `x, weight = cache` do not."""
    if isinstance(statement, ast.Raise | ast.Import | ast.ImportFrom | ast.FunctionDef):
        return False
    called = getattr(getattr(statement, "value", None), "func", None)
    if isinstance(statement, ast.Expr) and getattr(called, "id", "").startswith("check_"):
        return False
    head = list(ast.walk(statement))
    if hasattr(statement, "body"):
        inside = {id(n) for child in statement.body for n in ast.walk(child)}
        inside |= {id(n) for child in getattr(statement, "orelse", []) for n in ast.walk(child)}
        head = [n for n in head if id(n) not in inside]
    computing: tuple[type, ...] = (
        ast.BinOp,
        ast.Call,
        ast.Compare,
        ast.AugAssign,
        ast.GeneratorExp,
        ast.ListComp,
    )
    computing += (ast.DictComp, ast.SetComp, ast.IfExp)
    return any(isinstance(n, computing) for n in head)


def _node(text, name):
    found = functions(text)
    if name not in found:
        raise SourceError(f"there is no function {name}; there are {', '.join(found) or 'none'}")
    return found[name]


def _span(node):
    """The first and last line of a definition, decorators included."""
    first = min([node.lineno, *(d.lineno for d in getattr(node, "decorator_list", []))])
    return first, node.end_lineno


def _docstring_end(node):
    """The last line of a function's docstring, or None."""
    first = node.body[0]
    if isinstance(first, ast.Expr) and isinstance(first.value, ast.Constant):
        return first.end_lineno if isinstance(first.value.value, str) else None
    return None


def _header_end(lines, node):
    """The line on which the colon stands that ends a function's signature."""
    depth, text = 0, "".join(lines[node.lineno - 1 :])
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        if token.type == tokenize.OP:
            depth += token.string in "([{"
            depth -= token.string in ")]}"
            if token.string == ":" and depth == 0:
                return node.lineno - 1 + token.start[0]
    raise SourceError(f"{node.name} has no body")


def _trailing_comments(lines, node):
    """The last line of a function, with comments below it that are as deep as its body."""
    end = node.end_lineno
    while end < len(lines) and re.match(rf" {{{node.col_offset + 1},}}#", lines[end]):
        end += 1
    return end


def _defines(node):
    if isinstance(node, (*FUNCTION, ast.ClassDef)):
        return {node.name}
    targets = node.targets if isinstance(node, ast.Assign) else []
    targets = [node.target] if isinstance(node, ast.AnnAssign) else targets
    return {t.id for t in targets if isinstance(t, ast.Name)}


def _used(tree):
    return {n.id for n in ast.walk(tree) if isinstance(n, ast.Name)}


def _with_names(node, names):
    if isinstance(node, ast.Import):
        return ast.Import(names)
    return ast.ImportFrom(node.module, names, node.level)
