"""`minillm bench cpu`: training and generation against PyTorch and transformers on this machine.

Every row is a ratio, our time over the peer's, for the same work: the same sizes, float32, random
ids and targets (a model that predicts its targets perfectly fills its gradients with denormal
numbers, which slow some libraries many times over). See alternate.py for how it is timed.
"""

import dataclasses
import importlib.util
import json
import platform
import tempfile
from importlib.metadata import version
from pathlib import Path

import numpy as np

from minillm.bench.alternate import alternate
from minillm.cores import available_cores
from minillm.errors import UserError
from minillm.files import write_text
from minillm.models import gpt
from minillm.models.gpt_huggingface import save_huggingface

ROUNDS = 6
GEMM_SIZE = 2048
PROMPT = [1, 2, 3, 4, 5, 6, 7, 8]
# vocab_size, block_size, n_layer, n_head, n_embd, batch
GPT_SIZES = [
    (65, 64, 4, 4, 128, 12),
    (256, 128, 4, 4, 256, 16),
    (65, 256, 6, 6, 384, 8),
    (8192, 256, 4, 8, 256, 8),
]
LSTM_SIZES = {"vocab_size": 65, "block": 64, "n_hidden": 256, "n_layer": 2, "batch": 32}


@dataclasses.dataclass
class Work:
    """One comparison: what runs on each side, and the ratio that we want."""

    name: str
    peer: str
    needs: str  # the package without which there is no peer
    ours: str
    theirs: str
    options: dict
    must: float | None
    aim: float | None
    flops: float | None = None
    peer_options: dict = dataclasses.field(default_factory=dict)


def gpt_flops(vocab_size, block_size, n_layer, n_head, n_embd, batch):
    """The floating-point operations that a training step cannot do without.

    2 a multiply-add, once forward and twice backward, for each weight of a matrix and token; and
    for attention's two products, of which the causal mask leaves half.
    """
    tokens = batch * block_size
    weights = n_layer * 12 * n_embd**2 + vocab_size * n_embd
    attention = n_layer * 2 * n_embd * block_size / 2  # multiply-adds a token
    return 6 * tokens * (weights + attention)


def lstm_flops(vocab_size, block, n_hidden, n_layer, batch):
    """As gpt_flops: eight K x K matrices a layer, and the head."""
    return 6 * batch * block * (n_layer * 8 * n_hidden**2 + vocab_size * n_hidden)


def works(folder):
    """All comparisons; `folder` is where the generated models lie."""
    names = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "batch")
    for sizes in GPT_SIZES:
        shape = dict(zip(names, sizes, strict=True))
        label = f"GPT training step {sizes}"
        sides = ("ours:gpt_step", "peers:gpt_step", shape)
        flops = gpt_flops(**shape)
        yield Work(label, "torch eager", "torch", *sides, 1.0, 0.9, flops)
        compiled = {"compiled": True}
        yield Work(label, "torch.compile", "torch", *sides, None, 1.0, flops, compiled)
    label = "LSTM training step (65, 64, 256, 2, 32)"
    sides = ("ours:lstm_step", "peers:lstm_step", LSTM_SIZES)
    yield Work(label, "torch.nn.LSTM", "torch", *sides, 1.5, 1.0, lstm_flops(**LSTM_SIZES))
    for sizes in (GPT_SIZES[0], GPT_SIZES[2]):
        config = gpt.GPTConfig(*sizes[:-1])
        path = Path(folder) / f"gpt-{sizes[4]}"
        save_huggingface(path, gpt.init(config, np.random.default_rng(0)), config)
        new_tokens = config.block_size - len(PROMPT)
        options: dict = {"folder": str(path), "prompt": PROMPT, "new_tokens": new_tokens}
        sides = ("ours:generate", "peers:generate", options)
        label = f"generation, a token, {sizes[:-1]}"
        yield Work(label, "transformers generate", "transformers", *sides, 0.2, 0.1)


