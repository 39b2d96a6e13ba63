# %% [markdown]
# # 9. The Transformer block
#
# [Attention](08_attention.ipynb) lets positions look at each other. A Transformer stacks dozens of
# such layers, and a plain stack of dozens of layers does not train. **What do the two unglamorous
# parts of the block, the residual sum and the layer norm, do for its depth?** We measure: how large
# the activations are at each layer, how much of the gradient arrives at the first one, and what
# becomes of a training when either part is taken away.
#
# You need [backpropagation](03_backpropagation.ipynb), [attention](08_attention.ipynb) and the
# variance of a sum. Reading takes about 45 minutes, running about 40 seconds.

# %%
import json
import os
import platform
import time
from pathlib import Path

import numpy as np

import minillm
from minillm.data import RandomBlocks, load_corpus
from minillm.gradcheck import check_vjp, draw
from minillm.models import gpt
from minillm.ops import (
    embedding,
    layer_norm,
    linear_cross_entropy,
    mlp_gelu,
    multi_head_attention,
    transformer_block,
)
from minillm.optim import AdamW
from minillm.tokenizers import CharTokenizer
from minillm.training import WorkerPool, keep, track
from minillm.tree import flatten, map_leaves, unflatten
from minillm.viz.gradient_flow import gradient_flow
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure

LONG = bool(os.environ.get("MINILLM_LONG"))
RUNS, RESULTS = Path("runs/09_transformer_block"), Path("results/09_transformer_block.json")

# %% [markdown]
# ## The mathematics
#
# ### Layer norm: onto a sphere
#
# Layer norm (Ba, Kiros & Hinton 2016) takes each row $x$ of $C$ numbers, subtracts its mean and
# divides by its deviation:
#
# $$\hat x = \frac{x - \bar x}{\sigma}, \qquad \sigma = \sqrt{\overline{(x - \bar x)^2} + \epsilon},
# \qquad y = gain \odot \hat x + bias .$$
#
# In geometry: subtracting the mean projects onto the plane at right angles to $(1, \dots, 1)$, and
# dividing by the deviation puts the point on a sphere of radius $\sqrt C$ in that plane. For $C = 3$
# it can be drawn: a plane, and in it a circle. On the left are 300 rows in two clouds, one close to
# the origin and one far away; on the right what layer norm makes of them. Look where the two clouds
# end up, and what has become of their distance.

# %% tags=["picture"] alt="Left: two clouds of points in three dimensions, a small and a large one. Right: after layer norm all points lie on one circle, the near cloud all around it, the far one mostly on one side."
rng = np.random.default_rng(0)
near, far = 0.5 * rng.standard_normal((150, 3)), 2.0 * rng.standard_normal((150, 3)) + [5, 2, 0]
clouds = np.stack([near, far])  # (2, 150, 3)
normed, _ = layer_norm(clouds, np.ones(3), np.zeros(3))
figure = new_figure(8.4, 3.9)
space = figure.add_subplot(1, 2, 1, projection="3d")
for cloud, colour in zip(clouds, COLOURS, strict=False):
    space.scatter(*cloud.T, s=6, color=colour, alpha=0.7)
space.set(title="before", xlabel="$x_1$", ylabel="$x_2$", zlabel="$x_3$")
space.set(xticks=[0, 5, 10], yticks=[-5, 0, 5], zticks=[-5, 0, 5])
space.view_init(elev=18, azim=25)
space.set_box_aspect(None, zoom=0.9)
plane = figure.add_subplot(1, 2, 2, aspect="equal", title="after layer norm, seen along (1, 1, 1)")
across = np.array([[1, -1, 0], [1, 1, -2]]) / np.sqrt([[2], [6]])  # two directions of the plane
print("left outside of the plane:", f"{np.abs(normed.sum(-1)).max():.0e}")
for cloud, colour, name, size in zip(normed, COLOURS, ("near", "far"), (26, 7), strict=False):
    plane.scatter(*(across @ cloud.T), s=size, color=colour, alpha=0.6, label=name, linewidths=0)
plane.set(xlabel="along (1, -1, 0)", ylabel="along (1, 1, -2)", xlim=(-2.1, 2.1), ylim=(-2.1, 2.1))
plane.spines[["top", "right"]].set_visible(False)
plane.legend(frameon=False, loc="center")
figure

# %% [markdown]
# Both land on the same circle: where a row lay along $(1, 1, 1)$ and how long it was is gone, only
# its direction in the plane is left. (The far cloud's rows point the same way, so they bunch.) Since
# neither shift nor length of $x$ matters to $\hat x$, the gradient has no component along them (the null
# space of [notebook 3](03_backpropagation.ipynb)); along $x$ a trace is left, for $\epsilon$ does not grow
# with $x$. And it carries a factor $1/\sigma$: **a row that is ten times as large gets a tenth of the gradient.**
# Remember that for the stream below.

