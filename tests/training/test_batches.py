import itertools

import numpy as np
import pytest

from minillm.data.batches import RandomBlocks
from minillm.training import TrainConfig
from minillm.training.batches import TrainingBatches, fingerprint, validation_batches

CONFIG = TrainConfig(batch=3, block=4, eval_batches=2, seed=5)


def stream(n):
    return np.arange(n, dtype=np.int32)


def test_stateless_training_reads_random_blocks():
    ids = stream(100)
    batches = TrainingBatches(ids, config=CONFIG, vocab_size=100, stateful=False)
    source = RandomBlocks(ids, block=4, batch=3, seed=5, vocab_size=100)
    for number, (x, y, restarts) in enumerate(batches.micro_steps(7, 3), start=7):
        expected = source.batch(number)
        assert np.array_equal(x, expected[0])
        assert np.array_equal(y, expected[1])
        assert restarts


def test_stateful_training_reads_on_where_it_stopped():
    batches = TrainingBatches(stream(100), config=CONFIG, vocab_size=100, stateful=True)
    steps = batches.micro_steps(0, 20)
    assert [n for n, (_, _, restarts) in enumerate(steps) if restarts] == [0, 8, 16]
    for (_, before, _), (x, _, restarts) in itertools.pairwise(steps):
        assert restarts or np.array_equal(x[:, 0], before[:, -1])


@pytest.mark.parametrize("n", [5, 13, 24, 25, 26, 40, 1000])
@pytest.mark.parametrize("stateful", [False, True])
def test_validation_batches_are_fixed_distinct_and_in_the_text(n, stateful):
    options = {"config": CONFIG, "vocab_size": n, "stateful": stateful}
    batches = validation_batches(stream(n), **options)
    again = validation_batches(stream(n), **options)
    seen = []
    for (x, y, restarts), (x2, y2, _) in zip(batches, again, strict=True):
        assert np.array_equal(x, x2)
        assert np.array_equal(y, y2)
        assert np.array_equal(x + 1, y)  # the stream counts up: a target is the next token
        assert x.shape == y.shape
        assert x.shape[1] == 4
        assert 1 <= len(x) <= 3
        seen.extend(x.ravel())
        assert stateful or restarts
    assert batches[0][2]
    assert len(set(seen)) == len(seen), "no token is predicted twice"
    if stateful:
        assert len(batches) <= 2
    else:
        blocks = (n - 1) // 4
        assert len(seen) == 4 * min(blocks, 6)
        if blocks > 100:  # spread over the text rather than taken from its beginning
            assert max(seen) > 0.8 * (n - 1)


def test_fingerprints_tell_data_apart():
    assert fingerprint(None) is None
    assert fingerprint(stream(5)) == fingerprint(stream(5).astype(np.int64))
    assert fingerprint(stream(5)) != fingerprint(stream(5)[::-1])
    assert fingerprint(stream(5)).startswith("5 tokens")
