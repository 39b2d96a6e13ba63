"""The vocabulary of a byte-level BPE tokenizer: whether it is one, and which pairs it joins."""

from minillm.errors import UserError
from minillm.tokenizers.base import END
from minillm.tokenizers.bpe_merge import Merges

__all__ = ["check_vocabulary", "make_merges", "pairs_by_rank", "usual_end"]

END_NAMES = (END, "<|end_of_text|>", "</s>", "<eos>", "<|im_end|>")  # in others' files
LARGEST_ID = (1 << 31) - 2  # ids are int32


def usual_end(names):
    """The name of the end token where nobody says it: of a few usual names the first, else END."""
    return next((name for name in END_NAMES if name in names), END)


def check_vocabulary(vocabulary, special_tokens):
    """The largest id, if all are in order.

    Parameters
    ----------
    vocabulary : dict, bytes -> id
    special_tokens : dict, name -> id

    Raises
    ------
    UserError
        for a byte that is missing, or an id that is none, of two tokens or far too large.
    """
    for byte in range(256):
        if bytes([byte]) not in vocabulary:
            raise UserError(f"a byte-level vocabulary must have every byte, lacks 0x{byte:02X}")
    seen: dict[int, bytes | str] = {}
    for name, i in [*vocabulary.items(), *special_tokens.items()]:
        if isinstance(i, bool) or not isinstance(i, int) or not 0 <= i <= LARGEST_ID:
            raise UserError(f"token {name!r}: an id must be in [0, {LARGEST_ID}], got {i!r}")
        if i in seen:
            raise UserError(f"id {i} is of two tokens, {seen[i]!r} and {name!r}")
        seen[i] = name
    if max(seen) > 4 * len(seen) + 4096:
        raise UserError(f"{len(seen)} tokens have ids up to {max(seen)}: too sparse")
    return max(seen)


def make_merges(vocabulary, merges):
    """The `Merges` of a list of merges, or where it is None those that the ids let join.

    Raises
    ------
    UserError
        for a merge whose parts or whole the vocabulary lacks.
    """
    byte_ids = [vocabulary[bytes([byte])] for byte in range(256)]
    if merges is None:
        pairs, ranks, merged = pairs_by_rank(vocabulary)
        return Merges(pairs, ranks, merged, byte_ids)
    for left, right in merges:
        for token in (left, right, left + right):
            if token not in vocabulary:
                raise UserError(
                    f"the merge of {left!r} and {right!r} needs {token!r}, "
                    "which the vocabulary lacks"
                )
    pairs = [(vocabulary[left], vocabulary[right]) for left, right in merges]
    merged = [vocabulary[left + right] for left, right in merges]
    return Merges(pairs, range(len(pairs)), merged, byte_ids)


def pairs_by_rank(id_of):
    """All pairs of tokens whose bytes together are a token: pairs, their ranks, token by rank."""
    pairs: list[tuple[int, int]] = []
    ranks: list[int] = []
    merged: list[int] = []
    for token in sorted((token for token in id_of if len(token) > 1), key=id_of.__getitem__):
        halves = ((token[:i], token[i:]) for i in range(1, len(token)))
        found = [(id_of[a], id_of[b]) for a, b in halves if a in id_of and b in id_of]
        pairs += sorted(found)
        ranks += [len(merged)] * len(found)
        merged.append(id_of[token])
    return pairs, ranks, merged
