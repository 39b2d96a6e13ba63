"""What the two attentions share: their argument checks, the masks, and the grouping of heads."""

import numpy as np

from minillm.ops._op import check_shape


def check_attention(q, k, v, bias, mask):
    """Refuse arguments that do not fit together; nothing is broadcast but bias and mask.

    Raises
    ------
    ValueError
        naming the argument, what came and what was expected.
    """
    check_shape("q", q, (None, None, None, None))
    check_shape("k", k, (q.shape[0], None, None, q.shape[3]))
    check_shape("v", v, (q.shape[0], k.shape[1], k.shape[2], None))
    heads, groups, keys = q.shape[1], k.shape[1], k.shape[2]
    if groups == 0 or heads % groups:
        raise ValueError(f"q must have a multiple of k's {groups} heads, got {heads}")
    if keys == 0:
        raise ValueError(f"k must hold at least one key, got shape {k.shape}")
    full = (*q.shape[:3], keys)
    if bias is not None:
        _check_broadcast("bias", bias, full)
    if mask is not None:
        if mask.dtype != np.bool_:
            raise ValueError(f"mask must be an array of bool, got dtype {mask.dtype}")
        _check_broadcast("mask", mask, full)


def _check_broadcast(name, array, full):
    if array.ndim != 4 or any(n not in (1, m) for n, m in zip(array.shape, full, strict=True)):
        raise ValueError(f"{name} must have shape {full}, or 1 in any place, got {array.shape}")


def regroup(x, heads):
    """Share out the same rows over another number of heads.

    With G < H heads, query head h reads key head h // (H // G): the H // G query heads of a group
    lie next to each other, so (B, H, T, D) read as (B, G, H // G * T, D) meets its keys in one
    matrix product, and the keys need no copies.
    """
    batch, given, rows, width = x.shape
    return x.reshape(batch, heads, given * rows // heads, width)


def hide(logits, mask, diagonal):
    """Give the logits of pairs that must not meet the value -inf, whose exponential is 0.

    Parameters
    ----------
    logits : (B, H, T, S)
    mask : None or bool, its dims those of logits or 1; True = may attend
    diagonal : None (not causal) or int: query t may see the keys s <= t + diagonal

    Returns
    -------
    logits : (B, H, T, S)
    """
    if mask is not None:
        logits = np.where(mask, logits, -np.inf)
    if diagonal is not None:
        T, S = logits.shape[-2:]
        past = np.tri(T, S, diagonal, dtype=bool, like=logits)  # (T, S)
        logits = np.where(past, logits, -np.inf)
    return logits
