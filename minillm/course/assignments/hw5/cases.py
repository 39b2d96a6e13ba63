"""Arguments of the attentions and of the block; the language that the model is trained on."""

import itertools
import zlib

import numpy as np

import minillm
from minillm.models import gpt
from minillm.tree import flatten, map_leaves, unflatten

LETTERS, WORDS, LENGTHS = 16, 32, (3, 4, 5, 6)
MODEL = {"vocab_size": LETTERS, "block_size": 32, "n_layer": 1, "n_head": 4, "n_embd": 48}
TRAINING = {"steps": 400, "batch": 16, "lr": 5e-3}
STATED = 0.8  # nats a letter, on text that the model has not seen
ENTROPY = float(np.log(WORDS) / np.mean([n + 1 for n in LENGTHS]))  # of the language: 0.63


def _values(rng, *shape):
    return rng.standard_normal(shape) + 0.2


def _attention(
    rng,
    size,
    large,
    *,
    groups=False,
    causal=False,
    apart=True,
    more_keys=False,
    hidden=False,
    scale=1.0,
):
    """q, k, v and bias, of sizes that all differ; `apart`: T and S too."""
    B, G, T, S, D, E = (int(n) for n in 1 + rng.permutation(size + 6)[:6])
    G, times = min(G, 3), int(rng.integers(2, 4)) if groups else 1
    if not apart:
        S = T
    if more_keys:
        T, S = min(T, S), max(T, S)
    if large:
        B, G, T, S, D, E = (large[key] for key in ("B", "H", "T", "S", "D", "E"))
    H = times * G
    q, k, v = _values(rng, B, H, T, D), _values(rng, B, G, S, D), _values(rng, B, G, S, E)
    kwargs: dict = {"causal": True} if causal else {}
    if hidden:
        kwargs["mask"] = _mask(rng, B, H, T, S)
    if rng.random() < 0.3:
        kwargs["scale"] = 0.7
    bias = None
    if large or size == 2 or rng.random() < 0.5:
        shape = [n if rng.random() < 0.6 else 1 for n in (B, H, T, S)] if size > 2 else (B, H, T, S)
        bias = _values(rng, *((B, H, T, S) if large else shape))
    return [scale * q, scale * k, v, bias], kwargs


