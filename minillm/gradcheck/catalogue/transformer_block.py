"""Wrong backwards of a pre-norm transformer block."""

import numpy as np

from minillm.gradcheck.catalogue._attention import draw_mask, projections
from minillm.gradcheck.catalogue._entry import sizes, wrong
from minillm.tree import map_leaves

NAMES = ("norm1", "attention", "drop1", "norm2", "mlp", "drop2")
HEADS = ((2, 1), (2, 2), (4, 2), (1, 1))


def case(rng, ops):
    (channels, hidden), (batch, rows) = sizes(rng, 2, 3, 5, ones=0), sizes(rng, 2, 2, 3, ones=0.1)
    norm, mlp = ("layer", "rms")[rng.integers(2)], ("gelu", "swiglu")[rng.integers(2)]
    heads = HEADS[rng.integers(len(HEADS))]
    kwargs = {"n_head": heads[0], "n_kv_head": heads[1], "norm": norm, "mlp": mlp}
    kwargs |= {"causal": bool(rng.random() < 0.7), "eps": 0.1}
    if rng.random() < 0.3:
        kwargs["mask"] = draw_mask(rng, batch, heads[0], rows, rows)
    if rng.random() < 0.5:
        kwargs["rotary_base"] = 50.0
    if rng.random() < 0.9:
        kwargs |= {"dropout": 0.3, "rng": np.random.default_rng(rng.integers(2**32))}
        kwargs["attention_dropout"] = float(rng.choice([0, 0.2]))
    params = {
        "norm1": draw_norm(rng, norm, channels),
        "attention": projections(rng, channels, *heads, 2, bias=rng.random() < 0.8),
        "norm2": draw_norm(rng, norm, channels),
        "mlp": draw_mlp(rng, mlp, channels, hidden),
    }
    return (rng.standard_normal((batch, rows, channels)), params), kwargs


def draw_norm(rng, kind, channels):
    names = ("gain", "bias") if kind == "layer" else ("gain",)
    return {name: rng.standard_normal(channels) for name in names}


def draw_mlp(rng, kind, channels, hidden):
    up, down = (channels, hidden), (hidden, channels)
    parts = {"up": up, "down": down} if kind == "gelu" else {"gate": up, "up": up, "down": down}
    params = {
        name: {"weight": rng.standard_normal(shape) / np.sqrt(shape[0])}
        for name, shape in parts.items()
    }
    if kind == "gelu":
        for name, shape in parts.items():
            params[name]["bias"] = rng.standard_normal(shape[1])
    return params


def change(dy, saved, ops, **changed):
    """The backward with some of the caches of its parts replaced."""
    *rest, caches = saved
    caches = dict(zip(NAMES, caches, strict=True)) | changed
    return ops.right(dy, (*rest, tuple(caches.values())))


def no_dropout(dy, ops):
    return ops.dropout(dy, p=0)[1]


def branches(dy, saved, ops, dtotal):
    """The gradient of `total` (dtotal: its share from the last sum), and that of norm 1's rows."""
    _, norm, mlp, caches = saved
    _, cache_attention, cache_drop1, cache_norm2, cache_mlp, cache_drop2 = caches
    mlp_op = ops.mlp_gelu if mlp == "gelu" else ops.swiglu
    norm_op = ops.add_layer_norm if norm == "layer" else ops.add_rms_norm
    dnormed2 = mlp_op.backward(ops.dropout.backward(dy, cache_drop2), cache_mlp)[0]
    dtotal = norm_op.backward((dnormed2, dtotal), cache_norm2)[0]
    dattended = ops.dropout.backward(dtotal, cache_drop1)
    dnormed1, dattention, _ = ops.multi_head_attention.backward(dattended, cache_attention)
    return dtotal, dnormed1, dattention


def through_norm1(dnormed1, saved, ops):
    """The gradients of x (through norm 1) and of norm 1's own parameters."""
    params, norm, _, caches = saved
    norm_op = ops.layer_norm if norm == "layer" else ops.rms_norm
    dx, *dnorm1 = norm_op.backward(dnormed1, caches[0])
    return dx, dict(zip(params["norm1"], dnorm1, strict=True))


@wrong("overwritten", "x also goes past the attention; only its way through the norm is counted.")
def first_residual_forgotten(dy, saved, ops):
    _, dnormed1, _ = branches(dy, saved, ops, dy)
    return through_norm1(dnormed1, saved, ops)[0], ops.right(dy, saved)[1]


@wrong(
    "overwritten",
    "What goes past the MLP is left out of the sum (paiml/entrenar, issue 313; Fuser, 2922).",
)
def second_residual_forgotten(dy, saved, ops):
    dtotal, dnormed1, dattention = branches(dy, saved, ops, None)
    dx, dnorm1 = through_norm1(dnormed1, saved, ops)
    dparams = ops.right(dy, saved)[1]
    return dtotal + dx, dparams | {"attention": dattention, "norm1": dnorm1}


@wrong("overwritten", "Only the way past both branches counts: dx = dy.")
def residual_alone(dy, saved, ops):
    return dy.copy(), ops.right(dy, saved)[1]


@wrong("mask_forgotten", "The dropout behind the attention is forgotten on the way back.")
def first_dropout_forgotten(dy, saved, ops):
    return change(dy, saved, ops, drop1=no_dropout(dy, ops))


@wrong(
    ("mask_forgotten", "part_wrong"),
    "One buffer for both masks: the MLP's gradient is dropped where the attention's output was.",
)
def one_mask_for_both(dy, saved, ops):
    return change(dy, saved, ops, drop2=saved[-1][2])


@wrong("other_parameter", "The two norms' gradients are filed under one another.")
def norms_exchanged(dy, saved, ops):
    dx, dparams = ops.right(dy, saved)
    return dx, dparams | {"norm1": dparams["norm2"], "norm2": dparams["norm1"]}


@wrong("missing_term", "Norm 1 as if its mean and spread were constants: gain / std alone.")
def statistics_as_constants(dy, saved, ops):
    dtotal, dnormed1, _ = branches(dy, saved, ops, dy)
    _, inv_std, gain = saved[-1][0].saved
    return dtotal + dnormed1 * gain * inv_std, ops.right(dy, saved)[1]


@wrong("zero", "The way back ends at the attention: norm 1 gets nothing.")
def nothing_behind_the_attention(dy, saved, ops):
    dtotal, _, _ = branches(dy, saved, ops, dy)
    dparams = ops.right(dy, saved)[1]
    return dtotal, dparams | {"norm1": map_leaves(np.zeros_like, dparams["norm1"])}


@wrong(
    "factor", "All parameters' gradients are averaged over the batch; the loss did that already."
)
def averaged_over_the_batch(dy, saved, ops):
    dx, dparams = ops.right(dy, saved)
    return dx, map_leaves(lambda grad: grad / len(dy), dparams)


@wrong("overwritten", "dx lacks dy itself, which went past the attention and the MLP as well.")
def way_past_both_forgotten(dy, saved, ops):
    dx, dparams = ops.right(dy, saved)
    return dx - dy, dparams


@wrong("overwritten", "The sum is read by norm 2 and by the last addition; dx lacks the latter.")
def total_used_once(dy, saved, ops):
    dtotal, dnormed1, _ = branches(dy, saved, ops, None)
    return dtotal + through_norm1(dnormed1, saved, ops)[0], ops.right(dy, saved)[1]


@wrong("mask_forgotten", "The dropout behind the MLP is forgotten on the way back.")
def second_dropout_forgotten(dy, saved, ops):
    return change(dy, saved, ops, drop2=no_dropout(dy, ops))
