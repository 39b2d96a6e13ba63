"""Byte-level BPE as JSON: Hugging Face's tokenizer.json, and ours for a model's folder.

The files of GPT-2 and tiktoken are in bpe_list_files.py. The readers return what `BPETokenizer`
takes; what it cannot do is refused, never ignored. Of tokenizer.json these are left out: truncation
and padding, which are no encoding, and the post-processor, which only adds special tokens around a
text and trims offsets. A file without a decoder is decoded as byte-level BPE is.
"""

import json

from minillm.errors import UserError
from minillm.files import write_text
from minillm.tokenizers.bpe_alphabet import to_bytes, to_text
from minillm.tokenizers.bpe_vocabulary import usual_end
from minillm.tokenizers.pretokenize import PATTERNS

__all__ = [
    "added_tokens",
    "from_json",
    "from_tokenizer_json",
    "named_tokens",
    "read_pairs",
    "read_tokens",
    "to_json",
    "write_tokenizer_json",
]

# The patterns as Hugging Face's engine, Oniguruma, reads them: there {1,3}+ is a group repeated,
# and $ is the end of a line.
SPLIT = {
    "cl100k": (
        r"'(?i:[sdmt]|ll|ve|re)|[^\r\n\p{L}\p{N}]?+\p{L}++|(?>\p{N}{1,3})"
        r"| ?[^\s\p{L}\p{N}]++[\r\n]*+|\s++\z|\s*[\r\n]|\s+(?!\S)|\s"
    ),
    "cl100k_original": PATTERNS["cl100k_original"],
}
_KNOWN = {pattern: name for name, pattern in SPLIT.items()} | {PATTERNS["gpt2"]: "gpt2"}
_PLAIN = {  # what a model must not ask for
    "dropout": (None, 0, 0.0),
    "continuing_subword_prefix": (None, ""),
    "end_of_word_suffix": (None, ""),
    "byte_fallback": (None, False),
}


def to_json(tokenizer):
    """A tokenizer as JSON can hold it, its bytes as GPT-2 shows them."""
    merges = tokenizer.merges
    return {
        "pattern": tokenizer.pattern,
        "vocabulary": {to_text(token): i for token, i in tokenizer.vocabulary.items()},
        "merges": None if merges is None else [[to_text(a), to_text(b)] for a, b in merges],
        "special_tokens": tokenizer.special_tokens,
        "end": tokenizer.end,
        "add_prefix_space": tokenizer.add_prefix_space,
        "whole_words": tokenizer.whole_words,
    }


def from_json(saved):
    """What `to_json` wrote.

    Raises
    ------
    UserError
        naming the entry that is missing or wrong.
    """
    merges = saved.get("merges")
    special = _entry(saved, "special_tokens", dict, "a saved BPE tokenizer")
    return {
        "vocabulary": read_tokens(_entry(saved, "vocabulary", dict, "a saved BPE tokenizer")),
        "merges": None if merges is None else read_pairs(merges),
        "pattern": _entry(saved, "pattern", str, "a saved BPE tokenizer"),
        "special_tokens": special,
        "end": _entry(saved, "end", str, "a saved BPE tokenizer"),
        "add_prefix_space": bool(saved.get("add_prefix_space")),
        "whole_words": bool(saved.get("whole_words")),
    }


def write_tokenizer_json(tokenizer, path):
    """Write a file that Hugging Face's `Tokenizer.from_file` reads.

    Its offsets are those of `encode_with_offsets`: there is no post-processor to trim them. Hugging
    Face has no end token; where it is not the usual one, an entry "end" of the model names it,
    which over there nobody reads.
    """
    special = sorted(tokenizer.special_tokens.items(), key=lambda item: item[1])
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    byte_level = {"type": "ByteLevel", "add_prefix_space": tokenizer.add_prefix_space}
    byte_level |= {"trim_offsets": True, "use_regex": tokenizer.pattern == "gpt2"}
    splits = byte_level
    if tokenizer.pattern != "gpt2":
        regex = {"Regex": SPLIT[tokenizer.pattern]}
        split = {"type": "Split", "pattern": regex, "behavior": "Isolated", "invert": False}
        splits = {"type": "Sequence", "pretokenizers": [split, byte_level]}
    model = {
        "type": "BPE",
        "dropout": None,
        "unk_token": None,
        "continuing_subword_prefix": None,
        "end_of_word_suffix": None,
        "fuse_unk": False,
        "byte_fallback": False,
        "ignore_merges": tokenizer.whole_words,
        "vocab": named_tokens(tokenizer),
        "merges": [[to_text(a), to_text(b)] for a, b in tokenizer.ranked_pairs()],
    }
    if tokenizer.end != usual_end(tokenizer.special_tokens):
        model["end"] = tokenizer.end
    file = {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": name, **flags, "special": True} for name, i in special
        ],
        "normalizer": None,
        "pre_tokenizer": splits,
        "post_processor": None,
        "decoder": byte_level | {"use_regex": True},
        "model": model,
    }
    write_text(path, json.dumps(file, ensure_ascii=False, indent=1) + "\n")


