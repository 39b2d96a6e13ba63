"""Generation with a GPT as gpt_step.py has it, written with the ops alone.

On a GPU the ops are kernels, and what makes gpt_step.py fast on a CPU (writing in place, few calls
of NumPy) would only keep them from being used. A step computes the new rows and reads the old keys
and values from `past` (Shazeer 2019, arXiv:1911.02150, section 2.3).
"""

import numpy as np

from minillm.ops import embedding, flash_attention, linear, rotary
from minillm.ops._params import pick
from minillm.ops.multi_head_attention import join_heads, split_heads
from minillm.ops.transformer_block import MLPS, NORMS

__all__ = ["reorder", "start", "step"]


def start(params, config, batch):
    """The past of `batch` texts of which nothing has been read.

    Returns
    -------
    past : {"length": int, "heads": (L, 2, B, G, block_size, D)}, each layer's keys and values
    """
    shape = config.n_layer, 2, batch, config.kv_heads, config.block_size, config.head_size
    wte = params["wte"]
    return {"length": 0, "heads": np.zeros(shape, wte.dtype, like=wte)}


def step(params, past, *, ids, config):
    """Read ids (B, n), n >= 1, and score what follows: logits (B, V). Moves `past` on.

    Raises
    ------
    ValueError
        for more ids than the block has room for.
    """
    begin, end = past["length"], past["length"] + ids.shape[1]
    if end > config.block_size:
        raise ValueError(
            f"{begin} ids read and {end - begin} more do not fit block_size {config.block_size}"
        )
    positions = np.arange(begin, end, like=ids)
    x, _ = embedding(params["wte"], ids=ids)  # (B, n, C)
    if "wpe" in params:
        x = x + embedding(params["wpe"], ids=positions)[0]
    norm_op, add_norm_op, names = NORMS[config.norm]
    mlp_op, mlp_names, optional = MLPS[config.mlp]
    for block, heads in zip(params["blocks"], past["heads"], strict=True):
        gains = [pick("params norm", block[part], names) for part in ("norm1", "norm2")]
        normed, _ = norm_op(x, *gains[0], eps=config.eps)
        attended = _attend(normed, block["attention"], heads, positions, begin, config)
        (normed, x), _ = add_norm_op(attended, x, *gains[1], eps=config.eps)
        x = x + mlp_op(normed, *pick("params mlp", block["mlp"], mlp_names, optional))[0]
    past["length"] = end
    last, _ = norm_op(x[:, -1], *pick("params norm", params["norm"], names), eps=config.eps)
    return linear(last, params.get("head", params["wte"]).T)[0]  # (B, V)


def reorder(past, index):
    """A new past whose text number b is the old one's number index[b]."""
    return past | {"heads": past["heads"][:, :, index]}


def _attend(x, params, heads, positions, begin, config):
    """Attention of the new rows to all before them and themselves; they join `heads`."""
    H, G, end = config.n_head, config.kv_heads, begin + x.shape[1]
    qkv, _ = linear(x, params["qkv"]["weight"], params["qkv"].get("bias"))  # (B, n, (H + 2G) D)
    q, k, v = np.split(split_heads(qkv, H + 2 * G), (H, H + G), axis=1)  # (B, H or G, n, D)
    if config.position == "rotary":
        turn = {"positions": positions, "base": config.rotary_base}
        q, k = rotary(q, **turn)[0], rotary(k, **turn)[0]
    keys, values = heads
    keys[:, :, begin:end], values[:, :, begin:end] = k, v
    mixed, _ = flash_attention(q, keys[:, :, :end], values[:, :, :end], causal=True)
    return linear(join_heads(mixed), params["out"]["weight"], params["out"].get("bias"))[0]
