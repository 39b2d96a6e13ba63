"""Other programs' WordPiece files: BERT's vocab.txt and Hugging Face's tokenizer.json."""

from minillm.errors import UserError
from minillm.files import read_chunks, read_json, write_text
from minillm.tokenizers.bpe_files import added_tokens
from minillm.tokenizers.wordpiece_train import PREFIX

__all__ = ["read_tokenizer_json", "read_vocabulary", "to_tokenizer_json", "write_vocabulary"]


def read_vocabulary(path):
    """The tokens of a vocab.txt, in order.

    Raises
    ------
    UserError
        if the file cannot be read or is not UTF-8.
    """
    text = "".join(read_chunks(path))
    return [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]


def write_vocabulary(path, tokens):
    """Write a vocab.txt, whole or not at all.

    Raises
    ------
    UserError
        if a token holds a line's end, or the file cannot be written.
    """
    for token in tokens:
        if "\n" in token or "\r" in token:
            raise UserError(f"vocab.txt has a token a line, which {token!r} cannot be")
    write_text(path, "".join(f"{token}\n" for token in tokens))


def to_tokenizer_json(tokenizer):
    """What Hugging Face's `tokenizers` reads as the same tokenizer, a dict."""
    rules, ids = tokenizer.rules, tokenizer.special_tokens
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    special = {**ids, tokenizer.unknown: tokenizer.unknown_id}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": [
            {"id": i, "content": name, **flags, "special": True}
            for name, i in sorted(special.items(), key=lambda item: item[1])
        ],
        "normalizer": {
            "type": "BertNormalizer",
            "clean_text": rules.clean,
            "handle_chinese_chars": rules.chinese,
            "strip_accents": rules.strip_accents,
            "lowercase": rules.lowercase,
        },
        "pre_tokenizer": {"type": "BertPreTokenizer"},
        "post_processor": _around(ids, tokenizer.end) if "[CLS]" in ids else None,
        "decoder": {"type": "WordPiece", "prefix": PREFIX, "cleanup": True},
        "model": {
            "type": "WordPiece",
            "unk_token": tokenizer.unknown,
            "continuing_subword_prefix": PREFIX,
            "max_input_chars_per_word": tokenizer.max_input_chars_per_word,
            "vocab": {token: i for i, token in enumerate(tokenizer.tokens)},
        },
    }


def _around(ids, end):
    """[CLS] A [SEP], and [CLS] A [SEP] B [SEP], whose B is of the second type."""

    def token(name, kind=0):
        return {"SpecialToken": {"id": name, "type_id": kind}}

    first = [token("[CLS]"), {"Sequence": {"id": "A", "type_id": 0}}, token(end)]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, token(end, 1)]
    return {
        "type": "TemplateProcessing",
        "single": first,
        "pair": first + second,
        "special_tokens": {
            name: {"id": name, "ids": [ids[name]], "tokens": [name]} for name in ("[CLS]", end)
        },
    }


def read_tokenizer_json(path):
    """The constructor's arguments from a tokenizer.json.

    Raises
    ------
    UserError
        if it is damaged, or does what is not WordPiece behind BERT's words.
    """
    saved = read_json(path)
    try:
        return _settings(saved)
    except UserError as error:
        raise UserError(f"{path}: {error}") from None


def _settings(saved):
    special = added_tokens(saved)
    try:
        model, text = saved["model"], saved["normalizer"]
        kinds = (model["type"], text["type"], saved["pre_tokenizer"]["type"])
        tokens = dict(model["vocab"].items()) | special
        prefix = model.get("continuing_subword_prefix", PREFIX)
        unknown = model["unk_token"]
    except (KeyError, TypeError, AttributeError) as error:
        raise UserError(f"no WordPiece tokenizer.json: {error!r}") from None
    if kinds != ("WordPiece", "BertNormalizer", "BertPreTokenizer") or prefix != PREFIX:
        raise UserError(
            f"WordPiece, BertNormalizer, BertPreTokenizer and {PREFIX!r} are "
            f"understood, got {', '.join(map(str, kinds))} and {prefix!r}"
        )
    _check_decoder(saved.get("decoder"))
    numbers = sorted(number if type(number) is int else -1 for number in tokens.values())
    if numbers != list(range(len(tokens))):
        raise UserError(f"the ids of its vocabulary are not 0 to {len(tokens) - 1}")
    return {
        "tokens": sorted(tokens, key=tokens.__getitem__),
        "lowercase": text.get("lowercase", True),
        "strip_accents": text.get("strip_accents"),
        "clean": text.get("clean_text", True),
        "chinese": text.get("handle_chinese_chars", True),
        "max_input_chars_per_word": model.get("max_input_chars_per_word", 100),
        "unknown": unknown,
        "special_tokens": list(special),
    }


def _check_decoder(decoder):
    """Refuse one that joins pieces in another way; where a file has none, ours is taken."""
    ours = {"type": "WordPiece", "prefix": PREFIX, "cleanup": True}
    if decoder is None:
        return
    if not isinstance(decoder, dict) or {name: decoder.get(name) for name in ours} != ours:
        raise UserError(f"its decoder must be {ours}, got {decoder!r:.90}")
