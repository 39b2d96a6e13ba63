"""Writing files so that none is ever half written, and reading them with clear errors.

The bytes go to a temporary name in the same folder, are forced to the disk, and only then take the
real name with `os.replace`, which either happens or does not. Whoever kills the process, or fills
the disk, finds the old file as it was.
"""

import codecs
import contextlib
import json
import os
import shutil
from pathlib import Path

import numpy as np
import safetensors
import safetensors.numpy

from minillm.errors import UserError

__all__ = [
    "TEMPORARY",
    "new_folder",
    "read_chunks",
    "read_json",
    "read_safetensors",
    "replace_link",
    "save_safetensors",
    "write_bytes",
    "write_chunks",
    "write_text",
]

TEMPORARY = ".unfinished-"  # names that start so were being written when a process died


def write_bytes(path, data):
    """`write_chunks` of one piece."""
    write_chunks(path, [data])


def write_chunks(path, chunks):
    """Write the file `path` whole or not at all, from pieces (bytes) that come one by one.

    A symbolic link stays, and what it points to is written. A device or a pipe, such as
    /dev/stdout, cannot be replaced by a file: it is written to as the pieces come.

    Raises
    ------
    UserError
        naming the path and the reason, when the folder is missing or read-only or the disk full.
        What was there before is untouched, and no temporary file stays.
    """
    path = Path(os.path.realpath(path))
    with _reported(path):
        if path.exists() and not path.is_file() and not path.is_dir():
            with open(path, "wb") as file:
                file.writelines(chunks)
            return
        temporary = _temporary(path)
        try:
            with open(temporary, "wb") as file:
                for data in chunks:
                    file.write(data)
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, path)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(path.parent)


def write_text(path, text):
    """`write_bytes` of the text as UTF-8."""
    write_bytes(path, text.encode("utf-8"))


def save_safetensors(path, tensors):
    """Write {name: array} as a safetensors file; equal arrays give equal bytes.

    The file holds the names in an order of its own, so the order of the dict does not matter, and
    the one metadata entry is what Hugging Face's loaders look for.
    """
    tensors = {name: np.asarray(tensors[name], order="C") for name in sorted(tensors)}
    write_bytes(path, safetensors.numpy.save(tensors, metadata={"format": "np"}))


@contextlib.contextmanager
def new_folder(path):
    """Fill a folder under a temporary name; it takes the name `path` when the block ends well.

    Yields the temporary folder. After an error it is removed, and `path` never appears.

    Raises
    ------
    UserError
        naming the path and the reason, also when `path` exists and is not empty.
    """
    path = Path(path)
    temporary = _temporary(path)
    with _reported(path):
        try:
            temporary.mkdir(parents=True)
            yield temporary
            _sync_folder(temporary)
            os.replace(temporary, path)
        except BaseException:
            shutil.rmtree(temporary, ignore_errors=True)
            raise
        _sync_folder(path.parent)


def replace_link(link, target):
    """Point the symbolic link `link` at `target` (relative to the link), in one step.

    Raises
    ------
    UserError
        naming the link and the reason, also when something other than a link has its name.
    """
    link = Path(link)
    temporary = _temporary(link)
    if link.exists() and not link.is_symlink():
        raise UserError(f"cannot link {link}: a file or folder of that name is in the way")
    with _reported(link):
        try:
            os.symlink(target, temporary)
            os.replace(temporary, link)
        except BaseException:
            temporary.unlink(missing_ok=True)
            raise
        _sync_folder(link.parent)


def read_chunks(path, size=1 << 20):
    """The text of a file in UTF-8, `size` bytes at a time; a byte order mark is dropped.

    Raises
    ------
    UserError
        when the file cannot be read, or naming the byte at which it stops being UTF-8.
    """
    decoder = codecs.getincrementaldecoder("utf-8")()
    done, begun = 0, False
    try:
        with open(path, "rb") as file:
            while data := file.read(size):
                kept = len(decoder.getstate()[0])
                text = decoder.decode(data)
                yield text if begun else text.removeprefix("\N{ZERO WIDTH NO-BREAK SPACE}")
                done, begun = done + len(data), begun or text != ""
            kept = len(decoder.getstate()[0])
            decoder.decode(b"", final=True)
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from None
    except UnicodeDecodeError as error:
        where = done - kept + error.start
        raise UserError(
            f"{path}: not UTF-8: byte {where} is 0x{error.object[error.start]:02x} ({error.reason})"
        ) from None


def read_safetensors(path):
    """The {name: array} of a safetensors file.

    Raises
    ------
    UserError
        when the file is missing, truncated or something else.
    """
    try:
        return safetensors.numpy.load(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except (safetensors.SafetensorError, KeyError, ValueError) as error:
        raise UserError(f"{path} is damaged or no safetensors file: {error}") from error


def read_json(path):
    """The JSON object in a file.

    Raises
    ------
    UserError
        when the file is missing, or holds no JSON object in UTF-8.
    """
    try:
        value = json.loads(Path(path).read_bytes())
    except OSError as error:
        raise UserError(f"cannot read {path}: {error.strerror or error}") from error
    except ValueError as error:
        raise UserError(f"{path} is damaged or no JSON: {error}") from error
    if not isinstance(value, dict):
        raise UserError(f"{path} must hold a JSON object, got a {type(value).__name__}")
    return value


def _temporary(path):
    return path.with_name(f"{TEMPORARY}{path.name}-{os.getpid()}")


@contextlib.contextmanager
def _reported(path):
    try:
        yield
    except OSError as error:
        raise UserError(f"cannot write {path}: {error.strerror or error}") from error


def _sync_folder(folder):
    """Force the folder's list of names to the disk too, where the system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
