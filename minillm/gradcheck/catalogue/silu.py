"""Wrong backwards of the sigmoid linear unit."""

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    return (2 * rng.standard_normal(sizes(rng, int(rng.integers(2, 4)), least=3)),), {}


@wrong("local_derivative", "dy * gate: the gate is held constant.")
def gate_held_constant(dy, saved, ops):
    _, gate, _ = saved
    return dy * gate


@wrong("local_derivative", "The gate's share alone: the value that it gates is held constant.")
def value_held_constant(dy, saved, ops):
    x, gate, _ = saved
    return dy * x * gate * (1 - gate)


@wrong("local_derivative", "y + gate * (1 - y), remembered as gate + y * (1 - y).")
def complement_of_the_output(dy, saved, ops):
    x, gate, _ = saved
    return dy * (gate + x * gate * (1 - x * gate))


@wrong("upstream_ignored", "A bracket too few: dy * gate + x * gate * (1 - gate).")
def upstream_in_one_term(dy, saved, ops):
    x, gate, _ = saved
    return dy * gate + x * gate * (1 - gate)


@wrong("local_derivative", "The gate's own slope has lost the x that it is multiplied by.")
def slope_of_the_gate_without_x(dy, saved, ops):
    _, gate, _ = saved
    return dy * (gate + gate * (1 - gate))
