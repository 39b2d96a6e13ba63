"""The lattice of one text against all ways to cut it, one by one."""

import itertools
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.tokenizers.unigram_em import Lattices, digamma
from minillm.tokenizers.unigram_encode import LONGEST, SHORT, Encoder
from minillm.tokenizers.unigram_lattice import Lattice, draw, prefixes

UNKNOWN = -15.0


def all_paths(text, pieces, scores, unknown):
    """Every way to cut a text into pieces, or unknown characters that are no piece."""
    found = []
    for cuts in itertools.product([False, True], repeat=max(len(text) - 1, 0)):
        places = [0, *(i + 1 for i, cut in enumerate(cuts) if cut), len(text)]
        parts = [text[a:b] for a, b in itertools.pairwise(places)]
        if all(part in pieces or len(part) == 1 for part in parts):
            ids = [pieces.get(part, unknown) for part in parts]
            found.append((ids, sum(float(scores[i]) for i in ids)))
    return found


@st.composite
def vocabularies(draw_from):
    pieces = draw_from(st.lists(st.text("abc", min_size=1, max_size=4), min_size=1, unique=True))
    values = st.floats(-12, -0.5, width=32)
    scores = draw_from(st.lists(values, min_size=len(pieces), max_size=len(pieces)))
    return {p: i for i, p in enumerate(pieces)}, np.array([*scores, UNKNOWN], np.float32)


WORDS = st.text("abcd", min_size=1, max_size=8)


def lattice_of(text, pieces, scores):
    return Lattice(text, prefixes(pieces), scores, (len(pieces), UNKNOWN))


@given(vocabularies(), WORDS)
def test_viterbi_and_nbest_are_the_best_of_all_paths(vocabulary, text):
    pieces, scores = vocabulary
    paths = sorted(all_paths(text, *vocabulary, len(pieces)), key=lambda path: -path[1])
    lattice = lattice_of(text, pieces, scores)
    ids, total = lattice.viterbi()
    assert total == pytest.approx(paths[0][1])
    assert any(ids == path and math.isclose(s, total) for path, s in paths)
    for n in (1, 3, len(paths) + 2):
        found = lattice.nbest(n)
        assert [s for _, s in found] == pytest.approx([s for _, s in paths[:n]])
        assert len({tuple(ids) for ids, _ in found}) == min(n, len(paths))
        for ids, score in found:
            assert sum(float(scores[i]) for i in ids) == pytest.approx(score)


@given(vocabularies(), WORDS)
def test_marginals_are_sums_over_all_paths(vocabulary, text):
    pieces, scores = vocabulary
    paths = all_paths(text, *vocabulary, len(pieces))
    z = math.log(sum(math.exp(score) for _, score in paths))
    names = {i: piece for piece, i in pieces.items()}
    expected: dict = {}
    for ids, score in paths:
        place = 0
        for i in ids:
            stop = place + len(names.get(i, "?"))
            expected[place, stop, i] = expected.get((place, stop, i), 0) + math.exp(score - z)
            place = stop
    lattice = lattice_of(text, pieces, scores)
    assert lattice.forward()[-1] == pytest.approx(z)
    assert lattice.backward()[0] == pytest.approx(z)
    found = lattice.marginals()
    assert {key for key, p in found.items() if p > 1e-12} <= expected.keys()
    for key, p in expected.items():
        assert found[key] == pytest.approx(p, abs=1e-9)


@pytest.mark.parametrize("alpha", [0.0, 0.5, 1.0])
def test_samples_have_the_paths_probabilities(alpha):
    pieces = {"a": 0, "b": 1, "ab": 2, "ba": 3, "aba": 4}
    scores = np.array([-1.5, -2, -2.5, -3.2, -4, UNKNOWN], np.float32)
    paths = all_paths("ababa", pieces, scores, 5)
    weights = np.exp([alpha * score for _, score in paths])
    lattice, rng = lattice_of("ababa", pieces, scores), np.random.default_rng(3)
    drawn = [tuple(lattice.sample(rng, alpha)) for _ in range(3000)]
    shares = [drawn.count(tuple(ids)) / len(drawn) for ids, _ in paths]
    # Four standard deviations of a share, which is at most 0.037.
    assert np.abs(shares - weights / weights.sum()).max() < 0.037
    assert set(drawn) <= {tuple(ids) for ids, _ in paths}


def test_draw_never_takes_what_is_impossible():
    rng = np.random.default_rng(0)
    assert {draw(rng, [-1.0, -np.inf, -1.0]) for _ in range(50)} == {0, 2}


