"""What hw6's functions are called with, and how what comes back is judged.

The Triton kernel is compared with plain attention in float64, written out here: the grader needs no
Triton.
"""

import numpy as np

BLOCKS = (1, 2, 3, 5, 7, 16, 128)
LONG = 4000  # queries and keys: (LONG, LONG) float64 are 128 MB
SPARE = 110  # MB that are left for a call on them, a tenth of which is enough


def _values(rng, *shape):
    return rng.standard_normal(shape) + 0.2


def _attention(rng, size, large, *, causal=False, hidden=False, bias=False, scale=1.0):
    """q, k, v and bias, of sizes that all differ, and a block that seldom divides them."""
    B, G, T, S, D, E = (int(n) for n in 1 + rng.permutation(size + 6)[:6])
    G, times = min(G, 3), int(rng.integers(1, 3))
    if size > 2:
        T, S = T + 2 * size, S + 3 * size
    if large:
        B, G, T, S, D, E = (large[key] for key in ("B", "H", "T", "S", "D", "E"))
    H = times * G
    q, k, v = _values(rng, B, H, T, D), _values(rng, B, G, S, D), _values(rng, B, G, S, E)
    kwargs: dict = {"block": 128 if large else int(rng.choice(BLOCKS))}
    if causal:
        kwargs["causal"] = True
    if hidden:
        mask = rng.random((B, H, T, S)) < 0.6
        mask[0, 0, int(rng.integers(T))] = False  # at least one query sees nothing
        kwargs["mask"] = mask
    if rng.random() < 0.3:
        kwargs["scale"] = 0.7
    added = None
    if large or bias:
        full = (B, H, T, S)
        added = _values(rng, *(n if large or rng.random() < 0.6 else 1 for n in full))
    return [scale * q, scale * k, v, added], kwargs


def plain(rng, size, large):
    """Every query sees every key; some blocks are larger than everything."""
    return _attention(rng, size, large)


def biased(rng, size, large):
    """With a bias, some of whose axes have length 1."""
    return _attention(rng, size, large, bias=True)


def causal(rng, size, large):
    """As many, more or fewer queries than keys; the last query sees all keys."""
    return _attention(rng, size, large, causal=True)


def hidden(rng, size, large):
    """A mask, with a query that sees no key."""
    return _attention(rng, size, large, hidden=True, causal=size % 2 == 0)


def steep(rng, size, large):
    """Logits of some thousands, in no order: the peak rises from block to block."""
    return _attention(rng, size, large, scale=1.0 if large else 50.0)


def single(rng, size):
    """The same in float32."""
    args, kwargs = _attention(rng, size, None)
    args = [None if x is None else x.astype(np.float32) for x in args]
    names = {"module": "flash_attention", "function": "flash_attention"}
    return names | {"args": args, "kwargs": kwargs}


def unseen(rng, size):
    """Values that are no numbers, in keys that no query of the first blocks may see."""
    block = int(rng.integers(2, 6))
    T = block * int(rng.integers(3, 6))
    S = T + int(rng.integers(0, 3)) * block
    q, k, v = (_values(rng, 1, 2, n, 3) for n in (T, S, S))
    v[:, :, S - block :] = np.nan
    return {
        "module": "flash_attention",
        "function": "flash_attention",
        "args": [q, k, v],
        "kwargs": {"causal": True, "block": block},
    }


def untouched(case, expected, came):
    """The rows that see only numbers are numbers, and the right ones."""
    out = came.get("out") if isinstance(came, dict) else None
    wanted = expected["out"]
    if not isinstance(out, np.ndarray) or out.shape != wanted.shape or out.dtype.kind != "f":
        return f"no output of shape {wanted.shape} came back"
    rows = np.isfinite(wanted)
    if np.isnan(out[rows]).any():
        t = int(np.argwhere(np.isnan(out) & rows)[0][2])
        block, S = case["kwargs"]["block"], case["args"][1].shape[2]
        return (
            f"out[:, :, {t}] is nan, where only the values of the last {block} keys of {S} are: "
            "causal, no query of that block sees any of them, and a weight of 0 times nan is nan. "
            "Such a block of keys must not be read at all"
        )
    if not np.allclose(out[rows], wanted[rows], rtol=1e-9, atol=1e-9):
        return "the rows that see only numbers are not what plain attention gives"
    return None


def long(rng, size):
    """So many queries and keys that their (T, S) weights do not fit."""
    args = [_values(rng, 1, 1, LONG, 2) for _ in range(3)]
    return {
        "module": "flash_attention", "function": "flash_attention", "args": [*args, None],
        "kwargs": {"block": 128, "causal": True}, "gradients": ["dq", "dk", "dv", "dbias"],
        "dout": _values(rng, 1, 1, LONG, 2), "spare": SPARE,
    }  # fmt: skip


