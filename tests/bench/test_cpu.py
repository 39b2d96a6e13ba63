import json

import numpy as np
import pytest

from minillm.bench import alternate, cpu, peers
from minillm.errors import UserError
from minillm.models import gpt
from minillm.tree import leaves

TINY = (11, 8, 2, 2, 8, 3)
NAMES = ("vocab_size", "block_size", "n_layer", "n_head", "n_embd", "batch")


@pytest.fixture
def tiny(monkeypatch):
    """The whole benchmark at sizes that take no time; the processes are real."""
    monkeypatch.setattr(cpu, "GPT_SIZES", [TINY, (11, 8, 1, 1, 8, 2), (11, 8, 1, 1, 8, 2)])
    monkeypatch.setattr(cpu, "GEMM_SIZE", 32)
    monkeypatch.setattr(cpu, "PROMPT", [1, 2])
    monkeypatch.setattr(cpu, "available_cores", lambda: 1)
    quick = lambda sides, rounds: alternate.alternate(sides, rounds, 0.001)  # noqa: E731
    monkeypatch.setattr(cpu, "alternate", quick)


def test_flops_are_those_of_the_matrices_and_half_the_attention():
    options = dict(zip(NAMES, TINY, strict=True))
    params = gpt.init(gpt.GPTConfig(*TINY[:-1]), np.random.default_rng(0))
    matrices = sum(a.size for name, a in leaves(params) if a.ndim == 2 and name != "wpe")
    tokens = TINY[1] * TINY[5]
    # each of T queries meets T / 2 keys, C multiply-adds for the logits and C for the mixing
    attention = TINY[2] * 2 * TINY[4] * TINY[1] / 2
    assert cpu.gpt_flops(**options) == 6 * tokens * (matrices + attention)


def test_the_peer_is_the_same_model():
    ours = gpt.init(gpt.GPTConfig(*TINY[:-1]), np.random.default_rng(0))
    theirs = peers.GPT(*TINY[:-1])
    sizes = sorted(a.size for _, a in leaves(ours))
    assert sizes == sorted(p.numel() for p in theirs.parameters())


def test_rows_have_both_times_and_their_ratio(tiny, tmp_path):
    lines = []
    path = tmp_path / "bench.json"
    result = cpu.run(path, match=f"{TINY} torch eager", rounds=5, report=lines.append)
    assert json.loads(path.read_text()) == result
    (row,) = result["rows"]
    assert row["peer"] == "torch eager"
    assert row["seconds"] > 0
    assert row["ratio"] == row["seconds"] / row["peer_seconds"]
    assert row["gemm_share"] == row["gflops"] / result["gemm_gflops"]["1"]
    assert sum("torch eager" in line for line in lines) == 1


def test_generation_is_compared_on_the_same_files(tiny):
    result = cpu.run(match=f"{TINY[:-1]} transf", rounds=5, report=lambda line: None)
    assert [row["peer"] for row in result["rows"]] == ["transformers generate"]


def test_a_peer_that_is_not_installed_is_left_out_and_named(tiny, monkeypatch):
    monkeypatch.setattr(cpu.importlib.util, "find_spec", lambda name: None)
    lines = []
    result = cpu.run(match="generation", rounds=5, report=lines.append)
    assert result["rows"] == []
    assert result["left_out"] == {"transformers generate": "transformers is not installed"}
    assert any("left out: transformers generate" in line for line in lines)


def test_sides_take_turns_and_the_best_round_counts(monkeypatch):
    calls = []

    class Stub:
        def __init__(self, side, threads, options, round_seconds):
            self.name, self.times = side, iter(options)

        def ready(self):
            calls.append(f"ready {self.name}")

        def round(self):
            calls.append(self.name)
            return next(self.times)

        def close(self):
            calls.append(f"close {self.name}")

    monkeypatch.setattr(alternate, "Side", Stub)
    best = alternate.alternate([("a", 1, [3.0, 1.0, 2.0]), ("b", 1, [5.0, 6.0, 4.0])], 3)
    assert best == [1.0, 4.0]
    assert calls == ["ready a", "ready b", *"ababab", "close a", "close b"]


@pytest.mark.parametrize(
    ("options", "message"), [({"match": "no such row"}, "no such row"), ({"rounds": 4}, "got 4")]
)
def test_mistakes_are_named(options, message):
    with pytest.raises(UserError, match=message):
        cpu.run(report=lambda line: None, **options)
