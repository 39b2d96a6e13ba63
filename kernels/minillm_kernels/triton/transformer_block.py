"""A transformer block whose inside is bfloat16 and whose border is float32.

Op by op, every array at an op's border has the float32 of the op's input: under precision "bf16" a
norm writes 4 bytes a number, the next product reads them to write 2 in a pass of its own, attention
and MLP write 4 for a residual sum to read, and each backward rounds its upstream again. Here x, the
residual sums and y stay float32, and what one kernel hands to the next is bfloat16 from the start:

- norms write what the products read, 2 bytes; the sum before the second one is in its pass;
- the last product adds the residual sum and writes y: no array of the MLP's own result;
- backward rounds dy once, in the pass that sums it for the last bias; the second norm's backward
  adds the residual's gradient, writes it as float32 for the sum and as bfloat16 for the products,
  and sums its columns for the bias of attention's last product; the first norm's adds it again.

Bytes between the products for each number of x (N C of them, N = B T), GPT-2's form:

                                         op by op   here
    norm 1, and its rounding                 14       6
    attention's result, written               4       2
    sum and norm 2, and its rounding         22      12
    MLP's result and sum; y                  16       8
    dy, rounded and summed for a bias         6       6
    dnormed of norm 2, and its backward      20      18
    its dx, rounded and summed for a bias     6       0
    dnormed of norm 1, and its backward      16      16
    the sum of two dx                        12       0
    total                                   116      68

At N = 16384, C = 768 that is 48 N C = 604 MB less a block, 0.18 ms at 3.35 TB/s: 2.2 ms of GPT-2
124M's step with its 12 blocks, beside 14 ms of arithmetic at 990 TFLOP/s. That is a count: not yet
measured. The weights are rounded once a step either way, 7.1 million numbers of 6 bytes a block,
here by one launch.

All that is not bf16 over float32 arrays, dropout in training, and whatever does not fit together is
the reference's, whose parts still run on the kernels.
"""

import numpy as np
import torch

from minillm.ops._op import register
from minillm.ops._params import pick, put_back
from minillm.ops.multi_head_attention import NAMES
from minillm.ops.transformer_block import MLPS, NORMS, PARTS
from minillm_kernels import precision
from minillm_kernels.arrays import on_tensors
from minillm_kernels.triton import _device as device
from minillm_kernels.triton import _norm, mlp_gelu, multi_head_attention, swiglu
from minillm_kernels.triton._attention_check import reference
from minillm_kernels.triton._sums import round_rows

__all__ = ["configurations", "transformer_block", "transformer_block_backward"]

BY_KIND = {"gelu": mlp_gelu, "swiglu": swiglu}
OPTIONAL = ("qkv.bias", "out.bias")
NARROW = torch.bfloat16


def transformer_block(
    x,
    params,
    *,
    n_head,
    n_kv_head=None,
    norm="layer",
    mlp="gelu",
    causal=True,
    mask=None,
    rotary_base=None,
    positions=None,
    eps=1e-5,
    dropout=0.0,
    attention_dropout=0.0,
    rng=None,
):
    kwargs = {
        "n_head": n_head,
        "n_kv_head": n_kv_head,
        "norm": norm,
        "mlp": mlp,
        "causal": causal,
        "mask": mask,
        "rotary_base": rotary_base,
        "positions": positions,
        "eps": eps,
    }
    if _serves(x, params, norm, mlp) and _drops_nothing(dropout, attention_dropout, rng):
        y, saved = _forward(x, params, **kwargs)
        return y, ("triton", saved)
    drops = {"dropout": dropout, "attention_dropout": attention_dropout, "rng": rng}
    y, saved = reference("transformer_block")[0](x, params, **kwargs, **drops)
    return y, ("reference", saved)


def transformer_block_backward(dy, cache):
    by, saved = cache
    if by == "reference":
        return reference("transformer_block")[1](dy, saved)
    return _backward(dy, saved)


def _serves(x, params, norm, mlp):
    """Whether x is rows to be computed on in bfloat16, and the kinds and parts are known."""
    return (
        precision.current() == "bf16"
        and str(x.dtype).removeprefix("torch.") == "float32"
        and x.ndim == 3
        and 0 not in x.shape
        and norm in NORMS
        and mlp in MLPS
        and params.keys() == PARTS
        and device.arch() >= 80
    )


def _drops_nothing(dropout, attention_dropout, rng):
    """Whether there is no dropout, and nothing about it to refuse."""
    if rng is not None and not isinstance(rng, np.random.Generator):
        return False
    return all(p == 0 or (rng is None and 0 <= p < 1) for p in (dropout, attention_dropout))


