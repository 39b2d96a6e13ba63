"""Byte-level BPE in files that are lists: GPT-2's vocab.json and merges.txt, tiktoken's ranks.

Neither says by which pattern a text is cut. Hugging Face's tokenizer.json is in bpe_files.py.
"""

import base64
import binascii
import json
from pathlib import Path

from minillm.errors import UserError
from minillm.files import read_chunks, read_json, write_bytes, write_text
from minillm.tokenizers.bpe_alphabet import to_text
from minillm.tokenizers.bpe_files import named_tokens, read_pairs, read_tokens

__all__ = ["read_gpt2", "read_tiktoken", "write_gpt2", "write_tiktoken"]


def write_gpt2(tokenizer, folder):
    """Write vocab.json, special tokens among the others, and merges.txt.

    Raises
    ------
    UserError
        where these two files would not say all: a pattern that is not GPT-2's, whole words.
    """
    if tokenizer.pattern != "gpt2" or tokenizer.whole_words:
        raise UserError(
            "vocab.json and merges.txt can only hold a tokenizer with the pattern 'gpt2' and merges"
        )
    vocabulary = named_tokens(tokenizer)
    lines = [f"{to_text(left)} {to_text(right)}" for left, right in tokenizer.merges]
    folder = Path(folder)
    write_text(folder / "vocab.json", json.dumps(vocabulary, ensure_ascii=False) + "\n")
    write_text(folder / "merges.txt", "\n".join(["#version: 0.2", *lines]) + "\n")


def read_gpt2(folder, special_tokens):
    """What `BPETokenizer` needs of vocab.json and merges.txt.

    Raises
    ------
    UserError
        if one is missing or damaged.
    """
    folder = Path(folder)
    vocabulary = read_json(folder / "vocab.json")
    lines = "".join(read_chunks(folder / "merges.txt")).split("\n")
    lines = [line.removesuffix("\r") for line in lines if not line.startswith("#version")]
    merges = read_pairs([line for line in lines if line])
    special = {name: vocabulary.pop(name) for name in special_tokens if name in vocabulary}
    return {"vocabulary": read_tokens(vocabulary), "merges": merges, "special_tokens": special}


def write_tiktoken(tokenizer, path):
    """Write a line a token: its bytes in base64, a space, its id, which is its rank.

    Raises
    ------
    UserError
        where the ids are not in the order of the merges, as tiktoken needs them.
    """
    vocabulary = tokenizer.vocabulary
    made = [vocabulary[left + right] for left, right in tokenizer.ranked_pairs()]
    if made != sorted(made):
        raise UserError("tiktoken needs ids in the order of the merges, which these are not")
    if not tokenizer.whole_words and set(made) < {i for t, i in vocabulary.items() if len(t) > 1}:
        raise UserError("tiktoken would use tokens that no merge makes, which this has")
    lines = [
        base64.b64encode(token) + b" %d\n" % i
        for token, i in sorted(vocabulary.items(), key=lambda item: item[1])
    ]
    write_bytes(path, b"".join(lines))


def read_tiktoken(path):
    """The ranks in tiktoken's file, bytes -> int.

    Raises
    ------
    UserError
        naming the line that is damaged.
    """
    ranks: dict[bytes, int] = {}
    for number, line in enumerate("".join(read_chunks(path)).split("\n"), 1):
        if not line.strip():
            continue
        try:
            text, rank = line.split()
            token = base64.b64decode(text, validate=True)
            value = int(rank)
        except (ValueError, binascii.Error):
            raise UserError(
                f"{path}: line {number} must be a token in base64 and its rank, got {line[:60]!r}"
            ) from None
        if not token or token in ranks:
            raise UserError(f"{path}: line {number}: token {token!r} is empty or came before")
        ranks[token] = value
    return ranks
