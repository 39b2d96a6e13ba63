# %% [markdown]
# # 3. Backpropagation by hand
#
# A network has a million parameters and ends in one number, its loss. **How does that one number
# tell each of the million which way to move, at the cost of about two more forward passes?** And
# when you have worked the rule out on paper and typed it in: why does the test that most people
# write first say "fine" to a backward that returns nothing but zeros?
#
# You need partial derivatives, the matrix product and NumPy's broadcasting. Reading takes about
# 45 minutes, running about 15 seconds. The next notebook is about
# [checking gradients](04_checking_gradients.ipynb); here we derive them.

# %%
import argparse
import inspect
import json.decoder
import unicodedata

import numpy as np
from matplotlib.patches import FancyArrowPatch, Rectangle

import minillm
from minillm.data import load_corpus
from minillm.gradcheck import check_vjp, draw
from minillm.ops import (
    cross_entropy,
    layer_norm,
    linear,
    mlp_gelu,
    softmax,
    tanh,
)
from minillm.ops._op import sum_to_shape
from minillm.training import WorkerPool
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure

# %% [markdown]
# ## The mathematics
#
# ### One number at a time
#
# Take four steps that end in a loss $L$; the input $x$ is used twice:
#
# $$u = w x, \qquad s = u + b, \qquad y = \tanh s, \qquad L = x\,y .$$
#
# The chain rule says how fast $L$ changes with each value on the way. We walk from the end to the
# start, and at every step multiply what has arrived by the slope of that step:
#
# | forward | slope of this step | backward |
# |---|---|---|
# | $L = x y$ | $\partial L/\partial y = x$ | $dy = x$, and a first share for $x$: $y$ |
# | $y = \tanh s$ | $1 - y^2$ | $ds = dy\,(1 - y^2)$ |
# | $s = u + b$ | $1$ and $1$ | $du = ds$, $\;db = ds$ |
# | $u = w x$ | $x$ and $w$ | $dw = du\,x$, and a second share for $x$: $du\,w$ |
#
# Here and in all the code, **`dy` is the gradient of the loss with respect to `y`**,
# $\partial L/\partial y$. Two things carry over to any size:
#
# 1. every step needs only the gradient of its own output, and values that forward had anyway;
# 2. **what is used twice gets two shares, and they add up.**
#
# Walking forwards instead (how does everything change with $x$?) would answer for one input at a
# time. From the end, one walk serves all of them.

# %%
x, w, b = 0.8, 1.5, -0.4
u = w * x
s = u + b
y = np.tanh(s)
L = x * y

dL = 1.0
dy, dx = dL * x, dL * y  # the first share of x
ds = dy * (1 - y**2)
du, db = ds, ds
dw = du * x
dx = dx + du * w  # the second share of x
print(f"dw = {dw:.4f}, db = {db:.4f}, dx = {dx:.4f}")

h = 1e-6
moved = ((x + h) * np.tanh(w * (x + h) + b) - (x - h) * np.tanh(w * (x - h) + b)) / (2 * h)
print(f"and by moving x a little: {moved:.4f}")
walk = {"x": (x, dx), "w": (w, dw), "b": (b, db)}  # for the picture below
walk |= {"u": (u, du), "s": (s, ds), "y": (y, dy), "L": (L, dL)}

# %% [markdown]
# The picture shows the same walk: values in blue from left to right, gradients in orange from right
# to left. Look at $x$: two arrows leave it, so two shares come back.


# %% tags=["picture"] alt="The four steps as a graph: each node has its value in blue above and its gradient in orange below; x sends two arrows out and gets two shares back."
def graph_picture():
    figure = new_figure(8.0, 3.0)
    axes = figure.add_subplot(xlim=(-0.5, 8.9), ylim=(-1.05, 3.0))
    axes.set_axis_off()
    nodes = {
        "x": (0, 2.1),
        "w": (0, 0.2),
        "b": (2.9, -0.25),
        "u = w x": (2.1, 1.15),
        "s = u + b": (4.2, 1.15),
        "y = tanh s": (6.3, 1.15),
        "L = x y": (8.3, 1.15),
    }
    for start, end in (
        ("x", "u = w x"),
        ("w", "u = w x"),
        ("u = w x", "s = u + b"),
        ("b", "s = u + b"),
        ("s = u + b", "y = tanh s"),
        ("y = tanh s", "L = x y"),
        ("x", "L = x y"),
    ):
        arc = "arc3,rad=-0.22" if (start, end) == ("x", "L = x y") else "arc3"
        arrow = FancyArrowPatch(
            nodes[start],
            nodes[end],
            connectionstyle=arc,
            arrowstyle="-|>",
            mutation_scale=11,
            color=GREY,
            shrinkA=26,
            shrinkB=28,
            linewidth=1,
        )
        axes.add_patch(arrow)
    for name, (left, up) in nodes.items():
        value, gradient = walk[name[0]]
        box = {"boxstyle": "round,pad=0.35", "facecolor": "white", "edgecolor": GREY}
        axes.text(
            left, up, f"${name}$".replace("tanh", r"\tanh"), ha="center", va="center", bbox=box
        )
        axes.text(left, up + 0.36, f"{value:.3f}", ha="center", color=COLOURS[0], fontsize=10)
        axes.text(
            left, up - 0.36, f"{gradient:.3f}", ha="center", va="top", color=COLOURS[1], fontsize=10
        )
    axes.text(5.6, -0.35, "value", color=COLOURS[0], fontsize=10)
    axes.text(6.4, -0.35, "gradient of $L$", color=COLOURS[1], fontsize=10)
    return figure


