"""Text to ids and back."""

from typing import Any

from minillm.errors import UserError
from minillm.tokenizers.base import Tokenizer
from minillm.tokenizers.bpe import BPETokenizer
from minillm.tokenizers.byte import ByteTokenizer
from minillm.tokenizers.char import CharTokenizer
from minillm.tokenizers.unigram import UnigramTokenizer
from minillm.tokenizers.word import WordTokenizer
from minillm.tokenizers.wordpiece import WordPieceTokenizer

__all__ = [
    "KINDS",
    "NAMES",
    "BPETokenizer",
    "ByteTokenizer",
    "CharTokenizer",
    "Tokenizer",
    "UnigramTokenizer",
    "WordPieceTokenizer",
    "WordTokenizer",
    "load_tokenizer",
    "load_tokenizer_file",
    "make_tokenizer",
]

KINDS: dict[str, Any] = {
    "char": CharTokenizer,
    "byte": ByteTokenizer,
    "word": WordTokenizer,
    "bpe": BPETokenizer,
    "wordpiece": WordPieceTokenizer,
    "unigram": UnigramTokenizer,
}

# What can be trained by name: a kind, and settings of it. Those of no size learn all there is.
NAMES: dict[str, tuple[str, dict]] = {name: (name, {}) for name in KINDS} | {
    "whitespace": ("word", {"split": "whitespace"})
}
WITHOUT_SIZE = ("char", "byte")


def make_tokenizer(name, texts, *, vocab_size=None, progress=None, **settings):
    """Train a tokenizer on a text, or several in turn (the training texts alone).

    Parameters
    ----------
    name : str, in NAMES
    texts : str, or an iterable of str
    vocab_size : int, how many ids; None: what the kind has by default
    progress : function of (done, total), told now and then
    settings : what the kind's `train` takes besides

    Raises
    ------
    UserError
        for a name that does not exist, a setting that the kind does not have, or a text that it
        cannot be trained on.
    """
    if name not in NAMES:
        raise UserError(f"unknown tokenizer {name!r}; there are: {', '.join(NAMES)}")
    kind, more = NAMES[name]
    settings = more | settings
    if kind in WITHOUT_SIZE:
        if vocab_size is not None:
            raise UserError(f"a {kind} tokenizer has no vocab_size to choose, got {vocab_size}")
        return KINDS[kind].train(texts, **settings)
    if vocab_size is not None:
        settings["vocab_size"] = vocab_size
    return KINDS[kind].train(texts, progress=progress, **settings)


def load_tokenizer(saved):
    """The tokenizer that `to_dict` described.

    Raises
    ------
    UserError
        if the description is none that `to_dict` wrote.
    """
    if not isinstance(saved, dict):
        raise UserError(f"a saved tokenizer must be a JSON object, got {type(saved).__name__}")
    kind = saved.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise UserError(f"unknown tokenizer {kind!r}; there are: {', '.join(KINDS)}")
    return KINDS[kind].from_dict(saved)


def load_tokenizer_file(path):
    """The tokenizer in a file or folder, ours or a published one; see minillm.tokenizers.reading.

    Raises
    ------
    UserError
        if there is none that can be read.
    """
    from minillm.tokenizers.reading import read_tokenizer

    return read_tokenizer(path)