# %%
x, dy = np.random.default_rng(1).standard_normal((2, 1, 64))
for scale in (1.0, 10.0, 100.0):
    _, cache = layer_norm(scale * x, np.ones(64), np.zeros(64))
    dx, _, _ = layer_norm.backward(dy, cache)
    print(
        f"x times {scale:5.0f}: |dx| = {np.linalg.norm(dx):8.4f},",
        f"sum of dx = {dx.sum():8.1e}, along x: {(dx * x).sum() / np.linalg.norm(x):8.1e}",
    )

# %% [markdown]
# ### The residual stream
#
# Without a residual, layer after layer replaces its input: $x_{l+1} = f_l(x_l)$. The gradient at the
# start is a product of Jacobians, $dx_0 = J_1^\top J_2^\top \cdots J_L^\top dx_L$. If each shrinks a
# vector to a tenth, after twelve layers $10^{-12}$ of it is left; if each doubles it, it is 4096
# times too large. With a residual (He et al. 2015, arXiv:1512.03385) each layer *adds* to what is
# there,
#
# $$x_{l+1} = x_l + f_l(x_l), \qquad x_L = x_0 + \sum_l f_l(x_l), \qquad
#   dx_l = dx_{l+1} + J_l^\top dx_{l+1} .$$
#
# One path through the product has no Jacobian in it at all: $dx_L$ arrives at every layer unchanged,
# and everything else comes on top. The running sum $x_l$ is called the **residual stream**: layers
# read from it and write to it.
#
# ### Where the norm stands
#
# $$\text{post-norm (Vaswani et al. 2017):} \quad x_{l+1} = \mathrm{norm}(x_l + f_l(x_l)), \qquad
#   \text{pre-norm (GPT-2):} \quad x_{l+1} = x_l + f_l(\mathrm{norm}(x_l)) .$$
#
# Post-norm puts a Jacobian back into every path: the stream itself is normalised $2L$ times. Pre-norm
# leaves the stream alone and normalises only what a layer reads (Xiong et al. 2020,
# arXiv:2002.04745). Its price: nothing holds the stream's size, so it grows.
#
# ### How large the stream becomes
#
# Let a layer that reads a normalised row write something of variance $s^2$, uncorrelated with the
# stream. Variances of uncorrelated terms add, and a block has two such layers, attention and MLP, so
# after $l$ of $L$ blocks
#
# $$\mathrm{Var}(x_l) = \mathrm{Var}(x_0) + 2 l s^2 ,$$
#
# a deviation that grows as $\sqrt l$. GPT-2 therefore starts the weights that write to the stream
# smaller by $1 / \sqrt{2L}$ (Radford et al. 2019, section 2.3): then the sum is
# $\mathrm{Var}(x_0) + s^2$ at any depth.
#
# And the gradient? Let $\sigma_l$ be the stream's deviation behind the $l$-th of these $2L$ sub-layers, and
# $\sigma_0$ and $\sigma_{2L}$ those at its ends. Going back through one sub-layer adds $J^\top dx$ with
# $J \propto s / \sigma_l$, because the norm divides by $\sigma_l$. If that too is uncorrelated,
# $\lVert dx \rVert^2$ grows by the factor $1 + s^2 / \sigma_l^2 = \sigma_{l+1}^2 / \sigma_l^2$. The
# product of all these telescopes:
#
# $$\frac{\lVert dx_0 \rVert}{\lVert dx_{2L} \rVert} \approx \frac{\sigma_{2L}}{\sigma_0} .$$
#
# So in a pre-norm stack the growth of the stream on the way forward *is* the growth of the gradient on
# the way back, and it is a square root, not an exponential. We shall measure both.
#
# ## The code
#
# The block of this project is pre-norm, and its backward is all of this in some twenty lines. Find the
# two places where a residual adds a second share: one inside `add_norm_op.backward` (the sum `total`
# is normalised and passed on), one in the last line.

# %%
show_source(transformer_block, only="backward")

# %% [markdown]
# And this is GPT-2's start. `small` is the $1/\sqrt{2L}$.

# %%
show_source(gpt.init)


# %% [markdown]
# To see what each part does, we need blocks that lack it. A block is two sub-layers, attention and
# MLP; `sublayer` puts a norm and a residual around either as `kind` says, and its backward takes the
# same parts in reverse order. The ops inside are those of the package.

# %%
KINDS = ["pre-norm", "post-norm", "no norm", "no residual", "neither"]
NORM_BEFORE, RESIDUAL = {"pre-norm", "no residual"}, {"pre-norm", "post-norm", "no norm"}


def sublayer(x, f, norm, kind):
    read, before = layer_norm(x, **norm) if kind in NORM_BEFORE else (x, None)
    out, cache_f = f(read)
    out = x + out if kind in RESIDUAL else out
    y, after = layer_norm(out, **norm) if kind == "post-norm" else (out, None)
    return y, (before, cache_f, after, norm, kind)


def sublayer_backward(dy, f_backward, cache):
    before, cache_f, after, norm, kind = cache
    dnorm = map_leaves(np.zeros_like, norm)
    if after is not None:  # forward: y = norm(out)
        dy, *grads = layer_norm.backward(dy, after)
        dnorm = dict(zip(norm, grads, strict=True))
    dx, dparams = f_backward(dy, cache_f)  # forward: out = f(read)
    if before is not None:  # forward: read = norm(x)
        dx, *grads = layer_norm.backward(dx, before)
        dnorm = dict(zip(norm, grads, strict=True))
    return (dx + dy if kind in RESIDUAL else dx), dparams, dnorm


