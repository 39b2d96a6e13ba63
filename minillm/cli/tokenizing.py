"""What `minillm tokenize` does once its command line is understood."""

import codecs
import re
import sys
from pathlib import Path

import numpy as np

from minillm.cli.decoding import decoded
from minillm.cli.outputs import check_file, check_png
from minillm.cli.progress import showing
from minillm.cli.reading import whole_text
from minillm.data import load_corpus
from minillm.data.prepare import size_note
from minillm.errors import UserError
from minillm.files import read_chunks, write_chunks, write_text
from minillm.tokenizers import ByteTokenizer, load_tokenizer_file, make_tokenizer
from minillm.tokenizers.base import END

__all__ = ["decode_ids", "encode_text", "show_languages", "show_tokens", "train_tokenizer"]

CHUNK = 1 << 20  # bytes read at once
SHOWN = 40  # characters of what is wrong
WHOLE = re.compile(r"[+-]?[0-9]{1,4000}")
FOREIGN = {  # (kind, end of the file's name) -> how it is written
    ("bpe", ".json"): "save",  # which is Hugging Face's tokenizer.json
    ("bpe", ".tiktoken"): "save_tiktoken",
    ("wordpiece", ".json"): "save_tokenizer_json",
    ("wordpiece", ".txt"): "save_vocabulary",
    ("unigram", ".model"): "save_model",
}


def train_tokenizer(kind, data, out, vocab_size, special, given):
    """Train a tokenizer on texts, write it, and say what came of it."""
    suffix = Path(out).suffix
    endings = [end for name, end in FOREIGN if name == kind] + [".json"]
    if suffix not in endings:
        raise UserError(f"{out}: a {kind} tokenizer is written as {', '.join(set(endings))}")
    if given.get("min_frequency", 0) < 0:
        raise UserError(f"--min-frequency must be at least 0, got {given['min_frequency']}")
    if not 0 < given.get("character_coverage", 1) <= 1:
        raise UserError(
            f"--character-coverage must be above 0 and at most 1, got {given['character_coverage']}"
        )
    check_file(out)
    if special:
        end = (END,) if kind == "bpe" else ()  # whose list of names is to be whole
        given = given | {"special_tokens": (*end, *special)}
    corpus = load_corpus(data[0] if len(data) == 1 else list(data))
    texts = (document.text for document in corpus.documents)
    with showing(f"training {kind}") as progress:
        tokenizer = make_tokenizer(kind, texts, vocab_size=vocab_size, progress=progress, **given)
    getattr(tokenizer, FOREIGN.get((kind, suffix), "save"))(out)
    print(f"{corpus}")
    print(f"{out}: a {kind} tokenizer with a vocabulary of {tokenizer.vocab_size:,}")
    if note := size_note(tokenizer, vocab_size):
        print(f"note: {note}")
    first = corpus.documents[0]
    sample = first.text[:100_000]
    n_bytes, tokens = len(sample.encode()), len(tokenizer.encode(sample))
    if tokens:
        print(f"{n_bytes / tokens:.2f} bytes a token in the text's first document, {first.name}")


def open_tokenizer(name):
    """A tokenizer by its file, or byte, which needs none."""
    return ByteTokenizer() if name == "byte" else load_tokenizer_file(name)


def encode_text(file, tokenizer, text, special, offsets, out):
    """Write ids, a line for each piece that was read; or a line for each token and its place."""
    if text is not None and file != "-":
        raise UserError(f"either --text or a file, not both: {file}")
    check_file(out)
    tokenizer = open_tokenizer(tokenizer)
    special = "all" if "all" in special else special
    if offsets:
        whole = whole_text(file) if text is None else text
        ids, spans = tokenizer.encode_with_offsets(whole, special=special)
        rows = np.column_stack([ids, spans]).tolist()
        _write((" ".join(map(str, row)) + "\n" for row in rows), out)
        return
    if text is not None:  # a stream's pieces would be lines of their own
        pieces = [tokenizer.encode(text, special=special)]
    else:
        pieces = tokenizer.encode_stream(_chunks(file), special=special)
    _write((" ".join(map(str, ids.tolist())) + "\n" for ids in pieces if len(ids)), out)


