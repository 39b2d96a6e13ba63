"""RMSprop (Tieleman & Hinton 2012, Neural Networks for Machine Learning, lecture 6.5).

Left out: the centred variant.
"""

import numpy as np

from minillm.optim._optimizer import Optimizer
from minillm.optim._setting import check_setting

__all__ = ["RMSprop"]


class RMSprop(Optimizer):
    """Divide each element's step by the root of a running mean of its squared gradients.

    Equation: s <- alpha * s + (1 - alpha) * g^2;  p <- p - lr * g / (sqrt(s) + eps)

    With momentum, u <- momentum * u + g / (sqrt(s) + eps);  p <- p - lr * u.

    Parameters
    ----------
    lr, weight_decay : float
    alpha : float in [0, 1), how slowly the mean forgets
    eps : float
    momentum : float in [0, 1)
    """

    def __init__(self, lr=0.01, *, alpha=0.99, eps=1e-8, momentum=0.0, weight_decay=0.0):
        super().__init__(lr, weight_decay=weight_decay)
        check_setting("alpha", alpha, 0 <= alpha < 1, "in [0, 1)")
        check_setting("eps", eps, eps >= 0, "at least 0")
        check_setting("momentum", momentum, 0 <= momentum < 1, "in [0, 1)")
        self.alpha, self.eps, self.momentum = alpha, eps, momentum
        self.slots = ("square_mean", "velocity") if momentum else ("square_mean",)

    def update_piece(self, p, g, square_mean, velocity=None, *, t, lr, is_matrix, scratch):
        square = np.multiply(g, g, out=scratch)
        square *= 1 - self.alpha
        square_mean *= self.alpha
        square_mean += square
        root = np.sqrt(square_mean, out=scratch)
        root += self.eps
        direction = np.divide(g, root, out=scratch)
        if velocity is not None:
            velocity *= self.momentum
            velocity += direction
            direction = velocity
        p -= np.multiply(direction, lr, out=scratch)
