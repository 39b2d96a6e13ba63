"""Wrong backwards get the name of their mistake, others no name at all."""

import numpy as np
import pytest

from minillm.gradcheck import check_vjp, diagnosis, evidence
from tests.gradcheck.diagnosis import functions as f
from tests.gradcheck.diagnosis import layers
from tests.gradcheck.diagnosis import mistakes as m
from tests.gradcheck.diagnosis.layer_mistakes import LAYERS, TABLE
from tests.gradcheck.diagnosis.mistakes import MISTAKES


@pytest.fixture(autouse=True)
def no_rule_stumbles(monkeypatch):
    """A rule that raises is heard here."""
    monkeypatch.setattr(diagnosis, "STUMBLES", ())


@pytest.fixture(autouse=True)
def one_step(monkeypatch):
    """The rules are tested on their own: all values here are of order one, and so is the step."""
    columns = evidence.numeric_columns
    monkeypatch.setattr(evidence, "numeric_columns", lambda p, i, e, h: columns(p, i, e, 1e-5))


def check(forward, backward, args, kwargs=None, seed=0):
    report = check_vjp(forward, backward, args, kwargs or {}, seed=seed)
    assert report.verdict == "fail"
    return report.diagnoses


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize("name", MISTAKES)
def test_the_mistake_is_named(name, seed):
    causes, forward, backward, draw = MISTAKES[name]
    args, kwargs = draw(np.random.default_rng([seed, len(name)]))
    found = check(forward, backward, args, kwargs, seed)
    assert found, "silent"
    assert found[0].cause in causes, found


@pytest.mark.parametrize("name", LAYERS)
def test_the_mistake_inside_a_layer_is_named(name):
    causes, forward, backward, draw = LAYERS[name]
    args, kwargs = draw(np.random.default_rng([0, len(name)]))
    found = check(forward, backward, args, kwargs)
    assert found, "silent"
    assert found[0].cause in causes, found


RIGHT = {
    "affine": (f.affine, f.affine_back, m.affine_args),
    "square": (f.affine, f.affine_back, m.square_args),
    "tanh": (
        lambda x: (np.tanh(x), x),
        lambda dy, x: dy * (1 - np.tanh(x) ** 2),
        m.pointwise_args,
    ),
    "softmax": (f.softmax, f.softmax_back, m.rows_args),
    "layer norm": (f.norm, f.norm_back, m.norm_args),
    "batch norm": (f.norm, f.norm_back, m.batch_args),
    "rms": (f.rms, f.rms_back, m.rms_args),
    "attention": (f.attention, f.attention_back, m.attention_args),
    "embedding": (f.embedding, f.embedding_back, m.embedding_args),
    "tied": (f.tied, f.tied_back, m.tied_args),
    "rnn": (f.rnn, f.rnn_back, m.rnn_args),
    "lstm cell": (f.lstm_cell, f.lstm_cell_back, m.cell_args),
    "conv": (f.conv, f.conv_back, m.conv_args),
    "max pool": (f.max_pool, f.max_pool_back, m.pool_args),
    "cross entropy": (f.cross_entropy, f.cross_entropy_back, m.loss_args),
    "mlp": (f.mlp, f.mlp_back, m.mlp_args),
    "residual": (f.residual, f.residual_back, m.square_args),
}
RIGHT |= {forward.__name__: (forward, backward, draw) for forward, backward, draw in TABLE}


def flat(dout):
    values = (
        dout.values() if isinstance(dout, dict) else dout if isinstance(dout, tuple) else [dout]
    )
    return np.concatenate([flat(v) if isinstance(v, dict) else np.ravel(v) for v in values])


def random_map(dout, gradient, seed):
    """A gradient that depends linearly on dout, and on nothing else."""
    cotangent = flat(dout)
    rng = np.random.default_rng([seed, gradient.size])
    scale = rng.standard_normal((gradient.size, cotangent.size))
    return (scale @ cotangent).reshape(gradient.shape)


