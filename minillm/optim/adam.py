"""Adam (Kingma & Ba 2015, arXiv:1412.6980, algorithm 1) and AdamW (Loshchilov & Hutter 2019,
arXiv:1711.05101, algorithm 2).

Left out: AMSGrad.
"""

import math

import numpy as np

from minillm.optim._optimizer import Optimizer
from minillm.optim._setting import check_setting

__all__ = ["Adam", "AdamW"]


class Adam(Optimizer):
    """Step by the running mean of the gradient over the root of the running mean of its square.

    Equation: m <- b1 m + (1 - b1) g;  v <- b2 v + (1 - b2) g^2;  p <- p - lr m^ / (sqrt(v^) + eps)

    where m^ = m / (1 - b1^t) and v^ = v / (1 - b2^t) undo the start at zero.

    Parameters
    ----------
    lr, eps : float
    betas : (b1, b2), floats in [0, 1)
    weight_decay : float; weight_decay * p is added to the gradient of every leaf (AdamW: see there)
    """

    slots = ("m", "v")

    def __init__(self, lr=1e-3, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(lr, weight_decay=weight_decay)
        for index, beta in enumerate(betas, start=1):
            check_setting(f"beta{index}", beta, 0 <= beta < 1, "in [0, 1)")
        check_setting("eps", eps, eps >= 0, "at least 0")
        self.betas, self.eps = betas, eps

    def update_piece(self, p, g, m, v, *, t, lr, is_matrix, scratch):
        beta1, beta2 = self.betas
        # m and v are kept without their factors (1 - b1) and (1 - b2): two passes fewer
        m *= beta1
        m += g
        v *= beta2
        v += np.multiply(g, g, out=scratch)
        # m^ / (sqrt(v^) + eps), with those factors and both corrections as plain numbers
        mean = (1 - beta1) / (1 - beta1**t)
        root_mean = math.sqrt((1 - beta2) / (1 - beta2**t))
        denominator = np.sqrt(v, out=scratch)
        denominator += self.eps / root_mean
        step = np.divide(m, denominator, out=scratch)
        step *= lr * mean / root_mean
        p -= step


class AdamW(Adam):
    """Adam whose weight decay shrinks the weights directly and leaves the gradient alone.

    Equation: p <- (1 - lr * weight_decay) * p;  then Adam's step without decay

    Only matrices decay, that is leaves of two or more dimensions: pulling a bias or a gain towards
    zero regularises nothing (as GPT-2's reproductions do it; in torch, two parameter groups).
    """

    decoupled = True

    def __init__(self, lr=1e-3, *, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.01):
        super().__init__(lr, betas=betas, eps=eps, weight_decay=weight_decay)

    def update_piece(self, p, g, m, v, *, t, lr, is_matrix, scratch):
        if is_matrix and self.weight_decay:
            p *= 1 - lr * self.weight_decay
        super().update_piece(p, g, m, v, t=t, lr=lr, is_matrix=is_matrix, scratch=scratch)
