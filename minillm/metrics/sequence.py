"""Precision, recall and F1 of the entities in sequences of tags, as seqeval counts them.

Source: Ramshaw & Marcus 1995 (cmp-lg/9505040) for the tags; Tjong Kim Sang & De Meulder 2003
(W03-0419) and their conlleval for counting whole entities: one is right if its type, its first and
its last token are. A tag is a letter and, behind a dash, a type: B-PER, I-PER, O.

Two ways to read entities from tags that a model has made up:
- lenient, as conlleval: whatever begins where nothing goes on is an entity, I-PER after O too;
- strict, by a scheme: only what the scheme allows. After O, IOB2 knows no I-PER.

Where this differs from seqeval: a tag that is none is an error in both ways, where seqeval's
lenient one warns and goes on; sequences without any entity score zero_division in every average,
where its macro average is NaN.
"""

import dataclasses

import numpy as np

from minillm.errors import UserError
from minillm.metrics.checks import listed, named
from minillm.metrics.classification import check_zero_division, from_counts

__all__ = ["SCHEMES", "entities", "sequence_scores"]


@dataclasses.dataclass(frozen=True)
class Scheme:
    """Which pairs of neighbours begin an entity, go on with it, and end it.

    A rule is a letter before, a letter now ("." for any) and how their types compare: "=" the
    same, "!" different, "*" either. `end` is asked of the first token that does not go on.
    """

    letters: str
    start: str
    inside: str
    end: str

    def follows(self, rules, before, now):
        """Whether a rule has this pair of (letter, type)."""
        same = before[1] == now[1]
        return any(
            rule[0] in (before[0], ".")
            and rule[1] in (now[0], ".")
            and (rule[2] == "*" or (rule[2] == "=") == same)
            for rule in rules.split()
        )


# The rules are seqeval's, quirks and all: its IOE1 does not see an entity end before every other.
SCHEMES = {
    "IOB1": Scheme("IOB", "OI* II! BI* IB= BB=", "BI= II=", "II! IO* IB* BO* BI! BB="),
    "IOB2": Scheme("IOB", ".B*", "BI= II=", "IO* II! IB* BO* BI! BB*"),
    "IOE1": Scheme("IOE", "OI* II! EI* EE=", "II= IE=", "II! IO* IE! EI= EE="),
    "IOE2": Scheme("IOE", "OI* OE* EI* EE* II! IE!", "IE= II=", "E.*"),
    "IOBES": Scheme("IOBES", ".B* .S*", "BI= BE= II= IE=", "S.* E.*"),
    "BILOU": Scheme("BILOU", ".B* .U*", "BI= BL= II= IL=", "U.* L.*"),
}
LENIENT = "IOBES"
OUTSIDE = ("O", "_")


def entities(tags, *, scheme=None, suffix=False):
    """The entities in one sequence of tags, in order.

    Parameters
    ----------
    tags : list of str
    scheme : None to be lenient, or a name in SCHEMES to be strict
    suffix : bool, the letter stands at the tag's end (PER-B)

    Returns
    -------
    list of (type, start, stop), stop being the first token after it; a tag without a type has "_"

    Raises
    ------
    UserError
        for an unknown scheme, or naming a tag that is none.
    ValueError
        for what is no list, or a tag that is no str.
    """
    tags = listed("tags", tags)
    if scheme is None:
        return _lenient([_parse(tag, LENIENT, suffix) for tag in tags])
    rules = SCHEMES[named("scheme", scheme, SCHEMES)]
    return _strict([_parse(tag, rules.letters, suffix) for tag in tags], rules)


def sequence_scores(predicted, target, *, scheme=None, suffix=False, zero_division=0.0):
    """Precision, recall and F1 of entities, by type and averaged.

    Equation: precision = right / predicted, recall = right / true, F1 = 2 P R / (P + R)

    Parameters
    ----------
    predicted, target : lists of sequences, each a list of tags
    scheme, suffix : see `entities`
    zero_division : 0.0 or 1.0, a quotient whose denominator is zero

    Returns
    -------
    Classification, its classes the types of entities, sorted

    Raises
    ------
    UserError
        for sequences whose lengths differ, naming the first; or as `entities`.
    ValueError
        for another zero_division; or as `entities`.
    """
    check_zero_division(zero_division)
    labels, counts = entity_counts(predicted, target, scheme=scheme, suffix=suffix)
    return counted(labels, counts.sum(0), zero_division=zero_division)


