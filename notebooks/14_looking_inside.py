# %% [markdown]
# # 14. Looking inside
#
# A trained GPT is a list of some hundred thousand numbers. It predicts well; **what has it learned
# to *do*?** This notebook opens two models that are trained here in under a minute. We look at where
# their heads look, ask the model what it would say if it stopped half-way, and then do what looking
# alone can never do: take parts out and see what breaks. At the end stands an algorithm that nobody
# wrote, found in two heads of a two-layer model, and the step of training at which it appears.
#
# You need [Attention](08_attention.ipynb) and [The Transformer block](09_transformer_block.ipynb).
# Reading takes about 50 minutes, running about a minute. What takes long is kept below
# `runs/14_looking_inside` and read from there after a restart.

# %%
import json
import os
import platform
import re
import time
from pathlib import Path

import numpy as np

import minillm
from minillm.data import load_corpus
from minillm.models import gpt
from minillm.models.language_model import LanguageModel
from minillm.ops import softmax
from minillm.ops.multi_head_attention import join_heads, multi_head_attention
from minillm.optim import Adam, clip_scale, global_norm
from minillm.tokenizers import BPETokenizer, CharTokenizer
from minillm.training import TrainConfig, WorkerPool, keep, track, train_or_load
from minillm.tree import flatten, map_leaves, unflatten
from minillm.viz.attention import attention_maps, attention_weights, token_names
from minillm.viz.attention_view import AttentionView
from minillm.viz.logit_lens import lens_probabilities, logit_lens, residual_stream
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure

LONG = bool(os.environ.get("MINILLM_LONG"))
RUNS, RECORD = Path("runs/14_looking_inside"), Path("results/14_looking_inside.json")

# %% [markdown]
# ## The mathematics
#
# ### Everything is a sum
#
# A block of a GPT never replaces its input; it adds to it. With $x^0$ the embedding, and
# $a^l$, $m^l$ what attention and the feed-forward layer of block $l$ write,
#
# $$x^L = x^0 + \sum_{l=1}^{L} \left(a^l + m^l\right), \qquad
# \text{logits} = \mathrm{norm}(x^L)\, U^\top .$$
#
# This running sum is called the **residual stream** (Elhage et al. 2021). Attention is a sum as well.
# Concatenating the heads and multiplying by $W_O$ is the same as giving each head its own rows of
# $W_O$ and adding up:
#
# $$a = \mathrm{concat}(z_1, \dots, z_H)\, W_O = \sum_{h=1}^{H} z_h\, W_O^{(h)}, \qquad
# z_h = A_h\, \hat x\, W_V^{(h)}$$
#
# with $A_h$ the attention weights and $\hat x = \mathrm{norm}(x)$. Two tools follow at once:
#
# - **the logit lens** (nostalgebraist 2020): the last norm and $U$ can read the sum at *any* depth;
# - **ablation**: set the rows $W_O^{(h)}$ to 0, and head $h$ writes nothing. Everything else of the
#   model stays as it was.
#
# ### Two questions to a head
#
# A head decides *where* to look with $W_Q$ and $W_K$, and *what* to bring from there with $W_V$ and
# $W_O$. The second can be written as one matrix from tokens to tokens, the **OV circuit**:
#
# $$M_h = E\; W_V^{(h)}\, W_O^{(h)}\, U^\top \qquad (V \times V),$$
#
# whose entry $(i, j)$ says by how much looking at token $i$ raises the logit of token $j$ (the norms'
# gains are multiplied in; their division is left out). A head that **copies** raises the logit of the
# token it looks at: a heavy diagonal. Its trace is the sum of the eigenvalues $\lambda_k$, so Elhage
# et al. measure copying by $\sum_k \lambda_k / \sum_k |\lambda_k|$, between $-1$ and $1$.
#
# ### Induction
#
# Suppose a text contains `… A B … A`. A good guess for what follows is `B`. How could attention do
# it? Standing on the second `A`, we want to look at `B`, *because the token before it is* `A`. But a
# key is made from a token's own row, and in the first layer the row of `B` knows nothing about its
# neighbour. It takes two layers (Olsson et al. 2022):
#
# 1. in layer 1, a **previous-token head**: every token looks one back, and adds to its own row "before
#    me stood A";
# 2. in layer 2, an **induction head**: the query of the second `A` asks "before whom stood A?"; it
#    finds `B`, and copies it into the prediction.
#
# We train a model in which this is worth learning, and look for both. Two numbers per head tell
# whether it is there. On a sequence of $p$ random tokens and the same $p$ again:
#
# - **previous-token score**: the mean weight from $t$ to $t - 1$;
# - **prefix-matching score**: the mean weight from $t$ in the second half to $t - p + 1$, the token
#   *after* the earlier copy of its own.
#
# ## The code
#
# Where a head looks is not part of a model's output. We take it from a trace of the forward pass,
# queries and keys as attention got them, and attend to the rows of an identity matrix:

# %%
show_source(attention_weights)

# %% [markdown]
# The lens reads the sum before and after each block, again from a trace:

# %%
show_source(residual_stream)

# %%
show_source(lens_probabilities)

# %% [markdown]
# ### A model to look at
#
# A GPT of four layers with four heads each, rotary positions and tied weights, reads Python's help
# pages in tokens of byte pairs. It is small and trained for well under a minute: what it says is no
# good Python, but it has its habits.

# %%
text = load_corpus().text
bpe = BPETokenizer.train(text, vocab_size=768)
ids = bpe.encode(text)
cut = int(0.95 * len(ids))
reader = LanguageModel.create(
    "gpt", bpe, block_size=64, n_layer=4, n_head=4, n_embd=64, position="rotary", norm="rms"
)
config = TrainConfig(
    steps=400, batch=16, lr=4e-3, eval_every=250, eval_batches=10, threads=2, seed=0
)
result = train_or_load(reader, (ids[:cut], ids[cut:]), config, RUNS / "reader")
print(f"{reader.n_parameters:,} parameters, {result.best_loss:.2f} nats a token on the last pages")
print(f"(a blind guess among {bpe.vocab_size} tokens: {np.log(bpe.vocab_size):.2f})")

# %% [markdown]
# ### Where it looks
#
# All sixteen heads at once: a row of pictures is a layer. In each picture, a row is the token that
# looks, a column the token it looks at, and grey is the future. Look for three habits: a dark line
# just below the diagonal (a head that looks at the token before), dark vertical stripes (a token at
# which all those after it look), and pale, even rows (a head that takes a mean over everything).

# %% tags=["picture"] alt="Attention weights of 4 layers with 4 heads over a sentence of about 15 tokens: some heads look at the token before, some show vertical stripes, some spread evenly."
sentence = "The value of the iterator is returned by the iterator"
sentence_ids = bpe.encode(sentence)
weights = attention_weights(reader.params, sentence_ids, reader.config)  # (L, H, T, T)
attention_maps(weights, token_names(bpe, sentence_ids))

# %% [markdown]
# The same to explore: choose a head by its small picture, point at a token (or go there with Tab and
# the arrow keys). Which head of the first layer looks back by one most faithfully?

# %% tags=["picture"] alt="Interactive view of the attention of 4 layers with 4 heads: choose a head and point at a token to see where it looks."
AttentionView.of(reader, sentence, title="Where the reader's heads look")

# %% [markdown]
# Maps are suggestive, and they mislead easily: a weight says where a head looks, not what it takes
# from there, nor whether anyone uses it. Keep that in mind until we intervene.
#
# ### What it would say half-way
#
# The logit lens. Read the picture from below: at the bottom the tokens that are read, each box is the
# likeliest next token if the model stopped at that depth, and at the top is what does follow. An
# orange edge means right.

# %% tags=["picture"] alt="Logit lens: the likeliest next token by layer and position. At the embedding each token predicts itself; from layer 1 on common continuations appear; probabilities change with depth."
lens_text = "If the value is not found, the default is returned by the iterator"
lens_ids = bpe.encode(lens_text)[:16]
names = [bpe.token_name(i) for i in range(bpe.vocab_size)]
p = lens_probabilities(reader.params, lens_ids[:-1], reader.config)  # (L + 1, T, V)
logit_lens(p, [names[i] for i in lens_ids[:-1]], names, targets=lens_ids[1:])

# %% [markdown]
# In the lowest row every token predicts *itself*. That is no bug: the weights are tied, so a row of
# the embedding fits itself best. The first block has to remove this guess before anything else. How
# much does each layer gain on average? The mean loss of the lens at every depth, over text that was
# not trained on:

# %% tags=["picture"] alt="Mean loss of the logit lens by depth: far above a blind guess at the embedding, then falling from layer to layer."
held_out = ids[cut : cut + 40 * 65].reshape(40, 65)
levels = reader.config.n_layer + 1
depth_loss = np.zeros(levels)
for row in held_out:
    p = lens_probabilities(reader.params, row[:-1], reader.config)
    depth_loss -= np.log(p[:, np.arange(64), row[1:]]).mean(-1) / len(held_out)

figure = new_figure(5.5, 2.8)
axes = figure.add_subplot()
axes.plot(range(levels), depth_loss, "o-", color=COLOURS[0])
axes.axhline(np.log(bpe.vocab_size), color="black", linestyle=(0, (1, 3)), linewidth=1)
axes.text(levels - 1, np.log(bpe.vocab_size) + 0.15, "blind guess", ha="right", fontsize=9)
for level, loss in enumerate(depth_loss):
    axes.annotate(f"{loss:.2f}", (level, loss), (0, 7), textcoords="offset points", fontsize=9)