def block(x, params, *, kind, n_head=4):
    attention, mlp = params["attention"], params["mlp"]
    weights = [mlp[part][name] for part in ("up", "down") for name in ("weight", "bias")]
    attend = lambda h: multi_head_attention(h, attention, n_head=n_head, causal=True)
    x, cache_1 = sublayer(x, attend, params["norm1"], kind)
    x, cache_2 = sublayer(x, lambda h: mlp_gelu(h, *weights), params["norm2"], kind)
    return x, (cache_1, cache_2)


def block_backward(dx, cache):
    cache_1, cache_2 = cache

    def mlp_backward(dy, cache):
        dx, dW_up, db_up, dW_down, db_down = mlp_gelu.backward(dy, cache)
        up, down = {"weight": dW_up, "bias": db_up}, {"weight": dW_down, "bias": db_down}
        return dx, {"up": up, "down": down}

    dx, dmlp, dnorm2 = sublayer_backward(dx, mlp_backward, cache_2)
    attention_backward = lambda dy, cache: multi_head_attention.backward(dy, cache)[:2]
    dx, dattention, dnorm1 = sublayer_backward(dx, attention_backward, cache_1)
    return dx, {"norm1": dnorm1, "attention": dattention, "norm2": dnorm2, "mlp": dmlp}


# %% [markdown]
# A backward that was not checked is not worth measuring with. We check all five, with weights of a
# known size: `start` rescales GPT-2's to deviation `gain` $/\sqrt{C_{in}}$, so that a layer with
# `gain` 1 keeps the size of what it reads, and with `small_writes` divides those that write to the
# stream by $\sqrt{2L}$.


# %%
def start(n_layer, gain, *, small_writes, width=64, vocab=2, block=32, seed=0, dtype=np.float64):
    """(config, params) of a GPT; weights of blocks from N(0, gain / sqrt(C_in))."""
    config = gpt.GPTConfig(
        vocab_size=vocab, block_size=block, n_layer=n_layer, n_head=4, n_embd=width
    )
    params = gpt.init(config, np.random.default_rng(seed), dtype)
    for name, weight in flatten(params["blocks"]).items():
        if name.endswith("weight"):
            writes = name.endswith(("out.weight", "down.weight"))
            weight /= 0.02 / np.sqrt(2 * n_layer) if writes else 0.02
            weight *= gain / np.sqrt(len(weight) * (2 * n_layer if writes and small_writes else 1))
    return config, params


rng = np.random.default_rng(2)
for kind in KINDS:
    _, params = start(1, 1.0, small_writes=False, width=8)
    params = map_leaves(lambda p: p + 0.2 * rng.standard_normal(p.shape), params["blocks"][0])
    (x,) = draw((2, 3, 8))
    report = check_vjp(block, block_backward, [x, params], {"kind": kind}, allow_zero=True)
    print(f"{kind:12} {report.verdict}")
same = np.allclose(block(x, params, kind="pre-norm")[0], transformer_block(x, params, n_head=4)[0])
print("our pre-norm block is the package's:", same)

# %% [markdown]
# ## An experiment: the stream and its depth
#
# Rows of variance 1 go through 6, 24 and 96 fresh pre-norm blocks. The picture has the stream's
# deviation behind each block, on the left with all weights of one size, on the right with GPT-2's
# $1/\sqrt{2L}$. The dashed line is $\sqrt{1 + 2 l s^2}$, with $s^2$ taken from the first block. Look
# at where the three depths end on either side.


# %%
def flow(kind, n_layer, gain, *, small_writes=False, seed=0):
    """Deviations of the stream (L + 1,), and norms of its gradient (L + 1,), of a fresh stack."""
    _, params = start(n_layer, gain, small_writes=small_writes, seed=seed)
    rng = np.random.default_rng([seed, 1])
    x = rng.standard_normal((4, 32, 64))  # (B, T, C)
    deviations, caches = [x.std()], []
    for block_params in params["blocks"]:
        x, cache = block(x, block_params, kind=kind)
        caches.append(cache)
        deviations.append(x.std())
    dx = rng.standard_normal(x.shape)
    dx /= np.linalg.norm(dx)
    norms = [1.0]
    for cache in reversed(caches):
        dx, _ = block_backward(dx, cache)
        norms.append(np.linalg.norm(dx))
    return np.array(deviations), np.array(norms[::-1])


depths = [6, 24, 96]
with WorkerPool(1):  # one BLAS thread: the quickest for arrays as small as these
    streams = {
        (L, small): flow("pre-norm", L, 1.0, small_writes=small) for L in depths for small in (0, 1)
    }
for L in depths:
    deviations, norms = streams[L, 0]
    print(
        f"{L:3} blocks: stream {deviations[-1]:5.2f} times as large at the end;",
        f"gradient {norms[0]:5.2f} times at the start",
    )

