import math

import hypothesis
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.gradcheck.fill import (
    broadcast,
    contiguous,
    filled_ids,
    reversed_axes,
    strided,
    transposed,
)
from minillm.gradcheck.strategies import (
    arrays,
    dims,
    dtypes,
    ids,
    inputs,
    layouts,
    magnitudes,
    masks,
    seeds,
    shapes,
    sizes,
)

MANY = hypothesis.settings(max_examples=500, database=None, derandomize=True)


def smallest(strategy, condition=lambda value: True):
    """What a failing case shrinks to, where `condition` is what makes it fail."""
    return hypothesis.find(strategy, condition, settings=MANY)


def all_drawn(strategy):
    """The set of what 500 examples draw."""
    seen = set()

    @MANY
    @given(strategy)
    def collect(value):
        seen.add(value)

    collect()
    return seen


# --- shapes ---------------------------------------------------------------------------------------


@given(shape=shapes(0, 5), n=st.integers(0, 8), data=st.data())
def test_sizes_are_distinct_but_for_ones(shape, n, data):
    for drawn in (shape, data.draw(sizes(n, largest=3))):
        larger = [size for size in drawn if size != 1]
        assert len(set(larger)) == len(larger)
        assert all(2 <= size <= max(5, len(drawn) + 1) for size in larger)


def test_sizes_reach_every_shape_and_no_other():
    assert all_drawn(sizes(2, largest=3)) == {
        *[(1, 1), (1, 2), (1, 3), (2, 1), (3, 1), (2, 3), (3, 2)]
    }
    assert all_drawn(sizes(2, largest=3, ones=False)) == {(2, 3), (3, 2)}
    assert all_drawn(sizes(1, largest=2, zero=True)) == {(0,), (1,), (2,)}
    assert all_drawn(shapes(0, 1, largest=2)) == {(), (1,), (2,)}


@pytest.mark.parametrize(
    ("strategy", "fails", "expected"),
    [
        (shapes(), lambda s: True, (1,)),
        (shapes(0), lambda s: True, ()),
        (shapes(ones=False), lambda s: True, (2,)),
        (shapes(), lambda s: s[-1] > 1, (2,)),
        (sizes(4, 2), lambda s: min(s) > 1, (2, 3, 4, 5)),
        (shapes(), lambda s: s[-1] > 3, (4,)),
        (shapes(), lambda s: len(s) > 1 and s[0] > s[1], (2, 1)),
        (shapes(), lambda s: len(s) > 1 and s[-2] > 1 and s[-1] > s[-2], (2, 3)),
        (shapes(), lambda s: math.prod(s) > 5 and len(s) < 3, (2, 3)),
        (shapes(), lambda s: len(set(s)) == 3, (1, 2, 3)),
        (shapes(zero=True), lambda s: True, (1,)),
        (shapes(zero=True), lambda s: 0 in s, (0,)),
    ],
)
def test_a_failure_shrinks_to_the_smallest_shape(strategy, fails, expected):
    assert smallest(strategy, fails) == expected


def test_a_failing_test_ends_at_the_smallest_arrays():
    """A softmax backward without its subtracted term is right where there is one class alone."""
    failed = []

    @MANY
    @given(inputs(x="... C", dy="... C", layout=layouts))
    def holds(given_arrays):
        x, dy = given_arrays["x"], given_arrays["dy"]
        y = np.exp(x) / np.exp(x).sum(-1, keepdims=True)
        if not np.allclose(y * dy, y * (dy - (y * dy).sum(-1, keepdims=True))):
            if x.shape[-1] > 1:
                failed.append(given_arrays)
                raise AssertionError("the term is missing")
            hypothesis.reject()

    with pytest.raises(AssertionError, match="the term is missing"):
        holds()
    assert failed[-1]["x"].shape == (2,)
    assert failed[-1]["x"].base is None, "a plain array, as the layout plays no part"


def test_a_failing_test_prints_the_call_that_makes_the_array():
    @MANY
    @given(x=arrays(shapes(), layout=layouts))
    def holds(x):
        assert x.ndim < 2 or x.flags.c_contiguous or x.flags.writeable

    with pytest.raises(AssertionError) as error:
        holds()
    printed = "\n".join(error.value.__notes__)
    assert "x=filled((1, 2), layout=broadcast)" in printed


