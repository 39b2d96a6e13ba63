"""The attention ladder: every rung against float64, on the emulator or a GPU, and wrong twins."""

import dataclasses
import os

os.environ.setdefault("MINILLM_EMULATE", "1")

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from minillm import gradcheck
from minillm_kernels.cuda import attention
from minillm_kernels.cuda.attention import NAIVE, ONLINE, TILED, WMMA, backward, forward
from minillm_kernels.emulator import checking
from tests.kernels.harness import TORCH_TYPES, Place, as_good_as, epsilon, error, quantised

NAMES = ("out", "dq", "dk", "dv")
CPU = Place("cpu")
EMULATED = [rung for rung in attention.RUNGS if rung.emulated]
HEADS = {NAIVE: 5, ONLINE: 40, TILED: 32, WMMA: 32}  # channels, chosen for few compilations


@dataclasses.dataclass(frozen=True)
class Case:
    """One attention: its sizes and options."""

    T: int
    S: int
    D: int
    V: int
    B: int = 1
    G: int = 1
    group: int = 1
    causal: bool = False
    masked: bool = False
    peak: float = 1.0
    seed: int = 0

    def arrays(self, dtype):
        """q, k, v, dout as (NumPy arrays that hold dtype's numbers, the same in float64)."""
        rng, H = np.random.default_rng(self.seed), self.G * self.group
        shapes = [(H, self.T, self.D), (self.G, self.S, self.D), (self.G, self.S, self.V)]
        shapes.append((H, self.T, self.V))
        scales = (self.peak, 1, 1, 1)
        pairs = [
            quantised(rng, (self.B, *shape), dtype, scale)
            for shape, scale in zip(shapes, scales, strict=True)
        ]
        return [a for a, _ in pairs], [b for _, b in pairs]

    def mask(self):
        """None, or a mask (B, 1, T, S) that leaves a few queries nothing to see."""
        if not self.masked:
            return None
        rng = np.random.default_rng([self.seed, 1])
        mask = rng.random((self.B, 1, self.T, self.S)) < 0.7
        mask[:, :, rng.random(self.T) < 0.2] = False
        return mask

    def seen(self):
        """bool (B, 1, T, S): which pairs meet."""
        seen = np.ones((self.B, 1, self.T, self.S), bool)
        if self.causal:
            seen &= np.tri(self.T, self.S, self.S - self.T, dtype=bool)
        return seen if not self.masked else seen & self.mask()


def plain(case, arrays, dtype, device="cpu"):
    """out, dq, dk, dv by torch in a dtype: the truth in float64, a vendor's otherwise.

    Queries that see nothing are taken out beforehand: torch calls them 0, or no number.
    """
    seen = torch.from_numpy(case.seen()).to(device)
    blind = ~seen.any(-1, keepdim=True)
    *parts, dout = (torch.from_numpy(x).to(device, TORCH_TYPES[dtype]) for x in arrays)
    q, k, v = (x.requires_grad_() for x in parts)
    wide = [x.repeat_interleave(case.group, 1) for x in (k, v)]
    out = torch.nn.functional.scaled_dot_product_attention(q, *wide, attn_mask=seen | blind)
    out = out.masked_fill(blind, 0)
    out.backward(dout)
    return [x.detach().double().cpu().numpy() for x in (out, q.grad, k.grad, v.grad)]


def check(place, rung, case, dtype="float32"):
    """A rung's output and gradients are as good as torch's in the same dtype."""
    given, exact = case.arrays(dtype)
    truth = plain(case, exact, "float64")
    with place.exact_vendor():
        vendor = plain(case, exact, dtype, place.device)
    mask = case.mask()
    mask = None if mask is None else place.array(mask)
    q, k, v, dout = (place.array(carried(x, dtype)) for x in given)
    out, saved = forward(rung, q, k, v, causal=case.causal, mask=mask)
    grads = backward(dout, saved)
    for name, a, b, c in zip(NAMES, (out, *grads), vendor, truth, strict=True):
        assert error(b, c) < np.inf, f"torch's {name} is no oracle here"
        assert a.dtype == q.dtype
        a = widened(place.numpy(a), dtype)
        if case.seen().sum(-1).max() <= 1 and name in ("dq", "dk"):
            # The gradient of a softmax of one number is 0: what is left is the rounding of dlogits,
            # a difference of two equal sums.
            terms = case.V * np.prod([np.abs(x).max() for x in (exact[3], exact[2])])
            limit = 8 * epsilon(dtype) * terms * max(np.abs(x).max() for x in exact[:2])
            assert np.abs(a).max() <= limit, f"{rung} {name} of {case} must vanish"
        else:
            as_good_as(a, b, c, dtype, f"{rung} {name} of {case}")
    blind = np.broadcast_to(~case.seen().any(-1), out.shape[:3])
    assert not place.numpy(out)[blind].any(), "a query that sees nothing must get zeros"
    assert not place.numpy(grads[0])[blind].any()


