"""Draws hw1's texts and judges what was counted and made of them. Runs in the grader only."""

import functools
import math

import numpy as np

from minillm.models.ngram_simple import SimpleNGram

NEAR = 1e-9  # relative: no way of computing these numbers loses more

# Pairs whose second word hardly ever comes without the first, and what they visit.
NAMES = [("San", "Francisco"), ("Hong", "Kong"), ("Buenos", "Aires"), ("Las", "Vegas")]
VERBS = ["like", "leave", "love", "see", "know", "reach", "miss", "paint", "call", "find"]
THINGS = ["glasses", "bread", "music", "rain", "tea"]


def one_document(rng, size):
    return _case(rng, size, order=1)


def contexts_of_all_lengths(rng, size):
    return _case(rng, size, order=2 if size == 1 else int(rng.integers(3, 5)))


def documents(rng, size):
    """Several, one of them empty from size 3 on."""
    parts = [_chain(rng, 1 + int(rng.integers(size, 2 * size + 1)), 3) for _ in range(1 + size)]
    if size > 2:
        parts[1] = []
    return _with([i for part in parts for i in (*part, 3)], 2 if size < 3 else 4, 4)


def long_text(rng, size):
    ids = np.asarray(_chain(rng, 100_000, 8))
    return _with(ids, 3, 9)


def shares(rng, size, smoothing, function, order=3):
    """A context of a text, and what followed it."""
    case = _case(rng, size + 1, order=order, smoothing=smoothing)
    model = _reference(case)
    many = sorted(c for c, seen in model.followers.items() if len(seen) > (size > 1))
    return case | {"function": function, "context": many[int(rng.integers(len(many)))]}


def mle(rng, size):
    return shares(rng, size, "mle", "mle")


def witten_bell(rng, size):
    return shares(rng, size, "witten-bell", "witten_bell")


def one_discount(rng, size):
    """Where n1 and n2 are not zero, as in all but tiny texts."""
    while True:
        case = shares(rng, size, "absolute-discounting", "one_discount", order=2)
        n = _reference(case).counts_of_counts(len(case["context"]) + 1)
        if n[1] and n[2] and n[1] / (n[1] + 2 * n[2]) != 0.5:
            return case


def no_discount(rng, size):
    """No count of 2, or (the end aside, which is its own context) no count of 1."""
    letters = size + 1
    once = rng.permutation(letters).tolist()
    ids = [*once, letters] if size % 2 else [*once, letters, *once, letters]
    case = _with(ids, 2, letters + 1, "absolute-discounting")
    context = (once[0],) if len(once) > 1 else ()
    return case | {"function": "one_discount", "context": context}