def test_wrong_bounds_are_named():
    with pytest.raises(ValueError, match="got least=3, most=2"):
        shapes(3, 2)
    with pytest.raises(ValueError, match="got least=-1"):
        shapes(-1, 2)


# --- sizes by name --------------------------------------------------------------------------------


@given(drawn=dims("B T C"))
def test_dims_are_distinct_sizes_in_the_order_of_the_names(drawn):
    assert list(drawn) == ["B", "T", "C"]
    larger = [size for size in drawn.values() if size > 1]
    assert len(set(larger)) == len(larger)


def test_dims_shrink_by_name():
    assert smallest(dims("B T C")) == {"B": 1, "T": 1, "C": 1}
    assert smallest(dims(["B", "T"]), lambda n: n["T"] > 1 < n["B"]) == {"B": 2, "T": 3}
    assert smallest(dims("... C")) == {"...": (), "C": 1}
    assert smallest(dims("C ..."), lambda n: len(n["..."]) == 2) == {"C": 1, "...": (1, 1)}
    assert smallest(dims("C", zero=True), lambda n: n["C"] == 0) == {"C": 0}


# --- layouts --------------------------------------------------------------------------------------


@given(x=arrays(shapes(0, 4, zero=True), dtype=dtypes), layout=layouts)
def test_a_layout_keeps_shape_dtype_and_values(x, layout):
    view = layout(x)
    assert view.shape == x.shape
    assert view.dtype == x.dtype
    assert not np.shares_memory(view, x)
    if layout is not broadcast or max(x.shape, default=0) < 2:
        np.testing.assert_array_equal(view, x)


@pytest.mark.parametrize(
    ("layout", "strides"),
    [
        (contiguous, (24, 8)),
        (transposed, (8, 16)),
        (strided, (96, 16)),
        (reversed_axes, (-24, -8)),
        (broadcast, (0, 8)),
    ],
)
def test_the_strides_of_a_layout(layout, strides):
    assert layout(np.arange(6.0).reshape(2, 3)).strides == strides


def test_strided_values_lie_between_others_that_nobody_must_read():
    view = strided(np.zeros((2, 3)))
    assert np.isnan(view.base[1::2]).all()
    assert np.isnan(view.base[:, 1::2]).all()
    assert strided(np.zeros(3, int)).base.tolist() == [0, -1, 0, -1, 0, -1]


def test_broadcast_repeats_the_first_slice_of_the_first_longer_axis():
    np.testing.assert_array_equal(broadcast(np.arange(6.0).reshape(1, 2, 3))[0, 1], [0, 1, 2])
    assert all_drawn(layouts) == {contiguous, transposed, strided, reversed_axes, broadcast}


# --- values ---------------------------------------------------------------------------------------


@given(shape=shapes(0, 3), dtype=dtypes, seed=seeds, data=st.data())
def test_arrays_come_from_one_seed(shape, dtype, seed, data):
    x = data.draw(arrays(shape, dtype=dtype, seed=seed))
    again = data.draw(arrays(st.just(shape), dtype=dtype, seed=seed))
    other = data.draw(arrays(shape, dtype=dtype, seed=seed + 1))
    assert x.shape == shape
    assert x.dtype == dtype
    np.testing.assert_array_equal(x, again)
    assert (x != other).any()


@given(x=arrays((400, 300)))
def test_a_large_array_is_drawn_as_easily_as_a_small_one(x):
    assert x.std() == pytest.approx(1, abs=0.02)  # 7 standard errors of 120000 normal values


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_magnitudes_reach_from_the_smallest_number_to_overflow(dtype):
    info = np.finfo(dtype)
    assert smallest(magnitudes(dtype)) == 1
    assert 0 < smallest(magnitudes(dtype), lambda m: m < info.tiny) < info.tiny
    assert info.max / 10 < smallest(magnitudes(dtype), lambda m: m > info.max / 10) < info.max
    assert all_drawn(magnitudes(dtype, least=0.1, most=20)) == {0.1, 1, 10}
    with pytest.raises(ValueError, match="no power of ten from 2 to 3"):
        magnitudes(dtype, least=2, most=3)


@given(x=arrays((50,), dtype=dtypes, magnitude=magnitudes("float32", most=1e20)))
def test_a_magnitude_may_be_a_strategy(x):
    assert np.abs(x).max() < 1e21


@given(x=arrays((50,), dtype=dtypes, magnitude=magnitudes))
def test_values_of_any_magnitude_are_finite(x):
    assert np.isfinite(x).all()
    assert x.any() or x.dtype == np.float32