axes.set_xticks(range(levels), ["embedding", *(f"layer {i}" for i in range(1, levels))])
axes.set(ylabel="nats per token", ylim=(0, None))
axes.margins(0.08, 0.15)
axes.spines[["top", "right"]].set_visible(False)
axes.tick_params(labelsize=9, colors=GREY)
figure

# %% [markdown]
# The model refines its guess layer by layer; nothing forces it to (only the last row is trained), but
# since every block reads and writes the same stream, half-way states speak nearly the same language.
#
# ## An experiment: an algorithm appears
#
# Now the second model: two layers with four heads each, on characters. Half of each batch is text
# from the help pages. The other half are random characters that repeat with a period drawn from 12 to
# 24: the first period cannot be predicted by anyone, the rest can be by whoever looks for what
# followed last time. Since the period changes from row to row, "look 20 back" is no solution; the
# content must be compared.

# %%
clean = re.sub(r"[^a-z.,\n]+", " ", text.lower())
characters = CharTokenizer("".join(sorted(set(clean))))
stream = characters.encode(clean)
LETTERS = np.unique(stream)
T = 48  # the length of a row


def repeats(rng, rows, low, high):
    """Rows (rows, T + 1) of random characters, each with a period from low to high."""
    made = np.empty((rows, T + 1), np.int32)
    for row in made:
        row[:] = np.resize(rng.choice(LETTERS, rng.integers(low, high + 1)), T + 1)
    return made


