"""`minillm bench classical`: counting, tokenizing and scoring beside the programs that do it today.

Every row says how many times faster than the peer we are at the same work, above 1 if we are, and
the most memory that each side held while it worked. See alternate.py for how it is timed: processes
of their own that take turns, the best of several rounds. Peers that take many seconds have fewer
rounds, and no warm-up. The texts are Python's own: its help topics and its standard library's
source, as much of it as a row says.
"""

import dataclasses
import importlib.util
import json
import os
import platform
import shutil
from importlib.metadata import version
from pathlib import Path

from minillm.bench.alternate import alternate_with_peaks
from minillm.bench.cpu import processor
from minillm.cores import available_cores
from minillm.errors import UserError
from minillm.files import write_text

__all__ = ["Row", "find_lmplz", "rows", "run"]

ROUNDS = 5
PEERS = ("nltk", "kenlm", "tokenizers", "tiktoken", "rouge_score", "sacrebleu")


@dataclasses.dataclass(frozen=True)
class Row:
    """One comparison.

    Attributes
    ----------
    work, peer : str
    needs : str, the package without which there is no peer, or "lmplz"
    ours, theirs : str, the sides, "module:function"
    options, peer_options : dict, of both sides, and of the peer's besides
    must, aim : float or None, how many times faster we must and want to be
    threads, peer_threads : int, of each side
    rounds : int or None, fewer than asked for, where a round takes many seconds
    warm_up : int or None, calls before the first round
    """

    work: str
    peer: str
    needs: str
    ours: str
    theirs: str
    must: float | None
    aim: float | None
    options: dict = dataclasses.field(default_factory=dict)
    peer_options: dict = dataclasses.field(default_factory=dict)
    threads: int = 1
    peer_threads: int = 1
    rounds: int | None = None
    warm_up: int | None = None


def find_lmplz(named=None):
    """The path of KenLM's lmplz: as named, or in the folder KENLM_BIN, or on the PATH; or None.

    Raises
    ------
    UserError
        if the one named is no program.
    """
    if named is not None:
        found = shutil.which(named)
        if found is None:
            raise UserError(f"{named}: no program of this name")
        return os.path.abspath(found)
    folder = os.environ.get("KENLM_BIN")
    return (shutil.which("lmplz", path=folder) if folder else None) or shutil.which("lmplz")


def run(json_path=None, *, match="", rounds=ROUNDS, lmplz=None, report=print):
    """Measure every row whose work and peer contain `match`, print a table, and write JSON.

    Parameters
    ----------
    json_path : path or None
    match : str
    rounds : int, at least 1; slow rows have fewer
    lmplz : path of KenLM's program, see find_lmplz
    report : function of a line, told of every row as it is done

    Returns
    -------
    result : dict, {"machine", "versions", "rows", "left_out"}; a row has work, peer, times_faster,
        seconds, peer_seconds, must, aim, threads, peer_threads, rounds, peak_bytes, peer_peak_bytes

    Raises
    ------
    UserError
        where nothing matches, rounds is below 1, or `lmplz` is no program.
    """
    if rounds < 1:
        raise UserError(f"rounds must be at least 1, got {rounds}")
    program = find_lmplz(lmplz)
    chosen = [r for r in rows(program) if match.lower() in f"{r.work} {r.peer}".lower()]
    if not chosen:
        raise UserError(f"no row of the benchmark contains {match!r}")
    done, left_out = [], {}
    if not all(_missing(row.needs, program) for row in chosen):
        report(HEADER)
    for row in chosen:
        missing = _missing(row.needs, program)
        if missing:
            left_out[row.peer] = missing
            continue
        done.append(measure(row, rounds))
        report(line(done[-1]))
    for peer, why in left_out.items():
        report(f"left out: {peer} ({why})")
    cores = available_cores()
    result = {
        "machine": {"processor": processor(), "cores": cores, "system": platform.platform()},
        "versions": {
            name: version(name.replace("_", "-"))
            for name in ("numpy", *PEERS)
            if importlib.util.find_spec(name)
        },
        "rows": done,
        "left_out": left_out,
    }
    if json_path is not None:
        write_text(Path(json_path), json.dumps(result, indent=1) + "\n")
    return result


