"""CUDA's intrinsics on the CPU against NumPy and plain integer arithmetic."""

import math

import numpy as np
import pytest

from minillm_kernels.emulator import RawModule

EPSILON = float(np.finfo(np.float32).eps)


# Each group becomes a kernel that evaluates its expressions for every i, in one thread.
# {group: (parameters, type of the results, expressions)}
GROUPS = {
    "functions": ("const float* x, const float* z", "float", [
        "rsqrtf(x[i])", "__frcp_rn(x[i])", "__fsqrt_rn(x[i])", "__fdividef(z[i], x[i])",
        "__fdiv_rn(z[i], x[i])", "__expf(z[i])", "exp2f(z[i])", "exp10f(z[i])", "__exp10f(z[i])",
        "__logf(x[i])", "__log2f(x[i])", "__log10f(x[i])", "__powf(x[i], 0.5f)", "__sinf(z[i])",
        "__cosf(z[i])", "tanhf(z[i])", "erff(z[i])", "normcdff(z[i])", "sinpif(z[i])",
        "__saturatef(z[i])", "rcbrtf(x[i])",
    ]),
    "rounded": ("const float* x, const float* p", "float", [
        "__fsub_rn(__fmul_rn(x[i], x[i]), p[i])", "__fmaf_rn(x[i], x[i], -p[i])",
        "fmaf(x[i], x[i], -p[i])",
    ]),
    "extremes": ("const float* x, const float* y", "float", [
        "min(x[i], y[i])", "max(x[i], y[i])", "fmaxf(x[i], y[i])",
    ]),
    "integer_extremes": ("const int* a", "int", [
        "min(a[i], 3)", "max(a[i], 3)", "(int)(min(a[i], 3u) == 3u)",
    ]),
    "integers": ("const unsigned* a, const unsigned* b", "unsigned", [
        "__popc(a[i])", "__clz(a[i])", "__ffs(a[i])", "__brev(a[i])", "__umulhi(a[i], b[i])",
        "__funnelshift_l(a[i], b[i], 5)", "__funnelshift_r(a[i], b[i], 5)", "__usad(a[i], b[i], 7)",
        "__byte_perm(a[i], b[i], 0x7250)", "__byte_perm(a[i], b[i], 0xA941)",
        "__umul24(a[i], b[i])",
    ]),
    "wide_integers": ("const long long* a, const long long* b", "long long", [
        "__popcll(a[i])", "__clzll(a[i])", "__ffsll(a[i])", "__mul64hi(a[i], b[i])",
    ]),
    "dot": ("const int* a, const int* b", "int", ["__dp4a(a[i], b[i], 9)"]),
    "to_int": ("const float* x", "int", [
        "__float2int_rn(x[i])", "__float2int_rz(x[i])", "__float2int_rd(x[i])",
        "__float2int_ru(x[i])",
    ]),
    "to_unsigned": ("const float* x", "unsigned", ["__float2uint_rn(x[i])"]),
    "casts": ("const unsigned* a", "unsigned", [
        "__float_as_uint(__uint_as_float(a[i]))", "__float_as_int(__int_as_float(a[i]))",
    ]),
    "constants": ("const unsigned* a", "float", [
        "__int_as_float(0x7f800000)", "CUDART_INF_F", "INFINITY", "-CUDART_INF_F",
    ]),
    "flags": ("const unsigned* a", "int", [
        "isnan(CUDART_NAN_F)", "isinf(CUDART_INF_F)", "isfinite(1.0f)", "signbit(-0.0f) != 0",
    ]),
}  # fmt: skip
HINTS = {"__ldg": "__stcs", "__ldca": "__stwb", "__ldcg": "__stcg", "__ldcs": "__stcs"}
HINTS |= {"__ldlu": "__stwt", "__ldcv": "__stwt"}
TYPES = {"float": "f4", "int": "i4", "unsigned": "u4", "long long": "i8"}


