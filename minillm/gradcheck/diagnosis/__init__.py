"""Which mistake would explain a wrong gradient: rules over the two Jacobians of each leaf.

Each rule is a generator of guesses that looks at one failing leaf. It speaks only where its mistake
explains the disagreement to the precision of the numeric values, so that silence means something.
"""

from minillm.gradcheck.diagnosis import arranged, local, lost, masks, parts, terms, whole
from minillm.gradcheck.diagnosis._view import View
from minillm.gradcheck.report import Diagnosis

__all__ = ["RULES", "diagnose"]

RULES = (
    whole.zero,
    whole.upstream,
    whole.factor,
    whole.signs,
    whole.exchanged,
    arranged.transposed,
    arranged.reordered,
    arranged.rolled,
    arranged.slices,
    lost.reused,
    lost.through_time,
    lost.lost,
    lost.direct_path,
    lost.broadcast_back,
    masks.mask,
    terms.low_rank,
    terms.loss_term,
    parts.part,
    local.outer,
    local.elementwise,
)
MOST = 4  # guesses about one leaf; a fifth helps nobody
LEAST = 0.4  # likelihood below which silence is better
STUMBLES: tuple[type[Exception], ...] = (Exception,)  # what a rule may raise and stay unheard


def diagnose(evidence):
    """Name the likely mistakes behind the gradients that disagree, the likeliest first.

    Parameters
    ----------
    evidence : minillm.gradcheck.evidence.Evidence
        both Jacobians of the leaves in `evidence.failed`

    Returns
    -------
    list of Diagnosis, empty where no rule fits
    """
    guesses = {}
    for index in evidence.failed:
        for guess in _guesses(evidence, index):
            key = guess.cause, None if guess.ratio is None else round(guess.ratio, 5)
            guesses.setdefault(key, []).append((index, guess))
    found = [one for group in guesses.values() for one in _merge(evidence, group)]
    return sorted(found, key=lambda diagnosis: -diagnosis.likelihood)


def _guesses(evidence, index):
    """The best guess for each cause about one leaf, the likeliest first."""
    try:
        view = View(evidence, index)
    except STUMBLES:  # somebody's backward refuses a cotangent: no evidence, no guess
        return []
    if not view.usable:
        return []
    best = {}
    for rule in RULES:
        try:
            for guess in rule(view):
                if guess.likelihood > best.get(guess.cause, guess).likelihood - 1e-12:
                    best[guess.cause] = guess
        except STUMBLES:  # a rule that stumbles over odd shapes has nothing to say
            continue
    chosen = [guess for guess in best.values() if guess.likelihood >= LEAST]
    return sorted(chosen, key=lambda guess: -guess.likelihood)[:MOST]


def _merge(evidence, group):
    """One diagnosis where several leaves show the same mistake, else one for each."""
    names = [evidence.leaves[index].name for index, _ in group]
    top = max((guess for _, guess in group), key=lambda guess: guess.likelihood)
    if len(group) > 1 and (top.ratio is not None or len({g.says for _, g in group}) == 1):
        every = len(group) == len(evidence.leaves)
        who = "Every gradient" if every else f"Each of {_listed([_called(n) for n in names])}"
        likelihood = _together([guess.likelihood for _, guess in group])
        yield Diagnosis(top.cause, None, f"{who} {top.says}", likelihood, top.ratio)
        return
    likelihood = _together([guess.likelihood for _, guess in group])
    for index, guess in group:
        name = evidence.leaves[index].name
        raised = likelihood if guess is top else guess.likelihood
        yield Diagnosis(guess.cause, name, f"{_called(name)} {guess.says}", raised, guess.ratio)


def _together(likelihoods):
    """Leaves that agree support one another, but never to certainty."""
    best = max(likelihoods)
    return round(min(0.99, best + (1 - best) * 0.25 * (len(likelihoods) - 1)), 3)


def _called(name):
    return f"d{name}" if name.isidentifier() else f"the gradient of {name}"


def _listed(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