graph_picture()

# %% [markdown]
# ### Arrays: move everything to the other side
#
# For arrays we want rules that handle a whole array at once. The tool is the **differential**. Let
# $\delta x$ be a small change of $x$, an array of the same shape. To first order the loss changes by
#
# $$\delta L = \sum_i \frac{\partial L}{\partial x_i}\,\delta x_i = \langle dx, \delta x \rangle ,$$
#
# where $\langle a, b \rangle$ multiplies two arrays of one shape element by element and sums it all.
# This *defines* the gradient: $dx$ is the array for which $\delta L = \langle dx, \delta x \rangle$
# whatever the change $\delta x$. In particular it has the shape of $x$.
#
# So there is a recipe for the backward of $y = f(x)$:
#
# 1. write $\delta y$ in terms of $\delta x$ (the ordinary rules of differentiation);
# 2. put that into $\delta L = \langle dy, \delta y \rangle$;
# 3. move everything but $\delta x$ to the other side. What stands there is $dx$.
#
# **The affine map**, $y = x W + b$ with $x: (N, C_{in})$, $W: (C_{in}, C_{out})$, $b: (C_{out})$.
# By the product rule $\delta y = \delta x\, W + x\, \delta W + \delta b$. In index notation the
# first part gives
#
# $$\sum_{n,j} dy_{nj} \sum_i \delta x_{ni} W_{ij}
#   = \sum_{n,i} \Big( \sum_j dy_{nj} W_{ij} \Big) \delta x_{ni}
#   \quad\Rightarrow\quad dx = dy\, W^\top ,$$
#
# and the other two
#
# $$\sum_{n,j} dy_{nj} \sum_i x_{ni}\, \delta W_{ij}
#   = \sum_{i,j} \Big( \sum_n x_{ni}\, dy_{nj} \Big) \delta W_{ij}
#   \quad\Rightarrow\quad dW = x^\top dy ,$$
#
# $$\sum_{n,j} dy_{nj}\, \delta b_j = \sum_j \Big( \sum_n dy_{nj} \Big) \delta b_j
#   \quad\Rightarrow\quad db_j = \sum_n dy_{nj} .$$
#
# In each line nothing happened but a change of the order of the sums. A quick check that catches
# half of all slips: **shapes**. $dW$ must be $(C_{in}, C_{out})$, and from $x: (N, C_{in})$ and
# $dy: (N, C_{out})$ there is one product of that shape that sums over the rows $n$.
#
# ### The Jacobian, which nobody builds
#
# All first derivatives of $y$ by $x$ together are the **Jacobian**
# $J_{ab} = \partial y_a/\partial x_b$, a matrix with a row for each output and a column for each input. Step 3 above is
# $dx = J^\top dy$, a **vector-Jacobian product**. A backward computes that product *without* the matrix: for
# a linear layer with $N = 256$ rows of 128 channels in and out, $J$ would have $32768^2$ numbers,
# 8.6 GB in float64, and nearly all are zero.
#
# For tiny arrays we can afford to look. `jacobian` below asks a backward for one row after another,
# with a unit vector as the gradient that comes in. The picture has four ops of 3 rows of 4 numbers
# (12 in, 12 out). Look for the blocks: an elementwise op has a diagonal, an op on rows has a block
# for each row, and inside the block everything depends on everything.


# %% tags=["picture"] alt="Jacobians of tanh, softmax, layer norm and linear for 3 rows of 4 numbers as heat maps: a diagonal, and three times blocks of 4 by 4 along the diagonal."
def jacobian(f, x, *args):
    """(outputs, inputs): row a is the gradient of output a alone, from one backward call."""
    y, cache = f(x, *args)
    rows = []
    for a in range(y.size):
        unit = np.zeros(y.size)
        unit[a] = 1
        grads = f.backward(unit.reshape(y.shape), cache)
        rows.append((grads[0] if isinstance(grads, tuple) else grads).ravel())
    return np.array(rows)


rng = np.random.default_rng(0)
x = rng.standard_normal((3, 4))
weight, gain, bias = rng.standard_normal((4, 4)), rng.uniform(0.5, 1.5, 4), rng.standard_normal(4)
jacobians = {
    "tanh": jacobian(tanh, x),
    "softmax": jacobian(softmax, x),
    "layer norm": jacobian(layer_norm, x, gain, bias),
    "linear": jacobian(linear, x, weight),
}
dy = rng.standard_normal((3, 4))
y, cache = softmax(x)
product = (jacobians["softmax"].T @ dy.ravel()).reshape(x.shape)
print("J^T dy and softmax.backward agree:", np.allclose(product, softmax.backward(dy, cache)))

