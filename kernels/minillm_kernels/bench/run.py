"""Checks, times and writes every row of the table."""

import contextlib
import datetime
import importlib
import json
import platform
import time
from pathlib import Path

import torch

from minillm.errors import UserError
from minillm.files import write_text
from minillm_kernels.bench.clock import (
    copy_rate,
    gemm_rate,
    prepare,
    time_sides,
    working_stream,
)
from minillm_kernels.bench.row import Place

__all__ = ["ROOMS", "GpuLost", "all_rows", "check_gpu", "run", "select"]

ROOMS = ("products", "attention", "memory_bound", "head", "ladders", "training")
FORMAT = 1
# dense bf16 with sums in fp32, as NVIDIA's data sheets give it
PEAKS = {"H100 80GB HBM3": 989.4e12, "H200": 989.4e12, "A100": 312e12}


class GpuLost(RuntimeError):
    """A kernel's fault has made the GPU unusable for the rest of this process."""


def all_rows():
    """Every row, in the order of the table."""
    return [
        row
        for room in ROOMS
        for row in importlib.import_module(f"minillm_kernels.bench.{room}").ROWS
    ]


def select(match, keys=None):
    """The rows whose key or work contains `match`, of those with these keys where given.

    Raises
    ------
    UserError
        when none does.
    """
    rows = [row for row in all_rows() if match.lower() in f"{row.key} {row.work}".lower()]
    unknown = sorted(set(keys or ()) - {row.key for row in all_rows()})
    if unknown:
        known = ", ".join(row.key for row in all_rows())
        raise UserError(f"there is no row {unknown[0]!r}; there are: {known}")
    rows = [row for row in rows if keys is None or row.key in keys]
    if not rows:
        known = ", ".join(row.key for row in all_rows())
        raise UserError(f"no row matches {match!r}; there are: {known}")
    return rows


def run(path, *, match="", keys=None, rehearse=False, budget=570.0, report=print):
    """Measure the rows and write them to a JSON file, which is whole after every row.

    Parameters
    ----------
    path : where to write, or None
    match : str, only rows whose key or work contains it
    keys : only rows with these keys, or None for all
    rehearse : bool; on a CPU, small and untimed: does every contestant run, and do ours agree?
    budget : float, seconds after which no further row is begun
    report : function of a line of text

    Returns
    -------
    failed : list of the keys of the rows in which ours gave another result than the peer, or failed

    Raises
    ------
    GpuLost
        after a row whose kernels made the GPU unusable for this process; what it did is written.
    """
    rows, began = select(match, keys), time.perf_counter()
    if not rehearse:
        check_gpu()
    failed = []
    with contextlib.nullcontext() if rehearse else working_stream():
        place = Place("cpu") if rehearse else _gpu(report)
        results = {"format": FORMAT, **_facts(place), "rows": {}}
        for number, row in enumerate(rows, start=1):
            if time.perf_counter() - began > budget:
                left = ", ".join(left.key for left in rows[number - 1 :])
                report(f"{budget:.0f} s are over: not reached: {left}")
                break
            report(f"[{number}/{len(rows)}] {row.work}")
            cases = []
            try:
                for case in row.cases(place):
                    cases.append(_run_case(row, case, place, report))
            except Exception as error:  # what fails in a row's making must not cost the other rows
                report(f"  {_first_line(error)}")
                failed.append(row.key)
            results["rows"][row.key] = {"work": row.work, "unit": row.unit, "cases": cases}
            if any(case["wrong"] for case in cases) and row.key not in failed:
                failed.append(row.key)
            if path is not None:
                write_text(Path(path), json.dumps(results, indent=1) + "\n")
            if place.real:
                _check_still_there(row)
    report(f"{time.perf_counter() - began:.0f} s")
    return failed


def check_gpu():
    """Raise a UserError where PyTorch has no GPU."""
    if not torch.cuda.is_available():
        raise UserError(
            "no GPU that PyTorch can use: the table is measured on one. "
            "--rehearse runs every row on the CPU, small and untimed"
        )