def run(json_path=None, *, match="", rounds=ROUNDS, report=print):
    """Measure every row whose work and peer contain `match`, print a table, and write JSON.

    Parameters
    ----------
    json_path : path or None
    match : str
    rounds : int, at least 5
    report : function of a line, told of every row as it is done

    Returns
    -------
    result : dict, {"machine", "versions", "gemm_gflops", "rows", "left_out"}; a row has work, peer,
        threads, ratio, seconds, peer_seconds, must, aim and, for training, gemm_share

    Raises
    ------
    UserError
        where nothing matches, or rounds is below 5.
    """
    if rounds < 5:
        raise UserError(f"rounds must be at least 5, got {rounds}")
    cores = available_cores()
    counts = [1] if cores == 1 else [1, cores]
    rows, left_out = [], {}
    with tempfile.TemporaryDirectory() as folder:
        chosen = [w for w in works(folder) if match.lower() in f"{w.name} {w.peer}".lower()]
        if not chosen:
            raise UserError(f"no row of the benchmark contains {match!r}")
        gemm = {n: gemm_rate(n, rounds) for n in counts}
        report(f"matrix product, {GEMM_SIZE} cubed: " + rates(gemm))
        report(HEADER)
        for work in chosen:
            if importlib.util.find_spec(work.needs) is None:
                left_out[work.peer] = f"{work.needs} is not installed"
                continue
            for threads in counts:
                row = measure(work, threads, gemm[threads], rounds)
                rows.append(row)
                report(line(row))
    for peer, why in left_out.items():
        report(f"left out: {peer} ({why})")
    result = {
        "machine": {"processor": processor(), "cores": cores, "system": platform.platform()},
        "versions": {
            name: version(name)
            for name in ("numpy", "torch", "transformers")
            if importlib.util.find_spec(name)
        },
        "gemm_gflops": {str(n): rate for n, rate in gemm.items()},
        "rows": rows,
        "left_out": left_out,
    }
    if json_path is not None:
        write_text(Path(json_path), json.dumps(result, indent=1) + "\n")
    return result


def gemm_rate(threads, rounds):
    """GFLOP/s of one large float32 product: what this machine's BLAS can do at best."""
    (seconds,) = alternate([("ours:gemm", threads, {"size": GEMM_SIZE})], rounds)
    return 2 * GEMM_SIZE**3 / seconds / 1e9


def measure(work, threads, gemm_gflops, rounds):
    sides = [
        (work.ours, threads, work.options),
        (work.theirs, threads, work.options | work.peer_options),
    ]
    seconds, peer_seconds = alternate(sides, rounds)
    row = {
        "work": work.name,
        "peer": work.peer,
        "threads": threads,
        "ratio": seconds / peer_seconds,
        "seconds": seconds,
        "peer_seconds": peer_seconds,
        "must": work.must,
        "aim": work.aim,
    }
    if work.flops is not None:
        row["gflops"] = work.flops / seconds / 1e9
        row["gemm_share"] = row["gflops"] / gemm_gflops
    return row


HEADER = (
    f"{'work':<46} {'peer':<22} {'threads':>7} {'ours':>10} {'peer':>10} {'ratio':>6} "
    f"{'must':>5} {'aim':>5} {'of GEMM':>8}"
)


def line(row):
    def number(value):
        return "" if value is None else f"{value:.1f}"

    share = f"{row['gemm_share']:.0%}" if "gemm_share" in row else ""
    return (
        f"{row['work']:<46} {row['peer']:<22} {row['threads']:>7} {row['seconds'] * 1e3:>7.2f} ms "
        f"{row['peer_seconds'] * 1e3:>7.2f} ms {row['ratio']:>6.2f} {number(row['must']):>5} "
        f"{number(row['aim']):>5} {share:>8}"
    )


def rates(gemm):
    return ", ".join(f"{rate:.0f} GFLOP/s on {n} threads" for n, rate in gemm.items())


def processor():
    """The processor's name, where the system tells it."""
    try:
        text = Path("/proc/cpuinfo").read_text()
    except OSError:
        return platform.processor()
    return next((x.split(":")[1].strip() for x in text.splitlines() if "model name" in x), "")
