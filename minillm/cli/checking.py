"""What `minillm gradcheck FILE` does once its command line is understood."""

import contextlib
import json
import sys

import minillm
from minillm.cli.inputs import prepare, read_file_name
from minillm.errors import UserError
from minillm.gradcheck import check_function, check_vjp
from minillm.gradcheck.student import StudentError, choose, find_pairs, guarded, opened

__all__ = ["check_file"]

CODES = {"pass": 0, "inconclusive": 3, "fail": 1}  # the worst last


def check_file(file, as_json, *, full, rtol, seed, **typed):
    """Check a FILE's pairs, print what came of them, and return the exit code."""
    if seed < 0:
        raise UserError(f"seed must be at least 0, got {seed}")
    if rtol is not None and not 0 < rtol < 1:
        raise UserError(f"rtol must lie between 0 and 1, got {rtol}")
    file, name = read_file_name(file)
    stdout, strictness = sys.stdout, {"full": full, "rtol": rtol, "seed": seed}
    # What the file prints must not mix with ours; the numpy backend is what our own files show.
    with contextlib.redirect_stdout(sys.stderr), opened(file) as module, minillm.backend("numpy"):
        one = None if name is None else [choose(module, file, name)]
        pairs = one or list(find_pairs(module, file).values())
        checks = prepare(file, pairs, seed=seed, **typed)
        width = max(len(check.name) for check in checks)
        for check in checks:
            check.flags = _flags(**strictness)
            _run(check, file, **strictness)
            if len(checks) > 1 and not as_json:
                with contextlib.suppress(BrokenPipeError):  # the exit code is still wanted
                    print(f"{check.name:<{width}}  {_summary(check)}", file=stdout, flush=True)
    worst = max((check.verdict for check in checks), key=list(CODES).index)
    with contextlib.suppress(BrokenPipeError):
        _print_all(checks, file, worst, seed, as_json)
    return CODES[worst]


def _print_all(checks, file, worst, seed, as_json):
    if as_json:
        document = {"file": file, "verdict": worst, "seed": seed, "pairs": []}
        document["pairs"] = [check.to_dict() for check in checks]
        print(json.dumps(document, indent=2, ensure_ascii=False))
    else:
        _print_reports(checks)


def _flags(full, rtol, seed):
    """The part of a command line that says how strictly to check."""
    words = ["--full"] * full
    words += [] if rtol is None else ["--rtol", repr(rtol)]
    return [*words, "--seed", str(seed)]


def _run(check, file, full, rtol, seed):
    """Check one pair; an exception in the file is that pair's failure."""
    forward, backward = (guarded(f, file) for f in (check.pair.forward, check.pair.backward))
    run = check_function if check.pair.vjp else check_vjp
    try:
        check.report = run(
            forward,
            backward,
            check.args,
            check.kwargs,
            names=check.names,
            seed=seed,
            scope="full" if full else "default",
            rtol=rtol,
            allow_zero=check.allow_zero,
        )
    except (StudentError, ValueError) as error:  # ValueError: forward returns no (out, cache), ...
        check.error = str(error)
    except MemoryError:
        raise UserError(f"{check.name}: not enough memory for these shapes") from None
    else:
        check.report.subject, check.report.replay = check.name, check.replay
        check.report.notes += check.notes


def _summary(check):
    """A verdict and its reason in a few words."""
    if check.report is None:
        return f"FAIL  {check.error}"
    if check.verdict == "pass":
        return "pass"
    leaves = [leaf for leaf in check.report.leaves if leaf.verdict == check.verdict]
    names = ", ".join(f"{x.name} ({x.reason})" if x.reason else x.name for x in leaves)
    if check.verdict == "inconclusive":
        return f"inconclusive  {names}"
    return f"FAIL  {names or check.report.contract[0].message}"


def _print_reports(checks):
    """Every report that is no pass, and how many there are of each; a single one in any case."""
    shown = [check for check in checks if len(checks) == 1 or check.verdict != "pass"]
    if len(checks) > 1:
        verdicts = [check.verdict for check in checks]
        words = {"pass": "passed", "fail": "failed", "inconclusive": "inconclusive"}
        counts = [f"{verdicts.count(v)} {word}" for v, word in words.items() if v in verdicts]
        print(f"{len(checks)} pairs: {', '.join(counts)}")
    for check in shown:
        print(("\n" if len(checks) > 1 else "") + str(check))