# %% tags=["picture"] alt="Deviation of the residual stream against the block for 6, 24 and 96 blocks: without scaling it grows like a square root, with GPT-2's scaling all three end at about the same value."
figure = new_figure(8.4, 3.4)
panels = figure.subplots(1, 2, sharey=True)
for axes, small, title in zip(
    panels, (0, 1), ("all weights alike", r"writes $/ \sqrt{2L}$"), strict=True
):
    for L, colour, width in zip(depths, COLOURS, (3.0, 2.2, 1.4), strict=False):
        deviations, _ = streams[L, small]
        axes.plot(range(L + 1), deviations, color=colour, linewidth=width, label=f"{L} blocks")
        axes.plot(L, deviations[-1], "o", color=colour, markersize=5)
    axes.set(title=title, xlabel="block")
    axes.spines[["top", "right"]].set_visible(False)
deviations, _ = streams[96, 0]
written = deviations[1] ** 2 - 1
predicted = np.sqrt(1 + written * np.arange(97))
panels[0].plot(predicted, color=GREY, linewidth=1, linestyle="--", label=r"$\sqrt{1 + 2 l s^2}$")
panels[0].set_ylabel("deviation of the stream")
panels[0].legend(frameon=False)
figure

# %% [markdown]
# On the left the growth is a square root, somewhat steeper than predicted: what the blocks write is
# not quite uncorrelated. On the right depth no longer matters. And the estimate for the gradient holds
# within about a fifth from end to end: compare the two numbers in each printed line.
#
# ## An experiment: gradient flow by layer
#
# The same for all five kinds, 24 blocks deep, with `gain` 1. The gradient enters behind the last
# block with norm 1; the picture has its norm in front of each block. A good stack would be a level line.
# Before you look: which kinds will stay near it, and by how many powers of ten will the others miss it?

# %%
with WorkerPool(1):
    flows = {kind: flow(kind, 24, 1.0) for kind in KINDS}
for kind, (deviations, norms) in flows.items():
    print(
        f"{kind:12} stream at the end {deviations[-1]:8.1e}   gradient at the start {norms[0]:8.1e}"
    )

# %% tags=["picture"] alt="Norm of the gradient in front of each of 24 blocks for five kinds of block: pre-norm, post-norm and no residual stay within a factor of ten, no norm explodes by millions, neither vanishes by as much."
gradient_flow({kind: norms[:-1] for kind, (_, norms) in flows.items()})

# %% [markdown]
# Residuals alone prevent vanishing but not explosion: a stream that is never normalised feeds on
# itself, every layer adding in proportion to what it reads. Norms alone keep the sizes in order too.
# With neither, little arrives at the first block.
#
# Is that the fault of one unlucky `gain`? We vary it. The picture has the gradient in front of the
# first block, for starts from a quarter to twice the "right" size. Look for the width of the range in
# which a kind stays in the grey band (from a tenth to ten times).

# %% tags=["picture"] alt="Gradient in front of the first of 24 blocks against the gain of the initial weights: with a norm it stays within a little more than two powers of ten of 1, without a norm it explodes above a gain of about 0.6, and neither crosses the band at a single gain."
gains = 2.0 ** np.linspace(-2, 1, 13)
with np.errstate(all="ignore"), WorkerPool(1):
    sweep = {kind: [flow(kind, 24, gain)[1][0] for gain in track(gains, kind)] for kind in KINDS}
figure = new_figure(7.2, 4.0)
axes = figure.add_subplot(
    xlabel="gain of the initial weights", ylabel="gradient in front of the first block"
)
axes.axhspan(0.1, 10, color="0.93", linewidth=0)
for (kind, values), colour, mark in zip(sweep.items(), COLOURS, "os^vD", strict=False):
    values = np.where(np.isfinite(values), values, np.nan)
    axes.loglog(gains, values, mark + "-", color=colour, label=kind, markersize=4, linewidth=1.5)
axes.set_ylim(1e-16, 1e16)
axes.set_xticks([0.25, 0.5, 1, 2], ["1/4", "1/2", "1", "2"])
axes.minorticks_off()
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower right")
figure

# %% [markdown]
# "Neither" has one gain at which 24 layers keep the gradient's size, and is off by orders of magnitude
# on both sides of it: one would have to hit that number, and training would leave it again. A residual
# without a norm is safe as long as what is added is small, which a start can arrange and a training
# need not respect. With a norm, the start is forgiving: a line may leave the band at an end, but by a
# factor of ten and not of millions.
#
# ## An experiment: training with and without
#
# A good start is not yet a good training. Eight blocks, 32 channels, characters of Python's help
# pages, all five kinds alike: same first weights, same batches, AdamW at a constant rate of 0.003
# without warm-up. Forward and backward of the whole model stand below in plain sight; `norms` collects
# the gradient on its way back. (A kind whose blocks end in a norm, or have none, gets no final norm.)


