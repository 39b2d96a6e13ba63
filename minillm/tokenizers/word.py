"""One token a word, the vocabulary taken from the training text: what n-gram models began with.

Two ways to split a text. "whitespace" takes what stands between white space, as the users of KenLM
and of `bytes.split` have it: the white space is forgotten, decoding puts one space between words.
"text" cuts a text into words, numbers, punctuation and white space which, joined, are the text; the
space before a word belongs to it, as in GPT-2's pattern (Radford et al. 2019).
"""

import functools
from collections import Counter

import numpy as np
import regex

from minillm.errors import UserError
from minillm.tokenizers.base import END, check_ids, documents, special_names, utf8
from minillm.tokenizers.surface import Surface, regroup

__all__ = ["WordTokenizer"]

UNKNOWN = "<unk>"
PIECE = 1 << 20  # characters split at once, which bounds the memory that their words take

# ASCII's white space, which is KenLM's but for NUL. Unicode's other spaces are parts of words:
# which ones there are depends on the version of Unicode, and KenLM knows none of them.
BETWEEN_SPACE = regex.compile(r"[^ \t\n\r\v\f]+")
LAST_SPACE = regex.compile(r"(?r)[ \t\n\r\v\f]")

# A word may hold combining marks and, inside, apostrophes ("don't"); a Chinese character is a word,
# any other sign too. Of a run of white space the last space is left to the word after it.
LETTER = r"[\p{L}\p{M}--\p{Han}]"
PARTS = regex.compile(
    rf"(?V1) ?{LETTER}+(?:['’]{LETTER}+)*| ?\p{{N}}+| ?[^\s\p{{N}}{LETTER}]|\s+(?!\S)|\s+"
)
# Where a part ends whatever comes after. A numeral such as 〇 is Chinese and goes on a number.
LAST_END = regex.compile(r"(?V1)(?r)\S(?=\s|[\p{Han}--\p{N}])")


