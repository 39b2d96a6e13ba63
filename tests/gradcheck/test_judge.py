import numpy as np
import pytest

from minillm.gradcheck import check_vjp


def elementwise(f, slope):
    def backward(dout, x):
        return (dout * slope(x)).astype(x.dtype)

    return lambda x: (f(x), x), backward


def check(f, slope, x, **options):
    return check_vjp(*elementwise(f, slope), [x], names=["x"], **options)


def normal(*shape, dtype=np.float64, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def relu(x):
    return np.maximum(x, 0)


def gate(x):
    return x > 0


@pytest.mark.parametrize("error", [1e-5, -1e-5, 1e-6])
def test_a_small_error_everywhere_fails_in_float64(error):
    for seed in range(20):
        report = check(
            np.tanh, lambda x: (1 + error) * (1 - np.tanh(x) ** 2), normal(4, 7), seed=seed
        )
        assert report.verdict == "fail"


def test_an_error_of_rounding_passes():
    right = check(np.tanh, lambda x: (1 + 1e-12) * (1 - np.tanh(x) ** 2), normal(4, 7))
    assert right.verdict == "pass"


@pytest.mark.parametrize("error", [0.05, -0.05])
def test_a_few_percent_fail_in_float32(error):
    x = normal(5, 7, dtype=np.float32)
    for seed in range(20):
        report = check(
            np.tanh, lambda x: np.float32(1 + error) * (1 - np.tanh(x) ** 2), x, seed=seed
        )
        assert report.verdict == "fail"


@pytest.mark.parametrize("small", [1e-6, 1e-10])
def test_each_leaf_is_judged_by_its_own_size(small):
    """In one joint direction a zero gradient of a small bias goes unseen."""

    def forward(x, b):
        return x + small * b, None

    for seed in range(20):
        args = normal(5, 3), normal(3)
        report = check_vjp(forward, lambda d, c: (d, np.zeros(3)), args, seed=seed)
        assert [leaf.verdict for leaf in report.leaves] == ["pass", "fail"]


def test_each_output_is_judged_by_its_own_size():
    """The gradient of the small output is wrong, and drowned by the large one's in any sum."""

    def forward(x):
        return (1e9 * x, np.sin(x)), x

    def backward(dout, x):
        return 1e9 * dout[0] + 0.9 * np.cos(x) * dout[1]

    assert check_vjp(forward, backward, [normal(4)]).verdict == "fail"


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
@pytest.mark.parametrize("share", [0.0, 0.3])
def test_a_kink_at_the_point_is_moved_away_from(dtype, share):
    x = normal(8, 5, dtype=dtype)
    x[np.random.default_rng(1).random(x.shape) >= share] = 0
    report = check(relu, gate, x)
    assert report.verdict == "pass"
    assert report.notes == ["a kink at the point, seen by x: moved by 2 %"]
    assert not np.any(x[x == 0])  # the caller's array is where it was


def test_a_wrong_slope_at_a_kink_is_still_found():
    assert check(relu, lambda x: 1.1 * gate(x), np.zeros((3, 4))).verdict == "fail"
    assert check(relu, lambda x: ~gate(x), np.zeros((3, 4))).verdict == "fail"


def test_a_kink_that_moves_along_is_inconclusive():
    """The tie is between two values of the function's own, whatever x is."""

    def forward(x):
        here = np.round(x, 12) * 1.0
        return np.abs(x - here) * 1e6, x

    def backward(dout, x):
        return np.zeros_like(x)

    report = check_vjp(forward, backward, [np.round(normal(6), 12)])
    assert report.verdict != "pass"


@pytest.mark.parametrize("seed", range(5))
def test_kinks_within_a_float32_step_are_left_out(seed):
    """Of 8192 ReLUs some always lie within a step; backward answers for the others alone."""
    x = normal(64, 128, dtype=np.float32, seed=seed)
    assert check(relu, gate, x).verdict == "pass"
    assert check(relu, lambda x: gate(x) * np.float32(1.05), x).verdict == "fail"
    assert check(relu, lambda x: x > 0.3, x).verdict == "fail"


@pytest.mark.parametrize("scale", [1e3, 3e3])
def test_a_function_that_has_levelled_off_is_not_taken_for_settled(scale):
    """Far out softmax is constant: all coarse steps agree on a slope of nothing."""

    def forward(x):
        e = np.exp(x - x.max(-1, keepdims=True))
        y = e / e.sum(-1, keepdims=True)
        return y, y

    def backward(dy, y):
        return y * (dy - (dy * y).sum(-1, keepdims=True))

    for seed in range(10):
        for dtype in (np.float32, np.float64):
            x = (scale * normal(40, 30, seed=seed)).astype(dtype)
            assert check_vjp(forward, backward, [x], seed=seed).verdict != "fail"


def reason(report):
    assert report.verdict == "inconclusive"
    return [leaf.reason for leaf in report.leaves]


def test_no_influence():
    report = check(np.ones_like, np.zeros_like, normal(3, 4))
    assert reason(report) == ["no influence"]
    assert "x does not change the output at all" in str(report)


def test_a_gradient_that_cancels_vanishes():
    """The sum of a softmax is 1, up to rounding."""

    def forward(x):
        e = np.exp(x)
        return (e / e.sum(-1, keepdims=True)).sum(-1), x

    report = check_vjp(forward, lambda d, x: np.zeros_like(x), [normal(4, 9)])
    # in one of the rows, or in all, the sum may come out as 1 exactly
    assert reason(report) in (["vanishes"], ["no influence"])


def test_saturation():
    x = 80 + np.abs(normal(3, 4))
    sigmoid = check(lambda x: 1 / (1 + np.exp(-x)), lambda x: np.exp(-x), x)
    assert reason(sigmoid) == ["saturated"]


def test_noise_above_the_signal():
    right = check(lambda x: 1e9 + 3e-5 * np.sin(x), lambda x: 3e-5 * np.cos(x), normal(3, 4))
    assert reason(right) == ["noise"]


def test_noise_hides_only_what_is_below_it():
    """With six digits of noise an error of ten percent is seen."""

    def rough(x):
        bits = np.frombuffer(np.sin(1e7 * x).tobytes(), np.uint64).reshape(x.shape)
        return np.sin(x) + 1e-7 * (bits % 1000 / 1000 - 0.5)

    assert check(rough, np.cos, normal(8, 9)).verdict == "pass"
    assert check(rough, lambda x: 1.1 * np.cos(x), normal(8, 9)).verdict == "fail"


def test_a_zero_gradient_of_a_function_that_has_one_fails():
    assert check(np.sin, np.zeros_like, normal(3, 4)).verdict == "fail"


def test_a_gradient_for_something_without_influence_fails():
    assert check(np.ones_like, np.ones_like, normal(3, 4)).verdict == "fail"


def test_infinite_outputs_are_inconclusive():
    with np.errstate(divide="ignore"):
        report = check(np.log, lambda x: np.ones_like(x), np.zeros(3))
    assert reason(report) == ["not finite"]


@pytest.mark.parametrize("scale", [1e-8, 1e-4, 1e4, 1e8])
@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_the_step_follows_the_scale(scale, dtype):
    x = dtype(scale) * normal(6, 5, dtype=dtype)
    f = lambda x: np.sin(x / dtype(scale))  # noqa: E731
    assert check(f, lambda x: np.cos(x / dtype(scale)) / dtype(scale), x).verdict == "pass"
    assert check(f, lambda x: np.cos(x / dtype(scale)), x).verdict == "fail"


def test_a_large_offset():
    x = 1e6 + normal(6, 5)
    assert check(lambda x: np.sin(x - 1e6), lambda x: np.cos(x - 1e6), x).verdict == "pass"


@pytest.mark.parametrize(("shape", "leaves"), [((3, 4), 1), ((300, 40), 1), ((7,), 4)])
def test_a_passing_check_stays_within_its_evaluations(shape, leaves):
    args = [normal(*shape, seed=i) for i in range(leaves)]
    counted = 0

    def forward(*args):
        nonlocal counted
        counted += 1
        return np.tanh(sum(args)), args

    def backward(dout, args):
        slope = dout * (1 - np.tanh(sum(args)) ** 2)
        return (slope,) * len(args) if len(args) > 1 else slope

    report = check_vjp(forward, backward, args)
    assert report.verdict == "pass"
    assert report.evaluations == counted <= 12 + 4 * leaves


@pytest.mark.parametrize("spread", [1.0, 1e2])
def test_a_step_that_rounding_swallows_is_no_agreement(spread):
    """Around 1e8 float32 numbers lie 8 apart: a step of 0.005 would be no step at all."""
    x = (1e8 + spread * normal(6, 5)).astype(np.float32)
    report = check(lambda x: x * np.float32(2), lambda x: np.full_like(x, 3), x)
    assert report.verdict == "fail"


def test_an_element_far_larger_than_the_others_moves_too():
    x = normal(30, dtype=np.float32)
    x[7] = 1e8
    right = np.full(30, 2, np.float32)
    wrong = right.copy()
    wrong[7] = 5
    assert check(lambda x: x * np.float32(2), lambda x: right, x).verdict == "pass"
    assert check(lambda x: x * np.float32(2), lambda x: wrong, x).verdict == "fail"


def test_a_gradient_that_is_far_too_large_fails_though_rounding_turns_its_direction():
    x = np.float32(1e8) * normal(6, 5, dtype=np.float32)
    unit = np.float32(1e8)
    assert check(lambda x: np.sin(x / unit), lambda x: np.cos(x / unit), x).verdict == "fail"
