"""Wrong backwards of one step of the simple recurrent network."""

from minillm.gradcheck.catalogue._entry import wrong
from minillm.gradcheck.catalogue._recurrent import cell_case


def case(rng, ops):
    return cell_case(rng, "rnn")


def from_da(da, saved):
    """The gradients, given that of the sum in front of tanh."""
    x, h, _, params = saved
    dparams = {"weight_x": x.T @ da, "weight_h": h.T @ da, "bias": da.sum(0)}
    return da @ params["weight_x"].T, da @ params["weight_h"].T, dparams


@wrong("local_derivative", "The slope of tanh is forgotten.")
def without_slope_of_tanh(dh_new, saved, ops):
    return from_da(dh_new, saved)


@wrong("local_derivative", "The slope s (1 - s) of a sigmoid, copied from another layer.")
def slope_of_sigmoid(dh_new, saved, ops):
    h_new = saved[2]
    return from_da(dh_new * h_new * (1 - h_new), saved)


@wrong(
    ("wrong_step", "local_derivative"), "1 - h**2 with the state that came in, not the one made."
)
def slope_at_the_old_state(dh_new, saved, ops):
    return from_da(dh_new * (1 - saved[1] ** 2), saved)


@wrong("wrong_step", "The recurrent weight met h of the step before; its gradient takes the new h.")
def new_state_for_old(dh_new, saved, ops):
    dx, dh, dparams = ops.right(dh_new, saved)
    da = dh_new * (1 - saved[2] ** 2)
    return dx, dh, dparams | {"weight_h": saved[2].T @ da}


@wrong("transposed", "da.T @ h for h.T @ da: the recurrent weight is square, nothing complains.")
def recurrent_gradient_transposed(dh_new, saved, ops):
    dx, dh, dparams = ops.right(dh_new, saved)
    return dx, dh, dparams | {"weight_h": dparams["weight_h"].T.copy()}


@wrong("transposed", "Forward's product once more: the recurrent weight isn't transposed for h.")
def recurrent_weight_not_transposed(dh_new, saved, ops):
    dx, _, dparams = ops.right(dh_new, saved)
    return dx, dh_new * (1 - saved[2] ** 2) @ saved[3]["weight_h"], dparams


@wrong("missing_sum", "The bias served every sequence of the batch, and gets what one owes it.")
def bias_of_one_row(dh_new, saved, ops):
    dx, dh, dparams = ops.right(dh_new, saved)
    return dx, dh, dparams | {"bias": dh_new[0] * (1 - saved[2][0] ** 2)}


@wrong("factor", "The weights' gradients are averaged over the batch: 1 / B too small.")
def averaged_over_the_batch(dh_new, saved, ops):
    dx, dh, dparams = ops.right(dh_new, saved)
    return dx, dh, {key: grad / len(dx) for key, grad in dparams.items()}
