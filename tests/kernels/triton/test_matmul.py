"""Matrix products: every kernel, layout, dtype, epilogue and size, against float64."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

import minillm_kernels.triton.matmul as product
from minillm_kernels.precision import precision
from minillm_kernels.triton import _choices, _persistent, _plain
from minillm_kernels.triton._epilogue import READS_OTHER
from minillm_kernels.triton._sums import round_rows, sum_over_rows
from minillm_kernels.triton.matmul import matmul
from tests.kernels.harness import TORCH_TYPES, as_good_as, epsilon, error
from tests.kernels.triton.pairs import mutant, normal

KERNELS = ("plain", "persistent", "stream_k")
DTYPES = ("float32", "float16", "bfloat16")
EIGHTS = st.integers(1, 35).map(lambda n: 8 * n)  # rows of 16 bytes, as descriptors want them


def laid_out(place, values, dtype, transposed):
    """A matrix in rows, or in columns with `transposed`, as a tensor here."""
    if transposed:
        return place.tensor(np.ascontiguousarray(values.T), dtype).T
    return place.tensor(values, dtype)


def check_product(place, m, n, k, dtype, kernel, a_t=False, b_t=False):
    rng = np.random.default_rng([m, n, k])
    a, b = normal(rng, (m, k), dtype), normal(rng, (k, n), dtype)
    ours = torch.full((m, n), torch.nan, dtype=TORCH_TYPES[dtype], device=place.device)
    matmul(laid_out(place, a, dtype, a_t), laid_out(place, b, dtype, b_t), out=ours, kernel=kernel)
    vendor = torch.from_numpy(a).to(TORCH_TYPES[dtype]) @ torch.from_numpy(b).to(TORCH_TYPES[dtype])
    as_good_as(place.numpy(ours), place.numpy(vendor), a @ b, dtype, f"{kernel} {m}x{n}x{k}")


@settings(max_examples=8, deadline=None)
@given(
    m=st.integers(1, 140), n=st.integers(1, 140), k=st.integers(1, 100),
    dtype=st.sampled_from([*DTYPES, "float64"]), a_t=st.booleans(), b_t=st.booleans(),
)  # fmt: skip
def test_plain_takes_any_size_and_layout(place, m, n, k, dtype, a_t, b_t):
    grown = [place.size(size, 7 * size) for size in (m, n, k)]
    if place.name == "gpu" and dtype == "float64":
        dtype = "float32"
    check_product(place, *grown, dtype, "plain", a_t, b_t)


@pytest.mark.parametrize("kernel", ["persistent", "stream_k"])
@settings(max_examples=8, deadline=None)
@given(m=EIGHTS, n=EIGHTS, k=EIGHTS, half=st.sampled_from(DTYPES[1:]), a_t=st.booleans(),
       b_t=st.booleans())  # fmt: skip
def test_hopper_kernels_take_any_rows_of_16_bytes(place, kernel, m, n, k, half, a_t, b_t):
    hopper_only(place)
    grown = [place.size(size, 8 * size) for size in (m, n, k)]
    check_product(place, *grown, half, kernel, a_t, b_t)


def hopper_only(place):
    if place.name == "gpu" and torch.cuda.get_device_capability() != (9, 0):
        pytest.skip("needs a GPU of compute capability 9.0")


@pytest.mark.parametrize(("m", "n", "k"), [(1, 8, 8), (129, 520, 72)])
def test_hopper_kernels_at_the_edges_of_tiles(place, m, n, k):
    hopper_only(place)
    for kernel in ("persistent", "stream_k"):
        check_product(place, m, n, k, "float16", kernel)


def test_float32_by_hopper_kernels(place):
    """tf32 rounds its factors on a GPU; the interpreter does not, and shows the indices right."""
    hopper_only(place)
    rng = np.random.default_rng(5)
    a, b = (normal(rng, shape, "float32") for shape in ((136, 40), (40, 264)))
    with precision("tf32"):
        ours = matmul(place.tensor(a, "float32"), place.tensor(b, "float32"), kernel="persistent")
    assert error(place.numpy(ours), a @ b) <= place.size(1e-6, 1e-3)


def test_kernels_agree_and_repeat_themselves(place):
    hopper_only(place)
    rng = np.random.default_rng(0)
    a, b = (place.tensor(normal(rng, s, "float16"), "float16") for s in ((144, 200), (200, 264)))
    for kernel in KERNELS:
        first = matmul(a, b, kernel=kernel, out_dtype=torch.float32)
        assert torch.equal(first, matmul(a, b, kernel=kernel, out_dtype=torch.float32))
        assert error(place.numpy(first), place.numpy(a.double() @ b.double())) < 1e-6


EPILOGUES = {
    "none": lambda t, other: t,
    "gelu_tanh": lambda t, other: torch.nn.functional.gelu(t, approximate="tanh"),
    "gelu_none": lambda t, other: torch.nn.functional.gelu(t),
    "dgelu_tanh": lambda t, other: t * slope(other, "tanh"),
    "dgelu_none": lambda t, other: t * slope(other, "none"),
    "swiglu": lambda t, other: t * torch.nn.functional.silu(other),
    "add": lambda t, other: t + other,
}


def slope(x, approximate):
    x = x.clone().requires_grad_()
    torch.nn.functional.gelu(x, approximate=approximate).sum().backward()
    return x.grad


@pytest.mark.parametrize("kernel", ["plain", "persistent"])
@pytest.mark.parametrize("epilogue", EPILOGUES)
def test_epilogues(place, kernel, epilogue):
    hopper_only(place)
    rng = np.random.default_rng(1)
    m, n, k = 136, 264, 40
    a, b, bias, other = (normal(rng, s, "float16") for s in ((m, k), (k, n), (n,), (m, n)))
    reads = epilogue in READS_OTHER
    here = [place.tensor(x, "float16") for x in (a, b, bias, other)]
    options = {"other": here[3]} if reads else {"bias": here[2]}
    total = torch.from_numpy(a @ b + (0 if reads else bias))
    truth = EPILOGUES[epilogue](total, torch.from_numpy(other)).numpy()
    y, kept = matmul(*here[:2], epilogue=epilogue, keep=True, kernel=kernel, **options)
    assert error(place.numpy(y), truth) < epsilon("float16")
    assert error(place.numpy(kept), total.numpy()) < epsilon("float16")
    if reads:
        again, sums = matmul(*here[:2], epilogue=epilogue, sums=True, kernel=kernel, **options)
        assert torch.equal(again, y)
        assert error(place.numpy(sums), truth.sum(0)) < epsilon("float16")


@pytest.mark.parametrize("kernel", ["plain", "persistent"])
def test_adding_another_array_in_single_precision(place, kernel):
    """As a block's last product does: factors of half precision, all else float32."""
    hopper_only(place)
    rng = np.random.default_rng(3)
    a, b = (normal(rng, s, "float16") for s in ((136, 40), (40, 264)))
    bias, other = normal(rng, (264,), "float32"), normal(rng, (136, 264), "float32")
    a_here, b_here = (place.tensor(x, "float16") for x in (a, b))
    last = {"bias": place.tensor(bias, "float32"), "other": place.tensor(other, "float32")}
    y = matmul(a_here, b_here, epilogue="add", out_dtype=torch.float32, kernel=kernel, **last)
    assert error(place.numpy(y), a @ b + bias + other) < 1e-6


