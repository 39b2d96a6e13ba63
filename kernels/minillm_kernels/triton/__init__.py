"""Triton kernels, an op a file; importing this package registers their pairs under "triton"."""

import importlib

OPS = (
    "add_layer_norm",
    "add_rms_norm",
    "cross_entropy",
    "embedding",
    "flash_attention",
    "gelu",
    "layer_norm",
    "linear",
    "linear_cross_entropy",
    "log_softmax",
    "lstm",
    "mlp_gelu",
    "multi_head_attention",
    "rms_norm",
    "rotary",
    "scaled_dot_product_attention",
    "silu",
    "softmax",
    "swiglu",
    "transformer_block",
)

for _op in OPS:
    importlib.import_module(f"{__name__}.{_op}")
