import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.models import ngram_table
from minillm.models.ngram_table import HashTable

KEYS = st.lists(st.integers(0, (1 << 63) - 1) | st.integers(0, 40), unique=True, max_size=60)
OTHERS = st.lists(st.integers(-(1 << 63), (1 << 63) - 1) | st.integers(-2, 40))


def looked_up(keys, asked):
    place = {key: i for i, key in enumerate(keys)}
    return [place.get(key, -1) for key in asked]


@given(keys=KEYS, others=OTHERS, chunk=st.integers(1, 20))
def test_finds_what_a_dictionary_finds(keys, others, chunk):
    asked = [*keys, *others]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_table, "CHUNK", chunk)
        found = HashTable(np.array(keys, np.int64)).find(np.array(asked, np.int64))
    assert found.dtype == np.int64
    assert found.tolist() == looked_up(keys, asked)


@given(keys=KEYS, others=OTHERS, multiplier=st.sampled_from([0, 1, 1 << 60, 1 << 63]))
def test_keys_with_one_home_are_told_apart(keys, others, multiplier):
    """With such multipliers most keys, or all, have the same home."""
    asked = [*keys, *others]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ngram_table, "MULTIPLIER", np.uint64(multiplier))
        found = HashTable(np.array(keys, np.int64)).find(np.array(asked, np.int64))
    assert found.tolist() == looked_up(keys, asked)


@pytest.mark.parametrize("step", [1, 2, 64, 1 << 20, 1_000_003, 0x61C8864680B583EB])
def test_regular_keys_lie_near_their_homes(step):
    keys = np.arange(20_000, dtype=np.uint64) * np.uint64(step) & np.uint64((1 << 63) - 1)
    keys = np.unique(keys).view(np.int64)
    table = HashTable(keys)
    place = np.flatnonzero(table._keys >= 0)
    assert (place - table._home(table._keys[place])).mean() < 2
    assert np.array_equal(table.find(keys), np.arange(len(keys)))
    assert table.nbytes < 50 * len(keys)