def batch(rng, texts, random):
    """So many rows of text and so many of repeats."""
    starts = rng.integers(0, len(stream) - T - 1, texts)
    return np.concatenate(
        [stream[starts[:, None] + np.arange(T + 1)], repeats(rng, random, T // 4, T // 2)]
    )


show = batch(np.random.default_rng(3), 1, 2)
for row in show:
    print(repr(characters.decode(row)))

# %% [markdown]
# The measures of the section above, and the loss on each half of sequences with a period of exactly
# half their length:

# %%
HALF = T // 2
probe = repeats(np.random.default_rng(100), 32, HALF, HALF)  # (32, T + 1), for all measurements
text_probe = batch(np.random.default_rng(101), 32, 0)


def loss_of(params, config, rows, positions=slice(None)):
    """Nats a token at some of the positions of rows (B, T + 1)."""
    targets = np.full_like(rows[:, 1:], -100)  # -100 does not count
    targets[:, positions] = rows[:, 1:][:, positions]
    return float(gpt.loss(params, ids=rows[:, :-1], targets=targets, config=config)[0])


SECOND = slice(HALF, T)  # predictions that a look back can make


def scores(params, config, rows=probe[:6]):
    """Previous-token and prefix-matching score of every head: two arrays (L, H)."""
    maps = np.mean([attention_weights(params, row[:-1], config) for row in rows], 0)
    late, later = np.arange(HALF, T), np.arange(1, T)
    return maps[..., later, later - 1].mean(-1), maps[..., late, late - HALF + 1].mean(-1)


# %% [markdown]
# Training, with these measures every 50 steps. Beside the model with two layers we train one with a
# single layer, which by the argument above cannot do it. Both run at the same time, a thread each.


# %%
def fresh(n_layer, seed):
    """A model with its first weights, for the characters."""
    shape = {"block_size": T, "n_layer": n_layer, "n_head": 4, "n_embd": 64, "n_inner": 64}
    kind = {"position": "rotary", "norm": "rms", "tied": False}
    return LanguageModel.create("gpt", characters, seed=seed, **shape, **kind)


def grow(n_layer, steps, seed):
    """Train a model on the mixture; its measures along the way, and its weights."""
    model = fresh(n_layer, seed)
    params, config = model.params, model.config
    rng = np.random.default_rng([seed, 1])
    optimizer = Adam(betas=(0.9, 0.99))
    state = optimizer.init(params)
    rows = []
    count = range(steps + 1)
    for step in track(count, "two layers") if n_layer == 2 else count:
        if step % 50 == 0:
            halves = [loss_of(params, config, probe, part) for part in (slice(0, HALF), SECOND)]
            on_text = loss_of(params, config, text_probe)
            previous, prefix = scores(params, config)
            rows.append([step, *halves, on_text, previous, prefix])
        if step == steps:
            break
        taken = batch(rng, 8, 8)
        _, cache = gpt.loss(params, ids=taken[:, :-1], targets=taken[:, 1:], config=config)
        grads = gpt.loss.backward(1.0, cache)
        rate = 3e-3 * min(1, (step + 1) / 50)
        optimizer.update(params, grads, state, rate, scale=clip_scale(global_norm(grads), 1.0))
    names = "step", "first", "second", "text", "previous", "prefix"
    measures = {n: np.array(v) for n, v in zip(names, zip(*rows, strict=True), strict=True)}
    return measures | {f"params.{name}": leaf for name, leaf in flatten(params).items()}


with WorkerPool(2) as pool:
    two, one = pool.map(
        lambda n: keep(RUNS / f"{n}_layers.npz", grow, n_layer=n, steps=2000, seed=0), (2, 1)
    )
print("                       two layers   one layer")
for name, what in (
    ("first", "first half, random"),
    ("second", "second half, repeated"),
    ("text", "text"),
):
    print(f"{what:22} {two[name][-1]:10.2f} {one[name][-1]:11.2f}   nats a character")

# %% [markdown]
# The first half cannot be predicted by anyone. That both models do worse there than a blind guess
# (the logarithm of the number of characters) is the price of their confidence: half of what they read
# is text, and what is not seems about to repeat.
#
# Look at the first panel below: the loss on the second half. One layer hardly gets below a blind
# guess. Two layers don't either, for hundreds of steps, and then, within a few hundred more, the loss
# falls off a cliff. Olsson et al. call this a **phase change**. The second panel shows each head's
# two scores over the same steps (a line a head, the strongest in colour); the third, the loss on
# ordinary text.

# %% tags=["picture"] alt="Three panels over training steps. Loss on the repeated half: one layer stays near a blind guess, two layers fall suddenly. Scores: the best previous-token and prefix-matching heads rise at the same steps. Text loss: both models fall smoothly."
step = two["step"]
induction = np.unravel_index(two["prefix"][-1].argmax(), two["prefix"][-1].shape)
backward_looker = int(two["previous"][-1][0].argmax())  # of the first layer
below = [two["second"] < share * two["second"][0] for share in (0.9, 0.2)]
# a level that is not reached counts as reached with the last step
change = [int(np.argmax(b)) if b.any() else len(step) - 1 for b in below]

figure = new_figure(9.6, 3)
losses, heads, on_text = figure.subplots(1, 3)
losses.plot(step, two["second"], color=COLOURS[0], label="two layers")
losses.plot(one["step"], one["second"], color=GREY, label="one layer")
losses.axhline(np.log(len(LETTERS)), color="black", linestyle=(0, (1, 3)), linewidth=1)
losses.set(title="loss on the repeated half", ylabel="nats per character", ylim=(0, 3.8))
losses.legend(frameon=False, fontsize=8, loc="lower left")
for name, colour, best in (
    ("previous", COLOURS[1], (0, backward_looker)),
    ("prefix", COLOURS[2], induction),
):
    every = two[name].reshape(len(step), -1)
    heads.plot(step, every, color=colour, alpha=0.2, linewidth=0.8)
    label = f"{'previous token' if name == 'previous' else 'prefix matching'}, {best[0] + 1}.{best[1] + 1}"
    heads.plot(step, two[name][:, *best], color=colour, linewidth=2, label=label)
heads.set(title="scores of the heads", ylabel="mean attention weight", ylim=(0, 1))
heads.legend(frameon=False, fontsize=8, loc="upper left", title="layer.head", title_fontsize=8)
on_text.plot(step, two["text"], color=COLOURS[0])
on_text.plot(one["step"], one["text"], color=GREY)
on_text.set(title="loss on text", ylabel="nats per character", ylim=(0, 3.8))
for axes in (losses, heads, on_text):
    axes.axvspan(*step[change], color="0.92", zorder=0)
    axes.set_xlabel("step")
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=GREY)

reached = [f"at step {step[c]}" if b.any() else "never" for c, b in zip(change, below, strict=True)]
print(f"the loss is below 90% of its start first {reached[0]}, below 20% first {reached[1]}")
print("prefix-matching scores at the end, layer by layer:")
print(np.round(two["prefix"][-1], 2))
print("previous-token scores at the end:")
print(np.round(two["previous"][-1], 2))
figure

# %% [markdown]
# The grey band is the time in which the repeated half goes from unpredictable to predicted. In the
# same band, a head of the *first* layer begins to look at the token before, and a head of the
# *second* layer at the token after the earlier copy. Neither is any use without the other, which is
# why nothing happens for so long: there is little slope until both are there by half.
#
# ### Is it luck?
#
# One seed proves little. The long form of this notebook (`make long NOTEBOOK=14`, some minutes) trains
# the two-layer model from six seeds; this is what it recorded. Each line is a seed.


# %% tags=["picture"] alt="Six seeds of the two-layer model: in each, the loss on the repeated half falls suddenly, at another step for each seed, and the best prefix-matching score rises at the same steps."
def long_experiment(seeds=(0, 1, 2, 3, 4, 5)):
    """Loss on the repeated half and the best scores along the way, of every seed."""
    began, runs = time.perf_counter(), []
    with WorkerPool(2) as pool:
        for pair in zip(seeds[::2], seeds[1::2], strict=True):
            runs += pool.map(
                lambda s: keep(RUNS / f"2_layers_{s}.npz", grow, n_layer=2, steps=2000, seed=s),
                pair,
            )
    made = {"command": "make long NOTEBOOK=14", "seconds": round(time.perf_counter() - began)}
    made |= {"python": platform.python_version(), "numpy": np.__version__}
    rows = [
        {
            "seed": seed,
            "second": np.round(run["second"], 3).tolist(),
            "prefix": np.round(run["prefix"][:, 1].max(-1).astype(float), 3).tolist(),
            "previous": np.round(run["previous"][:, 0].max(-1).astype(float), 3).tolist(),
        }
        for seed, run in zip(seeds, runs, strict=True)
    ]
    RECORD.parent.mkdir(exist_ok=True)
    content = {"made": made, "step": runs[0]["step"].tolist(), "rows": rows}
    RECORD.write_text(json.dumps(content) + "\n", encoding="utf-8")


if LONG:
    long_experiment()
recorded = json.loads(RECORD.read_text(encoding="utf-8"))
print("recorded by", recorded["made"])

figure = new_figure(9.6, 2.8)
panels = (
    ("second", "loss on the repeated half", "nats per character"),
    ("previous", "layer 1: best previous-token score", "mean attention weight"),
    ("prefix", "layer 2: best prefix-matching score", "mean attention weight"),
)
for axes, (name, title, ylabel) in zip(figure.subplots(1, 3), panels, strict=True):
    for row, colour in zip(recorded["rows"], COLOURS, strict=False):
        axes.plot(recorded["step"], row[name], color=colour, linewidth=1.5)
    axes.set(title=title, ylabel=ylabel, xlabel="step", ylim=(0, 3.8 if name == "second" else 1))
    axes.title.set_fontsize(10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=GREY)
figure

# %% [markdown]
# The step differs from seed to seed; the cliff, and that all three happen together, does not.
#
# ### The two heads at work
#
# The model reads a random sequence twice. In the second layer's induction head, point at a character
# of the second half: it looks at the one *after* its earlier copy. Then look at the previous-token head
# of layer 1.

# %% tags=["picture"] alt="Interactive view of the two-layer model's attention on 24 random characters and their repetition; the induction head shows a stripe from the second half to one after the earlier copy."
inductor = fresh(2, 0)
inductor.params = unflatten(
    {k.removeprefix("params."): v for k, v in two.items() if k.startswith("params.")},
    inductor.params,
)
params, config = inductor.params, inductor.config
AttentionView.of(
    inductor,
    characters.decode(probe[0][:T]),
    show=(int(induction[0]), int(induction[1]), T - 3),
    title="A random sequence, twice",
)

# %% [markdown]
# ## An experiment: take the heads out
#
# So far we have seen two heads that *look like* the algorithm. Do they carry it? We take out each of
# the eight heads in turn, by setting its rows of $W_O$ to 0, and measure again.


# %%
def without(params, config, *heads):
    """A copy of the params in which these (layer, head) write nothing."""
    copy = map_leaves(np.copy, params)
    D = config.head_size
    for layer, head in heads:
        copy["blocks"][layer]["attention"]["out"]["weight"][head * D : (head + 1) * D] = 0
    return copy


whole = loss_of(params, config, probe, SECOND)
whole_text = loss_of(params, config, text_probe)
L, H = config.n_layer, config.n_head
cost, text_cost, left = np.zeros((3, L, H))
for head in np.ndindex(L, H):
    broken = without(params, config, head)
    cost[head] = loss_of(broken, config, probe, SECOND) - whole
    text_cost[head] = loss_of(broken, config, text_probe) - whole_text
    left[head] = scores(broken, config)[1][induction]
print(f"nothing taken out: {whole:.2f} nats on the repeated half, {whole_text:.2f} on text")

# %% [markdown]
# Left: how much the loss on the repeated half rises when a head is missing. Middle: the same on text.
# Right: the prefix-matching score *of the induction head* when another head is missing. If our story is
# right, the induction head loses its target when the previous-token head of layer 1 is gone, although
# nothing in the induction head has been touched.

# %% tags=["picture"] alt="Three bar charts by head: the rise of the loss on the repeated half and on text when a head is taken out, and the prefix-matching score that the induction head keeps; the previous-token head and the induction heads matter most."
figure = new_figure(9.6, 3)
labels = [f"{layer + 1}.{head + 1}" for layer, head in np.ndindex(L, H)]
colours = [GREY] * (L * H)
colours[backward_looker] = COLOURS[1]
colours[induction[0] * H + induction[1]] = COLOURS[2]
panels = (
    (cost, "loss on the repeated half", "nats more without the head"),
    (text_cost, "loss on text", "nats more without the head"),
    (left, f"score of induction head {induction[0] + 1}.{induction[1] + 1}", "prefix matching"),
)
for axes, (values, title, ylabel) in zip(figure.subplots(1, 3), panels, strict=True):
    axes.bar(labels, values.ravel(), color=colours)
    axes.axhline(0, color="black", linewidth=0.6)
    axes.set(title=title, ylabel=ylabel, xlabel="head taken out (layer.head)")
    axes.title.set_fontsize(10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=GREY)
intact = scores(params, config)[1][induction]
figure.axes[2].axhline(intact, color="black", linestyle=(0, (1, 3)), linewidth=1)
figure.axes[2].text(7.4, intact + 0.02, "nothing taken out", ha="right", fontsize=8)
figure.axes[2].set_ylim(0, 1.1)

order = np.argsort(-cost.ravel())
print("heads by what the repeated half costs without them:")
print("  " + "  ".join(f"{labels[i]}: {cost.flat[i]:+.2f}" for i in order))
print(f"the induction head's score, intact: {intact:.2f}; ", end="")
print(f"without the previous-token head 1.{backward_looker + 1}: {left[0, backward_looker]:.2f}")
others = [h for h in range(H) if h != backward_looker]
print(f"without another head of layer 1: {', '.join(f'{left[0, h]:.2f}' for h in others)}")
figure

# %% [markdown]
# This is evidence of cause, where the maps were only a likeness. (With care: setting to zero also
# pushes the stream to where it has never been. Replacing a head's output by its mean is gentler, and
# exercise 4. And models hold spares: when a head has a twin, taking one out shows little.)
#
# ## An experiment: what does the head bring?
#
# The OV circuit of every head: looking at character $i$ raises the logit of character $j$ by
# $M_{ij}$. Printed is the copying score of each head; drawn is the circuit of the induction head and
# that of the previous-token head. A copying head is a diagonal.


# %%
def ov_circuit(params, config, layer, head):
    """(V, V) over LETTERS: what looking at a token adds to the logits, norms' divisions left out."""
    D, block = config.head_size, params["blocks"][layer]
    start = 2 * config.n_head * D + head * D  # qkv: all queries, all keys, all values
    W_v = block["attention"]["qkv"]["weight"][:, start : start + D]
    W_o = block["attention"]["out"]["weight"][head * D : (head + 1) * D]
    seen = params["wte"][LETTERS] * block["norm1"]["gain"]
    told = params["norm"]["gain"] * params["head"][LETTERS]
    return seen @ W_v @ W_o @ told.T


def copying(circuit):
    """sum of eigenvalues / sum of their sizes: 1 copies, -1 suppresses."""
    eigenvalues = np.linalg.eigvals(circuit)
    return float((eigenvalues.sum() / np.abs(eigenvalues).sum()).real)


copies = np.array([[copying(ov_circuit(params, config, i, j)) for j in range(H)] for i in range(L)])
print("copying score, layer by layer:")
print(np.round(copies, 2))

# %% tags=["picture"] alt="OV circuits over the alphabet: the induction head's has a heavy diagonal, it copies; the previous-token head's has none."
figure = new_figure(8.6, 3.9)
panels = (((0, backward_looker), "previous-token head"), (induction, "induction head"))
shown_letters = characters.decode(LETTERS).replace("\n", "⏎").replace(" ", "␣")
for axes, (head, name) in zip(figure.subplots(1, 2), panels, strict=True):
    circuit = ov_circuit(params, config, *head)
    circuit = circuit - circuit.mean(-1, keepdims=True)  # softmax does not see a row's mean
    most = np.abs(circuit).max()
    image = axes.imshow(circuit, cmap="PuOr", vmin=-most, vmax=most)
    axes.set_xticks(range(len(LETTERS)), list(shown_letters))
    axes.set_yticks(range(len(LETTERS)), list(shown_letters))
    axes.set(title=f"{name} {head[0] + 1}.{head[1] + 1}", xlabel="logit of", ylabel="looking at")
    axes.tick_params(labelsize=6.5, length=0, colors=GREY)
    figure.colorbar(image, ax=axes, shrink=0.8)
figure

# %% [markdown]
# The induction head says what it sees: purple on the diagonal. The previous-token head does not, and
# mind the colour bars: it hardly moves the logits at all. Removing it did its damage on another way,
# through the queries and keys of layer 2, as the third panel above has shown.
#
# ### The lens on the repeated sequence
#
# All together, on the second half of one sequence: the lens on the two-layer model. The next
# character should appear at the very last step, after the second layer. Where it does not, look
# whether the character read has occurred more than once: then there is more than one candidate.

# %% tags=["picture"] alt="Logit lens of the two-layer model over 14 characters of the repeated half: wrong guesses at the embedding and after layer 1, most of them right after layer 2."
row = probe[1]
p = lens_probabilities(params, row[:-1], config)  # (3, T, V)
part = slice(HALF, HALF + 14)
alphabet = [characters.token_name(i) for i in range(characters.vocab_size)]
logit_lens(p[:, part], [alphabet[i] for i in row[:-1][part]], alphabet, targets=row[1:][part])

# %% [markdown]
# ### A word that nobody has seen
#
# Does it help with text? We put made-up names, six random letters, into a sentence in which the name
# occurs three times. The bars are the probability of each of its letters at the three occurrences, the
# mean over 200 names, with the whole model and without the induction head. The first letter is left
# out: nothing announces it.

# %% tags=["picture"] alt="Mean probability of each letter of made-up names at their three occurrences, with and without the induction head: low at the first, higher at the second and third, more so with the head."
SENTENCE = "the {0} of a {0} is no {0}."
rng = np.random.default_rng(7)
alphabet_only = [c for c in sorted(set(clean)) if c.isalpha()]
made_up = ["".join(rng.choice(alphabet_only, 6)) for _ in range(200)]
stories = np.stack([characters.encode(SENTENCE.format(name)) for name in made_up])  # (200, length)
starts = [m.start() for m in re.finditer(made_up[0], SENTENCE.format(made_up[0]))]
chance = {}
broken = without(params, config, tuple(induction))
for label, weights_ in (("whole model", params), ("without the induction head", broken)):
    logits, _ = gpt.forward(weights_, ids=stories[:, :-1], config=config)
    p = np.take_along_axis(softmax(logits)[0], stories[:, 1:, None], -1)[..., 0]
    chance[label] = p.mean(0)  # of the character after each position

figure = new_figure(8.6, 2.7)
for n, (axes, start) in enumerate(zip(figure.subplots(1, 3, sharey=True), starts, strict=True)):
    places = np.arange(1, 6)
    for k, (label, values) in enumerate(chance.items()):
        heights = values[start + places - 1]
        axes.bar(places + 0.4 * (k - 0.5), heights, 0.4, color=(COLOURS[2], GREY)[k], label=label)
    axes.set_xticks(places, [f"{place + 1}" for place in places])
    axes.set(title=f"occurrence {n + 1}", xlabel="letter of the name", ylim=(0, 1))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=9, colors=GREY)