def three_discounts(rng, size):
    """Frequencies of tokens for which all three discounts are positive."""
    while True:
        case = _frequencies(rng, [4 + size, 2 + size // 2, 2, 1, 1], "three_discounts")
        n = _reference(case).counts_of_counts(1)
        if _three(n):
            return case


def no_three_discounts(rng, size):
    """No count of 4; or one of each, so that the formula gives what is not positive."""
    of_each = [[3, 2, 1, 0], [1, 1, 4, 2], [6, 3, 0, 2], [8, 1, 3, 1], [2, 0, 1, 1]]
    return _frequencies(rng, of_each[min(size, 5) - 1], "three_discounts")


def seen_contexts(rng, size):
    case = _case(rng, size, order=2 if size == 1 else 4, smoothing="witten-bell")
    return case | {"contexts": _some(rng, _reference(case).followers, 6)}


def no_context(rng, size):
    return _case(rng, size, order=1, smoothing="witten-bell") | {"contexts": [()]}


def unseen_contexts(rng, size):
    """Contexts that never came, and such whose end came."""
    case = _case(rng, size, order=3, smoothing="witten-bell", spare=1)
    new, known = case["vocab_size"] - 1, case["ids"][0]
    return case | {"contexts": [(new,), (new, known), (known, new)][: 1 + size]}


def order_two(rng, size):
    return _case(rng, size, order=2)


def order_three(rng, size):
    return documents(rng, size) | {"order": 3 if size < 3 else 4}


def many_ngrams(rng, size):
    return _with(rng.integers(0, 40, 40_000).tolist(), 3, 41)


def francisco(rng, size):
    """A name that is frequent after one word, and a thing that is rarer, but stands anywhere."""
    first, second = NAMES[int(rng.integers(len(NAMES)))]
    thing = THINGS[int(rng.integers(len(THINGS)))]
    verbs = rng.permutation(VERBS).tolist()
    places = 3 + int(rng.integers(4))
    lines = [f"I {verbs[i]} {thing}" for i in range(places)]
    lines += [f"I {verbs[int(rng.integers(4))]} {first} {second}" for _ in range(places + 2 + size)]
    lines = [lines[i] for i in rng.permutation(len(lines))]
    words = ["I", *VERBS, *THINGS, *(word for name in NAMES for word in name), "quietly"]
    ids = [i for line in lines for i in (*map(words.index, line.split()), len(words))]
    case = _with(ids, 2, len(words) + 1, "kneser-ney")
    asked = [words.index(second), words.index(thing)]
    return case | {"words": words, "asked": asked, "contexts": [(words.index("quietly"),)]}


def modified(rng, size):
    """A whole model of modified Kneser-Ney; from size 2 on, where each length has its discounts."""
    while True:
        parts = [_chain(rng, 5 if size < 2 else 40 * size, 3 + size) for _ in range(2)]
        end = 3 + size
        ids = [i for part in parts for i in (*part, end)]
        case = _with(ids, 2 if size < 3 else 3, end + 1, "modified-kneser-ney")
        model = _reference(case)
        if size < 2 or _three(model.counts_of_counts(2)):
            return case | {
                "contexts": [*_some(rng, model.followers, 5), (0, 0)[: case["order"] - 1]]
            }


def nats(rng, size):
    values = rng.exponential(2, size + 1).round(2 if size < 3 else 15)
    if size == 3:
        values[1] = np.inf
    return {"function": "perplexity", "nats": values, "bytes": ()}


def nats_and_bytes(rng, size):
    values = rng.exponential(3, size + 2).round(2 if size < 3 else 15)
    counts = (3 * size + 5,) if size < 2 else (3 * size + 5, size)
    return {"function": "bits_per_byte", "nats": values, "bytes": counts}


def judged(judge):
    """A judge that also stands what no driver of ours sends."""

    @functools.wraps(judge)
    def safe(case, expected, came):
        try:
            return judge(case, expected, came)
        except (AttributeError, IndexError, KeyError, TypeError, ValueError, OverflowError):
            return f"what came is no answer: {came!r:.80}"

    return safe


@judged
def table(case, expected, came):
    """Counts after all contexts."""
    return _differing(case, expected, came, lambda gram: True, "count")


@judged
def longer_table(case, expected, came):
    """Places, but for what begins with a document's start."""
    end = case["end_id"]
    places = "number of places"
    return _differing(case, expected, came, lambda gram: not _starts(gram, end), places)


@judged
def starts_table(case, expected, came):
    """What stands at a document's start, and has nothing before it."""
    end = case["end_id"]
    return _differing(case, expected, came, lambda gram: _starts(gram, end), "count")


@judged
def counts_of_counts(case, expected, came):
    for length, counts in expected.items():
        for count in sorted(counts.keys() | came[length].keys()):
            mine, theirs = counts.get(count, 0), came[length].get(count, 0)
            if mine != theirs:
                return (
                    f"of n-grams of length {length}, {theirs} have the count {count}, expected "
                    f"{mine}" + _of(case)
                )
    return None


@judged
def share(case, expected, came):
    seen = _seen(case, expected)
    for token in sorted(expected["share"].keys() | came["share"].keys()):
        mine, theirs = expected["share"].get(token, 0), came["share"].get(token, 0)
        if not _near(mine, theirs):
            return f"{seen}: token {token} gets {theirs:.6g} of its own, expected {mine:.6g}"
    return None


@judged
def weight(case, expected, came):
    mine, theirs = expected["weight"], came["weight"]
    if _near(mine, theirs):
        return None
    problem = (
        f"{_seen(case, expected)}: the shorter context weighs {theirs:.6g}, expected {mine:.6g}"
    )
    total = sum(came["share"].values()) + theirs
    if not _near(total, 1):
        problem += f"; with your shares it makes {total:.6g}, not 1"
    return problem


@judged
def share_and_weight(case, expected, came):
    return share(case, expected, came) or weight(case, expected, came)


@judged
def distribution(case, expected, came):
    """Probabilities: each the reference's, and all of a context together 1."""
    for context in case["contexts"]:
        mine, theirs = expected[context], came[context]
        at = _context(context)
        if len(theirs) != len(mine):
            return f"{len(theirs)} probabilities after {at}, expected {len(mine)}"
        for token, (p, q) in enumerate(zip(mine, theirs, strict=True)):
            if not _near(p, q):
                problem = f"p({token} | {at}) is {q:.6g}, expected {p:.6g}"
                total = sum(theirs)
                if not _near(total, 1):
                    problem += f"; all tokens' probabilities after {at} sum to {total:.6g}"
                return problem + _of(case)
    return None


@judged
def name_or_thing(case, expected, came):
    """What stands after everything is likelier after what is new, then all the numbers."""
    words, (name, thing) = case["words"], case["asked"]
    (context,) = case["contexts"]
    ids, p = np.asarray(case["ids"]), came[context]
    if not p[thing] > p[name]:
        before = len(set(ids[np.flatnonzero(ids == thing) - 1].tolist()))
        return (
            f"{words[name]!r} came {int(np.sum(ids == name))} times, but always after the same "
            f"word, {words[thing]!r} came {before} times, each after another; after a word that "
            f"was never seen p({words[name]}) is {p[name]:.4g} and p({words[thing]}) is "
            f"{p[thing]:.4g}: the second should be the larger"
        )
    return distribution(case, expected, came)


@judged
def number(case, expected, came):
    if _near(expected, came):
        return None
    shown = ", ".join(f"{x:.6g}" for x in case["nats"])
    more = ", ".join(map(str, case["bytes"]))
    arguments = f"[{shown}]" + (f", {more}" if more else "")
    return f"{case['function']}({arguments}) is {came:.6g}, expected {expected:.6g}"


def _starts(gram, end):
    """Whether an n-gram stands at a document's start; the end alone is a token like others."""
    return len(gram) > 1 and gram[0] == end


def _differing(case, expected, came, asked, what):
    """The first n-gram, of those that are `asked`, with another count, the shortest first."""
    for context in sorted(expected.keys() | came.keys(), key=lambda c: (len(c), c)):
        mine, theirs = expected.get(context, {}), came.get(context, {})
        for token in sorted(mine.keys() | theirs.keys()):
            if not asked((*context, token)) or _near(mine.get(token, 0), theirs.get(token, 0)):
                continue
            found = f"has the {what} {theirs[token]:g}" if token in theirs else f"has no {what}"
            right = f"{mine[token]:g}" if token in mine else "none"
            return f"token {token} after {_context(context)} {found}, expected {right}" + _of(case)
    return None


def _case(rng, size, *, order, smoothing="mle", spare=0):
    """One document, of few tokens at first; `spare` tokens of the vocabulary never come."""
    letters = 2 + size // 2
    ids = [*_chain(rng, 3 * size + 1, letters), letters]
    return _with(ids, order, letters + 1 + spare, smoothing, letters)


def _with(ids, order, vocab_size, smoothing="mle", end_id=None):
    return {
        "ids": ids,
        "order": order,
        "vocab_size": vocab_size,
        "end_id": vocab_size - 1 if end_id is None else end_id,
        "smoothing": smoothing,
    }


def _chain(rng, length, letters):
    """Tokens below `letters`, each drawn by the one before it."""
    table = rng.dirichlet(np.full(letters, 0.6), letters).cumsum(1)  # (V, V)
    token, ids = int(rng.integers(letters)), []
    for u in rng.random(length):
        token = min(int(np.searchsorted(table[token], u)), letters - 1)
        ids.append(token)
    return ids


def _frequencies(rng, of_each, function):
    """A text in which `of_each[i]` tokens come i + 1 times, the end among those that come once."""
    times = [i + 1 for i, many in enumerate(of_each) for _ in range(many)][1:]
    ids = rng.permutation([token for token, n in enumerate(times) for _ in range(n)]).tolist()
    case = _with([*ids, len(times)], 1, len(times) + 1, "modified-kneser-ney")
    return case | {"function": function, "context": ()}


def _three(n):
    """Whether counts of counts give three positive discounts."""
    if not (n[1] and n[2] and n[3] and n[4]):
        return False
    y = n[1] / (n[1] + 2 * n[2])
    return all(i - (i + 1) * y * n[i + 1] / n[i] > 0 for i in (1, 2, 3))


def _reference(case):
    """The reference's model of a case, whose counts say what can be asked."""
    names = ("order", "vocab_size", "end_id", "smoothing")
    return SimpleNGram(case["ids"], **{name: case[name] for name in names})


def _some(rng, followers, most):
    """Some contexts, the longest among them."""
    contexts = sorted(followers, key=lambda c: (-len(c), c))
    chosen = sorted(rng.permutation(len(contexts))[:most].tolist())
    return [contexts[i] for i in dict.fromkeys([0, *chosen])]


def _near(mine, theirs):
    return math.isclose(mine, theirs, rel_tol=NEAR, abs_tol=1e-12)


def _context(context):
    """A context as it is written in code: an empty one, too."""
    return repr(tuple(context))


def _seen(case, expected):
    """What followed the context; for a discount also the counts of counts that it comes from."""
    pairs = [f"{token} ({count}x)" for token, count in sorted(expected["seen"].items())]
    found = "where " + ", ".join(pairs[:8]) + (", ..." if len(pairs) > 8 else "") + " followed"
    if "discount" in case["function"]:
        n = _reference(case).counts_of_counts(len(case["context"]) + 1)
        found += " and " + ", ".join(f"n{r} = {n[r]}" for r in (1, 2, 3, 4))
    return found


def _of(case):
    """The text, where it is short."""
    if len(case["ids"]) > 16 or "words" in case:
        return ""
    text = " ".join(map(str, case["ids"]))
    return f"; the text is {text}, end_id {case['end_id']}, order {case['order']}"
