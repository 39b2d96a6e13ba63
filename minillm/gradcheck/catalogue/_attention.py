"""What the entries of the attention ops share: points to check at, and the order of heads."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes

__all__ = [
    "attention_case",
    "draw_heads",
    "draw_mask",
    "join_heads",
    "projections",
    "regroup",
    "split_heads",
    "sum_to_shape",
]

HEADS = ((2, 1), (4, 2), (3, 1))


def draw_heads(rng):
    """(H, G), H a multiple of G: mostly groups of several query heads, at times one to one."""
    return HEADS[rng.integers(len(HEADS))] if rng.random() < 0.92 else (3, 3)


def draw_mask(rng, batch, heads, queries, keys):
    """A mask of one of the usual shapes, one query's whole row hidden.

    The last query of all sees two keys, or no logit would have a gradient; the first and the last,
    the one block by block most easily lost.
    """
    shapes = (
        (batch, heads, queries, keys),
        (batch, 1, queries, keys),
        (1, 1, queries, keys),
        (batch, 1, 1, keys),
    )
    mask = rng.random(shapes[rng.integers(len(shapes))]) < 0.7
    if mask.shape[2] > 1:
        mask[0, 0, 0] = False
    elif mask.shape[0] > 1:
        mask[0] = False  # a sequence that is padding alone
    mask[-1, -1, -1, [0, -1]] = True
    return mask


def attention_case(rng):
    """(q, k, v, bias) and causal, mask, scale: 3 keys or 5, each flag mostly on."""
    heads, groups = draw_heads(rng)
    keys, queries = ((3, 4), (3, 5), (5, 3), (5, 4))[rng.integers(4)]
    queries = 1 if rng.random() < 0.05 else queries
    width, value_width = sizes(rng, 2, 2, 4, ones=0)
    batch = int(rng.integers(1, 3))
    q = rng.standard_normal((batch, heads, queries, width))
    k = rng.standard_normal((batch, groups, keys, width))
    v = rng.standard_normal((batch, groups, keys, value_width))
    bias = None
    if rng.random() < 0.95:
        # one for all queries, or for all sequences; never for all keys: softmax would not notice
        broadcast = ((batch, 1, 1, keys), (1, heads, 1, keys), (1, heads, queries, keys))
        bias = rng.standard_normal(broadcast[rng.integers(3 if batch > 1 else 2)])
    masked = rng.random() < 0.95
    mask = draw_mask(rng, batch, heads, queries, keys) if masked else None
    causal = bool(rng.random() < 0.9 or not masked)
    scale = (None, None, 0.7)[rng.integers(3)]
    return (q, k, v, bias), {"causal": causal, "mask": mask, "scale": scale}


def projections(rng, channels, heads, groups, width, bias=True):
    """Parameters of multi_head_attention, every one off its initial value."""

    def part(rows, columns):
        weight = rng.standard_normal((rows, columns)) / np.sqrt(rows)
        return {"weight": weight, "bias": rng.standard_normal(columns) if bias else None}

    return {
        "qkv": part(channels, (heads + 2 * groups) * width),
        "out": part(heads * width, channels),
    }


def regroup(x, heads):
    """(B, H, T, D) as (B, G, H / G * T, D), or back."""
    return x.reshape(x.shape[0], heads, -1, x.shape[3])


def split_heads(x, heads):
    """(B, T, heads * D) -> (B, heads, T, D)."""
    return x.reshape(*x.shape[:2], heads, -1).swapaxes(1, 2)


def join_heads(x):
    """(B, heads, T, D) -> (B, T, heads * D)."""
    return x.swapaxes(1, 2).reshape(x.shape[0], x.shape[2], -1)


def sum_to_shape(gradient, shape):
    """Sum over the axes along which a parameter of `shape` was broadcast."""
    axes = tuple(axis for axis, n in enumerate(shape) if n == 1)
    return gradient.sum(axes, keepdims=True)