figure.axes[0].set_ylabel("mean probability")
figure.axes[0].legend(frameon=False, fontsize=8)

for label, values in chance.items():
    means = [values[start : start + 5].mean() for start in starts]
    print(f"{label:27}", "  ".join(f"{n + 1}: {m:.2f}" for n, m in enumerate(means)))
figure

# %% [markdown]
# The names are learned from the text that is being read, without any change of a weight; what is left
# without the head may be the work of the next best one. Later letters are surer: more of the name stands
# before them. This is the simplest case
# of *in-context learning*, and Olsson et al. argue that much of what large models do in context grows
# out of heads like this one.
#
# ## Exercises
#
# **1. The algorithm by itself.** Write what the two heads do, as a function: the guess for the next
# token is the one that followed the *last earlier* occurrence of the present token; None if there is
# none.


# %% tags=["exercise"] exercise="guess_next"
def guess_next(ids):
    """The id expected after ids (T,), or None."""
    raise NotImplementedError("write guess_next")


# %% tags=["check", "raises-exception"] exercise="guess_next"
assert guess_next(np.array([5, 1, 2, 5])) == 1, "after 5 came 1"
assert guess_next(np.array([5, 1, 5, 3, 5])) == 3, "the last earlier 5 was followed by 3"
assert guess_next(np.array([1, 2, 3])) is None, "3 has not been there before: expected None"
assert guess_next(np.array([4, 4])) == 4, "an occurrence is earlier even if it is right before"
agree_ = []
for row_ in probe[:10]:
    likeliest_ = gpt.forward(params, ids=row_[None, :-1], config=config)[0][0].argmax(-1)
    agree_ += [guess_next(row_[: t + 1]) == likeliest_[t] for t in range(HALF, T)]
