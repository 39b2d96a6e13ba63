import os

import pytest

from minillm.data import Document, load_corpus
from minillm.data import python as python_texts
from minillm.errors import UserError

CHINESE = "清晨的雾散了。\r\n船慢慢离开码头,\n没有人说话。\r"


def texts(corpus):
    return {d.name.rsplit("/", 1)[-1]: d.text for d in corpus.documents}


def test_topics_are_sorted_and_say_nothing_twice():
    corpus = load_corpus()
    names = [d.name for d in corpus.documents]
    assert names == sorted(names)
    assert len(set(names)) == len(names) > 20
    paragraphs = [" ".join(p.split()) for d in corpus.documents for p in d.text.split("\n\n")]
    long = [p for p in paragraphs if len(p) >= python_texts.SHORT]
    assert len(long) == len(set(long)) > 200
    assert f"{len(corpus.text):,} characters" in str(corpus)
    assert load_corpus() == corpus


def test_topics_fall_back_to_docstrings(monkeypatch):
    monkeypatch.setattr(python_texts, "topics", lambda: None)
    monkeypatch.setattr("minillm.data.corpus.topics", lambda: None)
    sources = python_texts.stdlib_sources()
    few = (sources[0][:40], sources[1])
    monkeypatch.setattr(python_texts, "stdlib_sources", lambda: few)
    corpus = load_corpus()
    assert "docstrings" in corpus.description
    assert corpus.documents
    assert all(d.name.endswith(".py") for d in corpus.documents)


def test_a_python_without_topics_says_so(monkeypatch):
    monkeypatch.setattr(python_texts.importlib, "import_module", lambda name: object())
    assert python_texts.topics() is None


def test_repeated_paragraphs_are_left_out():
    once = "A paragraph long enough to be worth telling apart from another.\n"
    again = once.replace(" long", "\n   long")
    kept = python_texts.without_repeats(
        [("a", f"Head\n\n{once}\n\nLast"), ("b", f"Head\n\n{again}\n\nNew"), ("c", once)]
    )
    assert kept == [("a", f"Head\n\n{once}\n\nLast"), ("b", "Head\n\nNew")]


def test_stdlib_is_sorted_source_without_tests():
    corpus = load_corpus("stdlib")
    names = [d.name for d in corpus.documents]
    assert names == sorted(names, key=lambda n: n.split("/"))
    assert "ast.py" in names
    assert not any("test" in n.split("/") or n.startswith("site-packages") for n in names)
    assert all(d.text for d in corpus.documents)


def test_a_file_is_kept_as_it_is(tmp_path):
    file = tmp_path / "湖.anything"
    file.write_bytes(b"\xef\xbb\xbf" + CHINESE.encode())  # a byte order mark first
    assert load_corpus(file).documents == [Document(file.as_posix(), CHINESE)]
    assert load_corpus(str(file)).text == CHINESE


def test_a_folder_is_read_in_order(tmp_path):
    files = ["b.txt", "a/z.md", "a/b/c.rst", ".hidden.txt", ".git/x.txt", "a.bin", "empty.txt"]
    for name in files:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text("" if "empty" in name else name)
    corpus = load_corpus(tmp_path)
    assert [d.text for d in corpus.documents] == ["a/b/c.rst", "a/z.md", "b.txt"]


def test_paths_come_in_the_given_order_and_once(tmp_path):
    for name in "abc":
        (tmp_path / f"{name}.txt").write_text(name)
    corpus = load_corpus([tmp_path / "c.txt", tmp_path, tmp_path / "." / "a.txt"])
    assert corpus.text == "cab"


FAULTS = {
    "empty.txt": (b"", "empty.txt: the file is empty"),
    "latin.txt": ("caf\u00e9".encode("latin-1"), r"latin.txt: not UTF-8: byte 3 is 0xe9"),
    "cut.txt": ("水水".encode()[:-1], r"cut.txt: not UTF-8: byte 3 is 0xe6"),
    "surrogate.txt": (b"ab\xed\xa0\x80", "surrogate.txt: not UTF-8: byte 2"),
    "marked.txt": (b"\xef\xbb\xbfab\xff", "marked.txt: not UTF-8: byte 5 is 0xff"),
    "image.png": (b"\x89PNG"[1:] + b"\r\n\0\0", "image.png: a binary file.* byte 5"),
    "utf16.txt": ("text".encode("utf-16"), "utf16.txt: not UTF-8 at byte 0: .*UTF-16"),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_faulty_file_is_named(tmp_path, name):
    data, message = FAULTS[name]
    (tmp_path / name).write_bytes(data)
    with pytest.raises(UserError, match=message) as caught:
        load_corpus(tmp_path / name)
    assert "\n" not in str(caught.value)


def test_a_faulty_file_in_a_folder_is_named(tmp_path):
    (tmp_path / "a.txt").write_text("good")
    (tmp_path / "b.txt").write_bytes(b"b\xffd")
    with pytest.raises(UserError, match=r"b.txt: not UTF-8: byte 1"):
        load_corpus(tmp_path)


def test_paths_that_give_nothing(tmp_path):
    with pytest.raises(UserError, match="nowhere: no such file or folder"):
        load_corpus(tmp_path / "nowhere")
    with pytest.raises(UserError, match=r"no file in it ends in \.txt, "):
        load_corpus(tmp_path)
    (tmp_path / "a.txt").touch()
    with pytest.raises(UserError, match="every file is empty"):
        load_corpus(tmp_path)
    for nothing in ([], "", [""]):
        with pytest.raises(UserError, match="no file or folder was named"):
            load_corpus(nothing)
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(UserError, match="pipe: not a regular file"):
        load_corpus(tmp_path / "pipe")
    with pytest.raises(UserError, match="cannot be read: File name too long"):
        load_corpus("x" * 5000)


@pytest.mark.parametrize("what", ["open", "scandir"])
def test_unreadable_files_and_folders(tmp_path, monkeypatch, what):
    # Permissions do not bind root, who may be running the tests: the system call is made to refuse.
    (tmp_path / "a.txt").write_text("text")

    def refuse(path, *args, **kwargs):
        raise PermissionError(13, "Permission denied", str(path))

    if what == "open":
        monkeypatch.setattr("pathlib.Path.read_bytes", refuse)
    else:
        monkeypatch.setattr(os, "scandir", refuse)
    with pytest.raises(UserError, match="cannot be read: Permission denied"):
        load_corpus(tmp_path)