@pytest.mark.parametrize("kernel", KERNELS)
def test_adding_to_what_is_there(place, kernel):
    hopper_only(place)
    rng = np.random.default_rng(2)
    a, b, c = (normal(rng, s, "float16") for s in ((136, 40), (40, 264), (136, 264)))
    wide = place.tensor(np.pad(c, ((0, 0), (0, 8))), "float32")
    out = wide[:, :264]  # rows need not follow one another
    here = [place.tensor(x, "float16") for x in (a, b)]
    assert matmul(*here, out=out, add=True, kernel=kernel) is out
    assert error(place.numpy(out), c + a @ b) < 1e-6
    assert not wide[:, 264:].any(), "wrote past the end of the rows"


def test_split_k(place):
    """Few tiles and a long K: the pieces' sums are added in a second launch."""
    rng = np.random.default_rng(3)
    k = place.size(3000, 40000)
    a, b = normal(rng, (5, k), "float32"), normal(rng, (k, 7), "float32")
    call = {"M": 5, "N": 7, "K": k, "EPILOGUE": "none", "HAS_BIAS": False}
    a, b = place.tensor(a, "float32"), place.tensor(b, "float32")
    out = torch.ones((5, 7), device=a.device)
    assert product._splits(call | {"a": a, "c": out}) > 1
    truth = place.numpy(a.double() @ b.double())
    assert error(place.numpy(matmul(a, b, kernel="plain")), truth) < 1e-6
    assert error(place.numpy(matmul(a, b, out=out, add=True, kernel="plain")), 1 + truth) < 1e-6


