"""Learning rates that change: functions from the step (counted from 0) to the rate of its update.

Each begins with a linear warm-up (Goyal et al. 2017, arXiv:1706.02677, section 2.2) where `warmup`
is above 0; the cosine is Loshchilov & Hutter 2017 (arXiv:1608.03983, eq. 5) without restarts.
"""

import math

from minillm.optim._setting import check_setting

__all__ = ["SCHEDULES", "constant", "cosine", "linear"]


def constant(lr, steps=None, *, warmup=0, final=None):
    """`lr` after the warm-up, for ever (`steps` and `final` are there to look like the others)."""
    return _after_warmup(lr, steps, warmup, lr, lambda share: 1.0)


def linear(lr, steps, *, warmup=0, final=0.0):
    """Down from `lr` to `final` along a straight line that ends at step `steps`."""
    return _after_warmup(lr, steps, warmup, final, lambda share: 1 - share)


def cosine(lr, steps, *, warmup=0, final=0.0):
    """Down from `lr` to `final` along half a cosine wave that ends at step `steps`."""
    return _after_warmup(
        lr, steps, warmup, final, lambda share: (1 + math.cos(math.pi * share)) / 2
    )


SCHEDULES = {"constant": constant, "linear": linear, "cosine": cosine}


def _after_warmup(lr, steps, warmup, final, height):
    """Rise to `lr` over `warmup` updates, then final + (lr - final) * height(share of the way)."""
    check_setting("lr", lr, lr >= 0, "at least 0")
    check_setting("warmup", warmup, warmup >= 0, "at least 0")
    check_setting("steps", steps, steps is None or steps >= warmup, f"at least warmup, {warmup}")

    def rate(step):
        if step < warmup:
            return lr * (step + 1) / (warmup + 1)  # the first update already moves
        if steps is None or step >= steps:
            return final
        return final + (lr - final) * height((step - warmup) / (steps - warmup))

    return rate
