"""WordPiece as BERT uses it (Schuster & Nakajima 2012; Devlin et al. 2019, arXiv:1810.04805).

A text is cut into words (bert_text.py), a word into the longest pieces that the vocabulary holds,
from the left. A piece inside a word is written with "##" before it. A word that cannot be cut so is
unknown as a whole. Training is in wordpiece_train.py, other programs' files in wordpiece_files.py.

Left out: the algorithm in one pass of Song et al. 2021 (arXiv:2012.15524); here a word is cut once
and then remembered.
"""

import dataclasses
import itertools
import json

import numpy as np

from minillm.errors import UserError
from minillm.files import write_text
from minillm.tokenizers.base import check_ids, special_names, utf8
from minillm.tokenizers.bert_text import BertText
from minillm.tokenizers.surface import Surface
from minillm.tokenizers.wordpiece_files import (
    read_tokenizer_json,
    read_vocabulary,
    to_tokenizer_json,
    write_vocabulary,
)
from minillm.tokenizers.wordpiece_train import LONGEST_WORD, PREFIX, train_vocabulary

__all__ = ["SPECIAL", "WordPieceTokenizer"]

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
REMEMBERED = 1 << 17  # chunks of text whose ids are kept; then the memory is emptied
# In this order, token by token; the two in which a space follows never apply.
CLEANUP = [(" " + sign, sign) for sign in (".", "?", "!", ",", "n't", "'m", "'s", "'ve", "'re")]
LONGEST = 64  # characters of a chunk that is kept


class WordPieceTokenizer(Surface):
    """Words cut into the longest known pieces.

    Equal to Hugging Face's `BertTokenizer`, ids and offsets, but that nothing is put around the
    text, special tokens are found in it only where asked for, and "[UNK]" is text like any other:
    it stands for what is unknown, and decodes to its name.

    Parameters
    ----------
    tokens : iterable of str, each once; its place is its id
    lowercase, strip_accents, clean, chinese : as in `BertText`
    max_input_chars_per_word : int, a longer word is unknown
    unknown, end : str, two of the tokens; BERT ends a text with "[SEP]"
    special_tokens : names; those among the tokens are special, `end` always

    Raises
    ------
    UserError
        for a token that comes twice or holds a lone surrogate, a special name that is none, or if
        `unknown` or `end` is missing.
    """

    kind = "wordpiece"
    lossless = False

    def __init__(
        self,
        tokens,
        *,
        lowercase=True,
        strip_accents=None,
        clean=True,
        chinese=True,
        max_input_chars_per_word=LONGEST_WORD,
        unknown="[UNK]",
        end="[SEP]",
        special_tokens=SPECIAL,
    ):
        self.tokens = list(tokens)
        ids = {token: i for i, token in enumerate(self.tokens)}
        _check(self.tokens, ids, unknown, end)
        self.rules = BertText(lowercase, strip_accents, clean, chinese)
        self.max_input_chars_per_word = max_input_chars_per_word
        self.unknown, self.end = unknown, end
        self.vocab_size = len(self.tokens)
        self.unknown_id, self.end_id = ids[unknown], ids[end]
        given = special_names(special_tokens)
        names = dict.fromkeys([*(n for n in given if n in ids and n != unknown), end])
        self.special_tokens = {name: ids[name] for name in sorted(names, key=ids.__getitem__)}
        for name in [*names, unknown]:
            ids.pop(name, None)
        self._first = ids
        self._inner = {t.removeprefix(PREFIX): i for t, i in ids.items() if t.startswith(PREFIX)}
        self._longest = max(map(len, self.tokens))
        self._memory = _Memory(self._ids_of_chunk)
        self._aligned = _Memory(self._spans_of_chunk)

    @classmethod
    def train(
        cls,
        texts,
        *,
        vocab_size=30000,
        min_frequency=2,
        special_tokens=(),
        alphabet_size=1000,
        lowercase=True,
        strip_accents=None,
        clean=True,
        chinese=True,
        progress=None,
    ):
        """The pieces that `train_vocabulary` learns from texts, after the special tokens.

        Parameters
        ----------
        texts : str, or an iterable of str
        vocab_size : int, at most so many ids, special ones included; more only where there are
            more characters
        min_frequency : int, how often a pair must come to be joined
        special_tokens : names of special tokens after BERT's five
        alphabet_size : int, how many different characters are kept, the most frequent ones
        progress : function of (pieces learned, pieces wanted) or None

        Raises
        ------
        UserError
            if `vocab_size` is below the number of special tokens, or a name is none.
        """
        rules = {
            "lowercase": lowercase,
            "strip_accents": strip_accents,
            "clean": clean,
            "chinese": chinese,
        }
        special = list(dict.fromkeys([*SPECIAL, *special_names(special_tokens)]))
        if vocab_size < len(special):
            raise UserError(
                f"vocab_size must be at least {len(special)}, the special tokens, got {vocab_size}"
            )
        tokens = train_vocabulary(
            texts,
            BertText(**rules),
            vocab_size=vocab_size,
            min_frequency=min_frequency,
            special_tokens=special,
            alphabet_size=alphabet_size,
            progress=progress,
        )
        return cls(tokens, special_tokens=special, **rules)

    @classmethod
    def from_vocabulary(cls, path, **settings):
        """Read a vocab.txt, as BERT's models have it: a token a line."""
        return _named(path, cls, read_vocabulary(path), **settings)

    @classmethod
    def from_tokenizer_json(cls, path):
        """Read a Hugging Face tokenizer.json that holds a WordPiece model behind BERT's words."""
        return _named(path, cls.from_dict, read_tokenizer_json(path))

    def save_vocabulary(self, path):
        """Write a vocab.txt; it says nothing of lower case and the other settings."""
        write_vocabulary(path, self.tokens)

    def save_tokenizer_json(self, path):
        """Write a Hugging Face tokenizer.json, which puts [CLS] and [SEP] around a text."""
        write_text(path, json.dumps(to_tokenizer_json(self), ensure_ascii=False, indent=2) + "\n")

    def token_name(self, id):
        return self.tokens[check_ids([id], self.vocab_size)[0]]

    def pieces(self, word):
        """The ids of one word: the specification, Devlin et al.'s greedy longest match first."""
        if len(word) > self.max_input_chars_per_word:
            return [self.unknown_id]
        ids, start, known = [], 0, self._first
        while start < len(word):
            for stop in range(min(len(word), start + self._longest), start, -1):
                found = known.get(word[start:stop])
                if found is not None:
                    break
            else:
                return [self.unknown_id]
            ids.append(found)
            start, known = stop, self._inner
        return ids

    def _ids_of_chunk(self, chunk):
        return [i for word in self.rules.words_of(chunk) for i in self.pieces(word)]

    def _encode(self, text):
        utf8(text)  # refuses lone surrogates
        chunks = self.rules.chunk.findall(text)
        rows = map(self._memory.__getitem__, chunks)
        return np.fromiter(itertools.chain.from_iterable(rows), np.int32)

    def _spans(self, text):
        utf8(text)
        found = [(c.start(), self._aligned[c.group()]) for c in self.rules.chunk.finditer(text)]
        ids = [i for _, (row, _) in found for i in row]
        spans = [(at + start, at + stop) for at, (_, row) in found for start, stop in row]
        return np.array(ids, np.int32), np.array(spans, np.int64).reshape(-1, 2)

    def _spans_of_chunk(self, chunk):
        ids, spans = [], []
        for word, origin in self.rules.aligned_words_of(chunk):
            found, stop = self.pieces(word), 0
            for i in found:
                start, stop = stop, stop + len(self.tokens[i]) - len(PREFIX) * (stop > 0)
                if i == self.unknown_id:
                    stop = len(word)
                spans.append((origin[start], origin[stop - 1] + 1))
            ids += found
        return ids, spans

    def _text_of(self, ids):
        """Pieces joined to words, words by spaces, but for English signs and endings."""
        tokens = [self.tokens[i] for i in ids.tolist()]
        return "".join(tokens[:1] + [_joined(token) for token in tokens[1:]])

    def _cut(self, text):
        return self.rules.cut(text)

    def unknown_bytes(self, text):
        """The UTF-8 bytes of the words that are unknown."""
        ids, spans = self._spans(text)
        return sum(len(utf8(text[a:b])) for a, b in spans[ids == self.unknown_id])

    def to_dict(self):
        return {
            "kind": self.kind,
            **dataclasses.asdict(self.rules),
            "max_input_chars_per_word": self.max_input_chars_per_word,
            "unknown": self.unknown,
            "end": self.end,
            "special_tokens": list(self.special_tokens),
            "tokens": self.tokens,
        }

    @classmethod
    def from_dict(cls, saved):
        settings = {name: value for name, value in saved.items() if name != "kind"}
        for name, value in settings.items():
            if name not in SETTINGS or not SETTINGS[name](value):
                raise UserError(
                    f"a saved wordpiece tokenizer cannot have {name!r} as {value!r:.60}"
                )
        if "tokens" not in settings:
            raise UserError("a saved wordpiece tokenizer must have its 'tokens'")
        return cls(**settings)


