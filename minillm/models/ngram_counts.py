"""Counting the n-grams of a text of ids, of every length at once, by one sort a length.

The n-grams of each length have ids of their own, 0 to M - 1. One of length k is stored as a single
integer, its key: the id of its first k - 1 tokens (an n-gram one shorter) times the vocabulary's
size, plus its last token. The keys of a length are sorted, so an n-gram's continuations lie side by
side in the next length's keys.

Documents: each ends in the end id, which also stands, once, before the first token of the next as
its context. No n-gram reaches across, so those at a document's start are as long as they can be
and begin with the end id, which nothing precedes.

How: take all places of the text, sorted by the n-gram that ends there. To make each a token longer,
sort them once more within each n-gram, by the token that comes next. So the places can be cut into
shares of whole n-grams, which fit the processor's cache and keep several threads busy. A share
packs (n-gram within the share, next token, place within the share) into one integer: a plain sort
of integers is several times faster than one that has to say where things came from.

The same by dictionaries, a token at a time, is in ngram_counts_simple.py.
"""

import contextlib
import dataclasses
from concurrent.futures import ThreadPoolExecutor
from functools import partial

import numpy as np

from minillm.cores import available_cores
from minillm.models.ngram_kenlm import last_read
from minillm.models.ngram_memory import check_memory
from minillm.models.ngram_order import Places

__all__ = ["NUMBERS", "Counts", "count_ngrams", "worker_pool"]

SHARE = 1 << 16  # places in a share, about
MOST_TOKENS, LARGEST_VOCABULARY = (1 << 31) - 2, 1 << 28  # 32-bit places, 63-bit packed ones
BYTES = 60  # of memory, at most, for each place while a length is counted
IN_WORK = 30  # and for each place of the shares that the threads are at
NUMBERS = 16  # for each n-gram: p and a back-off weight, which a model will have besides the counts
HELD = 36  # for each n-gram: its counts


@dataclasses.dataclass(frozen=True)
class Counts:
    """The n-grams of one length.

    Attributes
    ----------
    keys : int64 (M,), sorted: prefix * vocab_size + last token; of length 1 every token has one
    raw : int64 (M,), how often each occurs
    left : int64 (M,), after how many different tokens it comes: N1+(. ngram); 0 where
        nothing precedes it, and for the longest n-grams, for which it is not counted
    suffix : int32 (M,), each without its first token, an n-gram one shorter; zeros for length 1
    first : int64 (prefixes + 1,), where the n-grams that begin with each prefix begin
    last : int or None, the one of them that KenLM reads last, see ngram_kenlm.py; None for the
        longest ones, and where there is none
    """

    keys: np.ndarray
    raw: np.ndarray
    left: np.ndarray
    suffix: np.ndarray
    first: np.ndarray
    last: int | None = None


def count_ngrams(ids, *, order, vocab_size, end_id, threads=None, progress=None):
    """Count the n-grams of length 1 to `order`.

    Parameters
    ----------
    ids : integers (N,) below vocab_size, each document followed by end_id
    threads : int or None, as many as there are processors
    progress : function of (lengths done, order) or None

    Returns
    -------
    counts : list of Counts, by length

    Raises
    ------
    UserError
        before a length whose n-grams might not fit in memory, and as soon as it is sure that those
        of all lengths will not.
    ValueError
        for more than 2^31 - 2 tokens.
    """
    if len(ids) > MOST_TOKENS or vocab_size > LARGEST_VOCABULARY:
        raise ValueError(
            f"at most {MOST_TOKENS} tokens of {LARGEST_VOCABULARY} kinds can be counted, got "
            f"{len(ids)} of {vocab_size}"
        )
    in_work = min(len(ids), SHARE * (threads or available_cores())) * IN_WORK
    needed = len(ids) * BYTES // 2 + in_work + vocab_size * BYTES
    check_memory(needed, f"counting {len(ids)} tokens")
    all_places = Places(ids, order, end_id)
    text = np.empty(len(ids) + 1, np.int32)  # (N + 1,)
    text[0], text[1:] = end_id, ids
    keys = np.arange(vocab_size, dtype=np.int64)
    raw = np.bincount(text[1:], minlength=vocab_size)  # (V,)
    suffix = np.zeros(vocab_size, np.int32)
    first = np.array([0, vocab_size])
    node = text  # (N + 1,), the n-gram of the length so far that ends at each token
    result: list[Counts] = []
    grams = 0  # of the lengths counted so far
    with worker_pool(threads, len(ids)) as each:
        shares, appears = _by_token(text, vocab_size)
        place, reach = last_read(text, appears, order)
        for length in range(2, order + 1):
            if progress:
                progress(length - 1, order)
            places, grams = sum(len(s.place) for s in shares), grams + len(keys)
            needed = places * BYTES + in_work + grams * NUMBERS
            check_memory(needed, f"n-grams of length {length}")
            if length > 2:
                to_come = all_places.still_to_come(length - 1, len(keys))
                needed = to_come * (HELD + NUMBERS) + grams * NUMBERS
                check_memory(needed, f"n-grams up to {order} long")
            longer = each(partial(_longer, text, vocab_size), shares)
            found = _collect(each, longer, vocab_size, node, len(keys))
            left = np.bincount(found[2], minlength=len(keys))
            last = int(node[place]) if length - 2 <= reach else None
            result.append(Counts(keys, raw, left, suffix, first, last))
            keys, raw, suffix, first = found
            if length < order:
                node = np.empty(len(text), np.int32)
                split = each(partial(_contexts, node, vocab_size, end_id), longer)
                shares = [share for part in split for share in part]
    if progress:
        progress(order, order)
    return [*result, Counts(keys, raw, np.zeros_like(raw), suffix, first)]