print(
    f"guess_next: right. On repeated text the model says the same in {np.mean(agree_):.0%} of cases"
)

# %% [markdown]
# **2. Duplicate-token heads.** Another kind of head looks at earlier copies of its own token (Wang et
# al. 2022, arXiv:2211.00593). Measure it: for every token that has occurred before, the sum of the
# weights on its earlier copies (not on itself); the mean of this over all such tokens.


# %% tags=["exercise"] exercise="duplicate_score"
def duplicate_score(weights, ids):
    """The score of each head, (L, H), for weights (L, H, T, T) and ids (T,)."""
    raise NotImplementedError("write duplicate_score")


# %% tags=["check", "raises-exception"] exercise="duplicate_score"
rng_ = np.random.default_rng(2)
ids_ = np.array([3, 1, 3, 2, 1, 3])
weights_ = np.tril(rng_.random((2, 3, 6, 6)))
weights_ /= weights_.sum(-1, keepdims=True)
came_ = duplicate_score(weights_, ids_)
assert np.shape(came_) == (2, 3), f"expected one number a head, shape (2, 3); got {np.shape(came_)}"
expected_ = np.mean(
    [weights_[..., 2, 0], weights_[..., 4, 1], weights_[..., 5, 0] + weights_[..., 5, 2]], axis=0
)
assert np.allclose(came_, expected_), (
    f"head (0, 0): got {came_[0, 0]:.3f}, expected {expected_[0, 0]:.3f}. Three tokens have occurred "
    "before: numbers 2, 4 and 5. Does a token count as a copy of itself? The mean is over which tokens?"
)
print("duplicate_score: right. In the two-layer model, on text with repeats:")
print(np.round(duplicate_score(attention_weights(params, probe[0][:-1], config), probe[0][:-1]), 2))

