"""The benchmark without a GPU: rows agree with their peers, the table says what was measured."""

import copy
import json
import shutil

import pytest

from minillm.cli import run as run_command
from minillm.errors import UserError
from minillm_kernels.bench import run, table
from minillm_kernels.bench.row import Case, Place
from minillm_kernels.cli import cli
from minillm_kernels.cuda.ladder import LADDERS


def command(*args):
    return run_command([str(a) for a in args], cli, "minillm_kernels")


@pytest.mark.parametrize("row", run.all_rows(), ids=lambda row: row.key)
def test_every_row_runs_and_agrees_with_its_peers(row):
    place, said = Place("cpu"), []
    for case in row.cases(place):
        result = run._run_case(row, case, place, said.append)
        assert not result["failed"], said
        assert not result["wrong"], said
        assert result["seconds"] == {}  # nothing is timed where a CPU plays the GPU
        assert case.ours
        assert case.peers
        known = {"peer", "copy", "peak", *case.ours, *row.rungs}
        known |= {f"peer {name}" for name in ("flash", *case.peers)}  # flash: on a GPU alone
        assert known >= (row.must | row.aim).keys()


def test_a_wrong_result_and_a_failure_are_told():
    import torch

    def broken():
        raise RuntimeError("too many registers\nand more")

    x = torch.ones(3)
    case = Case("3", [()], {"ours": lambda: x * 1.5, "other": broken}, {"peer": lambda: x}, 1.0)
    said = []
    result = run._run_case(run.all_rows()[0], case, Place("cpu"), said.append)
    assert result["wrong"]["ours"] == pytest.approx(0.5)
    assert result["failed"]["other"] == "RuntimeError: too many registers"
    assert "WRONG: off by 0.5" in said[0]


def case_of(name, seconds, *, amount=1.0, ours=("triton",), peers=("cuBLAS", "cuBLASLt"), wrong=()):
    return {
        "name": name,
        "amount": amount,
        "flop": None,
        "ours": list(ours),
        "peers": list(peers),
        "seconds": {n: {"median": s, "least": s, "most": s} for n, s in seconds.items()},
        "failed": {},
        "wrong": dict.fromkeys(wrong, 0.5),
    }


MEASURED = {
    "format": run.FORMAT,
    "date": "2026-01-02",
    "rehearsal": False,
    "device": "a GPU",
    "torch": "2",
    "triton": "3",
    "cuda": "13",
    "cudnn": 9,
    "copy_bytes_per_second": 2e12,
    "gemm_flop_per_second": 7e14,
    "peak_flop_per_second": 1e15,
    "rows": {
        "matmul": {
            "work": "matmul, bf16",
            "unit": "TFLOP/s",
            "cases": [
                case_of("4096^3", {"triton": 2.0, "cuBLAS": 1.0, "cuBLASLt": 4.0}),
                case_of("8192^3", {"triton": 1.0, "cuBLAS": 8.0, "cuBLASLt": 4.0}),
            ],
        },
        "gelu": {
            "work": "GELU, bf16",
            "unit": "GB/s",
            "cases": [
                case_of("a", {"triton": 2.0, "torch": 5.0}, amount=3e12, peers=("torch",)),
            ],
        },
    },
}


def test_ratios_are_of_the_best_peer_and_averaged_geometrically():
    cases = MEASURED["rows"]["matmul"]["cases"]
    assert table.measure("peer", cases, MEASURED) == pytest.approx((1 / 2 * 4 / 1) ** 0.5)
    assert table.measure("peer cuBLAS", cases, MEASURED) == pytest.approx((1 / 2 * 8) ** 0.5)
    assert table.measure("copy", MEASURED["rows"]["gelu"]["cases"], MEASURED) == pytest.approx(0.75)


def test_what_was_not_timed_or_is_wrong_gives_no_figure():
    untimed = [case_of("4096^3", {"cuBLAS": 1.0})]
    wrong = [case_of("4096^3", {"triton": 1.0, "cuBLAS": 1.0}, wrong=("triton",))]
    assert table.measure("peer", untimed, MEASURED) is None
    assert table.measure("peer", wrong, MEASURED) is None
    results = copy.deepcopy(MEASURED)
    results["rows"]["matmul"]["cases"] = wrong
    assert "| matmul, bf16 | the best peer | 0.90 | 1.00 | not yet measured |" in table.page(
        [results]
    )