def decode_ids(file, tokenizer, special, out):
    """Write the text of ids, piece by piece, and nothing else: not a newline more."""
    check_file(out)
    tokenizer = open_tokenizer(tokenizer)
    try:
        ids = _numbers(file, tokenizer.vocab_size)
        _write(decoded(tokenizer, ids, special=special), out)
    except ValueError as error:  # ids out of range
        raise UserError(str(error)) from None
    if out is None and sys.stdout.isatty():
        print()


def _write(pieces, out):
    if out is not None:
        write_chunks(out, (piece.encode() for piece in pieces))
        return
    for piece in pieces:
        sys.stdout.write(piece)


def show_tokens(file, tokenizers, text, *, html, png, colour, ids, special):
    """Show the tokens of a text in the terminal, on a page or in a picture."""
    from minillm.viz import save
    from minillm.viz.tokens import TokenView

    if text is not None and file != "-":
        raise UserError(f"either --text or a file, not both: {file}")
    check_png(png)
    check_file(html)
    text = whole_text(file) if text is None else text
    special = "all" if "all" in special else special
    view = TokenView(text, _named(tokenizers), ids=ids, special=special)
    if html is not None:
        write_text(html, view.page())
        print(f"{html}: a page that needs nothing else")
    if png is not None:
        save(view.figure(), png)
        print(f"{png}: a picture")
    if html is None and png is None:
        print(view.terminal(colour=colour).rstrip("\n"))


def show_languages(tokenizers, data, png):
    """Print how many bytes a token of each tokenizer holds, by language or by file."""
    from minillm.viz import save
    from minillm.viz.languages import bytes_per_token, bytes_per_token_bars, bytes_per_token_table

    check_png(png)
    texts = {Path(name).name: whole_text(name) for name in data} or None
    held = bytes_per_token(_named(tokenizers), texts)
    print(bytes_per_token_table(held))
    if png is not None:
        save(bytes_per_token_bars(held), png)
        print(f"{png}: a picture")


def _named(tokenizers):
    """{short name: tokenizer}: the end of the path that tells them apart."""
    for parts in range(1, 9):
        names = ["/".join(Path(name).parts[-parts:]) for name in tokenizers]
        if len(set(names)) == len(tokenizers):
            return {n: open_tokenizer(file) for n, file in zip(names, tokenizers, strict=True)}
    raise UserError("a tokenizer is named twice")


def _chunks(file):
    """The text of a file or of standard input, a piece at a time."""
    if file != "-":
        yield from read_chunks(file)
        return
    decoder = codecs.getincrementaldecoder("utf-8")()
    done = 0
    try:
        while data := sys.stdin.buffer.read(CHUNK):
            held = len(decoder.getstate()[0])
            yield decoder.decode(data)
            done += len(data)
        held = len(decoder.getstate()[0])
        decoder.decode(b"", final=True)
    except UnicodeDecodeError as error:
        where = done - held + error.start
        raise UserError(f"standard input: not UTF-8 at byte {where} ({error.reason})") from None


def _numbers(file, vocab_size):
    """The ids in a file or on standard input, int64 (N,) a piece at a time."""
    held = ""
    for chunk in _chunks(file):
        held += chunk
        cut = max(held.rfind(" "), held.rfind("\n"), held.rfind("\t")) + 1
        if cut:
            yield _parsed(held[:cut], file, vocab_size)
            held = held[cut:]
    if held:
        yield _parsed(held, file, vocab_size)


def _parsed(text, file, vocab_size):
    where = "standard input" if file == "-" else file
    try:
        return np.array(text.split(), np.int64)
    except OverflowError:
        wrong = max(text.split(), key=len)
        what = f"ids must be in [0, {vocab_size}), got {_short(wrong)}"
    except ValueError:
        wrong = next((word for word in text.split() if not WHOLE.fullmatch(word)), text)
        what = f"ids are whole numbers, got {_short(wrong)!r}"
    raise UserError(f"{where}: {what}")


def _short(word):
    return word if len(word) <= SHOWN else f"{word[:SHOWN]}..."
