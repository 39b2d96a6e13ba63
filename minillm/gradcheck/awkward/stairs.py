"""Staircases: the gradient is zero where there is one, and at an edge there is none."""

import numpy as np

from minillm.gradcheck.awkward._family import between, dims, normal, of, pick, right

# a staircase has no derivative on an edge, and a point moved off one edge may meet another
STEP = ("no influence", "vanishes", "kink", "curvature", "noise")


def _steps(rng, dtype, jump):
    """Values of which some lie exactly where a step function jumps."""
    x = between(rng, dtype, -4, 4, *dims(rng, 2))
    x.flat[0] = pick(rng, jump, float(x.flat[0]))
    return x


@right
def floor(rng, dtype):
    """A staircase; some inputs on its edges."""
    x = _steps(rng, dtype, 2.0)
    return of(np.floor, lambda d, x: 0 * d, x, zero={"x": STEP})


@right
def rounding(rng, dtype):
    """Rounding, with the true gradient and not the straight-through one."""
    x = _steps(rng, dtype, 1.5)
    return of(lambda x: np.round(x), lambda d, x: 0 * d, x, zero={"x": STEP})


@right
def sign(rng, dtype):
    """The sign, zeros among the inputs."""
    x = _steps(rng, dtype, 0.0)
    return of(np.sign, lambda d, x: 0 * d, x, zero={"x": STEP})


@right
def gate(rng, dtype):
    """A hard gate: x chooses which of the y count, and has no gradient of its own."""
    shape = dims(rng, 2)
    x, y = normal(rng, dtype, *shape), normal(rng, dtype, *shape)
    x.flat[0] = 1.0
    return of(
        lambda x, y: (x > 0) * y, lambda d, x, y: (0 * d, d * (x > 0)), x, y, zero={"x": STEP}
    )
