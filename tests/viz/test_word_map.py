import numpy as np
import pytest

from minillm.errors import UserError
from minillm.models.word_vectors import WordVectors
from minillm.viz.word_map import principal_components, word_map


def test_principal_components_by_the_covariance():
    """The eigenvectors of the covariance, found another way."""
    rng = np.random.default_rng(0)
    rows = rng.standard_normal((40, 5)) * [1, 5, 0.1, 3, 2] @ rng.standard_normal((5, 5)) + 7
    places, share = principal_components(rows, 3)
    values, directions = np.linalg.eigh(np.cov(rows.T))
    expected = (rows - rows.mean(0)) @ directions[:, ::-1][:, :3]
    np.testing.assert_allclose(np.abs(places), np.abs(expected), rtol=1e-9)
    np.testing.assert_allclose(share, values[::-1][:3] / values.sum(), rtol=1e-9)
    assert np.all(places[np.abs(places).argmax(0), range(3)] > 0)
    np.testing.assert_allclose(principal_components(-rows, 3)[0], -places * signs(-places))


def signs(places):
    return np.sign(places[np.abs(places).argmax(0), range(places.shape[1])])


def test_rows_without_spread():
    places, share = principal_components(np.ones((4, 3)))
    assert not places.any()
    assert not share.any()


@pytest.fixture
def vectors():
    rng = np.random.default_rng(1)
    names = [f"word{i}" for i in range(12)] + ["a$b", "猫"]
    return WordVectors(names, rng.standard_normal((14, 6)))


def test_every_word_has_its_mark_and_its_name(vectors):
    groups = {"some": vectors.words[:5], "others": vectors.words[5:]}
    figure = word_map(vectors, groups, title="words", arrows=[("word0", "word7")])
    axes = figure.axes[0]
    marks = np.concatenate([c.get_offsets() for c in axes.collections])
    assert marks.shape == (14, 2)
    unit = vectors.unit - vectors.unit.mean(0)
    np.testing.assert_allclose((marks**2).sum(), (unit**2).sum() * np.sum(shares(axes)), rtol=0.02)
    texts = [t.get_text() for t in axes.texts]
    assert "word3" in texts
    assert r"a\$b" in texts
    assert len(texts) == 15  # the arrow is one of them
    assert [t.get_text() for t in figure.legends[0].get_texts()] == list(groups)
    figure.draw_without_rendering()


def shares(axes):
    """The shares of the variance that the axes' labels tell."""
    labels = axes.get_xlabel(), axes.get_ylabel()
    return [int(label.split("(")[1].split("%")[0]) / 100 for label in labels]


def test_labels_keep_clear_of_one_another():
    """Words on a line, closer than their names are long, go above and below it."""
    names = [f"somewhere{i}" for i in range(7)]
    angle = np.linspace(-0.3, 0.3, 7)
    figure = word_map(WordVectors(names, np.stack([np.cos(angle), np.sin(angle)], 1)), {"": names})
    figure.draw_without_rendering()
    boxes = [t.get_window_extent() for t in figure.axes[0].texts]
    assert not [1 for i, a in enumerate(boxes) for b in boxes[:i] if a.overlaps(b)]


def test_wrong_input_is_named(vectors):
    with pytest.raises(ValueError, match="word_map needs at least 3 words, got 2"):
        word_map(vectors, {"": ["word1", "word2"]})
    with pytest.raises(UserError, match="'werd1' is none of the 14 words: did you mean"):
        word_map(vectors, {"": ["word2", "word3", "werd1"]})
    with pytest.raises(ValueError, match=r"N and C at least 2, got shape \(4, 1\)"):
        principal_components(np.ones((4, 1)))
