import copy
import importlib

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm.optim import SGD, Adam, AdamW, clip_scale
from minillm.optim import global_norm as reference_norm
from minillm.tree import leaves, map_leaves
from minillm_kernels.triton.global_norm import GlobalNorm
from tests.kernels.triton.pairs import mutant
from tests.ops.draw import seeds
from tests.ops.harness import rng_of

module = importlib.import_module("minillm_kernels.triton.adamw")
FusedAdamW = module.FusedAdamW
CHUNK = module.BLOCK * module.BLOCKS


def nest(rng, dtype="float32"):
    """Matrices and vectors, a scalar, an empty one, and sizes that no chunk divides."""

    def leaf(*shape):
        return np.asarray(rng.standard_normal(shape), dtype)

    return {"w": leaf(33, 17), "b": [leaf(7), leaf(0, 3), leaf(3, CHUNK // 2)], "s": leaf()}


def rule_of(**settings):
    return AdamW(**{"lr": 1e-2, "weight_decay": 0.1, "betas": (0.9, 0.95), **settings})


def trained(optimizer, steps=4, dtype="float32", place=None, clip=None, seed=0, **options):
    """Parameters and state after some steps, as NumPy arrays; with `place` as tensors there."""
    rng = rng_of("adamw", seed)
    params = nest(rng, dtype)
    if place is not None:
        params = map_leaves(lambda p: place.tensor(p.copy()), params)
    state = optimizer.init(params, **options)
    norm = GlobalNorm()
    for step in range(steps):
        grads = nest(rng, dtype)
        lr = 1e-2 / (1 + step)
        if place is None:
            scale = clip_scale(reference_norm(grads), clip) if clip else 1.0
        else:
            grads = map_leaves(place.tensor, grads)
            lr = torch.tensor(lr, dtype=torch.float64, device=place.device)
            scale = norm(grads, clip)[1] if clip else 1.0
        optimizer.update(params, grads, state, lr, scale=scale)
    if place is not None:
        params, state = (map_leaves(place.numpy, part) for part in (params, state))
    return dict(leaves({"params": params, **state}))


def assert_near(ours, expected, ulps=4):
    """Within a few roundings of each array's largest number; products and sums may be fused."""
    assert ours.keys() == expected.keys()
    for name, value in expected.items():
        eps = np.finfo(value.dtype).eps if value.dtype.kind == "f" else 0
        largest = np.max(np.abs(value), initial=0)
        assert ours[name].dtype == value.dtype, name
        off = np.max(np.abs(ours[name] - value), initial=0)
        assert off <= ulps * eps * largest, f"{name}: off by {off} of {largest}"


@settings(max_examples=4)
@given(
    seed=seeds,
    dtype=st.sampled_from(["float32", "float64"]),
    weight_decay=st.sampled_from([0.0, 0.3]),
    betas=st.sampled_from([(0.9, 0.999), (0.0, 0.5)]),
    eps=st.sampled_from([1e-8, 0.1]),
)
def test_is_the_optimizers_step(seed, dtype, weight_decay, betas, eps):
    rule = rule_of(weight_decay=weight_decay, betas=betas, eps=eps)
    ours = trained(FusedAdamW(rule), dtype=dtype, seed=seed)
    assert_near(ours, trained(rule, dtype=dtype, seed=seed))


def test_clipped_and_counted_on_the_gpu(place):
    """As in a captured graph: the step, the learning rate and the clip factor stay there."""
    rule = rule_of()
    ours = trained(FusedAdamW(rule), place=place, clip=0.5, on_device=True)
    expected = trained(rule, clip=0.5)
    # The scale is a float64 made of float32 sums, as accurate as these.
    assert_near(ours, expected, ulps=64)
    assert ours["step"] == 4


def test_goes_on_where_the_other_stopped():
    rule = rule_of()
    fused, rng = FusedAdamW(rule), rng_of("handover")
    params = nest(rng)
    both = copy.deepcopy(params)
    state, other = rule.init(params), fused.init(both)
    for step in range(4):
        grads = nest(rng)
        rule.update(params, grads, state)
        (fused if step % 2 else rule).update(both, grads, other)
    assert_near(dict(leaves([both, other])), dict(leaves([params, state])))


def test_gradients_and_copies_in_bfloat16(place):
    rule, rng = rule_of(), rng_of("bf16")
    params = nest(rng)
    tensors = map_leaves(lambda p: place.tensor(p.copy()), params)
    copies = map_leaves(lambda p: place.tensor(p.copy(), "bfloat16"), params)
    grads = map_leaves(lambda g: place.tensor(g, "bfloat16"), nest(rng))
    fused = FusedAdamW(rule)
    state = fused.init(tensors)
    fused.update(tensors, grads, state, copies=copies)
    exact, expected = map_leaves(place.numpy, grads), rule.init(params)
    rule.update(params, exact, expected)
    assert_near(dict(leaves(map_leaves(place.numpy, tensors))), dict(leaves(params)))
    for (_, copied), (_, weight) in zip(leaves(copies), leaves(tensors), strict=True):
        # the interpreter cuts off what a GPU rounds to the nearest
        nearest = torch.equal(copied, weight.bfloat16())
        assert nearest or (place.name == "cpu" and within_one(copied, weight))


def test_gradients_that_have_gaps_or_begin_anywhere(place):
    rule, rng = rule_of(), rng_of("gaps")
    wide = rng.standard_normal((9, 11)).astype(np.float32)
    long = rng.standard_normal(CHUNK + 8).astype(np.float32)
    params = [np.ones((11, 9), np.float32), np.ones(CHUNK + 7, np.float32)]
    tensors = [place.tensor(p.copy()) for p in params]
    fused, state = FusedAdamW(rule), rule.init(params)
    fused.update(tensors, [place.tensor(wide).T, place.tensor(long)[1:]], fused.init(tensors))
    rule.update(params, [wide.T, long[1:]], state)
    ours = map_leaves(place.numpy, tensors)
    assert_near(dict(leaves(ours)), dict(leaves(params)))


def test_few_launches_for_many_tensors(place, monkeypatch):
    launches = []
    for name in ("work_out", "adamw_chunk"):
        monkeypatch.setattr(module, name, Counting(getattr(module, name), launches))
    params = [place.tensor(np.ones((2, 3), np.float32)) for _ in range(148)]
    fused = FusedAdamW(rule_of())
    fused.update(params, params, fused.init(params))
    assert len(launches) == 2


class Counting:
    def __init__(self, kernel, launches):
        self.kernel, self.launches = kernel, launches

    def __getitem__(self, grid):
        self.launches.append(grid)
        return self.kernel[grid]


def within_one(copied, weight):
    """Less than one last place of bfloat16 apart."""
    return bool(torch.all((copied.float() - weight).abs() <= 2**-7 * weight.abs()))


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("shrink = tl.where(decays != 0,", "shrink = tl.where(decays >= 0,"),
        ("tl.sqrt(square) + floor", "tl.sqrt(square) + 1e-8"),
        ("mean / root_mean)", "mean)"),
        ("1.0 - speed * tl.full", "1.0 - tl.full"),
        (".to(ACC) * scale", ".to(ACC)"),
        ("        t += 1\n", ""),
        ("beta2 + gradient * gradient", "beta2 + gradient"),
        ("first + lanes", "first + lanes + 1"),
    ],
)
def test_a_wrong_kernel_is_refused(place, tmp_path, old, new):
    rule = rule_of(eps=1e-3)
    broken = mutant(module, old, new, tmp_path)
    with np.errstate(all="ignore"):
        ours = trained(broken.FusedAdamW(rule), place=place, clip=0.5, on_device=True, steps=2)
    with pytest.raises(AssertionError, match="off by"):
        assert_near(ours, trained(rule, clip=0.5, steps=2), ulps=64)


@pytest.mark.parametrize("layout", ["backwards", "read only"])
def test_an_array_that_only_its_copy_could_be_updated_of_is_refused(layout):
    """torch takes neither as it is; an update of the copy would be lost."""
    w = np.ones((4, 3), np.float32)
    fused = FusedAdamW(rule_of())
    state = fused.init({"w": w})
    if layout == "backwards":
        w = w[::-1]
    else:
        w.flags.writeable = False
    with pytest.raises(ValueError, match="w must be writable and contiguous, got strides"):
        fused.update({"w": w}, {"w": np.ones((4, 3), np.float32)}, state)


def test_wrong_arguments_are_named(place):
    params = {"w": place.tensor(np.ones((2, 3)), "float32")}
    fused = FusedAdamW(rule_of())
    state = fused.init(params)

    def refused(match, params=params, grads=params, **options):
        with pytest.raises(ValueError, match=match):
            fused.update(params, grads, state, **options)

    refused(r"missing \['w'\], not expected \['v'\]", grads={"v": params["w"]})
    refused(r"gradient of w must have shape .*2, 3.*, got .*3, 2", grads={"w": params["w"].T})
    refused("the gradient of w must be one of float16", grads={"w": params["w"].long()})
    whole = {"w": params["w"].long()}
    refused("the copy of w must be one of float16, .* got torch.int64", copies=whole)
    refused("lr must be one number, got torch.float32 of shape", lr=params["w"])
    refused(
        r"w must be contiguous, got strides \(1, 2\) for shape \(2, 3\)",
        params={"w": place.tensor(np.ones((3, 2)), "float32").T},
    )
    refused("the moments of w must be torch.float64", params={"w": params["w"].double()})
    if place.name == "cpu":  # a GPU would refuse the place itself
        elsewhere = torch.ones((2, 3), device="meta")
        refused("g: w lies on meta, the first array on cpu", grads={"w": elsewhere})
        refused("v lies on meta, the first array on cpu", params=params | {"v": elsewhere})
    for rule in (Adam(), SGD(0.1)):
        with pytest.raises(ValueError, match=r"rule must be a minillm\.optim\.AdamW, got"):
            FusedAdamW(rule)