@settings(max_examples=4, deadline=None)
@given(z=st.integers(1, 3), h=st.integers(1, 2), m=st.integers(1, 40), n=st.integers(1, 40))
def test_batches(place, z, h, m, n):
    rng = np.random.default_rng([z, h, m, n])
    a, b = normal(rng, (z, h, m, 20), "float32"), normal(rng, (z, h, n, 20), "float32")
    ours = matmul(place.tensor(a, "float32"), place.tensor(b, "float32").mT)
    assert ours.shape == (z, h, m, n)
    assert error(place.numpy(ours), a @ np.swapaxes(b, -1, -2)) < 1e-6


@settings(max_examples=6, deadline=None)
@given(rows=st.integers(0, 400), columns=st.integers(1, 200), strided=st.booleans())
def test_sums_over_rows(place, rows, columns, strided):
    rng = np.random.default_rng([rows, columns])
    x = normal(rng, (rows, columns), "float32")
    here = place.tensor(np.ascontiguousarray(x.T), "float32").T if strided else place.tensor(x)
    out = place.tensor(np.ones(columns), "float32")
    sum_over_rows(here, out=out, add=True)
    np.testing.assert_allclose(place.numpy(out), 1 + x.sum(0), atol=1e-4)
    rounded, sums = round_rows(here, torch.float16, torch.float32)
    assert torch.equal(rounded, here.half())
    np.testing.assert_allclose(place.numpy(sums), x.sum(0), atol=1e-4)


@pytest.mark.parametrize(("m", "n", "k"), [(0, 3, 4), (3, 0, 4), (3, 4, 0), (1, 1, 1)])
def test_lengths_0_and_1(place, m, n, k):
    a, b = np.full((m, k), 2.0), np.full((k, n), 3.0)
    bias = place.tensor(np.ones(n), "float32")
    ours = matmul(place.tensor(a, "float32"), place.tensor(b, "float32"), bias=bias)
    assert np.array_equal(place.numpy(ours), a @ b + 1)


