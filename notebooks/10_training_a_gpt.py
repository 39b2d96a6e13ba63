# %% [markdown]
# # 10. Training a GPT
#
# The table of 6-grams from [notebook 1](01_counting.ipynb) is counted in a tenth of a second. The
# GPT of [notebook 9](09_transformer_block.ipynb) begins with random weights and has to be shown the
# same text many times. **What does a model's loss cost, in seconds and in arithmetic, and when does
# the dearer model win?** To answer, every model so far is trained on one text and drawn into one
# picture. On the way: why the learning rate rises before it falls, what clipping is for, and how
# large a batch should be.
#
# You need the loss and the blocks of the notebooks before this one. Reading takes about 45 minutes,
# running about 50 seconds.

# %%
import json
import math
import os
import platform
import time
from pathlib import Path

import numpy as np

from minillm.data.batches import RandomBlocks
from minillm.data.prepare import prepare
from minillm.metrics import evaluate
from minillm.models import gpt
from minillm.models.baselines import Unigram
from minillm.models.language_model import LanguageModel
from minillm.models.ngram import NGram
from minillm.optim import Adam, AdamW, clip_by_global_norm, constant, cosine, global_norm, linear
from minillm.optim.schedules import _after_warmup
from minillm.training import TrainConfig, Trainer, WorkerPool, keep, track, train_or_load
from minillm.training.flops import CountedArray, step_flops
from minillm.tree import flatten, leaves, map_leaves
from minillm.viz.curves import learning_curves
from minillm.viz.loss_by_cost import loss_by_cost
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure
from minillm.viz.surprise import SurpriseView

LONG = bool(os.environ.get("MINILLM_LONG"))
RUNS = Path("runs/10_training_a_gpt")
RECORD = Path("results/10_training_a_gpt.json")

text = prepare("topics")  # Python's help pages, in characters: the text of notebook 1
tokenizer = text.tokenizer
print(text.describe())

# %% [markdown]
# ## The mathematics
#
# ### One step
#
# Training repeats four lines, a few hundred times here and a few hundred thousand times for a large
# model. A batch of $B$ blocks of $T$ tokens is drawn from the text; $\theta$ are all the weights:
#
# $$
# \begin{aligned}
# L &= -\frac{1}{BT}\sum_{b,t} \log p_\theta(x_{b,t+1} \mid x_{b,\le t}) && \text{the loss} \\
# g &= \nabla_\theta L && \text{its gradient} \\
# g &\leftarrow g \cdot \min(1,\; c / \lVert g \rVert) && \text{clipping} \\
# \theta &\leftarrow \theta - \eta_s \, u(g) && \text{the update, at the rate of step } s
# \end{aligned}
# $$
#
# The notebooks before this one were about the first two lines. This one is about the rest: $c$,
# $\eta_s$, $u$, and the $B$ in the sum.
#
# ### The rate: up, then down
#
# The update rule is Adam's (Kingma & Ba 2015, algorithm 1). It keeps running means of the gradient,
# $m \leftarrow \beta_1 m + (1 - \beta_1)\, g$, and of its square,
# $v \leftarrow \beta_2 v + (1 - \beta_2)\, g^2$, with $\beta_1$ and $\beta_2$ a little below 1. It corrects
# both for having begun at zero, and divides the one by the root of the other ($\epsilon$ is tiny and
# only avoids $0/0$):
#
# $$
# u = \frac{\hat m}{\sqrt{\hat v} + \epsilon}, \qquad
# \hat m = \frac{m}{1 - \beta_1^{s}}, \quad \hat v = \frac{v}{1 - \beta_2^{s}}
# $$
#
# (Here the first step is $s = 1$.) Put it in: then $\hat m = g$ and $\hat v = g^2$, so that
# $u = g / |g| = \pm 1$ in **every** coordinate that has a gradient. The first step moves every weight by the
# full $\eta$, whether its gradient is large or is nothing but the noise of one batch. Later steps are
# shorter: where the sign of $g$ keeps changing, $m$ averages it away while $v$ does not. So Adam's
# longest steps are its first, when it knows least. The **warm-up** (Goyal et al. 2017, section 2.2)
# takes the edge off: the rate rises along a straight line for the first steps.
#
# At the other end, a constant rate keeps the weights shaking around a minimum by an amount that grows
# with $\eta$. So the rate should fall. The **cosine** (Loshchilov & Hutter 2017, eq. 5) stays high for
# long and lands softly. With the highest rate $\eta$, $w$ warm-up steps out of $S$, and the first step
# $s = 0$ as in the code:
#
# $$
# \eta_s =
# \begin{cases}
# \eta \, (s + 1) / (w + 1) & s < w \\
# \eta_{\text{end}} + \tfrac12 (\eta - \eta_{\text{end}})
# \left(1 + \cos \pi \tfrac{s - w}{S - w}\right) & s \ge w
# \end{cases}
# $$
#
# The next picture draws the three schedules of `minillm.optim`, all with a warm-up of 50 steps.

# %% tags=["picture"] alt="Learning rate against step for constant, linear and cosine schedules: all rise for 50 steps; constant stays, linear falls straight, cosine falls slowly at both ends."
figure = new_figure(7.2, 3.2)
axes = figure.add_subplot(xlabel="step", ylabel="learning rate")
for name, schedule, colour in zip(
    ("constant", "linear", "cosine"), (constant, linear, cosine), COLOURS, strict=False
):
    rate = schedule(3e-3, 500, warmup=50, final=1e-4)
    axes.plot([rate(s) for s in range(500)], color=colour, linewidth=2, label=name)
