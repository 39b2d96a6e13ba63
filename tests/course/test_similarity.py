import csv
import io
import random
import re
import time
from pathlib import Path

import numpy as np
import pytest

from minillm import ops
from minillm.course import fingerprint, similarity
from minillm.course.fingerprint import GRAM, WINDOW, fingerprints, grams, winnow
from minillm.course.manifest import load
from minillm.course.modules import Modules
from minillm.course.similarity import (
    REFERENCE,
    compare,
    compare_class,
    passages,
    take_fingerprints,
)
from minillm.course.similarity_page import similarity_csv, similarity_page, write_similarity
from minillm.course.submissions import Submission
from tests.course.disguise import DISGUISES, everything, split_up
from tests.course.honest import ANN, BEN


def encoded(files):
    return {name: text.encode() for name, text in files.items()}


def disguised(files, disguise):
    return {name: disguise(text).encode() for name, text in files.items()}


@pytest.fixture(scope="module")
def reference():
    folder = Path(ops.__file__).parent
    return {name: (folder / name).read_bytes() for name in ANN}


@pytest.fixture(scope="module")
def found(reference):
    """Two honest solutions, copies of the first in disguise, and one of the reference."""
    people = {"ann": encoded(ANN), "ben": encoded(BEN)}
    people |= {f.__name__: disguised(ANN, f) for f in (*DISGUISES, everything, split_up)}
    texts = {name: data.decode() for name, data in reference.items()}
    people["copycat"] = disguised(texts, everything)
    return compare(people, reference, {})


def pair_of(pairs, *names):
    (pair,) = [p for p in pairs if {p.first, p.second} == set(names)]
    return pair


@pytest.mark.parametrize("name", [f.__name__ for f in (*DISGUISES, everything)])
def test_a_copy_is_found_in_disguise(found, name):
    pair = pair_of(found.pairs, "ann", name)
    assert pair.containment > 0.9
    assert pair.jaccard > 0.85
    assert pair.containment > found.bar


def test_a_copy_with_a_statement_between_all_others_stands_out(found):
    usual = pair_of(found.pairs, "ann", "ben").containment
    assert pair_of(found.pairs, "ann", "split_up").containment > max(0.2, 5 * usual)


def test_honest_solutions_are_below_the_bar(reference):
    honest = compare({"ann": encoded(ANN), "ben": encoded(BEN)}, reference, {})
    assert honest.bar == 0.2
    for pair in (*honest.pairs, *honest.with_reference):
        assert pair.containment < 0.1
    assert "## Side by side" not in similarity_page(honest)


@pytest.mark.parametrize("files", [ANN, BEN], ids=["ann", "ben"])
@pytest.mark.parametrize(("name", "args"), [("linear", 3), ("softmax", 1), ("layer_norm", 3)])
def test_the_honest_solutions_are_right(files, name, args):
    class Op:
        def __init__(self, function):
            self.function = function

        def defbackward(self, function):
            self.backward = function

    namespace = {"op": Op}
    exec(files[f"{name}.py"].replace("from _op import op\n", ""), namespace)
    rng = np.random.default_rng(0)
    shapes = {"linear": ((5, 4), (4,)), "layer_norm": ((5,), (5,)), "softmax": ()}[name]
    inputs = [rng.normal(size=shape) for shape in ((2, 3, 5), *shapes)]
    if name == "linear":
        inputs[2] = rng.normal(size=4)
    assert len(inputs) == args
    exact, cache = getattr(ops, name)(*inputs)
    y, own = namespace[name].function(*inputs)
    dy = rng.normal(size=exact.shape)
    np.testing.assert_allclose(y, exact, atol=1e-12)
    grads = getattr(ops, name).backward(dy, cache), namespace[name].backward(dy, own)
    for one, other in zip(*(g if isinstance(g, tuple) else (g,) for g in grads), strict=True):
        np.testing.assert_allclose(other, one, atol=1e-12)


def test_a_copy_of_the_reference_is_found(found):
    assert pair_of(found.with_reference, "copycat", REFERENCE).containment > 0.9
    assert found.with_reference[0].first == "copycat"
    assert pair_of(found.with_reference, "ann", REFERENCE).containment < 0.1


def test_what_the_starter_gives_is_left_out():
    given = encoded(ANN)
    left = compare({"a": given, "b": disguised(ANN, everything)}, {}, given)
    assert left.pairs == []
    assert left.too_short == ["a", "b"]
    assert "too little of their own" in similarity_page(left)


