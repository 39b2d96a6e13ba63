"""What the LSTM's launchers ask of their arguments, in the op's own words where it asks it too."""

from types import SimpleNamespace

import numpy as np
import torch

from minillm.ops._recurrent import check_layers, check_state
from minillm.tree import map_leaves
from minillm_kernels.triton._rows import check_shape

__all__ = ["check_arguments"]


def check_arguments(x, state, params, dropout, rng):
    """Refuse what does not fit.

    Returns
    -------
    shape : (L, B, K) of the state
    """
    shape = check_layers(*map_leaves(_shape_of, (x, params)), gates=4)
    wanted = (torch.float32, torch.float64)
    named = {"x": x}
    for key, array in check_state(state).items():
        if array is not None:
            named[f"state[{key!r}]"] = array
            check_shape("lstm", f"state[{key!r}]", array, shape)
    for layer, weights in enumerate(params):
        named |= {f"params[{layer}][{key!r}]": w for key, w in weights.items()}
    for name, array in named.items():
        if array.dtype not in wanted:
            raise ValueError(
                f"lstm: {name} must be float32 or float64, got {array.dtype}; products in half "
                'precision are to be had by minillm_kernels.precision.precision("bf16")'
            )
        if array.dtype != x.dtype:
            raise ValueError(f"lstm: {name} must be {x.dtype} as x is, got {array.dtype}")
    if not 0 <= dropout < 1:
        raise ValueError(f"p must be at least 0 and below 1, got {dropout}")
    if rng is not None and not isinstance(rng, np.random.Generator):
        raise ValueError(f"rng must be a numpy.random.Generator or None, got {type(rng).__name__}")
    return shape


def _shape_of(tensor):
    """What the op's own check looks at, its shape a tuple as in the op's messages."""
    shape = getattr(tensor, "shape", None)
    return tensor if shape is None else SimpleNamespace(shape=tuple(shape))