def _mask(rng, *shape):
    """Which pairs may meet; at least one query sees nothing."""
    mask = rng.random(shape) < 0.6
    mask.reshape(-1, shape[-1])[int(rng.integers(mask.size // shape[-1]))] = False
    return mask


def plain(rng, size, large):
    """Every query sees every key."""
    return _attention(rng, size, large)


def causal(rng, size, large):
    """As many queries as keys, none of which sees what comes after it."""
    return _attention(rng, size, large, causal=True, apart=False)


def causal_apart(rng, size, large):
    """More keys than queries: the last query sees them all."""
    return _attention(rng, size, large, causal=True, more_keys=True)


def hidden(rng, size, large):
    """A mask, with a row that hides every key."""
    return _attention(rng, size, large, hidden=True, causal=size % 2 == 0)


def grouped(rng, size, large):
    """Two or three query heads to a key head."""
    return _attention(rng, size, large, groups=True)


def steep(rng, size, large):
    """Logits of some thousands, whose exponentials are no numbers."""
    return _attention(rng, size, large, scale=1.0 if large else 60.0)


def _projection(rng, size, large, *, kv=None):
    """x and params of multi_head_attention, and its number of heads."""
    B, T, D = (int(n) for n in 1 + rng.permutation(size + 3)[:3])
    H, C = int(rng.integers(2, 4)), int(rng.integers(4, 8))
    if large:
        B, T, D, H, C = (large[key] for key in ("B", "T", "D", "H", "C"))
    G, bias = kv or H, large or size % 2 == 0
    qkv = {"weight": 0.5 * _values(rng, C, (H + 2 * G) * D)}
    out = {"weight": 0.5 * _values(rng, H * D, C)}
    if bias:
        qkv["bias"], out["bias"] = _values(rng, (H + 2 * G) * D), _values(rng, C)
    return _values(rng, B, T, C), {"qkv": qkv, "out": out}, {"n_head": H}


def self_attention(rng, size, large):
    """Queries, keys and values of one sequence."""
    x, params, kwargs = _projection(rng, size, large)
    return [x, params, None], kwargs | ({"causal": True} if rng.random() < 0.6 else {})


def fewer_keys(rng, size, large):
    """One key head to all query heads, and a mask."""
    x, params, kwargs = _projection(rng, size, large, kv=1)
    shape = x.shape[0], kwargs["n_head"], x.shape[1], x.shape[1]
    return [x, params, None], kwargs | {"n_kv_head": 1, "mask": _mask(rng, *shape)}


def context(rng, size, large):
    """Keys and values of another sequence, of another length."""
    x, params, kwargs = _projection(rng, size, large)
    other = _values(rng, x.shape[0], x.shape[1] + 2, x.shape[2])
    return [x, params, other], kwargs


def turned(rng, size, large):
    """Queries and keys with rotary positions."""
    B, T, D = (int(n) for n in 1 + rng.permutation(size + 3)[:3])
    H, C, T = 2, 5, T + 1
    if large:
        return self_attention(rng, size, large)
    qkv = {"weight": 0.5 * _values(rng, C, 3 * H * 2 * D)}
    params = {"qkv": qkv, "out": {"weight": 0.5 * _values(rng, H * 2 * D, C)}}
    kwargs: dict = {"n_head": H, "causal": True, "rotary_base": 100.0}
    if size % 2:
        kwargs["positions"] = np.cumsum(rng.integers(1, 4, T))
    return [_values(rng, B, T, C), params, None], kwargs


def _block(rng, size, large, norm, mlp):
    """x and params of transformer_block."""
    x, attention, kwargs = _projection(rng, size, large)
    C, F = x.shape[-1], large["F"] if large else int(rng.integers(8, 12))

    def gains():
        norms = {"gain": _values(rng, C)}
        return norms | ({"bias": _values(rng, C)} if norm == "layer" else {})

    names = ("up",) if mlp == "gelu" else ("gate", "up")
    layers = {name: {"weight": 0.5 * _values(rng, C, F)} for name in names}
    layers["down"] = {"weight": 0.5 * _values(rng, F, C)}
    if mlp == "gelu" and "bias" in attention["out"]:
        layers["up"]["bias"], layers["down"]["bias"] = _values(rng, F), _values(rng, C)
    params = {"norm1": gains(), "attention": attention, "norm2": gains(), "mlp": layers}
    if rng.random() < 0.4:
        kwargs["eps"] = 0.1
    return [x, params], kwargs


def gpt_block(rng, size, large):
    """GPT-2's block: layer norm and GELU."""
    return _block(rng, size, large, "layer", "gelu")


def llama_block(rng, size, large):
    """LLaMA's block: RMS norm and SwiGLU."""
    args, kwargs = _block(rng, size, large, "rms", "swiglu")
    return args, kwargs | {"norm": "rms", "mlp": "swiglu"}


def updates(rng, size):
    """Parameters, gradients for several updates in a row, and Adam's settings."""

    def nest():
        return {"weight": _values(rng, size, size + 1), "bias": _values(rng, size + 2)}

    settings = {
        "betas": [(0.9, 0.999), (0.5, 0.9)][size % 2],
        "eps": [1e-8, 0.1, 1e-3][size % 3],
    }
    return {
        "params": nest(),
        "grads": [nest() for _ in range(1 if size == 1 else 2 * size)],
        "rates": [float(r) for r in 0.1 * rng.random(2 * size)],
        "settings": settings,
    }


def first_update(rng, size):
    """One update, from the start."""
    case = updates(rng, size)
    return case | {"grads": case["grads"][:1]}


def decay(rng, size):
    """Updates of AdamW, whose own part is given."""
    case = updates(rng, size)
    return case | {"rule": "AdamW", "settings": case["settings"] | {"weight_decay": 0.3}}


def single(rng, size):
    """Updates in float32, of gradients that are only to be read."""
    case = updates(rng, size)
    return (
        case
        | {"reading": True}
        | {
            key: map_leaves(lambda x: x.astype(np.float32), case[key])
            for key in ("params", "grads")
        }
    )


def text(rng, size):
    """An invented language: 32 words of 3 to 6 letters, drawn with equal chances.

    Another one for each seed, so that no parameters can be brought along.
    """
    words: set[tuple[int, ...]] = set()
    while len(words) < WORDS:
        length = LENGTHS[len(words) % len(LENGTHS)]
        words.add(tuple(int(n) for n in rng.integers(1, LETTERS, length)))
    ids = _written(rng, sorted(words), 20_000)
    return {"text": ids, "model": MODEL, "seed": int(rng.integers(1 << 31))} | TRAINING


def _written(rng, words, n):
    """n letters of words, with the letter 0 after each."""
    drawn = rng.integers(0, len(words), n)
    letters = [letter for i in drawn for letter in (*words[i], 0)]
    return np.array(letters[:n])


def reaches(case, expected, came):
    """Whether parameters that came have the stated loss, on text that nobody has seen."""
    config = gpt.GPTConfig(**case["model"])
    like = flatten(gpt.init(config, np.random.default_rng(0)))
    try:
        found = flatten(came)
        wrong = [n for n in like if np.shape(found.get(n)) != like[n].shape]
        params = {n: np.asarray(found[n], np.float64) for n in like} if not wrong else {}
    except (TypeError, ValueError, AttributeError):
        return "training must return the parameters"
    if wrong:
        return f"training must return the parameters; {wrong[0]} has another shape"
    if not all(np.isfinite(p).all() for p in params.values()):
        return "after training, there are parameters that are not finite"
    loss = _loss(case, config, params)
    if loss <= STATED:
        return None
    return (
        f"after {case['steps']} updates the loss on new text is {loss:.2f} nats a letter; at most "
        f"{STATED} is asked, and the language itself has {ENTROPY:.2f}"
    )


def _loss(case, config, params):
    """The mean loss of the reference with these parameters, on new text of the same words."""
    text = case["text"]
    spaces = np.flatnonzero(text == 0)
    words = {tuple(map(int, text[a + 1 : b])) for a, b in itertools.pairwise(spaces)}
    rng = np.random.default_rng(zlib.crc32(text.tobytes()))
    T = config.block_size
    rows = _written(rng, sorted(words), 200 * (T + 1)).reshape(200, T + 1)
    nest = gpt.init(config, np.random.default_rng(0), np.float64)
    with minillm.backend("numpy"):
        params = unflatten(params, nest)
        loss, _ = gpt.loss(params, ids=rows[:, :-1], targets=rows[:, 1:], config=config)
    return float(loss)
