"""Wrong backwards of multi-head attention."""

import numpy as np

from minillm.gradcheck.catalogue._attention import draw_heads, draw_mask, projections, split_heads
from minillm.gradcheck.catalogue._entry import sizes, wrong

NAMES = ("q", "kv", "rotary", "attend", "mixed", "out")


def case(rng, ops):
    heads, groups = draw_heads(rng)
    batch, rows, channels = sizes(rng, 3, 2, 4, ones=0.05)
    rows = max(rows, 2)  # one key alone: no logit would have a gradient
    width = 2 if rng.random() < 0.7 else 4
    self_attention = rng.random() < 0.9
    keys = rows if self_attention else rows + 1
    x = rng.standard_normal((batch, rows, channels))
    context = None if self_attention else rng.standard_normal((batch, keys, channels))
    params = projections(rng, channels, heads, groups, width, bias=rng.random() < 0.95)
    kwargs = {"n_head": heads, "n_kv_head": groups, "causal": bool(rng.random() < 0.5)}
    if self_attention and rng.random() < 0.9:
        kwargs["rotary_base"] = 50.0
        if rng.random() < 0.5:
            kwargs["positions"] = rng.permutation(9)[:rows]
    if rng.random() < 0.4:
        kwargs["mask"] = draw_mask(rng, batch, heads, rows, keys)
    if rng.random() < 0.4:
        kwargs |= {"dropout": 0.3, "rng": np.random.default_rng(rng.integers(2**32))}
    return (x, params, context), kwargs


def change(dout, saved, ops, **changed):
    """The backward with some of the caches of its parts replaced."""
    params, heads, self_attention, caches = saved
    caches = dict(zip(NAMES, caches, strict=True)) | changed
    return ops.right(dout, (params, heads, self_attention, tuple(caches.values())))


def out_weight(saved):
    """The heads side by side, (B, T, H * D), and the weight and bias that they then meet."""
    return saved[3][5].saved


def with_part(grads, part, **changed):
    """The gradients with some of those of params[part] replaced."""
    dx, dparams, dcontext = grads
    return dx, dparams | {part: dparams[part] | changed}, dcontext


@wrong("local_derivative", "Queries and keys were turned, but their gradients aren't turned back.")
def rotary_forgotten(dout, saved, ops):
    return change(dout, saved, ops, rotary=None)


@wrong("part_wrong", "The queries' gradient is turned back, the keys' isn't.")
def only_queries_turned_back(dout, saved, ops):
    turned = saved[3][2]
    if turned is None:
        return ops.right(dout, saved)
    k = saved[3][4].saved[1]
    _, still = ops.rotary(k, positions=np.zeros(k.shape[2], int))
    return change(dout, saved, ops, rotary=(turned[0], still))


@wrong("overwritten", "x feeds the queries and the keys and values; only the first use is counted.")
def keys_and_values_owe_x_nothing(dout, saved, ops):
    params, heads, self_attention, caches = saved
    dx, dparams, dcontext = ops.right(dout, saved)
    if self_attention:
        dx = ops.right(dout, (params, heads, False, caches))[0]
    return dx, dparams, dcontext


@wrong(
    ("transposed", "part_wrong"),
    "(B, H, T, D) is reshaped to (B, T, H D) without swapping its axes first.",
)
def heads_not_joined(dout, saved, ops):
    joined, weight, _ = out_weight(saved)
    scrambled = split_heads(joined, saved[1]).reshape(-1, weight.shape[0])
    dweight = scrambled.T @ dout.reshape(-1, dout.shape[-1])
    return with_part(ops.right(dout, saved), "out", weight=dweight)


@wrong(
    ("other_parameter", "part_wrong"),
    "The columns are put together as q, v, k, though they were cut as q, k, v.",
)
def keys_and_values_exchanged(dout, saved, ops):
    grads = ops.right(dout, saved)
    dweight, dbias = grads[1]["qkv"]["weight"], grads[1]["qkv"]["bias"]
    of_q, of_k, of_v = column_parts(saved)
    order = np.concatenate([of_q, of_v, of_k])
    dbias = None if dbias is None else dbias[order]
    return with_part(grads, "qkv", weight=dweight[:, order], bias=dbias)


@wrong("local_derivative", "The heads get the gradient of the output, not through its weight.")
def upstream_not_projected(dout, saved, ops):
    joined, weight, bias = out_weight(saved)
    _, cache = ops.linear(joined, np.eye(*weight.shape), bias)
    return change(dout, saved, ops, out=cache)


@wrong("part_wrong", "A loop over the heads that stops one too early: the last head gets nothing.")
def last_head_left_out(dout, saved, ops):
    joined, weight, bias = out_weight(saved)
    width = weight.shape[0] // saved[1]
    _, cache = ops.linear(joined, np.concatenate([weight[:-width], 0 * weight[-width:]]), bias)
    return change(dout, saved, ops, out=cache)


@wrong("part_wrong", "The bias was cut in two; the keys' and values' part of it is forgotten.")
def bias_of_the_queries_only(dout, saved, ops):
    grads = ops.right(dout, saved)
    dbias = grads[1]["qkv"]["bias"]
    if dbias is None:
        return grads
    end = len(column_parts(saved)[0])
    return with_part(grads, "qkv", bias=np.where(np.arange(len(dbias)) < end, dbias, 0))


@wrong(("factor", "missing_sum"), "The bias gets the mean over all rows instead of their sum.")
def bias_averaged_over_rows(dout, saved, ops):
    grads = ops.right(dout, saved)
    if grads[1]["out"]["bias"] is None:
        return grads
    return with_part(grads, "out", bias=dout.mean((0, 1)))


@wrong("factor", "The heads are averaged on the way back, though they were not in forward.")
def divided_by_the_number_of_heads(dout, saved, ops):
    grads = ops.right(dout, saved)
    scaled = {k: None if g is None else g / saved[1] for k, g in grads[1]["qkv"].items()}
    return with_part(grads, "qkv", **scaled)


def column_parts(saved):
    """The indices of the columns of qkv that make queries, keys and values."""
    params = saved[0]
    end = params["out"]["weight"].shape[0]  # H * D
    columns = params["qkv"]["weight"].shape[1]
    return np.split(np.arange(columns), [end, end + (columns - end) // 2])
