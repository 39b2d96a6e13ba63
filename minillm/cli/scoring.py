"""What `minillm score` does once its command line is understood."""

import dataclasses
import json
from collections.abc import Callable

import numpy as np

from minillm.cli.comparing import compare_systems
from minillm.cli.hints import hint
from minillm.cli.outputs import check_file
from minillm.cli.progress import showing
from minillm.cli.reading import whole_text
from minillm.errors import UserError
from minillm.files import write_text
from minillm.lines import lines_of
from minillm.metrics import (
    bleu,
    bleu_from_statistics,
    bleu_statistics,
    chrf,
    chrf_from_statistics,
    chrf_statistics,
    classification,
    confusion_matrix,
    of_sums,
    rouge,
    rouge_statistics,
    sequence_scores,
    ter,
    ter_from_statistics,
    ter_statistics,
)
from minillm.metrics.classification import class_counts, counted
from minillm.metrics.sequence import counted as counted_entities
from minillm.metrics.sequence import entity_counts

__all__ = ["score_files"]

MANY = 20  # labels: a table of confusions any wider is not printed
ROUGE_TYPES = ("rouge1", "rouge2", "rougeL", "rougeLsum")


def score_files(hyp, refs, settings, *, compare, resampling, json_path):
    """Print the scores of a file, and whether another's are better.

    settings : dict, metric -> its settings
    """
    check_file(json_path)
    texts = _read_all([hyp, *refs, *([compare] if compare else [])])
    systems = [texts.pop(0), *([texts.pop()] if compare else [])]
    report: dict = {"hypotheses": hyp, "references": list(refs), "scores": {}}
    if compare:
        report["compared"] = compare
    names = [hyp, compare][: len(systems)]
    measures = {metric: METRICS[metric](texts, dict(given)) for metric, given in settings.items()}
    reports = {  # all of them, before the first is printed: one may be refused
        metric: [measure.report(*pair) for pair in zip(systems, names, strict=True)]
        for metric, measure in measures.items()
    }
    for metric, measure in measures.items():
        found = reports[metric]
        report["scores"][metric] = found[0][1]
        note = hint(metric, measure, systems)
        if not compare:
            print("\n".join(filter(None, [found[0][0], note])))
            continue
        report.setdefault("compared_scores", {})[metric] = found[1][1]
        for (lines, _), name in zip(found, names, strict=True):
            print(f"{name}:\n{lines}")
        if note:
            print(note)
        report.setdefault("comparisons", {})[metric] = compare_systems(
            measure, systems, names, resampling
        )
    if json_path is not None:
        write_text(json_path, json.dumps(_finite(report), indent=1, ensure_ascii=False) + "\n")


class Measure:
    """A metric with its references: `report(hypotheses)` and, for the bootstrap, `samples`.

    `samples` gives for each number of the metric a function of the indices of segments.
    """

    lower_is_better = False

    def __init__(self, references, settings):
        self.n = len(references[0])
        self.references = [list(several) for several in zip(*references, strict=True)]
        self.settings = settings
        if not self.n:
            raise UserError("there is nothing to score: the files are empty")

    def report(self, hypotheses, name):
        """What is printed, and what JSON holds."""
        raise NotImplementedError

    def samples(self, hypotheses):
        raise NotImplementedError


class Text(Measure):
    """A metric of texts: its name, and the function that scores them while progress is shown."""

    title: str
    score: Callable

    def report(self, hypotheses, name):
        found = self._score(hypotheses, name)
        return str(found), dataclasses.asdict(found)

    def _score(self, hypotheses, name):
        with showing(f"{self.title} of {name}") as progress:
            return self.score(hypotheses, self.references, progress=progress, **self.settings)


class Bleu(Text):
    title, score = "BLEU", staticmethod(bleu)

    def samples(self, hypotheses):
        names = ("tokenizer", "lowercase", "max_order")
        counting = {k: v for k, v in self.settings.items() if k in names}
        rest = {k: v for k, v in self.settings.items() if k not in names}
        statistics = bleu_statistics(hypotheses, self.references, **counting)
        return {"BLEU": of_sums(statistics, lambda s: bleu_from_statistics(s, **rest).score)}


class ChrF(Text):
    title, score = "chrF", staticmethod(chrf)

    def samples(self, hypotheses):
        statistics = chrf_statistics(hypotheses, self.references, **self.settings)
        rest = {k: v for k, v in self.settings.items() if k == "beta"}
        return {"chrF": of_sums(statistics, lambda s: float(chrf_from_statistics(s, **rest)))}


class Ter(Text):
    title, score = "TER", staticmethod(ter)
    lower_is_better = True

    def samples(self, hypotheses):
        statistics = ter_statistics(hypotheses, self.references, **self.settings)
        return {"TER": of_sums(statistics, lambda s: ter_from_statistics(s).score)}


