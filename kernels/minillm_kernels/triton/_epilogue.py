"""What a product's tile goes through before it is stored: bias, GELU, its slope, gates, sums.

The tile is still in registers then, so that what would be a kernel of its own, reading and writing
every number once more, costs its arithmetic alone.

Half the sum of 1 and tanh(u) is the sigmoid of 2 u, so GELU's tanh form (Hendrycks & Gimpel 2016,
arXiv:1606.08415, section 2) needs one exponential and one division.
"""

import triton
import triton.language as tl

__all__ = ["EPILOGUES", "READS_OTHER", "finish", "gelu_slope", "gelu_value", "sigmoid"]

# "none"        y = A B + bias
# "gelu_..."    y = gelu(A B + bias); `kept` gets A B + bias where it is wanted
# "dgelu_..."   y = (A B) gelu'(other)
# "swiglu"      y = (A B) silu(other); `kept` gets A B
# "add"         y = A B + bias + other
EPILOGUES = ("none", "gelu_tanh", "gelu_none", "dgelu_tanh", "dgelu_none", "swiglu", "add")
READS_OTHER = ("dgelu_tanh", "dgelu_none", "swiglu", "add")


@triton.jit
def sigmoid(x):
    """1 / (1 + exp(-x)), with no exponential that overflows; at most 2e-35 off below -80."""
    return 1 / (1 + tl.exp(-tl.maximum(x, -80.0)))


@triton.jit
def gelu_chance(x, TANH: tl.constexpr):
    """The chance that a standard normal number is smaller than x, or its form by tanh."""
    if TANH:  # sigmoid(2 sqrt(2 / pi) (x + 0.044715 x^3))
        chance = sigmoid(1.5957691216057308 * (x + 0.044715 * (x * x * x)))
    else:  # x / sqrt(2)
        chance = 0.5 * (1 + tl.erf(x * 0.7071067811865476))
    return chance


@triton.jit
def gelu_value(x, TANH: tl.constexpr):
    """gelu(x) = x chance(x)."""
    return x * gelu_chance(x, TANH)


@triton.jit
def gelu_slope(x, TANH: tl.constexpr):
    """gelu'(x) = chance(x) + x chance'(x)."""
    chance = gelu_chance(x, TANH)
    if TANH:  # sigmoid' = s (1 - s), times the inner slope
        inner = 1.5957691216057308 * (1 + 3 * 0.044715 * (x * x))
        slope = chance * (1 - chance) * inner
    else:  # exp(-x^2 / 2) / sqrt(2 pi)
        slope = 0.3989422804014327 * tl.exp(-0.5 * (x * x))
    return chance + x * slope


@triton.jit
def finish(total, bias, other, EPILOGUE: tl.constexpr, HAS_BIAS: tl.constexpr):
    """(y, kept) of a tile.

    total, other : (M, N) tiles in the dtype of the sums; bias : (N,). What an epilogue does not
    read may be anything.
    """
    if HAS_BIAS:
        total = total + bias[None, :]
    if EPILOGUE == "gelu_tanh":
        y = gelu_value(total, True)
    elif EPILOGUE == "gelu_none":
        y = gelu_value(total, False)
    elif EPILOGUE == "dgelu_tanh":
        y = total * gelu_slope(other, True)
    elif EPILOGUE == "dgelu_none":
        y = total * gelu_slope(other, False)
    elif EPILOGUE == "swiglu":
        y = total * (other * sigmoid(other))
    elif EPILOGUE == "add":
        y = total + other
    else:
        y = total
    return y, total
