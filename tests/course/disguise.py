"""Copies of a solution as people make them: renamed, reordered, reformatted, padded."""

import ast
import random


class _Rename(ast.NodeTransformer):
    def __init__(self, own):
        self.new = {name: f"renamed_{i}" for i, name in enumerate(sorted(own))}

    def visit_Name(self, node):
        node.id = self.new.get(node.id, node.id)
        return node


def _kept(tree):
    """Names that the signatures and the imports fix."""
    found = {a.arg for n in ast.walk(tree) if isinstance(n, ast.arguments) for a in _all(n)}
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef):
            found.add(node.name)
    return found


def _all(arguments):
    return [*arguments.args, *arguments.kwonlyargs]


def renamed(source):
    """Every local variable under another name; comments and layout are lost as well."""
    tree = ast.parse(source)
    stored = {
        n.id for n in ast.walk(tree) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)
    }
    return ast.unparse(_Rename(stored - _kept(tree)).visit(tree))


def reordered(source):
    """The functions in the opposite order."""
    tree = ast.parse(source)
    functions = [node for node in tree.body if isinstance(node, ast.FunctionDef)]
    others = [node for node in tree.body if not isinstance(node, ast.FunctionDef)]
    tree.body = [*others, *functions[::-1]]
    return ast.unparse(tree)


def commented(source):
    """Other comments, blank lines, another docstring, other indentation."""
    text = ast.unparse(ast.parse(source)).replace("    ", "  ")
    lines = []
    for line in text.split("\n"):
        lines += [line + "  # my own idea" * line.strip().startswith("return"), ""]
    return "# written by me\n" + "\n".join(lines)


def padded(source, seed=0):
    """Dead statements in between: unused values, notes, prints, assertions."""
    rng, tree = random.Random(seed), ast.parse(source)
    dead = ("unused = 3", "print('here')", "'a note'", "helper_value = 1 + 2", "assert True")
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
        body = []
        for statement in function.body:
            body += [*ast.parse(rng.choice(dead)).body, statement]
        function.body = body
    return ast.unparse(tree)


def split_up(source):
    """A statement with effect between all others, which cuts every passage."""
    tree = ast.parse(source)
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
        body = []
        for number, statement in enumerate(function.body):
            body += [*ast.parse(f"np.seterr(all='warn', over={number})").body, statement]
        function.body = body
    return ast.unparse(tree)


def annotated(source):
    """Annotations, and `x += y` for `x = x + y`."""
    tree = ast.parse(source)
    for function in [node for node in tree.body if isinstance(node, ast.FunctionDef)]:
        for argument in _all(function.args):
            argument.annotation = ast.Name("object", ast.Load())
        function.returns = ast.Name("object", ast.Load())
    return ast.unparse(tree)


DISGUISES = (renamed, reordered, commented, padded, annotated)


def everything(source):
    for disguise in DISGUISES:
        source = disguise(source)
    return source
