"""Wrong backwards of layers of gated recurrent units over time."""

import numpy as np

from minillm.gradcheck.catalogue._entry import wrong
from minillm.gradcheck.catalogue._recurrent import layers_case, state_gradient, through_time


def case(rng, ops):
    return layers_case(rng, "gru")


@wrong("mask_forgotten", "What was dropped between the layers gets a gradient all the same.")
def dropout_between_layers_forgotten(dout, saved, ops):
    return through_time(ops.gru_cell.backward, dout, saved, ops, between=lambda dx, dropped: dx)


@wrong(
    ("overwritten", "upstream_ignored"),
    "Each layer hears of its own last state alone; the layer above doesn't pass its gradient down.",
)
def nothing_from_the_layer_above(dout, saved, ops):
    return through_time(
        ops.gru_cell.backward, dout, saved, ops, between=lambda dx, dropped: np.zeros_like(dx)
    )


@wrong("wrong_step", "The loop stops one cell early: the first state gets h[0]'s for h[-1]'s.")
def state_of_the_first_step(dout, saved, ops):
    arrived = []

    def step(dh_new, cache):
        arrived.append(dh_new)
        return ops.gru_cell.backward(dh_new, cache)

    dx, dstate, dparams = through_time(step, dout, saved, ops)
    time = dx.shape[1]
    first = state_gradient(arrived[time - 1 :: time][::-1])
    return dx, None if dstate is None else first, dparams


@wrong(
    ("other_parameter", "part_wrong"),
    "The layers are walked from the top and their states never turned round.",
)
def states_of_the_layers_exchanged(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    return dx, None if dstate is None else dstate[::-1].copy(), dparams


@wrong("other_parameter", "The layers' recurrent weights and biases are filed under one another.")
def layers_exchanged(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    other = dparams[::-1]
    dparams = [
        own | {key: other[i][key] for key in ("weight_h", "bias", "bias_h")}
        for i, own in enumerate(dparams)
    ]
    return dx, dstate, dparams


@wrong("part_wrong", "Only the top layer's weights are filled in; those below stay at zero.")
def top_layer_only(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    below = [{key: np.zeros_like(g) for key, g in layer.items()} for layer in dparams[:-1]]
    return dx, dstate, [*below, dparams[-1]]


@wrong("factor", "The last state's gradient is added to the last output's, and once more later on.")
def last_state_counted_twice(dout, saved, ops):
    return ops.right((dout[0], 2 * dout[1]), saved)


@wrong("upstream_ignored", "The state after the last step is an output too; its gradient is lost.")
def last_state_ignored(dout, saved, ops):
    return ops.right((dout[0], None), saved)


@wrong("wrong_step", "Off by one: step t gets the gradient of the output of step t - 1.")
def output_of_the_step_before(dout, saved, ops):
    return through_time(ops.gru_cell.backward, dout, saved, ops, reach=lambda dy, t: dy[:, t - 1])


@wrong("overwritten", "= where += was needed: of the shared weights' steps only one counts.")
def one_step_counts(dout, saved, ops):
    return through_time(ops.gru_cell.backward, dout, saved, ops, collect=lambda total, part: part)


@wrong("overwritten", "A step's gradient is not handed to the step before it.")
def no_gradient_through_time(dout, saved, ops):
    return through_time(
        ops.gru_cell.backward,
        dout,
        saved,
        ops,
        hand_on=lambda dh, t: dh if t == 0 else np.zeros_like(dh),
    )


@wrong("zero", "The state that came in gets zeros, as if it were always the initial one.")
def first_state_gets_nothing(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    return dx, None if dstate is None else np.zeros_like(dstate), dparams
