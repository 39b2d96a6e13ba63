"""Update rules, learning rate schedules and gradient clipping, written out in NumPy.

A rule is an object with `init(params) -> state` and `update(params, grads, state, lr=None)`, which
works in place. `state` is a nest of arrays like the parameters themselves, so that a checkpoint
stores both in the same way.
"""

from minillm.optim.adagrad import Adagrad
from minillm.optim.adam import Adam, AdamW
from minillm.optim.clip import clip_by_global_norm, clip_scale, global_norm
from minillm.optim.rmsprop import RMSprop
from minillm.optim.schedules import SCHEDULES, constant, cosine, linear
from minillm.optim.sgd import SGD

__all__ = [
    "SCHEDULES",
    "SGD",
    "Adagrad",
    "Adam",
    "AdamW",
    "RMSprop",
    "clip_by_global_norm",
    "clip_scale",
    "constant",
    "cosine",
    "global_norm",
    "linear",
]