@dataclasses.dataclass
class _Share:
    """Some n-grams of one length and the places where they end, sorted by n-gram.

    place : int32 (n,), of the last token in the text, ascending for each n-gram
    gram : int32 (n,), the n-gram that ends there, counted from 0 within the share
    id : int32 (m,), the id of each of these among all n-grams of the length
    """

    place: np.ndarray
    gram: np.ndarray
    id: np.ndarray


@dataclasses.dataclass
class _Longer:
    """A share whose n-grams have grown by a token, before they have ids.

    place, gram : int32 (n,), as in _Share
    pair : int64 (m,), each n-gram as its prefix within the share, shifted, and its last token
    start : int (m,), where its places begin
    prefix : int32, the ids of the prefixes
    """

    place: np.ndarray
    gram: np.ndarray
    pair: np.ndarray
    start: np.ndarray
    prefix: np.ndarray
    first_id: int = 0


def _by_token(text, vocab_size):
    """All places but the last in shares by the token there: the contexts of length 1.

    Returns the shares, and where each token stands first, (V,); -1 for one that does not occur.
    """
    appears = np.full(vocab_size, -1)
    appears[text[-1]] = len(text) - 1
    n = len(text) - 1
    bits = n.bit_length()
    packed = text[:-1].astype(np.int64)
    packed <<= bits
    packed |= np.arange(n)
    packed.sort()
    shares = []
    start = 0
    while start < n:
        stop = min(start + SHARE, n)
        if stop < n:  # back to where a token begins; onwards where one fills the share
            token = packed[stop] >> bits
            stop = int(np.searchsorted(packed, token << bits))
            if stop <= start:
                stop = int(np.searchsorted(packed, token + 1 << bits))
        part = packed[start:stop]
        token, start = (part >> bits).astype(np.int32), stop
        new = _changes(token)
        gram = np.cumsum(new, dtype=np.int32)
        place = (part & (1 << bits) - 1).astype(np.int32)
        shares.append(_Share(place, gram - 1, token[new]))
        appears[token[new]] = place[new]
    return shares, appears


def _longer(text, vocab_size, share):
    """The n-grams that are a token longer than a share's."""
    token_bits, index_bits = _bits(vocab_size), _bits(len(share.place))
    place = share.place + np.int32(1)
    packed = share.gram.astype(np.int64)
    packed <<= token_bits
    packed |= text.take(place)
    packed <<= index_bits
    packed |= np.arange(len(place))
    packed.sort()
    by_gram = packed & (1 << index_bits) - 1
    packed >>= index_bits
    new = _changes(packed)
    start = np.flatnonzero(new)
    gram = np.cumsum(new, dtype=np.int32)
    gram -= 1
    return _Longer(place.take(by_gram), gram, packed.take(start), start, share.id)


def _collect(each, longer, vocab_size, node, prefixes):
    """keys, raw, suffix and first of all shares' n-grams, which get their ids here."""
    size = 0
    for share in longer:
        share.first_id = size
        size += len(share.pair)
    keys, raw, suffix = np.empty(size, np.int64), np.empty(size, np.int64), np.empty(size, np.int32)
    first = np.zeros(prefixes + 1, np.int64)
    bits = _bits(vocab_size)

    def fill(share):
        mine = slice(share.first_id, share.first_id + len(share.pair))
        prefix = share.pair >> bits
        first[1:][share.prefix] = np.bincount(prefix, minlength=len(share.prefix))
        keys[mine] = share.prefix.take(prefix)
        keys[mine] *= vocab_size
        keys[mine] += share.pair & (1 << bits) - 1
        np.subtract(share.start[1:], share.start[:-1], out=raw[mine][:-1])
        raw[mine][-1] = len(share.place) - share.start[-1]
        suffix[mine] = node.take(share.place.take(share.start))

    each(fill, longer)
    np.cumsum(first, out=first)
    return keys, raw, suffix, first


def _contexts(node, vocab_size, end_id, longer):
    """Note each place's n-gram in `node`; the shares of those that something can follow."""
    place, gram = longer.place, longer.gram
    id = np.arange(longer.first_id, longer.first_id + len(longer.pair), dtype=np.int32)
    node[place] = gram + np.int32(longer.first_id)
    goes_on = (longer.pair & (1 << _bits(vocab_size)) - 1) != end_id  # (m,)
    kept = np.flatnonzero(goes_on.take(gram) & (place != len(node) - 1))
    place, gram = place.take(kept), gram.take(kept)
    start, shares = 0, []
    while start < len(place):
        stop = len(place)
        if stop - start > 2 * SHARE:
            stop = int(np.searchsorted(gram, gram[start + SHARE]))
            if stop <= start:
                stop = int(np.searchsorted(gram, gram[start], "right"))
        low, high = gram[start], gram[stop - 1] + 1
        part = gram[start:stop] - low
        shares.append(_Share(place[start:stop], part, id[low:high]))
        start = stop
    return shares


def _changes(values):
    """Where each run of equal values begins, bool (n,); there is at least one."""
    new = np.empty(len(values), bool)
    new[0] = True
    np.not_equal(values[1:], values[:-1], out=new[1:])
    return new


def _bits(size):
    return max(1, (size - 1).bit_length())


@contextlib.contextmanager
def worker_pool(threads, n):
    """A function like map that has several threads work on the parts, where that pays."""
    threads = threads or available_cores()
    if threads == 1 or n < 4 * SHARE:  # threads cost more than they bring
        yield lambda function, parts: [function(part) for part in parts]
        return
    with ThreadPoolExecutor(threads) as pool:
        yield lambda function, parts: list(pool.map(function, parts))
