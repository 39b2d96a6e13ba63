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
    arranged.product,
    arranged.rolled,
    arranged.slices,
    lost.reused,
    lost.through_time,
    lost.lost,
    lost.direct_path,
    lost.one_step_right,
    lost.broadcast_back,
    masks.mask,
    terms.low_rank,
    terms.coupling,
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
            guesses.setdefault(guess.cause, []).append((index, guess))
    found = [one for group in guesses.values() for one in _agree(evidence, group)]
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


def _agree(evidence, group):
    """The diagnoses of one cause: leaves that show it in the same way are named together."""
    top = max((guess for _, guess in group), key=lambda guess: guess.likelihood)
    raised = _together([guess.likelihood for _, guess in group])
    alike = {}
    for index, guess in group:
        same = guess.says if guess.ratio is None else round(guess.ratio, 5)
        alike.setdefault(same, []).append((index, guess))
    for members in alike.values():
        best = max((guess for _, guess in members), key=lambda guess: guess.likelihood)
        likelihood = raised if any(g is top for _, g in members) else best.likelihood
        names = [evidence.leaves[index].name for index, _ in members]
        if len(members) == 1:
            leaf, who = names[0], _called(names[0])
        else:
            every = len(members) == len(evidence.leaves)
            who = "every gradient" if every else f"each of {_listed([_called(n) for n in names])}"
            leaf = None
        yield Diagnosis(best.cause, leaf, f"{who} {best.says}", likelihood, best.ratio)


def _together(likelihoods):
    """Leaves that agree support one another, but never to certainty."""
    best = max(likelihoods)
    others = sum(likelihood > best - 0.1 for likelihood in likelihoods) - 1
    return round(min(0.99, best + min(0.02 * others, 0.04)), 3)


def _called(name):
    return f"d{name}" if name.isidentifier() else f"the gradient of {name}"


def _listed(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
