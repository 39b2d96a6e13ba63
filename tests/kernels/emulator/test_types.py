"""half and bfloat16 on the CPU: every one of the 65536 values, and every rounding.

The oracles are NumPy's own float16 and, for both types, a search in the sorted list of all
values of the type, which knows of their bits nothing but the value that they stand for.
"""

from fractions import Fraction

import numpy as np
import pytest

from minillm_kernels.emulator import RawModule

SOURCE = """
#include <HEADER>
#define ONE(name, In, Out, expression)                                    \\
    extern "C" __global__ void name(const In* x, Out* y, int n) {         \\
        for (int i = 0; i < n; ++i) y[i] = expression;                    \\
    }
#define TWO(name, In, Out, expression)                                    \\
    extern "C" __global__ void name(const In* a, const In* b, Out* y, int n) { \\
        for (int i = 0; i < n; ++i) y[i] = expression;                    \\
    }

ONE(widen, TYPE, float, (float)x[i])
ONE(from_float, float, TYPE, __float2NAME(x[i]))
ONE(from_double, double, TYPE, TYPE(x[i]))
ONE(from_long, long long, TYPE, __ll2NAME_rn(x[i]))
ONE(toward_zero, float, TYPE, __float2NAME_rz(x[i]))
ONE(down, float, TYPE, __float2NAME_rd(x[i]))
ONE(up, float, TYPE, __float2NAME_ru(x[i]))
ONE(to_int, TYPE, int, __NAME2int_rz(x[i]))
ONE(negate, TYPE, TYPE, -x[i])
ONE(root, TYPE, TYPE, hsqrt(x[i]))
TWO(add, TYPE, TYPE, a[i] + b[i])
TWO(sub, TYPE, TYPE, __hsub(a[i], b[i]))
TWO(mul, TYPE, TYPE, a[i] * b[i])
TWO(divide, TYPE, TYPE, __hdiv(a[i], b[i]))
TWO(larger, TYPE, TYPE, __hmax(a[i], b[i]))
TWO(compare, TYPE, int, (a[i] < b[i]) | (a[i] <= b[i]) << 1 | (a[i] == b[i]) << 2 |
    (a[i] != b[i]) << 3 | (a[i] > b[i]) << 4 | (a[i] >= b[i]) << 5 | __hneu(a[i], b[i]) << 6 |
    __hltu(a[i], b[i]) << 7)
TWO(pairs, TYPE2, TYPE2, __hfma2(a[i], b[i], __hadd2(a[i], b[i])))

extern "C" __global__ void fma3(const TYPE* a, const TYPE* b, const TYPE* c, TYPE* y, int n) {
    for (int i = 0; i < n; ++i) y[i] = __hfma(a[i], b[i], c[i]);
}
"""

NAMES = {
    "half": {"HEADER": "cuda_fp16.h", "TYPE": "__half", "NAME": "half"},
    "bf16": {"HEADER": "cuda_bf16.h", "TYPE": "__nv_bfloat16", "NAME": "bfloat16"},
}


def module_of(kind):
    """The kernels for one of the two types."""
    code = SOURCE.replace("TYPE2", {"half": "__half2", "bf16": "__nv_bfloat162"}[kind])
    for placeholder, name in NAMES[kind].items():
        code = code.replace(placeholder, name)
    return RawModule(code=code)


@pytest.fixture(scope="module", params=["half", "bf16"])
def kind(request):
    return request.param


@pytest.fixture(scope="module")
def call(kind):
    """call(name, *arrays): run a kernel of the type in one thread over n elements."""
    module = module_of(kind)

    def run(name, *arrays, count=None):
        count = arrays[0].size if count is None else count
        module.get_function(name)((1,), (1,), (*arrays, np.int32(count)))
        return arrays[-1]

    return run


ALL = np.arange(65536, dtype=np.uint16)


def values(kind, bits=ALL):
    """What the 16 bits stand for, in float64, written from the definition of the formats."""
    fraction_bits, bias = (10, 15) if kind == "half" else (7, 127)
    bits = bits.astype(np.int64)
    exponent = (bits & 0x7FFF) >> fraction_bits
    fraction = bits & ((1 << fraction_bits) - 1)
    top = (1 << (15 - fraction_bits)) - 1
    significand = np.where(exponent > 0, fraction + (1 << fraction_bits), fraction)
    size = np.ldexp(significand.astype(float), np.maximum(exponent, 1) - bias - fraction_bits)
    size = np.where(exponent == top, np.where(fraction > 0, np.nan, np.inf), size)
    return np.where(bits & 0x8000, -size, size)


