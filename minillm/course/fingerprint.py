"""Fingerprints of a student's source: winnowed hashes of its structure, with line numbers.

Winnowing is Schleimer, Wilkerson & Aiken 2003, "Winnowing: Local Algorithms for Document
Fingerprinting" (SIGMOD), section 3: of the hashes of all k-grams, keep the smallest of each window,
so that any match of at least GRAM + WINDOW - 1 tokens is found. What the k-grams are made of:

- One stream of tokens a function (a method too; a nested function belongs to its outer one), so
  that the order of functions does not count. Signatures are given to every student and left out.
- Statements, operators and calls are tokens. Comments, layout, docstrings, annotations, `pass`,
  bare constants, assertions, calls of print, and assignments of plain values to names that are
  never read leave none.
- A name of the student's own (a variable, a parameter, a function, a class, an attribute that is
  assigned) becomes its order of first appearance *within the k-gram*, as in Baker 1995, "On Finding
  Duplication and Near-Duplication in Large Software Systems", so that a renaming changes nothing,
  and one more variable early in a function leaves what follows alike.
- What belongs to NumPy or Python keeps its name, whatever it was imported as.
- -2, -1, 0, 0.5, 1 and 2 are kept, they are part of a formula; all other numbers are alike, and so
  are all strings. `x += y` is `x = x + y`.

Standard library only: this file runs in a process of its own, for parsing hostile source can end
the parser. It reads {"files": {name: source in Latin-1}} a line, and writes a line of fingerprints.
"""

import ast
import hashlib
import json
import sys
import warnings
from dataclasses import dataclass

__all__ = ["GRAM", "WINDOW", "fingerprints", "grams", "winnow"]

GRAM = 8  # tokens of a k-gram: less than a line of a formula
WINDOW = 4  # of k-grams, the smallest of which is kept
KEPT_NUMBERS = (-2, -1, 0, 0.5, 1, 2)
SECONDS, MEMORY = 5, 1 << 30  # for one submission
FUNCTIONS = (ast.FunctionDef, ast.AsyncFunctionDef)
QUIET = (
    ast.Constant,
    ast.Name,
    ast.UnaryOp,
    ast.BinOp,
    ast.operator,
    ast.unaryop,
    ast.expr_context,
)


@dataclass(frozen=True)
class Gram:
    """A k-gram's hash, and the lines that it spans."""

    hash: str
    first: int
    last: int


def fingerprints(source, everything=False):
    """The winnowed k-grams of a module's source (bytes or text).

    Parameters
    ----------
    source : bytes or str
    everything : bool, whether all k-grams are kept, as for what is to be left out
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        tree = ast.parse(source)
    own, modules = _own_names(tree), _imported(tree)
    found = []
    for body in _streams(tree):
        tokens = _Tokens(own, modules, body).tokens
        made = grams(tokens)
        found += made if everything else winnow(made)
    return found


def grams(tokens):
    """The Grams of a stream of (token, line); a token that is a tuple is a name of one's own."""
    found = []
    for start in range(len(tokens) - GRAM + 1):
        part = tokens[start : start + GRAM]
        order: dict[tuple, int] = {}
        plain = [
            f"v{order.setdefault(token, len(order))}" if isinstance(token, tuple) else token
            for token, _ in part
        ]
        lines = [line for _, line in part]
        digest = hashlib.blake2b("\0".join(plain).encode(), digest_size=8).hexdigest()
        found.append(Gram(digest, min(lines), max(lines)))
    return found


def winnow(found):
    """Of each window of Grams the one with the smallest hash, the rightmost of equals."""
    kept: dict[int, Gram] = {}
    for start in range(max(1, len(found) - WINDOW + 1) if found else 0):
        window = range(start, min(start + WINDOW, len(found)))
        smallest = min(window, key=lambda i: (found[i].hash, -i))
        kept[smallest] = found[smallest]
    return list(kept.values())


def _streams(tree):
    """The bodies that are looked at one by one: of functions and methods, and the rest."""
    bodies, rest = [], []

    def visit(statements):
        for node in statements:
            if isinstance(node, FUNCTIONS):
                bodies.append(node.body)
            elif isinstance(node, ast.ClassDef):
                visit(node.body)
            elif not isinstance(node, ast.Import | ast.ImportFrom):
                rest.append(node)

    visit(tree.body)
    return [*bodies, rest]


def _own_names(tree):
    """The names and attributes that a module itself assigns."""
    own = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Name | ast.Attribute) and isinstance(node.ctx, ast.Store):
            own.add(node.id if isinstance(node, ast.Name) else node.attr)
        elif isinstance(node, ast.arg):
            own.add(node.arg)
        elif isinstance(node, (*FUNCTIONS, ast.ClassDef, ast.ExceptHandler)):
            own.add(node.name or "")
    return own