def test_magnitudes_beyond_the_range_are_cut_to_it():
    largest = np.finfo(np.float32).max
    x = smallest(arrays((50,), dtype="float32", magnitude=float(largest)), lambda x: True)
    assert x.max() == largest
    assert x.min() == -largest


# --- masks and ids --------------------------------------------------------------------------------


@given(mask=masks(shapes(1, 3, zero=True), empty_rows=False))
def test_without_empty_rows_every_row_sees_something(mask):
    assert mask.dtype == bool
    assert mask.any(-1).all() or mask.shape[-1] == 0


def test_masks_include_rows_that_see_nothing():
    assert smallest(masks((2, 3))).all()
    one_row = smallest(masks((2, 3)), lambda mask: not mask.any(-1).all())
    assert sorted(one_row.tolist()) == [[False] * 3, [True] * 3]
    assert not smallest(masks((2, 3)), lambda mask: not mask.any()).any()
    holes = smallest(masks((4, 5)), lambda mask: mask.any(-1).all() and not mask.all())
    assert holes.any(-1).all()
    with pytest.raises(ValueError, match="at least one axis"):
        smallest(masks(()))


@given(shape=shapes(0, 3, zero=True), n=st.integers(1, 6), data=st.data())
def test_ids_repeat_and_stay_in_range(shape, n, data):
    drawn = data.draw(ids(shape, n, dtype=st.sampled_from(["int32", "int64"])))
    assert drawn.shape == shape
    assert drawn.dtype in (np.int32, np.int64)
    assert ((drawn >= 0) & (drawn < n)).all()
    assert drawn.size < 2 or len(np.unique(drawn)) < drawn.size


def test_ids_repeat_also_where_there_are_few():
    few = all_drawn(ids((3,), 9).map(lambda a: len(np.unique(a))))
    assert few == {1, 2}
    assert len(np.unique(filled_ids((100,), 5, distinct=5))) == 5


def test_ids_reach_every_id_and_shrink_to_one_of_them():
    assert {i for row in all_drawn(ids((2, 3), 3).map(lambda a: tuple(a.flat))) for i in row} == {
        *range(3)
    }
    assert len(np.unique(smallest(ids((2, 3), 5)))) == 1
    assert smallest(ids(shapes(), 4), lambda a: a.size > 1).shape == (2,)
    with pytest.raises(ValueError, match="n >= 1 to draw from, got 0"):
        smallest(ids((2,), 0))


# --- inputs in one go -----------------------------------------------------------------------------


@given(
    drawn=inputs(
        x=("B", "T", "C"),
        gain="C",
        params={"weight": "C K", "bias": None, "more": ["K 3", 2]},
        scale=(),
        dtype=dtypes,
        layout=layouts,
        magnitude=magnitudes,
    )
)
def test_inputs_share_dtype_and_sizes(drawn):
    assert list(drawn) == ["x", "gain", "params", "scale"]
    (_, _, width), params = drawn["x"].shape, drawn["params"]
    assert drawn["gain"].shape == (width,)
    assert params["weight"].shape[0] == width
    assert params["bias"] is None
    assert params["more"][0].shape == (params["weight"].shape[1], 3)
    assert params["more"][1].shape == (2,)
    assert drawn["scale"].shape == ()
    assert drawn["x"].dtype == drawn["gain"].dtype == params["weight"].dtype


def test_inputs_differ_from_one_another():
    drawn = smallest(inputs(a="C", b="C"))
    assert drawn["a"] != drawn["b"]


def test_inputs_take_sizes_strategies_and_functions_of_the_sizes():
    drawn = smallest(
        inputs(
            dims("B T V").map(lambda n: n | {"D": 2 * n["V"]}),
            weight="V D",
            ids=lambda n: ids((n["B"], n["T"]), n["V"]),
            axis=st.just(-1),
            causal=lambda n: True,
        ),
        lambda d: d["ids"].size > 1,
    )
    assert drawn["weight"].shape == (1, 2)
    assert drawn["ids"].shape in {(1, 2), (2, 1)}
    assert drawn["axis"] == -1
    assert drawn["causal"] is True


def test_a_size_without_a_value_is_named():
    with pytest.raises(ValueError, match=r"params.w: no size is named 'K'; there are \['B', 'C'\]"):
        smallest(inputs(dims("B C"), params={"w": "C K"}))
