"""Our side of `minillm bench classical`: learning the merges of byte-level BPE, text to merges.

The text: the standard library's source, its tests included (31 MB in CPython 3.11), by path. The
same merges come out on both sides; tests/tokenizers/test_bpe_train.py holds that.
"""

import sysconfig
from pathlib import Path

from minillm.data.files import decode, files_below
from minillm.errors import UserError
from minillm.tokenizers.bpe_train import train_merges

__all__ = ["bpe_train", "library_texts"]


def library_texts(megabytes):
    """The library's source files as a list of str, as many as have about that many megabytes.

    Raises
    ------
    UserError
        if this Python has less of its source, as some that come with a system have.
    """
    texts: list[str] = []
    size = 0
    root = Path(sysconfig.get_path("stdlib"))
    for file in files_below(root, (".py",), lambda name: name.endswith("-packages")):
        if size >= megabytes * 1e6:
            return texts
        try:
            text = decode(file.read_bytes(), file)
        except (UserError, OSError):  # a few tests are wrong on purpose
            continue
        texts.append(text)
        size += len(text.encode())
    if size < megabytes * 1e6:
        raise UserError(f"this Python has {size / 1e6:.0f} MB of source, not {megabytes}")
    return texts


def bpe_train(threads, *, megabytes, n_merges):
    texts = library_texts(megabytes)
    return lambda: train_merges(texts, n_merges=n_merges, threads=threads), 1