@pytest.fixture(scope="module")
def module():
    code = ""
    for name, (parameters, kind, expressions) in GROUPS.items():
        body = "\n".join(f"out[{row} * n + i] = {text};" for row, text in enumerate(expressions))
        code += f"""
        extern "C" __global__ void {name}({parameters}, {kind}* out, int n) {{
            for (int i = 0; i < n; ++i) {{ {body} }}
        }}"""
    for load, store in HINTS.items():
        code += f"""
        extern "C" __global__ void move{load}(const float4* x, float4* y) {{
            {store}(&y[threadIdx.x], {load}(&x[threadIdx.x]));
        }}"""
    return RawModule(code=code)


@pytest.fixture(scope="module")
def evaluate(module):
    """evaluate(group, *inputs): {expression: its values}."""

    def run(group, *inputs):
        _, kind, expressions = GROUPS[group]
        out = np.empty((len(expressions), inputs[0].size), TYPES[kind])
        arguments = (*inputs, out, np.int32(inputs[0].size))
        module.get_function(group)((1,), (1,), arguments)
        return dict(zip(expressions, out, strict=True))

    return run


def test_float_functions(evaluate):
    rng = np.random.default_rng(1)
    n = 500
    x = np.append(rng.uniform(1e-3, 8, n - 2), [1e-30, 1e30]).astype(np.float32)
    z = rng.uniform(-8, 8, n).astype(np.float32)
    X, Z = x.astype(np.float64), z.astype(np.float64)
    erf = np.vectorize(math.erf)
    expected = {
        "rsqrtf(x[i])": X**-0.5,
        "__frcp_rn(x[i])": 1 / X,
        "__fsqrt_rn(x[i])": np.sqrt(X),
        "__fdividef(z[i], x[i])": Z / X,
        "__fdiv_rn(z[i], x[i])": Z / X,
        "__expf(z[i])": np.exp(Z),
        "exp2f(z[i])": np.exp2(Z),
        "exp10f(z[i])": 10**Z,
        "__exp10f(z[i])": 10**Z,
        "__logf(x[i])": np.log(X),
        "__log2f(x[i])": np.log2(X),
        "__log10f(x[i])": np.log10(X),
        "__powf(x[i], 0.5f)": np.sqrt(X),
        "__sinf(z[i])": np.sin(Z),
        "__cosf(z[i])": np.cos(Z),
        "tanhf(z[i])": np.tanh(Z),
        "erff(z[i])": erf(Z),
        "normcdff(z[i])": (1 + erf(Z / np.sqrt(2))) / 2,
        "sinpif(z[i])": np.sin(np.pi * Z),
        "__saturatef(z[i])": np.clip(Z, 0, 1),
        "rcbrtf(x[i])": 1 / np.cbrt(X),
    }
    found = evaluate("functions", x, z)
    for name, value in expected.items():
        # a few units in the last place; an absolute floor where the result passes through zero
        floor = 1e-6 if name.split("(")[0] in ("__logf", "__log2f", "__log10f", "sinpif") else 1e-7
        np.testing.assert_allclose(found[name], value, rtol=6 * EPSILON, atol=floor, err_msg=name)


def test_rounded_operations_are_never_joined(evaluate):
    """x*x - rounded(x*x) is 0; one fused operation would give the rounding's error."""
    x = np.random.default_rng(2).uniform(1, 2, 200).astype(np.float32)
    product = x * x
    found = evaluate("rounded", x, product)
    separate, fused, plain = found.values()
    assert (separate == 0).all()
    exact = x.astype(np.float64) ** 2 - product
    np.testing.assert_array_equal(fused, exact.astype(np.float32))
    np.testing.assert_array_equal(plain, fused)
    assert (fused != 0).any()


def test_min_max_and_nan(evaluate):
    x = np.array([1, 2, np.nan, 3, -np.inf], np.float32)
    y = np.array([2, 1, 5, np.nan, 0], np.float32)
    found = evaluate("extremes", x, y)
    low, high, high_f = found.values()
    np.testing.assert_array_equal(low, np.fmin(x, y))
    np.testing.assert_array_equal(high, np.fmax(x, y))
    np.testing.assert_array_equal(high_f, np.fmax(x, y))
    a = np.array([-1, 5], np.int32)
    found = evaluate("integer_extremes", a)
    assert [row.tolist() for row in found.values()] == [[-1, 3], [3, 5], [1, 1]]