def measure(row, rounds):
    """A row's numbers, as `run` gives them."""
    rounds = rounds if row.rounds is None else min(rounds, row.rounds)
    sides = [
        (row.ours, row.threads, row.options),
        (row.theirs, row.peer_threads, row.options | row.peer_options),
    ]
    seconds, peaks = alternate_with_peaks(sides, rounds, warm_up=row.warm_up)
    return {
        "work": row.work,
        "peer": row.peer,
        "times_faster": seconds[1] / seconds[0],
        "seconds": seconds[0],
        "peer_seconds": seconds[1],
        "must": row.must,
        "aim": row.aim,
        "threads": row.threads,
        "peer_threads": row.peer_threads,
        "rounds": rounds,
        "peak_bytes": peaks[0],
        "peer_peak_bytes": peaks[1],
    }


def _missing(needs, lmplz):
    """Why there is no peer; None where there is one."""
    if needs == "lmplz":
        return None if lmplz else "lmplz is not on the PATH, in KENLM_BIN or named by --lmplz"
    if importlib.util.find_spec(needs):
        return None
    extra = "bench" if needs == "kenlm" else "test"  # as pyproject.toml has them
    return f"{needs} is not installed; minillm[{extra}] brings it"


HEADER = (
    f"{'work':<51} {'peer':<29} {'ours':>10} {'peer':>10} {'faster':>8} {'must':>6} {'aim':>6} "
    f"{'memory':>9} {'peer':>9}"
)


def line(row):
    """One row of the table."""

    def number(value):
        return "" if value is None else f"{value:g}"

    return (
        f"{row['work']:<51} {row['peer']:<29} {_time(row['seconds']):>10} "
        f"{_time(row['peer_seconds']):>10} {row['times_faster']:>6.2f} x {number(row['must']):>6} "
        f"{number(row['aim']):>6} {_size(row['peak_bytes']):>9} {_size(row['peer_peak_bytes']):>9}"
    )


def _time(seconds):
    for unit, size in (("s", 1.0), ("ms", 1e-3), ("us", 1e-6)):
        if seconds >= size:
            return f"{seconds / size:.2f} {unit}"
    return f"{seconds * 1e9:.1f} ns"


def _size(n_bytes):
    return "" if n_bytes is None else f"{n_bytes / 2**20:,.0f} MiB"


def rows(lmplz=None):
    """All comparisons; `lmplz` is where KenLM's program lies, if anywhere."""
    return [*ngram_rows(lmplz), *bpe_training_rows(), *bpe_encoding_rows(), *metric_rows()]


def ngram_rows(lmplz):
    """Ours on all cores; NLTK and kenlm's full_scores have one, lmplz takes what it wants."""
    ours, theirs = "classical_ours_ngram", "classical_peers_ngram"
    cores = available_cores()
    for order, nltk_must, nltk_aim in ((3, 80, 120), (5, 120, 200)):
        yield Row(
            f"train modified KN, order {order}, 1 M tokens",
            "NLTK KneserNeyInterpolated",
            "nltk",
            f"{ours}:ngram_train",
            f"{theirs}:nltk_train",
            nltk_must,
            nltk_aim,
            {"order": order, "tokens": 1_000_000},
            threads=cores,
            rounds=2,  # of a minute each, for NLTK
            warm_up=0,
        )
    # each with the memory that lmplz is fastest with, of 1, 2, 4 GB and what it takes by itself
    targets: list[tuple[int, float, float, str]] = [(3, 1, 1.5, "2G"), (5, 1.5, 2, "4G")]
    for order, must, aim, memory in targets:
        for output in ("arpa", "intermediate"):
            yield Row(
                f"train modified KN, order {order}, 6.7 M tokens",
                "KenLM lmplz" if output == "arpa" else "KenLM lmplz --intermediate",
                "lmplz",
                f"{ours}:ngram_train_file",
                f"{theirs}:lmplz_train",
                must if output == "arpa" else None,
                aim if output == "arpa" else None,
                {"order": order, "tokens": 6_700_000},
                {"lmplz": lmplz, "output": output, "memory": memory},
                threads=cores,
                peer_threads=cores,
                warm_up=0,
            )
    for order in (3, 5):
        yield Row(
            f"score words, order {order}, a number",
            "kenlm full_scores",
            "kenlm",
            f"{ours}:ngram_score",
            f"{theirs}:kenlm_score",
            1.5,
            2,
            {"order": order, "tokens": 1_000_000},
        )


