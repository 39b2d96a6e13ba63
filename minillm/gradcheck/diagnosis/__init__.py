"""Which mistake would explain a wrong gradient: rules over the two Jacobians of each leaf.

Each rule is a generator of guesses that looks at one failing leaf. It speaks only where its mistake
explains the disagreement to the precision of the numeric values, so that silence means something.
"""

from dataclasses import replace

from minillm.gradcheck.diagnosis import (
    arranged,
    derived,
    local,
    losses,
    lost,
    masks,
    matrices,
    parts,
    repeats,
    shared,
    slopes,
    terms,
    whole,
)
from minillm.gradcheck.diagnosis._view import Guess, View
from minillm.gradcheck.report import Diagnosis

__all__ = ["RULES", "diagnose"]

NOBODY = Guess("", 0.0, "")

RULES = (
    whole.zero,
    whole.upstream,
    whole.factor,
    whole.signs,
    whole.exchanged,
    arranged.transposed,
    arranged.reordered,
    matrices.product,
    matrices.turned_weight,
    arranged.rolled,
    arranged.slices,
    arranged.same_numbers,
    repeats.averaged,
    repeats.last_wins,
    repeats.reused,
    shared.another_share,
    lost.through_time,
    lost.lost,
    lost.direct_path,
    lost.straight_alone,
    lost.one_step_right,
    lost.broadcast_back,
    masks.mask,
    terms.low_rank,
    terms.along_itself,
    terms.coupling,
    losses.loss_term,
    losses.target_term,
    losses.chosen_alone,
    parts.part,
    local.outer,
    local.elementwise,
    slopes.smooth,
    slopes.one_number,
    slopes.known_slope,
    slopes.weight,
    derived.paths,
)
# What is asked of the arrays inside a layer, where no rule is sure of the leaf itself.
INSIDE = (
    arranged.transposed,
    arranged.reordered,
    matrices.product,
    matrices.turned_weight,
    masks.mask,
    terms.low_rank,
    terms.coupling,
    local.elementwise,
)
SURE = 0.9
FIRM = 0.7  # likelihood from which a guess counts for or against the other leaves'
SMALL = 200_000  # numbers in a Jacobian for which the arrays inside are worked out
MOST = 4  # guesses about one leaf; a fifth helps nobody
SHARED = 0.12  # what it costs a cause that other failing leaves don't show it
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
    guesses: dict = {}
    for index in evidence.failed:
        for guess in _guesses(evidence, index):
            guesses.setdefault(guess.cause, []).append((index, guess))
    _same_upstream(evidence, guesses)
    firm = [(i, g) for group in guesses.values() for i, g in group if g.likelihood >= FIRM]
    explained = len({index for index, _ in firm})
    found = [one for group in guesses.values() for one in _agree(evidence, group, explained)]
    return sorted(found, key=lambda diagnosis: -diagnosis.likelihood)


def _guesses(evidence, index):
    """The best guess for each cause about one leaf, the likeliest first."""
    try:
        view = View(evidence, index)
    except STUMBLES:  # somebody's backward refuses a cotangent: no evidence, no guess
        return []
    if not view.usable:
        return []
    best: dict[str, Guess] = {}
    _ask(RULES, view, best)
    unsure = max((guess.likelihood for guess in best.values()), default=0.0) < SURE
    if unsure and view.a.size <= SMALL:
        try:
            for inner, rules in _inside(view):
                _ask(rules, inner, best, 0.01)
        except STUMBLES:
            pass
    chosen = [guess for guess in best.values() if guess.likelihood >= LEAST]
    return sorted(chosen, key=lambda guess: -guess.likelihood)[:MOST]


def _same_upstream(evidence, guesses):
    """Where no leaf at all hears of some outputs, it is the upstream gradient that isn't used."""
    members = guesses.get("missing_sum", [])
    if len(members) == len(evidence.leaves) > 1 and len({g.says for _, g in members}) == 1:
        guesses["upstream_ignored"] = [
            (index, replace(guess, cause="upstream_ignored", likelihood=0.95))
            for index, guess in members
        ]


def _ask(rules, view, best, discount=0.0):
    """Keep in `best` the likeliest guess of the rules for each cause."""
    for rule in rules:
        try:
            for guess in rule(view):
                guess = replace(guess, likelihood=guess.likelihood - discount)
                if guess.likelihood > best.get(guess.cause, NOBODY).likelihood:
                    best[guess.cause] = guess
        except STUMBLES:  # a rule that stumbles over odd shapes has nothing to say
            continue


def _inside(view):
    """Views of the arrays inside a layer, and the rules that are asked of each."""
    terms_and_turns = [rule for rule in INSIDE if rule is not local.elementwise]
    for inner in derived.first_step(view):
        yield inner, (local.outer, local.elementwise, parts.part, matrices.turned_weight)
    tops = [view, *derived.before_output(view)]
    for top in tops:
        whole_layer = [top, *(z for z, _, _ in derived.products(top))]
        for layer in whole_layer:
            if layer is not view:
                yield layer, INSIDE
            for part in derived.thirds(layer):
                yield part, terms_and_turns


def _agree(evidence, group, explained):
    """The diagnoses of one cause: leaves that show it in the same way are named together."""
    top = max((guess for _, guess in group), key=lambda guess: guess.likelihood)
    judged = _together([guess.likelihood for _, guess in group], explained)
    alike: dict = {}
    for index, guess in group:
        same = guess.says if guess.ratio is None else round(guess.ratio, 5)
        alike.setdefault(same, []).append((index, guess))
    for members in alike.values():
        best = max((guess for _, guess in members), key=lambda guess: guess.likelihood)
        likelihood = judged if any(g is top for _, g in members) else best.likelihood - SHARED
        names = [evidence.leaves[index].name for index, _ in members]
        if len(members) == 1:
            leaf, who = names[0], _called(names[0])
        else:
            every = len(members) == len(evidence.leaves)
            who = "every gradient" if every else f"each of {_listed([_called(n) for n in names])}"
            leaf = None
        yield Diagnosis(best.cause, leaf, f"{who} {best.says}", likelihood, best.ratio)


def _together(likelihoods, explained):
    """The likelihood of a cause, less where other failing leaves don't show it."""
    shown = sum(likelihood >= FIRM for likelihood in likelihoods)
    return round(max(likelihoods) - SHARED * (1 - shown / explained if shown else 0), 3)


def _called(name):
    return f"d{name}" if name.isidentifier() else f"the gradient of {name}"


def _listed(names):
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
