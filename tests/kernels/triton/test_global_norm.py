import importlib
import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.optim import clip_scale
from minillm.optim import global_norm as reference
from minillm.tree import map_leaves
from tests.kernels.triton.pairs import mutant, normal
from tests.ops.draw import seeds
from tests.ops.harness import rng_of

module = importlib.import_module("minillm_kernels.triton.global_norm")
CHUNK = module.BLOCK * module.BLOCKS
# Each lane adds 16 squares or so in float32; then come at most 12 levels of a tree, and float64.
TOL = 32 * np.finfo(np.float32).eps


def nest(seed, dtype="float32"):
    """Scalars, empty arrays, and sizes that no chunk divides."""
    rng = rng_of("global_norm", seed)

    def leaf(*shape):
        return normal(rng, shape, dtype).astype(np.float32)

    return {"a": leaf(7, 33), "b": [leaf(), leaf(0, 3), leaf(CHUNK + 5)], "c": leaf(2, CHUNK // 2)}


@settings(max_examples=5)
@given(seed=seeds, max_norm=st.sampled_from([None, 1.0, 1e6]))
def test_agrees_with_the_optimizers(seed, max_norm):
    grads = nest(seed)
    norm, scale = module.GlobalNorm()(grads, max_norm)
    expected = reference(grads)
    assert abs(float(norm) - expected) <= TOL * expected
    wanted = 1.0 if max_norm is None else clip_scale(expected, max_norm)
    assert abs(float(scale) - wanted) <= TOL * wanted


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_half_precision(place, dtype):
    grads = nest(1, dtype)
    expected = reference(grads)
    norm = module.global_norm(map_leaves(lambda g: place.tensor(g, dtype), grads))
    assert abs(norm - expected) <= TOL * expected


def test_float64_keeps_its_digits(place):
    g = rng_of(3).standard_normal(5000)
    grads = [place.tensor(g), place.tensor(g[:10], "float32"), place.tensor(g[:9], "bfloat16")]
    squares = sum(float((t.double() ** 2).sum()) for t in grads)
    assert abs(module.global_norm(grads) - math.sqrt(squares)) <= 1e-6
    assert abs(module.global_norm(grads[:1]) - np.linalg.norm(g)) <= 1e-13 * np.linalg.norm(g)


def test_arrays_that_begin_anywhere_and_have_gaps(place):
    g = rng_of(4).standard_normal((40, 50)).astype(np.float32)
    for view in (g.ravel()[1:], g.T, g[::3, ::2]):
        expected = np.linalg.norm(view.astype(np.float64))
        assert abs(module.global_norm([place.tensor(view)]) - expected) <= TOL * expected


def test_twice_the_same_to_the_last_bit(place):
    grads = map_leaves(place.tensor, nest(5))
    norm = module.GlobalNorm()
    assert float(norm(grads)[0]) == float(norm(grads)[0])
    moved = map_leaves(lambda g: g + 0, grads)  # elsewhere in memory
    assert float(norm(grads)[0]) == float(norm(moved)[0])


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_what_is_not_finite_clips_as_the_optimizers_do(place, bad):
    grads = [np.ones(5, np.float32), np.array([bad, 1], np.float32)]
    norm, scale = module.GlobalNorm()(map_leaves(place.tensor, grads), 1.0)
    expected = reference(grads)
    assert np.isnan(float(norm)) == np.isnan(expected)
    assert float(scale) == clip_scale(expected, 1.0)


def test_nothing_has_no_norm():
    assert module.global_norm({}) == module.global_norm([np.zeros((0, 3), np.float32)]) == 0


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("mask=at + lanes < size, other=0", "mask=at + lanes < size - 1, other=0"),
        ("values + start + block * BLOCK + lanes", "values + start + lanes"),
        ("ratio = MAX_NORM / (norm", "ratio = MAX_NORM / (norm * norm"),
    ],
)
def test_a_wrong_kernel_is_refused(place, tmp_path, old, new):
    broken = mutant(module, old, new, tmp_path)
    grads = [np.full(CHUNK + 1, 0.5, np.float32), np.arange(3.0, dtype=np.float32)]
    grads[0][::7] = 2
    norm, scale = broken.GlobalNorm()(map_leaves(place.tensor, grads), 1.0)
    expected = reference(grads)
    right = abs(float(norm) - expected) <= TOL * expected
    assert not (right and abs(float(scale) - clip_scale(expected, 1.0)) <= TOL)


def test_wrong_arguments_are_named():
    with pytest.raises(ValueError, match=r"must be one of float16, .*, got torch.int64"):
        module.global_norm([np.ones(3, np.int64)])
    with pytest.raises(ValueError, match=r"b must be an array on the GPU, got float"):
        module.global_norm({"a": np.ones(3, np.float32), "b": 1.0})
    with pytest.raises(ValueError, match="max_norm must be above 0, got 0"):
        module.GlobalNorm()([np.ones(3, np.float32)], 0)
