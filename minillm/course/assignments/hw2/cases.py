"""Draws hw2's words and judges tokens and merges. Runs in the grader only."""

import functools
from collections import Counter
from itertools import pairwise

from minillm.data.python import docstrings, topics
from minillm.tokenizers.bpe_simple import (
    BYTE_ORDER,
    count_pairs,
    join_pair,
    learn_merges,
    split_bytes,
)
from minillm.tokenizers.bpe_train import train_merges
from minillm.tokenizers.pretokenize import split_simple

LETTERS = "abcdefghijklmnopqrstuvwxyz"
OTHERS = ["é", "ß", "水", "火", "🙂", "я", " ", "9", "!", "\n"]


def one_word(rng, size):
    """Of different letters."""
    return _counting({b"".join(_letters(rng, 2 + size)): 1})


def words_with_counts(rng, size):
    """Words in bytes, from size 3 on with pairs joined already."""
    letters = _letters(rng, 6)
    drawn = [rng.permutation(6)[: int(rng.integers(2, 6))].tolist() for _ in range(1 + size)]
    words = {b"".join(letters[i] for i in word): int(rng.integers(2, 9)) for word in drawn}
    return _counting(words, learn_merges(words, n_merges=2) if size > 2 else [])


def repeated(rng, size):
    """aaa, where neighbours overlap."""
    letter = LETTERS[int(rng.integers(26))].encode()
    return _counting({letter * (2 + size): int(rng.integers(1, 4)), letter + b"x" + letter: 2})


def without_pairs(rng, size):
    """No word, a word of one byte, a word of nothing."""
    words = {_word(rng, 1, 26): 3} if size > 1 else {}
    words |= {b"": 2} if size > 2 else {}
    return _counting(words | ({b"ab": 4} if size > 3 else {}))


def most_frequent(rng, size):
    pairs = _pairs(rng, 1 + size)
    counts = rng.permutation(len(pairs)) + 1
    return _choice(rng, dict(zip(pairs, counts.tolist(), strict=True)))


def equal_firsts(rng, size):
    """Equals that differ in their first parts."""
    firsts, seconds = _letters(rng, 3 + size), _letters(rng, 3 + size)
    pairs = dict.fromkeys(zip(firsts, seconds, strict=True), 5)
    return _choice(rng, _away(pairs, min(firsts)) | {(b"!", b"?"): 4})


def equal_seconds(rng, size):
    """Equals with the same first part."""
    first, *seconds = _letters(rng, 4 + size)
    pairs = {(first, b): 7 for b in sorted(seconds)}
    best = min(pairs)
    del pairs[best]
    first_two = dict(list(pairs.items())[:1])
    return _choice(rng, first_two | {best: 7} | pairs | {(b"!", b"?"): 6})


def ages(rng, size):
    """Ages against the alphabet and against the length: a long token may be older than a short."""
    tokens = [*_letters(rng, 2 + size), b"th", b"the"]
    age = {token: place for place, token in enumerate(sorted(tokens, reverse=True))}
    pairs = [(a, b) for a in tokens for b in tokens if a != b]
    chosen = sorted(pairs[i] for i in rng.permutation(len(pairs))[: 3 + size])
    return {"pairs": dict.fromkeys(chosen, 3), "age": age}


def one_place(rng, size):
    a, b, *others = _letters(rng, 5)
    before = [others[int(i)] for i in rng.integers(0, 3, int(rng.integers(0, size + 1)))]
    after = [others[int(i)] for i in rng.integers(0, 3, size % 3)]
    return _joining([*before, a, b, *after], (a, b))


def many_places(rng, size):
    a, b, c = _letters(rng, 3)
    parts = [
        x for _ in range(1 + size) for x in ([a, b], [a, b, c], [b, a, b])[int(rng.integers(3))]
    ]
    return _joining([a, b, *parts], (a, b))


def overlapping(rng, size):
    """aaa is aa and a; so is every odd number of them."""
    a, b = _letters(rng, 2)
    return _joining([a] * (2 * size + 1) + ([b, a, a, a] if size > 2 else []), (a, a))


def same_bytes(rng, size):
    """The same bytes from other parts are another pair."""
    a, b, c = _letters(rng, 3)
    other = [a, b + c] if size % 2 else [a + b, c]
    pair = (a + b, c) if size % 2 else (a, b + c)
    return _joining([*other, *([*pair, *other] if size > 1 else [])], pair)


def nothing_to_join(rng, size):
    a, b = _letters(rng, 2)
    return _joining([[], [a], [b, a], [a, a, a], [b, b, a, a], [a]][min(size, 5) - 1], (a, b))


def small_texts(rng, size):
    return {"words": _words(rng, 2 + size), "n_merges": 1 + size}


def learning_ends(rng, size):
    """No merges asked, no words, words without pairs, more merges asked than there are."""
    word = _word(rng, 3 + size, 3)
    words = [{word: 2}, {}, {b"a": 5, b"": 1}, {word: 1}, {word: 1, word[::-1]: 1}]
    return {"words": words[min(size, 5) - 1], "n_merges": 0 if size == 1 else 100}


