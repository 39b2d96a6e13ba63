"""Which tokenizer a file holds: ours, or one of the published formats.

A name tells little (`vocab.json` is GPT-2's, `tokenizer.json` Hugging Face's, and anybody renames
files), so what a file holds decides: JSON by its fields, the rest by its first bytes.
"""

from pathlib import Path

from minillm.errors import UserError
from minillm.files import read_json
from minillm.tokenizers.pretokenize import PATTERNS

__all__ = ["read_tokenizer"]

# OpenAI's files: how texts are cut, and the special tokens, as tiktoken has them
END_50K = {"<|endoftext|>": 50256}
FIM = ("<|fim_prefix|>", "<|fim_middle|>", "<|fim_suffix|>")
PUBLISHED: dict[str, tuple[str, dict]] = {
    "r50k_base": ("gpt2", END_50K),
    "p50k_base": ("gpt2", END_50K),
    "cl100k_base": (
        "cl100k",
        {"<|endoftext|>": 100257, **{name: 100258 + i for i, name in enumerate(FIM)}}
        | {"<|endofprompt|>": 100276},
    ),
}
IN_FOLDERS = ("tokenizer.json", "vocab.json", "tokenizer.model", "vocab.txt", "model.json")


def read_tokenizer(path):
    """The tokenizer in a file or folder.

    Parameters
    ----------
    path : what `save` wrote; a Hugging Face `tokenizer.json` (BPE by bytes, WordPiece); GPT-2's
        `vocab.json` or `merges.txt`, the other one beside it; a `.tiktoken` file; SentencePiece's
        unigram `.model`; BERT's `vocab.txt`; a folder with one of these, or a model's own folder.
        "FILE@cl100k" says how a .tiktoken file of another name than the published ones cuts texts

    Raises
    ------
    UserError
        if there is none, or it is damaged or of a kind that is not read here.
    """
    path, pattern = _named(path)
    if path.is_dir():
        path = _in_folder(path)
    try:
        return _read(path, pattern)
    except UserError as error:
        known = str(path) in str(error)
        raise error if known else UserError(f"{path}: {error}") from None


def _read(path, pattern):
    try:
        with path.open("rb") as file:
            start = file.read(1 << 12)
    except OSError as error:
        raise UserError(f"{path}: cannot be read: {error.strerror}{_advice(path)}") from None
    if not start:
        raise UserError(f"{path}: the file is empty")
    if start.lstrip()[:1] == b"{":
        return _from_json(path)
    text = _as_text(start)
    if text is None or "\0" in text:
        return _class("unigram").load_model(path)
    if path.name == "merges.txt" or text.startswith("#version"):
        return _class("bpe").load_gpt2(_pair(path))
    if _is_ranks(start):
        return _from_ranks(path, pattern)
    if path.suffix == ".json":
        raise UserError(f"{path}: no tokenizer: a tokenizer's JSON is an object, in curly brackets")
    try:
        return _class("wordpiece").from_vocabulary(path)
    except UserError as error:
        why = str(error).removeprefix(f"{path}: ")
        raise UserError(
            f"{path}: no tokenizer's file; plain text is read as BERT's vocab.txt, a token a line, "
            f"but {why}"
        ) from None


def _advice(path):
    from minillm.tokenizers import NAMES

    if str(path) not in NAMES or path.exists():
        return ""
    return f" (a {path} tokenizer is trained first: minillm tokenize train --kind {path})"


def _named(path):
    """The path, and the pattern that follows it behind an @."""
    name, _, pattern = str(path).rpartition("@")
    if name and pattern in PATTERNS and not Path(path).exists():
        return Path(name), pattern
    if name and Path(name).is_file() and not Path(path).exists():
        raise UserError(f"{path}: no pattern {pattern!r}; there are: {', '.join(PATTERNS)}")
    return Path(path), None


def _in_folder(folder):
    for name in IN_FOLDERS:
        for place in (folder / name, folder / "best" / name, folder / "last" / name):
            if place.exists():
                return place
    raise UserError(f"{folder}: no tokenizer in this folder: none of {', '.join(IN_FOLDERS)}")


def _from_json(path):
    from minillm.tokenizers import KINDS, load_tokenizer

    saved = read_json(path)
    if isinstance(saved.get("tokenizer"), dict) and "format" in saved:  # a model.json of ours
        saved = saved["tokenizer"]
    kind = saved.get("kind")  # in a vocabulary it is a word like any other
    if isinstance(kind, str) and kind in KINDS:
        return load_tokenizer(saved)
    model = saved.get("model")
    if isinstance(model, dict):
        kind = model.get("type") or ("BPE" if "merges" in model else None)
        if kind == "BPE":
            return _class("bpe").load(path)
        if kind == "WordPiece":
            return _class("wordpiece").from_tokenizer_json(path)
        raise UserError(
            f"{path}: a tokenizer.json of the model {kind!r}; BPE and WordPiece are read "
            "(a Unigram model: from SentencePiece's .model file)"
        )
    if saved and all(isinstance(value, int) for value in saved.values()):
        return _class("bpe").load_gpt2(_pair(path))
    raise UserError(f"{path}: JSON, but no tokenizer: neither kind nor model nor a vocabulary")


def _pair(path):
    """The folder of vocab.json and merges.txt."""
    if path.name not in ("vocab.json", "merges.txt"):
        raise UserError(
            f"{path}: no tokenizer, unless it is a part of GPT-2's, "
            "whose files must be vocab.json and merges.txt"
        )
    for name in ("vocab.json", "merges.txt"):
        if not path.with_name(name).exists():
            raise UserError(f"{path}: vocab.json and merges.txt belong together, no {name} here")
    return path.parent


def _from_ranks(path, pattern):
    """A file of ranks does not say how texts are cut, nor which special tokens there are."""
    published = next((name for name in PUBLISHED if name in path.name), "")
    if pattern is None and not published:
        raise UserError(
            f"{path}: a .tiktoken file does not say how texts are cut: add it to the name, as in "
            f"{path.name}@cl100k (or {', '.join(sorted(set(PATTERNS) - {'cl100k'}))})"
        )
    settings = {"pattern": pattern}
    if pattern is None:
        of_it, special = PUBLISHED[published]
        settings = {"pattern": of_it, "special_tokens": special}
    return _class("bpe").load_tiktoken(path, **settings)


def _as_text(start):
    """The start of a file as text, or None."""
    for cut in range(4):  # a character may be cut at the end
        try:
            return start[: len(start) - cut].decode("utf-8")
        except UnicodeDecodeError:
            continue
    return None


def _is_ranks(start):
    """Whether a file begins as tiktoken's do: base 64, a space, a number, line by line."""
    lines = start.split(b"\n")[:3]
    words = [line.split(b" ") for line in (lines[:-1] or lines)]
    return all(len(pair) == 2 and pair[1].strip().isdigit() for pair in words)


def _class(kind):
    from minillm.tokenizers import KINDS

    return KINDS[kind]
