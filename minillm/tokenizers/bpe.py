"""Byte-level byte-pair encoding, as GPT-2's and GPT-4's (Sennrich, Haddow & Birch 2016,
arXiv:1508.07909; over bytes: Radford et al. 2019).

A text is cut into words (pretokenize.py), a word into its UTF-8 bytes, and pairs of neighbours are
joined as training has learned them (bpe_train.py, bpe_encode.py). Nothing is unknown to it. The
plain version is bpe_simple.py; the files of others are in bpe_files.py and
bpe_list_files.py.
"""

import functools
from pathlib import Path

import numpy as np

from minillm.errors import UserError
from minillm.files import read_json
from minillm.tokenizers import bpe_files, bpe_list_files
from minillm.tokenizers.base import END, special_names, utf8
from minillm.tokenizers.bpe_encode import Encoder
from minillm.tokenizers.bpe_simple import BYTE_ORDER
from minillm.tokenizers.bpe_train import train_merges
from minillm.tokenizers.bpe_vocabulary import (
    check_vocabulary,
    make_merges,
    pairs_by_rank,
    usual_end,
)
from minillm.tokenizers.pretokenize import PATTERNS, safe_cut
from minillm.tokenizers.surface import Surface

__all__ = ["BPETokenizer"]


class BPETokenizer(Surface):
    """Bytes joined to tokens by a list of merges, or by the ranks of the tokens.

    With merges a pair is joined if it is in the list, the earliest first (Hugging Face, GPT-2).
    Without, a pair is joined if its bytes are a token, the lowest id first (tiktoken), and a word
    that is a token is not cut at all. What training learns gives the same ids either way.

    Parameters
    ----------
    vocabulary : dict, bytes -> id; with every single byte
    merges : list of (bytes, bytes), or None to join by the ids
    pattern : str, one of pretokenize.PATTERNS
    special_tokens : dict, name -> id; where none is an end token, `END` gets the next free id
    end : str or None, the name of the end token; None for the first of a few usual names
    add_prefix_space : bool, whether a text that begins with no space gets one (with "gpt2" only)
    whole_words : bool, whether a word that is a token is not cut, whatever the merges say; always,
        without merges

    Raises
    ------
    UserError
        for a vocabulary that lacks a byte or what a merge needs, or ids that are wrong or not
        unique.
    """

    kind = "bpe"
    lossless = True
    unknown_id = None

    def __init__(
        self,
        vocabulary,
        merges=None,
        *,
        pattern="gpt2",
        special_tokens=None,
        end=None,
        add_prefix_space=False,
        whole_words=False,
    ):
        if pattern not in PATTERNS:
            raise UserError(f"unknown pattern {pattern!r}; there are: {', '.join(PATTERNS)}")
        if add_prefix_space and pattern != "gpt2":
            raise UserError(f"add_prefix_space goes with the pattern 'gpt2', not {pattern!r}")
        self.vocabulary = dict(vocabulary)
        self.merges = None if merges is None else [tuple(pair) for pair in merges]
        self.pattern, self.add_prefix_space = pattern, bool(add_prefix_space)
        self.whole_words = bool(whole_words or merges is None)
        self.special_tokens = dict(special_tokens or {})
        special_names(self.special_tokens)  # refuses what is no name
        largest = check_vocabulary(self.vocabulary, self.special_tokens)
        if end is None:
            end = usual_end(self.special_tokens)
            if end not in self.special_tokens:
                largest += 1
                self.special_tokens[end] = largest
        if end not in self.special_tokens:
            raise UserError(f"the end token {end!r} is none of the special tokens")
        self.end, self.end_id, self.vocab_size = end, self.special_tokens[end], largest + 1
        self._special_of = {i: name for name, i in self.special_tokens.items()}
        self._token_of = [b""] * self.vocab_size  # special ids and gaps stay empty
        for token, i in self.vocabulary.items():
            self._token_of[i] = token
        self._sizes = np.array([len(token) for token in self._token_of])  # (V,)
        whole = self.vocabulary if self.whole_words else None
        self._encoder = Encoder(make_merges(self.vocabulary, self.merges), pattern, whole)

    @classmethod
    def train(
        cls,
        texts,
        *,
        vocab_size=8192,
        pattern="gpt2",
        min_frequency=0,
        special_tokens=(END,),
        progress=None,
    ):
        """Learn merges from a text, or from several in turn (the training texts alone).

        Parameters
        ----------
        texts : str, or iterable of str, which is consumed once
        vocab_size : int, tokens at most: bytes, merges and special tokens; fewer where the texts
            have no more pairs
        pattern : str, one of pretokenize.PATTERNS
        min_frequency : int, how often a pair must come to be joined
        special_tokens : names; their ids are the last. `END` follows them where none of them is
            an end token, as one of the usual names is
        progress : function of (done, total) or None

        Raises
        ------
        UserError
            for a vocabulary smaller than the bytes and the special tokens, a name that is none, a
            number out of range.
        """
        special_tokens = special_names(special_tokens)
        end = usual_end(special_tokens)
        if end not in special_tokens:
            special_tokens.append(end)
        least = 256 + len(special_tokens)
        if vocab_size < least:
            raise UserError(
                f"vocab_size must be at least {least}, the bytes and the special tokens, "
                f"got {vocab_size}"
            )
        if min_frequency < 0:
            raise UserError(f"min_frequency must not be negative, got {min_frequency}")
        merges = train_merges(
            texts,
            n_merges=vocab_size - least,
            pattern=pattern,
            min_frequency=min_frequency,
            progress=progress,
        )
        tokens = [bytes([byte]) for byte in BYTE_ORDER] + [left + right for left, right in merges]
        vocabulary = {token: i for i, token in enumerate(dict.fromkeys(tokens))}
        names = {name: len(vocabulary) + i for i, name in enumerate(special_tokens)}
        return cls(vocabulary, merges, pattern=pattern, special_tokens=names, end=end)

    def _encode(self, text):
        return self._encoder.encode(self._prefixed(text))

    def encode_batch(self, texts, *, special=()):
        """The ids of each of several texts, a list of int32 arrays; faster than one by one."""
        if special or isinstance(texts, str):
            return super().encode_batch(texts, special=special)
        return self._encoder.encode_batch(map(self._prefixed, texts))

    def _prefixed(self, text):
        return " " + text if self.add_prefix_space and text and text[0] != " " else text

    def _spans(self, text):
        raw = np.frombuffer(utf8(text), np.uint8)
        ids = self._encode(text)
        ends = np.cumsum(self._sizes[ids])  # (N,), bytes
        starts = ends - self._sizes[ids]
        if len(ids) and ends[-1] > len(
            raw
        ):  # a space was put before the text: it is the first character's
            starts, ends = np.maximum(starts - 1, 0), np.maximum(ends - 1, 1)
        character = np.cumsum(raw & 0xC0 != 0x80)  # (B,), its number, from 1, at each byte
        first = character[starts] - 1
        last = character[ends - 1]
        return ids, np.stack([first, last], axis=1).astype(np.int64)

    def _text_of(self, ids):
        tokens = self._token_of
        return b"".join([tokens[i] for i in ids.tolist()]).decode(errors="replace")

    def _cut(self, text):
        if not self.add_prefix_space:
            return safe_cut(text, self.pattern)
        size = safe_cut(text, self.pattern)
        while size and text[size : size + 1] != " ":  # or what follows would get a space
            size = safe_cut(text[:size], self.pattern)
        return size

    def unknown_bytes(self, text):
        """0: every byte is a token."""
        return 0

    def token_name(self, i):
        """How a token is shown: its text, or its bytes as <0xE6> where they are no UTF-8.

        Raises
        ------
        ValueError
            for an id out of range.
        """
        if not 0 <= i < self.vocab_size:
            raise ValueError(f"an id must be in [0, {self.vocab_size}), got {i}")
        if i in self._special_of:
            return self._special_of[i]
        token = self._token_of[i]
        try:
            return token.decode()
        except UnicodeDecodeError:
            return "".join(f"<0x{byte:02X}>" for byte in token)

    def id_of(self, token):
        """The id of a token's bytes, or text, or of a special token's name; None for none."""
        if isinstance(token, str):
            if token in self.special_tokens:
                return self.special_tokens[token]
            token = utf8(token)
        return self.vocabulary.get(token)

    def ranked_pairs(self):
        """The merges, or where there are none all pairs that the ids let join, in order."""
        if self.merges is not None:
            return self.merges
        token_of, (pairs, _, _) = self._token_of, pairs_by_rank(self.vocabulary)
        return [(token_of[left], token_of[right]) for left, right in pairs]

    def __reduce__(self):
        """Pickled by its description: the words seen before, and their lock, stay behind."""
        return type(self).from_dict, (self.to_dict(),)

    def to_dict(self):
        return {"kind": self.kind} | bpe_files.to_json(self)

    @classmethod
    def from_dict(cls, saved):
        return cls(**bpe_files.from_json(saved))

    def save(self, path):
        """Write Hugging Face's tokenizer.json, whole or not at all."""
        bpe_files.write_tokenizer_json(self, path)

    @classmethod
    def load(cls, path):
        """Read Hugging Face's tokenizer.json, or what `to_dict` gave.

        Raises
        ------
        UserError
            if the file is missing, damaged, or asks for what there is not here.
        """
        saved = read_json(path)
        read = bpe_files.from_json if "kind" in saved else bpe_files.from_tokenizer_json
        return _made(cls, path, lambda: read(saved))

    def save_gpt2(self, folder):
        """Write GPT-2's vocab.json and merges.txt into a folder."""
        bpe_list_files.write_gpt2(self, folder)

    @classmethod
    def load_gpt2(cls, folder, *, special_tokens=(END,), **settings):
        """Read vocab.json and merges.txt; settings as those of the class.

        Parameters
        ----------
        special_tokens : names of special tokens; those that the vocabulary has
        """
        made = functools.partial(bpe_list_files.read_gpt2, folder, special_names(special_tokens))
        return _made(cls, folder, lambda: made() | settings)

    def save_tiktoken(self, path):
        """Write tiktoken's file of ranks, which has neither pattern nor special tokens."""
        bpe_list_files.write_tiktoken(self, path)

    @classmethod
    def load_tiktoken(cls, path, *, pattern, special_tokens=(END,), end=None):
        """Read tiktoken's file of ranks.

        Parameters
        ----------
        pattern : str, one of pretokenize.PATTERNS
        special_tokens : dict, name -> id; or names, which get the ids after the largest rank
        """

        def read():
            ranks = bpe_list_files.read_tiktoken(path)
            special = special_tokens
            if not isinstance(special, dict):
                first = 1 + max(ranks.values(), default=-1)
                special = {name: first + i for i, name in enumerate(special_names(special))}
            settings = {"pattern": pattern, "special_tokens": special, "end": end}
            return {"vocabulary": ranks} | settings

        return _made(cls, path, read)


def _made(cls, path, read):
    try:
        return cls(**read())
    except UserError as error:
        message = str(error)
        named = message.startswith((str(path), f"cannot read {Path(path)}"))
        raise UserError(message if named else f"{path}: {message}") from None