class RougeScore(Text):
    title, score = "ROUGE", staticmethod(rouge)

    def __init__(self, references, settings):
        super().__init__(references, settings)
        types = settings.pop("types", None)
        settings["types"] = ROUGE_TYPES if types is None else tuple(types.split(","))
        self.line_break = settings.pop("line_break", None)
        self.references = [[self._lines(text) for text in several] for several in self.references]

    def _lines(self, text):
        return text if self.line_break is None else text.replace(self.line_break, "\n")

    def report(self, hypotheses, name):
        found = self._score([self._lines(text) for text in hypotheses], name)
        lines = "\n".join(map(str, found.values()))
        return lines, {name: dataclasses.asdict(one) for name, one in found.items()}

    def samples(self, hypotheses):
        hypotheses = [self._lines(text) for text in hypotheses]
        found = rouge_statistics(hypotheses, self.references, **self.settings)
        # a mean is a quotient of sums: of F, and of ones
        rows = {name: np.stack([f[:, 2], np.ones(self.n)], 1) for name, f in found.items()}
        return {name: of_sums(values, lambda s: s[0] / s[1]) for name, values in rows.items()}


class Labels(Measure):
    """Classes, one a line."""

    def __init__(self, references, settings):
        super().__init__(references, settings)
        if len(references) > 1:
            raise UserError("labels have one --ref: a place is of one class")
        self.truth = [label.strip() for label in references[0]]

    def samples(self, hypotheses):
        predicted = [label.strip() for label in hypotheses]
        labels = sorted({*self.truth, *predicted})
        counts = class_counts(predicted, self.truth, labels)  # (N, 3, L)

        return _averages(counts, lambda keep, c: counted(keep, c, **self.settings), labels)


class F1(Labels):
    def report(self, hypotheses, name):
        predicted = [label.strip() for label in hypotheses]
        found = classification(predicted, self.truth, **self.settings)
        confusion = confusion_matrix(predicted, self.truth)
        lines = f"{found.table()}\n{found}"
        if len(confusion.labels) <= MANY:
            lines += f"\nconfusion, a row for each true label:\n{confusion.table()}"
        told = dataclasses.asdict(found)
        told["confusion"] = {"labels": confusion.labels, "counts": confusion.counts.tolist()}
        return lines, told


class Accuracy(Labels):
    def _right(self, hypotheses):
        return np.array([a.strip() == b for a, b in zip(hypotheses, self.truth, strict=True)])

    def report(self, hypotheses, name):
        right = self._right(hypotheses)
        share = float(right.mean())
        line = f"accuracy {share:.4f} ({right.sum()} of {self.n})"
        return line, {"accuracy": share, "right": int(right.sum()), "n": self.n}

    def samples(self, hypotheses):
        rows = np.stack([self._right(hypotheses), np.ones(self.n)], 1)
        return {"accuracy": of_sums(rows, lambda s: s[0] / s[1])}


class Entities(Measure):
    def __init__(self, references, settings):
        self.columns = settings.pop("columns", False)
        if len(references) > 1:
            raise UserError("tags have one --ref: a place has one tag")
        self.truth = self._sequences(references[0])
        super().__init__([self.truth], settings)

    def _sequences(self, lines):
        if not self.columns:
            return [line.split() for line in lines]
        sequences: list[list[str]] = [[]]
        for line in lines:
            words = line.split()
            if words:
                sequences[-1].append(words[-1])
            elif sequences[-1]:
                sequences.append([])
        return sequences if sequences[-1] else sequences[:-1]

    def report(self, hypotheses, name):
        found = sequence_scores(self._sequences(hypotheses), self.truth, **self.settings)
        how = f"strict, {self.settings['scheme']}" if "scheme" in self.settings else "lenient"
        lines = f"{found.table()}\n{found} of entities ({how})"
        return lines, dataclasses.asdict(found) | {"mode": how}

    def samples(self, hypotheses):
        rest = {k: v for k, v in self.settings.items() if k == "zero_division"}
        reading = {k: v for k, v in self.settings.items() if k != "zero_division"}
        labels, counts = entity_counts(self._sequences(hypotheses), self.truth, **reading)

        return _averages(counts, lambda keep, c: counted_entities(keep, c, **rest), labels)


def _averages(counts, scores, labels):
    """The averages of F1 over any choice of the segments whose counts (N, 3, L) these are."""

    def f1(sums, average):
        here = sums.any(axis=0)  # a class that no sampled segment has is none of the sample's
        names = [label for label, there in zip(labels, here, strict=True) if there]
        return getattr(scores(names, sums[:, here]), average).f1

    return {
        f"F1 {average}": of_sums(counts, lambda sums, average=average: f1(sums, average))
        for average in ("micro", "macro", "weighted")
    }


METRICS = {
    "bleu": Bleu,
    "chrf": ChrF,
    "ter": Ter,
    "rouge": RougeScore,
    "accuracy": Accuracy,
    "f1": F1,
    "seqeval": Entities,
}


def _read_all(names):
    """The lines of the files, as many in each."""
    if names.count("-") > 1:
        raise UserError("standard input, -, can be read once only")
    found = [_lines(name) for name in names]
    for name, lines in zip(names[1:], found[1:], strict=True):
        if len(lines) != len(found[0]):
            raise UserError(f"{names[0]} has {len(found[0])} lines, but {name} has {len(lines)}")
    return found


def _lines(name):
    return [line.removesuffix("\r") for line in lines_of(whole_text(name))]


def _finite(value):
    """Without NaN, which JSON has no word for: None."""
    if isinstance(value, dict):
        return {str(k): _finite(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(v) for v in value]
    return None if isinstance(value, float) and value != value else value
