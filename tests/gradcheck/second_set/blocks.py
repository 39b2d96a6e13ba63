"""Blocks made of layers: residual, highway, gated units, a mixture of experts, weight norm."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different, sigmoid, softmax


def residual_block(x, w1, w2):
    a = x @ w1
    return x + np.maximum(a, 0) @ w2, (x, w1, w2, a)


def residual_block_backward(dout, cache):
    x, w1, w2, a = cache
    da = dout @ w2.T * (a > 0)
    return dout + da @ w1.T, x.T @ da, np.maximum(a, 0).T @ dout


def residual_block_case(rng):
    n, d, h = different(rng, 3, 3, 7)
    return [rng.standard_normal(s) for s in [(n, d), (d, h), (h, d)]], {}


RESIDUAL = Subject(residual_block, residual_block_backward, residual_block_case)


@RESIDUAL.wrong("overwritten", "The skip's share of dx is lost.")
def without_the_skip(dout, cache):
    dx, dw1, dw2 = residual_block_backward(dout, cache)
    return dx - dout, dw1, dw2


@RESIDUAL.wrong("overwritten", "dx is dout: what came through the branch is lost.")
def without_the_branch(dout, cache):
    _, dw1, dw2 = residual_block_backward(dout, cache)
    return dout.copy(), dw1, dw2


@RESIDUAL.wrong("mutates", "The skip is added into dout, which the caller still needs.")
def added_into_dout(dout, cache):
    x, w1, w2, a = cache
    da = dout @ w2.T * (a > 0)
    dw2 = np.maximum(a, 0).T @ dout
    dout += da @ w1.T
    return dout, x.T @ da, dw2


def highway(x, params):
    h = np.tanh(x @ params["wh"] + params["bh"])
    t = sigmoid(x @ params["wt"] + params["bt"])
    return t * h + (1 - t) * x, (x, params, h, t)


def highway_parts(x, params, dh, dt, carried, h, t):
    da, db = dh * (1 - h**2), dt * t * (1 - t)
    dparams = {"wh": x.T @ da, "bh": da.sum(0), "wt": x.T @ db, "bt": db.sum(0)}
    return carried + da @ params["wh"].T + db @ params["wt"].T, dparams


def highway_backward(dout, cache):
    x, params, h, t = cache
    return highway_parts(x, params, dout * t, dout * (h - x), dout * (1 - t), h, t)


def highway_case(rng):
    n, d = different(rng, 2, 3)
    shapes = {"wh": (d, d), "bh": (d,), "wt": (d, d), "bt": (d,)}
    return [rng.standard_normal((n, d)), {k: rng.standard_normal(s) for k, s in shapes.items()}], {}


HIGHWAY = Subject(highway, highway_backward, highway_case)


@HIGHWAY.wrong("overwritten", "The gate is used twice; its part in 1 - t is forgotten.")
def gate_used_once(dout, cache):
    x, params, h, t = cache
    return highway_parts(x, params, dout * t, dout * h, dout * (1 - t), h, t)


@HIGHWAY.wrong("sign", "x - h for the gate.")
def gate_turned(dout, cache):
    x, params, h, t = cache
    return highway_parts(x, params, dout * t, dout * (x - h), dout * (1 - t), h, t)


@HIGHWAY.wrong("overwritten", "The carried x is forgotten, so that only the layers give dx.")
def without_the_carry(dout, cache):
    x, params, h, t = cache
    return highway_parts(x, params, dout * t, dout * (h - x), 0, h, t)


@HIGHWAY.wrong("other_parameter", "The gate's gradients go to the transform and back.")
def gate_and_transform_exchanged(dout, cache):
    dx, g = highway_backward(dout, cache)
    return dx, {"wh": g["wt"], "bh": g["bt"], "wt": g["wh"], "bt": g["bh"]}


def glu(x):
    a, b = np.split(x, 2, -1)
    s = sigmoid(b)
    return a * s, (a, b, s)


def glu_backward(dout, cache):
    a, _, s = cache
    return np.concatenate([dout * s, dout * a * s * (1 - s)], -1)


def glu_case(rng):
    n, d = different(rng, 2, 3)
    return [rng.standard_normal((n, 2 * d))], {}


GLU = Subject(glu, glu_backward, glu_case)


@GLU.wrong(("other_parameter", "part_wrong"), "The halves are put together the wrong way round.")
def halves_exchanged(dout, cache):
    a, _, s = cache
    return np.concatenate([dout * a * s * (1 - s), dout * s], -1)


@GLU.wrong("local_derivative", "b (1 - b), as if b were the gate and not its input.")
def gate_at_its_input(dout, cache):
    a, b, s = cache
    return np.concatenate([dout * s, dout * a * b * (1 - b)], -1)


@GLU.wrong("part_wrong", "The gate is treated as a constant: its half stays zero.")
def constant_gate(dout, cache):
    _, b, s = cache
    return np.concatenate([dout * s, np.zeros_like(b)], -1)


def experts(x, params):
    """A dense mixture: y = sum over e of softmax(x gate)_e x w_e."""
    p = softmax(x @ params["gate"])
    each = np.einsum("nd,edm->nem", x, params["w"])
    return (p[..., None] * each).sum(1), (x, params, p, each)


def experts_parts(x, params, p, dout, dscores):
    dgate = x.T @ dscores
    dw = np.einsum("ne,nd,nm->edm", p, x, dout)
    dx = np.einsum("ne,nm,edm->nd", p, dout, params["w"]) + dscores @ params["gate"].T
    return dx, {"gate": dgate, "w": dw}


def experts_backward(dout, cache):
    x, params, p, each = cache
    dp = (each * dout[:, None]).sum(-1)
    return experts_parts(x, params, p, dout, p * (dp - (dp * p).sum(-1, keepdims=True)))


def experts_case(rng):
    n, d, m, e = different(rng, 4)
    params = {"gate": rng.standard_normal((d, e)), "w": rng.standard_normal((e, d, m))}
    return [rng.standard_normal((n, d)), params], {}


EXPERTS = Subject(experts, experts_backward, experts_case)


@EXPERTS.wrong("missing_term", "The gate's softmax without its subtracted mean.")
def gate_without_softmaxs_term(dout, cache):
    x, params, p, each = cache
    return experts_parts(x, params, p, dout, p * (each * dout[:, None]).sum(-1))


@EXPERTS.wrong("zero", "The gate is detached in dx and its own gradient.")
def detached_gate(dout, cache):
    x, params, p, _ = cache
    return experts_parts(x, params, p, dout, np.zeros_like(p))


@EXPERTS.wrong("overwritten", "x also feeds the gate; that way back is left out.")
def input_of_the_gate_lost(dout, cache):
    x, params, p, each = cache
    dp = (each * dout[:, None]).sum(-1)
    dscores = p * (dp - (dp * p).sum(-1, keepdims=True))
    dx, g = experts_parts(x, params, p, dout, dscores)
    return dx - dscores @ params["gate"].T, g


@EXPERTS.wrong("part_wrong", "The loop over the experts ends one too early.")
def last_expert_left_out(dout, cache):
    dx, g = experts_backward(dout, cache)
    g["w"][-1] = 0
    return dx, g


def weight_normed(x, v, g):
    """y = x w, each column of w being g v / |v|."""
    norm = np.sqrt((v**2).sum(0))
    return x @ (g * v / norm), (x, v, g, norm)


def weight_normed_backward(dout, cache):
    x, v, g, norm = cache
    dw = x.T @ dout
    dg = (dw * v / norm).sum(0)
    return dout @ (g * v / norm).T, g / norm * dw - g * dg * v / norm**2, dg


def weight_normed_case(rng):
    n, d, m = different(rng, 3, 3, 7)
    return [rng.standard_normal((n, d)), rng.standard_normal((d, m)), 1 + rng.random(m)], {}


WEIGHT_NORMED = Subject(weight_normed, weight_normed_backward, weight_normed_case)


@WEIGHT_NORMED.wrong("missing_term", "The norm is held constant: v keeps its own direction.")
def norm_held_constant(dout, cache):
    x, _, g, norm = cache
    dx, _, dg = weight_normed_backward(dout, cache)
    return dx, g / norm * (x.T @ dout), dg


@WEIGHT_NORMED.wrong(("factor", "local_derivative"), "The gain's gradient isn't over the norm.")
def gain_times_the_norm(dout, cache):
    x, v, _, _ = cache
    dx, dv, _ = weight_normed_backward(dout, cache)
    return dx, dv, (x.T @ dout * v).sum(0)
