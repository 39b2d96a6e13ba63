"""Word vectors in a person's hand: neighbours, analogies, a file.

Nearness is the cosine of the angle between two vectors (Mikolov, Chen, Corrado & Dean 2013,
arXiv:1301.3781, section 4); the length of a vector tells more of how often the word came.
"""

import difflib
import json
from pathlib import Path

import numpy as np

from minillm.errors import UserError, whole
from minillm.files import read_json, read_safetensors, save_safetensors, write_text

__all__ = ["WordVectors"]

FORMAT = "minillm-words-1"


def unit_length(rows):
    """Rows (..., C) divided by their lengths; a row of zeros stays one.

    By the largest number first: the square of a large or of a tiny one is no float any more.
    """
    largest = np.abs(rows).max(-1, keepdims=True, initial=0)  # (..., 1)
    rows = rows / np.where(largest > 0, largest, 1)
    length = np.linalg.norm(rows, axis=-1, keepdims=True)  # (..., 1)
    return rows / np.where(length > 0, length, 1)


class WordVectors:
    """A vector for each word.

    Parameters
    ----------
    words : list of V str, each once
    vectors : (V, C) float
    contexts : (V, C) float or None, the words' second vectors, as neighbours of other words
    counts : (V,) int or None, how often each word came in training

    Raises
    ------
    UserError
        for words that come twice, or arrays that do not fit the words.
    """

    def __init__(self, words, vectors, contexts=None, counts=None):
        self.words, self.vectors = list(words), np.asarray(vectors)
        if not all(isinstance(word, str) for word in self.words):
            wrong = next(word for word in self.words if not isinstance(word, str))
            raise UserError(f"words must be texts, got {wrong!r} among them")
        if not np.issubdtype(self.vectors.dtype, np.floating):
            raise UserError(f"vectors must be floats, got {self.vectors.dtype}")
        self.contexts, self.counts = contexts, counts
        self.id_of = {word: i for i, word in enumerate(self.words)}
        if len(self.id_of) < len(self.words):
            twice = next(w for i, w in enumerate(self.words) if self.id_of[w] != i)
            raise UserError(f"words must differ, {twice!r} comes twice")
        if self.vectors.ndim != 2 or len(self.vectors) != len(self.words):
            raise UserError(
                f"vectors must have shape ({len(self.words)}, C), got {self.vectors.shape}"
            )
        for name, array, shape in (
            ("contexts", contexts, self.vectors.shape),
            ("counts", counts, (len(self.words),)),
        ):
            if array is not None and np.shape(array) != shape:
                raise UserError(f"{name} must have shape {shape}, got {np.shape(array)}")
        if not np.all(np.isfinite(self.vectors)):
            raise UserError("vectors must be finite")
        self.unit = unit_length(self.vectors)  # (V, C)

    def __len__(self):
        return len(self.words)

    def __contains__(self, word):
        return word in self.id_of

    def __getitem__(self, word):
        """The vector of a word, (C,)."""
        return self.vectors[self._id(word)]

    def similarity(self, word, other):
        """The cosine between two words' vectors, in [-1, 1]."""
        return float(self.unit[self._id(word)] @ self.unit[self._id(other)])

    def nearest(self, word, n=10):
        """The n words whose vectors point most nearly the same way.

        Parameters
        ----------
        word : str, which is left out of the answer; or a vector (C,)
        n : int >= 1

        Returns
        -------
        found : list of (word, cosine), the nearest first

        Raises
        ------
        UserError
            for a word that is none of ours; names the nearest in spelling.
        """
        if isinstance(word, str):
            return self._nearest(self.unit[self._id(word)], n, [word])
        return self._nearest(np.asarray(word), n, [])

    def analogy(self, a, b, c, n=5):
        """a is to b as c is to whom? The words nearest to b - a + c, none of the three among them.

        Equation: argmax over w of cos(w, b - a + c), each of length 1 (arXiv:1301.3781, section 4)

        Returns
        -------
        found : list of (word, cosine)
        """
        a_id, b_id, c_id = map(self._id, (a, b, c))
        return self._nearest(self.unit[b_id] - self.unit[a_id] + self.unit[c_id], n, [a, b, c])

    def _nearest(self, vector, n, left_out):
        n = whole("n", n, 1)
        if vector.shape != self.vectors.shape[1:]:
            raise UserError(
                f"the vector must have shape {self.vectors.shape[1:]}, got {vector.shape}"
            )
        if not np.all(np.isfinite(vector)):
            raise UserError("the vector must be finite")
        cosine = self.unit @ unit_length(vector)  # (V,)
        order = np.argsort(-cosine, kind="stable")[: n + len(left_out)]
        found = [(self.words[i], float(cosine[i])) for i in order if self.words[i] not in left_out]
        return found[:n]

    def _id(self, word):
        if word not in self.id_of:
            close = difflib.get_close_matches(str(word), self.words, n=1)
            near = f"did you mean {close[0]!r}?" if close else "it came too rarely, or never"
            raise UserError(f"{word!r} is none of the {len(self.words):,} words: {near}")
        return self.id_of[word]

    def save(self, folder):
        """Write vectors.safetensors and words.json into a folder, each whole or not at all."""
        folder = Path(folder)
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
        arrays = {"vectors": self.vectors, "contexts": self.contexts, "counts": self.counts}
        arrays = {name: array for name, array in arrays.items() if array is not None}
        save_safetensors(folder / "vectors.safetensors", arrays)
        description = {"format": FORMAT, "words": self.words}
        write_text(folder / "words.json", json.dumps(description, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, folder):
        """What `save` wrote.

        Raises
        ------
        UserError
            if a file is missing, cut off, of another format, or the two do not belong together.
        """
        folder = Path(folder)
        description = read_json(folder / "words.json")
        words = description.get("words")
        if description.get("format") != FORMAT or not isinstance(words, list):
            raise UserError(f"{folder / 'words.json'} is not of the format {FORMAT}")
        arrays = read_safetensors(folder / "vectors.safetensors")
        known = {"vectors", "contexts", "counts"}
        if "vectors" not in arrays or arrays.keys() - known:
            raise UserError(
                f"{folder / 'vectors.safetensors'} must hold vectors, got {sorted(arrays)}"
            )
        try:
            return cls(words, **arrays)
        except (UserError, TypeError) as error:
            raise UserError(f"{folder}: {error}") from None
