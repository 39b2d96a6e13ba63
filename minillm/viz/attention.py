"""Where each head of a GPT looks: its attention weights, as small pictures by layer and head."""

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import PowerNorm

from minillm import backend, trace
from minillm.models.gpt import gpt_hidden
from minillm.ops import scaled_dot_product_attention
from minillm.viz.style import GREY, fonts, new_figure, printable

__all__ = ["attention_maps", "attention_weights", "token_names"]

LABELLED = 40  # tokens; more would not be readable beside an axis


def attention_weights(params, ids, config):
    """The attention weights of every head while a GPT reads one text.

    The reference forward runs under a trace, which hands over each layer's queries and keys as
    attention received them, rotary positions and shared heads included. Attending to the rows of an
    identity matrix instead of the values gives the weights themselves.

    Parameters
    ----------
    params, config : a GPT's
    ids : (T,) int, T at most the block

    Returns
    -------
    weights : (L, H, T, T), [layer, head, from this token, to that token]; rows sum to 1
    """
    ids = np.asarray(ids)
    with backend("numpy"), trace(values=True) as steps:
        gpt_hidden(params, ids=ids[None], config=config)
    maps = []
    for step in steps:
        if step.name in ("flash_attention", "scaled_dot_product_attention"):
            q, k = step.values["q"], step.values["k"]  # (1, H, T, D), (1, G, T, D)
            eye = np.broadcast_to(np.eye(len(ids), dtype=q.dtype), (*k.shape[:2], *2 * ids.shape))
            maps.append(scaled_dot_product_attention(q, k, eye, causal=True)[0][0])  # (H, T, T)
    return np.stack(maps)


def token_names(tokenizer, ids):
    """What each id says, as text for an axis; special tokens, which decode to nothing, as "end"."""
    texts = [tokenizer.decode(np.array([i])) for i in ids]
    return [printable(text) or "end" for text in texts]


def sees_no_future(weights):
    """Whether all weights (L, H, T, T) above the diagonal are 0, as under a causal mask."""
    return not np.triu(weights, 1).any()


def attention_maps(weights, tokens, *, title=None):
    """Small pictures, a row for each layer and a column for each head.

    Parameters
    ----------
    weights : (L, H, T, T), rows sum to 1; where none looks ahead, what lies ahead is grey
    tokens : list of T str, as `token_names` gives them
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        if weights and tokens do not belong together.
    """
    weights = np.asarray(weights)
    if weights.ndim != 4 or weights.shape[2:] != (len(tokens), len(tokens)):
        expected = f"(L, H, {len(tokens)}, {len(tokens)})"
        raise ValueError(f"weights must have shape {expected}, got {weights.shape}")
    L, H, T, _ = weights.shape
    labelled = T <= LABELLED
    size = max(1.6, 0.12 * T) if labelled else 2.0  # inches a picture
    figure = new_figure(H * size + 1.4, L * size + 1.1)
    # what a token cannot see: grey, unlike a weight of 0
    future = np.triu(np.ones((T, T), bool), 1) & sees_no_future(weights)
    colours = colormaps["Blues"].with_extremes(bad="0.93")
    norm = PowerNorm(0.5, 0, 1)  # the square root lets small weights show
    grid = figure.subplots(L, H, squeeze=False, sharex=True, sharey=True)
    for layer, head in np.ndindex(L, H):
        axes = grid[layer, head]
        image = axes.imshow(np.ma.array(weights[layer, head], mask=future), norm=norm, cmap=colours)
        axes.spines[:].set_color("0.8")
        axes.tick_params(length=0, labelsize=7, colors=GREY)
        if labelled:
            axes.set_xticks(range(T), tokens, family=fonts())
            for label in axes.get_xticklabels():
                label.set_rotation(90 if len(label.get_text()) > 1 else 0)
            axes.set_yticks(range(T), tokens, family=fonts())
        else:
            axes.set_xticks([])
            axes.set_yticks([])
        if layer == 0:
            axes.set_title(f"head {head + 1}", fontsize=9, color=GREY)
        if head == 0:
            axes.set_ylabel(f"layer {layer + 1}", fontsize=9, color=GREY)
    ticks = (0, 0.05, 0.25, 0.5, 1)
    bar = figure.colorbar(image, ax=grid, ticks=ticks, format="{x:.0%}", aspect=40, pad=0.02)
    bar.outline.set_visible(False)
    bar.ax.tick_params(length=0, labelsize=7, labelcolor=GREY)
    figure.supxlabel("looked at", fontsize=9, color=GREY)
    figure.supylabel("by the token", fontsize=9, color=GREY)
    if title:
        figure.suptitle(title, fontsize=11)
    return figure