# %% [markdown]
# **3. Who wrote what?** Split attention's output into what each head adds to the stream: the second
# formula of this notebook. `z` is $(H, T, D)$, `W_out` is $(H D, C)$.


# %% tags=["exercise"] exercise="by_head"
def by_head(z, W_out):
    """What each head writes, (H, T, C); their sum is join_heads(z) @ W_out."""
    raise NotImplementedError("write by_head")


# %% tags=["check", "raises-exception"] exercise="by_head"
rng_ = np.random.default_rng(4)
z_, W_ = rng_.standard_normal((3, 5, 4)), rng_.standard_normal((12, 7))
parts_ = by_head(z_, W_)
assert np.shape(parts_) == (3, 5, 7), f"expected shape (3, 5, 7), got {np.shape(parts_)}"
assert np.allclose(parts_.sum(0), join_heads(z_[None])[0] @ W_), (
    "the heads' parts do not add up to attention's output"
)
alone_ = z_.copy()
alone_[[0, 2]] = 0
assert np.allclose(parts_[1], join_heads(alone_[None])[0] @ W_), (
    "part 1 is not what is written when all heads but number 1 are silent: which rows are its own?"
)
print("by_head: right")

# %% [markdown]
# **4. A gentler ablation.** Instead of nothing, let a head always say its mean: given `mean` $(D,)$,
# the mean of $z_h$ over many texts, change the params of one attention layer so that the head's output
# is `mean` at every position, whatever it reads. Return a new nest and leave the old one as it is.
# (Where in the params can a constant be added?)