def test_the_page_holds_measured_figures_and_no_others():
    page = table.page([MEASURED])
    assert "| matmul, bf16 | the best peer | 0.90 | 1.00 | 1.41 | a GPU |" in page
    assert "| GELU, bf16 | copy bandwidth | 0.85 | 0.95 | **0.75** | a GPU |" in page  # below must
    assert "triton: 1000.000 ms, 1e-12 TFLOP/s" in page
    assert "| layer norm, bf16 | copy bandwidth | 0.85 | 0.95 | not yet measured |  |" in page


def test_a_newer_result_stands_for_its_own_rows_alone():
    newer = copy.deepcopy(MEASURED) | {"date": "2026-03-04", "device": "another"}
    del newer["rows"]["gelu"]
    found = table.newest([MEASURED, newer])
    assert found["matmul"][1]["device"] == "another"
    assert found["gelu"][1]["device"] == "a GPU"


def test_a_rungs_share_is_written_into_its_header(tmp_path, monkeypatch):
    rung = LADDERS.find("matmul", 2)
    mine = tmp_path / rung.path.name
    shutil.copy(rung.path, mine)
    results = copy.deepcopy(MEASURED)
    seconds = {"02_coalesced": 8.0, "cuBLAS": 0.96}
    case = case_of("4096^3", seconds, ours=("02_coalesced",), peers=("cuBLAS",))
    results["rows"] = {"ladder_matmul": {"work": "", "unit": "TFLOP/s", "cases": [case]}}
    moved = type(rung)(mine, rung.kernels)
    monkeypatch.setattr(LADDERS, "find", lambda ladder, name: moved)
    before = mine.read_text()
    table.write([results], tmp_path / "page.md")
    lines = set(mine.read_text().splitlines()) - set(before.splitlines())
    assert lines == {"// Share of cuBLAS fp32 at 4096^3 on an H100: 12 % (a GPU)"}
    assert (
        "| CUDA C matmul, fp32, 4096^3 | 02_coalesced | 12 % | 0.12 |"
        in (tmp_path / "page.md").read_text()
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (None, "no such file"),
        ("{", "cannot be read as results"),
        ("[]", "holds no results of the format"),
        (json.dumps(MEASURED | {"rehearsal": True}), "was rehearsed on a CPU"),
    ],
)
def test_results_that_are_none_are_refused(text, message, tmp_path):
    path = tmp_path / "r.json"
    if text is not None:
        path.write_text(text)
    with pytest.raises(UserError, match=message):
        table.read_results([path])


def test_the_commands(tmp_path, capsys, monkeypatch):
    out = tmp_path / "r.json"
    assert command("bench", "--rehearse", "--match", "matmul, bf16", "--json", out) == 0
    assert json.loads(out.read_text())["rehearsal"]
    assert command("table", out, "--out", tmp_path / "page.md") == 2
    assert "was rehearsed" in capsys.readouterr().err
    assert command("bench", "--rehearse", "--match", "quantum") == 2
    assert "no row matches 'quantum'; there are: matmul, " in capsys.readouterr().err
    assert command("bench", "--rehearse", "--rows", "gelu,bogus") == 2
    assert "there is no row 'bogus'; there are: matmul, " in capsys.readouterr().err
    assert command("bench") == 2
    assert "unset TRITON_INTERPRET and MINILLM_EMULATE" in capsys.readouterr().err
    assert command("compile") == 2
    assert "unset TRITON_INTERPRET" in capsys.readouterr().err
    monkeypatch.delenv("TRITON_INTERPRET")
    monkeypatch.delenv("MINILLM_EMULATE")
    assert command("bench", "--match", "matmul") == 2
    assert "no GPU that PyTorch can use" in capsys.readouterr().err
    assert command("bench", "--rehearse") == 2
    assert "needs TRITON_INTERPRET=1" in capsys.readouterr().err


def test_the_committed_page_is_that_of_the_committed_results():
    root = table.RESULTS.parent.parent.parent
    results = table.read_results(sorted(table.RESULTS.glob("*.json")))
    assert (root / "docs" / "kernels-results.md").read_text() == table.page(results)


def test_a_step_with_the_vendors_products_is_the_same_step():
    import numpy as np

    from minillm_kernels.bench.training import OurStep, _config

    place = Place("cpu")
    config = _config(place)
    ids, targets = (place.integers(config.vocab_size, 2, config.block_size) for _ in range(2))
    steps = [OurStep(place, config, ids, targets, products=p) for p in ("triton", "cublas")]
    losses = []
    for step in steps:
        step()
        step()  # after an update, so that gradients have counted
        losses.append(float(step.loss))
    # products are rounded to bfloat16's 8 bits at other places; the loss is near log(70)
    assert losses[1] == pytest.approx(losses[0], rel=2**-8)
    assert losses[0] < np.log(config.vocab_size) + 0.5
