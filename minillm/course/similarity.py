"""Which submissions share passages, with one another and with the reference, and how usual that is.

Two numbers a pair, of the fingerprints (fingerprint.py) that the starter did not give:

    containment   |A and B| / min(|A|, |B|)    1 where one lies wholly in the other
    Jaccard       |A and B| / |A or B|         1 where both are the same

Similarity is no verdict. Short functions with one natural way to write them come out alike without
anybody copying, so a number says something only beside the class's own: what two submissions
usually share, and how many others hold a passage.
"""

import json
import statistics
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

from minillm.course import fingerprint
from minillm.course.cuda_source import CudaSourceError
from minillm.course.fingerprint_cuda import cuda_fingerprints

__all__ = ["REFERENCE", "Class", "Pair", "compare_class", "passages", "take_fingerprints"]

REFERENCE = "the reference"
KINDS = (".py", ".cu")
FEWEST = 8  # fingerprints: below that there is too little to compare
FEW = 3  # submissions, or a tenth of the class: a passage that so few hold is uncommon


@dataclass
class Work:
    """One submission's fingerprints: {hash: [(file, first line, last line), ...]}."""

    student: str
    files: dict[str, str]
    places: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(frozen=True)
class Pair:
    """Two submissions: numbers of shared fingerprints, of them uncommon ones, and the measures."""

    first: str
    second: str
    shared: int
    uncommon: int
    containment: float
    jaccard: float


@dataclass
class Class:
    """All that was compared.

    Attributes
    ----------
    works : {student: Work}, and the REFERENCE's
    pairs : list of Pair among students, the most alike first
    with_reference : list of Pair, each student with the reference
    median : containment of the pair in the middle; 0 where there are no pairs
    too_short : students who wrote too little to compare
    """

    works: dict[str, Work]
    pairs: list[Pair]
    with_reference: list[Pair]
    median: float
    too_short: list[str]

    @property
    def bar(self):
        """The containment from which on a pair is worth a look: a half, or what is unusual here."""
        return min(0.5, max(0.2, 3 * self.median))

    def holders(self, digests):
        """How many students hold all of some fingerprints."""
        return sum(
            all(digest in work.places for digest in digests)
            for student, work in self.works.items()
            if student != REFERENCE
        )


def compare_class(submissions, modules):
    """Compare all submissions with one another and with the reference.

    Parameters
    ----------
    submissions : list of Submission
    modules : Modules of the assignment
    """
    starter = {name: text.encode() for name, text in modules.starters().items()}
    reference = {m.file: m.text.encode() for m in modules.all.values() if not m.given}
    named = {
        s.student: {n: d for n, d in s.files.items() if n.endswith(KINDS)} for s in submissions
    }
    return compare(named, reference, starter)


def compare(students, reference, starter):
    """The Class of {student: {file: bytes}}; reference and starter are {file: bytes}."""
    given = take_fingerprints([("", starter)], everything=True)[0].places
    works = {work.student: work for work in take_fingerprints(list(students.items()))}
    works[REFERENCE] = take_fingerprints([(REFERENCE, reference)])[0]
    for work in works.values():
        work.places = {d: found for d, found in work.places.items() if d not in given}
    long = [s for s in students if len(works[s].places) >= FEWEST]
    held: dict[str, int] = {}
    for student in students:
        for digest in works[student].places:
            held[digest] = held.get(digest, 0) + 1
    few = max(FEW, len(students) // 10)
    pairs = [
        _pair(works[one], works[other], held, few)
        for index, one in enumerate(long)
        for other in long[index + 1 :]
    ]
    most = [_pair(works[student], works[REFERENCE], held, few) for student in long]
    return Class(
        works,
        sorted(pairs, key=_rank),
        sorted(most, key=_rank),
        statistics.median(pair.containment for pair in pairs) if pairs else 0.0,
        [student for student in students if student not in long],
    )


def _pair(one, other, held, few):
    common = one.places.keys() & other.places.keys()
    sizes = len(one.places), len(other.places)
    return Pair(
        one.student,
        other.student,
        len(common),
        sum(held.get(digest, 0) <= few for digest in common),
        len(common) / min(sizes) if min(sizes) else 0.0,
        len(common) / (sum(sizes) - len(common)) if max(sizes) else 0.0,
    )


def _rank(pair):
    return -pair.containment, -pair.uncommon, pair.first, pair.second


def passages(one, other):
    """Where two Works are alike: [(file, first, last, other file, first, last, hashes)]."""
    found = sorted(
        (*one.places[digest][0], *other.places[digest][0], digest)
        for digest in one.places.keys() & other.places.keys()
    )
    merged: list[list] = []
    for file, first, last, file2, first2, last2, digest in found:
        for known in merged[-3:]:
            near = first <= known[2] + 1 and first2 <= known[5] + 1 and last2 >= known[4] - 1
            if known[0] == file and known[3] == file2 and near:
                known[2], known[5] = max(known[2], last), max(known[5], last2)
                known[4] = min(known[4], first2)
                known[6].append(digest)
                break
        else:
            merged.append([file, first, last, file2, first2, last2, [digest]])
    return [tuple(known) for known in merged]


def take_fingerprints(named, everything=False):
    """The Works of [(student, {file: bytes})].

    Parsing runs in a process of its own. A source that ends it costs only that student; the next
    process goes on behind it.
    """
    works = [Work(student, _decoded(files)) for student, files in named]
    left = list(zip(works, (files for _, files in named), strict=True))
    while left:
        answers = _answers([files for _, files in left], everything)
        for (work, _), answer in zip(left, answers, strict=False):
            work.notes += answer["notes"]
            for file, grams in answer["grams"].items():
                for gram in grams:
                    _place(work, file, *gram)
        left = left[len(answers) :]
        if left:
            work, _ = left.pop(0)
            work.notes.append("could not be compared: its source ended the parser")
    for work in works:
        _add_cuda(work, everything)
    return works


def _place(work, file, digest, first, last):
    work.places.setdefault(digest, []).append((file, first, last))


def _add_cuda(work, everything):
    """The fingerprints of CUDA C are made here: a few regular expressions are all its parser."""
    for file, text in work.files.items():
        if file.endswith(".cu"):
            try:
                for gram in cuda_fingerprints(text, everything):
                    _place(work, file, gram.hash, gram.first, gram.last)
            except CudaSourceError as error:
                work.notes.append(f"{file} could not be compared: {error}")


def _answers(sources, everything):
    """What the process answered before it ended: one table a submission, perhaps not for all."""
    requests = "".join(
        json.dumps(
            {
                "files": {
                    n: d.decode("latin-1") for n, d in files.items() if not n.endswith(".cu")
                },
                "everything": everything,
            }
        )
        + "\n"
        for files in sources
    )
    code = Path(fingerprint.__file__).read_text(encoding="utf-8")
    try:
        done = subprocess.run(
            [sys.executable, "-I", "-S", "-c", code],
            input=requests.encode(),
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={},
            timeout=60 + 2 * fingerprint.SECONDS * len(sources),
            check=False,
        )
        output = done.stdout
    except subprocess.TimeoutExpired as stopped:  # where there is no alarm
        output = stopped.stdout or b""
    lines = output.split(b"\n")
    return [json.loads(line) for line in lines[:-1]]  # the last has no end if it was cut off


def _decoded(files):
    return {name: data.decode("utf-8", errors="replace") for name, data in files.items()}