def from_tokenizer_json(saved):
    """What `BPETokenizer` needs of a tokenizer.json.

    Raises
    ------
    UserError
        if it is no byte-level BPE, or has a part that there is not here.
    """
    what = "a tokenizer.json"
    model = _entry(saved, "model", dict, what)
    if model.get("type", "BPE") != "BPE":
        raise UserError(f"its model is {model.get('type')!r}, not 'BPE'")
    if saved.get("normalizer") is not None:
        raise UserError(f"no normalizer is supported, got {_type(saved['normalizer'])}")
    for name, plain in _PLAIN.items():
        if model.get(name) not in plain:
            raise UserError(f"the model's {name} is not supported, got {model[name]!r}")
    decoder = saved.get("decoder")
    if decoder is not None and _type(decoder) != "ByteLevel":
        raise UserError(f"its decoder must be ByteLevel, got {_type(decoder)}")
    pattern, prefix = _pattern_of(saved.get("pre_tokenizer"))
    vocabulary = dict(_entry(model, "vocab", dict, "the model of " + what))
    merges = read_pairs(_entry(model, "merges", list, "the model of " + what))
    special = added_tokens(saved)
    _take_out(special, vocabulary, merges)
    return {
        "vocabulary": read_tokens(vocabulary),
        "merges": merges,
        "pattern": pattern,
        "special_tokens": special,
        "end": _entry(model, "end", str, "the model of " + what) if "end" in model else None,
        "add_prefix_space": prefix,
        "whole_words": bool(model.get("ignore_merges")),
    }


def named_tokens(tokenizer):
    """{string: id} of all tokens by their ids, special ones among them.

    Hugging Face gives a special token that the vocabulary lacks the next free id, not its own.

    Raises
    ------
    UserError
        for a special token with the name of another token.
    """
    tokens = {to_text(token): i for token, i in tokenizer.vocabulary.items()}
    for name in tokenizer.special_tokens:
        if name in tokens:
            raise UserError(f"the special token {name!r} has another token's name in the file")
    return dict(sorted((tokens | tokenizer.special_tokens).items(), key=lambda item: item[1]))


def added_tokens(saved):
    """The special tokens of a tokenizer.json, name -> id.

    Raises
    ------
    UserError
        for one that is damaged, or that is found in a text in a way that there is not here.
    """
    special = {}
    tokens = saved.get("added_tokens") or []
    if not isinstance(tokens, list):
        raise UserError(f"a tokenizer.json must have 'added_tokens' as a list, got {tokens!r:.60}")
    for token in tokens:
        name = _entry(token, "content", str, "an added token")
        for flag in ("single_word", "lstrip", "rstrip"):
            if token.get(flag):
                raise UserError(f"the added token {name!r} has {flag}, which is not supported")
        if not token.get("special", False):
            raise UserError(f"the added token {name!r} is not special, which is not supported")
        special[name] = _entry(token, "id", int, "an added token")
    return special


def _take_out(special, vocabulary, merges):
    """Take the special tokens out of a vocabulary that may hold them too."""
    joined = {left + right for left, right in merges}
    for name, i in special.items():
        if vocabulary.get(name) == i:
            if name.isascii() and (len(name) == 1 or name.encode() in joined):
                raise UserError(f"the added token {name!r} is a token of text as well")
            del vocabulary[name]


def _pattern_of(saved):
    """(name of the pattern, add_prefix_space) of a pre-tokenizer."""
    steps = [saved]
    if isinstance(saved, dict) and saved.get("type") == "Sequence":
        steps = _entry(saved, "pretokenizers", list, "a pre-tokenizer")
    kinds = [_type(step) for step in steps]
    if kinds == ["ByteLevel"] and steps[0].get("use_regex", True):
        return "gpt2", _entry(steps[0], "add_prefix_space", bool, "a ByteLevel")
    if kinds == ["Split", "ByteLevel"] and not steps[1].get("use_regex", True):
        split, byte_level = steps
        found = split.get("pattern")
        regex = found.get("Regex") if isinstance(found, dict) else None
        if not isinstance(regex, str) or regex not in _KNOWN:
            raise UserError(
                f"its pre-tokenizer splits by a pattern that is not known here: {regex}"
            )
        how = split.get("behavior"), bool(split.get("invert"))
        if how not in (("Isolated", False), ("Isolated", True), ("Removed", True)):
            raise UserError(f"its pre-tokenizer splits by (behavior, invert) {how}")
        if _entry(byte_level, "add_prefix_space", bool, "a ByteLevel"):
            raise UserError("add_prefix_space after a split is not supported")
        return _KNOWN[regex], False
    raise UserError(
        "its pre-tokenizer must be ByteLevel with its pattern, or Split and ByteLevel without; "
        f"got {', '.join(kinds)}"
    )


def read_tokens(vocabulary):
    """{bytes: id} of a vocabulary whose tokens are written in characters."""
    tokens = {to_bytes(text): i for text, i in vocabulary.items()}
    if b"" in tokens:
        raise UserError("a vocabulary must not hold an empty token")
    return tokens


def read_pairs(merges):
    """[(bytes, bytes)] of merges, each "left right" or [left, right]."""
    if not isinstance(merges, list):
        raise UserError(f"merges must be a list, got {merges!r:.60}")
    pairs = []
    for number, merge in enumerate(merges):
        parts = merge.split(" ") if isinstance(merge, str) else merge
        if not (isinstance(parts, list) and len(parts) == 2 and all(map(_is_token, parts))):
            raise UserError(f"merge {number} must be two tokens, got {merge!r}")
        pairs.append((to_bytes(parts[0]), to_bytes(parts[1])))
    return pairs


def _is_token(text):
    return isinstance(text, str) and text != ""


def _type(step):
    return str(step.get("type")) if isinstance(step, dict) else repr(step)


def _entry(saved, name, kind, what):
    value = saved.get(name) if isinstance(saved, dict) else None
    if not isinstance(value, kind):
        raise UserError(f"{what} must have {name!r} as a {kind.__name__}, got {value!r:.60}")
    return value