axes.axvspan(0, 50, color="0.93", zorder=0)
axes.text(54, 2e-4, "← warm-up", color=GREY, fontsize=9)
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# ### Clipping
#
# Now and then a batch has a gradient many times as long as usual. One such step can undo a hundred
# good ones. **Clipping by global norm** (Pascanu et al. 2013, algorithm 1) takes the length of all
# gradients together, as if they were one long vector, and shortens it to $c$ where it is longer:
#
# $$
# \lVert g \rVert = \sqrt{\sum_{\text{all arrays}} \sum_i g_i^2}, \qquad
# g \leftarrow g \cdot \min\!\left(1, \frac{c}{\lVert g \rVert}\right)
# $$
#
# One factor for all arrays: the direction stays what it was. Clipping each array on its own would turn
# the gradient into another direction, which is no longer that of steepest descent.
#
# ### The batch
#
# The gradient of a batch is a mean over $B$ blocks drawn at random. Let $G$ be the gradient over the
# whole text and $\Sigma$ the covariance of the gradients of single blocks. The mean of $B$ independent
# draws has the covariance $\Sigma / B$, so
#
# $$
# \mathbb{E}\,\lVert g_B \rVert^2 = \lVert G \rVert^2 + \frac{\operatorname{tr} \Sigma}{B} .
# $$
#
# The first term is signal, the second noise. They are equal at the batch size
#
# $$ B_{\text{noise}} = \frac{\operatorname{tr} \Sigma}{\lVert G \rVert^2} , $$
#
# the **gradient noise scale** (McCandlish et al. 2018, eq. 2.9, its simple form). Far below it, a
# batch twice as large is worth two steps, and half as many steps do. Far above it the gradient is
# known already: twice the batch costs twice the arithmetic and saves next to nothing.
#
# ### The arithmetic
#
# In a matrix product every weight meets every token once: one multiplication and one addition, 2
# operations (FLOPs). Backward does two products of the same size for each of forward's, one for the
# gradient of the input and one for that of the weight. So a model of $N$ weights in matrices costs
# $2N$ FLOPs a token forward and $4N$ backward, and a training on $D$ tokens
#
# $$ C \approx 6 N D $$
#
# (Kaplan et al. 2020, section 2.1). A table of embeddings is looked up, not multiplied, and does not
# count, unless the same table also predicts. What the rule leaves out is attention, whose products
# have no weights, and everything elementwise: norms, exponentials, GELU. We shall count those too.

# %% [markdown]
# ## The code
#
# Clipping is two functions. The norm is summed in float64: the squares of a million small numbers are
# too many for float32.

# %%
show_source(clip_by_global_norm)

# %% [markdown]
# All schedules share the warm-up, and differ only in how high the rate is at a share of the way after
# it. (What this function is for the cosine is exercise 1.)

# %%
show_source(_after_warmup)

# %% [markdown]
# Adam keeps $m$ and $v$ without their constant factors and puts these into one number at the end: fewer
# passes over the memory, the same result.

# %%
show_source(Adam.update_piece)

# %% [markdown]
# And this is one step of `Trainer`, which all longer runs below use. It adds threads, time and a log to
# the four lines of mathematics.

# %%
show_source(Trainer._step)

# %% [markdown]
# How do we count FLOPs *exactly*? By doing the computation with arrays that keep a tally. The reference
# ops are plain NumPy, and NumPy hands every operation on such an array to `__array_ufunc__`.

# %%
show_source(CountedArray)

# %% [markdown]
# Here is a GPT of two layers, counted. Its matrices have $N$ weights (the embedding among them, since
# the same array predicts). Read the table as shares of what a token costs.

# %%
SMALL = {"n_layer": 2, "n_head": 4, "n_embd": 64, "position": "rotary", "block_size": 64}


def matrix_weights(model):
    """How many weights meet each token in a product: all matrices but an embedding that is only
    looked up."""
    sizes = {name: leaf.size for name, leaf in leaves(model.params) if leaf.ndim == 2}
    looked_up = {"gpt": ("wpe",)}.get(model.kind, ("embedding",))
    return sum(size for name, size in sizes.items() if not name.startswith(looked_up))


small = LanguageModel.create("gpt", tokenizer, **SMALL)
N, block = matrix_weights(small), 64
counted = step_flops(small, block=block)
print(f"N = {N:,} weights in matrices, of {small.n_parameters:,} parameters")
for what, flops in (
    ("6 N, the rule", 6 * N),
    ("all matrix products", counted.products / block),
    ("elementwise", counted.elementwise / block),
    ("all, counted", counted.total / block),
):
    print(f"{what:22} {flops:12,.0f} FLOPs a token   {flops / (6 * N):5.1%} of the rule")

# %% [markdown]
# The difference between the first two lines is attention: queries with keys, weights with values, in
# both directions (and once more in backward, where [flash attention](13_flash_attention.ipynb)
# computes its weights anew). It grows with the length of the block, and the rule does not. The
# elementwise work grows with the channels $C$ and the products with $C^2$, so the larger the model, the
# less it counts.
#
# ## An experiment: every model so far, on one text
#
# Seven models, from a table of single characters to the GPT. All read the same training part. The
# neural ones train for a few seconds each, in blocks of 64 characters, with a cosine schedule, a warm-up
# and clipping at 1.

# %%
COMMON = {"block": 64, "batch": 16, "final_lr": 1e-4, "threads": 2, "clip": 1.0}
SHORT = {  # kind: (shape, settings)
    "neural-ngram": ({"order": 9, "n_embd": 32, "n_hidden": 192}, {"steps": 600, "lr": 3e-3}),
    "rnn": ({"n_embd": 64, "n_hidden": 192, "n_layer": 1}, {"steps": 500, "lr": 3e-3}),
    "lstm": ({"n_embd": 64, "n_hidden": 192, "n_layer": 1}, {"steps": 320, "lr": 6e-3}),
    "gru": ({"n_embd": 64, "n_hidden": 192, "n_layer": 1}, {"steps": 320, "lr": 5e-3}),
    "gpt": (
        {"n_layer": 2, "n_head": 4, "n_embd": 96, "position": "rotary", "block_size": 64},
        {"steps": 420, "lr": 4e-3},
    ),
}
n_bytes = sum(len(d.text.encode()) for d in text.split.validation)
TOKENS_PER_BYTE = len(text.validation) / n_bytes


