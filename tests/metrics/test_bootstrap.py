import numpy as np
import pytest
import sacrebleu
from hypothesis import given
from hypothesis import strategies as st
from sacrebleu import significance

from minillm.errors import UserError
from minillm.metrics import bootstrap, of_sums, paired_bootstrap
from tests.metrics.texts import LINES

FIRST = [line.replace("the", "a") for line in LINES]
SECOND = [line.replace("and", "then") for line in LINES]


def mean_of(values):
    return of_sums(np.stack([values, np.ones(len(values))], 1), lambda s: s[0] / s[1])


def test_by_hand():
    class Fixed:
        rows = iter([[0, 0], [0, 1], [1, 1], [1, 0]])

        def integers(self, low, high, size):
            assert (low, high, size) == (0, 2, 2)
            return np.array(next(self.rows))

    found = paired_bootstrap(
        mean_of([1.0, 3.0]), mean_of([2.0, 3.0]), 2, rng=Fixed(), samples=4, level=0.5
    )
    # differences of the samples: 1, 1/2, 0, 1/2; centred by their mean, 1/2; observed 1/2
    assert found.difference.score == 0.5
    assert found.difference.mean == 0.5
    assert (found.difference.low, found.difference.high) == (0.5, 0.5)
    assert found.better == 3 / 4
    assert found.p == 1 / 5
    assert (found.first.low, found.first.high) == (2, 2)
    assert str(found).endswith("p = 0.2000; it is above zero in 75.0% of 4 samples")


@pytest.mark.parametrize("n_samples", [1000, 37])
def test_p_value_mean_and_interval_are_sacrebleus(n_samples):
    metric = sacrebleu.BLEU(effective_order=False)
    named = [("first", FIRST), ("second", SECOND)]
    test = significance.PairedTest(
        named, {"BLEU": metric}, [LINES], test_type="bs", n_samples=n_samples
    )
    theirs = test()[1]["BLEU"]

    def side(lines):
        statistics = metric._extract_corpus_statistics(lines, [LINES])
        return of_sums(statistics, lambda s: metric._compute_score_from_stats(list(s)).score)

    rng = np.random.default_rng(12345)  # sacrebleu's seed
    found = paired_bootstrap(side(FIRST), side(SECOND), 6, rng=rng, samples=n_samples)
    assert found.second.score == pytest.approx(theirs[1].score, abs=1e-9)
    assert found.p == theirs[1].p_value
    half = (found.second.high - found.second.low) / 2
    # its resampled scores are made of float32 numbers, ours are not
    assert found.second.mean == pytest.approx(theirs[1].mean, rel=1e-6)
    assert half == pytest.approx(theirs[1].ci, abs=1e-4)


@pytest.mark.parametrize(("level", "low"), [(0.95, 25), (0.9, 50), (0.8, 100)])
def test_as_many_samples_are_cut_off_as_the_level_says(level, low):
    values = iter(range(1001))  # the thousand samples, and the score itself
    rng = np.random.default_rng(0)
    found = bootstrap(lambda _: next(values), 1, rng=rng, samples=np.int64(1000), level=level)
    assert (found.low, found.high) == (low, 999 - low)


def test_the_interval_of_a_mean_is_nearly_the_normal_one():
    values = np.random.default_rng(0).standard_normal(2000)
    found = bootstrap(mean_of(values), 2000, rng=np.random.default_rng(1), samples=2000)
    half = 1.96 * values.std() / np.sqrt(2000)
    assert found.score == pytest.approx(values.mean())
    assert found.low == pytest.approx(values.mean() - half, abs=half / 10)
    assert found.high == pytest.approx(values.mean() + half, abs=half / 10)
    assert found.low < found.mean < found.high


def test_a_clear_difference_is_certain_and_none_is_not():
    values = np.random.default_rng(0).standard_normal(200)
    first = mean_of(values)
    clear = paired_bootstrap(first, mean_of(values + 1), 200, rng=np.random.default_rng(0))
    assert clear.p < 0.01
    assert clear.better == 1
    same = paired_bootstrap(first, first, 200, rng=np.random.default_rng(0))
    assert same.p == pytest.approx(1 / 1001)  # as sacrebleu's: no sample is beyond a zero
    assert same.better == 0
    assert (same.difference.low, same.difference.high) == (0, 0)


@given(st.integers(1, 50), st.integers(0, 2**32 - 1))
def test_same_seed_same_samples(n, seed):
    seen = [[], []]
    for rows in seen:
        bootstrap(
            lambda i, rows=rows: rows.append(i) or 0.0,
            n,
            rng=np.random.default_rng(seed),
            samples=5,
        )
    assert np.array_equal(seen[0], seen[1])
    assert np.array_equal(seen[0][:-1], np.random.default_rng(seed).choice(n, (5, n)))


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n": 0}, "n must be a whole number of at least 1, got 0"),
        ({"n": 2.0}, "n must be .* got 2.0"),
        ({"samples": 0}, "samples must be a whole number of at least 1, got 0"),
        ({"samples": 1.5}, "samples must be .* got 1.5"),
        ({"samples": None}, "samples must be .* got None"),
        ({"samples": True}, "samples must be .* got True"),
        ({"level": 1.0}, "level must be a number between 0 and 1, got 1.0"),
        ({"level": "0.9"}, "level must be .* got '0.9'"),
        ({"rng": 7}, "rng must be a numpy.random.Generator, got 7"),
    ],
)
def test_a_mistake_is_named(options, message):
    options = {"n": 3, "rng": np.random.default_rng(0)} | options
    n = options.pop("n")
    with pytest.raises(UserError, match=message):
        bootstrap(mean_of([1.0, 2.0, 3.0]), n, **options)
    with pytest.raises(UserError, match=message):
        paired_bootstrap(mean_of([1.0] * 3), mean_of([2.0] * 3), n, **options)