class _Memory(dict):
    """What a function made of short chunks of text; not more than memory bears."""

    def __init__(self, function):
        super().__init__()
        self.function = function

    def __missing__(self, chunk):
        result = self.function(chunk)
        if len(chunk) <= LONGEST:
            if len(self) >= REMEMBERED:
                self.clear()
            self[chunk] = result
        return result


def _is(*kinds):
    return lambda value: type(value) in kinds


def _is_strings(value):
    return isinstance(value, list) and all(isinstance(item, str) for item in value)


SETTINGS = {  # what is saved, and what it must be
    "lowercase": _is(bool),
    "strip_accents": _is(bool, type(None)),
    "clean": _is(bool),
    "chinese": _is(bool),
    "max_input_chars_per_word": _is(int),
    "unknown": _is(str),
    "end": _is(str),
    "special_tokens": _is_strings,
    "tokens": _is_strings,
}


def _named(path, function, *given, **settings):
    """What the function returns; a fault of a file's content is told with its name."""
    try:
        return function(*given, **settings)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _check(tokens, ids, unknown, end):
    utf8("".join(tokens))  # refuses lone surrogates
    if len(ids) < len(tokens):
        twice = next(token for i, token in enumerate(tokens) if ids[token] != i)
        raise UserError(f"a vocabulary must hold each token once, {twice!r} comes twice")
    for name in (unknown, end):
        if name not in ids:
            raise UserError(f"the vocabulary has no {name!r}, which it must")


def _joined(token):
    """A token after another, as the decoder of Hugging Face's `tokenizers` writes it."""
    text = token.removeprefix(PREFIX) if token.startswith(PREFIX) else " " + token
    for written, meant in CLEANUP:
        text = text.replace(written, meant)
    return text
