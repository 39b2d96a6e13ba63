"""Wrong backwards of one step of long short-term memory."""

import numpy as np

from minillm.gradcheck.catalogue._entry import wrong
from minillm.gradcheck.catalogue._recurrent import cell_case

GATES = "ifgo"


def case(rng, ops):
    return cell_case(rng, "lstm")


def backward(dstate, saved, **changed):
    """The backward once more, with places to go wrong in.

    changed: other gradients of the gates' values "di", "df", "dg", "do", of the new memory
    "dc_new" or the old one "dc"; or other slopes "slope_i", "slope_f", "slope_g", "slope_o".
    """
    x, h, c, i, f, g, o, tanh_c, params = saved
    dh, dc_new = dstate["h"], changed.get("dc_new", through_memory(dstate, saved))
    flow = {"di": dc_new * g, "df": dc_new * c, "dg": dc_new * i, "do": dh * tanh_c}
    slopes = {gate: s * (1 - s) for gate, s in zip(GATES, (i, f, g, o), strict=True)}
    values = flow | {f"slope_{gate}": slope for gate, slope in slopes.items()}
    values |= {"slope_g": 1 - g**2, "dc": dc_new * f} | changed
    da = np.concatenate([values[f"d{gate}"] * values[f"slope_{gate}"] for gate in GATES], -1)
    dparams = {"weight_x": x.T @ da, "weight_h": h.T @ da, "bias": da.sum(0)}
    state = {"h": da @ params["weight_h"].T, "c": values["dc"]}
    return da @ params["weight_x"].T, state, dparams


def through_memory(dstate, saved):
    """The gradient of the new memory: its own, and what comes through the new h."""
    *_, o, tanh_c, _ = saved
    return dstate["c"] + dstate["h"] * o * (1 - tanh_c**2)


def new_memory(saved):
    _, _, c, i, f, g, *_ = saved
    return f * c + i * g


@wrong(
    ("upstream_ignored", "overwritten"),
    "The new c is an output too; its gradient is replaced by what comes through h.",
)
def gradient_of_c_ignored(dstate, saved, ops):
    return ops.right({"h": dstate["h"], "c": np.zeros_like(dstate["c"])}, saved)


@wrong(
    ("overwritten", "upstream_ignored"),
    "The new h = o tanh(c) sends its gradient to the gate o alone, nothing to c.",
)
def no_path_from_h_to_c(dstate, saved, ops):
    return backward(dstate, saved, dc_new=dstate["c"])


@wrong("wrong_step", "The forget gate met the old memory; its gradient takes the new one.")
def new_memory_in_the_forget_gate(dstate, saved, ops):
    return backward(dstate, saved, df=through_memory(dstate, saved) * new_memory(saved))


@wrong("part_wrong", "The forget gate gets nothing.")
def forget_gate_left_out(dstate, saved, ops):
    return backward(dstate, saved, df=np.zeros_like(dstate["c"]))


@wrong(
    ("part_wrong", "other_parameter"),
    "c += i * g: the input gate gets i's share for g's, the candidate g's for i's.",
)
def input_and_candidate_exchanged(dstate, saved, ops):
    i, g, dc = saved[3], saved[5], through_memory(dstate, saved)
    return backward(dstate, saved, di=dc * i, dg=dc * g)


@wrong(
    ("other_parameter", "part_wrong"),
    "Two orders of the gates in use: forward's i, f, g, o, backward's i, f, o, g.",
)
def another_order_of_the_gates(dstate, saved, ops):
    _, state, dparams = ops.right(dstate, saved)

    def reorder(grad):
        i, f, g, o = np.split(grad, 4, -1)
        return np.concatenate([i, f, o, g], -1)

    dparams = {key: reorder(grad) for key, grad in dparams.items()}
    return ops.right(dstate, saved)[0], state, dparams


@wrong("local_derivative", "The old memory's gradient is passed on whole, not through its gate.")
def memory_past_its_gate(dstate, saved, ops):
    return backward(dstate, saved, dc=through_memory(dstate, saved))


@wrong("local_derivative", "The slope of tanh(c) as 1 - c**2: taken at the input, not the output.")
def slope_at_the_memory(dstate, saved, ops):
    slope = saved[6] * (1 - new_memory(saved) ** 2)
    return backward(dstate, saved, dc_new=dstate["c"] + dstate["h"] * slope)


@wrong(
    ("part_wrong", "local_derivative"), "All four gates get a sigmoid's slope, the candidate too."
)
def candidate_as_a_sigmoid(dstate, saved, ops):
    g = saved[5]
    return backward(dstate, saved, slope_g=g * (1 - g))


@wrong(
    ("other_parameter", "part_wrong"),
    "The forget gate's line, copied for the biases of i and o (hanbt/learn_dl, issue 53).",
)
def bias_copied_from_the_forget_gate(dstate, saved, ops):
    dx, state, dparams = ops.right(dstate, saved)
    _, f, g, _ = np.split(dparams["bias"], 4)
    return dx, state, dparams | {"bias": np.concatenate([f, f, g, f])}
