import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm
from minillm.ops import mlp_gelu as op
from minillm_kernels.precision import precision
from minillm_kernels.triton import _epilogue, _plain, matmul, mlp_gelu
from tests.kernels.harness import error
from tests.kernels.triton.pairs import check_pair, mutant, normal
from tests.ops.draw import seeds
from tests.ops.harness import check_op, rng_of

pair = mlp_gelu.mlp_gelu, mlp_gelu.mlp_gelu_backward


def case(lead, c, f, c_out, dtype, *, biases=(True, True), seed=0):
    rng = rng_of("mlp_gelu", lead, c, f, c_out, seed)
    x, up, down = (normal(rng, shape, dtype) for shape in ((*lead, c), (c, f), (f, c_out)))
    b_up = normal(rng, (f,), dtype) if biases[0] else None
    b_down = normal(rng, (c_out,), dtype) if biases[1] else None
    scale = 0.25  # a power of two, which every dtype keeps exactly
    return x, scale * up, b_up, scale * down, b_down


def vendor(approximate):
    def forward(x, up, b_up, down, b_down):
        wide = x @ up if b_up is None else x @ up + b_up
        y = torch.nn.functional.gelu(wide, approximate=approximate) @ down
        return y if b_down is None else y + b_down

    return forward


@settings(max_examples=2, deadline=None)
@given(
    lead=st.lists(st.integers(1, 4), min_size=1, max_size=2),
    sizes=st.tuples(*3 * [st.integers(1, 5)]), biases=st.tuples(st.booleans(), st.booleans()),
    approximate=st.sampled_from(["none", "tanh"]), seed=seeds,
)  # fmt: skip
def test_agrees_with_both_oracles_in_float64(lead, sizes, biases, approximate, seed):
    args = case(tuple(lead), *sizes, "float64", biases=biases, seed=seed)
    kwargs = {"approximate": approximate}
    check_op(op, args, kwargs, oracle=vendor(approximate), seed=seed, backends=["triton"])


@pytest.mark.parametrize("approximate", ["tanh", "none"])
@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_as_good_as_torch(place, dtype, approximate):
    sizes = place.size(((2, 37), 24, 72, 40), ((4, 1024), 768, 3072, 768))
    kwargs = {"approximate": approximate}
    check_pair(place, op, pair, case(*sizes, dtype), vendor(approximate), dtype, kwargs=kwargs)


def test_bf16_inside_float32(place):
    args = case((40,), 24, 72, 16, "float32")
    with minillm.backend("numpy"):
        truth, cache = op(*args)
        grads = op.backward(truth, cache)
    with precision("bf16"):
        y, saved = pair[0](*(place.tensor(a, "float32") for a in args))
        ours = pair[1](y, saved)
    for name, a, b in zip(("y", "dx", "dup", "dbias_up", "ddown", "dbias_down"),
                          (y, *ours), (truth, *grads), strict=True):  # fmt: skip
        assert a.dtype == torch.float32
        assert error(place.numpy(a), b) < 0.02, name


def test_no_rows(place):
    args = [place.tensor(a, "float32") for a in case((0,), 5, 7, 3, "float32")]
    y, saved = pair[0](*args)
    grads = pair[1](y, saved)
    assert y.shape == (0, 3)
    assert [g.shape for g in grads] == [a.shape for a in args]
    assert not any(g.any() for g in grads)


@pytest.mark.parametrize(
    ("index", "shape", "message"),
    [
        (1, (4, 7), r"weight_up must have shape \(5, any\)"),
        (2, (6,), r"bias_up must have shape \(7,\)"),
        (3, (5, 3), r"weight_down must have shape \(7, any\)"),
        (4, (1,), r"bias_down must have shape \(3,\)"),
    ],
)
def test_wrong_shapes(place, index, shape, message):
    args = list(case((2,), 5, 7, 3, "float32"))
    args[index] = np.ones(shape)
    with pytest.raises(ValueError, match=message):
        pair[0](*(place.tensor(a, "float32") for a in args))


@pytest.mark.parametrize(
    ("module", "old", "new"),
    [
        (mlp_gelu, "matmul(x.T, dwide", "matmul(x.T, active"),
        (mlp_gelu, 'f"dgelu_{approximate}"', '"dgelu_none"'),
        (mlp_gelu, "matmul(active.T, dy,", "matmul(wide.T, dy,"),
    ],
)  # fmt: skip
def test_broken_pairs_are_refused(place, tmp_path, module, old, new):
    broken = mutant(module, old, new, tmp_path)
    args = case((40,), 24, 40, 16, "float32")
    with pytest.raises(AssertionError):
        check_pair(
            place, op, (broken.mlp_gelu, broken.mlp_gelu_backward), args, vendor("tanh"), "float32"
        )


@pytest.mark.parametrize(
    ("module", "name", "old", "new"),
    [
        (_epilogue, "finish", "total + bias[None, :]", "total"),
        (_epilogue, "finish", "total * gelu_slope(other, True)", "total"),
        (_plain, "plain", "before.to(kept", "y.to(kept"),
        (_plain, "plain", "tl.where(inside, y, 0)", "tl.where(inside, total, 0)"),
    ],
)  # fmt: skip
def test_broken_epilogues_are_refused(place, monkeypatch, tmp_path, module, name, old, new):
    if place.name == "gpu":
        pytest.skip("the GPU's product takes another way")
    broken = mutant(module, old, new, tmp_path)
    if name == "finish":
        monkeypatch.setattr(_plain, "finish", broken.finish)
    else:
        monkeypatch.setattr(matmul.anywhere, "kernel", broken.plain)
    with pytest.raises(AssertionError):
        check_pair(place, op, pair, case((40,), 24, 40, 16, "float32"), vendor("tanh"), "float32")
