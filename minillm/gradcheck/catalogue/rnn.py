"""Wrong backwards of simple recurrent layers over time."""

import numpy as np

from minillm.gradcheck.catalogue._entry import wrong
from minillm.gradcheck.catalogue._recurrent import layers_case, through_time


def case(rng, ops):
    return layers_case(rng, "rnn")


@wrong("upstream_ignored", "The state after the last step is an output too; its gradient is lost.")
def last_state_ignored(dout, saved, ops):
    return ops.right((dout[0], None), saved)


@wrong(
    "upstream_ignored",
    "Each step gets the gradient of the step after it alone (deeplearning.ai, thread 157244).",
)
def outputs_ignored(dout, saved, ops):
    return ops.right((None, dout[1]), saved)


@wrong("wrong_step", "Off by one: step t gets the gradient of the output of step t - 1.")
def output_of_the_step_before(dout, saved, ops):
    return through_time(ops.rnn_cell.backward, dout, saved, ops, reach=lambda dy, t: dy[:, t - 1])


@wrong("wrong_step", "The loop runs backwards and appends; its list is never turned round.")
def dx_in_reverse(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    return dx[:, ::-1].copy(), dstate, dparams


@wrong("overwritten", "= where += was needed: of the shared weights' steps only one counts.")
def one_step_counts(dout, saved, ops):
    return through_time(ops.rnn_cell.backward, dout, saved, ops, collect=lambda total, part: part)


@wrong(
    "overwritten",
    "A step's gradient isn't handed to the step before it (qixianbiao/RNN, issue 2).",
)
def no_gradient_through_time(dout, saved, ops):
    return through_time(
        ops.rnn_cell.backward,
        dout,
        saved,
        ops,
        hand_on=lambda dh, t: dh if t == 0 else np.zeros_like(dh),
    )


@wrong("wrong_step", "h[t] for h[t - 1] in the recurrent weight's gradient, at every step.")
def new_states_for_old(dout, saved, ops):
    def step(dh_new, cache):
        dx, dh, dparams = ops.rnn_cell.backward(dh_new, cache)
        h_new = cache.saved[2]
        return dx, dh, dparams | {"weight_h": h_new.T @ (dh_new * (1 - h_new**2))}

    return through_time(step, dout, saved, ops)


@wrong("zero", "The state that came in gets zeros, as if it were always the initial one.")
def first_state_gets_nothing(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    return dx, None if dstate is None else np.zeros_like(dstate), dparams


@wrong("factor", "The weights' gradients are averaged over the steps: 1 / T too small.")
def averaged_over_the_steps(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    return dx, dstate, [{k: g / dx.shape[1] for k, g in layer.items()} for layer in dparams]


@wrong(
    ("other_parameter", "part_wrong"),
    "The layers are walked from the top and their states never turned round.",
)
def states_of_the_layers_exchanged(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    return dx, None if dstate is None else dstate[::-1].copy(), dparams