def long_forward(rng, size):
    """The same without a backward."""
    return long(rng, size) | {"only": "out"}


def lean(case, expected, came):
    """The same numbers as ever, in little memory."""
    if isinstance(came, dict) and "memory" in came:
        return (
            f"out of memory at T = S = {LONG}: {SPARE} MB were left, and (T, S) float64 numbers "
            f"are {LONG * LONG * 8 // 10**6} MB. Hold a block of weights, not all of them"
        )
    for name, wanted in expected.items():
        got = came.get(name) if isinstance(came, dict) else None
        if wanted is None:
            continue
        if not isinstance(got, np.ndarray) or got.shape != wanted.shape or got.dtype.kind != "f":
            return f"{name} has not the shape {wanted.shape}"
        if not np.allclose(got, wanted, rtol=1e-8, atol=1e-9):
            return f"{name} is wrong at T = S = {LONG}"
    return None


def _kernel(rng, size, *, causal=False, block=16, spread=1.0, shape=None):
    """q, k, v for the Triton kernel: float32, sizes that no block divides."""
    B, H = (int(n) for n in 1 + rng.permutation(3)[:2])
    T, S, D = (int(n) for n in rng.permutation(np.arange(3, 9))[:3] * size + 1)
    if shape:
        B, H, T, S, D = shape
    q, k, v = (_values(rng, B, H, n, D).astype(np.float32) for n in (T, S, S))
    return {
        "q": np.float32(spread) * q, "k": np.float32(spread) * k, "v": v, "causal": causal,
        "scale": float(rng.uniform(0.5, 1.5) / np.sqrt(D)), "block": block,
    }  # fmt: skip


def kernel_plain(rng, size):
    """Several blocks, the last of them not full."""
    return _kernel(rng, 2 * size, block=16 if size < 3 else 32)


def kernel_causal(rng, size):
    """Causal with as many, more and fewer queries than keys."""
    return _kernel(rng, 2 * size, causal=True)


def kernel_edges(rng, size):
    """One query, one key, one number a head."""
    shapes = ((1, 1, 1, 1, 1), (2, 1, 1, 20, 3), (1, 2, 33, 1, 5), (1, 1, 16, 16, 16))
    return _kernel(rng, 1, shape=shapes[size - 1], causal=size == 4)


def kernel_steep(rng, size):
    """Logits of some thousands."""
    return _kernel(rng, 4, spread=40.0)


def attended(case, expected, came):
    """out and log_sum of the kernel, against float64."""
    q, k, v = (case[name].astype(np.float64) for name in ("q", "k", "v"))
    (_, _, T, D), S = q.shape, k.shape[2]
    logits = case["scale"] * (q @ k.swapaxes(-1, -2))  # (B, H, T, S)
    if case["causal"]:
        logits = np.where(np.tri(T, S, S - T, dtype=bool), logits, -np.inf)
    peak = logits.max(-1, keepdims=True)
    finite = np.where(peak == -np.inf, 0, peak)
    weights = np.exp(logits - finite)
    total = weights.sum(-1, keepdims=True)
    seen = total > 0
    total = np.where(seen, total, 1)
    wanted = {
        "out": weights / total @ v,
        "log_sum": np.where(seen, finite + np.log(total), 0)[..., 0],
    }
    # As far as float32 can be off: a logit by its D products, an output by S such weights.
    eps = float(np.finfo(np.float32).eps)
    sizes = np.abs(case["scale"]) * (np.abs(q) @ np.abs(k).swapaxes(-1, -2)).max()
    logit = (D + 8) * eps * float(sizes)
    most = {"out": (2 * logit + (S + 8) * eps) * float(np.abs(v).max())}
    most["log_sum"] = logit + (S + 8) * eps + 8 * eps * float(np.abs(wanted["log_sum"]).max())
    for name, exact in wanted.items():
        got = came.get(name) if isinstance(came, dict) else None
        if not isinstance(got, np.ndarray) or got.shape != exact.shape or got.dtype.kind != "f":
            return f"{name} did not come back"
        wrong = ~(np.abs(got - exact) <= most[name])
        if wrong.any():
            at = tuple(int(n) for n in np.argwhere(wrong)[0])
            told = "was never written" if np.isnan(got[at]) else f"is {got[at]:.6g}"
            kind = "causal, " if case["causal"] else ""
            return (
                f"{name}{list(at)} {told}, expected {exact[at]:.6g}; {int(wrong.sum())} of "
                f"{wrong.size} are wrong ({kind}T={T} S={S} D={D} BLOCK={case['block']})"
            )
    return None
