import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.data import Document, RandomBlocks, Streams, encode_documents
from minillm.errors import UserError
from minillm.tokenizers import ByteTokenizer, make_tokenizer


def test_documents_end_in_the_end_id():
    tokenizer = make_tokenizer("char", "abc水")
    ids = encode_documents(
        [Document("1", "ab水"), Document("2", ""), Document("3", "z")], tokenizer
    )
    assert ids.dtype == np.int32
    assert ids.tolist() == [0, 1, 3, 4, 4, 5, 4]
    assert encode_documents([], tokenizer).shape == (0,)


@given(n=st.integers(2, 60), block=st.integers(1, 20), batch=st.integers(1, 5), seed=st.integers(0))
def test_random_blocks(n, block, batch, seed):
    ids = np.arange(n)
    if n < block + 1:
        with pytest.raises(UserError, match=f"{n} tokens, but a block of {block} .* {block + 1}"):
            RandomBlocks(ids, block=block, batch=batch, seed=seed, vocab_size=n)
        return
    blocks = RandomBlocks(ids, block=block, batch=batch, seed=seed, vocab_size=n)
    x, y = blocks.batch(3)
    assert x.shape == y.shape == (batch, block)
    assert x.dtype == y.dtype == np.int32
    assert np.array_equal(x, x[:, :1] + np.arange(block))
    assert np.array_equal(y, x + 1)
    blocks.batch(4)
    again = RandomBlocks(ids, block=block, batch=batch, seed=seed, vocab_size=n).batch(3)
    assert np.array_equal(again, (x, y))


def test_random_blocks_reach_every_place_and_differ():
    blocks = RandomBlocks(np.arange(10), block=3, batch=50, seed=1, vocab_size=10)
    starts = np.concatenate([blocks.batch(step)[0][:, 0] for step in range(20)])
    assert set(starts) == set(range(7))
    assert np.all(np.abs(np.bincount(starts) - 1000 / 7) < 5 * np.sqrt(1000 / 7))
    assert not np.array_equal(blocks.batch(0), blocks.batch(1))
    other = RandomBlocks(np.arange(10), block=3, batch=50, seed=2, vocab_size=10)
    assert not np.array_equal(blocks.batch(0), other.batch(0))


def test_random_blocks_draw_as_stated():
    expected = np.random.default_rng(np.random.SeedSequence([7, 5, 0])).integers(0, 15, size=4)
    blocks = RandomBlocks(np.arange(20), block=5, batch=4, seed=7, vocab_size=20)
    assert np.array_equal(blocks.batch(5)[0][:, 0], expected)


@given(n=st.integers(2, 80), block=st.integers(1, 9), batch=st.integers(1, 4))
def test_streams_continue_and_wrap(n, block, batch):
    ids = np.arange(n)
    if n < block * batch + 1:
        with pytest.raises(UserError, match=f"{n} tokens, .* need {block * batch + 1}"):
            Streams(ids, block=block, batch=batch, vocab_size=n)
        return
    streams = Streams(ids, block=block, batch=batch, vocab_size=n)
    last = None
    for step in range(2 * streams.steps + 1):
        x, y = streams.batch(step)
        assert x.shape == y.shape == (batch, block)
        assert x.dtype == np.int32
        assert np.array_equal(y, x + 1)
        assert streams.restarts(step) == (step % streams.steps == 0)
        if not streams.restarts(step):
            assert np.array_equal(x[:, 0], last)
        last = y[:, -1]
    assert np.array_equal(streams.batch(0), streams.batch(streams.steps))
    read = np.concatenate([streams.batch(s)[0].ravel() for s in range(streams.steps)])
    assert len(set(read)) == len(read)  # no token is read twice in a pass
    assert n - 1 - len(read) < batch * block + batch  # and few are left out


@pytest.mark.parametrize("make", [lambda *a, **k: RandomBlocks(*a, seed=0, **k), Streams])
def test_wrong_ids_and_sizes(make):
    ids = ByteTokenizer().encode("0123456789")
    with pytest.raises(ValueError, match=r"ids must be in \[0, 57\), got 57 at position 9"):
        make(ids, block=2, batch=2, vocab_size=57)
    with pytest.raises(ValueError, match="got -1 at position 0"):
        make(np.array([-1, 2, 3, 4, 5]), block=2, batch=2, vocab_size=9)
    with pytest.raises(ValueError, match="1-D integers, got float64"):
        make(np.array([0.0, np.nan, 1, 2, 3]), block=2, batch=2, vocab_size=9)
    with pytest.raises(ValueError, match="block must be at least 1, got 0"):
        make(ids, block=0, batch=2, vocab_size=257)
    with pytest.raises(ValueError, match="batch must be at least 1, got -3"):
        make(ids, block=2, batch=-3, vocab_size=257)


def test_a_negative_seed():
    with pytest.raises(ValueError, match="seed must be at least 0, got -1"):
        RandomBlocks(np.arange(9), block=2, batch=2, seed=-1, vocab_size=9)


def test_batches_may_be_written_to():
    ids = np.arange(40)
    for source in (
        RandomBlocks(ids, block=4, batch=2, seed=0, vocab_size=40),
        Streams(ids, block=4, batch=2, vocab_size=40),
    ):
        before = np.array(source.batch(0))
        for part in source.batch(0):
            part[...] = -1
        assert np.array_equal(source.batch(0), before)
