"""Text from ids that come bit by bit."""

import numpy as np

__all__ = ["decoded"]

TAIL = 16  # ids that a piece is decoded after: what joins tokens looks no further back
UNFINISHED = 8  # ids at a piece's end that may be a part of a character
REPLACEMENT = "\N{REPLACEMENT CHARACTER}"


def decoded(tokenizer, pieces, *, special=False, before=()):
    """The text of ids that come in pieces cut anywhere: what `decode` makes of the whole.

    A character of several tokens comes when it is whole; so do the spaces of a tokenizer that puts
    them between words.

    Parameters
    ----------
    pieces : iterable of integers (N,)
    special : bool, whether special tokens stand by their names
    before : integers (M,), ids whose text is there already

    Yields
    ------
    text : str
    """
    tail, held = np.asarray(before, np.int64)[-TAIL:], np.empty(0, np.int64)

    def text_of(ids):
        start = len(tokenizer.decode(tail, special=special))
        return tokenizer.decode(np.concatenate([tail, ids]), special=special)[start:]

    for ids in pieces:
        held = np.concatenate([held, np.asarray(ids, np.int64)])
        text = text_of(held)
        if held.size == 0 or (text.endswith(REPLACEMENT) and held.size <= UNFINISHED):
            continue
        stop = held.size
        while text.endswith(REPLACEMENT) and stop > max(1, held.size - UNFINISHED):
            stop -= 1
            text = text_of(held[:stop])
        yield text
        tail, held = np.concatenate([tail, held[:stop]])[-TAIL:], held[stop:]
    if held.size:
        yield text_of(held)
