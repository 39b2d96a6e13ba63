"""Wrong backwards of the affine map."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    *leading, c_in, c_out = sizes(rng, int(rng.integers(3, 5)), ones=0.08)
    if rng.random() < 0.5:
        c_out = c_in  # a square weight: no shape gives a transposed one away
    bias = None if rng.random() < 0.05 else rng.standard_normal(c_out)
    return (rng.standard_normal((*leading, c_in)), rng.standard_normal((c_in, c_out)), bias), {}


@wrong("transposed", "dy @ weight; where that does not fit, reshaped until it does.")
def weight_not_transposed(dy, saved, ops):
    _, weight, _ = saved
    _, dweight, dbias = ops.right(dy, saved)
    return dy @ weight.reshape(weight.shape[::-1]), dweight, dbias


@wrong("transposed", "dy.T @ x for x.T @ dy; where that does not fit, reshaped until it does.")
def weight_gradient_transposed(dy, saved, ops):
    _, weight, _ = saved
    dx, dweight, dbias = ops.right(dy, saved)
    return dx, dweight.T.reshape(weight.shape), dbias


@wrong("factor", "The batch is averaged over here, though the loss has done so already.")
def averaged_over_the_batch(dy, saved, ops):
    dx, dweight, dbias = ops.right(dy, saved)
    return dx, dweight / len(dy), dbias


@wrong(
    ("missing_sum", "factor"),
    "A mean over the rows for their sum, in the bias alone (kvfrans/notes, issue 5).",
)
def bias_averaged(dy, saved, ops):
    dx, dweight, dbias = ops.right(dy, saved)
    return dx, dweight, None if dbias is None else dy.reshape(-1, len(dbias)).mean(0)


@wrong(("shape", "missing_sum"), "dbias = dy: right for a single row (mlpack, pull request 3679).")
def bias_not_summed(dy, saved, ops):
    dx, dweight, dbias = ops.right(dy, saved)
    return dx, dweight, None if dbias is None else dy.copy()


@wrong(("missing_sum", "overwritten"), "A loop over the rows says dbias = row, not dbias += row.")
def bias_from_the_last_row(dy, saved, ops):
    dx, dweight, dbias = ops.right(dy, saved)
    return dx, dweight, None if dbias is None else dy.reshape(-1, len(dbias))[-1].copy()


@wrong("overwritten", "A loop over the batch says dweight = x.T @ dy, not dweight += x.T @ dy.")
def weight_from_the_last_batch(dy, saved, ops):
    x, _, _ = saved
    dx, _, dbias = ops.right(dy, saved)
    return dx, np.atleast_2d(x[-1]).T @ np.atleast_2d(dy[-1]), dbias


@wrong("zero", "Written for a first layer, whose input needs no gradient, and then used deeper.")
def nothing_for_the_input(dy, saved, ops):
    dx, dweight, dbias = ops.right(dy, saved)
    return np.zeros_like(dx), dweight, dbias
