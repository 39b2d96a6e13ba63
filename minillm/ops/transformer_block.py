"""A pre-norm transformer block (Radford et al. 2019, GPT-2, section 2.3; Xiong et al. 2020,
arXiv:2002.04745, fig. 1b), with RMSNorm, rotary positions, SwiGLU and grouped heads as LLaMA has
them (Touvron et al. 2023, arXiv:2302.13971, section 2.2).

Left out: the post-norm block of the original transformer; cross attention.
"""

from minillm.ops._op import check_shape, op
from minillm.ops._params import pick, put_back
from minillm.ops.add_layer_norm import add_layer_norm
from minillm.ops.add_rms_norm import add_rms_norm
from minillm.ops.dropout import dropout as drop
from minillm.ops.layer_norm import layer_norm
from minillm.ops.mlp_gelu import mlp_gelu
from minillm.ops.multi_head_attention import multi_head_attention
from minillm.ops.rms_norm import rms_norm
from minillm.ops.swiglu import swiglu

PARTS = {"norm1", "attention", "norm2", "mlp"}
# kind -> the op, the same op with the residual added first, and the names of its parameters
NORMS = {
    "layer": (layer_norm, add_layer_norm, ("gain", "bias")),
    "rms": (rms_norm, add_rms_norm, ("gain",)),
}
# kind -> the op, the names of its parameters, and those of them that may be None
MLPS = {
    "gelu": (
        mlp_gelu,
        ("up.weight", "up.bias", "down.weight", "down.bias"),
        ("up.bias", "down.bias"),
    ),
    "swiglu": (swiglu, ("gate.weight", "up.weight", "down.weight"), ()),
}


@op
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
    """Let the rows look at each other, then think each for itself; both add to a running sum.

    Equation: h = x + attention(norm1(x)); y = h + mlp(norm2(h))

    Parameters
    ----------
    x : (B, T, C)
    params : dict, {"norm1": {"gain": (C,), "bias": (C,)}, "attention": see multi_head_attention,
        "norm2": as norm1, "mlp": {"up": {"weight": (C, F), "bias": (F,) or None},
        "down": {"weight": (F, C), "bias": (C,) or None}}}; norms of kind "rms" have no bias, a
        "swiglu" mlp has one more weight, "gate": {"weight": (C, F)}, and no biases
    n_head, n_kv_head, causal, mask, rotary_base, positions : see multi_head_attention
    norm : str, "layer" or "rms"
    mlp : str, "gelu" (its tanh form, as in GPT-2) or "swiglu"
    eps : float, for the norms
    dropout : float, probability with which a channel of what is added to x is dropped
    attention_dropout : float, the same for an attention weight
    rng : numpy.random.Generator or None (no dropout)

    Returns
    -------
    y : (B, T, C)

    Raises
    ------
    ValueError
        for another norm or mlp, or shapes that do not fit together.
    """
    if norm not in NORMS:
        raise ValueError(f"norm must be 'layer' or 'rms', got {norm!r}")
    if mlp not in MLPS:
        raise ValueError(f"mlp must be 'gelu' or 'swiglu', got {mlp!r}")
    check_shape("x", x, (None, None, None))
    if params.keys() != PARTS:
        raise ValueError(f"params must hold {sorted(PARTS)}, got {sorted(params)}")
    norm_op, add_norm_op, norm_names = NORMS[norm]
    mlp_op, mlp_names, mlp_optional = MLPS[mlp]
    norm1 = pick("params norm1", params["norm1"], norm_names)
    norm2 = pick("params norm2", params["norm2"], norm_names)
    weights = pick("params mlp", params["mlp"], mlp_names, mlp_optional)

    normed1, cache_norm1 = norm_op(x, *norm1, eps=eps)  # (B, T, C), and so are all that follow
    attended, cache_attention = multi_head_attention(
        normed1,
        params["attention"],
        n_head=n_head,
        n_kv_head=n_kv_head,
        causal=causal,
        mask=mask,
        rotary_base=rotary_base,
        positions=positions,
        dropout=attention_dropout,
        rng=rng,
    )
    attended, cache_drop1 = drop(attended, p=dropout, rng=rng)
    (normed2, total), cache_norm2 = add_norm_op(attended, x, *norm2, eps=eps)
    thought, cache_mlp = mlp_op(normed2, *weights)
    thought, cache_drop2 = drop(thought, p=dropout, rng=rng)
    caches = cache_norm1, cache_attention, cache_drop1, cache_norm2, cache_mlp, cache_drop2
    return total + thought, (params, norm, mlp, caches)


@transformer_block.defbackward
def transformer_block_backward(dy, cache):
    params, norm, mlp, caches = cache
    cache_norm1, cache_attention, cache_drop1, cache_norm2, cache_mlp, cache_drop2 = caches
    norm_op, add_norm_op, norm_names = NORMS[norm]
    mlp_op, mlp_names, _ = MLPS[mlp]
    # forward: y = total + dropout(mlp(normed2))
    dthought = drop.backward(dy, cache_drop2)
    dnormed2, *dweights = mlp_op.backward(dthought, cache_mlp)
    # forward: normed2, total = add_norm(dropout(attention(normed1)), x)
    dattended, dx, *dnorm2 = add_norm_op.backward((dnormed2, dy), cache_norm2)
    dattended = drop.backward(dattended, cache_drop1)
    dnormed1, dattention, _ = multi_head_attention.backward(dattended, cache_attention)
    # forward: normed1 = norm(x); x also went straight into total
    dx_norm1, *dnorm1 = norm_op.backward(dnormed1, cache_norm1)
    dparams = {
        "norm1": put_back(params["norm1"], norm_names, dnorm1),
        "attention": dattention,
        "norm2": put_back(params["norm2"], norm_names, dnorm2),
        "mlp": put_back(params["mlp"], mlp_names, dweights),
    }
    return dx + dx_norm1, {part: dparams[part] for part in params}
