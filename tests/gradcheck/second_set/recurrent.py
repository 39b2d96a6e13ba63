"""Recurrent networks over time: simple, in both directions, an average that forgets."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different


def rnn(x, h0, params):
    """x (B, T, D), all states out, (B, T, H)."""
    states = [h0]
    for t in range(x.shape[1]):
        states.append(np.tanh(x[:, t] @ params["wx"] + states[-1] @ params["wh"] + params["b"]))
    return np.stack(states[1:], 1), (x, params, states)


def rnn_backward(dout, cache, carry=1, before=0, slope=None):
    """carry: the share of the later steps; before: 1 takes h_t where h_(t-1) belongs."""
    x, params, states = cache
    grads = {name: np.zeros_like(value) for name, value in params.items()}
    dx, dh = np.zeros_like(x), np.zeros_like(states[0])
    for t in reversed(range(x.shape[1])):
        dh = dout[:, t] + carry * dh
        da = dh * (slope or (lambda h: 1 - h**2))(states[t + 1])
        grads["wx"] += x[:, t].T @ da
        grads["wh"] += states[t + before].T @ da
        grads["b"] += da.sum(0)
        dx[:, t], dh = da @ params["wx"].T, da @ params["wh"].T
    return dx, dh, grads


def rnn_case(rng):
    b, t, d, h = different(rng, 4, 2, 5)
    t += 1
    shapes = {"wx": (d, h), "wh": (h, h), "b": (h,)}
    params = {name: 0.6 * rng.standard_normal(shape) for name, shape in shapes.items()}
    return [rng.standard_normal((b, t, d)), rng.standard_normal((b, h)), params], {}


RNN = Subject(rnn, rnn_backward, rnn_case)


@RNN.wrong("wrong_step", "The state after the step, for the recurrent weight.")
def state_after_the_step(dout, cache):
    return rnn_backward(dout, cache, before=1)


@RNN.wrong("overwritten", "dh = dout[:, t]: nothing is carried back from later steps.")
def nothing_carried_back(dout, cache):
    return rnn_backward(dout, cache, carry=0)


@RNN.wrong("overwritten", "The weights' gradients of the first step, by = for +=.")
def weights_of_one_step(dout, cache):
    x, params, states = cache
    dx, dh, _ = rnn_backward(dout, cache)
    dh, grads = 0, {}
    for t in reversed(range(x.shape[1])):
        da = (dout[:, t] + dh) * (1 - states[t + 1] ** 2)
        grads = {"wx": x[:, t].T @ da, "wh": states[t].T @ da, "b": da.sum(0)}
        dh = da @ params["wh"].T
    return dx, dh, grads


@RNN.wrong("local_derivative", "1 - h, without the square.")
def tanh_not_squared(dout, cache):
    return rnn_backward(dout, cache, slope=lambda h: 1 - h)


@RNN.wrong("zero", "The first state is taken for a constant.")
def first_state_constant(dout, cache):
    dx, dh, grads = rnn_backward(dout, cache)
    return dx, np.zeros_like(dh), grads


@RNN.wrong("cache_spent", "states.pop() walks back through the cache, and empties it.")
def states_popped(dout, cache):
    x, params, states = cache
    kept = list(states)
    while len(states) > 1:
        states.pop()
    if len(kept) == 1:
        kept = kept * (x.shape[1] + 1)
    return rnn_backward(dout, (x, params, kept))


@RNN.wrong("transposed", "wh isn't transposed on the way back in time.")
def recurrent_weight_not_transposed(dout, cache):
    x, params, states = cache
    turned = params | {"wh": params["wh"].T}
    return rnn_backward(dout, (x, turned, states))


def last_state(x, h0, params):
    """A many-to-one network: the state after the last step."""
    states, cache = rnn(x, h0, params)
    return states[:, -1], cache


def last_state_backward(dout, cache):
    x = cache[0]
    full = np.zeros((len(x), x.shape[1], dout.shape[1]))
    full[:, -1] = dout
    return rnn_backward(full, cache)


LAST = Subject(last_state, last_state_backward, rnn_case)


@LAST.wrong("wrong_step", "The gradient enters at the first step.")
def enters_at_the_first_step(dout, cache):
    x = cache[0]
    full = np.zeros((len(x), x.shape[1], dout.shape[1]))
    full[:, 0] = dout
    return rnn_backward(full, cache)


@LAST.wrong(None, "The gradient enters at every step, as if the states had been summed.")
def enters_at_every_step(dout, cache):
    return rnn_backward(np.repeat(dout[:, None], cache[0].shape[1], 1), cache)


def both_ways(x, h0, forwards, backwards):
    """One network along time, one against it, their states concatenated."""
    ahead, one = rnn(x, h0, forwards)
    back, other = rnn(x[:, ::-1], h0, backwards)
    return np.concatenate([ahead, back[:, ::-1]], -1), (one, other)


def both_ways_parts(dout, cache):
    d, other = np.split(dout, 2, -1)
    return rnn_backward(d, cache[0]), rnn_backward(other[:, ::-1], cache[1])


def both_ways_backward(dout, cache):
    (dx, dh, forwards), (dx_back, dh_back, backwards) = both_ways_parts(dout, cache)
    return dx + dx_back[:, ::-1], dh + dh_back, forwards, backwards


def both_ways_case(rng):
    (x, h0, params), _ = rnn_case(rng)
    again = {name: 0.6 * rng.standard_normal(value.shape) for name, value in params.items()}
    return [x, h0, params, again], {}


BOTH = Subject(both_ways, both_ways_backward, both_ways_case)


@BOTH.wrong("wrong_step", "What comes from the reversed network isn't turned round for dx.")
def not_turned_round(dout, cache):
    (dx, dh, forwards), (dx_back, dh_back, backwards) = both_ways_parts(dout, cache)
    return dx + dx_back, dh + dh_back, forwards, backwards


@BOTH.wrong("overwritten", "dx of the reversed network replaces that of the other.")
def reversed_alone(dout, cache):
    (_, dh, forwards), (dx_back, dh_back, backwards) = both_ways_parts(dout, cache)
    return dx_back[:, ::-1].copy(), dh + dh_back, forwards, backwards


@BOTH.wrong("other_parameter", "The two directions' parameters exchanged.")
def directions_exchanged(dout, cache):
    dx, dh, forwards, backwards = both_ways_backward(dout, cache)
    return dx, dh, backwards, forwards


def moving_average(x, *, keep=0.8):
    """y_t = keep y_(t-1) + (1 - keep) x_t along the first axis."""
    y, state = np.zeros_like(x), np.zeros(x.shape[1:])
    for t, value in enumerate(x):
        y[t] = state = keep * state + (1 - keep) * value
    return y, keep


def moving_average_backward(dout, keep):
    dx, later = np.zeros_like(dout), np.zeros(dout.shape[1:])
    for t in reversed(range(len(dout))):
        later = dout[t] + keep * later
        dx[t] = (1 - keep) * later
    return dx


AVERAGE = Subject(
    moving_average,
    moving_average_backward,
    lambda rng: ([rng.standard_normal((5 + int(rng.integers(3)), 2))], {}),
)


@AVERAGE.wrong("factor", "The new value's share, 1 - keep, is left out.")
def without_the_new_values_share(dout, keep):
    return moving_average_backward(dout, keep) / (1 - keep)


@AVERAGE.wrong(("transposed", "wrong_step"), "The same filter, run forwards.")
def run_forwards(dout, keep):
    return moving_average(dout, keep=keep)[0]


@AVERAGE.wrong("overwritten", "A value is held to act on its own step alone.")
def own_step_alone(dout, keep):
    return (1 - keep) * dout