def carried(array, dtype):
    """As the launcher takes it: bfloat16's bits as uint16."""
    if dtype != "bfloat16":
        return array.astype(dtype)
    return (array.view(np.uint32) >> 16).astype(np.uint16)


def widened(array, dtype):
    return array if dtype != "bfloat16" else (array.astype(np.uint32) << 16).view(np.float32)


def cases(place, rung):
    """Sizes that no tile divides, 1, more queries than keys, groups, masks, large logits."""
    channels = HEADS[rung]
    length = st.integers(1, place.size(70, 300))
    return st.builds(
        Case,
        T=length,
        S=length,
        D=st.just(channels),
        V=st.just(channels if rung in (TILED, WMMA) else channels + 3),
        B=st.integers(1, 2),
        G=st.integers(1, 2),
        group=st.integers(1, 2),
        causal=st.booleans(),
        masked=st.booleans() if rung is not WMMA else st.just(True),
        peak=st.sampled_from([1.0, 30.0]),
        seed=st.integers(0, 99),
    )


@pytest.mark.parametrize("rung", EMULATED, ids=str)
def test_sizes(place, rung):
    @settings(max_examples=place.size(6, 40), deadline=None, derandomize=True, database=None)
    @given(case=cases(place, rung))
    def run(case):
        check(place, rung, case, "float16" if rung is WMMA else "float32")

    run()


EDGES = [
    Case(T=1, S=1, D=32, V=32, peak=100.0),
    Case(T=33, S=7, D=32, V=32, causal=True),  # 26 queries see nothing
    Case(T=7, S=70, D=32, V=32, causal=True, G=2, group=3),
    Case(T=40, S=33, D=32, V=32, masked=True, causal=True, B=2, group=2),
]


@pytest.mark.parametrize("case", EDGES, ids=["one", "blind", "late", "masked"])
@pytest.mark.parametrize("rung", EMULATED, ids=str)
def test_edges(place, rung, case):
    check(place, rung, case, "float16" if rung is WMMA else "float32")


@pytest.mark.parametrize(
    ("rung", "dtype", "channels"),
    [
        (TILED, "float32", 80),
        (TILED, "float32", 96),
        (TILED, "float32", 128),
        (WMMA, "float16", 80),
        (WMMA, "float16", 128),
        (WMMA, "bfloat16", 64),
    ],
    ids=str,
)
def test_head_sizes(place, rung, dtype, channels):
    check(place, rung, Case(T=37, S=45, D=channels, V=channels, causal=True, group=2), dtype)


@pytest.mark.parametrize("rung", EMULATED, ids=str)
def test_what_is_no_number_stays_none(place, rung):
    """A NaN among the inputs must not come out as the 0 of a query that sees nothing."""
    dtype = np.float16 if rung is WMMA else np.float32
    q = np.ones((1, 1, 3, 32), dtype)
    q[0, 0, 1, 5] = np.nan
    k = place.array(np.ones((1, 1, 4, 32), dtype))
    out, saved = forward(rung, place.array(q), k, k)
    dq, dk, _ = backward(out, saved)
    for x in (out, dq):
        assert (np.isnan(place.numpy(x)) == np.array([False, True, False])[:, None]).all()
    assert np.isnan(place.numpy(dk)).all()


