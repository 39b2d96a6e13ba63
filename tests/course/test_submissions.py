import bz2
import gzip
import io
import os
import stat
import struct
import tarfile
import time
import tracemalloc
import zipfile

import pytest

from minillm.course import archives, submissions
from minillm.course.plain import bounded, clean, fenced, inline, safe_name
from minillm.course.submissions import find_submissions, read_submission
from minillm.errors import UserError

NAMES = ("linear.py", "softmax.py")
GOOD = {"linear.py": b"a = 1\n", "softmax.py": b"b = 2\n"}


@pytest.fixture
def handed_in(tmp_path):
    """A folder for submissions; call it with {path: bytes} to fill it."""
    folder = tmp_path / "in"
    folder.mkdir()

    def fill(files):
        for name, data in files.items():
            path = folder / name
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
        return folder

    return fill


def zipped(files, **settings):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", **settings) as archive:
        for name, data in files:
            archive.writestr(name, data)
    return buffer.getvalue()


def tarred(files, compressed=True):
    """A tar of (name or TarInfo, data)."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz" if compressed else "w") as archive:
        for name, data in files:
            info = name if isinstance(name, tarfile.TarInfo) else tarfile.TarInfo(name)
            info.size = len(data)
            archive.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


def only(folder, **settings):
    (submission,) = find_submissions(folder, NAMES, **settings)
    return submission


def test_folders_nested_folders_and_archives_in_natural_order(handed_in):
    folder = handed_in(
        {f"s10/{n}": d for n, d in GOOD.items()}
        | {f"s2/hw3/{n}": d for n, d in GOOD.items()}
        | {
            "s1.zip": zipped([(f"hw3/{n}", d) for n, d in GOOD.items()]),
            "s3.tar.gz": tarred([(f"./{n}", d) for n, d in GOOD.items()]),
            "S4.TGZ": tarred(GOOD.items()),
            "s5.tar": tarred(GOOD.items(), compressed=False),
            ".DS_Store": b"x",
            "__MACOSX/._s2": b"x",
            "submission_metadata.yml": b"x",
        }
    )
    found = find_submissions(folder, NAMES)
    assert [s.student for s in found] == ["s1", "s2", "s3", "S4", "s5", "s10"]
    for submission in found:
        assert submission.files == GOOD, submission
        assert submission.missing == []
        assert submission.notes == []


def test_what_is_not_asked_for_is_named_and_what_is_missing_too(handed_in):
    folder = handed_in({"a/linear.py": b"1", "a/Softmax.py": b"2", "a/notes.txt": b"3"})
    submission = only(folder)
    assert submission.files == {"linear.py": b"1"}
    assert submission.missing == ["softmax.py"]
    assert submission.notes == ["not asked for, not read: notes.txt, Softmax.py"]


def test_the_fuller_of_two_folders_is_taken_and_said(handed_in):
    folder = handed_in({"a/old/linear.py": b"old", **{f"a/hw3/{n}": d for n, d in GOOD.items()}})
    submission = only(folder)
    assert submission.files == GOOD
    assert "taken is hw3/, not old/" in submission.notes[0]


def test_moodle_and_canvas_exports(handed_in):
    ann = "Ann Ash_4711_assignsubmission_file"
    folder = handed_in(
        {
            f"{ann}_/linear.py": GOOD["linear.py"],
            f"{ann}_/softmax.py": GOOD["softmax.py"],
            "Ann Ash_4711_assignsubmission_onlinetext_/onlinetext.html": b"<p>",
            "Bo Ek_12_assignsubmission_file_linear.py": GOOD["linear.py"],
            "Bo Ek_12_assignsubmission_file_softmax.py": GOOD["softmax.py"],
            "coxcy_LATE_34_208_linear.py": GOOD["linear.py"],
            "coxcy_LATE_34_209_softmax-2.py": GOOD["softmax.py"],
            "daydi_35_210_hw3-1.zip": zipped(GOOD.items()),
        }
    )
    found = {s.student: s for s in find_submissions(folder, NAMES)}
    assert list(found) == [f"{ann}_", "Bo Ek_12_assignsubmission_file", "coxcy_34", "daydi_35"]
    assert all(s.files == GOOD for s in found.values()), found
    assert [note for s in found.values() for note in s.notes] == ["handed in late, says Canvas"]
    assert found["coxcy_34"].notes
    # Moodle takes feedback back in folders of these names
    assert found[f"{ann}_"].folder == f"{ann}_"


def test_an_archive_in_a_folder_is_read_when_the_folder_holds_nothing_else(handed_in):
    assert only(handed_in({"a/work.zip": zipped(GOOD.items())})).files == GOOD


def test_a_folder_and_an_archive_of_one_name_are_two_submissions(handed_in):
    folder = handed_in({"alice/linear.py": b"1", "alice.zip": zipped(GOOD.items())})
    one, two = find_submissions(folder, NAMES)
    assert (one.student, two.student) == ("alice", "alice.zip")
    assert "same name" in one.notes[0]
    assert "same name" in two.notes[0]


def test_names_that_collide_as_folders_are_kept_apart(handed_in):
    folder = handed_in(
        {f"{n}/linear.py": b"1" for n in ("a:b", "a?b", "A_B", "=1+1", "summary.md")}
    )
    found = find_submissions(folder, NAMES)
    folders = [s.folder.casefold() for s in found]
    assert len(set(folders)) == 5
    assert "summary.md" not in folders
    assert {s.student for s in found} == {"a:b", "a?b", "A_B", "=1+1", "summary.md"}


def test_names_that_are_no_text(handed_in):
    folder = handed_in({"a/linear.py": b"1"})
    for name in (b"\xe9t\xe9", b"line\nbreak", "\N{RIGHT-TO-LEFT OVERRIDE}x".encode()):
        os.mkdir(os.path.join(os.fsencode(folder), name))
    found = find_submissions(folder, NAMES)
    assert len({s.folder for s in found}) == 4
    for submission in found:
        (submission.student + submission.folder).encode()
        assert submission.student.isprintable()


def test_links_pipes_and_devices_are_not_read(handed_in, tmp_path):
    reference = tmp_path / "reference.py"
    reference.write_bytes(b"answer")
    folder = handed_in({"a/hidden.txt": b""})
    (folder / "a" / "linear.py").symlink_to(reference)
    os.mkfifo(folder / "a" / "softmax.py")
    (folder / "b").symlink_to(tmp_path)
    os.mkfifo(folder / "c")
    (folder / "loop").mkdir()
    (folder / "loop" / "again").symlink_to(folder)
    start = time.perf_counter()
    found = {s.student: s for s in find_submissions(folder, NAMES)}
    assert time.perf_counter() - start < 5
    assert all(s.files == {} and s.missing == list(NAMES) for s in found.values())
    assert list(found) == ["a", "b", "c", "loop"]
    assert "symbolic link" in found["b"].notes[0]
    assert {"linear.py is a symbolic link, which is not followed"} < set(found["a"].notes)
    assert any("softmax.py is no file" in note for note in found["a"].notes)


def test_a_file_that_is_too_large_is_left_out(handed_in):
    most = archives.LARGEST_FILE
    folder = handed_in({"a/linear.py": b"x" * (most + 1), "a/softmax.py": b"x" * most})
    submission = only(folder)
    assert list(submission.files) == ["softmax.py"]
    assert submission.notes == ["linear.py has more than 256 KB, and is not taken"]


def hostile_archives():
    """(name, bytes, what the note must say)."""
    link = tarfile.TarInfo("linear.py")
    link.type, link.linkname = tarfile.SYMTYPE, "/etc/passwd"
    hard = tarfile.TarInfo("linear.py")
    hard.type, hard.linkname = tarfile.LNKTYPE, "../other/linear.py"
    device = tarfile.TarInfo("linear.py")
    device.type = tarfile.CHRTYPE
    zip_link = zipfile.ZipInfo("linear.py")
    zip_link.external_attr = (stat.S_IFLNK | 0o777) << 16
    good = zipped(GOOD.items(), compression=zipfile.ZIP_DEFLATED)
    locked = bytearray(zipped(GOOD.items()))
    locked[6] |= 1
    locked[locked.index(b"PK\x01\x02") + 8] |= 1
    lying = bytearray(zipped([("linear.py", b"x" * 10**6)], compression=zipfile.ZIP_DEFLATED))
    central = lying.index(b"PK\x01\x02")
    lying[central + 24 : central + 28] = struct.pack("<I", 10)
    many = zipped([(f"f{i}.txt", b"") for i in range(archives.MOST_MEMBERS + 5)])
    deflated = {"compression": zipfile.ZIP_DEFLATED}
    yield "slip.zip", zipped([("../linear.py", b"1"), ("/linear.py", b"1")]), "leads out"
    yield "slip2.zip", zipped([("..\\linear.py", b"1"), ("C:/linear.py", b"1")]), "leads out"
    yield "slip.tar.gz", tarred([("../linear.py", b"1"), ("/linear.py", b"1")]), "leads out"
    yield "link.zip", zipped([(zip_link, b"/etc/passwd")]), "symbolic link"
    yield "link.tar.gz", tarred([(link, b"")]), "link"
    yield "hard.tar.gz", tarred([(hard, b"")]), "link"
    yield "device.tar.gz", tarred([(device, b"")]), "no file"
    yield "bomb.zip", zipped([("linear.py", b"\0" * (1 << 26))], **deflated), "256 KB"
    yield "bomb.tar.gz", tarred([("x", b"\0" * (archives.LARGEST_STREAM + 1))]), "more than 64 MB"
    yield "bzip.zip", zipped([("linear.py", b"1")], compression=zipfile.ZIP_BZIP2), "not read here"
    yield "lying.zip", bytes(lying), "linear.py"
    yield "locked.zip", bytes(locked), "encrypted"
    yield "cut.zip", good[:-30], "broken"
    yield "garbled.zip", good[:40] + b"\xff" * 8 + good[48:], "linear.py"
    yield "empty.zip", b"", "broken"
    yield "cut.tar.gz", tarred(GOOD.items())[:-20], "cannot be read"
    yield "text.tar.gz", b"no archive", "cannot be read"
    yield "half.tar.gz", gzip.compress(os.urandom(2000)), "cannot be read"
    yield "twice.zip", None, "there 2 times"
    yield "twice.tar.gz", tarred([("linear.py", b"1"), ("linear.py", b"2")]), "there 2 times"
    yield "many.zip", many, "more than 2000"
    yield "other.7z", b"7z", ".7z archives are not read"
    yield "other.tar.bz2", bz2.compress(b""), ".bz2 archives are not read"
    yield "large.zip", b"\0" * (archives.LARGEST_ARCHIVE + 1), "more than 16 MB"


@pytest.mark.parametrize(
    ("name", "data", "note"), [pytest.param(*c, id=c[0]) for c in hostile_archives()]
)
@pytest.mark.filterwarnings("ignore:Duplicate name:UserWarning")
def test_a_hostile_archive_costs_only_its_own_student(handed_in, tmp_path, name, data, note):
    if data is None:
        data = zipped([("linear.py", b"1"), ("linear.py", b"2")])
    before = sorted(os.listdir(tmp_path))
    folder = handed_in({name: data, "zoe/linear.py": b"fine"})
    start = time.process_time()
    bad, zoe = find_submissions(folder, NAMES)
    assert time.process_time() - start < 3
    assert "linear.py" not in bad.files or name == "lying.zip"
    assert all(len(data) <= archives.LARGEST_FILE for data in bad.files.values())
    assert note in " ".join(bad.notes), bad.notes
    assert zoe.files == {"linear.py": b"fine"}
    assert zoe.notes == []
    assert sorted(os.listdir(tmp_path)) == before


@pytest.mark.parametrize("kind", ["zip", "tar.gz"])
def test_a_bomb_takes_no_memory(handed_in, kind):
    zeros = b"\0" * (32 << 20)
    made = {
        "zip": zipped([("linear.py", zeros)], compression=zipfile.ZIP_DEFLATED),
        "tar.gz": tarred([("linear.py", zeros)]),
    }
    folder = handed_in({f"bomb.{kind}": made[kind]})
    tracemalloc.start()
    try:
        submission = only(folder)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert submission.notes == ["linear.py has more than 256 KB, and is not taken"]
    assert peak < 4 << 20


def test_a_folder_of_very_many_files_is_not_walked_through(handed_in, monkeypatch):
    monkeypatch.setattr(submissions, "MOST_ENTRIES", 10)
    folder = handed_in({f"a/x/{i}.txt": b"" for i in range(30)} | {"a/linear.py": b"1"})
    submission = only(folder)
    assert submission.files == {"linear.py": b"1"}
    assert "more than 10 files" in submission.notes[0]


def test_wrong_folders_are_the_users_mistake(handed_in, tmp_path):
    with pytest.raises(UserError, match="there is no folder"):
        find_submissions(tmp_path / "nowhere", NAMES)
    folder = handed_in({})
    with pytest.raises(UserError, match="holds no submission"):
        find_submissions(folder, NAMES)
    handed_in({"linear.py": b"1"})
    with pytest.raises(UserError, match=r"linear\.py lies in it directly"):
        find_submissions(folder, NAMES)
    (tmp_path / "all.zip").write_bytes(b"")
    with pytest.raises(UserError, match="unpack it first"):
        find_submissions(tmp_path / "all.zip", NAMES)
    with pytest.raises(UserError, match="is a file"):
        find_submissions(folder / "linear.py", NAMES)


def test_the_results_of_a_run_are_no_submission(handed_in):
    folder = handed_in({"a/linear.py": b"1", "out/a/results.json": b"{}"})
    assert only(folder, leave_out=[folder / "out"]).student == "a"


def test_one_submission_on_its_own(handed_in):
    folder = handed_in({f"submission/{n}": d for n, d in GOOD.items()})
    submission = read_submission(folder / "submission", NAMES, student="me")
    assert submission.student == "me"
    assert submission.files == GOOD


def test_text_that_takes_over_no_page():
    assert clean("a\x1b[31m\x00\ud800\N{RIGHT-TO-LEFT OVERRIDE}\r\nb") == (
        "a\\x1b[31m\\x00\\ud800\\u202e\nb"
    )
    assert fenced("```\nbreak out\n````").startswith("`````text\n")
    assert inline("[x](http://a.b) <b> `c`\n# d") == r"\[x\](http:\//a.b) \<b\> \`c\` \# d"
    assert len(bounded("x\n" * 10**6)) < 5000
    assert "left out" in bounded("x" * 10**6)
    assert len(bounded("y" * 3000)) < 300
    assert safe_name("..") == "_"
    assert safe_name("-rf") == "_-rf"
    assert safe_name("con") == "_con"
    assert safe_name("Ä/b") == "Ä_b"
    assert safe_name("a", ["A", "a-2"]) == "a-3"
