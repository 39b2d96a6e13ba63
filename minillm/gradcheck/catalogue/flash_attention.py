"""Wrong backwards of attention block by block."""

import math

import numpy as np

from minillm.gradcheck.catalogue._attention import attention_case
from minillm.gradcheck.catalogue._entry import wrong

NAMES = ("q", "k", "v", "bias", "mask", "scale", "diagonal", "block", "out", "log_sum")


def case(rng, ops):
    args, kwargs = attention_case(rng)
    return args, kwargs | {"block": 2}  # the keys are odd: their last block is never a full one


def change(dout, saved, ops, **changed):
    """The backward with some of what was saved replaced."""
    values = dict(zip(NAMES, saved, strict=True)) | changed
    return ops.right(dout, tuple(values.values()))


@wrong("missing_term", "sum(dout * out), which stands for softmax's own term, is left out.")
def without_the_softmax_term(dout, saved, ops):
    return change(dout, saved, ops, out=np.zeros_like(saved[8]))


@wrong("mask_forgotten", "The weights are made again without the mask.")
def mask_forgotten(dout, saved, ops):
    return change(dout, saved, ops, mask=None)


@wrong("mask_forgotten", "The weights are made again for all keys, those to come as well.")
def causal_forgotten(dout, saved, ops):
    return change(dout, saved, ops, diagonal=None)


@wrong(
    ("mask_forgotten", "wrong_step"),
    "The causal diagonal of forward starts at the last query, that of backward at the first.",
)
def diagonal_aligned_at_the_start(dout, saved, ops):
    return change(dout, saved, ops, diagonal=None if saved[6] is None else 0)


@wrong("local_derivative", "The logits are made again without the bias: weights of other logits.")
def bias_forgotten(dout, saved, ops):
    *grads, _ = change(dout, saved, ops, bias=None)
    return *grads, ops.right(dout, saved)[3]


@wrong("factor", "q was scaled before the product, and its gradient is scaled twice.")
def scale_counted_twice(dout, saved, ops):
    dq, dk, dv, dbias = ops.right(dout, saved)
    return dq * saved[5], dk, dv, dbias


@wrong("factor", "A kernel that works with powers of 2 forgets ln 2 on the way back.")
def ln2_forgotten(dout, saved, ops):
    dq, dk, dv, dbias = ops.right(dout, saved)
    return dq / math.log(2), dk, dv, dbias


@wrong(("wrong_step", "local_derivative"), "The saved log-sum-exp is read one query too early.")
def log_sum_of_another_query(dout, saved, ops):
    return change(dout, saved, ops, log_sum=np.roll(saved[9], 1, axis=2))


@wrong(
    "part_wrong",
    "Keys beyond the last full block get nothing (as FlagGems, pull request 898: multiples of 64).",
)
def last_block_dropped(dout, saved, ops):
    k, block = saved[1], saved[7]
    full = k.shape[2] // block * block
    dq, dk, dv, dbias = ops.right(dout, saved)
    reached = np.arange(k.shape[2])[:, None] < full
    return dq, dk * reached, dv * reached, dbias


@wrong("overwritten", "Each block of queries writes the keys' gradient anew; the last one stays.")
def last_block_of_queries_only(dout, saved, ops):
    dq, *_, dbias = ops.right(dout, saved)
    last = (dout.shape[2] - 1) // saved[7] * saved[7]
    late = np.where(np.arange(dout.shape[2])[:, None] >= last, dout, 0)
    return dq, *ops.right(late, saved)[1:3], dbias


@wrong("sign", "The bias as a penalty on distance, to be subtracted; here it is added.")
def bias_taken_for_a_penalty(dout, saved, ops):
    *grads, dbias = ops.right(dout, saved)
    return *grads, None if dbias is None else -dbias


@wrong("factor", "The scale 1 / sqrt(d) is applied to the logits and forgotten on the way back.")
def scale_forgotten(dout, saved, ops):
    dq, dk, dv, dbias = ops.right(dout, saved)
    return dq / saved[5], dk / saved[5], dv, dbias


@wrong("local_derivative", "The weights are made again as exp(logits), not divided by their sum.")
def weights_not_normalised(dout, saved, ops):
    return change(dout, saved, ops, log_sum=np.zeros_like(saved[9]))


@wrong(
    "part_wrong",
    "Keys beyond the last full block are skipped: they give the queries nothing either.",
)
def last_block_skipped(dout, saved, ops):
    _, k, v, bias, mask, _, _, block, *_ = saved
    full = k.shape[2] // block * block

    def cut(array):
        return array if array is None or array.shape[3] == 1 else array[..., :full]

    dq, dk, dv, dbias = change(
        dout, saved, ops, k=k[:, :, :full], v=v[:, :, :full], bias=cut(bias), mask=cut(mask)
    )
    rest = ((0, 0), (0, 0), (0, k.shape[2] - full), (0, 0))
    if dbias is not None:
        dbias = np.pad(dbias, ((0, 0), (0, 0), (0, 0), (0, bias.shape[3] - dbias.shape[3])))
    return dq, np.pad(dk, rest), np.pad(dv, rest), dbias


@wrong(
    ("overwritten", "missing_sum"),
    "Keys and values get the gradient of the first query head of their group, not of all of them.",
)
def one_head_of_each_group(dout, saved, ops):
    dq, *_, dbias = ops.right(dout, saved)
    first = np.zeros_like(dout)
    ratio = saved[0].shape[1] // saved[1].shape[1]
    first[:, ::ratio] = dout[:, ::ratio]
    return dq, *ops.right(first, saved)[1:3], dbias