# %%
def loss_and_gradients(params, ids, targets, kind):
    """(loss, gradients, norms (L,) of the gradient in front of each block)."""
    x, cache_wte = embedding(params["wte"], ids=ids)  # (B, T, C)
    position, cache_wpe = embedding(params["wpe"], ids=np.arange(ids.shape[1]))
    x, caches, norms = x + position, [], []
    for block_params in params["blocks"]:
        x, cache = block(x, block_params, kind=kind)
        caches.append(cache)
    last = None
    if kind in NORM_BEFORE:
        x, last = layer_norm(x, **params["norm"])
    loss, cache_loss = linear_cross_entropy(x, params["wte"], targets=targets)

    dx, dwte, _ = linear_cross_entropy.backward(1.0, cache_loss)
    grads = {"blocks": [], "norm": map_leaves(np.zeros_like, params["norm"])}
    if last is not None:
        dx, dgain, dbias = layer_norm.backward(dx, last)
        grads["norm"] = {"gain": dgain, "bias": dbias}
    for cache in reversed(caches):
        dx, dblock = block_backward(dx, cache)
        grads["blocks"].insert(0, dblock)
        norms.insert(0, np.linalg.norm(dx))
    grads["wte"] = dwte + embedding.backward(dx, cache_wte)  # the tied array is used twice
    grads["wpe"] = embedding.backward(dx.sum(0), cache_wpe)
    return loss, {name: grads[name] for name in params}, norms


text = load_corpus("topics").text
tokenizer = CharTokenizer.train([text])
ids = np.array(tokenizer.encode(text))
shape = {"block": 32, "batch": 8, "vocab_size": tokenizer.vocab_size}
batches = RandomBlocks(ids[: int(0.9 * len(ids))], seed=0, **shape)
held_out = RandomBlocks(ids[int(0.9 * len(ids)) :], seed=1, **shape | {"batch": 64}).batch(0)


def fresh(n_layer=8):
    return start(
        n_layer, 1.0, small_writes=True, width=32, vocab=tokenizer.vocab_size, dtype=np.float32
    )


def train(kind, rate, steps, warmup):
    """{"losses": (steps,), "validation": of the last weights, and those weights by name}."""
    _, params = fresh()
    optimizer = AdamW(rate)
    state, losses = optimizer.init(params), []
    with np.errstate(all="ignore"), WorkerPool(1):
        for step in track(range(steps), kind):
            inputs, targets = batches.batch(step)
            loss, grads, _ = loss_and_gradients(params, inputs, targets, kind)
            now = rate * min(1, (step + 1) / warmup) if warmup else rate
            optimizer.update(params, grads, state, now)
            losses.append(float(loss))
        validation = loss_and_gradients(params, *held_out, kind)[0]
    return {"losses": losses, "validation": float(validation), **flatten(params)}


# %%
STEPS, RATE = 300, 3e-3
trained = {
    kind: keep(
        RUNS / f"{kind.replace(' ', '_')}.npz", train, kind=kind, rate=RATE, steps=STEPS, warmup=0
    )
    for kind in KINDS
}
shares = np.bincount(batches.ids, minlength=tokenizer.vocab_size) / len(batches.ids)
unigram = -(shares[shares > 0] * np.log(shares[shares > 0])).sum()
print(f"frequencies alone: {unigram:.2f} nats a character")
for kind, run in trained.items():
    print(f"{kind:12} validation loss {run['validation']:.2f}")

# %% [markdown]
# The grey line is what a model reaches that knows only how often each character occurs. Getting
# there needs no more than the output layer; getting *below* it needs blocks that do something.

# %% tags=["picture"] alt="Training loss against steps for the five kinds: pre-norm and no norm fall below the line of character frequencies, post-norm a little, no residual and neither stay on it."
figure = new_figure(7.2, 4.0)
axes = figure.add_subplot(
    xlabel="update", ylabel="training loss (nats a character)", xlim=(0, STEPS), ylim=(2.5, 4.2)
)
for (kind, run), colour, style in zip(
    trained.items(), COLOURS, ("-", "--", "-.", (0, (1, 1)), (0, (4, 1, 1, 1))), strict=False
):
    losses = run["losses"]
    smooth = np.convolve(losses, np.ones(15) / 15, "valid")
    axes.plot(
        np.arange(len(smooth)) + 7, smooth, color=colour, linestyle=style, linewidth=1.8, label=kind
    )
axes.axhline(unigram, color=GREY, linewidth=0.8)
axes.text(STEPS + 4, unigram, "character\nfrequencies", color=GREY, fontsize=9, va="center")
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False)
figure

# %% [markdown]
# Without a residual nothing is learned beyond the frequencies, although the *size* of the gradient was
# fine: what arrives through sixteen random sub-layers has the right length and says little about the
# single character. Post-norm starts slowly without a warm-up. No norm looks as
# good as pre-norm here. Is it?
#
# ### Which learning rates survive
#
# One rate is no comparison. The long form of this notebook (`make long NOTEBOOK=09`) trains every kind at
# several rates, and pre- and post-norm with a warm-up of a tenth of the steps as well; what it
# recorded is drawn here. Look for two things: how low a line gets, and over how many rates it stays
# away from the grey line, below which something is learned. (The line is the training text's; the
# validation text is a little harder, so that who learns nothing stays just above it.)