def compete(kind, shape, settings):
    """Train one model: (model, what it cost and reached at each evaluation)."""
    settings = COMMON | settings
    every = settings["steps"] // 10
    config = TrainConfig(
        **settings,
        warmup=settings["steps"] // 10,
        eval_every=every,
        eval_batches=6,
        log_every=10,
        checkpoint_every=settings["steps"],
    )
    model = LanguageModel.create(kind, tokenizer, seed=0, **shape)
    result = train_or_load(model, (text.train, text.validation), config, RUNS / kind)
    lines = [line for line in result.history if line["validation_loss"] is not None]
    flops = step_flops(model, block=config.block).total * config.batch  # a step
    return model, {
        "step": [line["step"] for line in lines],
        "seconds": [line["seconds"] for line in lines],
        "FLOPs": [line["step"] * flops for line in lines],
        "loss": [line["validation_loss"] / math.log(2) * TOKENS_PER_BYTE for line in lines],
        "norms": [line["grad_norm"] for line in result.history],
        "tokens": config.steps * config.batch * config.block,
        "parameters": model.n_parameters,
        "weights": matrix_weights(model),
    }


def count(create):
    """A counted model, and its seconds."""
    began = time.perf_counter()
    model = create()
    return model, time.perf_counter() - began


models, seconds, runs = {}, {}, {}
models["unigram"], seconds["unigram"] = count(lambda: Unigram.train(text.train, tokenizer))
models["kneser-ney"], seconds["kneser-ney"] = count(
    lambda: NGram.train(text.train, tokenizer, order=6, smoothing="modified-kneser-ney")
)
for kind, (shape, settings) in SHORT.items():
    models[kind], runs[kind] = compete(kind, shape, settings)

# %% [markdown]
# What did they learn? All are asked to predict the same stretch of the test part, which none has read.
# `tokens` is $D$, and an epoch is once through the training part.

# %%
test, size = [], 0
for document in text.split.test:
    if size < 20_000:
        test.append(document)
        size += len(document.text)
bits = {name: evaluate(model, test).bits_per_byte for name, model in models.items()}
print("model         bits per byte  parameters     tokens  epochs  tokens per parameter")
for name, model in models.items():
    tokens = runs[name]["tokens"] if name in runs else len(text.train)
    print(
        f"{name:13} {bits[name]:13.3f} {model.n_parameters:11,} {tokens:10,} "
        f"{tokens / len(text.train):7.1f} {tokens / model.n_parameters:21.1f}"
    )

# %% [markdown]
# Hoffmann et al. (2022, "Chinchilla") found that about 20 tokens a parameter is where a budget of
# arithmetic is best spent, if the text is large enough to never repeat. Our text is small:
# to a GPT of this size it gives little more than one *different* character a parameter, and the long form
# below has to read it again and again.
#
# Now the costs. $6ND$ is the rule, `counted` what the tally says, and the last columns are the clock's:
# how long it took here, and the speed that this means.

# %% tags=["timing"]
print("model                6ND    counted  seconds  GFLOP/s")
for name, run in runs.items():
    rule, all_of_it, took = 6 * run["weights"] * run["tokens"], run["FLOPs"][-1], run["seconds"][-1]
    print(f"{name:13} {rule:10.2e} {all_of_it:10.2e} {took:8.1f} {all_of_it / took / 1e9:8.1f}")
for name in ("unigram", "kneser-ney"):
    print(f"{name:13} {'counting':>21} {seconds[name]:8.2f}")

# %% [markdown]
# Seconds are not arithmetic: the last column differs from model to model. On a CPU a GPT loses time with
# all that is no large product, its many small attention products, norms and exponentials. A recurrent
# model must do one position after the other, in products as small as a batch's single position, which a
# CPU's cache likes well enough. A GPU, which is only busy with large products, would turn this column
# round, one expects: a GPT gives it all positions at once. That is one of the reasons why it was invented.
#
# The picture has both. Each curve is the loss on a sample of the validation part, from the moment when
# it is below the unigram's; Kneser-Ney is a point on the left and a line on the right.

# %% tags=["picture", "timing"] alt="Validation bits per byte of five neural models and Kneser-Ney against seconds and against FLOPs: Kneser-Ney is far to the left and below all; the neural models fall towards it."
validation = {n: evaluate(models[n], text.split.validation).bits_per_byte for n in seconds}


def below(run, level):
    """A run from where it first beats a level."""
    keep = np.flatnonzero(np.array(run["loss"]) < level)
    return {name: np.array(run[name])[keep] for name in ("seconds", "FLOPs", "loss")}


loss_by_cost(
    {name: below(run, validation["unigram"]) for name, run in runs.items()},
    counted={"kneser-ney": (seconds["kneser-ney"], validation["kneser-ney"])},
    title="Loss on the validation text by what the training cost",
)

# %% [markdown]
# Counting wins, and by far: within these few seconds no neural model comes near the table of 6-grams,
# which is ready before the first of them has done more than a few steps. On the right, at equal
# arithmetic, the cheap models lead at first. But look at the slopes. Kneser-Ney is finished: it has
# counted all there is. The others still fall.
#
# Give them more time, then. The long form of this notebook (`make long NOTEBOOK=10`) trains larger
# models; below is what it recorded, and how many seconds it took.

# %%
LONG_FORM = {
    "neural-ngram": ({"order": 9, "n_embd": 48, "n_hidden": 512}, {"steps": 6000, "lr": 2e-3}),
    "rnn": ({"n_embd": 64, "n_hidden": 256, "n_layer": 1}, {"steps": 6000, "lr": 2e-3}),
    "lstm": (
        {"n_embd": 64, "n_hidden": 256, "n_layer": 1, "dropout": 0.1},
        {"steps": 3500, "lr": 5e-3},
    ),
    "gru": (
        {"n_embd": 64, "n_hidden": 256, "n_layer": 1, "dropout": 0.1},
        {"steps": 4000, "lr": 3e-3},
    ),
    "gpt": (
        {
            "n_layer": 2,
            "n_head": 4,
            "n_embd": 160,
            "position": "rotary",
            "block_size": 128,
            "dropout": 0.1,
        },
        {"steps": 5000, "lr": 2.5e-3, "block": 128, "batch": 8},
    ),
}


