"""Stochastic gradient descent, plain, with momentum (Polyak 1964) and with Nesterov's (1983).

The form is Sutskever, Martens, Dahl & Hinton 2013 as torch.optim.SGD writes it: the learning rate
multiplies the velocity, and does not enter it. Left out: dampening.
"""

import numpy as np

from minillm.optim._optimizer import Optimizer
from minillm.optim._setting import check_setting

__all__ = ["SGD"]


class SGD(Optimizer):
    """Gradient descent, with momentum where `momentum` is above 0.

    Equation: v <- momentum * v + g;  p <- p - lr * v

    With Nesterov's look ahead, p <- p - lr * (g + momentum * v); without momentum, v = g.

    Parameters
    ----------
    lr, weight_decay : float
    momentum : float in [0, 1)
    nesterov : bool, look ahead along the velocity; needs a momentum
    """

    def __init__(self, lr, *, momentum=0.0, nesterov=False, weight_decay=0.0):
        super().__init__(lr, weight_decay=weight_decay)
        check_setting("momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        if nesterov and not momentum:
            raise ValueError("nesterov=True needs a momentum above 0, got momentum 0")
        self.momentum, self.nesterov = momentum, nesterov
        self.slots = ("velocity",) if momentum else ()

    def update_piece(self, p, g, velocity=None, *, t, lr, is_matrix, scratch):
        direction = g
        if velocity is not None:
            velocity *= self.momentum
            velocity += g
            direction = velocity
        if self.nesterov:
            direction = np.multiply(velocity, self.momentum, out=scratch)
            direction += g
        p -= np.multiply(direction, lr, out=scratch)
