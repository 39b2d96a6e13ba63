import numpy as np
import pytest

from minillm.gradcheck import check_vjp


def attend(q, k, v):
    """Softmax attention over keys; with a single one neither q nor k matters."""
    logits = q @ k.T
    weights = np.exp(logits - logits.max(-1, keepdims=True))
    weights /= weights.sum(-1, keepdims=True)
    return weights @ v, (q, k, v, weights)


def attend_backward(dout, cache):
    q, k, v, weights = cache
    dlogits = weights * (dout @ v.T - (dout * (weights @ v)).sum(-1, keepdims=True))
    return dlogits @ k, dlogits.T @ q, weights.T @ dout


def without_the_sum(dout, cache):
    q, k, v, weights = cache
    dlogits = weights * (dout @ v.T)
    return dlogits @ k, dlogits.T @ q, weights.T @ dout


def point(seed, keys=1):
    rng = np.random.default_rng(seed)
    return (
        rng.standard_normal((5, 2)),
        rng.standard_normal((keys, 2)),
        rng.standard_normal((keys, 7)),
    )


@pytest.mark.parametrize("seed", range(20))
def test_what_rounding_leaves_of_terms_that_cancel_is_zero(seed):
    args = point(seed)
    out, cache = attend(*args)
    dq, _, _ = attend_backward(np.random.default_rng(seed).standard_normal(out.shape), cache)
    assert 0 < np.abs(dq).max() < 1e-14, "nothing is left: the case shows nothing"
    report = check_vjp(attend, attend_backward, args, seed=seed)
    assert [leaf.reason for leaf in report.leaves] == ["vanishes", "vanishes", None]
    assert check_vjp(attend, attend_backward, args, seed=seed, allow_zero=("q", "k")).passed


@pytest.mark.parametrize("scale", [1e-12, 1, 1e6])
def test_a_small_gradient_of_nothing_is_no_rounding(scale):
    def backward(dout, cache):
        dq, dk, dv = without_the_sum(dout, cache)
        return scale * dq, scale * dk, dv

    report = check_vjp(attend, backward, point(1), allow_zero=("q", "k"))
    assert [leaf.verdict for leaf in report.leaves] == ["fail", "fail", "pass"]


def test_with_more_keys_the_same_pair_passes():
    assert check_vjp(attend, attend_backward, point(2, keys=3)).passed
    assert check_vjp(attend, without_the_sum, point(2, keys=3)).verdict == "fail"