def bpe_training_rows():
    ours, theirs = "classical_ours_bpe_train:bpe_train", "classical_peers_bpe_train:bpe_train"
    cores = min(2, available_cores())
    yield Row(
        "BPE training, 30 MB, 8000 merges",
        f"tokenizers, {cores} threads",
        "tokenizers",
        ours,
        theirs,
        1.5,
        3,
        {"megabytes": 30, "n_merges": 8000},
        threads=cores,
        peer_threads=cores,
        warm_up=0,
    )


def bpe_encoding_rows():
    ours, theirs = "classical_ours_bpe_encode", "classical_peers_bpe_encode"

    def row(work, peer, needs, sides, must, aim, **options):
        options = {"megabytes": 4, "n_merges": 8000, "pattern": "gpt2"} | options
        mine, other = sides
        return Row(
            f"BPE encoding, {work}, a MB",
            peer,
            needs,
            f"{ours}:{mine}",
            f"{theirs}:{other}",
            must,
            aim,
            options,
        )

    long, sides = "100 KB documents, warm", ("warm", "tiktoken_warm")
    yield row(long, "tiktoken", "tiktoken", sides, 2.5, 4, size=100_000)
    cl100k = {"size": 100_000, "pattern": "cl100k"}
    yield row(f"{long}, cl100k", "tiktoken", "tiktoken", sides, 2.5, 4, **cl100k)
    sides = ("warm", "hugging_face")
    yield row(long, "tokenizers", "tokenizers", sides, 15, 15, size=100_000)
    sides = ("cold", "tiktoken_cold")
    yield row("cold, 30 MB", "tiktoken", "tiktoken", sides, 0.6, 1.2, megabytes=30)
    sides = ("warm", "tiktoken_warm")
    yield row("1 KB strings", "tiktoken", "tiktoken", sides, 0.4, 0.6, size=1000)
    yield row("100 byte strings", "tiktoken", "tiktoken", sides, 0.4, 0.6, size=100)


def metric_rows():
    types = ["rouge1", "rouge2", "rougeL"]
    sides = "classical_ours_metrics", "classical_peers_metrics"

    def row(work, peer, needs, name, must, aim, **options):
        ours, theirs = (f"{side}:{name}" for side in sides)
        return Row(f"{work}, 1000 pairs", peer, needs, ours, theirs, must, aim, options)

    yield row("ROUGE-1, 2, L", "rouge_score", "rouge_score", "rouge", 2, 5, types=types)
    types = [*types, "rougeLsum"]
    yield row("ROUGE-1, 2, L, Lsum", "rouge_score", "rouge_score", "rouge", 2, 5, types=types)
    yield row("BLEU", "sacrebleu", "sacrebleu", "bleu", 1, 5)
    yield row("BLEU", "sacrebleu, lines seen before", "sacrebleu", "bleu", None, None, cached=True)
    yield row("chrF", "sacrebleu", "sacrebleu", "chrf", None, None)
    yield row("TER", "sacrebleu", "sacrebleu", "ter", None, None)