figure = new_figure(9.0, 2.9)
panels = figure.subplots(1, 4)
for axes, (name, J) in zip(panels, jacobians.items(), strict=True):
    largest = np.abs(J).max()
    image = axes.imshow(J, cmap="PuOr", vmin=-largest, vmax=largest)
    axes.set(title=name, xlabel="input", xticks=[0, 4, 8], yticks=[0, 4, 8])
    figure.colorbar(image, ax=axes, shrink=0.75)
panels[0].set_ylabel("output")
figure

# %% [markdown]
# Two things to see: softmax's block is symmetric and its off-diagonal entries are negative (raising
# one score lowers all the other shares). And `linear` repeats *the same* block, $W^\top$, in every
# row: one weight meets all the rows, which is why its gradient is a sum over them.
#
# ### Broadcasting: what is copied forward is summed backward
#
# NumPy stretches an axis of length 1, or a missing one in front, by copying. In index notation
# $x: (4, 1)$ plus $b: (3)$ is $y_{nj} = x_{n} + b_{j}$, so
#
# $$\langle dy, \delta y \rangle = \sum_{n,j} dy_{nj} (\delta x_n + \delta b_j)
#   \quad\Rightarrow\quad dx_n = \sum_j dy_{nj}, \qquad db_j = \sum_n dy_{nj} .$$
#
# The gradient is summed over exactly the axes along which forward made copies. It is rule 2 again:
# a number that is used four times gets four shares. The picture has forward on the left (each
# colour is one number and its copies) and backward on the right (each margin is a sum of the colour
# that it gathers).

# %% tags=["picture"] alt="Left: a column of 4 and a row of 3 are copied into a 4 by 3 table. Right: the gradient table, with its row sums as the gradient of the column and its column sums as that of the row."
x, b = np.array([[1.0], [2.0], [3.0], [4.0]]), np.array([10.0, 20.0, 30.0])
dy = np.array([[1.0, 0, 2], [0, 3, -1], [2, 2, 0], [-1, 1, 1]])


def table(axes, numbers, left, top, colour_of, bold=False):
    for (n, j), value in np.ndenumerate(numbers):
        colour = colour_of(n, j)
        axes.add_patch(Rectangle((left + j, top - n), 0.94, 0.94, facecolor=colour, alpha=0.35))
        weight = "bold" if bold else "normal"
        axes.text(
            left + j + 0.5, top - n + 0.5, f"{value:g}", ha="center", va="center", weight=weight
        )


figure = new_figure(8.6, 3.3)
forward_axes, backward_axes = figure.subplots(1, 2)
row_colour = lambda n, j: COLOURS[n]
column_colour = lambda n, j: COLOURS[(4, 5, 6)[j]]
plain = lambda n, j: "0.85"
table(forward_axes, x, 0, 3, row_colour, bold=True)
table(forward_axes, b[None], 1.6, 4.6, column_colour, bold=True)
table(forward_axes, x + b, 1.6, 3, row_colour)
table(backward_axes, sum_to_shape(dy, x.shape), 0, 3, row_colour, bold=True)
table(backward_axes, sum_to_shape(dy, b.shape)[None], 1.6, 4.6, column_colour, bold=True)
table(backward_axes, dy, 1.6, 3, plain)
for axes, title, names in (
    (forward_axes, "forward: copies", ("x", "b", "y = x + b")),
    (backward_axes, "backward: sums", ("dx", "db", "dy")),
):
    axes.set(xlim=(-0.3, 5), ylim=(-0.9, 6.2), aspect="equal", title=title)
    axes.set_axis_off()
    for name, place in zip(names, ((0.47, -0.55), (3.1, 5.7), (3.1, -0.55)), strict=True):
        axes.text(*place, f"${name}$", ha="center", va="center")
figure

# %% [markdown]
# In the code this is one small function. It stands in almost every backward, and its name says what
# must happen: the gradient is summed until it has its parameter's shape.

# %%
y = np.zeros((2, 4, 3))
dy = np.random.default_rng(1).standard_normal(y.shape)
for shape in [(3,), (4, 1), (2, 1, 3), (1, 1), ()]:
    print(f"{shape!s:10} was stretched to {y.shape}; its gradient: {sum_to_shape(dy, shape).shape}")
show_source(sum_to_shape)

# %% [markdown]
# ## The code
#
# In this project an **op** is a forward and its backward, side by side in one file. Forward returns
# its output and a *cache*, which is whatever backward will need; backward takes the gradient of the
# output and the cache, and returns one gradient for each positional parameter. Here is the affine
# map that we derived. Find the three results of the recipe in its backward.

