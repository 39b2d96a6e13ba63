"""Adagrad (Duchi, Hazan & Singer 2011, JMLR 12, fig. 1, the diagonal form).

Left out: the decay of the learning rate, see schedules.py.
"""

import numpy as np

from minillm.optim._optimizer import Optimizer
from minillm.optim._setting import check_setting

__all__ = ["Adagrad"]


class Adagrad(Optimizer):
    """Divide each element's step by the root of all its squared gradients so far.

    Equation: s <- s + g^2;  p <- p - lr * g / (sqrt(s) + eps)

    Parameters
    ----------
    lr, weight_decay : float
    eps : float, keeps the first steps finite
    """

    slots = ("square_sum",)

    def __init__(self, lr=0.01, *, eps=1e-10, weight_decay=0.0):
        super().__init__(lr, weight_decay=weight_decay)
        check_setting("eps", eps, eps >= 0, "at least 0")
        self.eps = eps

    def update_piece(self, p, g, square_sum, *, t, lr, is_matrix, scratch):
        square_sum += np.multiply(g, g, out=scratch)
        root = np.sqrt(square_sum, out=scratch)
        root += self.eps
        step = np.divide(g, root, out=scratch)
        step *= lr
        p -= step
