"""Layers of long short-term memory over time (Hochreiter & Schmidhuber 1997; Gers, Schmidhuber &
Cummins 2000), trained by back-propagation through time (Werbos 1990), in Triton.

What does not depend on the step before is one product for all steps: x W_x + b, and in backward dx,
dW_x, dW_h and db. What remains is a chain of T small products, h[t - 1] W_h: one kernel a step. A
block of it computes the four gates of the same hidden units, so that the cell follows at once in
registers. A step reads W_h's 4 K^2 numbers (from the second-level cache, for K up to 2000 or so in
bfloat16) for 8 B K^2 operations: the larger the batch, the better.

The chain's launches are short; captured in a CUDA graph they follow each other without the CPU.
`minillm_kernels.precision` says what the products make of float32.
"""

import numpy as np
import torch
import triton
import triton.language as tl

from minillm.ops._op import register
from minillm_kernels import precision
from minillm_kernels.arrays import check_grid, interpreted, on_tensors
from minillm_kernels.triton._compile import Configuration
from minillm_kernels.triton._device import arch
from minillm_kernels.triton._lstm_check import check_arguments
from minillm_kernels.triton._rows import accumulator
from minillm_kernels.triton._sums import sum_over_rows
from minillm_kernels.triton._tune import Choice, autotune
from minillm_kernels.triton.matmul import matmul

__all__ = ["lstm", "lstm_backward"]


@triton.jit
def sigmoid(a):
    small = tl.exp(-tl.abs(a))  # cannot overflow
    return tl.where(a < 0, small, 1.0) / (1 + small)


@triton.jit
def tanh(a):
    """By the exponential of a negative number, which cannot overflow; near 0 by Taylor's series,
    where 1 - exp(-2 |a|) would lose digits."""
    size = tl.abs(a)
    small = tl.exp(-2 * size)
    far = (1 - small) / (1 + small)
    far = tl.where(a < 0, -far, far)
    if a.dtype == tl.float64:
        near = far
    else:
        s = a * a
        near = a * (1 + s * (-1 / 3 + s * (2 / 15 + s * (-17 / 315 + s * (62 / 2835)))))
    return tl.where(size < 0.25, near, far)


@triton.jit
def product(x, y, total, PRECISION: tl.constexpr, WIDEN: tl.constexpr):
    """total + x @ y in one of `minillm_kernels.precision`."""
    if PRECISION == "bf16":
        x, y = x.to(tl.bfloat16), y.to(tl.bfloat16)
        if WIDEN:  # the interpreter knows no arithmetic of half precision
            x, y = x.to(tl.float32), y.to(tl.float32)
        return tl.dot(x, y, total, out_dtype=total.dtype)
    MODE: tl.constexpr = "tf32" if PRECISION == "tf32" else "ieee"
    return tl.dot(x, y, total, input_precision=MODE, out_dtype=total.dtype)


def _choices(sizes):
    return [Choice({"BB": b, "BU": u, "BR": r}, w, s) for b, u, r, w, s in sizes]


# Rows of the batch, hidden units, numbers of the inner product; warps; stages.
FORWARD = _choices([(32, 32, 64, 4, 2), (64, 32, 32, 8, 3), (16, 32, 64, 4, 3)])
BACKWARD = _choices(
    [(32, 32, 64, 4, 2), (64, 64, 32, 8, 3), (64, 32, 32, 8, 3), (16, 32, 128, 4, 3)]
)