# %%
show_source(linear)

# %% [markdown]
# Two details. `x.reshape(-1, c_in)` lets `x` have any number of leading axes: all of them are rows,
# and the product sums over all. And the bias has its `sum_to_shape`.
#
# Softmax needs the recipe with one more rule, the quotient. With $y_i = e_{i} / \sum_j e_j$,
# $e_i = \exp x_i$, we have $\delta e_i = e_i\, \delta x_i$ and
#
# $$\delta y_i = \frac{\delta e_i}{\sum_j e_j} - \frac{e_i \sum_j \delta e_j}{(\sum_j e_j)^2}
#   = y_i\,\delta x_i - y_i \sum_j y_j\, \delta x_j ,$$
#
# $$\langle dy, \delta y \rangle
#   = \sum_i dy_i y_i\, \delta x_i - \Big( \sum_i dy_i y_i \Big) \sum_j y_j\, \delta x_j
#   \quad\Rightarrow\quad dx_j = y_j \Big( dy_j - \sum_i dy_i y_i \Big) .$$

# %%
show_source(softmax, only="backward")

# %% [markdown]
# ### Ops made of ops
#
# A larger op's backward calls its parts' backwards in reverse order. There is no tape that records
# what happened and no engine that replays it: you read the order. `mlp_gelu` is the transformer's
# feed-forward layer.

# %%
show_source(mlp_gelu, only="backward")

# %% [markdown]
# A value that goes two ways gets the sum of two gradients, also when the value is a large array: the
# sum in [add_layer_norm](../minillm/ops/add_layer_norm.py) is normalised and passed on as well, and
# its backward ends in `dtotal + through_norm`.
#
# `minillm.trace()` lists what ran, with shapes. Read the backward half of the table from the top: it
# is the forward half turned round.

# %%
rng = np.random.default_rng(2)
x, up, down = (rng.standard_normal(shape) for shape in ((5, 4), (4, 16), (16, 4)))
with minillm.backend("numpy"), minillm.trace() as steps:
    y, cache = mlp_gelu(x, up, None, down, None)
    mlp_gelu.backward(rng.standard_normal(y.shape), cache)
steps

# %% [markdown]
# ### The null space that fools `sum().backward()`
#
# To try a backward out one needs a gradient that comes in. The obvious one is a one for every
# output: that is the gradient of `out.sum()`, and what `out.sum().backward()` does in a framework
# with autograd. Let us test two backwards of softmax in this way: the right one, and one that
# returns zeros.


# %%
def zeros_backward(dy, cache):
    return np.zeros_like(dy)


x = np.random.default_rng(3).standard_normal((3, 5))
y, cache = softmax(x)
for name, dy in {
    "ones": np.ones_like(y),
    "random": np.random.default_rng(4).normal(size=y.shape),
}.items():
    right, wrong = softmax.backward(dy, cache), zeros_backward(dy, cache)
    print(
        f"upstream {name:7} largest right gradient {np.abs(right).max():.1e},",
        f"zeros agree with it: {np.allclose(right, wrong)}",
    )

# %% [markdown]
# With ones the right gradient is zero itself, up to rounding, and so zeros pass. The reason is in
# the formula: softmax's outputs add up to 1 whatever the scores are. So their sum does not change,
# and $J^\top \mathbf{1} = 0$. The vectors that $J^\top$ takes to zero are its **null space**, and a
# test that sends such a vector in cannot tell a right backward from no backward at all.
#
# Layer norm is worse, since it hides the fault behind its initial parameters. Its gradient is (with
# $\hat x$ the normalised row, $\sigma$ its deviation, $\hat g = dy \odot gain$, where $\odot$
# multiplies element by element, and bars for means over the row)
#
# $$dx = \frac{1}{\sigma} \Big( \hat g - \overline{\hat g} - \hat x\,\overline{\hat g \odot \hat x} \Big) .$$
#
# (Its [derivation](../docs/derivations/layer_norm.md) is the recipe once more.)
# If $dy$ is constant *and* the gain is constant, as it is at the start of every training, then so is
# $\hat g$, the first two terms cancel, and the third is a constant times $\overline{\hat x} = 0$.
#
# How large is the null space? The singular values of the Jacobian tell: each zero is one direction
# that is lost. The picture has one row of 8 numbers. Softmax loses one direction; layer norm loses
# two, the constant one exactly and $\hat x$ itself nearly (a row that is stretched is normalised
# back; the small `eps` under the root keeps a little of it). Tanh loses none.