def nearest(kind, exact):
    """The bits of the nearest value to each number (float64 or Fraction), ties to even."""
    largest = 0x7BFF if kind == "half" else 0x7F7F
    steps = values(kind, np.arange(largest + 1, dtype=np.uint16))
    beyond = (
        2 * steps[-1] - steps[-2]
    )  # where the next value would be: infinity begins half-way to it
    grid = np.append(steps, beyond)
    out = np.empty(len(exact), np.uint16)
    for i, number in enumerate(exact):
        if number != number:
            out[i] = 0x7FFF
            continue
        size = abs(number)
        low = min(int(np.searchsorted(grid, float(size), "right")), len(grid) - 1) - 1
        while low > 0 and Fraction(float(grid[low])) > size:  # float(size) may have been rounded up
            low -= 1
        if size == np.inf or size >= beyond:
            low = largest + 1
        else:
            left, right = (
                Fraction(size) - Fraction(float(grid[low])),
                Fraction(float(grid[low + 1])) - Fraction(size),
            )
            low += right < left or (right == left and low % 2 == 1)
        out[i] = low | (0x8000 if np.signbit(float(number)) else 0)
    return out


def draw(rng, count, spread):
    """Numbers of all sizes between 2^-spread and 2^spread, of both signs."""
    return (
        rng.uniform(1, 2, count)
        * 2.0 ** rng.integers(-spread, spread, count)
        * rng.choice([-1, 1], count)
    )


def hard(kind, rng):
    """Doubles at, just below and just above the middle of neighbouring values, and the ends."""
    table = values(kind)
    low = rng.integers(0, 0x7BFF if kind == "half" else 0x7F7F, 3000).astype(np.uint16)
    middle = (table[low] + table[low + 1]) / 2
    ends = [
        0.0,
        -0.0,
        np.inf,
        -np.inf,
        np.nan,
        65519.996,
        65520.0,
        2.0**-25,
        2.0**-24 * 1.5,
        3.4e38,
    ]
    near = [middle, np.nextafter(middle, 0), np.nextafter(middle, np.inf), -middle]
    return np.concatenate([*near, ends, draw(rng, 1000, 20)])


def same(ours, expected):
    """Equal bits, NaN being equal to any NaN."""
    np.testing.assert_array_equal(ours, expected)


def test_every_value_widens_and_comes_back(call, kind):
    wide = call("widen", ALL, np.empty(65536, np.float32))
    np.testing.assert_array_equal(wide, values(kind).astype(np.float32))
    assert (np.signbit(wide) == (ALL >= 0x8000)).all()
    back = call("from_float", wide, np.empty(65536, np.uint16))
    nan = np.isnan(wide)
    same(back[~nan], ALL[~nan])
    assert (back[nan] == 0x7FFF).all()


def test_half_is_numpy_s_float16():
    rng = np.random.default_rng(1)
    module = module_of("half")
    x = draw(rng, 200_000, 30).astype(np.float32)
    x = np.append(x, rng.integers(0, 2**32, 200_000, np.uint32).view(np.float32))
    ours = np.empty(x.size, np.float16)
    module.get_function("from_float")((1,), (1,), (x, ours, np.int32(x.size)))
    with np.errstate(over="ignore", invalid="ignore"):
        np.testing.assert_array_equal(ours, x.astype(np.float16))


@pytest.mark.parametrize("source", ["from_float", "from_double"])
def test_rounds_to_the_nearest_even(call, kind, source):
    x = hard(kind, np.random.default_rng(2))
    with np.errstate(over="ignore"):
        x = x.astype(np.float32 if source == "from_float" else np.float64)
    same(call(source, x, np.empty(x.size, np.uint16)), nearest(kind, x.tolist()))