def test_integer_intrinsics(evaluate):
    rng = np.random.default_rng(3)
    n = 300
    a = rng.integers(0, 2**32, n, np.uint32) >> rng.integers(0, 32, n).astype(np.uint32)
    a[:3] = [0, 1, 0xFFFFFFFF]
    b = rng.integers(0, 2**32, n, np.uint32)
    ours = evaluate("integers", a, b)

    def byte(word, selector):
        value = word >> (8 * (selector & 7)) & 0xFF
        return value if selector < 8 else (0xFF if value & 0x80 else 0)

    def permute(low, high, selectors):
        word = high << 32 | low
        return sum(byte(word, selectors >> (4 * i) & 15) << (8 * i) for i in range(4))

    for i, (p, q) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        text = f"{p:032b}"
        expected = [
            text.count("1"), 32 - p.bit_length(), (p & -p).bit_length(), int(text[::-1], 2),
            p * q >> 32,
            ((q << 32 | p) << 5 >> 32) & 0xFFFFFFFF, (q << 32 | p) >> 5 & 0xFFFFFFFF,
            (abs(p - q) + 7) & 0xFFFFFFFF, permute(p, q, 0x7250), permute(p, q, 0xA941),
            (p & 0xFFFFFF) * (q & 0xFFFFFF) & 0xFFFFFFFF,
        ]  # fmt: skip
        assert [int(row[i]) for row in ours.values()] == expected


def test_wide_integer_intrinsics(evaluate):
    rng = np.random.default_rng(4)
    a = rng.integers(-(2**63), 2**63 - 1, 100) >> rng.integers(0, 63, 100)
    b = rng.integers(-(2**63), 2**63 - 1, 100)
    a[:2] = [0, -1]
    found = evaluate("wide_integers", a, b)
    for i, (p, q) in enumerate(zip(a.tolist(), b.tolist(), strict=True)):
        u = p % 2**64
        expected = [bin(u).count("1"), 64 - u.bit_length(), (u & -u).bit_length(), p * q >> 64]
        assert [int(row[i]) for row in found.values()] == expected


def test_four_bytes_at_once(evaluate):
    rng = np.random.default_rng(5)
    a, b = rng.integers(-128, 128, (2, 50, 4)).astype(np.int8)
    found = evaluate("dot", a.view("i4")[:, 0].copy(), b.view("i4")[:, 0].copy())
    (ours,) = found.values()
    np.testing.assert_array_equal(ours, (a.astype(int) * b).sum(1) + 9)


def test_floats_to_integers_clamp(evaluate):
    """PTX ISA, cvt: what does not fit becomes the nearest end, NaN becomes 0."""
    x = np.array([2.5, 3.5, -2.5, 1e10, -1e10, np.nan, np.inf, -0.5, 2147483520.0], np.float32)
    found = evaluate("to_int", x)
    top = 2**31 - 1
    assert [row.tolist() for row in found.values()] == [
        [2, 4, -2, top, -top - 1, 0, top, 0, 2147483520],
        [2, 3, -2, top, -top - 1, 0, top, 0, 2147483520],
        [2, 3, -3, top, -top - 1, 0, top, -1, 2147483520],
        [3, 4, -2, top, -top - 1, 0, top, 0, 2147483520],
    ]
    (unsigned,) = evaluate("to_unsigned", x).values()
    assert unsigned.tolist() == [2, 4, 0, 2**32 - 1, 0, 0, 2**32 - 1, 0, 2147483520]


def test_bits_go_through_unchanged(evaluate):
    bits = np.random.default_rng(6).integers(0, 2**32, 1000, np.uint32)
    found = evaluate("casts", bits)
    for row in found.values():
        np.testing.assert_array_equal(row, bits)
    rows = evaluate("constants", bits).values()
    assert [float(row[0]) for row in rows] == [np.inf, np.inf, np.inf, -np.inf]
    assert all(row[0] == 1 for row in evaluate("flags", bits).values())


@pytest.mark.parametrize("hint", HINTS)
def test_hints_move_the_data(module, hint):
    x = np.arange(8, dtype=np.float32)
    y = np.zeros(8, np.float32)
    module.get_function(f"move{hint}")((1,), (2,), (x, y))
    np.testing.assert_array_equal(y, x)
