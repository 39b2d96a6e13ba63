"""Wrong backwards of one step of the gated recurrent unit."""

import numpy as np

from minillm.gradcheck.catalogue._entry import wrong
from minillm.gradcheck.catalogue._recurrent import cell_case


def case(rng, ops):
    return cell_case(rng, "gru")


def backward(dh_new, saved, **changed):
    """The backward once more, with places to go wrong in.

    changed: other gradients "dz", "dn", "dh" (h's direct path), "da_n", "dr", "db_n".
    """
    x, h, r, z, n, b_n, params = saved
    flow = {"dz": dh_new * (h - n), "dn": dh_new * (1 - z), "dh": dh_new * z} | changed
    flow = {"da_n": flow["dn"] * (1 - n**2)} | flow
    flow = {"dr": flow["da_n"] * b_n, "db_n": flow["da_n"] * r} | flow
    da_r, da_z = flow["dr"] * r * (1 - r), flow["dz"] * z * (1 - z)
    da = np.concatenate([da_r, da_z, flow["da_n"]], -1)
    db = np.concatenate([da_r, da_z, flow["db_n"]], -1)
    dparams = {"weight_x": x.T @ da, "weight_h": h.T @ db, "bias": da.sum(0), "bias_h": db.sum(0)}
    return da @ params["weight_x"].T, flow["dh"] + db @ params["weight_h"].T, dparams


def candidate(dh_new, saved):
    """The gradient of the sum in front of the candidate's tanh."""
    *_, z, n, _, _ = saved
    return dh_new * (1 - z) * (1 - n**2)


@wrong(
    ("local_derivative", "part_wrong"),
    "z n + (1 - z) h, as other papers write it: the gate's two sides are exchanged.",
)
def update_gate_upside_down(dh_new, saved, ops):
    _, h, _, z, n, *_ = saved
    return backward(dh_new, saved, dz=dh_new * (n - h), dn=dh_new * z, dh=dh_new * (1 - z))


@wrong(("part_wrong", "sign"), "d((1 - z) n) / dz without its minus: the update gate's sign.")
def sign_of_the_update_gate(dh_new, saved, ops):
    return backward(dh_new, saved, dz=dh_new * (saved[4] - saved[1]))


@wrong("part_wrong", "The candidate's way back through the reset gate is forgotten.")
def reset_gate_left_out(dh_new, saved, ops):
    return backward(dh_new, saved, dr=np.zeros_like(dh_new))


@wrong(
    ("part_wrong", "local_derivative"), "What the candidate owes to h isn't multiplied by the gate."
)
def product_not_reset(dh_new, saved, ops):
    return backward(dh_new, saved, db_n=candidate(dh_new, saved))


@wrong(
    ("part_wrong", "local_derivative"),
    "The reset gate's gradient takes h, as if it acted before the product (another GRU).",
)
def reset_gate_on_h(dh_new, saved, ops):
    return backward(dh_new, saved, dr=candidate(dh_new, saved) * saved[1])


@wrong("overwritten", "h goes straight into the new h as well; that path's share is overwritten.")
def direct_path_lost(dh_new, saved, ops):
    return backward(dh_new, saved, dh=np.zeros_like(dh_new))


@wrong("overwritten", "Only the direct path counts; what h did to the gates is lost.")
def direct_path_alone(dh_new, saved, ops):
    dx, _, dparams = ops.right(dh_new, saved)
    return dx, dh_new * saved[3], dparams


@wrong(
    ("other_parameter", "part_wrong"), "Both biases get the gradient of the first, as in an LSTM."
)
def one_gradient_for_both_biases(dh_new, saved, ops):
    dx, dh, dparams = ops.right(dh_new, saved)
    return dx, dh, dparams | {"bias_h": dparams["bias"].copy()}


@wrong(
    ("other_parameter", "part_wrong"), "The columns of the reset and update gates are exchanged."
)
def reset_and_update_exchanged(dh_new, saved, ops):
    dx, dh, dparams = ops.right(dh_new, saved)

    def exchange(grad):
        r, z, n = np.split(grad, 3, -1)
        return np.concatenate([z, r, n], -1)

    return dx, dh, {key: exchange(grad) for key, grad in dparams.items()}