# %%
def record(steps=1000, rates=(3e-4, 1e-3, 3e-3, 1e-2)):
    """Train everything, and write the last losses to RESULTS."""
    began, losses = time.perf_counter(), {}
    for kind, warmup in [(kind, 0) for kind in KINDS] + [("pre-norm", 100), ("post-norm", 100)]:
        name = f"{kind}, warm-up" if warmup else kind
        losses[name] = []
        for rate in rates:
            out = RUNS / f"long_{kind.replace(' ', '_')}_{warmup}_{rate:g}.npz"
            run = keep(out, train, kind=kind, rate=rate, steps=steps, warmup=warmup)
            finite = np.isfinite(run["validation"])
            losses[name].append(round(run["validation"], 4) if finite else None)
    about = {
        "command": "make long NOTEBOOK=09",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "seconds": round(time.perf_counter() - began),
    }
    RESULTS.parent.mkdir(exist_ok=True)
    content = {"made_with": about, "steps": steps, "rates": rates, "validation_loss": losses}
    RESULTS.write_text(json.dumps(content, indent=1) + "\n")


if LONG:
    record()
recorded = json.loads(RESULTS.read_text())
made = recorded["made_with"]
print("recorded by", made["command"], f"in {made['seconds']} seconds")

# %% tags=["picture"] alt="Validation loss after 1000 updates against the learning rate: pre-norm and no norm learn at every rate, post-norm reaches the lowest loss but learns nothing at the larger rates, no residual and neither never learn."
figure = new_figure(7.2, 4.2)
axes = figure.add_subplot(
    xlabel="learning rate",
    ylabel=f"validation loss after {recorded['steps']} updates\n(nats a character)",
    xscale="log",
)
for name, losses in recorded["validation_loss"].items():
    kind, _, warm = name.partition(", ")
    colour = COLOURS[KINDS.index(kind)]
    values = [np.nan if loss is None else loss for loss in losses]
    style = {"linestyle": "--", "mfc": "white"} if warm else {"linestyle": "-"}
    axes.plot(
        recorded["rates"], values, marker="o", color=colour, label=name, linewidth=1.6, **style
    )
axes.axhline(unigram, color=GREY, linewidth=0.8)
axes.set_xticks(recorded["rates"], [f"{rate:g}" for rate in recorded["rates"]])
axes.minorticks_off()
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, fontsize=9, loc="center left", bbox_to_anchor=(1, 0.5))
figure

# %% [markdown]
# - **Without a residual** nothing is learned at any rate. At this depth it is the part that one cannot
#   do without.
# - **Post-norm** reaches the lowest loss of all, and then falls off a cliff: at three times the rate it
#   learns nothing. A warm-up moves the cliff up by one step of the rate. That is why the first
#   Transformers needed a warm-up, and care.
# - **Pre-norm** is a little worse at its best, and learns at every rate. Large models are trained once
#   and cannot try four rates; most of them are pre-norm.
# - **No norm** does well here, a little behind pre-norm at all rates but the largest. The start made
#   its branches small, which at eight blocks and so short a training is enough.
#
# ## An experiment: inside a trained stream
#
# Our pre-norm network is GPT's, so its weights fit `minillm.models.gpt`. `trace(values=True)` keeps
# copies of what goes into every op and what comes out, backward ones too: the gradient inside a model
# that we did not write for the purpose.

# %%
config, params = fresh()
weights = {
    "fresh": params,
    "trained": unflatten({name: trained["pre-norm"][name] for name in flatten(params)}, params),
}
inputs, targets = (array[:16] for array in held_out)
traces = {}
for name, params in weights.items():
    with minillm.trace(values=True) as steps:
        loss, cache = gpt.loss(params, ids=inputs, targets=targets, config=config)
        gpt.loss.backward(1.0, cache)
    traces[name] = steps
    entering = next(step.values["x"] for step in steps if step.name == "transformer_block")
    print(
        f"{name:8} loss {loss:.2f}, {len(steps)} calls of ops;",
        f"deviation of what enters the first block {entering.std():.2f}",
    )


def of(steps, name):
    return [step.values for step in steps if step.name == name]


norms = {}
for name, steps in traces.items():
    arriving = [values["out"][0] for values in of(steps, "transformer_block_backward")]
    norms[f"{name} model"] = [np.linalg.norm(dx) for dx in reversed(arriving)]

# %% tags=["picture"] alt="Norm of the gradient in front of each of the eight blocks of a GPT, fresh and after training."
gradient_flow(norms)

# %% [markdown]
# The first block's gradient stands out: what enters it is an embedding with a small deviation (printed
# above), and the norm divides the gradient by that. It is the factor $1/\sigma$ of the first section.
#
# What did training make of the stream? Each bar below is what one block's attention or MLP writes,
# its root mean square beside that of the stream as it is there. Look at what the first MLP does, and at
# how little each later block adds to what is there.

