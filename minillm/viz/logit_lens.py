"""The logit lens (nostalgebraist 2020, "interpreting GPT: the logit lens"): what a GPT would say
if it stopped after each layer.

Every block adds to one running sum, and the last norm and the output weights turn the final sum
into logits. Here they are given the sum as it is after 0, 1, ... L blocks.
"""

import numpy as np
from matplotlib.patches import Rectangle

from minillm import backend, trace
from minillm.models.gpt import gpt_hidden, head_name
from minillm.ops import linear, softmax
from minillm.ops._params import pick
from minillm.ops.transformer_block import NORMS
from minillm.viz.ramp import ink_on, shade
from minillm.viz.style import COLOURS, GREY, fonts, new_figure, printable

__all__ = ["lens_probabilities", "logit_lens", "residual_stream"]


def residual_stream(params, ids, config):
    """The running sum to which every block adds, while a GPT reads one text.

    Parameters
    ----------
    params, config : a GPT's
    ids : (T,) int, T at most the block

    Returns
    -------
    stream : (L + 1, T, C), what goes into the first block, and what comes out of each
    """
    with backend("numpy"), trace(values=True) as steps:
        gpt_hidden(params, ids=np.asarray(ids)[None], config=config)
    blocks = [step.values for step in steps if step.name == "transformer_block"]
    return np.stack([blocks[0]["x"][0], *(block["out"][0] for block in blocks)])


def lens_probabilities(params, ids, config):
    """The distributions of the next token that a GPT holds after each layer.

    Parameters
    ----------
    params, ids, config : see residual_stream

    Returns
    -------
    probabilities : (L + 1, T, V); the last is the model's own prediction
    """
    norm, _, names = NORMS[config.norm]
    weights = pick("params norm", params["norm"], names)
    hidden, _ = norm(residual_stream(params, ids, config), *weights, eps=config.eps)
    logits, _ = linear(hidden, params[head_name(params)].T)  # (L + 1, T, V)
    return softmax(logits)[0]


def logit_lens(probabilities, tokens, vocabulary, *, targets=None, title=None):
    """The likeliest next token and its probability, by layer and position.

    Parameters
    ----------
    probabilities : (L + 1, T, V), as `lens_probabilities` gives them
    tokens : list of T str, what is read
    vocabulary : list of V str, what each id says
    targets : (T,) int or None, the ids that do follow; they stand above, and a box with an orange
        edge has guessed them
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        if the arguments do not belong together.
    """
    p = np.asarray(probabilities)
    if p.ndim != 3 or p.shape[1:] != (len(tokens), len(vocabulary)):
        expected = f"(L + 1, {len(tokens)}, {len(vocabulary)})"
        raise ValueError(f"probabilities must have shape {expected}, got {p.shape}")
    if targets is not None and np.shape(targets) != (len(tokens),):
        raise ValueError(f"targets must have shape ({len(tokens)},), got {np.shape(targets)}")
    levels, T, _ = p.shape
    best = p.argmax(-1)  # (L + 1, T)
    longest = max(len(printable(vocabulary[i])) for i in best.flat)
    width = max(0.34, 0.14 + 0.068 * min(longest, 9))  # inches a box
    figure = new_figure(T * width + 1.5, 0.42 * levels + 1.3)
    axes = figure.add_subplot()
    axes.set_title(title, fontsize=10)
    for level, t in np.ndindex(levels, T):
        here = int(best[level, t])
        share = float(p[level, t, here])
        colour = shade(share)
        hit = targets is not None and here == targets[t]
        edge = {"edgecolor": COLOURS[1], "linewidth": 1.8} if hit else {"edgecolor": "white"}
        axes.add_patch(_box(t, level, inset=0.06 if hit else 0.0, facecolor=colour, **edge))
        middle = {"ha": "center", "va": "center", "color": ink_on(colour)}
        word = _short(printable(vocabulary[here]))
        axes.text(t, level + 0.12, word, family=fonts(), fontsize=8, **middle)
        axes.text(t, level - 0.27, f"{100 * share:.0f}%", fontsize=5.5, **middle)
    axes.set_xlim(-0.5, T - 0.5)
    axes.set_ylim(-0.5, levels - 0.5)
    axes.set_yticks(range(levels), ["embedding", *(f"layer {i}" for i in range(1, levels))])
    axes.set_xticks(range(T), [_short(printable(t)) or "end" for t in tokens], family=fonts())
    axes.set_xlabel("token read (below) and likeliest next token after each layer (boxes)")
    axes.tick_params(length=0, labelsize=8, colors=GREY)
    axes.xaxis.label.set(color=GREY, fontsize=9)
    axes.spines[:].set_visible(False)
    if targets is not None:
        above = axes.secondary_xaxis("top")
        names = [_short(printable(vocabulary[i])) or "end" for i in targets]
        above.set_xticks(range(T), names, family=fonts())
        above.set_xlabel("token that does follow (orange: guessed)", color=GREY, fontsize=9)
        above.tick_params(length=0, labelsize=8, colors=GREY)
        above.spines[:].set_visible(False)
    return figure


def _box(t, level, *, inset, **look):
    side = 1 - 2 * inset
    return Rectangle((t - 0.5 + inset, level - 0.5 + inset), side, side, **look)


def _short(name, most=9):
    return name if len(name) <= most else name[: most - 1] + "…"
