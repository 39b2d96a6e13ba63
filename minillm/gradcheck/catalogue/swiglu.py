"""Wrong backwards of the gated feed-forward layer."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    *leading, c_in, wide, c_out = sizes(rng, int(rng.integers(4, 6)), largest=5, ones=0.1)
    return (
        rng.standard_normal((*leading, c_in)),
        rng.standard_normal((c_in, wide)),
        rng.standard_normal((c_in, wide)),
        rng.standard_normal((wide, c_out)),
    ), {}


def back(dy, saved, ops, through_gate=None, product=None):
    """The right way back, but for what the last two arguments replace; dx in its two parts."""
    gate, wide, gate_cache, silu_cache, up_cache, down_cache = saved
    dproduct, ddown, _ = ops.linear.backward(dy, down_cache)
    if product is None:
        dgate, dwide = dproduct * wide, dproduct * gate
    else:
        dgate, dwide = product(dproduct, gate, wide)
    dx_up, dup, _ = ops.linear.backward(dwide, up_cache)
    dbefore = (through_gate or ops.silu.backward)(dgate, silu_cache)
    dx_gate, dweight_gate, _ = ops.linear.backward(dbefore, gate_cache)
    return dx_gate, dx_up, dweight_gate, dup, ddown


@wrong(
    ("local_derivative", "other_parameter"), "Each factor of the product is given its own value."
)
def product_rule_swapped(dy, saved, ops):
    dx_gate, dx_up, *rest = back(dy, saved, ops, product=lambda d, gate, wide: (d * gate, d * wide))
    return dx_gate + dx_up, *rest


@wrong("overwritten", "dx = ... a second time where dx += ... was needed: x was used twice.")
def x_through_one_path(dy, saved, ops):
    _, dx_up, *rest = back(dy, saved, ops)
    return dx_up, *rest


@wrong("local_derivative", "silu's slope without its second term: the sigmoid alone.")
def gated_by_sigmoid(dy, saved, ops):
    def through_gate(dgate, silu_cache):
        x = silu_cache.saved[0]
        return dgate / (1 + np.exp(-x))

    dx_gate, dx_up, *rest = back(dy, saved, ops, through_gate)
    return dx_gate + dx_up, *rest


@wrong("other_parameter", "The two wide weights have one shape, and their gradients change places.")
def weights_swapped(dy, saved, ops):
    dx, dweight_gate, dup, ddown = ops.right(dy, saved)
    return dx, dup, dweight_gate, ddown


@wrong("zero", "The gate is held constant, as if it were a mask.")
def gate_held_constant(dy, saved, ops):
    dx_gate, dx_up, *rest = back(dy, saved, ops, product=lambda d, gate, wide: (0 * d, d * gate))
    return dx_gate + dx_up, *rest


@wrong("local_derivative", "The last weight met gate * wide, but its gradient is taken with wide.")
def down_weight_from_before_the_gate(dy, saved, ops):
    wide = saved[1]
    dx, dweight_gate, dup, ddown = ops.right(dy, saved)
    ddown = wide.reshape(-1, len(ddown)).T @ dy.reshape(-1, dy.shape[-1])
    return dx, dweight_gate, dup, ddown


@wrong(
    ("overwritten", "part_wrong"),
    "The pointer never advances: all rows into row 0 (ByteDance-Seed/Triton-distributed, 180).",
)
def every_row_into_the_first(dy, saved, ops):
    dx, *rest = ops.right(dy, saved)
    crowded = np.zeros_like(dx)
    crowded.reshape(-1, dx.shape[-1])[0] = dx.reshape(-1, dx.shape[-1])[-1]
    return crowded, *rest


@wrong("local_derivative", "silu has no line in backward: its gradient is passed on as it is.")
def silu_skipped(dy, saved, ops):
    dx_gate, dx_up, *rest = back(dy, saved, ops, lambda dgate, _: dgate)
    return dx_gate + dx_up, *rest