@given(vocabularies(), st.lists(WORDS, min_size=1, max_size=5), st.integers(0, 10**6))
def test_words_side_by_side_give_what_each_gives_alone(vocabulary, words, seed):
    pieces, scores = vocabulary
    lengths = np.array([len(word) for word in words])
    first = np.cumsum(lengths + 1) - lengths - 1
    edges = [
        (first[w] + start, first[w] + stop, i)
        for w, word in enumerate(words)
        for stop, entries in enumerate(lattice_of(word, pieces, scores).edges)
        for start, i, _ in entries
    ]
    order = np.random.default_rng(seed).permutation(len(edges))
    lattices = Lattices(lengths, *np.array(edges)[order].T)
    weights = np.arange(1.0, len(words) + 1)
    found, nats = lattices.expect(scores.astype(float), weights)
    total, of, parts = lattices.best(scores.astype(float))
    expected, z = np.zeros(len(scores)), 0.0
    for w, word in enumerate(words):
        lattice = lattice_of(word, pieces, scores)
        for (_, _, i), p in lattice.marginals().items():
            expected[i] += weights[w] * p
        z += weights[w] * lattice.forward()[-1]
        assert total[w] == pytest.approx(lattice.viterbi()[1])
        assert scores[parts[of == w]].sum() == pytest.approx(total[w], rel=1e-5)
    assert found == pytest.approx(expected, abs=1e-9)
    assert nats == pytest.approx(z)


def test_a_word_without_a_path_is_told():
    lattices = Lattices(np.array([1, 2]), np.array([2]), np.array([4]), np.array([0]))
    total, of, parts = lattices.best(np.array([-1.0]))
    assert total.tolist() == [-np.inf, -1.0]
    assert (of.tolist(), parts.tolist()) == ([1], [0])


def test_digamma_by_known_values():
    euler = 0.5772156649015329
    known = {1: -euler, 2: 1 - euler, 0.5: -euler - 2 * math.log(2), 10: 2.2517525890667211}
    assert digamma(np.array(list(known))) == pytest.approx(list(known.values()), rel=1e-10)
    assert float(digamma(1e9)) == pytest.approx(math.log(1e9), rel=1e-9)


def slow_path(text, pieces, scores, total=0.0):
    """The whole text at once in float32, as SentencePiece adds scores up, less its reset."""
    best = [np.float32(total)] + [None] * len(text)
    came = [(0, 0)] * (len(text) + 1)
    for start in range(len(text)):
        for stop in range(start + 1, min(start + 4, len(text)) + 1):
            i = pieces.get(text[start:stop])
            if i is None and stop == start + 1:
                i = len(pieces)
            if i is not None and (best[stop] is None or best[start] + scores[i] > best[stop]):
                best[stop], came[stop] = best[start] + scores[i], (start, i)
    ids, place = [], len(text)
    while place:
        place, i = came[place]
        ids.append(i)
    return ids[::-1], best[-1]


@given(
    vocabularies(), st.text("abcd", max_size=40), st.sampled_from([0.0, -30.0, -9000.0, -99000.0])
)
def test_cutting_into_segments_changes_nothing_to_the_last_bit(vocabulary, text, before):
    encoder = Encoder(*vocabulary)
    expected, end = slow_path(text, *vocabulary, before)
    for _ in range(2):  # solved, then remembered
        ids, total = encoder.path(text, before)
        assert ids.tolist() == expected
        assert total == end
        if before == 0:
            assert encoder.ids(text).tolist() == expected


def test_near_ties_fall_by_rounding_far_into_a_text():
    pieces = {"a": 0, "b": 1, "ab": 2, " ": 3}
    scores = np.array([-3.0, -3.0, -6.001, -1.0, UNKNOWN], np.float32)
    encoder = Encoder(pieces, scores)
    text = "ab " * 11000  # to -77000, where float32 knows 1/128
    ids, _ = encoder.path(text)
    assert ids.tolist() == slow_path(text, pieces, scores)[0]
    assert set(ids[:6].tolist()) == {0, 1, 3}
    assert 2 in ids


def test_near_ties_fall_by_rounding_in_a_short_text_too():
    pieces = {"a": 0, "b": 1, "ab": 2, " ": 3}
    scores = np.array([-3.0, -3.0, -6.00001, -1.0, UNKNOWN], np.float32)
    text = "ab " * 170  # to -1190, where float32 knows 1/8192
    ids = Encoder(pieces, scores).ids(text)
    assert len(text) <= SHORT
    assert ids.tolist() == slow_path(text, pieces, scores)[0]
    assert set(ids[:3].tolist()) == {0, 1, 3}
    assert 2 in ids


def test_what_was_solved_is_dropped_when_it_is_much():
    pieces = {"a": 0, "b": 1, "ab": 2, "ba": 3}
    encoder = Encoder(pieces, np.array([-1, -2, -2.5, -9, UNKNOWN], np.float32))
    texts = ["ab" * n for n in range(1, 40)]
    expected = [encoder.ids(text).tolist() for text in texts]
    kept = encoder._of_short[1]
    assert 0 < max(map(len, kept)) <= LONGEST < max(map(len, texts))
    encoder.few = 5
    for text in texts:
        assert encoder.ids(text).tolist() == expected[len(text) // 2 - 1]
        assert max(map(len, encoder._of_short)) <= 5
    for text in texts:
        assert encoder.path(text)[0].tolist() == expected[len(text) // 2 - 1]
    size, first = encoder._solved.nbytes, encoder._solved
    assert size > sum(map(len, texts))
    encoder.memory = size // 4
    for text in texts:
        assert encoder.path(text)[0].tolist() == expected[len(text) // 2 - 1]
        assert encoder._solved.nbytes < size
    assert encoder._solved is not first