def long_form(scale=1.0):
    """Train the long form's models and write the record; `scale` shortens them, for a trial."""
    began, rows = time.perf_counter(), {}
    for name in ("unigram", "kneser-ney"):
        rows[name] = {"seconds": seconds[name], "loss": validation[name], "test": bits[name]}
    for kind, (shape, settings) in LONG_FORM.items():
        settings = settings | {"steps": max(10, int(settings["steps"] * scale))}
        model, run = compete(kind, shape, settings)
        run.pop("norms")
        rows[kind] = run | {"test": evaluate(model, test).bits_per_byte, "shape": shape}
    made = {"command": "make long NOTEBOOK=10", "seconds": round(time.perf_counter() - began)}
    made |= {"python": platform.python_version(), "numpy": np.__version__, "text": "topics"}
    made |= {"cores": os.cpu_count(), "scale": scale}
    RECORD.parent.mkdir(exist_ok=True)
    written = json.dumps({"made": made, "models": rows}, indent=1, default=float)
    RECORD.write_text(written + "\n", encoding="utf-8")


if LONG:
    long_form(float(os.environ.get("MINILLM_LONG_SCALE", "1")))
recorded = json.loads(RECORD.read_text(encoding="utf-8"))
made = recorded["made"]
print(
    f"recorded by `{made['command']}` in {made['seconds']:,} seconds on {made['cores']} cores, "
    f"Python {made['python']}, NumPy {made['numpy']}"
)
for name, row in sorted(recorded["models"].items(), key=lambda item: -item[1]["test"]):
    tokens = f"{row['tokens'] / 1e6:5.1f} million tokens" if "tokens" in row else "counted"
    print(f"{name:13} {row['test']:.3f} bits per byte of the test text, {tokens}")

# %% tags=["picture"] alt="The recorded long form: validation bits per byte against seconds and FLOPs on logarithmic axes; the LSTM, the GRU and the GPT come down to the level of Kneser-Ney, the neural n-gram and the RNN flatten above it."
long_runs = {name: row for name, row in recorded["models"].items() if "FLOPs" in row}
level = {name: recorded["models"][name]["loss"] for name in ("unigram", "kneser-ney")}
loss_by_cost(
    {name: below(run, level["unigram"]) for name, run in long_runs.items()},
    counted={"kneser-ney": (recorded["models"]["kneser-ney"]["seconds"], level["kneser-ney"])},
    title="The long form, as recorded",
)

# %% [markdown]
# Now the order turns round. Minutes instead of seconds, and more than ten times the arithmetic: then
# the models with gates and the GPT come down to the level of the table and, on the test text, below
# it. The simpler models flatten first: a window of eight characters, or an RNN's memory, runs out of
# things to learn. Counting is the best model that costs nothing. What it cannot do is get better by
# being given more time.
#
# A curve of this picture is not the last word on its model: it is measured on blocks that begin with
# no context at all, as training reads them. The table above lets a GPT see at least half a block before
# every token that counts, which is fairer, and a little lower.
#
# What does a model that wins do better? Point at a character below to see what was expected there. The
# same piece of the test text is coloured by how much it surprises the unigram, Kneser-Ney, and the GPT
# trained above for these few seconds: white was expected, dark blue was not.

# %% tags=["picture"] alt="A piece of the test text three times, coloured by surprise: the unigram is surprised evenly, Kneser-Ney and the GPT mostly at the beginnings of words."
piece = test[-1].text[:360]
SurpriseView({name: models[name] for name in ("unigram", "kneser-ney", "gpt")}, piece)

# %% [markdown]
# The unigram knows only which characters are frequent, so its surprise says nothing about the place.
# For the two others a word is dark where it begins and white where it can only end one way.
#
# ## An experiment: the first steps
#
# Here is training in the open, the four lines and nothing else. It keeps what we want to look at: the
# loss, the length of the gradient before clipping, and how far Adam moved the weights, as the root mean
# square of $u$ over all of them. The rule said that the first $u$ is $\pm 1$ everywhere.


# %%
def small_run(rate, *, clip, steps, batch=8, seed=0, visit=None):
    """Train the small GPT at rate(step): {loss, norm, move}, each (steps,); visit looks in."""
    model = LanguageModel.create("gpt", tokenizer, seed=seed, **SMALL)
    rule = AdamW(betas=(0.9, 0.99), weight_decay=0.0)
    state = rule.init(model.params)
    sizes = {"block": 64, "batch": batch, "vocab_size": tokenizer.vocab_size}
    batches = RandomBlocks(text.train, seed=seed, **sizes)
    rows = []
    for step in range(steps):
        if visit is not None:
            visit(step, model)
        ids, targets = batches.batch(step)
        loss, cache = gpt.loss(model.params, ids=ids, targets=targets, config=model.config)
        grads = gpt.loss.backward(loss.dtype.type(1), cache)
        norm = clip_by_global_norm(grads, clip)
        before = map_leaves(np.copy, model.params)
        rule.update(model.params, grads, state, rate(step))
        pairs = zip(leaves(model.params), leaves(before), strict=True)
        moved = sum(np.sum((after - old) ** 2) for (_, after), (_, old) in pairs)
        rows.append((loss, norm, math.sqrt(moved / model.n_parameters) / (rate(step) or 1.0)))
    return dict(zip(("loss", "norm", "move"), np.array(rows, float).T, strict=True))