def test_passages_name_the_lines():
    copy = "x = 1\n\n\n" + ANN["layer_norm.py"].replace("xhat", "hats")
    works = {
        work.student: work
        for work in take_fingerprints(
            [("a", encoded({"n.py": ANN["layer_norm.py"]})), ("b", encoded({"n.py": copy}))]
        )
    }
    lines = ANN["layer_norm.py"].split("\n")
    backward = next(i for i, line in enumerate(lines, 1) if "g = dy" in line)
    hits = [
        (first2 - first, last2 - last)
        for _, first, last, _, first2, last2, _ in passages(works["a"], works["b"])
        if first <= backward <= last
    ]
    assert hits == [(3, 3)]


def test_the_page_shows_both_sides_and_the_usual_pair(reference, tmp_path):
    people = {"ann": encoded(ANN), "eve": disguised(ANN, everything), "ben": encoded(BEN)}
    found = compare(people, reference, {})
    text = similarity_page(found)
    assert "no verdict" in text
    assert f"The usual pair here shares {100 * found.median:.0f}%" in text
    assert r"layer\_norm.py" in text
    assert "submissions hold all of it" in text
    assert re.search(r"xhat, std, n = .* \| .*renamed_11, renamed_8, renamed_7", text)
    rows = list(csv.DictReader(io.StringIO(similarity_csv(found))))
    assert len(rows) == len(found.pairs) + len(found.with_reference)
    assert float(rows[0]["containment"]) == pytest.approx(found.pairs[0].containment, abs=1e-3)
    write_similarity(tmp_path, found)
    assert (tmp_path / "similarity.md").read_text() == text


def test_a_class_that_shares_a_passage_says_so(reference):
    people = {f"s{i}": disguised(ANN, DISGUISES[i % 5]) for i in range(6)}
    alike = compare(people, reference, {})
    assert alike.median > 0.9
    assert alike.bar == 0.5
    assert all(pair.uncommon < 0.2 * pair.shared for pair in alike.pairs)
    assert "6 of 6 submissions hold all of it" in similarity_page(alike)


def test_names_beyond_ones_own_count():
    one = fingerprints("def f(x):\n    return np.exp(x - x.max(axis=-1, keepdims=True)) / 2\n")
    same = fingerprints("def f(q):\n    return np.exp(q - q.max(axis=-1, keepdims=True)) / 2\n")
    other = fingerprints("def f(x):\n    return np.log(x + x.sum(axis=-1, keepdims=True)) / 7\n")
    assert {g.hash for g in one} == {g.hash for g in same}
    assert not {g.hash for g in one} & {g.hash for g in other}
    imported = [
        fingerprints(f"import numpy as {n}\ndef f(x):\n    return {n}.exp(x) + {n}.log(x) * x")
        for n in ("np", "num")
    ]
    assert {g.hash for g in imported[0]} == {g.hash for g in imported[1]} != set()


def test_winnowing_keeps_its_promise():
    """Any shared run of GRAM + WINDOW - 1 tokens has a fingerprint of its own (section 3)."""
    rng = random.Random(0)
    for trial in range(200):
        shared = [(f"t{rng.random()}", trial) for _ in range(GRAM + WINDOW - 1)]
        streams = [
            [(f"o{rng.random()}", 0) for _ in range(rng.randrange(20))]
            + shared
            + [(f"o{rng.random()}", 0) for _ in range(rng.randrange(20))]
            for _ in range(2)
        ]
        one, two = ({g.hash for g in winnow(grams(stream))} for stream in streams)
        assert one & two
    many = grams([(f"t{i}", i) for i in range(1000)])
    density = len(winnow(many)) / len(many)
    assert density == pytest.approx(2 / (WINDOW + 1), rel=0.15)  # section 3.2: 2 / (w + 1)


def test_hostile_sources_cost_only_their_student(monkeypatch):
    good = encoded(ANN)
    people = [
        ("deep", {"a.py": b"x = " + b"(" * 50000 + b")" * 50000}),
        ("deeper", {"a.py": b"x = " + b"-" * 100000 + b"1"}),
        ("sum", {"a.py": b"x = " + b"1+" * 50000 + b"1"}),
        ("wrong", {"a.py": b"def f(:\n"}),
        ("null", {"a.py": b"x = 1\0"}),
        ("bytes", {"a.py": bytes(range(256))}),
        ("empty", {"a.py": b""}),
        ("good", good),
    ]
    works = {work.student: work for work in take_fingerprints(people)}
    assert len(works["good"].places) > 50
    for student, _ in people[:-1]:
        assert works[student].places == {}, student
    assert "no Python in line 1" in works["wrong"].notes[0]
    assert works["empty"].notes == []
    text = similarity_page(compare(dict(people), {}, {}))
    assert "- wrong: a.py is no Python in line 1" in text