def test_a_double_is_rounded_once(call, kind):
    """Just above the middle by less than a float can hold: by way of float it would be a tie."""
    step = 2.0**-10 if kind == "half" else 2.0**-7
    x = np.array([1 + step / 2 + 2.0**-45, 1 + 1.5 * step - 2.0**-45])
    same(call("from_double", x, np.empty(2, np.uint16)), nearest(kind, x.tolist()))
    assert not np.array_equal(nearest(kind, x.tolist()), nearest(kind, x.astype("f4").tolist()))


def test_whole_numbers(call, kind):
    rng = np.random.default_rng(3)
    x = rng.integers(-(2**63), 2**63 - 1, 500) >> rng.integers(0, 62, 500)
    x = np.concatenate(
        [x, [2**62 + 2**54 + 1, 2**62 + 2**54, -(2**63), 2**63 - 1, 0, 65519, 65520]]
    )
    same(
        call("from_long", x, np.empty(x.size, np.uint16)),
        nearest(kind, [Fraction(int(v)) for v in x]),
    )


def test_directed_roundings(call, kind):
    x = hard(kind, np.random.default_rng(4))
    with np.errstate(over="ignore"):
        x = x.astype(np.float32)
    x = x[np.isfinite(x)]
    table = values(kind).astype(np.float32)
    down, up, cut = (
        table[call(name, x, np.empty(x.size, np.uint16))] for name in ("down", "up", "toward_zero")
    )
    assert (down <= x).all()
    assert (up >= x).all()
    exact = np.isin(x, table)
    np.testing.assert_array_equal(down[exact], up[exact])
    np.testing.assert_array_equal(np.where(x < 0, up, down), cut)
    ordered = np.sort(table[~np.isnan(table)])
    # nothing of the type lies between the two
    between = np.searchsorted(ordered, up, "left") - np.searchsorted(ordered, down, "right")
    assert (between[~exact] == 0).all()


@pytest.mark.parametrize("operation", ["add", "sub", "mul", "divide"])
def test_arithmetic_is_rounded_once(call, kind, operation):
    rng = np.random.default_rng(5)
    a, b = rng.integers(0, 65536, (2, 4000)).astype(np.uint16)
    a[:200], b[:200] = a[:200] & 0x83FF, b[:200] & 0x83FF  # subnormals
    exact = []
    special = []
    for x, y in zip(values(kind, a).tolist(), values(kind, b).tolist(), strict=True):
        plain = np.isfinite(x) and np.isfinite(y) and not (operation == "divide" and y == 0)
        special.append(not plain)
        if plain:
            x, y = Fraction(x), Fraction(y)
            result = {"add": x + y, "sub": x - y, "mul": x * y}.get(operation)
            exact.append(x / y if result is None else result)
        else:
            exact.append(0)
    special = np.array(special)
    ours = call(operation, a, b, np.empty(a.size, np.uint16))
    # zero's sign is the CPU's own affair in exact fractions
    expected = nearest(kind, exact)
    zero = (expected & 0x7FFF) == 0
    same((ours & 0x7FFF)[~special & zero], 0)
    same(ours[~special & ~zero], expected[~special & ~zero])
    with np.errstate(all="ignore"):
        x, y = values(kind, a), values(kind, b)
        wide = {"add": x + y, "sub": x - y, "mul": x * y, "divide": x / y}[operation]
    np.testing.assert_array_equal(values(kind, ours)[special], wide[special])


def test_fma_is_rounded_once(call, kind):
    rng = np.random.default_rng(6)
    a, b, c = rng.integers(0, 65536, (3, 3000)).astype(np.uint16)
    # a*b is a tie of the type, and c decides it, however small it is: bfloat16's smallest is 2^-133
    tie = {"half": (1 + 2.0**-5, 1 + 2.0**-6), "bf16": (1 + 2.0**-4, 1 + 2.0**-4)}[kind]
    table = values(kind)
    bits = {v: i for i, v in enumerate(table.tolist()) if v == v}
    smallest = table[1]
    for sign in (1, -1, 0):
        a = np.append(a, np.uint16(bits[tie[0]]))
        b = np.append(b, np.uint16(bits[tie[1]]))
        c = np.append(c, np.uint16(bits[sign * smallest]))
    finite = np.isfinite(table[a]) & np.isfinite(table[b]) & np.isfinite(table[c])
    a, b, c = a[finite], b[finite], c[finite]
    exact = [
        Fraction(x) * Fraction(y) + Fraction(z)
        for x, y, z in zip(*(table[v].tolist() for v in (a, b, c)), strict=True)
    ]
    ours = call("fma3", a, b, c, np.empty(a.size, np.uint16))
    expected = nearest(kind, exact)
    zero = (expected & 0x7FFF) == 0
    same(ours[~zero], expected[~zero])
    same(ours[zero] & 0x7FFF, 0)


