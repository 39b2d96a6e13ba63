"""Where text comes from: Python's own documentation, its source, or a person's files.

A corpus is a list of documents in a stated order, the same on every run. Text is Unicode decoded
from UTF-8; newlines stay as they are in the file, a byte order mark at its start is dropped.
"""

import dataclasses
from pathlib import Path

from minillm.data.files import read_paths
from minillm.data.python import docstrings, stdlib_sources, topics

__all__ = ["Corpus", "Document", "load_corpus"]


@dataclasses.dataclass(frozen=True)
class Document:
    """One text; an end token follows it and no model's n-gram reaches across."""

    name: str
    text: str


@dataclasses.dataclass(frozen=True)
class Corpus:
    """Documents in order, and one line on where they come from and what was left out."""

    name: str
    documents: list[Document]
    description: str

    @property
    def text(self):
        """All documents one after the other."""
        return "".join(d.text for d in self.documents)

    def describe(self):
        """The description with the corpus's size."""
        characters = sum(len(d.text) for d in self.documents)
        return f"{self.description}: {len(self.documents)} documents, {characters:,} characters"

    __str__ = describe


def load_corpus(source="topics"):
    """Read a corpus.

    Parameters
    ----------
    source : "topics", CPython's `pydoc_data.topics`, the pages behind `help("if")`, sorted by name
        (where a stripped Python lacks them: the standard library's docstrings);
        "stdlib", the standard library's source files, sorted by path;
        or a path, or a list of paths, of text files and folders (see `minillm.data.files`). A file
        of one of those two names is reached as `./topics`.

    Raises
    ------
    UserError
        for a path that is missing or cannot be read, and for a file that is empty, binary or not
        UTF-8; or if this Python lacks what the source needs.
    """
    if source == "topics":
        found = topics() or docstrings()
    elif source == "stdlib":
        found = stdlib_sources()
    else:
        paths = [source] if isinstance(source, str | Path) else list(source)
        found = read_paths(paths)
        source = ", ".join(str(p) for p in paths)
    texts, description = found
    return Corpus(source, [Document(name, text) for name, text in texts], description)