def test_a_source_that_ends_the_parser_is_skipped(monkeypatch, tmp_path):
    """As a crash of the parser, or its time limit, would: the process dies at one submission."""
    source = tmp_path / "fingerprint.py"
    text = Path(fingerprint.__file__).read_text()
    source.write_text(
        text.replace(
            "    request = json.loads(line)\n",
            "    request = json.loads(line)\n"
            "    if 'kill.py' in request['files']:\n        import os\n\n        os.abort()\n",
        )
    )
    monkeypatch.setattr(similarity.fingerprint, "__file__", str(source))
    people = [("a", encoded(ANN)), ("bad", {"kill.py": b""}), ("b", encoded(BEN))]
    a, bad, b = take_fingerprints(people)
    assert bad.notes == ["could not be compared: its source ended the parser"]
    assert len(a.places) > 50
    assert len(b.places) > 50


def test_a_hundred_submissions_take_seconds(reference):
    people = {f"s{i}": encoded(ANN if i % 2 else BEN) for i in range(100)}
    start = time.process_time()
    found = compare(people, reference, {})
    similarity_page(found)
    assert len(found.pairs) == 4950
    assert time.process_time() - start < 5


def test_no_pair_is_no_mistake():
    for people in ({}, {"a": encoded(ANN)}, {"a": {}}):
        text = similarity_page(compare(people, {}, {}))
        assert "no usual pair" in text


CUDA = """
extern "C" __global__ void matmul(const float *A, const float *B, float *C, int M, int N, int K) {
    __shared__ float tile[16][16];
    int row = blockIdx.y * blockDim.y + threadIdx.y;  // mine
    int col = blockIdx.x * blockDim.x + threadIdx.x;
    float sum = 0;
    for (int k = 0; k < K; ++k) {
        tile[threadIdx.y][threadIdx.x] = A[row * K + k];
        __syncthreads();
        sum += tile[threadIdx.y][0] * B[k * N + col];
    }
    C[row * N + col] = sum;
}
"""


def test_cuda_is_compared_by_its_tokens():
    copy = "/* all mine */\n" + CUDA.replace("  // mine", "")
    for old, new in (("row", "i"), ("col", "j"), ("sum", "total"), ("tile", "buffer")):
        copy = re.sub(rf"\b{old}\b", new, copy)
    copy = copy.replace("total += ", "total = total + ").replace("const ", "")
    other = """
extern "C" __global__ void matmul(const float *A, const float *B, float *C, int M, int N, int K) {
    long long index = blockIdx.x * (long long)blockDim.x + threadIdx.x;
    if (index >= (long long)M * N) return;
    const float *left = A + index / N * K, *right = B + index % N, *end = left + K;
    float out = 0;
    while (left != end) { out = fmaf(*left++, *right, out); right += N; }
    C[index] = out;
}
"""
    people = {"a": {"m.cu": CUDA.encode()}, "b": {"m.cu": copy.encode()}}
    people |= {"c": {"m.cu": other.encode()}, "d": {"m.cu": b"` /* no end"}}
    found = compare(people, {"m.cu": other.encode()}, {})
    assert pair_of(found.pairs, "a", "b").containment > 0.9
    assert pair_of(found.pairs, "a", "c").containment < 0.2
    assert pair_of(found.with_reference, "c", REFERENCE).containment == 1
    assert "m.cu could not be compared" in found.works["d"].notes[0]
    text = similarity_page(found)
    assert "buffer[threadIdx.y]" in text


@pytest.mark.parametrize("name", ["hw3", "hw7"])
def test_a_class_is_compared_by_its_assignment(name):
    modules = Modules(load(name))
    solved = {m.file: m.text.encode() for m in modules.all.values() if not m.given}
    given = {file: text.encode() for file, text in modules.starters().items() if file in solved}
    found = compare_class(
        [Submission("done", "done", solved), Submission("untouched", "untouched", given)], modules
    )
    assert found.too_short == ["untouched"]
    (pair,) = found.with_reference
    assert pair.first == "done"
    assert pair.containment == 1
