"""Text that every Python brings along: its help topics, its docstrings, its source.

All of it differs between Python versions.
"""

import ast
import importlib
import re
import sysconfig
import warnings
from pathlib import Path

from minillm.data.files import decode, files_below
from minillm.errors import UserError

__all__ = ["docstrings", "stdlib_sources", "topics", "without_repeats"]

# Tests (their files are partly wrong on purpose), what is installed beside the library, and the
# help topics, which are a corpus of their own. Names that begin with a dot or with _sysconfigdata
# (paths of the machine that built this Python) are left out too.
NOT_SOURCE = {"test", "tests", "idle_test", "site-packages", "dist-packages", "pydoc_data"}
SHORT = 40  # characters; shorter paragraphs (headings, "For example:") may repeat


def topics():
    """(texts, description) of the help topics, sorted by name; None where this Python lacks them.

    Topics quote whole sections of one another: a fifth of them in Python 3.11. A paragraph that
    stood in an earlier topic is left out, or a model would be tested on text it has learned.
    """
    try:
        found = importlib.import_module("pydoc_data.topics").topics
    except (ImportError, AttributeError):
        return None
    texts = without_repeats((name, found[name]) for name in sorted(found))
    return texts, "Python's help topics by name, repeated paragraphs left out"


def without_repeats(texts):
    """Leave out each paragraph that has stood before, white space aside, and texts left empty."""
    seen: set[str] = set()
    kept = []
    for name, text in texts:
        paragraphs = []
        # Each piece keeps the blank lines that follow it, so that the pieces join without a seam.
        for paragraph in re.findall(r"(?s).+?(?:\n\s*\n|\Z)", text):
            words = " ".join(paragraph.split())
            if len(words) < SHORT or words not in seen:
                paragraphs.append(paragraph)
            seen.add(words)
        if "".join(paragraphs).strip():
            kept.append((name, "".join(paragraphs)))
    return kept


def stdlib_sources():
    """(texts, description) of the standard library's Python files, sorted by path.

    Left out: tests, installed packages, the help topics, files that are not UTF-8 or are empty.

    Raises
    ------
    UserError
        if this Python has no sources.
    """
    root = Path(sysconfig.get_path("stdlib"))
    texts = []
    for file in files_below(root, (".py",), _not_source):
        try:
            text = decode(file.read_bytes(), file)
        except (UserError, OSError):
            continue
        if text:
            texts.append((file.relative_to(root).as_posix(), text))
    return texts, "the standard library's source by path, without tests"


def docstrings():
    """(texts, description) of the standard library's docstrings, one document a module.

    Raises
    ------
    UserError
        if this Python has no sources.
    """
    texts = []
    for name, source in stdlib_sources()[0]:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")  # the library's own invalid escapes
                tree = ast.parse(source)
        except SyntaxError:  # a template of code
            continue
        kinds = (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)
        found = (ast.get_docstring(node) for node in ast.walk(tree) if isinstance(node, kinds))
        if text := "\n\n".join(doc for doc in found if doc):
            texts.append((name, text + "\n"))
    return without_repeats(texts), "the standard library's docstrings by module, repeats left out"


def _not_source(name):
    return name.startswith((".", "_sysconfigdata")) or name in NOT_SOURCE
