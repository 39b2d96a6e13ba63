"""What a run says when its loss is no longer a number."""

import math

import numpy as np

from minillm.errors import UserError
from minillm.tree import leaves

__all__ = ["TrainingDiverged", "check_loss", "check_step"]


class TrainingDiverged(UserError):
    """A loss or a gradient is no longer a finite number."""


def check_step(step, loss, norm, grads, advice):
    """Refuse a step whose loss or gradient is inf or nan, before it reaches the parameters.

    advice : function that returns what the message ends with

    Raises
    ------
    TrainingDiverged
        naming the step, the loss and the first bad gradient as the backward pass meets them: it
        comes from the output, and a nest holds the leaves from the input on.
    """
    if math.isfinite(loss) and math.isfinite(norm):
        return
    finite = {name: bool(np.isfinite(g).all()) for name, g in leaves(grads)}
    bad = [name for name, good in finite.items() if not good]
    gradient = "every single gradient is still finite"
    if bad:
        gradient = (
            f"the first gradient to go bad, coming from the output, is that of {bad[-1]} "
            f"({len(bad)} of {len(finite)} are not finite)"
        )
    raise TrainingDiverged(f"step {step}: the loss is {loss}; {gradient}; {advice()}")


def check_loss(step, loss, advice):
    """Refuse a validation loss that is inf or nan.

    Raises
    ------
    TrainingDiverged
        naming the step.
    """
    if not math.isfinite(loss):
        raise TrainingDiverged(f"step {step}: the validation loss is {loss}; {advice()}")