def ones(*shape, dtype=torch.float32):
    return torch.ones(shape, dtype=dtype)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ((ones(3, 4), ones(5, 6)), r"b must have shape \(..., 4, N\), got \(5, 6\)"),
        ((ones(4), ones(4, 6)), "b must have shape"),
        ((ones(3, 4), ones(4, 6, dtype=torch.float16)), "b must have a's dtype torch.float32"),
        ((ones(3, 4, dtype=torch.int32), ones(4, 6)), "a must be of floating point"),
        ((ones(3, 4), ones(4, 6), {"bias": ones(5)}), r"bias must have shape \(6,\), got \(5,\)"),
        ((ones(3, 4), ones(4, 6), {"epilogue": "relu"}), "epilogue must be one of"),
        ((ones(3, 4), ones(4, 6), {"epilogue": "swiglu"}), "do not go together"),
        (
            (ones(3, 4), ones(4, 6), {"epilogue": "swiglu", "other": ones(6, 3)}),
            r"other must have shape \(3, 6\)",
        ),
        ((ones(3, 4), ones(4, 6), {"out": ones(6, 3).T}), r"out must be in rows.*strides \(1, 3\)"),
        ((ones(3, 4), ones(4, 6), {"out": ones(3, 5)}), "out must be in rows, of shape"),
        ((ones(3, 4), ones(4, 6), {"add": True}), "add needs out"),
        ((ones(3, 4), ones(4, 6), {"sums": True}), "sums come with an epilogue"),
        ((ones(3, 3), ones(3, 3), {"kernel": "persistent"}), "not for the kernel persistent"),
    ],
)
def test_refusals(place, arguments, message):
    *arrays, options = arguments if isinstance(arguments[-1], dict) else (*arguments, {})
    moved = {k: v.to(place.device) if hasattr(v, "to") else v for k, v in options.items()}
    if "out" in moved:
        moved["out"] = options["out"].to(place.device)
    with pytest.raises(ValueError, match=message):
        matmul(*(a.to(place.device) for a in arrays), **moved)


@pytest.mark.gpu
def test_a_tensor_in_the_computers_memory():
    with pytest.raises(ValueError, match="in the computer's memory"):
        matmul(ones(3, 4), ones(4, 5))


@pytest.mark.parametrize("asked", ["ADD", "HAS_SUMS", "READS_OTHER"])
def test_what_the_compiler_crashes_on_is_no_choice(asked):
    """Blocks of several groups of warps only store; the code of what else they would do is compiled
    for the other choices alone."""
    flags = dict.fromkeys(("ADD", "HAS_SUMS", "READS_OTHER"), False) | {"EPILOGUE": "none"}
    half = torch.ones(1, dtype=torch.bfloat16)
    arrays = {"a": half, "c": half.float(), "other": half}
    choices = _choices.half_precision.choices_for(flags | arrays, 90)
    assert any(choice.constants["SPECIALIZE"] for choice in choices)
    choices = _choices.half_precision.choices_for(flags | arrays | {asked: True}, 90)
    assert not any(choice.constants["SPECIALIZE"] for choice in choices)


def test_bfloat16_on_a_turing_gpu(monkeypatch, place):
    monkeypatch.setattr(product.device, "arch", lambda: 75)
    half = torch.ones((2, 2), dtype=torch.bfloat16, device=place.device)
    with pytest.raises(ValueError, match=r"bfloat16 needs a GPU of compute capability 8\.0"):
        matmul(half, half)


@pytest.mark.parametrize(
    ("module", "old", "new", "kernel"),
    [
        (_plain, "tl.dot(x, y, total,", "tl.dot(x, y, tl.zeros((BM, BN), SUM),", "plain"),
        (_plain, "x_at += BK * stride_ak", "x_at += stride_ak", "plain"),
        (_persistent, "(number % per_group) // height", "number % height", "persistent"),
        (_persistent, "tiles_n, PROGRAMS,", "tiles_n - 1, PROGRAMS,", "persistent"),
        (_persistent, "tl.range(first, last + 1)", "tl.range(first, last)", "stream_k"),
        (_persistent, "tl.maximum(first, number * per_tile)", "number * per_tile", "stream_k"),
    ],
)  # fmt: skip
def test_broken_kernels_are_found(place, monkeypatch, tmp_path, module, old, new, kernel):
    if place.name == "gpu":
        pytest.skip("a kernel without its masks may read what is not its own")
    broken = mutant(module, old, new, tmp_path)
    tuned = {"plain": product.anywhere, "persistent": product.half_precision}.get(kernel)
    if tuned:
        monkeypatch.setattr(tuned, "kernel", getattr(broken, kernel))
    else:
        monkeypatch.setattr(product, "stream_k", broken.stream_k)
        monkeypatch.setattr(product, "add_parts", broken.add_parts)
    with pytest.raises(AssertionError):
        check_product(place, 136, 264, 200, "float16", kernel)