@pytest.mark.parametrize("keep", [0, 1], ids=["noise alone", "noise added"])
@pytest.mark.parametrize("name", RIGHT)
def test_silent_where_no_mistake_is_known(name, keep):
    forward, backward, draw = RIGHT[name]
    args, kwargs = draw(np.random.default_rng(7))

    def noisy(dout, cache):
        def spoil(gradient):
            if isinstance(gradient, dict):
                return {key: spoil(value) for key, value in gradient.items()}
            return keep * gradient + 0.3 * random_map(dout, gradient, 3)

        grads = backward(dout, cache)
        return tuple(map(spoil, grads)) if isinstance(grads, tuple) else spoil(grads)

    assert check(forward, noisy, args, kwargs) == []


@pytest.mark.parametrize("name", RIGHT)
def test_the_right_backward_passes(name):
    """Else the wrong ones fail for another reason than theirs."""
    forward, backward, draw = RIGHT[name]
    args, kwargs = draw(np.random.default_rng(7))
    assert check_vjp(forward, backward, args, kwargs).verdict == "pass"


def test_leaves_that_agree_are_named_together():
    args, _ = m.affine_args(np.random.default_rng(0))
    twice = m.changed(f.affine_back, *[lambda g: 2 * g] * 3)
    found = check(f.affine, twice, args)[0]
    assert (found.cause, found.leaf) == ("factor", None)
    assert found.message.startswith("every gradient is 2 times the true gradient")
    assert found.ratio == pytest.approx(2, rel=1e-5)


def test_the_message_names_place_and_source():
    args, _ = m.affine_args(np.random.default_rng(0))
    x, _, bias = args
    found = check(f.affine, lambda dy, c: (*f.affine_back(dy, c)[:2], dy.mean(0)), args)[0]
    assert found.leaf == "bias"
    assert f"1/{len(x)}, and {len(x)} is" in found.message
    row = check(f.affine, lambda dy, c: (*f.affine_back(dy, c)[:2], dy[0]), args)[0]
    assert "dbias only answers to index 0 of axis 0 of out" in row.message
    assert bias.ndim == 1


def large(rng):
    """More outputs than are looked at one by one."""
    return rng.normal(size=(40, 30)), rng.normal(size=(30, 25)), rng.normal(size=25)


@pytest.mark.parametrize(
    ("cause", "change"),
    [
        ("sign", lambda dy, x, w, g: (-g[0], g[1], g[2])),
        ("factor", lambda dy, x, w, g: (g[0], g[1] / len(x), g[2])),
        ("missing_sum", lambda dy, x, w, g: (g[0], g[1], dy[0])),
        ("transposed", lambda dy, x, w, g: (g[0], (dy.T @ x).reshape(w.shape), g[2])),
        ("zero", lambda dy, x, w, g: (g[0], 0 * g[1], g[2])),
        ("part_wrong", lambda dy, x, w, g: (g[0], np.r_[-g[1][:1], g[1][1:]], g[2])),
        ("upstream_ignored", lambda dy, x, w, g: (g[0], g[1], np.full(25, 40.0))),
    ],
)
def test_large_arrays(cause, change):
    found = check(f.affine, m.both(change), large(np.random.default_rng(0)))
    assert found[0].cause == cause, found


def test_a_rule_that_stumbles_is_not_heard(monkeypatch):
    monkeypatch.setattr(diagnosis, "STUMBLES", (Exception,))

    def broken(view):
        raise IndexError("odd shape")

    monkeypatch.setattr(diagnosis, "RULES", (broken, *diagnosis.RULES))
    args, _ = m.affine_args(np.random.default_rng(0))
    found = check(f.affine, m.wrong_affine(dx=np.negative), args)
    assert found[0].cause == "sign"


def test_there_are_enough_mistakes():
    assert len(MISTAKES) + len(LAYERS) >= 130
    assert layers.swiglu in {forward for _, forward, _, _ in LAYERS.values()}


def test_a_gradient_that_sums_to_zero_and_is_lost_was_not_summed():
    """Softmax's gradient sums to zero along the row; zeros are no sum of it spread out again."""
    x = np.random.default_rng(0).normal(size=(4, 6))

    def softmax(x):
        e = np.exp(x - x.max(1, keepdims=True))
        return e / e.sum(1, keepdims=True), None

    found = check(softmax, lambda dy, _: np.zeros_like(dy), [x])
    assert found[0].cause == "zero", found
    assert "missing_sum" not in {guess.cause for guess in found}, found
