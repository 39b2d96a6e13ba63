"""The op pairs of the backend "cupy"; importing this module registers them.

An op that is not here runs as its reference.
"""

from minillm_kernels.cuda import (  # noqa: F401 (importing registers)
    add_layer_norm,
    cross_entropy,
    flash_attention,
    gelu,
    layer_norm,
    linear,
    rms_norm,
    rotary,
    scaled_dot_product_attention,
    softmax,
)