NEVER = 1e9  # a limit that no gradient reaches
VARIANTS = {
    "warm-up and clipping": {"warmup": 25, "clip": 1.0},
    "clipping only": {"warmup": 0, "clip": 1.0},
    "warm-up only": {"warmup": 25, "clip": NEVER},
}


def first_steps(rates, steps, variants):
    """small_run at several rates, in two threads: {variant/rate/what: (steps,)}."""
    jobs = [(name, lr, options) for name, options in variants.items() for lr in rates]

    def one(job):
        _, lr, options = job
        return small_run(constant(lr, warmup=options["warmup"]), clip=options["clip"], steps=steps)

    with WorkerPool(2) as pool:
        pairs = [jobs[i : i + 2] for i in range(0, len(jobs), 2)]
        found = []
        for pair in track(pairs, "rates"):
            found += pool.map(one, pair)
    return {
        f"{name}/{lr:g}/{what}": values
        for (name, lr, _), run in zip(jobs, found, strict=True)
        for what, values in run.items()
    }


RATES = [1e-3, 3e-3, 1e-2, 3e-2]
first = keep(RUNS / "rates.npz", first_steps, rates=RATES, steps=100, variants=VARIANTS)

# %% tags=["picture"] alt="Root mean square of Adam's step against the step number, at a constant rate: 1 at the first step, a half after five, and a quarter after thirty."
move = first["clipping only/0.003/move"]
figure = new_figure(7.2, 3.2)
axes = figure.add_subplot(
    xlabel="step", ylabel="size of a step in units of the rate", ylim=(0, 1.08)
)
axes.plot(np.arange(1, 61), move[:60], "o-", color=COLOURS[0], markersize=3)
axes.annotate("the first step: ±1 everywhere", (1, move[0]), (6, 0.97), color=GREY, va="center")
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# As derived: 1 at first, and about a quarter of that a few dozen steps later, at the same rate
# on paper. Without a warm-up the first steps are by far the longest. Does it do harm? That depends on
# the rate. The next picture trains the same small GPT for 100 steps at four rates, with a warm-up of 25
# steps or none, clipped or not. Look for the rate at which the lines part.

# %% tags=["picture"] alt="Loss after 100 steps against learning rate for three variants: equal at small rates; at a rate of 0.01 only the run with both warm-up and clipping still learns well."
figure = new_figure(7.2, 3.6)
axes = figure.add_subplot(
    xlabel="learning rate", ylabel="loss of the last 10 steps\n(bits per character)", xscale="log"
)
for name, colour, marker in zip(VARIANTS, COLOURS, "os^", strict=False):
    last = [first[f"{name}/{lr:g}/loss"][-10:].mean() / math.log(2) for lr in RATES]
    axes.plot(RATES, last, marker + "-", color=colour, label=name)
axes.set_xticks(RATES, [f"{lr:g}" for lr in RATES])
axes.minorticks_off()
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# Follow the lines from left to right. At small rates a warm-up gains nothing; it even loses a little,
# for it spends steps at rates that are smaller still. At 0.01 one line stays down, the one with
# warm-up *and* clipping. Both others stay well above it, not far below the unigram's loss, as if they
# knew hardly more than the frequencies of the characters: in its first steps the model was thrown to a
# place from which a hundred steps do not bring it back. At 0.03 nothing helps. So **warm-up and
# clipping widen the range of rates that work**, and a good rate often lies near the upper end of that
# range. (This is one seed, and small differences here are noise; the gap at 0.01 is not.)
#
# Clipping beside Adam may surprise: does Adam not divide the length of the gradient out again? It
# divides by the root of a *running* mean of squares, in which one gradient weighs little. One that is
# ten times as long as those before it adds about $0.1 \cdot 10 / \sqrt{0.99 + 0.01 \cdot 100} \approx 0.7$
# to $u$, with $\beta_1 = 0.9$ and $\beta_2 = 0.99$: a step several times as long as usual. Its square then
# stays in $v$ for a hundred steps and makes them too small. The next picture shows the lengths at the
# rate of 0.01, before clipping. Look for single peaks.

# %% tags=["picture"] alt="Gradient norm against step at rate 0.01 for the three variants: all have single peaks of several times their usual length in the first thirty steps, the highest in the run without clipping."
figure = new_figure(7.2, 3.4)
axes = figure.add_subplot(
    xlabel="step", ylabel="length of the gradient,\nbefore clipping", yscale="log"
)
for name, colour in zip(VARIANTS, COLOURS, strict=False):
    axes.plot(
        np.arange(1, 101), first[f"{name}/0.01/norm"], color=colour, label=name, linewidth=1.4
    )
axes.axhline(1, color=GREY, linewidth=1, linestyle="--")
axes.text(102, 1, "clipped\nabove", color=GREY, fontsize=8.5, va="center")
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
for name in VARIANTS:
    norm = first[f"{name}/0.01/norm"]
    print(f"{name:21} longest {norm.max():6.1f}   longer than 1: {np.mean(norm > 1):.0%} of steps")
long_ones = np.mean(np.array(runs["gpt"]["norms"][1:]) > 1)
print(f"the GPT of the large picture: {long_ones:.0%} of the steps that were logged")
figure

# %% [markdown]
# The unclipped run meets one gradient many times as long as those around it, while its rate still
# rises, and within these steps its loss does not recover from it. In the clipped runs the limit does
# two things. In the first steps nearly every gradient is longer than 1: there the limit acts like a
# second warm-up. Later it is touched by single peaks only, which is what it is for. (At this limit.
# The larger GPT, says the last line, meets it more often.)
#
# ## An experiment: the last steps
#
# Does the fall at the end of the schedule pay? Train the small GPT twice from the same start, on the same
# batches and at the same constant rate. In the last third one of them lets the rate fall to zero. The
# batches are small and the rate is high, so there is much noise to lose.