def rare_pairs(rng, size):
    """A frequency that one of the best pairs just has, or one more; later ones are rarer."""
    while True:
        words = _words(rng, 3 + size)
        counts = _counts_of_merges(words)
        enough = [n for n in counts if n > counts[-1]]
        if enough:
            least = enough[int(rng.integers(len(enough)))] + (size % 3 == 2)
            return {"words": words, "n_merges": 50, "min_frequency": least}


def order_of_bytes(rng, size):
    """Equals that lie apart in the order of bytes and in the vocabulary's."""
    ends = rng.permutation(list(LETTERS[:20])).tolist()
    heads = ["\n", "é", "\t", "Z", "~"][: 2 + min(size, 3)]
    order = rng.permutation(len(heads)).tolist()
    return {"words": {(heads[i] + ends[i]).encode(): 2 for i in order}, "n_merges": size}


def manual(rng, size):
    """The most frequent words of a piece of Python's manual."""
    return {"words": _real_words(rng, 40 * size), "n_merges": 10 * size}


def one_merge(rng, size):
    a, b, c = _letters(rng, 3)
    asked = [a + b, c + a + b, a + b + c + a + b, b + a][: 1 + size]
    return {"merges": [(a, b)], "asked": asked}


def earliest_first(rng, size):
    """Pairs that overlap: the earlier merge wins, not the first in the word nor the longest."""
    a, b, c, d = _letters(rng, 4)
    if size == 1:
        return {"merges": [(b, c), (a, b)], "asked": [a + b + c]}
    if size == 2:
        return {
            "merges": [(c, d), (b, c), (a, b), (b + c, d), (a, b + c)],
            "asked": [a + b + c + d],
        }
    letters = _letters(rng, 3 + size)
    neighbours = list(pairwise(letters))
    merges = [neighbours[i] for i in rng.permutation(len(neighbours))]
    return {"merges": merges, "asked": [b"".join(letters), b"".join(letters[1:] + letters[:3])]}


def merges_of_merges(rng, size):
    words = _words(rng, 5, letters=5)
    merges = learn_merges(words, n_merges=3 + 3 * size)
    return {
        "merges": merges,
        "asked": [*list(words)[:size], *(_word(rng, 5 + size, 5) for _ in range(size))],
    }


def short_words(rng, size):
    """No byte, one byte, bytes that are no UTF-8, no merges."""
    a, b = _letters(rng, 2)
    words = [[b""], [a], [b"\xff\xfe" + a], [a + b + a], [bytes(rng.integers(0, 256, 6).tolist())]]
    return {"merges": [] if size == 4 else [(a, b)], "asked": words[min(size, 5) - 1]}


def long_word(rng, size):
    """Bytes and merges enough that a search through all merges at every place shows."""
    text = _real_text(rng, 120_000)
    return {"merges": train_merges(text, n_merges=2500), "asked": [text[:3000].encode()[:3000]]}


def cut_characters(rng, size):
    """Text whose characters are cut by the borders of tokens."""
    count = 1 + 2 * size
    text = "".join(OTHERS[int(i)] for i in rng.integers(0, 3 + size, count)) + OTHERS[2]
    raw = text.encode()
    tokens: list[bytes] = []
    while raw:
        n = int(rng.integers(1, 4)) if tokens else 1
        tokens, raw = [*tokens, raw[:n]], raw[n:]
    return {"tokens": [] if size == 3 else tokens}


def damaged(rng, size):
    """Bytes that are no UTF-8."""
    a, b = _letters(rng, 2)
    bad = [b"\xff", b"\xe6\xb0", b"\x80", b"\xc3", b"\xf0\x9f\x99"][min(size, 5) - 1]
    return {"tokens": [a, bad, b] if size != 2 else [a, bad]}


def judged(judge):
    """A judge that also stands what no driver of ours sends."""

    @functools.wraps(judge)
    def safe(case, expected, came):
        try:
            return judge(case, expected, came)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError):
            return f"what came is no answer: {came!r:.80}"

    return safe


@judged
def pairs(case, expected, came):
    for pair in sorted(expected.keys() | came.keys()):
        mine, theirs = expected.get(pair, 0), came.get(pair, 0)
        if mine != theirs:
            words = ", ".join(
                f"{shown(parts)} ({case['words'][word]}x)" for word, parts in case["tokens"].items()
            )
            return (
                f"the pair {plus(pair)} counts {theirs}, expected {mine}; the words: {words:.200}"
            )
    return None


@judged
def choice(case, expected, came):
    if came == expected:
        return None
    if came not in case["pairs"]:
        return f"chose {plus(came)}, which is none of the pairs"
    mine, theirs = case["pairs"][expected], case["pairs"][came]
    problem = f"chose {plus(came)} ({theirs}x), expected {plus(expected)} ({mine}x)"
    if mine != theirs:
        return problem + ", which is more frequent"
    ages = [" and ".join(str(case["age"][part]) for part in pair) for pair in (came, expected)]
    return problem + f": equals, whose parts have the ages {ages[0]}, and {ages[1]}"


