import numpy as np
import pytest

from minillm.data.pairs import Noise, keep_probability, skip_gram_pairs
from minillm.errors import UserError

ALL = np.ones(50)


def rng(seed=0):
    return np.random.default_rng(seed)


def test_keep_probability_is_one_minus_eq_5():
    counts = np.array([9000, 900, 90, 10])
    keep = keep_probability(counts, 1e-2)
    f = counts / 10000
    discard = 1 - np.sqrt(1e-2 / f)  # eq. 5, negative for rare words: never discarded
    np.testing.assert_allclose(keep, 1 - np.maximum(discard, 0))
    assert keep[2] == keep[3] == 1
    assert np.all(keep_probability(counts, np.inf) == 1)


def brute_force(ids, document, reach):
    """Every pair, one at a time."""
    return sorted(
        (ids[i], ids[j])
        for i in range(len(ids))
        for j in range(max(0, i - reach[i]), min(len(ids), i + reach[i] + 1))
        if i != j and document[i] == document[j]
    )


@pytest.mark.parametrize("window", [1, 2, 5, 60])
def test_pairs_are_those_of_two_loops(window):
    ids = rng(1).integers(0, 50, 40).astype(np.int32)
    document = np.repeat(np.arange(4), [1, 14, 2, 23])
    words, contexts = skip_gram_pairs(ids, document, ALL, window=window, rng=rng(2))
    again = rng(2)
    again.random(len(ids))  # what decides who is kept
    reach = again.integers(1, window + 1, len(ids))
    assert sorted(zip(words, contexts, strict=True)) == brute_force(ids, document, reach)
    assert words.dtype == contexts.dtype == np.int32
    assert sorted(words) != words.tolist()  # in a random order


def test_words_that_are_not_kept_make_room():
    """a x b, x never kept: a and b are neighbours."""
    ids, document = np.array([0, 1, 2]), np.zeros(3, int)
    pairs = skip_gram_pairs(ids, document, np.array([1, 0, 1]), window=1, rng=rng())
    assert sorted(zip(*map(np.ndarray.tolist, pairs), strict=True)) == [(0, 2), (2, 0)]


def test_near_words_are_seen_more_often():
    """With a reach of 1 to 4, all alike likely, distance d is seen in (5 - d) of 4 cases."""
    ids = np.arange(20000)
    words, contexts = skip_gram_pairs(ids, 0 * ids, np.ones(20000), window=4, rng=rng(5))
    share = np.bincount(np.abs(words - contexts)) / 40000
    # 20,000 reaches are drawn: a share is off by 0.0035 at most (one sd, at a half)
    np.testing.assert_allclose(share[1:], [1, 0.75, 0.5, 0.25], atol=0.01)


def test_texts_without_pairs():
    for n in (0, 1):
        words, contexts = skip_gram_pairs(
            np.zeros(n, int), np.zeros(n, int), ALL, window=2, rng=rng()
        )
        assert len(words) == len(contexts) == 0
    alone = skip_gram_pairs(np.arange(5), np.arange(5), ALL, window=2, rng=rng())
    assert len(alone[0]) == 0


def test_a_seed_gives_the_pairs():
    ids = np.arange(50)
    keep = np.full(50, 0.5)
    a, b, c = (skip_gram_pairs(ids, 0 * ids, keep, window=3, rng=rng(s))[0] for s in (1, 1, 2))
    assert a.tolist() == b.tolist()
    assert a.tolist() != c.tolist()


def test_noise_is_drawn_by_its_power():
    counts = np.array([16, 1, 81])
    noise = Noise(counts, 0.75)
    np.testing.assert_allclose(noise.probability, np.array([8, 1, 27]) / 36)
    drawn = noise.draw((300, 100), rng())
    assert drawn.shape == (300, 100)
    assert drawn.dtype == np.int32
    share = np.bincount(drawn.ravel()) / drawn.size
    # 30,000 draws: one sd is 0.0025 at a probability of 3 in 4
    np.testing.assert_allclose(share, noise.probability, atol=0.01)
    np.testing.assert_allclose(Noise(counts, 0).probability, 1 / 3)
    np.testing.assert_allclose(
        Noise(counts, 400).probability, [0, 0, 1], atol=1e-12
    )  # 81**400 is no float

    class Largest:
        def random(self, shape):
            return np.full(shape, 1 - 2**-53)

    assert Noise(np.ones(10), 1).draw((2,), Largest()).tolist() == [9, 9]


def test_wrong_input_is_named():
    with pytest.raises(UserError, match="threshold must be above 0, got 0"):
        keep_probability(np.ones(3), 0)
    with pytest.raises(UserError, match="window must be a whole number of at least 1, got 0"):
        skip_gram_pairs(np.arange(3), np.arange(3), ALL, window=0, rng=rng())
    with pytest.raises(UserError, match="power must be a number of at least 0, got -1"):
        Noise(np.ones(3), -1)
    with pytest.raises(UserError, match="counts must hold a number above 0"):
        Noise(np.zeros(0))