@pytest.mark.parametrize("rung", [NAIVE, ONLINE, TILED], ids=str)
def test_a_logit_of_minus_infinity_has_no_weight(place, rung):
    """The product with the first key overflows: the others are attended as if it were not there."""
    q, k = np.full((1, 1, 2, 32), 1e20, np.float32), np.full((1, 1, 3, 32), 1e-20, np.float32)
    k[0, 0, 0] = -1e20
    v = np.arange(96, dtype=np.float32).reshape(1, 1, 3, 32)
    out, _ = forward(rung, *map(place.array, (q, k, v)), scale=1.0)
    expected = np.broadcast_to(v[:, :, 1:].mean(2, keepdims=True), out.shape)
    np.testing.assert_allclose(place.numpy(out), expected, rtol=1e-6)


def test_repetitions_agree_to_the_last_bit(place):
    case = Case(T=50, S=40, D=32, V=32, group=2)
    q, k, v, dout = map(place.array, case.arrays("float32")[0])
    for rung in (NAIVE, ONLINE, TILED):
        runs = []
        for _ in range(2):
            out, saved = forward(rung, q, k, v)
            runs.append([place.numpy(x) for x in (out, *backward(dout, saved))])
        for a, b in zip(*runs, strict=True):
            np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("rung", [NAIVE, ONLINE, TILED], ids=str)
def test_gradient_checker(rung):
    case = Case(T=5, S=6, D=16, V=16, group=2, causal=True, masked=True)
    *args, _ = case.arrays("float64")[1]
    report = gradcheck.check_vjp(
        lambda q, k, v: forward(rung, q, k, v, causal=True, mask=case.mask()), backward, args
    )
    assert report.passed, report


# Twins: a rung with one mistake. Those of the first kind are wrong, those of the second race.
WRONG = {
    "ragged edge": (TILED, "|| s >= S ||", "||", {}),
    "no rescale": (TILED, "for (REAL &number : mixed[i]) number *= fade;", "", {"peak": 3.0}),
    "no rescale, online": (ONLINE, "mixed[i] *= fade;", ";", {"peak": 3.0}),
    "no causal mask": (TILED, "|| s > t + diagonal", "", {"causal": True}),
    "scale left out": (WMMA, "scale * logits[row][j]", "logits[row][j]", {}),
    "delta left out": (WMMA, "- delta[t]", "", {}),
    "no fade": (WMMA, "mixed[c].x[e] *= fades.x[e]", "", {"peak": 3.0}),
    "other group": (NAIVE, "at.h / (H / G)", "at.h % G", {"G": 2, "group": 2}),
}
RACES = {
    "weights unwritten": (TILED, "__syncthreads(); // the weights are written", "//"),
    "lanes of a warp": (WMMA, "__syncwarp(); // the rest of this round", "//"),
    "tile overwritten": (TILED, "__syncthreads(); // the last tile's values", "//"),
    "logits unwritten": (
        WMMA,
        "__syncthreads();\n    for (int n = threadIdx.x",
        "for (int n = threadIdx.x",
    ),
}


def twin(rung, right, wrong, folder):
    """The same rung from a file with a mistake in it."""
    source = rung.path.read_text()
    assert right in source
    path = folder / rung.path.name
    path.write_text(source.replace(right, wrong))
    return dataclasses.replace(rung, path=path)


@pytest.mark.parametrize("name", WRONG)
def test_wrong_twins_are_refused(name, tmp_path):
    rung, right, wrong, options = WRONG[name]
    case = Case(**{"T": 40, "S": 71, "D": 32, "V": 32, **options})
    dtype = "float16" if rung is WMMA else "float32"
    check(CPU, rung, case, dtype)
    with pytest.raises(AssertionError, match="error"):
        check(CPU, twin(rung, right, wrong, tmp_path), case, dtype)


@pytest.mark.parametrize("name", RACES)
def test_a_missing_barrier_is_named(name, tmp_path):
    rung, right, wrong = RACES[name]
    report = watched(twin(rung, right, wrong, tmp_path))
    assert any(f.kind == "race" and f.file.endswith(rung.path.name) for f in report.findings)


@pytest.mark.parametrize("rung", EMULATED, ids=str)
def test_no_races_nor_reads_out_of_bounds(rung):
    report = watched(rung)
    assert not report.findings, str(report)


