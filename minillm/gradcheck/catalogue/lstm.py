"""Wrong backwards of layers of long short-term memory over time."""

import numpy as np

from minillm.gradcheck.catalogue._entry import wrong
from minillm.gradcheck.catalogue._recurrent import layers_case, through_time
from minillm.tree import map_leaves


def case(rng, ops):
    return layers_case(rng, "lstm")


def without(name):
    """A `hand_on` that gives the step before it nothing of h or c."""
    return lambda dstate, t: dstate if t == 0 else dstate | {name: np.zeros_like(dstate[name])}


@wrong("overwritten", "From step to step only h's gradient is handed on, the memory's is lost.")
def memory_not_handed_on(dout, saved, ops):
    return through_time(ops.lstm_cell.backward, dout, saved, ops, hand_on=without("c"))


@wrong(
    "overwritten",
    "h's gradient is set to zero after each step, only c's is kept (AiDotNet, pull request 722).",
)
def hidden_state_not_handed_on(dout, saved, ops):
    return through_time(ops.lstm_cell.backward, dout, saved, ops, hand_on=without("h"))


@wrong("upstream_ignored", "The last memory is an output as well as the last h; it is forgotten.")
def last_memory_ignored(dout, saved, ops):
    return ops.right((dout[0], {"h": dout[1]["h"], "c": None}), saved)


@wrong("upstream_ignored", "Written for a classifier: only the last step's output has a gradient.")
def last_output_only(dout, saved, ops):
    dy = np.zeros_like(dout[0])
    dy[:, -1] = dout[0][:, -1]
    return ops.right((dy, dout[1]), saved)


@wrong("other_parameter", "A pair (h, c) is unpacked as (c, h): the first states' are exchanged.")
def hidden_and_memory_exchanged(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    dstate = None if dstate is None else {"h": dstate["c"], "c": dstate["h"]}
    return dx, dstate, dparams


@wrong("overwritten", "The weights add up over the steps, but the bias is assigned: += forgotten.")
def bias_of_one_step(dout, saved, ops):
    def collect(total, part):
        return {key: part[key] if key == "bias" else total[key] + part[key] for key in total}

    return through_time(ops.lstm_cell.backward, dout, saved, ops, collect=collect)


@wrong(
    ("part_wrong", "overwritten"),
    "range(T - 1, 0, -1) stops early: the first step is never reached.",
)
def first_step_left_out(dout, saved, ops):
    """Its x and its share of the weights get nothing; the state gets what reached the step."""

    def step(dstate, cache):
        dx, dbefore, dparams = ops.lstm_cell.backward(dstate, cache)
        if id(cache) not in first:
            return dx, dbefore, dparams
        return np.zeros_like(dx), dstate, {key: np.zeros_like(g) for key, g in dparams.items()}

    first = {id(steps[0]) for _, steps in saved[0]}
    return through_time(step, dout, saved, ops)


@wrong("upstream_ignored", "The states after the last step are outputs too; both are forgotten.")
def last_state_ignored(dout, saved, ops):
    return ops.right((dout[0], None), saved)


@wrong("wrong_step", "Off by one: step t gets the gradient of the output of step t - 1.")
def output_of_the_step_before(dout, saved, ops):
    return through_time(ops.lstm_cell.backward, dout, saved, ops, reach=lambda dy, t: dy[:, t - 1])


@wrong("overwritten", "= where += was needed: of the shared weights' steps only one counts.")
def one_step_counts(dout, saved, ops):
    return through_time(ops.lstm_cell.backward, dout, saved, ops, collect=lambda total, part: part)


@wrong("overwritten", "Neither h's gradient nor c's is handed to the step before.")
def no_gradient_through_time(dout, saved, ops):
    def hand_on(dstate, t):
        return dstate if t == 0 else {name: np.zeros_like(d) for name, d in dstate.items()}

    return through_time(ops.lstm_cell.backward, dout, saved, ops, hand_on=hand_on)


@wrong(
    ("other_parameter", "part_wrong"),
    "The layers are walked from the top and their states never turned round.",
)
def states_of_the_layers_exchanged(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    return dx, map_leaves(lambda d: d[::-1].copy(), dstate), dparams


@wrong("zero", "The states that came in get zeros, as if they were always the initial ones.")
def first_state_gets_nothing(dout, saved, ops):
    dx, dstate, dparams = ops.right(dout, saved)
    return dx, map_leaves(np.zeros_like, dstate), dparams
