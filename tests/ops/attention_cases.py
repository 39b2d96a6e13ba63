"""What the attention tests share: drawn cases, and two independent ways to compute attention."""

import math

import numpy as np
import torch
from hypothesis import strategies as st

from tests.ops.harness import randn, rng_of


@st.composite
def attention_cases(draw, *, longest=5):
    """Shapes, flags and a seed; lengths of 1, T > S and fully masked rows are drawn often."""
    kv_heads = draw(st.sampled_from([1, 2]))
    lengths = st.integers(1, longest)

    def ones_of_four():  # which of the four axes are 1, hence broadcast
        return draw(st.one_of(st.none(), st.tuples(*[st.booleans()] * 4)))

    return {
        "batch": draw(st.sampled_from([1, 2])),
        "heads": kv_heads * draw(st.sampled_from([1, 3])),
        "kv_heads": kv_heads,
        "queries": draw(lengths),
        "keys": draw(lengths),
        "width": draw(st.sampled_from([1, 2, 4])),
        "value_width": draw(st.sampled_from([1, 3])),
        "causal": draw(st.booleans()),
        "scale": draw(st.sampled_from([None, 0.7])),
        "bias": ones_of_four(),
        "mask": ones_of_four(),
        "seed": draw(st.integers(0, 2**32 - 1)),
    }


def build(case):
    """(q, k, v, bias) and the keyword arguments of a drawn case."""
    rng = rng_of("attention", case)
    B, H, G, T, S = (case[n] for n in ("batch", "heads", "kv_heads", "queries", "keys"))
    q, k = randn(rng, B, H, T, case["width"]), randn(rng, B, G, S, case["width"])
    v = randn(rng, B, G, S, case["value_width"])

    def shape(ones):
        return tuple(1 if one else n for one, n in zip(ones, (B, H, T, S), strict=True))

    bias = None if case["bias"] is None else randn(rng, *shape(case["bias"]))
    mask = None
    if case["mask"] is not None:
        mask = rng.random(shape(case["mask"])) < 0.6
        mask[-1, -1, 0, :] = False  # some query's whole row
    return (q, k, v, bias), {"causal": case["causal"], "mask": mask, "scale": case["scale"]}


def allowed_pairs(shape, causal, mask):
    """Which query may see which key, pair by pair: bool (B, H, T, S)."""
    allowed = np.ones(shape, bool)
    T, S = shape[2:]
    for b, h, t, s in np.ndindex(shape):
        if causal and s - t > S - T:
            allowed[b, h, t, s] = False
        if mask is not None:
            index = tuple(0 if n == 1 else i for n, i in zip(mask.shape, (b, h, t, s), strict=True))
            allowed[b, h, t, s] &= bool(mask[index])
    return allowed


def torch_attention(*, causal=False, mask=None, scale=None, kept=None):
    """Attention by torch: its own function, or loops where a row is masked or weights are dropped.

    kept : None or float (B, H, T, S), what each weight is multiplied by after the softmax
    """

    def oracle(q, k, v, bias):
        ratio = q.shape[1] // k.shape[1]
        k, v = k.repeat_interleave(ratio, 1), v.repeat_interleave(ratio, 1)
        shape = (*q.shape[:3], k.shape[2])
        allowed = allowed_pairs(shape, causal, mask)
        added = torch.zeros(shape, dtype=q.dtype) if bias is None else bias.expand(shape)
        if kept is None and allowed.any(-1).all():
            added = added.masked_fill(torch.tensor(~allowed), -math.inf)
            attend = torch.nn.functional.scaled_dot_product_attention
            return attend(q, k, v, attn_mask=added, scale=scale)
        return loops(q, k, v, added, allowed, scale, kept)

    return oracle


def loops(q, k, v, added, allowed, scale, kept):
    """Row by row over the keys that a query may see, and no others."""
    scale = q.shape[-1] ** -0.5 if scale is None else scale
    out = torch.zeros(*q.shape[:3], v.shape[-1], dtype=q.dtype) + 0 * q.sum()  # with a graph
    for b, h, t in np.ndindex(*q.shape[:3]):
        seen = np.flatnonzero(allowed[b, h, t]).tolist()
        if seen:
            logits = scale * k[b, h, seen] @ q[b, h, t] + added[b, h, t, seen]
            weights = torch.exp(logits) / torch.exp(logits).sum()
            if kept is not None:
                weights = weights * torch.tensor(kept[b, h, t, seen])
            out[b, h, t] = weights @ v[b, h, seen]
    return out


def projections(rng, channels, heads, kv_heads, width, *, bias=True):
    """Parameters of multi_head_attention, every one off its initial value."""
    columns = (heads + 2 * kv_heads) * width

    def part(rows, n):
        weight = randn(rng, rows, n) / math.sqrt(rows)
        return {"weight": weight, "bias": randn(rng, n) if bias else None}

    return {"qkv": part(channels, columns), "out": part(heads * width, channels)}


def torch_multi_head(*, n_head, n_kv_head, causal=False, mask=None, rotary_base=None, kept=None):
    """Multi-head attention composed of torch's own parts, for x, params, context."""

    def oracle(x, params, context):
        W, b = params["qkv"]["weight"], params["qkv"]["bias"]
        source = x if context is None else context
        width = W.shape[1] // (n_head + 2 * n_kv_head)
        cuts = [n_head * width, n_kv_head * width, n_kv_head * width]
        W_q, W_k, W_v = W.T.split(cuts)
        b_q, b_k, b_v = (None,) * 3 if b is None else b.split(cuts)
        rows = torch.nn.functional.linear

        def heads(y, n):
            return y.unflatten(-1, (n, width)).transpose(1, 2)

        q, k = heads(rows(x, W_q, b_q), n_head), heads(rows(source, W_k, b_k), n_kv_head)
        v = heads(rows(source, W_v, b_v), n_kv_head)
        if rotary_base is not None:
            q, k = torch_rotary(q, rotary_base), torch_rotary(k, rotary_base)
        mixed = torch_attention(causal=causal, mask=mask, kept=kept)(q, k, v, None)
        out = params["out"]
        return rows(mixed.transpose(1, 2).flatten(2), out["weight"].T, out["bias"])

    return oracle


def torch_rotary(x, base, positions=None):
    """Each pair of channels as one complex number, times exp(i angle)."""
    T, half = x.shape[-2], x.shape[-1] // 2
    positions = torch.arange(T) if positions is None else torch.tensor(positions)
    speed = torch.tensor([base ** (-2 * i / x.shape[-1]) for i in range(half)], dtype=x.dtype)
    spin = torch.exp(1j * positions[:, None] * speed)
    y = torch.complex(x[..., :half], x[..., half:]) * spin
    return torch.cat([y.real, y.imag], -1)