# %% tags=["picture"] alt="Singular values of three Jacobians of a row of 8 numbers on a logarithmic axis: softmax has one that is zero within rounding, layer norm one zero and one tiny, tanh none."
x = np.random.default_rng(5).standard_normal((1, 8))
ones, zeros = np.ones(8), np.zeros(8)
spectra = {
    "tanh": np.linalg.svd(jacobian(tanh, x), compute_uv=False),
    "softmax": np.linalg.svd(jacobian(softmax, x), compute_uv=False),
    "layer norm, gain 1": np.linalg.svd(jacobian(layer_norm, x, ones, zeros), compute_uv=False),
}
figure = new_figure(7.0, 3.4)
axes = figure.add_subplot(
    xlabel="number of the singular value", ylabel="singular value", yscale="log", ylim=(1e-18, 10)
)
for (name, values), colour, mark in zip(spectra.items(), COLOURS, "os^", strict=False):
    axes.plot(range(1, 9), values.clip(1e-17), mark + "-", color=colour, label=name, linewidth=1)
axes.axhspan(1e-18, 1e-15, color="0.93", linewidth=0)
axes.text(1, 3e-17, "zero within rounding", color=GREY, fontsize=9)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="center left")
figure

# %% [markdown]
# Now a table of wrong backwards and of three tests. Before you run it, guess: which of these slips
# get past a gradient of ones? (Grey: the test passes, though the backward is wrong.)


# %% tags=["picture"] alt="Two tables of wrong backwards against tests: with a gradient of ones most slips pass, with a random one none does."
def wrong_softmax(dy, y):
    """Slips in softmax's backward, by name."""
    right = y * (dy - (dy * y).sum(-1, keepdims=True))
    return {
        "zeros": 0 * dy,
        "sign": -right,
        "twice as much": 2 * right,
        "plain mean": y * (dy - dy.mean(-1, keepdims=True)),
        "sum left out": y * dy,
    }, right


def wrong_layer_norm(dy, normed, inv_std, gain):
    """Slips in layer norm's dx, by name."""
    g = dy * gain
    mean = lambda a: a.mean(-1, keepdims=True)
    right = inv_std * (g - mean(g) - normed * mean(g * normed))
    return {
        "zeros": 0 * dy,
        "sign": -right,
        "1 / deviation left out": right / inv_std,
        "normalised term left out": inv_std * (g - mean(g)),
        "mean left out": inv_std * (g - normed * mean(g * normed)),
    }, right


rng = np.random.default_rng(6)
x = rng.standard_normal((4, 8))
varied, random = rng.uniform(0.5, 1.5, 8), rng.standard_normal((4, 8))
y, _ = softmax(x)
columns = {}
columns["softmax, ones"] = wrong_softmax(np.ones_like(y), y)
columns["softmax, random"] = wrong_softmax(random, y)
for label, gain, dy in (
    ("layer norm, ones, gain 1", ones, np.ones_like(x)),
    ("layer norm, ones, gain varied", varied, np.ones_like(x)),
    ("layer norm, random, gain 1", ones, random),
    ("layer norm, random, gain varied", varied, random),
):
    with minillm.backend("numpy"):
        _, cache = layer_norm(x, gain, zeros)
    normed, inv_std, _ = cache.saved
    columns[label] = wrong_layer_norm(dy, normed, inv_std, gain)
verdicts = {
    label: {name: bool(np.allclose(wrong, right)) for name, wrong in slips.items()}
    for label, (slips, right) in columns.items()
}
figure = new_figure(9.6, 3.3)
panels = figure.subplots(1, 2, width_ratios=[2, 4])
for axes, op_name in zip(panels, ("softmax", "layer norm"), strict=True):
    labels = [label for label in verdicts if label.startswith(op_name)]
    slips = list(verdicts[labels[0]])
    passed = np.array([[verdicts[label][slip] for label in labels] for slip in slips])
    axes.imshow(passed, cmap="Greys", vmin=0, vmax=2.2, aspect="auto")
    for (row, column), value in np.ndenumerate(passed):
        style = {"color": "black"} if value else {"color": COLOURS[0], "weight": "bold"}
        axes.text(column, row, "passes" if value else "caught", ha="center", va="center", **style)
    names = [label.removeprefix(op_name + ", ").replace(", ", ",\n") for label in labels]
    axes.set(title=f"wrong backwards of {op_name}")
    axes.set_xticks(range(len(labels)), names)
    axes.set_yticks(range(len(slips)), slips)
    axes.tick_params(length=0)
figure

# %% [markdown]
# With ones and a fresh layer nearly everything passes; with a random gradient nothing does, even at
# gain 1. That is why **every test in this project sends a random gradient in, and moves every
# parameter off its initial value**. The project's checker does so by itself. `draw` makes an array
# of random numbers for each shape that it is given; notebook 4 says how to read the report. Here
# the verdict of each argument is enough:


# %%
def zeros_for_x(dy, cache):
    _, dgain, dbias = layer_norm.backward(dy, cache)
    return np.zeros_like(dy), dgain, dbias


print(check_vjp(layer_norm, zeros_for_x, draw((4, 8), 8, 8)))

# %% [markdown]
# ## An experiment: a network trained by a backward of our own
#
# Is a line of text program code or prose? The lines come from Python's help pages and from the
# source of two modules of its standard library. A line is described by how often each character
# occurs in it, as a share of its length: 95 numbers. A small network with 16 hidden numbers decides.
# With $N$ lines $x: (N, 95)$ and $t_n$, 0 or 1, the class of line $n$, it computes
#
# $$z = x W_1 + b_1, \quad a = \tanh z, \quad \ell = a W_2 + b_2, \quad
#   L = -\frac1N \sum_n \log \mathrm{softmax}(\ell_n)_{t_n} .$$
#
# The last two steps are one op, `cross_entropy`.

# %%
ALPHABET = [chr(code) for code in range(32, 127)]


def lines_of(text):
    return [line.strip() for line in text.splitlines() if len(line.strip()) >= 25]


def features(line):
    """(95,) ten times the share of each printable character; accents are taken off first."""
    plain = unicodedata.normalize("NFKD", line)
    return 10 * np.array([plain.count(c) for c in ALPHABET]) / len(plain)


code = [line for m in (argparse, json.decoder) for line in lines_of(inspect.getsource(m))]
prose = lines_of(load_corpus("topics").text)
rng = np.random.default_rng(7)
prose = [prose[i] for i in rng.permutation(len(prose))[: len(code)]]
X = np.array([features(line) for line in prose + code])  # (N, 95)
targets = np.repeat([0, 1], [len(prose), len(code)])  # 0 prose, 1 code
order = rng.permutation(len(X))
train, test = order[:1500], order[1500:]
X -= X[train].mean(0)  # counted from the average line, which makes the descent smoother
print(f"{len(train)} lines to train with, {len(test)} to test with, half of them code")
print("prose:", prose[0], "\ncode: ", code[100], sep=" ")

# %% [markdown]
# Forward keeps each part's cache; backward is the same lines from the last to the first. The loss is
# the end, so the gradient that comes in is 1.


# %%
def network(params, *, x, targets):
    """The mean cross-entropy of the two classes, and what backward will need."""
    z, cache_1 = linear(x, params["W1"], params["b1"])  # (N, 16)
    a, cache_tanh = tanh(z)
    logits, cache_2 = linear(a, params["W2"], params["b2"])  # (N, 2)
    loss, cache_loss = cross_entropy(logits, targets=targets)
    return loss, (cache_1, cache_tanh, cache_2, cache_loss, logits)


def network_backward(dloss, cache):
    """The gradient of every parameter, and that of the input."""
    cache_1, cache_tanh, cache_2, cache_loss, _ = cache
    # forward: loss = cross_entropy(logits)
    dlogits = cross_entropy.backward(dloss, cache_loss)
    # forward: logits = a @ W2 + b2
    da, dW2, db2 = linear.backward(dlogits, cache_2)
    # forward: a = tanh(z)
    dz = tanh.backward(da, cache_tanh)
    # forward: z = x @ W1 + b1
    dx, dW1, db1 = linear.backward(dz, cache_1)
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}, dx


def start(seed=8):
    rng = np.random.default_rng(seed)
    return {
        "W1": rng.standard_normal((95, 16)) / np.sqrt(95),
        "b1": np.zeros(16),
        "W2": rng.standard_normal((16, 2)) / np.sqrt(16),
        "b2": np.zeros(2),
    }


few = {"x": X[train[:40]], "targets": targets[train[:40]]}
moved = {k: v + 0.1 * np.random.default_rng(9).standard_normal(v.shape) for k, v in start().items()}
report = check_vjp(network, lambda d, cache: network_backward(d, cache)[0], [moved], few)
print(report)

# %% [markdown]
# It passes, with the biases moved off zero. Now plain gradient descent on all training lines at
# once, and beside it the same network with three wrong backwards. Each has one slip: $\tanh$'s
# slope left out, its sign turned, and `dW1` filled with zeros. Guess which of them will still learn.


# %%
def slope_left_out(dloss, cache):
    cache_1, _, cache_2, cache_loss, _ = cache
    da, dW2, db2 = linear.backward(cross_entropy.backward(dloss, cache_loss), cache_2)
    dx, dW1, db1 = linear.backward(da, cache_1)  # dz = da: no slope of tanh
    return {"W1": dW1, "b1": db1, "W2": dW2, "b2": db2}, dx


def sign_turned(dloss, cache):
    grads, dx = network_backward(dloss, cache)
    return grads | {"W1": -grads["W1"], "b1": -grads["b1"]}, -dx


def first_layer_zero(dloss, cache):
    grads, dx = network_backward(dloss, cache)
    return grads | {"W1": 0 * grads["W1"], "b1": 0 * grads["b1"]}, dx


def train_with(backward, steps=200, rate=0.3):
    params, losses = start(), []
    for _ in range(steps):
        loss, cache = network(params, x=X[train], targets=targets[train])
        grads, _ = backward(1.0, cache)
        params = {name: p - rate * grads[name] for name, p in params.items()}
        losses.append(loss)
    return params, np.array(losses)


def accuracy(params):
    _, (*_, logits) = network(params, x=X[test], targets=targets[test])
    return (logits.argmax(-1) == targets[test]).mean()


backwards = {
    "right": network_backward,
    "slope of tanh left out": slope_left_out,
    "dW1 zero": first_layer_zero,
    "dW1 with the wrong sign": sign_turned,
}
with WorkerPool(1):  # one thread in matrix products: the quickest for arrays as small as these
    runs = {name: train_with(backward) for name, backward in backwards.items()}
for name, (params, losses) in runs.items():
    print(f"{name:24} loss {losses[-1]:.3f}, right for {accuracy(params):.1%} of the test lines")

# %% tags=["picture"] alt="Training loss against steps for the right backward and three wrong ones: the turned sign swings about the level of guessing, the other two fall smoothly and end higher than the right one."
figure = new_figure(7.0, 3.5)
axes = figure.add_subplot(
    xlabel="step of gradient descent", ylabel="training loss (nats a line)", xlim=(0, 200)
)
for (name, (_, losses)), colour, style in zip(
    runs.items(), COLOURS, ("-", "--", "-.", ":"), strict=False
):
    axes.plot(losses, style, color=colour, label=name, linewidth=1.8)
axes.axhline(np.log(2), color=GREY, linewidth=0.8)
axes.text(198, np.log(2) + 0.05, "guessing: log 2", color=GREY, fontsize=9, ha="right")
axes.spines[["top", "right"]].set_visible(False)
axes.set_ylim(0, None)
axes.legend(frameon=False)
figure

# %% [markdown]
# The turned sign shows: its loss swings about that of guessing. The other two do not. With a slope left out the curve
# is nearly the right one, and with the first layer frozen it still falls smoothly, since the last
# layer alone can do a good part of the work. Without the right curve beside them, nobody would look
# for a mistake. **A loss that falls does not say that the gradient is right.** Only a check of the
# gradient itself does.
#
# ### What the gradient of the input is good for
#
# Our backward returned $dx$ as well. Training does not use it, but it answers a question: which
# characters make the network say "code"? The picture has the gradient of the difference of the two
# logits with respect to each number that goes in, averaged over the test lines. (A number is ten
# times a share, so a bar says what a tenth of the line more would do.) Bars to the right speak for
# code, the longer the louder.

# %% tags=["picture"] alt="Bars for the twelve characters that speak most for code and the twelve that speak most for prose, by the gradient of the logit difference."
params, _ = runs["right"]
_, (cache_1, cache_tanh, cache_2, _, logits) = network(params, x=X[test], targets=targets[test])
dlogits = np.tile([-1.0, 1.0], (len(test), 1))  # of logit "code" minus logit "prose"
da, _, _ = linear.backward(dlogits, cache_2)
dx, _, _ = linear.backward(tanh.backward(da, cache_tanh), cache_1)
speaks = dx.mean(0)  # (95,)
ranked = np.argsort(speaks)
chosen = np.concatenate([ranked[:12], ranked[-12:]])
figure = new_figure(7.0, 4.6)
axes = figure.add_subplot(
    xlabel="mean gradient of (logit of code - logit of prose), a tenth of the line",
    ylabel="character",
)
colours = [COLOURS[0] if speaks[i] > 0 else COLOURS[1] for i in chosen]
axes.barh(range(24), speaks[chosen], color=colours, height=0.75)
axes.set_yticks(
    range(24),
    [{" ": "space", "$": r"\$"}.get(ALPHABET[i], ALPHABET[i]) for i in chosen],
    family="DejaVu Sans Mono",
)
axes.axvline(0, color="black", linewidth=0.8)
axes.spines[["top", "right"]].set_visible(False)
axes.text(0.62, 0.2, "speaks for code", transform=axes.transAxes, color=COLOURS[0])
axes.text(0.38, 0.78, "speaks for prose", transform=axes.transAxes, color=COLOURS[1], ha="right")
figure

# %% [markdown]
# `#` begins a comment: that is easy to explain, and so is `=`, where it is among the twelve (help
# pages and modules differ a little from one Python to the next). Others say more about the two texts
# than about code: the help pages quote with `"`, and these modules with `'`. A gradient tells what
# *this* network listens to, near these lines, and no more.
#
# ## Exercises
#
# Each check draws random arrays and asks the gradient checker. A check raises as long as its
# exercise is not done; its message says what is wrong.
#
# **1. A gate that broadcasts.** `y = a * b` with `a: (B, T, 1)` and `b: (C,)`. Write the backward.
# (Every number of `a` meets $C$ numbers; every number of `b` meets $B T$.)


# %% tags=["exercise"] exercise="gate"
def gate(a, b):
    """y = a * b for a (B, T, 1) and b (C,): y is (B, T, C)."""
    return a * b, (a, b)


def gate_backward(dy, cache):
    """The gradients (da, db), of the shapes of a and b."""
    raise NotImplementedError("write gate_backward")


# %% tags=["check", "raises-exception"] exercise="gate"
for shape_a, shape_b in (((2, 3, 1), 5), ((1, 4, 1), 3)):
    report = check_vjp(gate, gate_backward, draw(shape_a, shape_b))
    assert report.passed, (
        f"a {shape_a}, b ({shape_b},): copies were made along some axes.\n{report}"
    )
print("gate: right")

# %% [markdown]
# **2. The other null space.** $y = x / \lVert x \rVert$ puts each row on the unit sphere. Which
# direction is lost? Return a `dy` of the shape of `x`, each row of length 1, whose right gradient
# is zero, so that a test with it would say nothing.


# %% tags=["exercise"] exercise="null_upstream"
def null_upstream(x):
    """(N, C): for each row of x an upstream gradient of length 1 that unit_rows takes to zero."""
    raise NotImplementedError("which change of y can no change of x bring about?")


# %% tags=["check", "raises-exception"] exercise="null_upstream"
def unit_rows(x):
    length = np.sqrt((x**2).sum(-1, keepdims=True))
    return x / length, (x / length, length)


def unit_rows_backward(dy, cache):
    y, length = cache
    return (dy - y * (dy * y).sum(-1, keepdims=True)) / length


for seed in range(3):
    (x,) = draw((4, 5), seed=seed)
    dy = null_upstream(x.copy())
    assert np.shape(dy) == x.shape, f"dy must have the shape of x, {x.shape}; got {np.shape(dy)}"
    assert np.allclose((dy**2).sum(-1), 1), "each row of dy must have length 1"
    dx = unit_rows_backward(dy, unit_rows(x)[1])
    assert np.abs(dx).max() < 1e-6, (
        f"this dy gives a gradient of size {np.abs(dx).max():.2g}, not 0. "
        "y stays on the sphere: which direction leaves it?"
    )
print("null_upstream: right")

# %% [markdown]
# **3. RMS norm.** $y = g \odot x / r$ with $r = \sqrt{\overline{x^2} + \epsilon}$, a mean over each
# row. $r$ depends on every number of the row, so it takes its share back. Write the backward for
# `x: (N, C)` and `gain: (C,)`.


# %% tags=["exercise"] exercise="rms_norm"
def rms_norm(x, gain, *, eps=1e-5):
    """Divide each row by its root mean square, then scale it."""
    inv_rms = 1 / np.sqrt((x**2).mean(-1, keepdims=True) + eps)  # (N, 1)
    normed = x * inv_rms
    return normed * gain, (normed, inv_rms, gain)


def rms_norm_backward(dy, cache):
    """The gradients (dx, dgain)."""
    raise NotImplementedError("write rms_norm_backward")


# %% tags=["check", "raises-exception"] exercise="rms_norm"
report = check_vjp(rms_norm, rms_norm_backward, draw((4, 6), 6))
assert report.passed, f"which values depend on x, and through which is the share missing?\n{report}"
print("rms_norm: right")

# %% [markdown]
# **4. A weight used twice.** $y = \tanh(x W)\, W^\top$, an autoencoder with one matrix for both
# ways. Compose `linear` and `tanh` (call `linear(a, W.T)`), and remember rule 2. GPT's embedding is
# tied to its output in this way.


# %% tags=["exercise"] exercise="tied"
def tied(x, W):
    """(y, cache): y = tanh(x @ W) @ W.T, for x (N, C) and W (C, F)."""
    raise NotImplementedError("write tied")


def tied_backward(dy, cache):
    """The gradients (dx, dW)."""
    raise NotImplementedError("write tied_backward")


# %% tags=["check", "raises-exception"] exercise="tied"
x, W = draw((5, 4), (4, 3))
y, _ = tied(x, W)
assert np.allclose(y, np.tanh(x @ W) @ W.T), "the forward is not tanh(x @ W) @ W.T"
report = check_vjp(tied, tied_backward, [x, W])
assert report.passed, f"W is used twice: what happens to two shares?\n{report}"
print("tied: right")

# %% [markdown]
# ## Where to go next
#
# - The next notebook: [Checking gradients](04_checking_gradients.ipynb), on how a checker tells right
#   from wrong, and what it cannot tell.
# - Every op's derivation, ending in its lines:
#   [linear](../docs/derivations/linear.md), [softmax](../docs/derivations/softmax.md),
#   [layer_norm](../docs/derivations/layer_norm.md), [cross_entropy](../docs/derivations/cross_entropy.md),
#   [mlp_gelu](../docs/derivations/mlp_gelu.md).
# - How an op is written, and how it is trusted: [Ops](../docs/ops.md).
# - D. E. Rumelhart, G. E. Hinton & R. J. Williams, "Learning representations by back-propagating
#   errors", *Nature* 323 (1986), pp. 533–536.
# - A. G. Baydin, B. A. Pearlmutter, A. A. Radul & J. M. Siskind, "Automatic differentiation in
#   machine learning: a survey", *JMLR* 18 (2018): what a framework does in place of us.
# - T. Parr & J. Howard, "The matrix calculus you need for deep learning", arXiv:1802.01528.
