import json

import numpy as np
import pytest

from minillm.errors import UserError
from minillm.models.word_vectors import WordVectors

WORDS = ["north", "east", "northeast", "south", "nothing"]
ARROWS = np.array([[0, 2], [3, 0], [1, 1], [0, -0.5], [0, 0]], np.float32)


@pytest.fixture
def vectors():
    return WordVectors(WORDS, ARROWS, contexts=2 * ARROWS, counts=np.arange(5))


def test_nearest_is_by_angle(vectors):
    found = vectors.nearest("north", 2)
    assert [word for word, _ in found] == ["northeast", "east"]
    assert found[0][1] == pytest.approx(np.sqrt(0.5))
    assert vectors.nearest(np.array([5.0, 0.0]), 1) == [("east", pytest.approx(1))]
    assert len(vectors.nearest("north", 99)) == 4
    assert vectors.similarity("north", "south") == pytest.approx(-1)
    assert vectors.similarity("north", "nothing") == 0
    assert vectors.similarity("east", "east") == pytest.approx(1)


@pytest.mark.parametrize("size", [1e-30, 1e30])
def test_the_length_of_vectors_matters_to_no_cosine(vectors, size):
    """The squares of such numbers are no float32 any more."""
    scaled = WordVectors(WORDS, np.float32(size) * ARROWS)
    for word in WORDS:
        assert scaled.similarity("north", word) == pytest.approx(vectors.similarity("north", word))
    found = scaled.nearest(np.float32([size, size]), 1)
    assert found == [("northeast", pytest.approx(1))]


def test_analogy():
    """man is to king as woman is to queen: the square's fourth corner, none of its three."""
    names = ["man", "woman", "king", "queen", "apple"]
    arrows = [[1, 0, 0.2], [1, 1, 0.2], [0.2, 0, 1], [0.2, 1, 1], [-1, -1, -1]]
    vectors = WordVectors(names, np.array(arrows))
    assert vectors.analogy("man", "king", "woman", 1)[0][0] == "queen"
    assert [w for w, _ in vectors.analogy("man", "king", "woman", 9)] == ["queen", "apple"]


def test_what_it_holds(vectors):
    assert len(vectors) == 5
    assert "east" in vectors
    assert "west" not in vectors
    np.testing.assert_array_equal(vectors["east"], [3, 0])


def test_save_and_load(vectors, tmp_path):
    vectors.save(tmp_path / "deep" / "folder")
    again = WordVectors.load(tmp_path / "deep" / "folder")
    assert again.words == WORDS
    for name in ("vectors", "contexts", "counts"):
        np.testing.assert_array_equal(getattr(again, name), getattr(vectors, name))
    assert again.vectors.dtype == np.float32
    WordVectors(["猫", "犬"], np.eye(2)).save(tmp_path / "few")
    few = WordVectors.load(tmp_path / "few")
    assert (few.words, few.contexts, few.counts) == (["猫", "犬"], None, None)
    assert few.vectors.dtype == np.float64


def test_unknown_words_are_named(vectors):
    with pytest.raises(UserError, match="'norht' is none of the 5 words: did you mean 'north'"):
        vectors.nearest("norht")
    with pytest.raises(UserError, match="'xyz' is none of the 5 words: it came too rarely"):
        vectors.analogy("north", "east", "xyz")


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda v: v.nearest("north", 0), "n must be a whole number of at least 1, got 0"),
        (lambda v: v.nearest(np.ones(3)), r"the vector must have shape \(2,\), got \(3,\)"),
        (lambda v: WordVectors(["a", "a"], np.eye(2)), "words must differ, 'a' comes twice"),
        (lambda v: WordVectors(["a"], np.eye(2)), r"must have shape \(1, C\), got \(2, 2\)"),
        (
            lambda v: WordVectors(["a"], np.ones((1, 2)), contexts=np.ones((2, 2))),
            r"contexts must have shape \(1, 2\), got \(2, 2\)",
        ),
        (lambda v: v.nearest(np.array([1, np.nan])), "the vector must be finite"),
        (lambda v: WordVectors(["a", 2], np.eye(2)), "words must be texts, got 2 among them"),
        (lambda v: WordVectors(["a"], np.ones((1, 2), int)), "vectors must be floats, got int64"),
        (lambda v: WordVectors(["a"], np.full((1, 2), np.nan)), "vectors must be finite"),
    ],
)
def test_wrong_input_is_named(vectors, call, message):
    with pytest.raises(UserError, match=message):
        call(vectors)


def test_damaged_files_are_named(vectors, tmp_path):
    with pytest.raises(UserError, match=r"cannot read .*words\.json"):
        WordVectors.load(tmp_path)
    vectors.save(tmp_path)
    data = (tmp_path / "vectors.safetensors").read_bytes()
    (tmp_path / "vectors.safetensors").write_bytes(data[:-3])
    with pytest.raises(UserError, match=r"vectors\.safetensors is damaged"):
        WordVectors.load(tmp_path)
    (tmp_path / "vectors.safetensors").write_bytes(data)
    for changed, message in (
        ({"format": "other", "words": WORDS}, "is not of the format minillm-words-1"),
        ({"format": "minillm-words-1"}, "is not of the format"),
        ({"format": "minillm-words-1", "words": WORDS[1:]}, r"must have shape \(4, C\)"),
        ({"format": "minillm-words-1", "words": [[], 1, 2, 3, 4]}, "must be texts"),
    ):
        (tmp_path / "words.json").write_text(json.dumps(changed))
        with pytest.raises(UserError, match=message) as caught:
            WordVectors.load(tmp_path)
        assert str(tmp_path) in str(caught.value)