class WordTokenizer(Surface):
    """Words, the end token and the unknown one, which stands for every word not in the vocabulary.

    The end token decodes to nothing, the unknown one to its name.

    Parameters
    ----------
    words : iterable of str, each once; its place is its id. `end` and `unknown` may be among them;
        else they follow, in this order
    split : "text" or "whitespace"
    end, unknown : str, the names of the two tokens. No text encodes to the end token; by white
        space a word that is spelled as `unknown` does encode to that one, as in corpora whose rare
        words were replaced
    special_tokens : names of further special tokens, which come last

    Attributes
    ----------
    lossless : bool, True for "text"

    Raises
    ------
    UserError
        for a word that comes twice, a lone surrogate, another `split`, a name that is none, or
        `end` that is `unknown`.
    """

    kind = "word"

    def __init__(self, words, *, split="text", end=END, unknown=UNKNOWN, special_tokens=()):
        if split not in ("text", "whitespace"):
            raise UserError(f"split must be 'text' or 'whitespace', got {split!r}")
        if end == unknown:
            raise UserError(f"the end and the unknown token must differ, both are {end!r}")
        names = list(words)
        ids = dict(zip(names, range(len(names)), strict=True))
        special_names([end])
        special_names([unknown])
        special = [end, *(name for name in special_names(special_tokens) if name != end)]
        for name in [name for name in (end, unknown) if name not in ids] + special[1:]:
            ids[name] = len(names)
            names.append(name)
        if len(ids) < len(names):
            twice = next(name for name, count in Counter(names).items() if count > 1)
            raise UserError(f"a word vocabulary must hold each word once, {twice!r} comes twice")
        utf8("".join(names))  # refuses lone surrogates
        self.split, self.lossless = split, split == "text"
        self.words, self.end, self.unknown = names, end, unknown
        self.vocab_size, self.end_id, self.unknown_id = len(names), ids[end], ids[unknown]
        self.special_tokens = {name: ids[name] for name in special}

    @functools.cached_property
    def _id_of(self):
        """word -> id, as `_split` gives the words: made when a text is first encoded."""
        kept_out = set(self.special_tokens)
        as_split = str if self.lossless else str.encode
        ids = _Ids((as_split(x), i) for i, x in enumerate(self.words) if x not in kept_out)
        ids.unknown = self.unknown_id
        return ids

    @classmethod
    def train(
        cls,
        texts,
        *,
        split="text",
        vocab_size=None,
        min_frequency=1,
        end=END,
        unknown=UNKNOWN,
        special_tokens=(),
        progress=None,
    ):
        """The words of the training texts, the most frequent first.

        Words of equal frequency stand in the order in which they first appear.

        Parameters
        ----------
        texts : str, or an iterable of str
        vocab_size : int or None, at most so many ids, special and unknown ones included
        min_frequency : int, how often a word must come to be kept
        progress : function of (texts done, None) or None

        Raises
        ------
        UserError
            if `vocab_size` leaves no place for a word, or a text holds a lone surrogate.
        """
        special_tokens = special_names(special_tokens)
        cls((), split=split, end=end, unknown=unknown)  # refuses wrong settings early
        kept_out = {end, unknown, *special_tokens}
        if vocab_size is not None and vocab_size <= len(kept_out):
            raise UserError(f"vocab_size must be above {len(kept_out)}, got {vocab_size}")
        counts: Counter = Counter()
        for done, text in enumerate(documents(texts), start=1):
            for piece in _pieces(text, split):
                counts.update(_split(piece, split))
            if progress:
                progress(done, None)
        if split == "whitespace":
            counts = Counter({word.decode(): count for word, count in counts.items()})
        words = [w for w, n in counts.most_common() if n >= min_frequency and w not in kept_out]
        size = None if vocab_size is None else vocab_size - len(kept_out)
        options = {"end": end, "unknown": unknown, "special_tokens": special_tokens}
        return cls(words[:size], split=split, **options)

    @classmethod
    def from_words(cls, words, *, end="</s>", unknown=UNKNOWN):
        """The tokenizer by white space over the words of another model, whose ids are kept."""
        return cls(words, split="whitespace", end=end, unknown=unknown)

    def token_name(self, id):
        return self.words[check_ids([id], self.vocab_size)[0]]

    def _encode(self, text):
        rows = [np.empty(0, np.int32)]
        for piece in _pieces(text, self.split):
            found = _split(piece, self.split)
            rows.append(np.fromiter(map(self._id_of.__getitem__, found), np.int32, len(found)))
        return np.concatenate(rows)

    def _spans(self, text):
        pattern = PARTS if self.lossless else BETWEEN_SPACE
        spans = [found.span() for found in pattern.finditer(text)]
        return self._encode(text), np.array(spans, np.int64).reshape(-1, 2)

    def _text_of(self, ids):
        return ("" if self.lossless else " ").join(map(self.words.__getitem__, ids.tolist()))

    def _cut(self, text):
        return _cut(text, self.split)

    def unknown_bytes(self, text):
        """The UTF-8 bytes of the words that the vocabulary lacks."""
        lost = 0
        for piece in _pieces(text, self.split):
            for word in _split(piece, self.split):
                if self._id_of[word] == self.unknown_id:
                    lost += len(utf8(word) if self.lossless else word)
        return lost

    def to_dict(self):
        return {
            "kind": self.kind,
            "split": self.split,
            "end": self.end,
            "unknown": self.unknown,
            "special_tokens": list(self.special_tokens)[1:],
            "words": self.words[: self.vocab_size - len(self.special_tokens) + 1],
        }

    @classmethod
    def from_dict(cls, saved):
        lists = [saved.get("words"), saved.get("special_tokens", [])]
        names = [saved.get("end"), saved.get("unknown")]
        for strings in (*lists, names):
            if not isinstance(strings, list) or not all(isinstance(s, str) for s in strings):
                raise UserError(
                    "a saved word tokenizer must have its 'words' and 'special_tokens' as lists of "
                    "strings, its 'end' and 'unknown' as strings"
                )
        split = saved.get("split")
        return cls(lists[0], split=split, end=names[0], unknown=names[1], special_tokens=lists[1])


class _Ids(dict):
    """word -> id, the unknown id for any other; what `map` calls runs without Python's bytecode."""

    unknown: int

    def __missing__(self, word):
        return self.unknown


def _split(text, split):
    """The words of a text: str for "text", and for "whitespace" their UTF-8, which is faster."""
    return PARTS.findall(text) if split == "text" else utf8(text).split()


def _cut(text, split):
    """Up to where the words of a text are the same whatever follows it."""
    found = (LAST_END if split == "text" else LAST_SPACE).search(text)
    return found.end() if found else 0


def _pieces(text, split):
    utf8(text)  # refuses lone surrogates
    if len(text) <= PIECE:
        return [text]
    slices = (text[i : i + PIECE] for i in range(0, len(text), PIECE))
    return regroup(slices, lambda held: _cut(held, split))