@autotune(FORWARD, key=["n_batch", "n_hidden", "PRECISION"], restore=("gates",))
@triton.jit
def lstm_step(
    gates, weight, h_before, c_before, h, c, n_batch, n_hidden,
    stride_gates, stride_h_before, stride_c_before, stride_h,
    PRECISION: tl.constexpr, WIDEN: tl.constexpr, ACC: tl.constexpr,
    BB: tl.constexpr, BU: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """One step of a layer: BU hidden units for BB rows of the batch.

    gates (B, 4 K) hold x W_x + b and become i, f, g, o; weight is W_h (K, 4 K); h and c (B, K) with
    stride_h between rows both.
    """
    rows = tl.program_id(1) * BB + tl.arange(0, BB)
    units = tl.program_id(0) * BU + tl.arange(0, BU)
    row_inside, unit_inside = rows < n_batch, units < n_hidden
    a_i = tl.zeros((BB, BU), ACC)
    a_f = tl.zeros((BB, BU), ACC)
    a_g = tl.zeros((BB, BU), ACC)
    a_o = tl.zeros((BB, BU), ACC)
    rows = rows.to(tl.int64)
    for start in tl.range(0, n_hidden, BR):
        inner = start + tl.arange(0, BR)
        inner_inside = inner < n_hidden
        x = tl.load(
            h_before + rows[:, None] * stride_h_before + inner[None, :],
            mask=row_inside[:, None] & inner_inside[None, :],
            other=0,
        )
        at = weight + inner.to(tl.int64)[:, None] * (4 * n_hidden) + units[None, :]
        inside = inner_inside[:, None] & unit_inside[None, :]
        w_i = tl.load(at, mask=inside, other=0)
        w_f = tl.load(at + n_hidden, mask=inside, other=0)
        w_g = tl.load(at + 2 * n_hidden, mask=inside, other=0)
        w_o = tl.load(at + 3 * n_hidden, mask=inside, other=0)
        a_i = product(x, w_i, a_i, PRECISION, WIDEN)
        a_f = product(x, w_f, a_f, PRECISION, WIDEN)
        a_g = product(x, w_g, a_g, PRECISION, WIDEN)
        a_o = product(x, w_o, a_o, PRECISION, WIDEN)
    inside = row_inside[:, None] & unit_inside[None, :]
    at = gates + rows[:, None] * stride_gates + units[None, :]
    i = sigmoid(a_i + tl.load(at, mask=inside, other=0))
    f = sigmoid(a_f + tl.load(at + n_hidden, mask=inside, other=0))
    g = tanh(a_g + tl.load(at + 2 * n_hidden, mask=inside, other=0))
    o = sigmoid(a_o + tl.load(at + 3 * n_hidden, mask=inside, other=0))
    old = tl.load(c_before + rows[:, None] * stride_c_before + units[None, :], mask=inside, other=0)
    new = f * old + i * g
    tl.store(at, i, mask=inside)
    tl.store(at + n_hidden, f, mask=inside)
    tl.store(at + 2 * n_hidden, g, mask=inside)
    tl.store(at + 3 * n_hidden, o, mask=inside)
    tl.store(c + rows[:, None] * stride_h + units[None, :], new, mask=inside)
    tl.store(h + rows[:, None] * stride_h + units[None, :], o * tanh(new), mask=inside)


@autotune(BACKWARD, key=["n_batch", "n_hidden", "PRECISION"], restore=("dc",))
@triton.jit
def lstm_step_backward(
    dh, da_after, weight, gates, c_before, c, dc, da, n_batch, n_hidden,
    stride_dh, stride_da, stride_c_before, stride_c,
    LAST: tl.constexpr, PRECISION: tl.constexpr, WIDEN: tl.constexpr, ACC: tl.constexpr,
    BB: tl.constexpr, BU: tl.constexpr, BR: tl.constexpr,
):  # fmt: skip
    """The same step backwards: da (B, 4 K), the gradient of what goes into the gates.

    dh (B, K) is the upstream of h as an output; da_after, the da of step t + 1 (none in the LAST
    one), brings that of h as the next step's input. dc (B, K) is the upstream of c and becomes that
    of c_before. gates, da and da_after have stride_da between rows.
    """
    rows = tl.program_id(1) * BB + tl.arange(0, BB)
    units = tl.program_id(0) * BU + tl.arange(0, BU)
    row_inside, unit_inside = rows < n_batch, units < n_hidden
    inside = row_inside[:, None] & unit_inside[None, :]
    rows = rows.to(tl.int64)
    upstream = tl.zeros((BB, BU), ACC)
    if not LAST:
        # forward: a[t + 1] = ... + h[t] @ weight
        for start in tl.range(0, 4 * n_hidden, BR):
            inner = start + tl.arange(0, BR)
            inner_inside = inner < 4 * n_hidden
            x = tl.load(
                da_after + rows[:, None] * stride_da + inner[None, :],
                mask=row_inside[:, None] & inner_inside[None, :],
                other=0,
            )
            w = tl.load(
                weight + units.to(tl.int64)[:, None] * (4 * n_hidden) + inner[None, :],
                mask=unit_inside[:, None] & inner_inside[None, :],
                other=0,
            )
            upstream = product(x, tl.trans(w), upstream, PRECISION, WIDEN)
    upstream += tl.load(dh + rows[:, None] * stride_dh + units[None, :], mask=inside, other=0)
    at = rows[:, None] * stride_da + units[None, :]
    i = tl.load(gates + at, mask=inside, other=0)
    f = tl.load(gates + at + n_hidden, mask=inside, other=0)
    g = tl.load(gates + at + 2 * n_hidden, mask=inside, other=0)
    o = tl.load(gates + at + 3 * n_hidden, mask=inside, other=0)
    old = tl.load(c_before + rows[:, None] * stride_c_before + units[None, :], mask=inside, other=0)
    tanh_c = tanh(tl.load(c + rows[:, None] * stride_c + units[None, :], mask=inside, other=0))
    # forward: h = o * tanh(c); c is read by the next step too, so its gradient has two parts
    at_dc = dc + rows[:, None] * n_hidden + units[None, :]
    dnew = tl.load(at_dc, mask=inside, other=0) + upstream * o * (1 - tanh_c * tanh_c)
    # forward: c = f * c_before + i * g
    tl.store(at_dc, dnew * f, mask=inside)
    # forward: i, f, o = sigmoid, with sigmoid' = s * (1 - s); g = tanh, with tanh' = 1 - tanh**2
    tl.store(da + at, dnew * g * i * (1 - i), mask=inside)
    tl.store(da + at + n_hidden, dnew * old * f * (1 - f), mask=inside)
    tl.store(da + at + 2 * n_hidden, dnew * i * (1 - g * g), mask=inside)
    tl.store(da + at + 3 * n_hidden, upstream * tanh_c * o * (1 - o), mask=inside)


@on_tensors
def lstm(x, state, params, *, dropout=0.0, rng=None):
    """Run each layer's cell along the sequence; a layer's outputs are the next one's inputs.

    Parameters
    ----------
    x : (B, T, C) float32 or float64
    state : {"h": (L, B, K), "c": (L, B, K)} before the first step; None for zeros
    params : list of L dicts {"weight_x": (C or K, 4 K), "weight_h": (K, 4 K), "bias": (4 K,)}
    dropout : float, the share of a layer's outputs that the next layer does not see
    rng : numpy.random.Generator or None, None turns dropout off

    Returns
    -------
    y : (B, T, K) the last layer's hidden states
    state : {"h": (L, B, K), "c": (L, B, K)} of every layer after the last step

    Raises
    ------
    ValueError
        for shapes or dtypes that do not fit, no time step, or no layer.
    """
    n_layers, n_batch, n_hidden = check_arguments(x, state, params, dropout, rng)
    if state is None:
        zeros = x.new_zeros((n_layers, n_batch, n_hidden))
        start = {"h": zeros, "c": zeros}
    else:
        start = {key: state[key].contiguous() for key in ("h", "c")}
    mode = _mode(x)
    layers, ends = [], {"h": [], "c": []}
    for layer, weights in enumerate(params):
        mask = None
        if layer > 0 and dropout and rng is not None:
            mask = _dropout_mask(x, dropout, rng)  # (B, T, K)
            x = x * mask
        now = {key: start[key][layer] for key in start}  # (B, K) each
        y, c, gates = _run_layer(x.contiguous(), now, weights, mode)
        layers.append((x.contiguous(), now, y, c, gates, mask))
        ends["h"].append(y[:, -1])
        ends["c"].append(c[:, -1])
        x = y
    end = {key: torch.stack(parts) for key, parts in ends.items()}  # (L, B, K) each
    return (x, end), (layers, params, state is not None, mode)


@on_tensors.backward
def lstm_backward(dout, cache):
    layers, params, state_given, mode = cache
    dy, dend = dout
    dend = _given_state(dend)
    shape = (len(layers), *layers[0][1]["h"].shape)
    dstate = {key: layers[0][0].new_empty(shape) for key in ("h", "c")}  # (L, B, K) each
    dparams = [None] * len(layers)
    for layer in reversed(range(len(layers))):
        x, start, y, _, _, mask = layers[layer]
        dy = torch.zeros_like(y) if dy is None else dy
        if dend["h"] is not None:
            # forward: the last h is an output twice, in y and in the state
            dy = _copy(dy)
            dy[:, -1] += dend["h"][layer]
        dc = torch.zeros_like(start["c"]) if dend["c"] is None else _copy(dend["c"][layer])
        da = _run_layer_backward(dy.contiguous(), dc, layers[layer], params[layer], mode)
        flat_da, flat_x = _factors(mode, da.flatten(0, 1), x.flatten(0, 1))  # (B T, ...)
        before = torch.cat([start["h"][:, None], y[:, :-1]], 1)  # (B, T, K): h[t - 1]
        (flat_before,) = _factors(mode, before.flatten(0, 1))
        weight_x, weight_h = _factors(mode, params[layer]["weight_x"], params[layer]["weight_h"])
        # forward: a[t] = x[t] @ weight_x + h[t - 1] @ weight_h + bias, with the same weights always
        dparams[layer] = {
            "weight_x": matmul(flat_x.T, flat_da, out_dtype=x.dtype),
            "weight_h": matmul(flat_before.T, flat_da, out_dtype=x.dtype),
            "bias": sum_over_rows(da.flatten(0, 1)),
        }
        (first,) = _factors(mode, da[:, 0].contiguous())
        dstate["h"][layer] = matmul(first, weight_h.T, out_dtype=x.dtype)
        dstate["c"][layer] = dc
        dy = matmul(flat_da, weight_x.T, out_dtype=x.dtype).view(x.shape)
        if mask is not None:
            dy = dy * mask
    return dy, dstate if state_given else None, dparams


def _run_layer(x, start, weights, mode):
    """One layer over all steps.

    Returns
    -------
    y, c : (B, T, K)
    gates : (B, T, 4 K)
    """
    (n_batch, n_steps, _), n_hidden = x.shape, weights["weight_h"].shape[0]
    rows, weight_x = _factors(mode, x.flatten(0, 1), weights["weight_x"])
    gates = matmul(rows, weight_x, bias=weights["bias"].to(rows.dtype), out_dtype=x.dtype)
    gates = gates.view(n_batch, n_steps, 4 * n_hidden)
    (weight_h,) = _factors(mode, weights["weight_h"].contiguous())
    y, c = x.new_empty((2, n_batch, n_steps, n_hidden))
    grid = _grid("lstm", n_batch, n_hidden)
    for t in range(n_steps if y.numel() else 0):
        h_before, c_before = (start["h"], start["c"]) if t == 0 else (y[:, t - 1], c[:, t - 1])
        lstm_step[grid](
            gates[:, t], weight_h, h_before, c_before, y[:, t], c[:, t], n_batch, n_hidden,
            gates.stride(0), h_before.stride(0), c_before.stride(0), y.stride(0),
            PRECISION=mode, WIDEN=interpreted(), ACC=accumulator(x.dtype),
        )  # fmt: skip
    return y, c, gates


def _run_layer_backward(dy, dc, layer, weights, mode):
    """da (B, T, 4 K) of one layer; dc (B, K), the upstream of the last c, becomes the first's."""
    _, start, y, c, gates, _ = layer
    n_batch, n_steps, n_hidden = y.shape
    da = torch.empty_like(gates)
    (weight_h,) = _factors(mode, weights["weight_h"].contiguous())
    grid = _grid("lstm_backward", n_batch, n_hidden)
    for t in reversed(range(n_steps if y.numel() else 0)):
        c_before, last = start["c"] if t == 0 else c[:, t - 1], t == n_steps - 1
        lstm_step_backward[grid](
            dy[:, t], da[:, t if last else t + 1], weight_h, gates[:, t], c_before, c[:, t], dc,
            da[:, t], n_batch, n_hidden, dy.stride(0), da.stride(0), c_before.stride(0),
            c.stride(0), LAST=last, PRECISION=mode, WIDEN=interpreted(), ACC=accumulator(dy.dtype),
        )  # fmt: skip
    return da


def _grid(name, n_batch, n_hidden):
    def grid(arguments):
        size = triton.cdiv(n_hidden, arguments["BU"]), triton.cdiv(n_batch, arguments["BB"])
        check_grid(name, size)
        return size

    return grid


def _mode(x):
    """The precision of the products of x. A T4 has no tensor cores for tf32 and no bfloat16."""
    mode = precision.current() if x.dtype == torch.float32 else "float32"
    if arch() == 75 and mode == "bf16":
        raise ValueError('lstm: precision "bf16" needs a GPU of compute capability 8.0 or more')
    return "float32" if arch() == 75 else mode


def _factors(mode, *tensors):
    """What the products read: in the mode "bf16" rounded once, before all steps."""
    return tuple(t.to(torch.bfloat16) if mode == "bf16" else t for t in tensors)


def _dropout_mask(x, p, rng):
    """The op dropout's mask: drawn on the host, one float32 for each element in C order."""
    kept = torch.from_numpy(rng.random(tuple(x.shape), dtype=np.float32) >= p)
    return kept.to(x.device, x.dtype) / (1 - p)


def _copy(tensor):
    """A copy without gaps, to be written to."""
    return tensor.clone(memory_format=torch.contiguous_format)


def _given_state(dend):
    return {"h": None, "c": None} if dend is None else dend


def configurations():
    """What the launchers compile, for each precision."""
    found = []
    sizes = dict.fromkeys(
        ("n_batch", "n_hidden", "stride_gates", "stride_h_before", "stride_c_before"), "i32:16"
    )
    strides = dict.fromkeys(("stride_dh", "stride_da", "stride_c"), "i32:16")
    data = dict.fromkeys(("gates", "h_before", "c_before", "h", "c"), "*fp32")
    backward_data = dict.fromkeys(("dh", "da_after", "dc", "da"), "*fp32")
    for mode, arches in (("float32", (75, 90)), ("tf32", (90,)), ("bf16", (80, 90))):
        constants = {"PRECISION": mode, "WIDEN": False, "ACC": tl.float32}
        weight = {"weight": "*bf16" if mode == "bf16" else "*fp32"}
        for kernel, types, more in (
            (lstm_step, data | {"stride_h": "i32:16"}, {}),
            (lstm_step_backward, data | backward_data | strides, {"LAST": False}),
        ):
            choice = kernel.choices[0]
            found.append(
                Configuration(
                    f"{kernel.__name__} {mode}",
                    kernel,
                    sizes | weight | types,
                    constants | more | choice.constants,
                    choice.num_warps,
                    choice.num_stages,
                    arches=arches,
                )
            )
    return found


register("lstm", "triton", lstm, lstm_backward)
