import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.tree import flatten, leaves, map_leaves, unflatten

arrays = st.lists(st.integers(-9, 9), max_size=3).map(np.array)
names = st.text("abc", min_size=1, max_size=2)
nests = st.recursive(
    arrays | st.none(),
    lambda inner: (
        st.dictionaries(names, inner, max_size=3)
        | st.lists(inner, max_size=3)
        | st.lists(inner, max_size=2).map(tuple)
    ),
    max_leaves=8,
).filter(lambda nest: isinstance(nest, dict | list | tuple))

PARAMS = {
    "embedding": np.ones((4, 2)),
    "blocks": [{"weight": np.zeros((2, 3)), "bias": None}, {"weight": np.ones((2, 3))}],
}


def same(a, b):
    """Equal structure, types of containers included, and equal arrays."""
    if type(a) is not type(b):
        return False
    if isinstance(a, dict):
        return list(a) == list(b) and all(same(a[k], b[k]) for k in a)
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(map(same, a, b))
    return a is b is None or np.array_equal(a, b)


def test_names_are_paths_in_the_order_of_the_nest():
    assert list(flatten(PARAMS)) == ["embedding", "blocks.0.weight", "blocks.1.weight"]
    assert flatten(PARAMS)["blocks.1.weight"] is PARAMS["blocks"][1]["weight"]


def test_a_bare_array_is_a_leaf_without_a_name():
    assert [name for name, _ in leaves(np.ones(2))] == [""]
    assert list(leaves(None)) == []


@given(nest=nests)
def test_unflatten_undoes_flatten(nest):
    assert same(unflatten(flatten(nest), nest), nest)


@given(nest=nests)
def test_map_leaves_keeps_the_structure(nest):
    assert same(map_leaves(lambda a: a, nest), nest)
    doubled = map_leaves(lambda a, b: a + b, nest, nest)
    for (name, a), (other, twice) in zip(leaves(nest), leaves(doubled), strict=True):
        assert name == other
        assert np.array_equal(2 * a, twice)


def test_unflatten_takes_the_flat_arrays_whatever_their_order():
    flat = {name: a + 5 for name, a in reversed(flatten(PARAMS).items())}
    params = unflatten(flat, PARAMS)
    assert params["blocks"][0]["weight"] is flat["blocks.0.weight"]
    assert params["blocks"][0]["bias"] is None


def test_unflatten_names_what_does_not_match():
    flat = flatten(PARAMS)
    flat["extra"] = flat.pop("embedding")
    with pytest.raises(ValueError, match=r"missing \['embedding'\], not expected \['extra'\]"):
        unflatten(flat, PARAMS)
    flat = flatten(PARAMS) | {"blocks.0.weight": np.ones((3, 2))}
    with pytest.raises(ValueError, match=r"blocks.0.weight must have shape \(2, 3\), got \(3, 2"):
        unflatten(flat, PARAMS)


def test_map_leaves_refuses_nests_of_other_structure():
    with pytest.raises(KeyError):
        map_leaves(lambda a, b: a + b, PARAMS, {"embedding": np.ones((4, 2))})
