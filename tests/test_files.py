import contextlib
import os
import resource
import shutil
import tempfile
from pathlib import Path

import numpy as np
import pytest
import safetensors.numpy

from minillm.errors import UserError
from minillm.files import (
    new_folder,
    read_chunks,
    read_json,
    read_safetensors,
    replace_link,
    save_safetensors,
    write_bytes,
    write_text,
)


@contextlib.contextmanager
def small_disk():
    """Writing beyond 4096 bytes fails in the middle of the write, as on a full disk.

    No fixture: the limit is the process's, and would hold for pytest's own report in a file too.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.fixture
def read_only():
    """A folder in which this process may not write, even where the tests run as root."""
    folder = Path(tempfile.mkdtemp())
    (folder / "file").write_text("old")
    folder.chmod(0o555)
    root = os.geteuid() == 0
    if root:
        os.seteuid(65534)
    yield folder
    if root:
        os.seteuid(0)
    folder.chmod(0o755)
    shutil.rmtree(folder)


def names(folder):
    return sorted(p.name for p in folder.iterdir())


def test_writes_and_replaces(tmp_path):
    write_text(tmp_path / "a", "first")
    write_text(tmp_path / "a", "二")
    assert (tmp_path / "a").read_bytes() == "二".encode()
    assert names(tmp_path) == ["a"]


def test_a_link_stays_and_its_file_is_written(tmp_path):
    (tmp_path / "real").write_text("old")
    (tmp_path / "link").symlink_to("real")
    write_text(tmp_path / "link", "new")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_text() == "new"
    (tmp_path / "real").unlink()
    write_text(tmp_path / "link", "newer")
    assert (tmp_path / "real").read_text() == "newer"
    assert sorted(os.listdir(tmp_path)) == ["link", "real"]


def test_a_pipe_is_written_to_and_stays_one(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    end = os.open(tmp_path / "pipe", os.O_RDONLY | os.O_NONBLOCK)
    try:
        write_text(tmp_path / "pipe", "text")
        assert os.read(end, 10) == b"text"
    finally:
        os.close(end)
    assert (tmp_path / "pipe").is_fifo()


def test_full_disk_keeps_the_old_file(tmp_path):
    write_bytes(tmp_path / "a", b"old")
    with small_disk(), pytest.raises(UserError, match=r"cannot write .*/a: File too large"):
        write_bytes(tmp_path / "a", bytes(100_000))
    assert (tmp_path / "a").read_bytes() == b"old"
    assert names(tmp_path) == ["a"]


def test_read_only_folder(read_only):
    with pytest.raises(UserError, match=r"cannot write .*/file: Permission denied"):
        write_text(read_only / "file", "new")
    with (
        pytest.raises(UserError, match=r"cannot write .*/run: Permission denied"),
        new_folder(read_only / "run"),
    ):
        pass
    with pytest.raises(UserError, match=r"cannot write .*/last: Permission denied"):
        replace_link(read_only / "last", "run")
    assert (read_only / "file").read_text() == "old"
    assert names(read_only) == ["file"]


def test_missing_folder(tmp_path):
    with pytest.raises(UserError, match=r"cannot write .*/no/file: No such file"):
        write_text(tmp_path / "no" / "file", "x")


def test_safetensors_bytes_depend_on_the_values_alone(tmp_path):
    tensors = {f"t{i}": np.arange(6.0).reshape(2, 3) + i for i in range(9)}
    tensors |= {"scalar": np.array(3), "turned": np.arange(6, dtype=np.float32).reshape(2, 3).T}
    save_safetensors(tmp_path / "a", tensors)
    copied = {name: np.array(tensors[name], order="C") for name in reversed(tensors)}
    save_safetensors(tmp_path / "b", copied)
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()
    loaded = safetensors.numpy.load_file(tmp_path / "a")
    assert loaded.keys() == tensors.keys()
    for name, value in tensors.items():
        assert loaded[name].shape == value.shape
        assert np.array_equal(loaded[name], value)


def test_new_folder_appears_whole_or_not_at_all(tmp_path):
    with new_folder(tmp_path / "good") as folder:
        write_text(folder / "a", "1")
        assert not (tmp_path / "good").exists()
    assert names(tmp_path / "good") == ["a"]
    with (
        small_disk(),
        pytest.raises(UserError, match=r"a: File too large"),
        new_folder(tmp_path / "bad") as folder,
    ):
        write_bytes(folder / "a", bytes(100_000))
    with pytest.raises(RuntimeError), new_folder(tmp_path / "bad"):
        raise RuntimeError
    with pytest.raises(UserError, match=r"cannot write .*good"), new_folder(tmp_path / "good"):
        pass
    assert names(tmp_path) == ["good"]
    assert names(tmp_path / "good") == ["a"]


def test_link_is_relative_and_swapped(tmp_path):
    for name in ("one", "two"):
        (tmp_path / name).mkdir()
        replace_link(tmp_path / "last", name)
        assert os.readlink(tmp_path / "last") == name
    assert names(tmp_path) == ["last", "one", "two"]
    with pytest.raises(UserError, match="in the way"):
        replace_link(tmp_path / "one", "two")


def test_damaged_files_are_named(tmp_path):
    save_safetensors(tmp_path / "a", {"x": np.arange(100.0)})
    assert np.array_equal(read_safetensors(tmp_path / "a")["x"], np.arange(100.0))
    whole = (tmp_path / "a").read_bytes()
    for size in (0, 5, 40, len(whole) - 1):
        write_bytes(tmp_path / "a", whole[:size])
        with pytest.raises(UserError, match=r"/a is damaged or no safetensors file"):
            read_safetensors(tmp_path / "a")
    with pytest.raises(UserError, match=r"cannot read .*/b: No such file"):
        read_safetensors(tmp_path / "b")


def test_damaged_json_is_named(tmp_path):
    for data, message in (
        (b'{"a": 1', "damaged or no JSON"),
        (b"\xff\xfe\xfd", "damaged or no JSON"),
        (b"[1]", "must hold a JSON object, got a list"),
    ):
        write_bytes(tmp_path / "a", data)
        with pytest.raises(UserError, match=message):
            read_json(tmp_path / "a")
    with pytest.raises(UserError, match=r"cannot read .*/b: No such file"):
        read_json(tmp_path / "b")
    write_text(tmp_path / "a", '{"a": [1.5]}')
    assert read_json(tmp_path / "a") == {"a": [1.5]}


@pytest.mark.parametrize("size", [1, 2, 3, 5, 1000])
def test_chunks_are_the_text_whatever_their_size(size, tmp_path):
    text = "aé水\N{CAT FACE}\r\n\ufeff\x00" * 3
    for begin in (b"", b"\xef\xbb\xbf"):
        write_bytes(tmp_path / "a", begin + text.encode())
        chunks = list(read_chunks(tmp_path / "a", size))
        assert "".join(chunks) == text
        assert max(len(chunk.encode()) for chunk in chunks) <= size + 3
    write_bytes(tmp_path / "a", b"")
    assert list(read_chunks(tmp_path / "a", size)) == []


@pytest.mark.parametrize("size", [1, 2, 3, 1000])
def test_what_is_no_utf8_is_named_by_its_byte(size, tmp_path):
    for data, where, byte in (
        (b"ab\xff", 2, "ff"),
        ("水é".encode()[:-1], 3, "c3"),  # cut in the middle of the last character
        ("水".encode() + b"\xe6\xb0a", 3, "e6"),
        (b"\xed\xa0\x80", 0, "ed"),  # a lone surrogate
    ):
        write_bytes(tmp_path / "a", data)
        with pytest.raises(UserError, match=rf"/a: not UTF-8: byte {where} is 0x{byte} "):
            list(read_chunks(tmp_path / "a", size))
    with pytest.raises(UserError, match=r"cannot read .*/b: No such file"):
        list(read_chunks(tmp_path / "b", size))