# %% tags=["picture"] alt="For each of eight blocks the size of what attention and MLP write and that of the stream, for a fresh and a trained model."
figure = new_figure(8.4, 3.4)
panels = figure.subplots(1, 2, sharey=True)
rms = lambda a: float(np.sqrt(np.mean(np.square(a))))
for axes, (name, steps) in zip(panels, traces.items(), strict=True):
    attended = [rms(values["out"]) for values in of(steps, "multi_head_attention")]
    thought = [rms(values["out"]) for values in of(steps, "mlp_gelu")]
    stream = [rms(values["out"]) for values in of(steps, "transformer_block")]
    blocks = np.arange(1, 9)
    axes.bar(blocks - 0.2, attended, 0.4, color=COLOURS[0], label="written by attention")
    axes.bar(blocks + 0.2, thought, 0.4, color=COLOURS[1], label="written by the MLP")
    axes.plot(blocks, stream, "o-", color="black", linewidth=1.2, label="stream behind the block")
    axes.set(title=f"{name} model", xlabel="block", xticks=blocks)
    axes.spines[["top", "right"]].set_visible(False)
panels[0].set_ylabel("root mean square")
panels[0].legend(frameon=False)
figure

# %% [markdown]
# ### A stream can lose a block
#
# If every block only adds a little to a sum, then leaving one out should hurt a little (Veit, Wilber &
# Belongie 2016, arXiv:1605.06431). In a plain chain it would hurt a lot, since the next layer has
# never seen such an input. We skip one block at a time of the trained pre-norm network.
# From the bars above you can guess which one it will miss.

# %% tags=["picture"] alt="Validation loss of the trained pre-norm network when one of its eight blocks is skipped, as bars: without the first the loss is above that of character frequencies, without any other it hardly changes."
whole = gpt.loss(weights["trained"], ids=held_out[0], targets=held_out[1], config=config)[0]
without = []
for skipped in range(8):
    kept = [b for place, b in enumerate(weights["trained"]["blocks"]) if place != skipped]
    shorter = weights["trained"] | {"blocks": kept}
    without.append(gpt.loss(shorter, ids=held_out[0], targets=held_out[1], config=config)[0])
figure = new_figure(6.6, 3.0)
axes = figure.add_subplot(
    xlabel="block left out", ylabel="validation loss\n(nats a character)", xticks=range(1, 9)
)
axes.bar(range(1, 9), without, color=COLOURS[0], width=0.7)
axes.set_xlim(0.4, 8.6)
for level, text in ((whole, "whole network"), (unigram, "character frequencies")):
    axes.axhline(level, color=GREY, linewidth=1, linestyle="--")
    axes.text(8.85, level, text, color=GREY, fontsize=9, ha="left", va="center")
axes.set_ylim(whole - 0.15, max(*without, unigram) + 0.1)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# Every block but the first can be missed, and hardly anyone would notice: each is a small term of a
# sum. The first is not: it writes most of the stream that all others read, and without it the network
# is worse than counting characters. (After so short a training the later blocks have learned little.)
#
# ## Exercises
#
# **1. The right size.** `write_scale(n_layer)` returns the factor for those weights that write to the
# stream, so that the variance which `n_layer` blocks add to it does not depend on their number.


# %% tags=["exercise"] exercise="write_scale"
def write_scale(n_layer):
    """The factor for attention.out.weight and mlp.down.weight in a stack of n_layer blocks."""
    raise NotImplementedError("how many terms has the sum, and how do variances add?")


# %% tags=["check", "raises-exception"] exercise="write_scale"
added = {}
for n_layer in (4, 64):
    _, params = start(n_layer, 1.0, small_writes=False)
    x = np.random.default_rng(3).standard_normal((4, 32, 64))
    for block_params in params["blocks"]:
        for part in (block_params["attention"]["out"], block_params["mlp"]["down"]):
            part["weight"] = part["weight"] * write_scale(n_layer)
        x, _ = block(x, block_params, kind="pre-norm")
    added[n_layer] = x.var() - 1
ratio = added[64] / added[4]
assert 0.7 < ratio < 1.4, (
    f"64 blocks add {ratio:.2g} times the variance of 4 blocks, expected about as much; "
    "16 times as many terms are summed"
)
assert added[64] > 0.1, f"64 blocks add a variance of {added[64]:.1e}: they write next to nothing"
print("write_scale: right; variances added:", {n: round(float(v), 2) for n, v in added.items()})

# %% [markdown]
# **2. ReZero** (Bachlechner et al. 2020, arXiv:2003.04887, eq. 1): $y = x + \alpha \tanh(x W)$ with one
# learned number $\alpha$, which starts at 0. Write the backward. What is $dx$ at the start, and
# what is $dW$?


# %% tags=["exercise"] exercise="rezero"
def rezero(x, alpha, W):
    """y = x + alpha * tanh(x @ W), for x (N, C), alpha (), W (C, C)."""
    branch = np.tanh(x @ W)
    return x + alpha * branch, (x, alpha, W, branch)


def rezero_backward(dy, cache):
    """The gradients (dx, dalpha, dW)."""
    raise NotImplementedError("write rezero_backward")


# %% tags=["check", "raises-exception"] exercise="rezero"
report = check_vjp(rezero, rezero_backward, draw((5, 4), (), (4, 4)))
assert report.passed, f"x is used twice, alpha in every element.\n{report}"
x, W, dy = draw((5, 4), (4, 4), (5, 4))
dx, dalpha, dW = rezero_backward(dy, rezero(x, np.zeros(()), W)[1])
assert np.array_equal(dx, dy), "at alpha = 0 the gradient must pass unchanged"
print(f"rezero: right; at alpha = 0: dx = dy, dW = {np.abs(dW).max():.0f}, dalpha = {dalpha:.2f}")

