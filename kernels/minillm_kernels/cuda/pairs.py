"""The op pairs of the backend "cupy"; importing this module registers them."""

import importlib
import importlib.util

OPS = (
    "add_layer_norm",
    "cross_entropy",
    "flash_attention",
    "gelu",
    "layer_norm",
    "linear",
    "rms_norm",
    "rotary",
    "scaled_dot_product_attention",
    "softmax",
)

for _op in OPS:
    if importlib.util.find_spec(f"minillm_kernels.cuda.{_op}"):
        importlib.import_module(f"minillm_kernels.cuda.{_op}")