def _imported(tree):
    """{the name in this module: what it is} of imports."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                found[alias.asname or alias.name.partition(".")[0]] = alias.name
        elif isinstance(node, ast.ImportFrom):
            for alias in node.names:
                found[alias.asname or alias.name] = alias.name
    return found


class _Tokens(ast.NodeVisitor):
    """The tokens of some statements, in the order of the source."""

    def __init__(self, own, modules, statements):
        self.own, self.modules, self.tokens = own, modules, []
        self.read = {
            node.id
            for statement in statements
            for node in ast.walk(statement)
            if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Load)
        }
        self.line = 0
        for statement in statements:
            self.visit(statement)

    def add(self, token):
        self.tokens.append((token, self.line))

    def name(self, name):
        if name in self.modules:
            self.add(f"import {self.modules[name]}")
        else:
            self.add((name,) if name in self.own else name)

    def visit(self, node):
        self.line = getattr(node, "lineno", self.line)
        super().visit(node)

    def generic_visit(self, node):
        if isinstance(node, ast.expr_context | ast.Load):
            return
        self.add(type(node).__name__)
        super().generic_visit(node)

    def visit_Expr(self, node):
        called = node.value.func if isinstance(node.value, ast.Call) else None
        prints = isinstance(called, ast.Name) and called.id == "print"
        if not prints and not isinstance(node.value, ast.Constant):
            self.add("Expr")
            self.visit(node.value)

    def visit_Pass(self, node):
        pass

    visit_Assert = visit_Pass

    def visit_Assign(self, node):
        if self._is_dead(node):
            return
        self.add("Assign")
        for part in (*node.targets, node.value):
            self.visit(part)

    def visit_AnnAssign(self, node):
        if node.value is not None:
            self.add("Assign")
            self.visit(node.target)
            self.visit(node.value)

    def visit_AugAssign(self, node):
        self.add("Assign")
        self.visit(node.target)
        self.add("BinOp")
        self.visit(node.target)
        self.visit(node.op)
        self.visit(node.value)

    def visit_BinOp(self, node):
        self.add("BinOp")
        self.visit(node.left)
        self.visit(node.op)
        self.visit(node.right)

    def visit_UnaryOp(self, node):
        inner = node.operand.value if isinstance(node.operand, ast.Constant) else None
        if isinstance(node.op, ast.USub) and isinstance(inner, int | float):
            self.number(-inner)
        else:
            super().generic_visit(node)

    def visit_Constant(self, node):
        if isinstance(node.value, bool) or node.value is None or node.value is Ellipsis:
            self.add(repr(node.value))
        elif isinstance(node.value, int | float):
            self.number(node.value)
        else:
            self.add(type(node.value).__name__)

    def number(self, value):
        self.add(f"{value:g}" if value in KEPT_NUMBERS else "number")

    def visit_Name(self, node):
        self.name(node.id)

    def visit_Attribute(self, node):
        self.visit(node.value)
        self.add((node.attr,) if node.attr in self.own else f".{node.attr}")

    def visit_keyword(self, node):
        if node.arg:
            self.name(node.arg)
        self.visit(node.value)

    def visit_arg(self, node):
        self.name(node.arg)

    def visit_FunctionDef(self, node):
        self.add("def")
        for statement in node.body:
            self.visit(statement)

    visit_AsyncFunctionDef = visit_FunctionDef

    def _is_dead(self, node):
        """Whether nothing reads what is assigned, and nothing else happens by it."""
        names = all(isinstance(t, ast.Name) and t.id not in self.read for t in node.targets)
        return names and all(isinstance(part, QUIET) for part in ast.walk(node.value))


def _answer(line):
    """{"grams": {file: [[hash, first, last], ...]}, "notes": [...]} of one submission."""
    found, notes = {}, []
    request = json.loads(line)
    for name, text in request["files"].items():
        try:
            made = fingerprints(text.encode("latin-1"), request.get("everything", False))
        except (SyntaxError, ValueError) as error:
            where = f" in line {error.lineno}" if isinstance(error, SyntaxError) else ""
            notes.append(f"{name} is no Python{where}")
        except (RecursionError, MemoryError):
            notes.append(f"{name} is nested too deeply to be compared")
        else:
            found[name] = [[gram.hash, gram.first, gram.last] for gram in made]
    return {"grams": found, "notes": notes}


def _limit():
    try:
        import resource
    except ImportError:  # Windows
        return
    resource.setrlimit(resource.RLIMIT_AS, (MEMORY, MEMORY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def main():
    """Answer each line of the input; a submission that takes too long ends this process."""
    import signal

    _limit()
    for line in sys.stdin:
        if hasattr(signal, "alarm"):
            signal.alarm(SECONDS)
        print(json.dumps(_answer(line)), flush=True)


if __name__ == "__main__":
    main()
