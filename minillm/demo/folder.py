"""The demo's folder: filled under another name, then put in the place of an earlier demo's."""

import contextlib
import os
import shutil
from pathlib import Path

from minillm.errors import UserError
from minillm.files import TEMPORARY, read_json

__all__ = ["MARK", "demo_folder"]

MARK = "demo.json"  # what tells a demo's folder from any other
FORMAT = "minillm-demo-1"


@contextlib.contextmanager
def demo_folder(out):
    """Yield a new folder beside `out`, which takes its name when the block ends well.

    An earlier demo's output stays as it is until then. After an error or Ctrl-C the new folder is
    removed.

    Raises
    ------
    UserError
        if `out` is something other than a demo's folder, or cannot be written.
    """
    out = Path(os.path.abspath(out))
    _check_replaceable(out)
    prefix = f"{TEMPORARY}{out.name}-"
    new = out.with_name(f"{prefix}{os.getpid()}")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(out.parent, prefix)
        new.mkdir()
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None
    try:
        yield new
        _check_replaceable(out)
        _swap(new, out)
    finally:
        shutil.rmtree(new, ignore_errors=True)


def _check_replaceable(out):
    """Refuse a folder with anything in it that is no demo's."""
    if not os.path.lexists(out):
        return
    if not out.is_dir() or out.is_symlink():
        raise UserError(f"{out} is no folder: name another with --out")
    if not any(out.iterdir()):
        return
    if not (out / MARK).exists() or read_json(out / MARK).get("format") != FORMAT:
        raise UserError(f"{out} holds something that is no demo's: name another with --out")


def _swap(new, out):
    old = new.with_name(new.name + "-old")
    try:
        if out.exists():
            os.replace(out, old)
        try:
            os.replace(new, out)
        except OSError:
            if old.exists():
                os.replace(old, out)
            raise
    except OSError as error:
        raise UserError(f"cannot write {out}: {error.strerror}") from None
    shutil.rmtree(old, ignore_errors=True)


def _remove_leftovers(parent, prefix):
    """Remove what demos that were killed have left; one that still runs keeps its folder."""
    for folder in parent.glob(f"{prefix}*"):
        owner = folder.name.removeprefix(prefix).removesuffix("-old")
        if not owner.isdecimal() or not folder.is_dir():
            continue
        try:
            os.kill(int(owner), 0)
        except ProcessLookupError:
            shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue
