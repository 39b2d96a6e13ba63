# %% [markdown]
# # 6. Recurrence
#
# An n-gram model, counted or neural, sees a few tokens back and not one more. A recurrent network
# reads one token at a time and keeps a **state**, so that in principle everything read so far can
# matter. **What does it take to learn what to remember, and why is that so hard?** We will follow a
# gradient back through time, measure how it dies or blows up, repair the second with one line
# (clipping), and find that the first stays. That is why the next notebook exists.
#
# You need the chain rule on arrays, from [notebook 3](03_backpropagation.ipynb), and eigenvalues.
# Reading takes about 45 minutes, running about 30 seconds.

# %%
from pathlib import Path

import numpy as np
import threadpoolctl

from minillm.data import Streams, encode_documents, load_corpus, split_documents
from minillm.generation import generate
from minillm.gradcheck import check_vjp, draw
from minillm.models import recurrent
from minillm.models.language_model import LanguageModel
from minillm.ops import cross_entropy, linear, rnn, rnn_cell
from minillm.optim import SGD, Adam, clip_by_global_norm, schedules
from minillm.tokenizers import CharTokenizer
from minillm.training import TrainConfig, keep, track, train_or_load
from minillm.viz.gradient_flow import gradient_flow
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure

RUNS = Path("runs/06_recurrence")
one_thread = threadpoolctl.threadpool_limits(
    1, user_api="blas"
)  # a step's products are too small for more

# %% [markdown]
# The text is Python's own manual again, by characters.

# %%
split = split_documents(load_corpus("topics").documents)
tokenizer = CharTokenizer.train([d.text for d in split.train])
train_ids = encode_documents(split.train, tokenizer)
validation_ids = encode_documents(split.validation, tokenizer)
V = tokenizer.vocab_size
print(f"{len(train_ids):,} characters to train on, {len(validation_ids):,} held out, {V} tokens")

# %% [markdown]
# ## The mathematics
#
# ### One cell, used again and again
#
# Elman's network (1990) has one line. With the input $x_t$ of step $t$, rows as vectors as
# everywhere here,
#
# $$h_t = \tanh(a_t), \qquad a_t = x_t W_x + h_{t-1} W_h + b .$$
#
# The weights are **the same at every step**. Written out for three steps it is an ordinary network
# of three layers, $h_3 = f(x_3, f(x_2, f(x_1, h_0)))$: the loop is *unrolled*. So nothing new is
# needed to differentiate it. It is the chain rule through a deep network with two peculiarities:
# every layer has an input of its own, and all layers share their weights.
#
# ### Back-propagation through time
#
# Let every step have a loss, $L = \sum_t \ell_t$, where $\ell_t$ depends on $h_t$. Write $dh_t$ for
# $\partial L / \partial h_t$, counting **all** ways in which $h_t$ reaches the loss. There are two:
# through its own $\ell_t$, and through the next step. So, from the last step to the first,
#
# $$dh_t = \frac{\partial \ell_t}{\partial h_t} + da_{t+1} W_h^\top, \qquad
# da_t = dh_t \odot (1 - h_t^2),$$
#
# since $\tanh' = 1 - \tanh^2$. The weights were used at every step, so their gradients are sums over
# the steps:
#
# $$dW_h = \sum_t h_{t-1}^\top\, da_t, \qquad dW_x = \sum_t x_t^\top\, da_t, \qquad db = \sum_t da_t .$$
#
# ### Why it vanishes or explodes
#
# How much does the loss at step $t$ say about the state $k$ steps before? With rows as vectors, a
# small change $\delta h_{t-1}$ changes the next state by $\delta h_t = \delta h_{t-1} J_t$, where
#
# $$J_t = W_h \operatorname{diag}(1 - h_t^2)$$
#
# is the step's Jacobian. (For vectors as columns it is the transpose, and that is how
# [its derivation](../docs/derivations/rnn_cell.md) writes it.) The gradient goes the other way,
# $dh_{t-1} = dh_t\, J_t^\top$. Over $k$ steps it is a product of $k$ such matrices,
#
# $$\frac{\partial \ell_t}{\partial h_{t-k}} = \frac{\partial \ell_t}{\partial h_t}\;
# J_t^\top J_{t-1}^\top \cdots J_{t-k+1}^\top .$$
#
# Forget the $\tanh$ for a moment; then it is the $k$-th power of one matrix, and by Gelfand's
# formula $\lVert W^k \rVert^{1/k} \to \rho(W)$, the **spectral radius**, the largest $|\lambda|$ of
# its eigenvalues. So for large $k$ the gradient behaves as $\rho^k$: it vanishes for $\rho < 1$,
# explodes for $\rho > 1$, and there is no comfortable place in between, only the knife's edge
# $\rho = 1$.
#
# With the $\tanh$, each factor $1 - h^2$ is at most 1. The largest singular value $\sigma$ of $W_h$
# therefore bounds the norm by $\sigma^k$ (Pascanu, Mikolov and Bengio 2013, section 2.1):
#
# - $\sigma < 1$ is *sufficient* for the gradient to vanish;
# - $\sigma > 1$ is *necessary* for it to explode, but not sufficient, since saturated units
#   ($h \approx \pm 1$) make the other factor small.
#
# It is worse than an inconvenience. Bengio, Simard and Frasconi (1994) showed that to hold a bit
# **robustly against noise**, the state must sit at a point that attracts its surroundings. There
# the Jacobian shrinks, and the gradient over the holding time must vanish. A net like this that can
# remember is one that is hard to teach what to remember.

# %% [markdown]
# ## The code
#
# The cell is an op like every other. Look at how `rnn_cell_backward` quotes the forward line that it
# reverses; its three lines are $da_t$, the weights' gradients of one step, and the two ways out, to
# $x_t$ and to $h_{t-1}$.

# %%
show_source(rnn_cell)

# %% [markdown]
# And the loop over time. Its backward walks `reversed(range(T))`, adds the two ways in which `h[t]` is
# read (`dh + dy[:, t]`), and adds up the weights' gradients. That is all of back-propagation through
# time.

# %%
show_source(rnn, only="backward")

# %% [markdown]
# Do we believe it? First the checker, with a random gradient into every output and the end state
# (why not ones: [notebook 4](04_checking_gradients.ipynb)). Then the formulas above, spelled out for
# one sequence.

# %%
x, state, weights = draw(
    (2, 5, 3), (1, 2, 4), [{"weight_x": (3, 4), "weight_h": (4, 4), "bias": 4}]
)
print(check_vjp(rnn, rnn.backward, [x, state, weights]))

# %%
(y, _), cache = rnn(x, state, weights)
(dy,) = draw(y.shape, seed=1)
_, _, (ours,) = rnn.backward((dy, None), cache)

W_h = weights[0]["weight_h"]
dW_h, dh = np.zeros_like(W_h), np.zeros((2, 4))
for t in reversed(range(5)):
    da = (dh + dy[:, t]) * (1 - y[:, t] ** 2)
    dW_h += (y[:, t - 1] if t > 0 else state[0]).T @ da
    dh = da @ W_h.T
print("largest difference:", np.abs(dW_h - ours["weight_h"]).max())

# %% [markdown]
# ## An experiment: powers of a matrix
#
# Before the network, the matrix alone. We draw random 64 × 64 matrices and scale each to a spectral
# radius of 0.9, 1 and 1.1. On the left you will see their eigenvalues as points in the complex plane
# (a random matrix fills a disc, Girko's circular law). On the right, the norm of a random vector
# multiplied by the matrix again and again.


# %% tags=["picture"] alt="Left: eigenvalues of three random matrices filling discs of radius 0.9, 1 and 1.1 around the origin. Right: the norm of a vector multiplied up to 100 times falls, stays or grows, straight lines on a logarithmic axis."
def recurrent_matrix(radius, *, size=64, seed=0):
    """A random matrix (size, size) whose largest eigenvalue has this absolute value."""
    matrix = np.random.default_rng(seed).standard_normal((size, size))
    return matrix * radius / np.abs(np.linalg.eigvals(matrix)).max()


figure = new_figure(8.6, 3.8)
plane, powers = figure.subplots(1, 2, width_ratios=[1, 1.25])
for radius, colour in zip((0.9, 1.0, 1.1), COLOURS, strict=False):
    matrix = recurrent_matrix(radius)
    values = np.linalg.eigvals(matrix)
    plane.plot(values.real, values.imag, ".", color=colour, markersize=4)
    turn = radius * np.exp(2j * np.pi * np.linspace(0, 1, 201))
    plane.plot(turn.real, turn.imag, color=colour, linewidth=0.8)
    v, norms = np.ones(64) / 8, []
    for _ in range(101):
        norms.append(np.linalg.norm(v))
        v = v @ matrix
    powers.semilogy(norms, color=colour, linewidth=1.8)
    powers.text(101, norms[-1], f"ρ = {radius}", color=colour, va="center")
plane.set(aspect="equal", xlabel="real part", ylabel="imaginary part", title="eigenvalues")
powers.set(xlabel="multiplications", title="norm of the vector", xlim=(0, 122))
for axes in (plane, powers):
    axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# Straight lines on a logarithmic axis, with ripples (the largest eigenvalues are complex and turn the
# vector as they stretch it). Over 100 steps, a tenth above or below 1 makes a factor of about ten
# thousand each way.
#
# ### The network itself
#
# Now with $\tanh$ and random inputs. We run `rnn_cell` forward, keep its caches, and send a random
# gradient of norm 1 back through `rnn_cell.backward`, step by step, noting its norm. This is the
# product of Jacobians, measured; nothing is approximated.


# %%
def norms_by_lag(weights, x, dh):
    """Norms (T + 1,) of a gradient that starts as dh (B, K) at the last step, by steps back.

    A mean over the batch. x : (B, T, C)
    """
    h, caches = np.zeros_like(dh), []
    for t in range(x.shape[1]):
        h, cache = rnn_cell(x[:, t], h, weights)
        caches.append(cache)
    dhs = [dh]
    for cache in reversed(caches):
        _, dh, _ = rnn_cell.backward(dh, cache)
        dhs.append(dh)
    squares = (np.stack(dhs).astype(np.float64) ** 2).sum(-1)  # in float32 they would underflow
    return np.sqrt(squares).mean(-1).astype(dh.dtype)


def random_rnn(radius, *, dtype=np.float64):
    """Weights for 16 inputs and 64 units; the recurrent matrix has this spectral radius."""
    weight_x = 0.1 * np.random.default_rng(1).standard_normal((16, 64))
    weights = {"weight_x": weight_x, "weight_h": recurrent_matrix(radius), "bias": np.zeros(64)}
    return {name: array.astype(dtype) for name, array in weights.items()}


def random_input(steps, *, batch=8, dtype=np.float64):
    rng = np.random.default_rng(2)
    x, dh = rng.standard_normal((batch, steps, 16)), rng.standard_normal((batch, 64))
    return x.astype(dtype), (dh / np.linalg.norm(dh, axis=-1, keepdims=True)).astype(dtype)


# %% [markdown]
# You will see one line for each spectral radius. Ask yourself first where the line for 1.2 will go: up,
# as the powers did?

# %% tags=["picture"] alt="Norm of the gradient over 100 steps back in time on a logarithmic axis, for tanh networks with spectral radius 0.8 to 1.6: all but the largest fall."
flow = {
    f"ρ = {r}": norms_by_lag(random_rnn(r), *random_input(100)) for r in (0.8, 1.0, 1.2, 1.4, 1.6)
}
print("after 100 steps back:", {name: f"{norms[-1]:.2g}" for name, norms in flow.items()})
gradient_flow(flow, along="time", title="A gradient on its way back through a tanh network")

# %% [markdown]
# Look at the right edge. The network at $\rho = 1$ vanishes although its matrix alone would not: every
# step also multiplies by $1 - h^2 < 1$. The larger the weights, the larger the states, the smaller
# that factor, so the two effects fight. Only far above 1 does the matrix win: at $\rho = 1.6$ the
# gradient grows, about tenfold over the 100 steps (a linear network would make it $1.6^{100}$ times
# as large). Between the last two lines there must be a radius at which it ends as it began. But it
# is a number to be hit exactly, it depends on the inputs too, and training moves the weights.
#
# Float32 makes "vanishing" literal. With $\rho = 0.4$, long before 150 steps:

# %% tags=["picture"] alt="The same norm in float32 and float64 for spectral radius 0.4: the float32 line passes the smallest normal number and ends as zeros, the float64 line goes on."
flow = {
    name: norms_by_lag(random_rnn(0.4, dtype=dtype), *random_input(150, dtype=dtype))
    for name, dtype in (("float64", np.float64), ("float32", np.float32))
}
gradient_flow(flow, along="time", title="The same gradient, ρ = 0.4")

# %% [markdown]
# The circles in the band below are exact zeros. From there on, no learning rate can bring anything
# back: the loss carries no information at all about those steps.
#
# One caution. **The gradient of the weights does not vanish.** It is a sum over all lags, and the
# terms from nearby are as large as ever. What vanishes is the *share* that comes from far away. So a
# training curve looks healthy, and the network learns short connections and nothing else.

# %% [markdown]
# ## An experiment: the cliff
#
# Exploding looks harmless beside that: at least there is a gradient. But see what it does to the
# loss. The smallest recurrent network has one unit and no input: $h_t = \tanh(w h_{t-1} + b)$, from
# $h_0 = 0.5$. We ask that after 50 steps it holds $0.3$, with the loss $(h_{50} - 0.3)^2$, and draw
# the loss over the two parameters (as Pascanu et al. did for a sigmoid in their figure 6).
#
# Two descents start from the white square, with the same learning rate. One follows the gradient; the
# other cuts it to length 0.5 wherever it is longer. Look for the wall, and for what each does when
# it meets it.


# %% tags=["picture"] alt="The loss of a one-unit network over w and b as shades with a sharp wall; plain gradient descent is thrown across the picture by one step, clipped descent stays at the wall and moves along it."
def one_unit(w, b, *, steps=50, target=0.3):
    """The loss of the one-unit network, and its gradient (dw, db), by rnn and rnn.backward."""
    weights = [{"weight_x": np.zeros((1, 1)), "weight_h": np.array([[w]]), "bias": np.array([b])}]
    (_, h), cache = rnn(np.zeros((1, steps, 1)), np.full((1, 1, 1), 0.5), weights)
    _, _, (grads,) = rnn.backward((None, 2 * (h - target)), cache)
    return (h.item() - target) ** 2, np.array([grads["weight_h"].item(), grads["bias"].item()])


def descend(longest, *, start=(1.3, 0.1), lr=0.05, steps=40):
    """The places (steps + 1, 2) of gradient descent, its losses, and its gradients' norms."""
    place, places, losses, norms = np.array(start), [], [], []
    for _ in range(steps + 1):
        loss, gradient = one_unit(*place)
        norm = np.linalg.norm(gradient)
        places.append(place), losses.append(loss), norms.append(norm)
        place = place - lr * gradient * min(1, longest / norm)
    return np.array(places), np.array(losses), np.array(norms)


descents = {"as it is": descend(np.inf), "clipped at 0.5": descend(0.5)}
for name, (places, losses, norms) in descents.items():
    print(f"{name}: longest gradient {norms.max():.1f},", end=" ")
    print(f"ends at w = {places[-1, 0]:.2f}, b = {places[-1, 1]:.2f}")
    print(f"    loss at the end {losses[-1]:.4f}, least on the way {losses.min():.4f}")

w, b = np.meshgrid(np.linspace(0.6, 1.6, 301), np.linspace(-0.3, 1.5, 301))
h = np.full(w.shape, 0.5)
for _ in range(50):
    h = np.tanh(w * h + b)
figure = new_figure(7.4, 4.4)
axes = figure.add_subplot(xlabel="w", ylabel="b", title="A cliff in the loss, and two descents")
shades = axes.contourf(w, b, (h - 0.3) ** 2, levels=24, cmap="Greys")
figure.colorbar(shades, ax=axes, label="loss after 50 steps")
for (name, (places, _, _)), colour, at in zip(
    descents.items(), (COLOURS[1], COLOURS[0]), ((1.12, 1.36), (1.17, 0.18)), strict=True
):
    axes.plot(*places.T, ".-", color=colour, linewidth=1.4, markersize=5)
    axes.annotate(name, at, color=colour, fontsize=10, weight="bold")
axes.plot(1.3, 0.1, "s", color="white", markeredgecolor="black", markersize=7)
figure

# %% [markdown]
# Above the wall (larger $b$) the loss is small; below it the unit has fallen to the negative side and
# the loss is large. Why is the change so sudden? For $w > 1$ and $b$ near 0, the map $h \mapsto \tanh(w h + b)$
# has **three fixed points**: a low and a high one that attract, and between them one that repels. So
# where the unit ends depends on which side of the repelling one it starts. It starts at 0.5, and the
# wall is where that point passes 0.5: from $0.5 = \tanh(0.5 w + b)$ we get
# $b = \operatorname{artanh}(0.5) - 0.5 w$. That holds for $w > 4/3$. For smaller $w$, as $b$ falls,
# the high fixed point and the repelling one meet below 0.5 and vanish, and with them goes the reason to
# stay up. Let us compare, by bisection for the first $b$ (from below) at which $h_{50}$ is positive:

# %%
for w in (1.1, 1.2, 1.3, 1.4, 1.6):
    low, high = -0.5, 0.2
    for _ in range(40):
        b, h = (low + high) / 2, 0.5
        for _ in range(50):
            h = np.tanh(w * h + b)
        low, high = (low, b) if h > 0 else (b, high)
    meet = np.sqrt(1 - 1 / w)  # where the slope w (1 - h²) of the map is 1
    passes = np.arctanh(0.5) - 0.5 * w
    predicted = passes if w > 4 / 3 else np.arctanh(meet) - w * meet
    why = "the repelling point passes 0.5" if w > 4 / 3 else "the high fixed point is gone"
    print(f"w = {w}: the wall at b = {high:.3f}; at {predicted:.3f} {why}")

# %% [markdown]
# They agree to about a hundredth. (Fifty steps are not for ever. Just beyond the place where the high
# fixed point has gone, the unit creeps by so slowly that it is still up at the end.)
#
# At the wall, fifty factors multiply up and the slope is enormous: the cell with the picture has
# printed the longest gradient that each descent met. The unclipped step takes it at its word and is
# thrown far away, to a slope so gentle that it hardly moves from there. The clipped one has the same
# *direction* and a bounded *length*: it hops to and fro over the wall and works its way along it to
# where the loss is less. A gradient says which way is down. It does not say for how far.
#
# In the package, clipping is Pascanu's algorithm 1, over the norm of all parameters together:

# %%
show_source(clip_by_global_norm)

# %% [markdown]
# ## An experiment: a training that diverges
#
# Now a real model on real text: one layer of 96 units, plain stochastic gradient descent with a learning
# rate of 2, batches of 16 streams and 48 steps of back-propagation. We train it twice from the same
# weights on the same batches. The only difference is the clipping.


# %%
def train_rnn(*, block, batch, steps, lr, clip, hidden, carry=True, adam=False, seed=0):
    """Train a recurrent model in the open; losses and norms of each step, and a held-out loss.

    carry : whether a batch begins with the state in which the one before it ended
    """
    config = recurrent.RecurrentConfig(V, "rnn", n_embd=32, n_hidden=hidden, n_layer=1)
    params = recurrent.init(config, np.random.default_rng(seed))
    optimizer = (Adam if adam else SGD)(lr)
    rate = schedules.linear(lr, steps, final=0.0) if adam else schedules.constant(lr)
    memory, state, losses, norms = optimizer.init(params), None, [], []
    streams = Streams(train_ids, block=block, batch=batch, vocab_size=V)
    for n in track(range(steps), f"block {block}, clip {clip}"):
        if streams.restarts(n) or not carry:
            state = None
        ids, targets = streams.batch(n)
        (loss, state), cache = recurrent.loss(
            params, ids=ids, targets=targets, config=config, state=state
        )
        grads = recurrent.loss.backward((np.float32(1), None), cache)
        norms.append(clip_by_global_norm(grads, clip or np.inf))
        losses.append(loss)
        optimizer.update(params, grads, memory, rate(n))
    return {"loss": losses, "norm": norms, "held_out": held_out(params, config)}


def held_out(params, config):
    """Bits per character of 16 held-out streams, the state carried along."""
    streams = Streams(validation_ids, block=128, batch=16, vocab_size=V)
    total, state = 0.0, None
    for n in range(streams.steps):
        ids, targets = streams.batch(n)
        (loss, state), _ = recurrent.loss(
            params, ids=ids, targets=targets, config=config, state=state
        )
        total += float(loss)
    return total / streams.steps / np.log(2)


same = {"block": 48, "batch": 16, "steps": 300, "lr": 2.0, "hidden": 96}
runs = {
    "no clipping": train_rnn(clip=None, **same),
    "norm at most 1": train_rnn(clip=1.0, **same),
}
blind = np.log(V)
for name, run in runs.items():
    print(
        f"{name:15} loss at the end {np.mean(run['loss'][-20:]):6.2f} nats a character, largest",
        end="",
    )
    print(f" gradient norm {max(run['norm']):.3g}, median {np.median(run['norm']):.2f}")
print(f"a blind guess costs {blind:.2f} nats")

# %% [markdown]
# The picture has the loss above and the norm of the gradient *before* clipping below, both on
# logarithmic axes. Look for the step at which the two runs part.

# %% tags=["picture"] alt="Loss and gradient norm over 300 steps with and without clipping: without, the loss jumps far above a blind guess in the first steps and stays above it; with clipping it falls."
figure = new_figure(7.4, 5.0)
above, below = figure.subplots(2, 1, sharex=True)
for (name, run), colour in zip(runs.items(), (COLOURS[1], COLOURS[0]), strict=True):
    above.semilogy(run["loss"], color=colour, linewidth=1.2)
    below.semilogy(run["norm"], color=colour, linewidth=1.2, label=name)
above.axhline(blind, color=GREY, linewidth=0.9, linestyle="--")
above.text(303, blind, "blind guess", color=GREY, va="center", fontsize=9)
below.axhline(1, color=GREY, linewidth=0.9, linestyle="--")
below.text(303, 1, "clipped here", color=GREY, va="center", fontsize=9)
above.set(ylabel="nats per character", title="The same training with and without clipping")
below.set(xlabel="step", ylabel="norm of the gradient", xlim=(0, 300))
below.legend(frameon=False, fontsize=9, loc="upper right")
above.set_yticks([2, 5, 10, 20, 50], ["2", "5", "10", "20", "50"])
for axes in (above, below):
    axes.yaxis.set_minor_formatter("")
    axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# The runs part within the first few steps. A norm of a few, times a rate of 2, is a jump about as long
# as the weights themselves: the units saturate, the head shouts, and from there every gradient is
# large and the way back is long. The loss goes far above that of a model that knows nothing, and ends
# above it too. The clipped run meets its large norms in the same first steps, takes short ones in
# their direction, and hardly ever needs the clipping after that. A smaller learning rate would also
# survive, but then the *usual* step is small because of a rare one. Clipping separates the two.
#
# Clipping does nothing about vanishing. There is no length to cut.

# %% [markdown]
# ## An experiment: how far back must the gradient go?
#
# A text has no end, so nobody unrolls all of it. **Truncated** back-propagation (Williams and Peng
# 1990) cuts it into blocks of $T$ steps. The *state* is handed on from block to block, but the
# *gradient* stops at the border. The model's `loss` takes a `state` and returns the next one:

# %%
show_source(recurrent.loss, only="forward")

# %% [markdown]
# `Streams` makes the batches for that: stream $b$ of one batch goes on where stream $b$ of the batch
# before stopped. We compare blocks of 1, 4, 16 and 64 steps. Every update sees 1024 characters
# ($B = 1024 / T$ streams), and each is trained once with the state carried on and once with a state
# of zeros at the start of every block. All are measured in the same way, on held-out text with the
# state carried along. One thing differs beside the truncation: short blocks come in many streams,
# 1024 of them for $T = 1$ and 16 for $T = 64$, each of which walks on through its own part of the
# text.


# %% tags=["picture"] alt="Held-out bits per character against the truncation length 1, 4, 16, 64: with the state reset the short blocks are much worse, with the state carried the curve is nearly flat."
def sweep_truncation(*, lengths, steps):
    """Held-out bits per character (2, lengths): with the state carried, and reset."""
    rows = [
        [
            train_rnn(
                block=length, batch=1024 // length, steps=steps, lr=5e-3, clip=1.0, hidden=128,
                carry=carry, adam=True,
            )["held_out"]
            for length in lengths
        ]
        for carry in (True, False)
    ]  # fmt: skip
    return {"bits": np.array(rows)}


lengths = [1, 4, 16, 64]
bits = keep(RUNS / "truncation.npz", sweep_truncation, lengths=lengths, steps=400)["bits"]
for name, row in zip(("carried", "reset"), bits, strict=True):
    print(
        f"state {name:8}", "  ".join(f"T = {n}: {b:.2f}" for n, b in zip(lengths, row, strict=True))
    )

figure = new_figure(6.4, 3.8)
axes = figure.add_subplot(
    xlabel="T, steps that the gradient goes back", ylabel="bits per character, held out",
    title="Where the gradient stops, and where the state does",
)  # fmt: skip
for name, row, colour in zip(("state carried on", "state reset"), bits, COLOURS, strict=False):
    axes.plot(lengths, row, "o-", color=colour, linewidth=1.8)
    axes.annotate(
        name, (lengths[0], row[0]), xytext=(8, 4), textcoords="offset points", color=colour
    )
axes.set_xscale("log", base=2)
axes.set_xticks(lengths, lengths)
axes.spines[["top", "right"]].set_visible(False)
axes.grid(axis="y", color="0.9")
figure

# %% [markdown]
# With the state reset, $T = 1$ is a bigram model that also has to cope with a state it never saw in
# training. With the state carried on, the surprise is how little $T$ costs. **Even with no step back in
# time at all**, the gradient only ever seeing one cell, the network uses its state and beats that
# by far. (That is how Elman trained in 1990.) It takes no gradient through time to read from a state
# what happens to be in it. And longer blocks gain little, in this short training.
#
# Do not read more into it. This is one seed, so a few hundredths of a bit should not be taken for a
# difference. When we ran it, the reset state even came out a little ahead for
# $T = 16$ and $T = 64$, where most characters are not near the start of a block and it matters little.

# %% [markdown]
# ## An experiment: what a trained network remembers
#
# Now a properly trained one, by the package's own loop (AdamW, cosine schedule, clipping at 1), and the
# two questions again: how far does its gradient reach, and how far back does it actually look?

# %%
model = LanguageModel.create("rnn", tokenizer, seed=0, n_embd=32, n_hidden=160, n_layer=1)
untrained = recurrent.init(model.config, np.random.default_rng(np.random.SeedSequence(0)))
settings = TrainConfig(
    steps=1200,
    batch=16,
    block=64,
    lr=4e-3,
    eval_every=400,
    eval_batches=18,
    log_every=400,
    threads=2,
)
result = train_or_load(model, (train_ids, validation_ids), settings, RUNS / "rnn")
print(
    f"{model.n_parameters:,} parameters, {result.best_loss / np.log(2):.2f} bits per character held out"
)
print(tokenizer.decode(generate(model, tokenizer.encode("The "), max_new_tokens=200, rng=1)))

# %% [markdown]
# The gradient first. We take 200 places in held-out text, let the network read the 60 characters
# before each, and send the gradient of the **actual loss** back from there. It starts with whatever
# norm the head gives it, so every curve is divided by its first value.


# %% tags=["picture"] alt="Norm of the loss gradient by steps back, relative to the start, for the RNN before and after training: before, it is gone within a few dozen steps; after, it decays more slowly."
def places(count, length, *, seed=5):
    """(count, length + 1) ids: `length` characters of held-out text, and the one that follows."""
    starts = np.random.default_rng(seed).integers(0, len(validation_ids) - length - 1, count)
    return validation_ids[starts[:, None] + np.arange(length + 1)]


def relative_flow(params, windows):
    """The norm of d loss / d h by steps back, as a share of that at 0 steps."""
    x, weights = params["embedding"]["weight"][windows[:, :-1]], params["layers"][0]
    (y, _), _ = rnn(x, None, params["layers"])
    logits, to_head = linear(y[:, -1], params["head"]["weight"].T, params["head"]["bias"])
    _, to_loss = cross_entropy(logits, targets=windows[:, -1])
    dh, _, _ = linear.backward(cross_entropy.backward(np.float32(1), to_loss), to_head)
    norms = norms_by_lag(weights, x, dh)
    return norms / norms[0]


windows = places(200, 60)
flow = {
    name: relative_flow(p, windows)
    for name, p in (("untrained", untrained), ("trained", model.params))
}
print("after 20 steps back:", {name: f"{norms[20]:.1e}" for name, norms in flow.items()})
gradient_flow(flow, along="time", title="The gradient of the loss, over real text")

# %% [markdown]
# Training has pushed the network towards the edge: its gradient reaches much further than at the start
# (torch's initialisation, uniform in $\pm 1/\sqrt K$, has a spectral radius of about 0.6). Now the
# other question. We let it predict the same character after reading only the last $k$ characters, from
# a state of zeros, and see how its cost falls with $k$.

# %% tags=["picture"] alt="Bits per character of the trained RNN against the number of characters it has read before the one it predicts: the cost falls steeply over the first few and is level after about ten to twenty."
windows = places(1500, 60, seed=6)
seen = [1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 22, 30, 45, 60]
cost = []
for k in seen:
    (logits, _), _ = recurrent.forward(
        model.params, ids=windows[:, -1 - k : -1], config=model.config
    )
    loss, _ = cross_entropy(logits[:, -1], targets=windows[:, -1])
    cost.append(float(loss / np.log(2)))
print("bits per character after reading k characters:")
for row in (slice(0, 7), slice(7, None)):
    print("   ".join(f"{k}: {c:.2f}" for k, c in zip(seen[row], cost[row], strict=True)))
figure = new_figure(6.4, 3.6)
axes = figure.add_subplot(
    xlabel="k, characters read before the one to predict", ylabel="bits per character",
    title="How far back the trained network looks",
)  # fmt: skip
axes.plot(seen, cost, "o-", color=COLOURS[0], linewidth=1.8)
axes.axhline(cost[-1], color=GREY, linewidth=0.9, linestyle="--")
axes.set_ylim(bottom=0)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# A few characters buy nearly everything. Do not take the left end as the worth of one character,
# though: at $k = 1$ the cost has two causes in it, the missing context and a state of zeros that the
# network hardly met in training, where it nearly always goes on from what it has read. This picture
# does not tell the two apart.
#
# There is no wall in the architecture at ten or twenty: the state could carry more. That it was not
# *taught* to fits what we measured, since the gradient that would teach it has shrunk to about a
# thousandth after 20 steps even in the trained network. It is not a proof: perhaps this text offers
# little that is worth carrying further. An opened bracket, a quote or an indented block would be. The
# next notebook builds a cell whose gradient has a road of its own, and sees whether it carries them.

# %% [markdown]
# ## Exercises
#
# **1. The Jacobian itself** (easy). Write the matrix of $\partial h_T / \partial h_0$ for one sequence, from
# its states alone: $M_{ij} = \partial h_{T,j} / \partial h_{0,i}$, so that with rows as vectors a small change
# $\delta$ of $h_0$ changes $h_T$ by $\delta M$. Mind the order of the factors, and on which side of
# $W_h$ the diagonal stands.


# %% tags=["exercise"] exercise="jacobian"
def jacobian(hs, weight_h):
    """M (K, K) with M[i, j] = d h_T[j] / d h_0[i], from hs (T, K), the states h_1 .. h_T."""
    raise NotImplementedError("exercise 1: the product of the steps' Jacobians")


# %% tags=["check", "raises-exception"] exercise="jacobian"
x, h0, weights = draw(
    (1, 6, 3), (1, 1, 5), [{"weight_x": (3, 5), "weight_h": (5, 5), "bias": 5}], seed=4
)
weights[0]["weight_h"] *= 0.5
(y, _), cache = rnn(x, h0, weights)
expected = np.empty((5, 5))
for j in range(5):
    expected[:, j] = rnn.backward((None, np.eye(5)[j].reshape(1, 1, 5)), cache)[1][0, 0]
found = np.asarray(jacobian(y[0], weights[0]["weight_h"]))
assert found.shape == (5, 5), f"a (5, 5) matrix was expected, got {found.shape}"
assert not np.allclose(found, expected.T), "this is the transpose: M[i, j] = d h_T[j] / d h_0[i]"
assert np.allclose(found, expected), (
    f"off by {np.abs(found - expected).max():.2g}. One step back is dh_(t-1) = (dh_t * (1 - h_t**2)) "
    "@ weight_h.T, so d h_t[j] / d h_(t-1)[i] = weight_h[i, j] * (1 - h_t[j]**2); the first step's "
    "factor stands leftmost"
)
print("right; the Jacobian's norm is", f"{np.linalg.norm(found):.3g}")

# %% [markdown]
# **2. Clipping** (easy). Scale a nest of gradients (a dict of arrays) to a *global* norm of at most
# `longest`, and return new arrays. The direction of the whole must stay. What goes wrong if you clip
# each array by itself, or each element?


# %% tags=["exercise"] exercise="clipping"
def clipped(grads, longest):
    """New gradients {name: array}, scaled together so that their joint norm is at most `longest`."""
    raise NotImplementedError("exercise 2: clip by the global norm")


# %% tags=["check", "raises-exception"] exercise="clipping"
def as_vector(grads):
    return np.concatenate([np.ravel(grads[name]) for name in sorted(grads)])


grads = dict(zip(("weight", "bias"), draw((4, 3), 3, seed=8), strict=True))
grads["weight"] *= 10
before = as_vector(grads).copy()
for longest in (1e3, 5.0, 0.1):
    answer = clipped(grads, longest)
    assert isinstance(answer, dict), f"a dict like `grads` was expected, got {answer!r}"
    assert answer.keys() == grads.keys(), f"keys {[*grads]} were expected, got {[*answer]}"
    after = as_vector(answer)
    assert np.array_equal(as_vector(grads), before), (
        "the gradients that came in must not be changed"
    )
    norm, allowed = np.linalg.norm(after), min(longest, np.linalg.norm(before))
    cosine = after @ before / (np.linalg.norm(after) * np.linalg.norm(before))
    assert cosine > 1 - 1e-9, (
        f"the direction turned (cosine {cosine:.4f}): one factor for all arrays, from the norm of all "
        "of them together"
    )
    assert np.isclose(norm, allowed, rtol=1e-4), (
        f"with longest = {longest} the norm should be {allowed:.3g}, got {norm:.3g}; what is already "
        "short enough stays as it is"
    )
print("right")

# %% [markdown]
# **3. Truncate it yourself** (medium). Write the gradient of $W_h$ for a loss at the **last step only**,
# counting only the last `steps` cells: where the walk back stops, the gradient stops. With
# `steps = T` it must be all of `rnn.backward`. Then run the check and read what it prints: how much of
# the gradient do the last 5 of 40 steps hold?


# %% tags=["exercise"] exercise="truncation"
def truncated_gradient(hs, h0, weight_h, dh, steps):
    """dW_h (K, K) from the last `steps` cells.

    hs : (B, T, K) the states h_1 .. h_T; h0 : (B, K) before them; dh : (B, K) = d loss / d h_T
    """
    raise NotImplementedError("exercise 3: back-propagation through the last steps only")


# %% tags=["check", "raises-exception"] exercise="truncation"
weights = [random_rnn(0.9)]
x, dh = random_input(40)
h0 = np.tanh(draw((1, 8, 64), seed=3)[0])
(y, _), cache = rnn(x, h0, weights)
full = rnn.backward((None, dh[None]), cache)[2][0]["weight_h"]
pieces = {n: truncated_gradient(y, h0[0], weights[0]["weight_h"], dh, n) for n in (1, 2, 5, 40)}
for n, piece in pieces.items():
    assert np.shape(piece) == (64, 64), (
        f"dW_h has the shape of weight_h, (64, 64); with steps = {n} it was {np.shape(piece)}"
    )
one = y[:, -2].T @ (dh * (1 - y[:, -1] ** 2))
assert np.allclose(pieces[1], one), "with one step it is h_(T-1).T @ da_T, da_T = dh * (1 - h_T**2)"
assert np.allclose(pieces[40], full), (
    "with all 40 steps it must be the whole gradient; the first cell read h0, and between two cells dh "
    "goes through weight_h.T"
)
ratio = np.linalg.norm(pieces[2] - pieces[1]) / np.linalg.norm(full)
dh_before = (dh * (1 - y[:, -1] ** 2)) @ weights[0]["weight_h"].T
two = one + y[:, -3].T @ (dh_before * (1 - y[:, -2] ** 2))
assert np.allclose(pieces[2], two), "with two steps it has two terms, of cells T and T - 1"
share = 1 - np.linalg.norm(full - pieces[5]) / np.linalg.norm(full)
print(f"right: the last 5 of 40 steps leave {1 - share:.0%} of the gradient's norm missing")

# %% [markdown]
# **4. On the knife's edge** (hard). An orthogonal matrix has all singular values 1, so its powers
# neither shrink nor grow (Saxe, McClelland and Ganguli 2014, arXiv:1312.6120). Make a random one of
# any size, and find the largest *scale* at which a $\tanh$ network still keeps a tenth of its gradient
# over 100 steps. The scale is the standard deviation of the entries of $W_x$ (0.1 in the networks
# above): it says how strongly the inputs drive the units. The function returns both, and may use
# `kept`, which measures what is left.


# %%
def kept(matrix, scale):
    """The share of a gradient's norm left after 100 steps; weight_x's entries have this scale."""
    weights = random_rnn(1.0) | {"weight_h": matrix}
    weights["weight_x"] = weights["weight_x"] / 0.1 * scale
    return norms_by_lag(weights, *random_input(100))[-1]


# %% tags=["exercise"] exercise="orthogonal"
def edge(size, seed):
    """(weight_h (size, size), random and orthogonal; the largest scale for it, to two digits)."""
    raise NotImplementedError("exercise 4: orthogonal recurrence")


# %% tags=["check", "raises-exception"] exercise="orthogonal"
answer = edge(64, 0)
assert isinstance(answer, tuple), f"a pair (weight_h, scale) was expected, got {answer!r}"
matrix, scale = answer
assert np.shape(matrix) == (64, 64), f"a (64, 64) matrix was expected, got {np.shape(matrix)}"
assert np.allclose(matrix @ matrix.T, np.eye(64)), (
    "not orthogonal: Q @ Q.T must be the identity. The Q of a QR decomposition of a random matrix is"
)
assert not np.allclose(matrix, edge(64, 1)[0]), "another seed should give another matrix"
assert np.abs(matrix - np.diag(np.diag(matrix))).max() > 0.1, (
    "the identity is orthogonal, not random"
)
assert kept(matrix, scale) >= 0.1, (
    f"with inputs of scale {scale} only {kept(matrix, scale):.2g} of the gradient is left: smaller "
    "inputs keep the states small, and 1 - h**2 near 1"
)
assert kept(matrix, 1.3 * scale) < 0.1, f"a scale of {1.3 * scale:.2g} would still do: search on"
print(f"right: inputs up to {scale:.2g}, where 0.1 was used above")

# %% [markdown]
# ## Where to go next
#
# - [LSTM and GRU](07_lstm_and_gru.ipynb): the same measured gradient, with a road through it.
# - [rnn_cell](../docs/derivations/rnn_cell.md) and [rnn](../docs/derivations/rnn.md), derived step by
#   step; [the recurrent models](../docs/models/recurrent.md), papers' equations beside their lines.
# - [The Transformer block](09_transformer_block.ipynb) measures the same thing by layer instead of by
#   time, and [Training a GPT](10_training_a_gpt.ipynb) clips for the same reason.
#
# Papers: Elman 1990 (*Finding structure in time*); Werbos 1990 (back-propagation through time);
# Williams and Peng 1990 (truncated); Bengio, Simard and Frasconi 1994 (*Learning long-term
# dependencies with gradient descent is difficult*); Mikolov et al. 2010 (a recurrent language
# model, with clipping by element); Pascanu, Mikolov and Bengio 2013 (arXiv:1211.5063), whose section
# 2 and figure 6 this notebook follows; Saxe, McClelland and Ganguli 2014 (arXiv:1312.6120).
