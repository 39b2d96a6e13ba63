"""Wrong backwards of dropout."""

import numpy as np

from minillm.gradcheck.catalogue._entry import sizes, wrong


def case(rng, ops):
    shape = (int(rng.integers(3, 6)), *sizes(rng, int(rng.integers(1, 3))))
    p, dropped = float(rng.choice([0.2, 0.4, 0.6])), np.zeros(shape, bool)
    while dropped.all() or not dropped.any():  # some are, and not all: as forward will draw them
        seed = int(rng.integers(2**32))
        dropped = np.random.default_rng(seed).random(shape, dtype=np.float32) < p
    return (rng.standard_normal(shape),), {"p": p, "rng": np.random.default_rng(seed)}


@wrong("factor", "The mask is kept as 0 and 1, and its scale 1 / (1 - p) forgotten.")
def without_scale(dy, mask, ops):
    return dy * (mask > 0)


@wrong("factor", "Multiplied by 1 - p where forward divides by it.")
def scaled_the_wrong_way(dy, mask, ops):
    return np.where(mask > 0, dy / mask.max(), 0)


@wrong("mask_forgotten", "Off in backward, as when generating.")
def passes_everything(dy, mask, ops):
    return dy.copy()


@wrong(
    "mask_forgotten",
    "Divided by 1 - p, but what was dropped gets its gradient too (ddbourgin/numpy-ml, issue 94).",
)
def scaled_but_not_masked(dy, mask, ops):
    return dy * mask.max()


@wrong("mask_forgotten", "Where the mask is inverted: what was dropped passes, what was kept not.")
def passes_what_was_dropped(dy, mask, ops):
    return dy * (mask.max() - mask)


@wrong("mask_forgotten", "Seeded anew in backward, but not with forward's state of the generator.")
def another_mask(dy, mask, ops):
    return dy * np.roll(mask.ravel(), 1).reshape(mask.shape)


@wrong(("not_deterministic", "mask_forgotten"), "Backward draws a mask of its own.")
def drawn_again(dy, mask, ops):
    scale = mask.max()
    return dy * scale * (np.random.default_rng().random(mask.shape) < 1 / scale)


@wrong("not_finite", "mask / mask, to have its ones back: 0 / 0 where something was dropped.")
def divided_by_itself(dy, mask, ops):
    with np.errstate(invalid="ignore"):
        return dy * (mask / mask) * mask.max()