@judged
def tokens_joined(case, expected, came):
    if came["tokens"] == expected["tokens"]:
        return None
    return (
        f"{plus(case['pair'])} joined in {shown(case['parts'])} is {shown(came['tokens'])}, "
        f"expected {shown(expected['tokens'])}"
    )


@judged
def new_list(case, expected, came):
    """The right tokens, and the list that came as it was."""
    problem = tokens_joined(case, expected, came)
    if not problem and came["parts"] != case["parts"]:
        got = f"the list that came, {shown(case['parts'])}, was written to"
        return f"{got}: it is {shown(came['parts'])} now"
    return problem


@judged
def merges(case, expected, came):
    if came == expected:
        return None
    known = next(
        (i for i, (a, b) in enumerate(zip(expected, came, strict=False)) if a != b),
        min(len(expected), len(came)),
    )
    tokens = {word: split_bytes(word) for word in case["words"]}
    for pair in expected[:known]:
        tokens = {word: join_pair(parts, pair) for word, parts in tokens.items()}
    counts = count_pairs(tokens, case["words"])
    least = f" (min_frequency is {case['min_frequency']})" if "min_frequency" in case else ""

    def said(merges):
        if known >= len(merges):
            return "none"
        return f"{plus(merges[known])}, which then counts {counts[merges[known]]}"

    return f"merge {known + 1} is {said(came)}; expected {said(expected)}" + least


@judged
def tokens_encoded(case, expected, came):
    for word, mine, theirs in zip(case["asked"], expected, came, strict=True):
        if b"".join(theirs) != word:
            return f"the tokens of {word!r:.60}, {shown(theirs)}, put together are not the word"
        if mine != theirs:
            problem = f"{word!r:.60} is {shown(theirs)}, expected {shown(mine)}"
            if len(case["merges"]) < 8:
                problem += f", by the merges {', '.join(map(plus, case['merges'])) or 'none'}"
            return problem
    return None


@judged
def text(case, expected, came):
    if came == expected:
        return None
    return f"{shown(case['tokens'])} is {came!r:.80}, expected {expected!r:.80}"


def shown(parts):
    """Tokens with a bar between them: lo|w."""
    return "|".join(repr(part)[2:-1] for part in parts)[:160] or "nothing"


def plus(pair):
    """A pair: lo+w."""
    return "+".join(repr(part)[2:-1] for part in pair)


def _counting(words, merges=()):
    tokens = {word: split_bytes(word) for word in words}
    for pair in merges:
        tokens = {word: join_pair(parts, pair) for word, parts in tokens.items()}
    return {"tokens": tokens, "words": words}


def _choice(rng, pairs):
    """Pairs whose ages are those of the vocabulary at its start."""
    age = {bytes([byte]): place for place, byte in enumerate(BYTE_ORDER)}
    return {"pairs": pairs, "age": age}


def _joining(parts, pair):
    return {"parts": parts, "pair": pair}


def _away(pairs, first):
    """The same pairs, the one that begins with `first` in second place, as no one's default."""
    best = {pair: n for pair, n in pairs.items() if pair[0] == first}
    rest = [(pair, n) for pair, n in pairs.items() if pair[0] != first]
    return dict(rest[:1]) | best | dict(rest[1:])


def _letters(rng, count):
    """Different letters, as bytes."""
    return [LETTERS[int(i)].encode() for i in rng.permutation(26)[:count]]


def _word(rng, length, letters):
    return "".join(LETTERS[int(i)] for i in rng.integers(0, letters, length)).encode()


def _words(rng, count, letters=6):
    """Different words of a few letters, with how often they stand in a text."""
    found = {_word(rng, int(rng.integers(2, 7)), letters): 1 for _ in range(count)}
    return {word: int(rng.integers(1, 9)) for word in found}


def _counts_of_merges(words):
    """How often each merge's pair stood when it was made."""
    tokens, counts = {word: split_bytes(word) for word in words}, []
    for pair in learn_merges(words, n_merges=50):
        counts.append(count_pairs(tokens, words)[pair])
        tokens = {word: join_pair(parts, pair) for word, parts in tokens.items()}
    return counts


def _pairs(rng, count):
    letters = _letters(rng, 2 * count)
    return list(zip(letters[:count], letters[count:], strict=True))


@functools.cache
def _manual():
    texts, _ = topics() or docstrings()
    return "".join(text for _, text in texts)


def _real_text(rng, length):
    start = int(rng.integers(len(_manual()) - length))
    return _manual()[start : start + length]


def _real_words(rng, count):
    words = Counter(split_simple(_real_text(rng, 20_000), "gpt2"))
    return {word.encode(): n for word, n in words.most_common(count)}