# %% [markdown]
# **3. A start as the identity.** Return a copy of a block's `params` in which every block is the
# identity, $y = x$ exactly, by setting as few arrays to zero as possible; and the set of names of
# those arrays whose gradient is *not* zero in the first step. (Names as `flatten` gives them, such as
# `"mlp.up.weight"`. Think before you measure.)


# %% tags=["exercise"] exercise="identity_start"
def identity_start(params):
    """(params with two arrays zeroed, {names of the arrays that the first update will change})."""
    raise NotImplementedError(
        "which arrays write to the stream, and who learns while they are zero?"
    )


# %% tags=["check", "raises-exception"] exercise="identity_start"
_, params = start(1, 1.0, small_writes=False, width=8)
new, moving = identity_start(params["blocks"][0])
(x,) = draw((2, 5, 8))
y, cache = block(x, new, kind="pre-norm")
assert np.array_equal(y, x), f"the block is not the identity: off by {np.abs(y - x).max():.2g}"
before = flatten(params["blocks"][0])
assert all(p.any() for name, p in before.items() if name.endswith("weight")), (
    "the block that came in was changed; zero the arrays of a copy"
)
zeros = sorted(name for name, p in flatten(new).items() if before[name].any() and not p.any())
assert len(zeros) == 2, f"to set two arrays to zero is enough; set to zero are {zeros}"
_, grads = block_backward(draw((2, 5, 8), seed=1)[0], cache)
true = {name for name, grad in flatten(grads).items() if np.any(grad)}
assert set(moving) == true, (
    f"said, but wrong: {sorted(set(moving) - true)}; not said: {sorted(true - set(moving))}. "
    "What is the gradient of an array behind which a zero matrix stands?"
)
print("identity_start: right")

# %% [markdown]
# **4. A parallel block** (PaLM: Chowdhery et al. 2022, arXiv:2204.02311, section 2):
# $y = x + \mathrm{attention}(h) + \mathrm{mlp}(h)$ with *one* norm, $h = \mathrm{norm}(x)$. Both read
# the same rows, so they can run at the same time. Write forward and backward of ops.


# %% tags=["exercise"] exercise="parallel_block"
def parallel_block(x, norm, attention, mlp, *, n_head):
    """(y, cache) for x (B, T, C); mlp is the list [W_up, b_up, W_down, b_down]."""
    raise NotImplementedError("write parallel_block")


def parallel_block_backward(dy, cache):
    """The gradients (dx, dnorm, dattention, dmlp), each of its parameter's structure."""
    raise NotImplementedError("write parallel_block_backward")


# %% tags=["check", "raises-exception"] exercise="parallel_block"
rng = np.random.default_rng(4)
x, norm = rng.standard_normal((2, 3, 8)), {"gain": rng.normal(size=8), "bias": rng.normal(size=8)}
attention = {
    "qkv": {"weight": rng.standard_normal((8, 24)) / 3, "bias": rng.standard_normal(24)},
    "out": {"weight": rng.standard_normal((8, 8)) / 3, "bias": rng.standard_normal(8)},
}
mlp = [rng.standard_normal(shape) / 3 for shape in ((8, 16), 16, (16, 8), 8)]
y, _ = parallel_block(x, norm, attention, mlp, n_head=2)
h, _ = layer_norm(x, norm["gain"], norm["bias"])
expected = x + multi_head_attention(h, attention, n_head=2, causal=True)[0] + mlp_gelu(h, *mlp)[0]
assert np.allclose(y, expected), "the forward is not x + attention(h) + mlp(h), causal, h = norm(x)"
report = check_vjp(
    parallel_block,
    parallel_block_backward,
    [x, norm, attention, mlp],
    {"n_head": 2},
    allow_zero="attention.qkv.bias",
)
assert report.passed, f"h is read by two, and x goes two ways.\n{report}"
print("parallel_block: right")

# %% [markdown]
# ## Where to go next
#
# - Next: [Training a GPT](10_training_a_gpt.ipynb), where this block meets the other models, and where
#   warm-up and clipping get their turn. What the stream holds is for
#   [Looking inside](14_looking_inside.ipynb).
# - Derivations: [layer_norm](../docs/derivations/layer_norm.md),
#   [add_layer_norm](../docs/derivations/add_layer_norm.md),
#   [transformer_block](../docs/derivations/transformer_block.md); the model:
#   [GPT](../docs/models/gpt.md).
# - J. L. Ba, J. R. Kiros & G. E. Hinton 2016, "Layer normalization", arXiv:1607.06450.
# - R. Xiong et al. 2020, "On layer normalization in the Transformer architecture", arXiv:2002.04745.
# - H. Wang et al. 2022, "DeepNet: scaling Transformers to 1,000 layers", arXiv:2203.00555: how to make
#   post-norm deep.
# - T. Bachlechner et al. 2020, "ReZero is all you need", arXiv:2003.04887.
