"""Sums, norms, distances, indices: the pieces that losses and layers are put together from."""

import numpy as np

from tests.gradcheck.second_set._entry import Subject, different, softmax


def matrix(rng):
    return [rng.standard_normal(different(rng, 2, 3))], {}


def cumulative(x):
    return np.cumsum(x, -1), None


def from_the_end(d):
    return np.cumsum(d[..., ::-1], -1)[..., ::-1]


CUMULATIVE = Subject(cumulative, lambda dout, _: from_the_end(dout), matrix)


@CUMULATIVE.wrong(("transposed", "wrong_step"), "The same cumulative sum, not from the end.")
def from_the_start(dout, _):
    return np.cumsum(dout, -1)


@CUMULATIVE.wrong("wrong_step", "Sums what comes after, without the step itself.")
def one_step_late(dout, _):
    return from_the_end(dout) - dout


@CUMULATIVE.wrong("upstream_ignored", "How many outputs each element is in, whatever comes in.")
def counts_only(dout, _):
    return from_the_end(np.ones_like(dout))


def unit_rows(x, *, eps=0.05):
    norm = np.sqrt((x**2).sum(-1, keepdims=True) + eps)
    return x / norm, (x, norm)


def unit_rows_backward(dout, cache):
    x, norm = cache
    return dout / norm - x * (dout * x).sum(-1, keepdims=True) / norm**3


def empty_row_case(rng):
    return [np.vstack([np.zeros(4), rng.standard_normal((3, 4))])], {}


UNIT_ROWS = Subject(unit_rows, unit_rows_backward, matrix)


@UNIT_ROWS.wrong("missing_term", "Only divided: the norm depends on x too.")
def without_the_projection(dout, cache):
    return dout / cache[1]


@UNIT_ROWS.wrong(("factor", "local_derivative"), "The projection isn't over the norm.")
def not_over_the_norm(dout, cache):
    return unit_rows_backward(dout, cache) * cache[1]


@UNIT_ROWS.wrong((None, "missing_term"), "The projection on x as it is: neither formula.")
def projected_on_x_itself(dout, cache):
    x, norm = cache
    return dout / norm - x * (dout * x).sum(-1, keepdims=True)


@UNIT_ROWS.wrong("not_finite", "A norm without the eps that a row of zeros needs.", empty_row_case)
def nan_for_a_row_of_zeros(dout, cache):
    x = cache[0]
    with np.errstate(all="ignore"):
        return unit_rows_backward(dout, (x, np.sqrt((x**2).sum(-1, keepdims=True))))


def cosine(a, b):
    """The cosine of each pair of rows."""
    na, nb = np.sqrt((a**2).sum(1)), np.sqrt((b**2).sum(1))
    c = (a * b).sum(1) / (na * nb)
    return c, (a, b, na, nb, c)


def cosine_backward(dout, cache):
    a, b, na, nb, c = (v[:, None] if v.ndim == 1 else v for v in cache)
    d = dout[:, None]
    return d * (b / (na * nb) - c * a / na**2), d * (a / (na * nb) - c * b / nb**2)


def cosine_case(rng):
    shape = different(rng, 2, 3)
    return [rng.standard_normal(shape), rng.standard_normal(shape)], {}


COSINE = Subject(cosine, cosine_backward, cosine_case)


@COSINE.wrong("missing_term", "A dot product of unit vectors, their norms held constant.")
def norms_held_constant(dout, cache):
    a, b, na, nb, _ = (v[:, None] if v.ndim == 1 else v for v in cache)
    return dout[:, None] * b / (na * nb), dout[:, None] * a / (na * nb)


@COSINE.wrong("sign", "A similarity taken for a distance.")
def of_the_distance(dout, cache):
    return cosine_backward(-dout, cache)


def log_sum_exp(x):
    top = x.max(-1, keepdims=True)
    y = np.log(np.exp(x - top).sum(-1)) + top[..., 0]
    return y, (x, y)


def log_sum_exp_backward(dout, cache):
    x, y = cache
    return dout[..., None] * np.exp(x - y[..., None])


LSE = Subject(log_sum_exp, log_sum_exp_backward, matrix)


@LSE.wrong("upstream_ignored", "The softmax alone.")
def softmax_alone(dout, cache):
    return softmax(cache[0])


@LSE.wrong(None, "The softmax along the other axis.")
def along_the_other_axis(dout, cache):
    return dout[..., None] * softmax(cache[0], 0)


@LSE.wrong("local_derivative", "exp(x), not divided by its sum.")
def exponentials(dout, cache):
    return dout[..., None] * np.exp(cache[0])


