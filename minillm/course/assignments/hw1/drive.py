"""How hw1's functions are called.

What they return is made plain here, so that NumPy's numbers count as Python's; a wrong kind of
answer is said in the student's terms.
"""

import warnings

import numpy as np


def counted(modules, kept, case):
    """What `count` makes of a text."""
    ids = np.asarray(case["ids"]).tolist()
    return _table(_model(modules, case | {"ids": []}).count(ids), "count")


def placed(modules, kept, case):
    """What `places` makes of the counts of a text."""
    model = _model(modules, case)
    return _table(model.places(model.followers), "places")


def counts_of_counts(modules, kept, case):
    """{length: {count: n-grams}} of all lengths; a count that no n-gram has is left out."""
    model = _model(modules, case)
    found = {n: model.counts_of_counts(n) for n in range(1, case["order"] + 1)}
    return {
        n: {
            int(count): int(many)
            for count, many in _dict(counts, "counts_of_counts").items()
            if many
        }
        for n, counts in found.items()
    }


def smoothed(modules, kept, case):
    """What a smoothing makes of the tokens that were seen after a context."""
    model = _model(modules, case)
    function, context = case["function"], case["context"]
    seen = dict(model.followers[context])
    answer = getattr(modules("ngram_simple"), function)(model, dict(seen), len(context) + 1)
    if not isinstance(answer, tuple) or len(answer) != 2:
        raise TypeError(f"{function} must return (share, weight), got {type(answer).__name__}")
    share = {int(t): float(p) for t, p in _dict(answer[0], f"{function}'s share").items()}
    return {"seen": seen, "share": share, "weight": float(answer[1])}


def distributions(modules, kept, case):
    """{context: [p(0 | context), p(1 | context), ...]} of some contexts."""
    model, tokens = _model(modules, case), range(case["vocab_size"])
    return {
        context: [_number(model.p_after(token, context), "p_after") for token in tokens]
        for context in case["contexts"]
    }


def measured(modules, kept, case):
    """Perplexity or bits per byte."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a warning of an impossible token is right, and not asked
        function = getattr(modules("language"), case["function"])
        return _number(function(case["nats"], *case["bytes"]), case["function"])


def _model(modules, case):
    return modules("ngram_simple").SimpleNGram(
        case["ids"],
        order=case["order"],
        vocab_size=case["vocab_size"],
        end_id=case["end_id"],
        smoothing=case["smoothing"],
    )


def _table(followers, name):
    plain = {}
    for context, seen in _dict(followers, name).items():
        if not isinstance(context, tuple):
            raise TypeError(f"{name}: a context must be a tuple of tokens, got {context!r}")
        counts = _dict(seen, f"what {name} has of a context").items()
        if seen:
            plain[tuple(map(int, context))] = {int(token): float(count) for token, count in counts}
    return plain


def _dict(value, name):
    if not isinstance(value, dict):
        raise TypeError(f"{name} must be a dict, got {type(value).__name__}")
    return value


def _number(value, name):
    if value is None or np.ndim(value):
        raise TypeError(f"{name} must return a number, got {type(value).__name__}")
    return float(value)