# %% tags=["exercise"] exercise="mean_ablate"
def mean_ablate(attention, head, mean):
    """The params {"qkv", "out"} of an attention layer whose head always gives `mean` (D,)."""
    raise NotImplementedError("write mean_ablate")


# %% tags=["check", "raises-exception"] exercise="mean_ablate"
attention_ = map_leaves(lambda a: a.astype(np.float64), params["blocks"][0]["attention"])
before_ = map_leaves(np.copy, attention_)
rng_ = np.random.default_rng(6)
D_, C_ = config.head_size, config.n_embd
x_, mean_ = rng_.standard_normal((2, 9, C_)), rng_.standard_normal(D_)
came_, _ = multi_head_attention(x_, mean_ablate(attention_, 2, mean_), n_head=H, causal=True)
for name_, leaf_ in flatten(before_).items():
    assert np.array_equal(leaf_, flatten(attention_)[name_]), f"{name_} was changed in place"
with minillm.backend("numpy"), minillm.trace(values=True) as steps_:
    multi_head_attention(x_, attention_, n_head=H, causal=True)
(step_,) = (s for s in steps_ if s.name == "flash_attention")
z_ = step_.values["out"].copy()  # (B, H, T, D)
z_[:, 2] = mean_
out_ = attention_["out"]
expected_ = join_heads(z_) @ out_["weight"] + out_["bias"]
assert np.allclose(came_, expected_), (
    f"off by up to {np.abs(came_ - expected_).max():.2g}: is the head silent, "
    "and is the mean written through the head's own rows of W_O?"
)
print("mean_ablate: right")

# %% [markdown]
# ## Where to go next
#
# - This is the end of the course's path. Back to where the models were made:
#   [Training a GPT](10_training_a_gpt.ipynb), [Generation](11_generation.ipynb).
# - Things to try here: another seed in `grow` (does the change come at the same step?), a feed-forward
#   layer of one channel (`n_inner=1`), learned positions, a fixed period (what does the model learn
#   instead?).
# - The model's equations by line: [GPT](../docs/models/gpt.md).
# - nostalgebraist 2020, "interpreting GPT: the logit lens", LessWrong.
# - N. Elhage et al. 2021, "A mathematical framework for transformer circuits", Transformer Circuits
#   Thread.
# - C. Olsson et al. 2022, "In-context learning and induction heads", arXiv:2209.11895.
# - K. Wang et al. 2022, "Interpretability in the wild: a circuit for indirect object identification in
#   GPT-2 small", arXiv:2211.00593.
# - S. Jain & B. C. Wallace 2019, "Attention is not explanation", arXiv:1902.10186: why maps alone prove
#   little.