def entity_counts(predicted, target, *, scheme=None, suffix=False):
    """The counts that the scores are made of, which add up over sequences.

    Returns
    -------
    labels : list of the L types, sorted
    counts : int (N, 3, L), for each sequence the right, the predicted and the true entities
    """
    predicted, target = listed("predicted", predicted), listed("target", target)
    if len(predicted) != len(target):
        raise UserError(f"there are {len(predicted)} predicted sequences, but {len(target)} true")
    found = []
    for n, (ours, truth) in enumerate(zip(predicted, target, strict=True), start=1):
        ours, truth = listed(f"predicted sequence {n}", ours), listed(f"true sequence {n}", truth)
        if len(ours) != len(truth):
            raise UserError(
                f"sequence {n} has {len(ours)} predicted tags, but {len(truth)} true ones"
            )
        # A set: seqeval counts one that a scheme's quirk yields twice once.
        sets = [set(entities(tags, scheme=scheme, suffix=suffix)) for tags in (ours, truth)]
        found.append((sets[0] & sets[1], *sets))
    labels = sorted({type_ for row in found for group in row for type_, _, _ in group})
    place = {label: i for i, label in enumerate(labels)}
    counts = np.zeros((len(found), 3, len(labels)), np.int64)
    for n, row in enumerate(found):
        for m, group in enumerate(row):
            for type_, _, _ in group:
                counts[n, m, place[type_]] += 1
    return labels, counts


def counted(labels, counts, *, zero_division=0.0):
    """The scores of counts (3, L): right, predicted and true."""
    result = from_counts(labels, *counts, zero_division=zero_division)
    # seqeval divides products: with zero_division 1, F1 is that of P and R as they stand.
    classes = {label: _harmonic(scores) for label, scores in result.classes.items()}
    f1 = np.array([scores.f1 for scores in classes.values()])
    support = counts[2]
    macro, weighted = result.macro, result.weighted
    if len(f1):
        macro = dataclasses.replace(macro, f1=float(f1.mean()))
    if support.sum():
        weighted = dataclasses.replace(weighted, f1=float((f1 * support).sum() / support.sum()))
    return dataclasses.replace(
        result, classes=classes, micro=_harmonic(result.micro), macro=macro, weighted=weighted
    )


def _harmonic(scores):
    total = scores.precision + scores.recall
    f1 = 2 * scores.precision * scores.recall / total if total else 0.0
    return dataclasses.replace(scores, f1=f1)


def _parse(tag, letters, suffix):
    """The letter and the type of a tag."""
    if not isinstance(tag, str):
        raise ValueError(f"a tag must be a str, got {tag!r}")
    letter = tag[-1:] if suffix else tag[:1]
    rest = tag[:-1] if suffix else tag[1:]
    dash = rest[-1:] if suffix else rest[:1]
    if not letter or letter not in letters or (rest and (dash != "-" or letter == "O")):
        raise UserError(
            f"{tag!r} is no tag: it must be O, or one of {', '.join(letters.replace('O', ''))} "
            f"{'behind' if suffix else 'before'} a dash and a type"
        )
    return letter, (rest[:-1] if suffix else rest[1:]) or "_"


def _lenient(tags):
    found, start, before = [], 0, OUTSIDE
    for i, now in enumerate([*tags, OUTSIDE]):
        changes = before[1] != now[1]
        if before[0] != "O" and (
            changes or before[0] in "ES" or (before[0] in "BI" and now[0] in "BSO")
        ):
            found.append((before[1], start, i))
        if now[0] != "O" and (changes or now[0] in "BS" or (now[0] in "IE" and before[0] in "OES")):
            start = i
        before = now
    return found


def _strict(tags, rules):
    found, i, before = [], 0, OUTSIDE
    tags = [*tags, OUTSIDE]
    while i < len(tags):
        start = i
        i += 1
        if rules.follows(rules.start, before, tags[start]):
            while rules.follows(rules.inside, tags[i - 1], tags[i]):
                i += 1
            if rules.follows(rules.end, tags[i - 1], tags[i]):
                found.append((tags[start][1], start, i))
        before = tags[i - 1]
    return found