def test_comparisons_and_nan(call, kind):
    rng = np.random.default_rng(7)
    a, b = rng.integers(0, 65536, (2, 5000)).astype(np.uint16)
    b[::5] = a[::5]
    a[:3], b[:3] = [0x0000, 0x7FFF, 0x3C00], [0x8000, 0x7FFF, 0x7FFF]
    x, y = values(kind, a), values(kind, b)
    tests = [x < y, x <= y, x == y, x != y, x > y, x >= y, x != y, ~(x >= y)]
    expected = sum(test.astype(np.int32) << i for i, test in enumerate(tests))
    same(call("compare", a, b, np.empty(a.size, np.int32)), expected)
    larger = call("larger", a, b, np.empty(a.size, np.uint16))
    np.testing.assert_array_equal(values(kind, larger), np.fmax(x, y))


def test_signs_roots_and_integers(call, kind):
    same(call("negate", ALL, np.empty(65536, np.uint16)), ALL ^ 0x8000)
    x = values(kind)
    with np.errstate(invalid="ignore"):
        root = call("root", ALL, np.empty(65536, np.uint16))
        expected = np.sqrt(x)
    # the nearest float64 to a root never is a tie of 16 bits unless the root itself is
    some = np.arange(0, 65536, 37)
    same(root[some], nearest(kind, expected[some].tolist()))
    whole = call("to_int", ALL, np.empty(65536, np.int32))
    inside = np.clip(
        np.nan_to_num(np.trunc(x), nan=0.0, posinf=2**31, neginf=-(2**31)), -(2**31), 2**31 - 1
    )
    same(whole, inside.astype(np.int64))


def test_pairs_are_two_singles(call, kind):
    rng = np.random.default_rng(8)
    a, b = (draw(rng, 400, 6) for _ in range(2))
    a, b = nearest(kind, a), nearest(kind, b)
    added = call("add", a, b, np.empty(400, np.uint16))
    single = call("fma3", a, b, added, np.empty(400, np.uint16))
    together = np.empty(400, np.uint16)
    call("pairs", a, b, together, count=200)
    same(together, single)


def test_vectors_have_cuda_s_sizes_and_alignment():
    """CUDA C++ Programming Guide, table "Alignment Requirements"."""
    alignment = {
        "char1": 1, "char2": 2, "char3": 1, "char4": 4, "uchar4": 4, "short2": 4, "short4": 8,
        "ushort3": 2, "int1": 4, "int2": 8, "int3": 4, "int4": 16, "uint4": 16, "float1": 4,
        "float2": 8, "float3": 4, "float4": 16, "longlong2": 16, "double2": 16, "double3": 8,
        "__half": 2, "__half2": 4, "__nv_bfloat162": 4, "dim3": 4,
    }  # fmt: skip
    lines = "\n".join(
        f"y[{2 * i}] = sizeof({name}); y[{2 * i + 1}] = alignof({name});"
        for i, name in enumerate(alignment)
    )
    code = "#include <cuda_fp16.h>\n#include <cuda_bf16.h>\n"
    code += f'extern "C" __global__ void sizes(int* y) {{ {lines} }}'
    found = np.empty((len(alignment), 2), np.int32)
    RawModule(code=code).get_function("sizes")((1,), (1,), (found,))
    assert found[:, 1].tolist() == list(alignment.values())
    counts = [int(name[-1]) if name[-1].isdigit() else 1 for name in alignment]
    assert (found[:, 0] % found[:, 1] == 0).all()
    unit = {
        "char": 1,
        "ucha": 1,
        "shor": 2,
        "usho": 2,
        "int": 4,
        "uint": 4,
        "floa": 4,
        "long": 8,
        "doub": 8,
    }
    for name, (size, _), count in zip(alignment, found.tolist(), counts, strict=True):
        kind = name.rstrip("1234")
        if kind[:4] in unit:
            assert size == unit[kind[:4]] * count, name