def large_case(rng):
    return [900 + rng.standard_normal(different(rng, 2, 3))], {}


@LSE.wrong("not_finite", "The softmax without the maximum taken off.", large_case)
def without_the_maximum_taken_off(dout, cache):
    with np.errstate(all="ignore"):
        e = np.exp(cache[0])
        return dout[..., None] * e / e.sum(-1, keepdims=True)


def tempered(x, temperature):
    """softmax(x / T) with a temperature that is learnt."""
    p = softmax(x / temperature)
    return p, (x, temperature, p)


def tempered_backward(dout, cache):
    x, t, p = cache
    ds = p * (dout - (dout * p).sum(-1, keepdims=True))
    return ds / t, -(ds * x).sum(keepdims=True).reshape(t.shape) / t**2


def tempered_case(rng):
    return [2 * rng.standard_normal(different(rng, 2, 3)), 1.4 + rng.random(1)], {}


TEMPERED = Subject(tempered, tempered_backward, tempered_case)


@TEMPERED.wrong("factor", "The temperature is left out of dx.")
def dx_not_over_the_temperature(dout, cache):
    dx, dt = tempered_backward(dout, cache)
    return dx * cache[1], dt


@TEMPERED.wrong("sign", "1/T falls with T; the minus is lost.")
def temperatures_minus_lost(dout, cache):
    dx, dt = tempered_backward(dout, cache)
    return dx, -dt


@TEMPERED.wrong("zero", "The temperature is treated as a setting: its gradient stays zero.")
def temperature_not_learnt(dout, cache):
    return tempered_backward(dout, cache)[0], np.zeros_like(cache[1])


def squared_distances(x, y):
    """All pairs, (N, D) and (M, D) to (N, M)."""
    return ((x[:, None] - y[None]) ** 2).sum(-1), (x, y)


def squared_distances_backward(dout, cache):
    x, y = cache
    d = 2 * dout[..., None] * (x[:, None] - y[None])
    return d.sum(1), -d.sum(0)


def squared_distances_case(rng):
    n, m, d = different(rng, 3)
    return [rng.standard_normal((n, d)), rng.standard_normal((m, d))], {}


DISTANCES = Subject(squared_distances, squared_distances_backward, squared_distances_case)


@DISTANCES.wrong("factor", "The square's 2 is lost.")
def without_the_two(dout, cache):
    return tuple(g / 2 for g in squared_distances_backward(dout, cache))


@DISTANCES.wrong("sign", "The same sign for both ends.")
def same_sign_for_both(dout, cache):
    dx, dy = squared_distances_backward(dout, cache)
    return dx, -dy


@DISTANCES.wrong("missing_sum", "y's gradient isn't summed over the x it was compared with.")
def pairs_not_summed(dout, cache):
    x, y = cache
    d = 2 * dout[..., None] * (x[:, None] - y[None])
    return d.sum(1), -d


def gather(x, *, index):
    """Rows of x by number, some more than once."""
    return x[index], (x.shape, index)


def gather_backward(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    np.add.at(dx, index, dout)
    return dx


def gather_case(rng):
    n, d = different(rng, 2, 4)
    index = rng.integers(n, size=2 * n)
    index[0] = index[-1]
    return [rng.standard_normal((n, d))], {"index": index}


GATHER = Subject(gather, gather_backward, gather_case)


@GATHER.wrong("overwritten", "dx[index] += dout keeps one of the repeated rows.")
def buffered_addition(dout, cache):
    shape, index = cache
    dx = np.zeros(shape)
    dx[index] += dout
    return dx


@GATHER.wrong(("wrong_step", "part_wrong"), "Ids are taken to begin at one.")
def rows_counted_from_one(dout, cache):
    return np.roll(gather_backward(dout, cache), -1, 0)


def segment_sum(x, *, segment):
    """The sum of the rows of each segment."""
    y = np.zeros((segment.max() + 1, x.shape[1]))
    np.add.at(y, segment, x)
    return y, segment


def segment_sum_case(rng):
    n, d = 8 + int(rng.integers(3)), different(rng, 1, 3)[0]
    return [rng.standard_normal((n, d))], {"segment": rng.permutation(np.arange(n) % 3)}


SEGMENT = Subject(segment_sum, lambda dout, segment: dout[segment], segment_sum_case)


@SEGMENT.wrong(None, "The segments sorted first, as if the rows had been in their order.")
def as_if_sorted(dout, segment):
    return dout[np.sort(segment)]


@SEGMENT.wrong(("factor", "local_derivative"), "Divided by the segment's size, as for a mean.")
def as_for_a_mean(dout, segment):
    return dout[segment] / np.bincount(segment)[segment][:, None]
