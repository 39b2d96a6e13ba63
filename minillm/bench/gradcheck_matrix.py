"""Which wrong backwards which checker catches: the page docs/gradcheck-matrix.md.

`python -m minillm.bench.gradcheck_matrix [--out FILE] [--seeds N]`. The backwards are those of
`minillm.gradcheck.catalogue`, each checked at N points by every tool of `gradient_checkers`. A draw
at which a wrong backward is right, as its whole Jacobian shows, is left out for all tools alike.
"""

import argparse
import platform
import sys
from dataclasses import dataclass, field

import numpy as np
from tqdm import tqdm

import minillm
from minillm import ops
from minillm.bench.gradcheck_page import page
from minillm.bench.gradient_checkers import ours, plain, torch_gradcheck
from minillm.errors import UserError
from minillm.files import write_text
from minillm.gradcheck import check_vjp
from minillm.gradcheck.catalogue import Tools, load
from minillm.gradcheck.proof import is_right
from minillm.gradcheck.selftest import Pair, right_cases, wrong_cases
from minillm.ops._state import Registry

__all__ = ["Row", "main", "measure", "measure_sizes"]

SEEDS = 3
SIZES = ((4, 8), (8, 64), (32, 256))
TOOLS = {
    "ours": ours("default"),
    "ours, full": ours("full"),
    "torch fast": torch_gradcheck(fast=True),
    "torch slow": torch_gradcheck(fast=False),
    "ones": plain(ones=True),
    "random": plain(ones=False),
}
BY_SIZE = ("ours", "torch fast")  # whose cost does not grow with the number of elements


@dataclass
class Row:
    """What became of one backward: by tool, its verdicts and the forward evaluations they took.

    named: of those that our default mode caught, how many it named rightly.
    """

    op: str
    name: str
    note: str
    points: int = 0
    verdicts: dict[str, list[str]] = field(default_factory=dict)
    evaluations: dict[str, list[int]] = field(default_factory=dict)
    named: int = 0

    def count(self, tool, verdict="fail"):
        return self.verdicts.get(tool, []).count(verdict)

    def add(self, pair, seed):
        self.points += 1
        for tool, check in TOOLS.items():
            found = check(pair, seed)
            self.verdicts.setdefault(tool, []).append(found.verdict)
            self.evaluations.setdefault(tool, []).append(found.evaluations)


def pairs(op):
    return Registry.pair(op, "numpy")


def measure(entries=None, seeds=SEEDS, progress=iter):
    """(rows of wrong backwards, rows of right ones)."""
    entries = load() if entries is None else entries
    wrong = {f"{e.op}.{e.name}": Row(e.op, e.name, e.note) for e in entries}
    right = {e.op: Row(e.op, "the right one", "") for e in entries}
    with minillm.backend("numpy"):
        cases = [c for seed in range(seeds) for c in wrong_cases(ops, pairs, seed, entries)]
        cases += [c for seed in range(seeds) for c in right_cases(ops, pairs, seed, entries)]
        for case in progress(cases):
            row = (wrong if case.kind == "wrong" else right)[case.name]
            if case.kind == "wrong" and is_right(*case.pair):
                continue
            row.add(case.pair, case.seed)
            if case.kind == "wrong":
                report = check_vjp(*case.pair, seed=case.seed)
                said = report.diagnoses[0].cause if report.diagnoses else None
                row.named += said in case.causes
    return list(wrong.values()), list(right.values())


def measure_sizes(sizes=SIZES, seeds=20):
    """[(shape, {tool: how often it caught a layer norm without its normalised term})]."""
    entry = next(e for e in load() if (e.op, e.name) == ("layer_norm", "without_normalised_term"))
    forward, right = pairs("layer_norm")
    tools = Tools(ops, right)
    found = []
    for shape in sizes:
        caught = dict.fromkeys(BY_SIZE, 0)
        for seed in range(seeds):
            rng = np.random.default_rng(seed)
            x = 3 * rng.standard_normal(shape) + 1
            args = (x, *rng.standard_normal((2, shape[-1])))
            pair = Pair(forward, lambda d, saved: entry.backward(d, saved, tools), args, {})
            for tool in BY_SIZE:
                caught[tool] += TOOLS[tool](pair, seed).verdict == "fail"
        found.append((shape, caught))
    return found, seeds


def versions():
    import torch

    return (
        f"minillm {minillm.__version__}, PyTorch {torch.__version__}, NumPy {np.__version__}, "
        f"Python {platform.python_version()}"
    )


def main(argv=None):
    """Exit code 0: written; 2: the user's mistake."""
    parser = argparse.ArgumentParser(
        prog="python -m minillm.bench.gradcheck_matrix", description=__doc__.splitlines()[0]
    )
    parser.add_argument("--out", metavar="FILE", help="write the page there; default: print it")
    parser.add_argument("--seeds", type=int, default=SEEDS, metavar="N", help="points an entry")
    given = parser.parse_args(argv)
    if given.seeds < 1:
        parser.error(f"--seeds must be at least 1, got {given.seeds}")

    def progress(cases):
        return tqdm(cases, disable=None, leave=False, unit="backward")  # in a terminal only

    wrong, right = measure(seeds=given.seeds, progress=progress)
    text = page(wrong, right, measure_sizes(), list(TOOLS), given.seeds, versions())
    if given.out is None:
        print(text, end="")
        return 0
    try:
        write_text(given.out, text)
    except UserError as error:
        print(error, file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main())