def watched(rung):
    """What the emulator finds in a forward and backward of a rung."""
    case = Case(T=35, S=67, D=32, V=32, group=2, causal=True, masked=True)
    dtype = "float16" if rung.name == WMMA.name else "float32"
    q, k, v, dout = (x.astype(dtype) for x in case.arrays(dtype)[0])
    with checking(races=True, bounds=True, uninitialised=True, seed=1) as report:
        _, saved = forward(rung, q, k, v, causal=True, mask=case.mask())
        backward(dout, saved)
    return report


REFUSED = {
    "dtype": (lambda a: {"q": a.astype(np.int32)}, "q must be float32 or float64 for"),
    "half": (lambda a: {"q": a.astype(np.float16)}, "q must be float32 or float64 for"),
    "other dtype": (lambda a: {"k": a.astype(np.float64)}, "k must be float32, got float64"),
    "list": (lambda a: {"q": a.tolist()}, "q must be a CuPy or NumPy array, got list"),
    "stride": (lambda a: {"v": np.asfortranarray(a)}, "v must be C-contiguous, got strides"),
    "shape": (lambda a: {"k": a[..., :16].copy()}, r"k must have shape \(2, any, any, 32\)"),
    "heads": (lambda a: {"k": a[:, :2].copy(), "v": a[:, :2].copy()}, "multiple of k's 2 heads"),
    "no key": (lambda a: {"k": a[:, :, :0].copy(), "v": a[:, :, :0].copy()}, "at least one key"),
    "mask": (lambda a: {"mask": np.ones((2, 1, 5, 5))}, "mask must be bool, got float64"),
    "mask's shape": (lambda a: {"mask": np.ones((2, 1, 4, 5), bool)}, "mask must have shape"),
    "head size": (lambda a: {x: a[..., :20].copy() for x in "qkv"}, "takes heads of 16, 32"),
    "values": (lambda a: {"v": a[..., :16].copy()}, "as many channels in v as in q and k"),
    "no channel": (lambda a: {x: a[..., :0].copy() for x in "qkv"}, "at least one channel"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_wrong_arguments_are_refused(name):
    change, message = REFUSED[name]
    array = np.ones((2, 3, 5, 32), np.float32)
    with pytest.raises(ValueError, match=message):
        forward(TILED, **{"q": array, "k": array, "v": array, **change(array)})


def test_more_refusals():
    wide = np.ones((1, 1, 2, 257), np.float32)
    with pytest.raises(ValueError, match="up to 256 channels, got 257"):
        forward(ONLINE, wide, wide, wide)
    double = np.ones((1, 1, 2, 96))
    with pytest.raises(ValueError, match=r"up to 128 channels \(80 in float64\), got 96"):
        forward(TILED, double, double, double)
    shifted = np.ones(1 * 2 * 32 + 1, np.float16)[1:].reshape(1, 1, 2, 32)
    with pytest.raises(ValueError, match="q must start at a multiple of 16 bytes"):
        forward(WMMA, shifted, shifted, shifted)
    array = np.ones((1, 1, 2, 32), np.float32)
    _, saved = forward(TILED, array, array, array)
    with pytest.raises(
        ValueError, match=r"dout must have shape \(1, 1, 2, 32\), got \(1, 1, 2, 16\)"
    ):
        backward(array[..., :16].copy(), saved)


def test_more_blocks_than_a_grid_has():
    one = np.ones((1, 1, 1, 32), np.float32)
    many = np.lib.stride_tricks.as_strided(one, (2**31, 1, 1, 32), (0, 0, 0, 4))
    macros = attention.macros(TILED, many, many)
    launch = attention.Launch(TILED, many, many, many, False, None, None, macros)
    with pytest.raises(ValueError, match="the grid has 2147483648 blocks on axis x"):
        launch.blocks("flash_forward", launch.B, (16, 16))


@pytest.mark.parametrize("rung", EMULATED, ids=str)
def test_no_queries(rung):
    dtype = np.float16 if rung is WMMA else np.float32
    q, k = np.ones((2, 3, 0, 32), dtype), np.ones((2, 3, 4, 32), dtype)
    out, saved = forward(rung, q, k, k)
    dq, dk, dv = backward(out, saved)
    assert out.shape == dq.shape == q.shape
    assert dk.shape == dv.shape == k.shape
    assert not dk.any()
    assert not dv.any()
