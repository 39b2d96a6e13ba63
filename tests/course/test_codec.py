"""What crosses the pipe: trees come back as they went; hostile bytes cost little."""

import io
import json
import pickle
import time
import tracemalloc
import zipfile

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.course import codec
from minillm.course.codec import CodecError, decode, encode

PLAIN = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.binary()
KEYS = st.integers() | st.text() | st.binary() | st.tuples(st.integers(), st.text())
TREES = st.recursive(
    PLAIN,
    lambda inside: (
        st.lists(inside, max_size=4)
        | st.lists(inside, max_size=4).map(tuple)
        | st.dictionaries(KEYS, inside, max_size=4)
        | st.sets(KEYS, max_size=4)
    ),
    max_leaves=20,
)


def same(a, b):
    """Equal in value and type, NaN to NaN."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray):
        return (a.dtype, a.shape) == (b.dtype, b.shape) and a.tobytes() == b.tobytes()
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[key], b[key]) for key in a)
    return repr(a) == repr(b) if isinstance(a, float) else a == b


def archive(compress=zipfile.ZIP_STORED, **members):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", compress) as file:
        for name, data in members.items():
            file.writestr(f"{name}.npy", data)
    return buffer.getvalue()


def npy(array, **options):
    buffer = io.BytesIO()
    np.lib.format.write_array(buffer, np.asarray(array), **options)
    return buffer.getvalue()


def tree(text, **members):
    return archive(tree=npy(np.frombuffer(text.encode(), np.uint8)), **members)


@given(TREES)
def test_a_tree_comes_back_as_it_went(value):
    assert same(decode(encode(value)), value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6.0).reshape(2, 3).T,
        np.arange(10)[::2],
        np.zeros((3, 0), np.float32),
        np.array(2.5),
        np.array([True, False]),
        np.array([1 + 2j]),
        np.array([np.nan, np.inf, -0.0]),
        np.arange(3, dtype=">i4"),
    ],
)
def test_an_array_keeps_its_values_shape_and_dtype(array):
    found = decode(encode({"x": [array]}))["x"][0]
    assert same(found, array) or np.array_equal(found, array)
    assert (found.dtype, found.shape) == (array.dtype, array.shape)


def test_subclasses_come_as_what_they_stand_for():
    class Text(str):
        pass

    class Table(dict):
        pass

    class Liar(np.ndarray):
        def __eq__(self, other):
            return True

    found = decode(encode([Text("x"), Table(a=1), np.zeros(2).view(Liar), np.float32(1.5)]))
    assert [type(x) for x in found] == [str, dict, np.ndarray, np.ndarray]


@pytest.mark.parametrize(
    "value", [object(), len, np.array([object()]), np.array(["x"]), np.array([b"x"]), range(3)]
)
def test_what_is_not_plain_is_not_sent(value):
    with pytest.raises(CodecError):
        encode([value])


def test_what_holds_itself_is_not_sent():
    value: list = []
    value.append(value)
    with pytest.raises(CodecError, match="40 deep"):
        encode(value)


def test_a_huge_list_is_not_sent(monkeypatch):
    monkeypatch.setattr(codec, "TREE", 1 << 10)
    with pytest.raises(CodecError, match="without its arrays"):
        encode(list(range(1000)))
    assert len(decode(encode(np.arange(1000)))) == 1000


def test_a_reader_says_how_much_it_will_hold():
    data = encode(np.zeros(1000))
    assert decode(data, most=10_000).shape == (1000,)
    with pytest.raises(CodecError, match="more than 5000 bytes"):
        decode(data, most=5000)


class Runs:
    """A pickle of it leaves a mark where it is read."""

    done = False

    def __reduce__(self):
        return setattr, (Runs, "done", True)


def claims(shape, descr="<f8"):
    text = repr({"descr": descr, "fortran_order": False, "shape": shape}).encode().ljust(117)
    return b"\x93NUMPY\x01\x00" + bytes([118, 0]) + text + b"\n"


HOSTILE = {
    "nothing": b"",
    "noise": bytes(range(256)) * 10,
    "half a message": encode({"x": np.zeros(100)})[:500],
    "a changed message": encode({"x": 1}).replace(b"dict", b"dikt"),
    "a pickle": pickle.dumps(Runs()),
    "a bomb": archive(zipfile.ZIP_DEFLATED, tree=bytes(1 << 24)),
    "no tree": archive(a0=npy([1.0])),
    "a tree that is no array": archive(tree=b"{}"),
    "a tree that claims 8 TB": archive(tree=claims((1 << 40,))),
    "an array that claims 8 TB": tree('{"array": "a0"}', a0=claims((1 << 40,))),
    "an array that claims -1": tree('{"array": "a0"}', a0=claims((-1,))),
    "an array of pickles": tree(
        '{"array": "a0"}', a0=npy(np.array([Runs()], object), allow_pickle=True)
    ),
    "a tree of pickles": archive(tree=npy(np.array([Runs()], object), allow_pickle=True)),
    "an array of records": tree('{"array": "a0"}', a0=npy(np.zeros(2, "i4,f8"))),
    "an array that is not there": tree('{"array": "a7"}'),
    "a header that is code": archive(
        tree=b"\x93NUMPY\x01\x00" + bytes([118, 0]) + b"__import__('os')".ljust(117) + b"\n"
    ),
    "deep brackets": tree("[" * 100_000),
    "deep lists": tree('{"list": [' * 100 + "]}" * 100),
    "a list without its type": tree("[1]"),
    "a float without its type": tree("1.5"),
    "an unknown type": tree('{"object": []}'),
    "two types": tree('{"list": [], "tuple": []}'),
    "a dict of triples": tree('{"dict": [[1, 2, 3]]}'),
    "a key that is a list": tree('{"dict": [[{"list": []}, 1]]}'),
    "an endless integer": tree("9" * 100_000),
    "keys of one hash": tree(
        '{"dict": [' + ",".join(f"[{n * (2**61 - 1)}, 0]" for n in range(1, 20_000)) + "]}"
    ),
    "a set of one hash": tree(
        '{"set": [' + ",".join(str(n * (2**61 - 1)) for n in range(1, 20_000)) + "]}"
    ),
    "100 000 members": archive(**dict.fromkeys((f"{n:09}" for n in range(65_000)), b""))[:-22]
    + archive(**dict.fromkeys(map(str, range(10)), b""))[-22:],
    "a comment": archive(tree=npy(np.frombuffer(b"1", np.uint8))) + b"PK\5\6",
}


@pytest.mark.parametrize("name", HOSTILE)
def test_hostile_bytes_are_refused_and_cost_little(name):
    tracemalloc.start()
    start = time.process_time()
    try:
        with pytest.raises(CodecError):
            decode(HOSTILE[name])
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert time.process_time() - start < 2
    assert most < 64 << 20
    assert not Runs.done


def test_a_list_of_members_that_is_too_long_is_not_read():
    data = archive(**dict.fromkeys((f"{n:0200}" for n in range(40_000)), b""))
    with pytest.raises(CodecError, match="too many members"):
        decode(data)


@given(st.data())
def test_damage_is_refused_or_changes_a_value_only(draw):
    """Whatever byte is hit, the reader answers with a tree or a CodecError."""
    data = bytearray(encode({"x": np.arange(4.0), "y": [1, "two"]}))
    for _ in range(draw.draw(st.integers(1, 4))):
        data[draw.draw(st.integers(0, len(data) - 1))] = draw.draw(st.integers(0, 255))
    try:
        found = decode(bytes(data))
    except CodecError:
        return
    json.dumps(repr(found))
