"""Training, validation and test text: consecutive stretches of the documents in their order."""

import dataclasses
import math

from minillm.data.corpus import Document
from minillm.errors import UserError

__all__ = ["Split", "split_documents"]


@dataclasses.dataclass(frozen=True)
class Split:
    """Three lists of documents that share no character, in the order of the corpus."""

    train: list[Document]
    validation: list[Document]
    test: list[Document]

    def describe(self):
        """One line a part: how many documents and characters, from which document to which."""
        lines = []
        for part in dataclasses.fields(self):
            documents = getattr(self, part.name)
            line = f"{part.name}: {len(documents)} documents"
            line += f", {sum(len(d.text) for d in documents):,} characters"
            if documents:
                line += f", {documents[0].name} to {documents[-1].name}"
            lines.append(line)
        return "\n".join(lines)

    __str__ = describe


def split_documents(documents, fractions=(0.8, 0.1, 0.1)):
    """Cut the documents, in their order, into training, validation and test text by characters.

    The document in which a boundary falls is cut there in two, so that a corpus of one file can be
    split too; the pieces' names tell their characters, as in `readme.txt[0:900]`. Every character
    lands in exactly one part.

    Parameters
    ----------
    documents : list of Document
    fractions : three shares of the characters, which sum to 1; a part may be empty

    Raises
    ------
    UserError
        for fractions that are negative, not three, or do not sum to 1.
    """
    fractions = tuple(fractions)
    if len(fractions) != 3 or not all(f >= 0 for f in fractions):
        raise UserError(f"fractions must be three numbers of at least 0, got {fractions}")
    if not math.isclose(sum(fractions), 1, abs_tol=1e-9):
        raise UserError(
            f"fractions must sum to 1, got {fractions}, which sum to {sum(fractions):g}"
        )
    total = sum(len(d.text) for d in documents)
    # 1e-6 of a character: the sum of two fractions may fall just short of the number meant.
    first = math.floor(fractions[0] * total + 1e-6)
    second = math.floor((fractions[0] + fractions[1]) * total + 1e-6)
    edges = (0, first, second, total)
    return Split(*(_between(documents, edges[i], edges[i + 1]) for i in range(3)))


def _between(documents, start, stop):
    """The pieces of the documents that hold the characters start to stop of all of them."""
    pieces, offset = [], 0
    for document in documents:
        length = len(document.text)
        low, high = max(start - offset, 0), min(stop - offset, length)
        if low < high:
            whole = high - low == length
            name = document.name if whole else f"{document.name}[{low}:{high}]"
            pieces.append(document if whole else Document(name, document.text[low:high]))
        offset += length
    return pieces