def _check_still_there(row):
    """After an illegal access every later call to CUDA fails too."""
    try:
        torch.cuda.synchronize()
        torch.cuda.empty_cache()
    except RuntimeError as error:
        raise GpuLost(f"{row.key}: {_first_line(error)}") from None


def _gpu(report):
    place = Place("cuda", copy_rate(), gemm_rate())
    report(
        f"copy {place.copy_rate / 1e9:.0f} GB/s, bf16 product {place.gemm_rate / 1e12:.0f} TFLOP/s"
    )
    return place


def _facts(place):
    """What a figure depends on: the device and the versions."""
    facts = {
        "date": datetime.datetime.now(datetime.UTC).date().isoformat(),
        "rehearsal": not place.real,
        "python": platform.python_version(),
        "torch": torch.__version__,
        "triton": importlib.import_module("triton").__version__,
    }
    if place.real:
        properties = torch.cuda.get_device_properties(0)
        cupy = importlib.import_module("cupy")
        facts |= {
            "device": properties.name,
            "compute_capability": f"{properties.major}.{properties.minor}",
            "cupy": cupy.__version__,
            "cuda": torch.version.cuda,
            "cudnn": torch.backends.cudnn.version(),
            "driver": cupy.cuda.runtime.driverGetVersion(),
            "copy_bytes_per_second": place.copy_rate,
            "gemm_flop_per_second": place.gemm_rate,
            "peak_flop_per_second": next(
                (r for n, r in PEAKS.items() if n in properties.name), None
            ),
        }
    return facts


def _run_case(row, case, place, report):
    """One case: ours against the peers' results, then the times."""
    result = {
        "name": case.name,
        "amount": case.amount,
        "flop": case.flop,
        "seconds": {},
        "failed": {},
        "wrong": {},
    }
    result |= {"ours": list(case.ours), "peers": list(case.peers)}
    sides, expected = {}, None
    for name, function in (case.peers | case.ours).items():
        try:
            out = function(*case.inputs[0])
            if name in case.peers:
                expected = out if expected is None else expected
            elif case.tolerance is not None and expected is not None:
                off = _difference(out, expected)
                if not off <= case.tolerance:
                    result["wrong"][name] = off
            if place.real:
                sides[name] = prepare(function, case.inputs, graph=case.graph)
        except Exception as error:  # a contestant that cannot run here is a line, not the end
            result["failed"][name] = _first_line(error)
            if name in case.ours:
                result["wrong"][name] = None
    if place.real and sides:
        result["seconds"] = time_sides(sides)
    report(_line(row, case, result))
    return result


def _first_line(error):
    return f"{type(error).__name__}: {error}".splitlines()[0][:300]


def _line(row, case, result):
    parts = []
    for name in (*case.ours, *case.peers):
        if name in result["failed"]:
            parts.append(f"{name} failed ({result['failed'][name]})")
        elif name in result["seconds"]:
            seconds = result["seconds"][name]["median"]
            scale = {"TFLOP/s": 1e12, "GB/s": 1e9}.get(row.unit, 1)
            parts.append(
                f"{name} {seconds * 1e3:.3f} ms, {case.amount / seconds / scale:.4g} {row.unit}"
            )
        else:
            parts.append(f"{name} ran")
        if result["wrong"].get(name) is not None:
            parts[-1] += f", WRONG: off by {result['wrong'][name]:.2g}"
    return f"  {case.name}: " + "; ".join(parts)


def _difference(ours, peer):
    """The largest ||ours - peer|| / ||peer|| over a result's tensors; inf for another shape."""
    ours, peer = (x if isinstance(x, list | tuple) else (x,) for x in (ours, peer))
    worst = 0.0
    for a, b in zip(ours, peer, strict=True):
        if b is None:
            continue
        if a.shape != b.shape:
            return float("inf")
        norm = torch.linalg.vector_norm(b.double())
        off = torch.linalg.vector_norm(a.double() - b.double()) / norm.clamp_min(1e-300)
        worst = max(worst, float(off) if torch.isfinite(off) else float("inf"))
    return worst
