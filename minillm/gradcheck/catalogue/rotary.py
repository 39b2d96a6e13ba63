"""Wrong backwards of rotary positions."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    batch, heads, rows = sizes(rng, 3, 2, 5)
    rows = max(rows, 2)
    width = int(rng.choice([4, 6])) if rng.random() < 0.92 else 2
    kwargs = {"base": float(rng.choice([50.0, 10000.0]))}
    if rng.random() < 0.5:
        kwargs["positions"] = rng.permutation(12)[:rows]
    return (rng.standard_normal((batch, heads, rows, width)),), kwargs


def turn(x, cos, sin):
    """As in forward: by the angle."""
    x1, x2 = np.split(x, 2, axis=-1)
    return np.concatenate([x1 * cos - x2 * sin, x2 * cos + x1 * sin], axis=-1)


@wrong(
    ("transposed", "sign"),
    "Forward's rotation once more: the sine keeps its sign, the rotation isn't transposed.",
)
def turned_the_wrong_way(dy, saved, ops):
    return turn(dy, *saved)


@wrong("local_derivative", "Lengths are kept, so the gradient passes as it is.")
def not_turned(dy, saved, ops):
    return dy.copy()


@wrong("zero", "A fused kernel without a backward (huggingface/candle, issue 3568).")
def nothing_comes_back(dy, saved, ops):
    return np.zeros_like(dy)


@wrong(("part_wrong", "other_parameter"), "The two halves are put together in the wrong order.")
def halves_exchanged(dy, saved, ops):
    return np.roll(ops.right(dy, saved), dy.shape[-1] // 2, -1)


@wrong(
    ("part_wrong", "sign"),
    "The minus of the sine is moved in the first half and not in the second.",
)
def sign_of_one_half(dy, saved, ops):
    cos, sin = saved
    d1, d2 = np.split(dy, 2, axis=-1)
    return np.concatenate([d1 * cos + d2 * sin, d2 * cos + d1 * sin], axis=-1)


@wrong(
    ("missing_term", "local_derivative"),
    "Each channel counts for itself alone; what it gave to its partner is left out.",
)
def without_the_sines(dy, saved, ops):
    return turn(dy, saved[0], 0 * saved[1])


@wrong(
    ("local_derivative", "part_wrong"),
    "Backward pairs neighbours (2i, 2i + 1), forward paired the halves: two conventions mixed.",
)
def neighbours_paired(dy, saved, ops):
    apart = np.concatenate([dy[..., ::2], dy[..., 1::2]], -1)
    turned = ops.right(apart, saved)
    return np.stack(np.split(turned, 2, -1), -1).reshape(dy.shape)


@wrong("wrong_step", "The angles are those of the position before.")
def angles_of_the_position_before(dy, saved, ops):
    cos, sin = saved
    return ops.right(dy, (np.roll(cos, 1, 0), np.roll(sin, 1, 0)))


@wrong(("wrong_step", "local_derivative"), "The positions are counted from the end in backward.")
def positions_reversed(dy, saved, ops):
    cos, sin = saved
    return ops.right(dy, (cos[::-1], sin[::-1]))