# %% tags=["picture"] alt="Validation loss against tokens for a constant rate and one that falls to zero in the last third: equal until there, then the falling one drops below by more than a tenth of a bit."
def last_steps(steps, lr, batch):
    """Validation loss at every 20th step, constant rate and one that falls in the last third."""
    sizes = {"block": 64, "batch": 64, "vocab_size": tokenizer.vocab_size}
    ids, targets = RandomBlocks(text.validation, seed=0, **sizes).batch(0)
    stays = constant(lr, warmup=25)

    def falls(step):
        return stays(step) * min(1.0, (steps - step) / (steps // 3))

    def one(rate):
        found = []

        def visit(step, model):
            if step % 20 == 0:
                found.append(
                    gpt.loss(model.params, ids=ids, targets=targets, config=model.config)[0]
                )

        small_run(rate, clip=1.0, steps=steps + 1, batch=batch, visit=visit)
        return np.array(found) / math.log(2)

    with WorkerPool(2) as pool:
        return dict(zip(("stays", "falls"), pool.map(one, [stays, falls]), strict=True))


ends = keep(RUNS / "last.npz", last_steps, steps=360, lr=6e-3, batch=4)

tokens = 20 * np.arange(len(ends["stays"])) * 4 * 64
figure = learning_curves(
    {f"the rate {name}": (tokens[4:], loss[4:]) for name, loss in ends.items()},
    unit="validation loss (bits per character)",
    against="tokens",
    title="The same GPT, with and without a fall at the end",
)
figure.axes[0].axvspan(240 * 4 * 64, tokens[-1], color="0.93", zorder=0)
figure

# %% [markdown]
# Up to the grey part the two are one run. In the grey part the one whose rate falls goes further down, and
# steadily, while the other goes up and down: some of its progress is hidden by the shaking.
#
# Then why not let the rate fall from the very beginning? Because it is the large rate that makes the
# progress. In a training as short as the ones above, a cosine spends too many of its few steps at small
# rates to gain from it; the longer the training, the better it pays. (Schedules that stay high and fall
# only at the end, like the one of this picture, are in use too.)
#
# This has a consequence for reading learning curves. A point in the middle of a cosine run is *not* what
# a run of that length would have reached, for its rate had not fallen yet. To compare two lengths of
# training, train twice (Hoffmann et al. 2022 found that earlier work had overlooked this, and had
# trained models too large for too short a time).
#
# ## An experiment: how large should a batch be?
#
# The noise scale can be measured: take the gradients of many single blocks, at the same weights, and
# compute their mean and their covariance's trace. We do it three times in the life of the small GPT.
# Then we test the prediction. Averages of $B$ of the gradients should have the mean squared length
# $\lVert G \rVert^2 + \operatorname{tr}\Sigma / B$.


# %%
def block_gradients(model, count, seed):
    """The gradients of single blocks as long vectors, (count, parameters)."""
    sizes = {"block": 64, "batch": 1, "vocab_size": tokenizer.vocab_size}
    batches = RandomBlocks(text.train, seed=seed, **sizes)
    rows = []
    for number in range(count):
        ids, targets = batches.batch(number)
        _, cache = gpt.loss(model.params, ids=ids, targets=targets, config=model.config)
        grads = gpt.loss.backward(np.float32(1), cache)
        rows.append(np.concatenate([leaf.ravel() for _, leaf in leaves(grads)]))
    return np.array(rows)


def noise(at, blocks, steps):
    """|G|^2, tr(Sigma) and the squared length of means of 1, 2, 4, ... gradients, at some steps."""
    found = []

    def visit(step, model):
        if step in at:
            rows = block_gradients(model, blocks, seed=99)
            spread = np.sum((rows - rows.mean(0)) ** 2) / (blocks - 1)  # tr(Sigma), unbiased
            signal = np.sum(rows.mean(0) ** 2) - spread / blocks  # |G|^2, unbiased
            means = [
                np.mean(np.sum(rows.reshape(-1, size, rows.shape[1]).mean(1) ** 2, axis=-1))
                for size in 2 ** np.arange(int(math.log2(blocks)))
            ]
            found.append([signal, spread, *means])

    with WorkerPool(1):
        small_run(constant(3e-3, warmup=25), clip=1.0, steps=steps, visit=visit)
    return {"rows": np.array(found)}


AT = [0, 30, 150]
measured = keep(RUNS / "noise.npz", noise, at=AT, blocks=128, steps=151)["rows"]
for step, (signal, spread, *_) in zip(AT, measured, strict=True):
    print(
        f"after {step:3} steps: |G|^2 = {signal:6.2f}   tr(Sigma) = {spread:6.2f}   "
        f"noise scale {spread / signal:5.1f} blocks"
    )

# %% tags=["picture"] alt="Mean squared gradient length against batch size on logarithmic axes for three moments of training: points lie on the predicted curves, which fall and level off; a mark shows the noise scale, further right later in training."
figure = new_figure(7.2, 3.8)
axes = figure.add_subplot(
    xlabel="batch size (blocks of 64 tokens)",
    ylabel="mean squared length of the gradient",
    xscale="log",
    yscale="log",
)
sizes = 2.0 ** np.arange(7)
for step, (signal, spread, *means), colour in zip(AT, measured, COLOURS, strict=False):
    axes.plot(sizes, means, "o", color=colour, label=f"after {step} steps")
    axes.plot(sizes, signal + spread / sizes, color=colour, linewidth=1.2)
    axes.plot([spread / signal], [2 * signal], "|", color=colour, markersize=22, markeredgewidth=2)
axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
axes.minorticks_off()
axes.legend(frameon=False, title="lines: predicted; bars: noise scale", title_fontsize=8.5)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# The points follow the lines. (At a batch of 1 they must, since both terms are estimated from these
# very gradients; in between it is a test.) At the beginning almost any block tells the way down: the
# noise scale is a few blocks. The better the model, the more its blocks disagree, and the more of them
# are needed. (That is why large models are trained with batches of millions of tokens, and why some
# trainings let the batch grow.)
#
# Now the consequence. Three trainings read the same number of tokens, in batches of 2, 8 and 32 blocks.
# The rate is scaled with the root of the batch, which keeps the noise of Adam's steps about level.


# %% tags=["picture"] alt="Loss of three batch sizes, left against steps, right against tokens: the largest batch needs the fewest steps and the most tokens; batches of 2 and 8 blocks use tokens equally well."
def equal_tokens(sizes, tokens, lr):
    """small_run with several batch sizes over the same number of tokens: {size: loss (steps,)}."""
    found = {}
    with WorkerPool(1):
        for size in track(sizes, "batch sizes"):
            steps = tokens // (64 * size)
            rate = constant(lr * math.sqrt(size / 8), warmup=steps // 6)
            run = small_run(rate, clip=1.0, steps=steps, batch=size)
            found[str(size)] = run["loss"]
    return found


sizes = [2, 8, 32]
by_batch = keep(RUNS / "batch.npz", equal_tokens, sizes=sizes, tokens=51_200, lr=3e-3)


def smooth(values, share=12):
    """Means over a twelfth of the run each: (12,)."""
    return np.array([part.mean() for part in np.array_split(values, share)]) / math.log(2)


figure = new_figure(9.0, 3.6)
left, right = figure.subplots(1, 2, sharey=True)
left.set(xlabel="steps", ylabel="training loss (bits per character)", xscale="log")
right.set(xlabel="tokens read (thousands)")
for size, colour in zip(sizes, COLOURS, strict=False):
    loss = by_batch[str(size)]
    middle = (np.arange(12) + 0.5) / 12
    left.plot(middle * len(loss), smooth(loss), "o-", color=colour, markersize=3)
    right.plot(
        middle * 51.2, smooth(loss), "o-", color=colour, markersize=3, label=f"{size} blocks"
    )
right.legend(frameon=False, title="batch")
for axes in (left, right):
    axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# Left, by steps: the larger the batch, the fewer steps to a loss that all reach, but going from 8 to 32
# saves less than going from 2 to 8. Right, by tokens, which is by arithmetic: 2 and 8 end about equal.
# The one is below the noise scale for nearly all of this training, the other close to it. The batch of 32
# is above it throughout, and pays for it.
#
# So the batch size is a trade. Below the noise scale, more arithmetic at a time costs nothing extra, and
# a machine that multiplies large matrices faster should be given them. Above it, one buys time with
# arithmetic.
#
# ## Exercises
#
# ### 1. A schedule
#
# Write the learning rate of the formula in "The rate: up, then down": a linear warm-up, then a cosine.
# After step $S$ the rate stays at its end.


# %% tags=["exercise"] exercise="my_rate"
def my_rate(step, *, lr, steps, warmup, final):
    """The rate of a step, counted from 0.

    lr : the highest rate; steps: S; warmup: w, at most S; final: the rate from step S on
    """
    raise NotImplementedError("exercise 1: write my_rate")


# %% tags=["check", "raises-exception"] exercise="my_rate"
for seed in range(20):
    rng = np.random.default_rng(seed)
    steps = int(rng.integers(10, 60))
    options = {"lr": rng.uniform(0.1, 1), "warmup": int(rng.integers(0, steps)), "final": 0.05}
    wanted = cosine(options["lr"], steps, warmup=options["warmup"], final=options["final"])
    for step in range(steps + 5):
        came = my_rate(step, steps=steps, **options)
        assert np.isclose(came, wanted(step)), (
            f"step {step} of {steps} with {options}: {came:.4f} came, {wanted(step):.4f} expected. "
            "Hints: the first update already moves, so step 0 has lr / (w + 1); the cosine's share "
            "of the way is counted from the end of the warm-up"
        )
print("well done: the same rates at every step")

# %% [markdown]
# ### 2. Clipping
#
# Write clipping by global norm for a dict of arrays, without `minillm.optim`.


# %% tags=["exercise"] exercise="my_clip"
def my_clip(grads, max_norm):
    """(clipped gradients, a new dict; their norm before clipping, a float).

    grads : {name: array}, only read
    """
    raise NotImplementedError("exercise 2: write my_clip")


# %% tags=["check", "raises-exception"] exercise="my_clip"
for seed in range(10):
    rng = np.random.default_rng(seed)
    grads = {name: rng.standard_normal(rng.integers(1, 6, 2)) for name in "abc"}
    grads["a"] *= 10.0  # one array is much longer than the others
    kept = {name: g.copy() for name, g in grads.items()}
    norm = global_norm(grads)
    for limit in (norm / 3, 2 * norm):
        clipped, came = my_clip(grads, limit)
        assert all(np.array_equal(grads[name], kept[name]) for name in grads), "the input changed"
        assert np.isclose(came, norm), f"the norm should be {norm:.4f}, got {came:.4f}"
        after, wanted = global_norm(clipped), min(norm, limit)
        assert np.isclose(after, wanted, rtol=1e-4), (
            f"norm {norm:.3f}, limit {limit:.3f}: clipped to {after:.3f}, expected {wanted:.3f}"
        )
        for name, g in grads.items():
            assert np.allclose(clipped[name], g * wanted / norm, rtol=1e-4), (
                f"the array {name!r} was scaled by another factor than the whole: the direction of "
                "the gradient has changed. One factor is meant for all arrays"
            )
assert np.all(my_clip({"a": np.zeros(3)}, 1.0)[0]["a"] == 0), "a gradient of 0 must stay 0, no NaN"
print("well done: one factor for all arrays")

# %% [markdown]
# ### 3. Counting before computing
#
# Write down how many FLOPs of *matrix products* a GPT's training step takes for each token, from its
# configuration alone. It has $H$ query heads and $G$ (`kv_heads`) heads of keys and of values, each of
# `head_size` $D$; its MLP has `inner` $F$ channels. The check compares with the tally, for several
# shapes. Attention's two products cost $2TC$ FLOPs a token each; each has two gradients, and the first
# product is done once more in backward.


# %% tags=["exercise"] exercise="product_flops"
def product_flops(config, block):
    """FLOPs a token in matrix products, forward and backward; config is a GPTConfig."""
    raise NotImplementedError("exercise 3: write product_flops")


# %% tags=["check", "raises-exception"] exercise="product_flops"
for shape in (
    {"n_layer": 1, "n_head": 2, "n_embd": 8},
    {"n_layer": 3, "n_head": 4, "n_embd": 16, "n_inner": 24},
    {"n_layer": 2, "n_head": 4, "n_embd": 24, "n_kv_head": 2, "tied": False},
):
    for block in (4, 16):
        model = LanguageModel.create("gpt", tokenizer, block_size=16, **shape)
        tally = step_flops(model, block=block).products / block
        came = product_flops(model.config, block)
        assert np.isclose(came, tally), (
            f"{shape}, block {block}: {came:,.0f} came, the tally says {tally:,.0f}, which is "
            f"{tally - came:+,.0f}. Hints: 6 FLOPs for each weight of a matrix; the queries, keys "
            "and values have (H + 2 G) D columns together; the head predicts V tokens"
        )
print("well done: counted before it was computed")

# %% [markdown]
# ### 4. A batch in parts
#
# A batch that does not fit into memory is computed in parts, whose gradients are combined. Each part's
# loss is a **mean over its tokens that count** (targets of -100 do not), and parts need not have equally
# many. Combine them so that the result is the gradient of the whole batch.


# %% tags=["exercise"] exercise="combine"
def combine(parts):
    """The whole batch's gradient, {name: array}.

    parts : list of (gradients {name: array} of a part's mean loss, number of tokens that count)
    """
    raise NotImplementedError("exercise 4: write combine")


# %% tags=["check", "raises-exception"] exercise="combine"
for seed in range(3):
    rng = np.random.default_rng(seed)
    model = LanguageModel.create(
        "gpt", tokenizer, seed=seed, dtype=np.float64, n_layer=1, n_head=2, n_embd=8, block_size=6
    )
    ids, targets = rng.integers(0, tokenizer.vocab_size, (2, 5, 6))
    targets[:2, 2:] = -100  # the first two rows hold little that counts

    def gradient(rows, params=model.params, config=model.config, ids=ids, targets=targets):
        _, cache = gpt.loss(params, ids=ids[rows], targets=targets[rows], config=config)
        return flatten(gpt.loss.backward(1.0, cache))

    cuts = [slice(0, 2), slice(2, 3), slice(3, 5)]
    came = combine([(gradient(c), int(np.sum(targets[c] != -100))) for c in cuts])
    whole = gradient(slice(0, 5))
    for name, g in whole.items():
        assert np.allclose(came[name], g, rtol=1e-9, atol=1e-12), (
            f"the gradient of {name} is not that of the whole batch, off by "
            f"{np.abs(came[name] - g).max():.2e}. Hint: a part of few tokens must weigh less"
        )
print("well done: the parts make the whole")

# %% [markdown]
# ### 5. The noise scale for free
#
# A training on several machines has two lengths of gradient at every step: that of each machine's small
# batch, and that of their mean, the large batch. Find $\lVert G \rVert^2$ and $\operatorname{tr}\Sigma$
# from the mean squared lengths at two batch sizes: two equations, two unknowns (McCandlish et al. 2018,
# appendix A.1). Both estimates should be right on average.


# %% tags=["exercise"] exercise="two_sizes"
def two_sizes(length_small, small, length_large, large):
    """(|G|^2, tr(Sigma)) from E|g|^2 at the batch sizes `small` and `large`."""
    raise NotImplementedError("exercise 5: write two_sizes")


# %% tags=["check", "raises-exception"] exercise="two_sizes"
for seed in range(10):
    rng = np.random.default_rng(seed)
    signal, spread = rng.uniform(0.1, 5, 2)
    small, large = sorted(rng.choice(np.arange(1, 200), 2, replace=False))
    lengths = [signal + spread / size for size in (small, large)]  # what the lengths are on average
    came = two_sizes(lengths[0], small, lengths[1], large)
    assert np.allclose(came, (signal, spread)), (
        f"|G|^2 = {signal:.3f} and tr(Sigma) = {spread:.3f} were put in, and {came[0]:.3f} and "
        f"{came[1]:.3f} came out, from the sizes {small} and {large}. Hint: even the large batch's "
        "length has noise in it, which has to be taken out"
    )
small_mean, large_mean = measured[1, 2], measured[1, 7]
signal, spread = two_sizes(small_mean, 1, large_mean, 32)
print(f"well done: after 30 steps a noise scale of {spread / signal:.1f} blocks, from two lengths")

# %% [markdown]
# ## Where to go next
#
# - [Notebook 11](11_generation.ipynb): what to do with a trained model, generating text, and what that
#   costs.
# - [Notebook 12](12_matmul_on_a_gpu.ipynb) is about the matrix products that all this arithmetic is
#   made of, and [13](13_flash_attention.ipynb) about attention's.
# - [Training, scoring, writing](../docs/training.md): the same from the command line, on your own text,
#   with resuming after a stop.
# - The ops whose FLOPs were counted: [linear](../docs/derivations/linear.md),
#   [flash_attention](../docs/derivations/flash_attention.md).
# - Papers: Kingma & Ba 2015 (Adam, arXiv:1412.6980); Loshchilov & Hutter 2017 (the cosine,
#   arXiv:1608.03983) and 2019 (AdamW, arXiv:1711.05101); Goyal et al. 2017 (warm-up,
#   arXiv:1706.02677); Pascanu, Mikolov & Bengio 2013 (clipping, arXiv:1211.5063); McCandlish et al.
#   2018 (the noise scale, arXiv:1812.06162); Kaplan et al. 2020 (6ND, arXiv:2001.08361); Hoffmann et
#   al. 2022 (tokens and parameters, arXiv:2203.15556).