@on_tensors
def _forward(x, params, *, n_head, n_kv_head, norm, mlp, eps, **options):
    op_name, names = "transformer_block", NORMS[norm][2]
    _, mlp_names, mlp_optional = MLPS[mlp]
    norm1 = pick("params norm1", params["norm1"], names)
    norm2 = pick("params norm2", params["norm2"], names)
    attention = pick("params", params["attention"], NAMES, OPTIONAL)
    weights = pick("params mlp", params["mlp"], mlp_names, mlp_optional)
    sizes = multi_head_attention.head_sizes(x, params["attention"], n_head, n_kv_head)
    BY_KIND[mlp].check(x, *weights)
    gain1, bias1 = [*norm1, None][:2]
    gain2, bias2 = [*norm2, None][:2]
    _norm.check(op_name, x, None, gain1, bias1)
    _norm.check(op_name, x, None, gain2, bias2)
    attention, weights = rounded(attention, weights)

    normed1, _, saved_norm1 = _norm.launch_forward(op_name, x, None, gain1, bias1, eps, NARROW)
    attended, saved_attention = multi_head_attention.on_rows(
        normed1.flatten(0, 1), None, attention, len(x), sizes, **options, precision="ieee"
    )
    normed2, total, saved_norm2 = _norm.launch_forward(
        op_name, x, attended, gain2, bias2, eps, NARROW
    )
    last = {"epilogue": "add", "other": total.flatten(0, 1), "out_dtype": total.dtype}
    y, saved_mlp = BY_KIND[mlp].on_rows(normed2.flatten(0, 1), *weights, **last)
    return y.view(x.shape), (
        params, norm, mlp, saved_norm1, saved_attention, saved_norm2, saved_mlp,
    )  # fmt: skip


@on_tensors.backward
def _backward(dy, cache):
    params, norm, mlp, saved_norm1, saved_attention, saved_norm2, saved_mlp = cache
    op_name, names, mlp_names = "transformer_block_backward", NORMS[norm][2], MLPS[mlp][1]
    attention = dtypes_of(pick("params", params["attention"], NAMES, OPTIONAL))
    weights = dtypes_of(pick("params mlp", params["mlp"], mlp_names, mlp_names))
    shape, dy = dy.shape, dy.reshape(-1, dy.shape[-1])
    # forward: y = total + mlp(normed2), a bias of the last product among it
    last_bias = weights.pop() if mlp == "gelu" else None
    dy_narrow, dbias = round_rows(dy, NARROW, last_bias)
    dnormed2, *dweights = BY_KIND[mlp].on_rows_backward(dy_narrow, saved_mlp, [NARROW, *weights])
    if mlp == "gelu":
        dweights.append(dbias)
    # forward: total = x + attended, normed2 = norm(total)
    dattended = torch.empty_like(dy_narrow)
    dtotal, *dnorm2, sums = _norm.launch_backward(
        op_name, dnormed2, dy, saved_norm2, rounded=dattended
    )
    # forward: attended = attention(normed1), its last bias added to every row
    dnormed1, _, *dattention = multi_head_attention.on_rows_backward(
        dattended, saved_attention, [NARROW, *attention[:3]]
    )
    dattention.append(None if attention[3] is None else sums.to(attention[3]))
    # forward: normed1 = norm(x); x also went straight into total
    dx, *dnorm1, _ = _norm.launch_backward(op_name, dnormed1, dtotal, saved_norm1)
    dparams = {
        "norm1": put_back(params["norm1"], names, dnorm1[: len(names)]),
        "attention": put_back(params["attention"], NAMES, dattention),
        "norm2": put_back(params["norm2"], names, dnorm2[: len(names)]),
        "mlp": put_back(params["mlp"], mlp_names, dweights),
    }
    return dx.view(shape), dparams


def rounded(*groups):
    """Lists of arrays with their matrices in bfloat16, made by one launch; vectors stay."""
    matrices = [t for group in groups for t in group if t is not None and t.ndim == 2]
    narrow = [torch.empty(t.shape, dtype=NARROW, device=t.device) for t in matrices]
    torch._foreach_copy_(narrow, matrices)
    made = iter(narrow)
    return [[next(made) if t is not None and t.ndim == 2 else t for t in group] for group in groups]


def dtypes_of(arrays):
    return [None if t is None else t.dtype for t in arrays]


register("transformer_block", "triton", transformer_block, transformer_block_backward)


def configurations():
    """What is compiled here alone: norms of float32 rows beside bfloat16 ones."""
    return [*_norm.compiled_in_block(centred=True), *_norm.compiled_in_block(centred=False)]
