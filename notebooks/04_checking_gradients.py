# %% [markdown]
# # 4. Checking gradients
#
# You derived a backward on paper and typed it in. **Is it the derivative of your forward?** A loss
# that falls does not tell ([notebook 3](03_backpropagation.ipynb)). Numerical differences do, if one
# knows how large their own error is, where they have no answer, and which mistakes they cannot see.
#
# You need notebook 3 and Taylor's formula. Reading takes about 45 minutes, running about 10 seconds.

# %%
import html
import inspect
import textwrap
import zlib

import numpy as np

import minillm
from minillm import ops
from minillm.bench.gradient_checkers import plain
from minillm.gradcheck import check_vjp, draw
from minillm.gradcheck.catalogue import Tools, load
from minillm.gradcheck.selftest import Pair, wrong_cases
from minillm.gradcheck.steps import Pair as Differences
from minillm.ops import layer_norm, softmax
from minillm.training import WorkerPool, track
from minillm.viz.gradcheck import kink_picture, power_picture, step_picture
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure

# %% [markdown]
# ## The mathematics
#
# ### What is compared
#
# Let $J$ be the Jacobian of a forward $f$ at $x$. A backward is given an upstream gradient $d$ and
# must return $g = J^\top d$. For *every* direction $v$ in which $x$ may move
#
# $$\langle d, J v \rangle = \langle J^\top d, v \rangle = \langle g, v \rangle .$$
#
# The left side needs only forward: $J v$ is how the output changes when $x$ moves along $v$, and a
# **central difference** measures it,
#
# $$J v \approx \frac{f(x + h v) - f(x - h v)}{2h} .$$
#
# The right side is the backward's answer. So one can hold a backward against its forward with two
# evaluations, however many numbers $x$ has. If $g$ is off by $e$, the two sides differ by
# $\langle e, v \rangle$, which a random $v$ makes zero with probability zero.

# %%
rng = np.random.default_rng(0)
x, d, v = rng.standard_normal((3, 4, 6))  # each (4, 6)
g = softmax.backward(d, softmax(x)[1])
h = 1e-5
Jv = (softmax(x + h * v)[0] - softmax(x - h * v)[0]) / (2 * h)
print(f"<d, Jv> = {(d * Jv).sum():.12f}")
print(f"<g, v>  = {(g * v).sum():.12f}")

# %% [markdown]
# ### Truncation against rounding
#
# They agree to about ten digits, not to sixteen. Why, and was $10^{-5}$ a good step? Write
# $\varphi(t) = \langle d, f(x + t v) \rangle$. By Taylor's formula
#
# $$\frac{\varphi(h) - \varphi(0)}{h} = \varphi'(0) + \frac{h}{2} \varphi''(0) + \dots, \qquad
# \frac{\varphi(h) - \varphi(-h)}{2h} = \varphi'(0) + \frac{h^2}{6} \varphi'''(0) + \dots$$
#
# In the second quotient the even terms cancel. What is left out is the **truncation** error; it wants
# $h$ small. But $\varphi$ is known only to its rounding, $\epsilon |\varphi|$ with
# $\epsilon = 2^{-52}$, and that is divided by $h$: the **rounding** error, which wants $h$ large. Their sum
#
# $$E(h) = \frac{h^2}{6} |\varphi'''| + \frac{\epsilon |\varphi|}{h}
# \qquad \text{is smallest at} \qquad
# h_\ast = \Big( \frac{3 \epsilon |\varphi|}{|\varphi'''|} \Big)^{1/3} \sim \epsilon^{1/3} .$$
#
# There is a third quotient. If forward can be computed with complex numbers,
# $f(x + i h) = f(x) + i h f'(x) - \tfrac{h^2}{2} f''(x) - \dots$, so that
# $f'(x) \approx \mathrm{Im} f(x + i h) / h$. Its truncation is of order $h^2$ too, but nothing is
# subtracted, so nothing is lost to rounding and $h$ may be as small as one likes.
#
# The picture has the error of all three for $f(x) = e^x \tanh x$ at $x = 0.7$. The axes are
# logarithmic: look for the slopes, 1 and 2 on the right, $-1$ on the left, and for the lowest points.


# %% tags=["picture"] alt="Error against step for three quotients: the one-sided difference falls with h and rises again below about 1e-8, the central one with h squared and rises below about 1e-5, the complex step with h squared too, but then it stays at rounding however small h is."
def f(x):
    return np.exp(x) * np.tanh(x)


at = 0.7
slope = np.exp(at) * (np.tanh(at) + 1 - np.tanh(at) ** 2)
steps = 10.0 ** np.linspace(-15, 0, 121)
quotients = {
    "one-sided": (f(at + steps) - f(at)) / steps,
    "central": (f(at + steps) - f(at - steps)) / (2 * steps),
    "complex step": f(at + 1j * steps).imag / steps,
}
figure = new_figure(7.0, 4.0)
axes = figure.add_subplot(xlabel="step h", ylabel="relative error", xscale="log", yscale="log")
for (name, values), colour, mark in zip(quotients.items(), COLOURS, "osv", strict=False):
    errors = np.maximum(np.abs(values / slope - 1), 1e-17)
    axes.plot(steps, errors, mark, color=colour, markersize=3, label=name)
    if name != "complex step":
        print(f"{name}: best step {steps[errors.argmin()]:.0e}, error {errors.min():.0e}")
axes.axvline(np.finfo(float).eps ** (1 / 2), color=COLOURS[0], linewidth=0.8, linestyle=":")
axes.axvline(np.finfo(float).eps ** (1 / 3), color=COLOURS[1], linewidth=0.8, linestyle=":")
axes.text(1.2e-8, 2, r"$\epsilon^{1/2}$", color=COLOURS[0], va="top", ha="right")
axes.text(7e-6, 2, r"$\epsilon^{1/3}$", color=COLOURS[1], va="top", ha="left")
axes.set_ylim(5e-18, 3)
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="lower left", bbox_to_anchor=(0.0, 0.13))
figure

# %% [markdown]
# On the left the dots scatter: rounding is not a curve but luck, and the lowest single dot is the
# luckiest. (Points at $10^{-17}$ stand for an error of exactly zero.)
#
# Now the same for a softmax, along a random direction and through a random $d$, in both precisions.
# The lines are $h^2 \varphi'''/6$ and $\epsilon |\varphi| / h$, computed and not fitted. What to look
# for: truncation does not care about the precision, rounding does, so **float32 needs a larger step
# and still ends five digits worse**. At the step that suits float64 a float32 difference is off by
# about a per cent. The checker starts at the dotted lines, $\epsilon^{1/3}$ times the size of $x$.

# %% tags=["picture"] alt="Error of central differences of a softmax against the step in float32 and float64, with the predicted truncation and rounding lines and the checker's first steps."
step_picture()

# %% [markdown]
# ### Kinks
#
# Where a function has a kink there is no derivative to compare with. At 0 the ReLU's slopes are 0
# and 1, and the central difference is their mean, $\tfrac12$, at every step. It is not the backward
# that is wrong there. How can a checker know? From the **second difference**:
#
# $$\varphi(h) - 2 \varphi(0) + \varphi(-h) = h^2 \varphi''(0) + \dots \quad \text{where it is
# smooth}, \qquad = h\,(\varphi'_+ - \varphi'_-) + \dots \quad \text{at a kink.}$$
#
# The picture has both, and a ReLU at $10^{-4}$, *beside* its kink. A slope of 2 means smooth, of 1 a
# kink; the ReLU beside its kink is one until the step no longer reaches it, and then exactly zero,
# for which a logarithmic axis has no place: its dots end.

# %% tags=["picture"] alt="The second difference against the step: proportional to h for a ReLU at 0, to h squared for tanh, and vanishing below a step of 1e-4 for a ReLU at 1e-4."
kink_picture()


# %% [markdown]
# The checker recognises a kink, moves the point by 2 % and checks there; for large arrays, where some
# number is always close to a kink, it leaves those outputs out. The report says so in a note.


# %%
def relu(x):
    return np.maximum(x, 0), x


def relu_backward(dy, x):
    return dy * (x > 0)


print("central difference at 0:", (relu(1e-5)[0] - relu(-1e-5)[0]) / 2e-5)
print(check_vjp(relu, relu_backward, [np.zeros((3, 4))]))

# %% [markdown]
# ### The complex step, and its trap
#
# If the complex step is so exact, why not use it alone? Because it is right only for functions that
# are *holomorphic*. A variance, a norm or an absolute value of complex numbers is defined with
# conjugates, and NumPy computes just that, without a word. Each line below takes the derivative of a
# perfectly smooth function of real numbers, by a complex step, and compares it with a central
# difference. Which of them would you have trusted?


# %%
def normalised(variance):
    return lambda x: (x - x.mean(-1, keepdims=True)) / np.sqrt(variance(x) + 1e-5)


functions = {
    "softmax": lambda x: np.exp(x) / np.exp(x).sum(-1, keepdims=True),
    "x**2": lambda x: x**2,
    "np.abs(x)**2": lambda x: np.abs(x) ** 2,
    "np.linalg.norm": lambda x: np.linalg.norm(x, axis=-1),
    "layer norm, variance written out": normalised(
        lambda x: ((x - x.mean(-1, keepdims=True)) ** 2).mean(-1, keepdims=True)
    ),
    "layer norm with np.var": normalised(lambda x: np.var(x, axis=-1, keepdims=True)),
}
x, v = np.random.default_rng(1).standard_normal((2, 5, 8))
for name, function in functions.items():
    central = (function(x + 6e-6 * v) - function(x - 6e-6 * v)) / 1.2e-5
    by_complex = np.imag(function(x + 1e-30j * v)) / 1e-30
    off = np.linalg.norm(by_complex - central) / np.linalg.norm(central)
    print(f"{name:34}{'right' if off < 1e-8 else f'off by {off:.0%}'}")

# %% [markdown]
# So a complex step must never be the judge. In our checker it is a witness: after a failure it is
# asked, and quoted only if the differences bear it out.
#
# ### What one random direction can see
#
# A check looks along a few random directions, not at every element. Can one wrong element among
# 8192 hide? The checker calls a gradient right if $|\langle e, v \rangle| \le \tau \lVert g \rVert$,
# with $\tau = 1.5 \cdot 10^{-7}$ in float64. If one of $N$ elements of equal size is off by the share
# $r$, then $|\langle e, v \rangle| = r\,|v_i|\,\lVert g \rVert / \sqrt N$. Its directions have entries
# $|v_i| \ge \tfrac12$, so an error of $r \ge 2 \tau \sqrt N$ is *always* seen: for $N = 8192$ that is
# $2.7 \cdot 10^{-5}$. The lines below are such formulas, the dots 1000 random directions each. See
# how far to the left of 1 % the float64 lines fall, and how the float32 ones do not: **check in
# float64**.

# %% tags=["picture"] alt="The chance that one random direction misses an error in 1, 16 or all of 8192 elements, against the error's size, in float32 and float64."
power_picture()

# %% [markdown]
# ## The code
#
# `check_vjp(forward, backward, args)` takes any pair: forward returns `(out, cache)`, backward takes
# `(dout, cache)`. Here is a layer of our own, a *gated linear unit*, $y = (x W) \odot \sigma(x V)$
# (Dauphin et al. 2017, arXiv:1612.08083, eq. 1). Its backward has two mistakes. Find them before you
# run the cell, or let the report tell you where to look.


# %%
def glu(x, W, V):
    value, gate = x @ W, 1 / (1 + np.exp(-(x @ V)))
    return value * gate, (x, W, V, value, gate)


def glu_backward(dy, cache):
    x, W, _, value, gate = cache
    dvalue, dgate = dy * gate, dy * value
    dpre = dgate * (1 - gate)
    dx = dvalue @ W.T
    return dx, x.T @ dvalue, x.T @ dpre


print(check_vjp(glu, glu_backward, draw((5, 4), (4, 3), (4, 3))))

# %% [markdown]
# How to read it. Each argument has a line of its own with a verdict: `W` is right, so `dvalue` is;
# `x` and `V` are wrong. Below `probably:` stands a guess at the mistake, from how the wrong gradient
# and the numerical one differ. The slope of $\sigma$ is $g (1 - g)$, and $x$ is used twice, so a
# share is missing. With both put right:


# %%
def glu_backward(dy, cache):
    x, W, V, value, gate = cache
    dvalue, dgate = dy * gate, dy * value
    dpre = dgate * gate * (1 - gate)
    return dvalue @ W.T + dpre @ V.T, x.T @ dvalue, x.T @ dpre


print(check_vjp(glu, glu_backward, draw((5, 4), (4, 3), (4, 3))))

# %% [markdown]
# A check may also end **inconclusive**: the differences cannot tell. A softmax does not change when
# one number is added to all its inputs. So this shift has no gradient, and *any* small nonsense that
# its backward returned would be as good as zero. That is not a pass, and is not called one.


# %%
def shifted_softmax(x, shift):
    return softmax(x + shift)


def shifted_softmax_backward(dy, cache):
    return softmax.backward(dy, cache), np.zeros(())


print(check_vjp(shifted_softmax, shifted_softmax_backward, draw((4, 6), ())))

# %% [markdown]
# What stands behind it is the pair of evaluations of the first section, kept with its second
# difference. Everything else is about how far to believe it: a ladder of steps where the first does
# not settle the matter, kinks, and the diagnosis.

# %%
show_source(Differences)

# %% [markdown]
# ## An experiment: which test catches what
#
# Three tests in common use, beside ours:
#
# - **ones**: element by element the central difference of `out.sum()`, compared by `np.allclose`;
# - **random**: the same of `(d * out).sum()` for a random `d`;
# - **fast**: one number $v^\top J u$, with random *positive* unit vectors $u$ and $v$, in the manner
#   of PyTorch's `gradcheck(fast_mode=True)`. It allows $10^{-5} \sum_i u_i \sum_j v_j$, an absolute
#   error, plus a thousandth of the value.
#
# The first two evaluate forward twice for every number, the last two hardly depend on the size.
# First a single mistake, a layer norm that lacks the term $\hat x\,\overline{\hat g \odot \hat x}$,
# at growing sizes. Guess what size does to each of the two cheap tests.


# %%
def fast(pair, seed, eps=1e-6, atol=1e-5, rtol=1e-3):
    """Whether a pair passes one comparison along positive vectors, argument by argument."""
    rng = np.random.default_rng(seed)
    forward, backward, args, kwargs = pair
    out, cache = forward(*args, **kwargs)
    v = rng.random(np.shape(out))
    v = np.asarray(v / np.linalg.norm(v))
    grads = backward(v, cache)
    grads = grads if isinstance(grads, tuple) else (grads,)
    for place, (x, grad) in enumerate(zip(args, grads, strict=True)):
        if x is None:
            continue
        u = rng.random(x.shape)
        u = u / np.linalg.norm(u)
        plus, minus = list(args), list(args)
        plus[place], minus[place] = x + eps * u, x - eps * u
        numeric = v * (forward(*plus, **kwargs)[0] - forward(*minus, **kwargs)[0]) / (2 * eps)
        numeric, analytic = numeric.sum(), (u * grad).sum()
        if abs(numeric - analytic) > atol * u.sum() * v.sum() + rtol * abs(numeric):
            return False
    return True


def without_normalised_term(dy, cache):
    normed, inv_std, gain = cache
    dnormed = dy * gain
    dx = inv_std * (dnormed - dnormed.mean(-1, keepdims=True))
    return dx, (dy * normed).sum(0), dy.sum(0)


forward = inspect.unwrap(layer_norm)  # the readable pair itself, whatever backend is active
sizes = [(2, 8), (4, 16), (8, 32), (16, 64), (32, 128), (64, 256)]
caught = {"fast": [], "ours": []}
with WorkerPool(1):  # one thread in matrix products: the quickest for small arrays
    for rows, width in track(sizes, "sizes"):
        found = []
        for seed in range(10):
            x = np.random.default_rng([seed, width]).standard_normal((rows, width))
            pair = Pair(forward, without_normalised_term, [x, np.ones(width), np.zeros(width)], {})
            report = check_vjp(*pair, seed=seed, diagnose=False)
            found.append((not fast(pair, seed), report.verdict == "fail"))
        for name, share in zip(caught, np.mean(found, 0), strict=True):
            caught[name].append(share)

# %% tags=["picture"] alt="Share of ten draws in which the wrong layer norm is caught, against the number of elements: ours always, the fast mode only while the array is small."
figure = new_figure(6.6, 3.0)
axes = figure.add_subplot(
    xlabel="shape of x (rows, width)", ylabel="caught, of 10 draws", ylim=(-0.05, 1.1)
)
for (name, shares), colour, mark in zip(
    caught.items(), (COLOURS[1], COLOURS[0]), "so", strict=True
):
    axes.plot(range(len(sizes)), shares, mark + "-", color=colour, label=name, linewidth=1.8)
axes.set_xticks(range(len(sizes)), [f"{rows}, {width}" for rows, width in sizes])
axes.set_yticks([0, 0.5, 1], ["none", "half", "all"])
axes.spines[["top", "right"]].set_visible(False)
axes.legend(frameon=False, loc="center left")
figure

# %% [markdown]
# The larger the array, the less the fast mode sees, for two reasons. What it allows grows with the
# number of elements, as $10^{-5} \cdot \tfrac34 R C$ for $R$ rows of $C$. And its vectors are all
# positive, so that they lie close to the constant direction, which a normalisation takes out: what
# there is to see falls as $1 / (4 C \sqrt R)$. An absolute tolerance is a statement about the size
# of the gradient, and a checker of other people's functions does not know it.
#
# Now many mistakes. The checker ships with a catalogue of backwards that are known to be wrong, most
# of them seen in published code. We take those of thirteen ops, at small sizes, where all tests have
# an easy time. After each test's name stands what it let pass; then a table, the darker the more.

# %%
norms, maps = ["softmax", "log_softmax", "layer_norm", "rms_norm"], ["linear"]
pointwise, losses = ["tanh", "sigmoid", "relu", "gelu", "silu"], ["mse", "cross_entropy"]
chosen = [*norms, *maps, *pointwise, *losses, "binary_cross_entropy"]
entries = [entry for entry in load() if entry.op in chosen]


def readable(name):
    """(forward, backward) of an op, the readable pair."""
    return inspect.unwrap(getattr(ops, name)), inspect.unwrap(getattr(ops, name).backward)


def passes(test, pair):
    try:
        return test(pair)
    except (TypeError, ValueError):  # a gradient of another shape cannot even be compared
        return False


tests = {
    "ones": lambda pair: plain(True)(pair, 0).verdict == "pass",
    "random": lambda pair: plain(False)(pair, 0).verdict == "pass",
    "fast": lambda pair: fast(pair, 0),
    "ours": lambda pair: check_vjp(*pair, diagnose=False).verdict == "pass",
}
missed = {(op, test): [] for op in chosen for test in tests}
count = dict.fromkeys(chosen, 0)
with minillm.backend("numpy"):
    for case in track(list(wrong_cases(ops, readable, 0, entries)), "wrong backwards"):
        op, name = case.name.split(".")
        count[op] += 1
        for test, run in tests.items():
            if passes(run, case.pair):
                missed[op, test].append(name)
for test in tests:
    names = [f"{op}.{name}" for op in chosen for name in missed[op, test]]
    text = f"{test} missed {len(names)} of {len(entries)}: {', '.join(names) or 'none'}"
    print(textwrap.fill(text, 96, subsequent_indent="    "))

# %% tags=["picture"] alt="A table of thirteen ops against four tests; each cell has the number of wrong backwards that passed: several in the columns of ones and of the fast mode, a few in that of random, none in ours."
figure = new_figure(6.6, 4.6)
axes = figure.add_subplot()
table = np.array([[len(missed[op, test]) for test in tests] for op in chosen])
share = table / np.array([[count[op]] for op in chosen])
axes.imshow(share, cmap="Oranges", vmin=0, vmax=0.8, aspect="auto")
for (row, column), value in np.ndenumerate(table):
    text = f"{value} of {count[chosen[row]]}" if value else "–"
    axes.text(column, row, text, ha="center", va="center", fontsize=9)
axes.set_xticks(range(len(tests)), list(tests))
axes.set_yticks(range(len(chosen)), chosen)
axes.tick_params(length=0, top=True, labeltop=True, bottom=False, labelbottom=False)
axes.set_xlabel("wrong backwards that passed")
figure

# %% [markdown]
# A test with a random upstream gradient already finds most; what it misses breaks a *rule* rather
# than a number, like a backward that writes into its caller's array. Ours holds the rules first: a
# gradient has its argument's shape and dtype, nothing that came in is written to, backward is linear
# in the upstream gradient. (All 284 entries and PyTorch itself:
# [which checker catches which](../docs/gradcheck-matrix.md).)
#
# ## An experiment: six patients
#
# Six backwards, each with one mistake. You see the numerical gradient of one argument, what the
# backward returned, and a plot of one against the other, element by element; a right backward would
# have all points on the grey diagonal. Write down your diagnosis for each before you unfold the
# reports below. The possible causes:
#
# *a factor is off · a sign is turned · a sum is missing · a term is missing · transposed · a mask is
# forgotten in backward · a part is left out · overwritten where it should be added up*


# %% tags=["picture"] alt="Six rows, one for each wrong backward: a heat map of the numerical gradient, one of the returned gradient, and a scatter plot of the two."
def patient(op, checksum, args, leaf=0, **kwargs):
    """A wrong backward from the catalogue, by a checksum of its name, which would give it away."""
    entry = next(e for e in load() if e.op == op and zlib.crc32(e.name.encode()) == checksum)
    forward, right = readable(op)
    tools = Tools(ops, right)

    def backward(dout, saved):
        return entry.backward(dout, saved, tools)

    return {"entry": entry, "pair": Pair(forward, backward, args, kwargs), "leaf": leaf}


ids = np.array([[0, 2, 1, 2, 3], [4, 2, 0, 5, 2]])
patients = {
    "A": patient("linear", 0xBC4ADD2F, draw((6, 5), (5, 5), 5), leaf=1),
    "B": patient("softmax", 0xF1317409, draw((5, 6), seed=1)),
    "C": patient("linear", 0x54188CDB, draw((6, 5), (5, 5), 5, seed=2), leaf=1),
    "D": patient("relu", 0xF6DB8B19, draw((5, 6), seed=3)),
    "E": patient("embedding", 0xAEE7D78E, draw((6, 5), seed=4), ids=ids),
    "F": patient("tanh", 0x99F00669, draw((5, 6), seed=5)),
}


def seen(pair, leaf, h=1e-6):
    """(numerical gradient, backward's) of one argument, through a random upstream gradient."""
    forward, backward, args, kwargs = pair
    out, cache = forward(*args, **kwargs)
    d = np.random.default_rng(9).standard_normal(out.shape)
    grads = backward(d, cache)
    numeric = np.empty_like(args[leaf])
    for place in np.ndindex(numeric.shape):
        ends = []
        for side in (h, -h):
            moved = [np.copy(a) for a in args]
            moved[leaf][place] += side
            ends.append((d * forward(*moved, **kwargs)[0]).sum())
        numeric[place] = (ends[0] - ends[1]) / (2 * h)
    return numeric, (grads[leaf] if isinstance(grads, tuple) else grads)


figure = new_figure(8.4, 10.5)
rows = figure.subplots(6, 3, width_ratios=[1, 1, 1.2])
for panels, (letter, case) in zip(rows, patients.items(), strict=True):
    numeric, returned = seen(case["pair"], case["leaf"])
    largest = np.abs(numeric).max()
    for axes, values in zip(panels, (numeric, returned), strict=False):
        axes.imshow(values, cmap="PuOr", vmin=-largest, vmax=largest, aspect="auto")
        axes.set(xticks=[], yticks=[])
    panels[0].set_ylabel(letter, rotation=0, fontsize=14, labelpad=14, va="center")
    limits = 1.15 * largest * np.array([-1, 1])
    panels[2].plot(limits, limits, color=GREY, linewidth=0.8)
    panels[2].plot(
        numeric.ravel(), returned.ravel(), "o", color=COLOURS[0], markersize=4, alpha=0.7
    )
    panels[2].set(xlim=limits, ylim=limits, ylabel="returned")
    panels[2].spines[["top", "right"]].set_visible(False)
rows[0, 0].set_title("numerical")
rows[0, 1].set_title("returned by backward")
rows[0, 2].set_title("one against the other")
rows[-1, 2].set_xlabel("numerical")
figure


# %% [markdown]
# Now the reports. In JupyterLab and on the site each line below unfolds; it holds the checker's
# report and then the backward itself.


# %%
class Folded:
    """Texts under headings that unfold at a click."""

    def __init__(self, texts):
        self.texts = texts

    def __repr__(self):
        return "\n\n".join(f"{heading}\n{text}" for heading, text in self.texts.items())

    def _repr_html_(self):
        return "".join(
            f"<details><summary>{html.escape(heading)}</summary>"
            f"<pre>{html.escape(text)}</pre></details>"
            for heading, text in self.texts.items()
        )


answers = {}
for letter, case in patients.items():
    report = str(check_vjp(*case["pair"])).split("\n  replay:")[0]
    answers[f"patient {letter}"] = f"{report}\n\n{inspect.getsource(case['entry'].backward)}"
Folded(answers)

# %% [markdown]
# Some signs worth remembering. A straight line of another slope is a *factor*, and the slope tells
# which (one over a length). Points on a horizontal line at zero are a part that was *left out*; on
# a vertical line, gradients where there should be none: a *mask*. Points that are right but for a
# few rows that are used more than once: something was *overwritten*. A cloud is a *missing term* or
# a *transposed* array, and the heat maps tell these two apart.
#
# ### What no gradient check can tell
#
# It compares two halves of one program. A forward that computes something else than you meant,
# together with *its* true derivative, passes. So the forward needs a second oracle: another library,
# a loop, a case worked by hand.


# %%
def forgetful_norm(x):  # a layer norm that forgets to subtract the mean
    sigma = np.sqrt((x**2).mean(-1, keepdims=True) + 1e-5)
    return x / sigma, (x / sigma, sigma)


def forgetful_norm_backward(dy, cache):
    y, sigma = cache
    return (dy - y * (dy * y).mean(-1, keepdims=True)) / sigma


(x,) = draw((3, 8))
print("gradient check:", check_vjp(forgetful_norm, forgetful_norm_backward, [x]).verdict)
same = np.allclose(forgetful_norm(x)[0], layer_norm(x, np.ones(8), np.zeros(8))[0])
print("equal to a layer norm:", same)

# %% [markdown]
# ## Exercises
#
# **1. Your own checker.** Return the numerical gradient of $\langle d, f(x) \rangle$ with respect to
# every element of `x`, by central differences with the step `h`.


# %% tags=["exercise"] exercise="central_difference"
def central_difference(f, x, d, h=1e-5):
    """An array of the shape of x: the derivative of (d * f(x)).sum() by each element of x."""
    raise NotImplementedError("move one element at a time, to both sides")


# %% tags=["check", "raises-exception"] exercise="central_difference"
x, d = draw((3, 4), (3, 4))
kept = x.copy()
numeric = central_difference(lambda x: softmax(x)[0], x, d)
assert np.shape(numeric) == x.shape, f"expected the shape {x.shape}, got {np.shape(numeric)}"
assert np.array_equal(x, kept), "x came back changed: move a copy, or put the element back"
off = np.abs(numeric - softmax.backward(d, softmax(x)[1])).max()
assert off < 1e-9, (
    f"off by {off:.1e}; about 1e-6 means a one-sided difference, more a wrong factor or a lost d"
)
print("central_difference: right")

# %% [markdown]
# **2. Two steps make a better one.** If $D(h) = D + c h^2 + O(h^4)$, then some combination of $D(h)$
# and $D(h/2)$ has no $h^2$ in it (Richardson 1911). Which? Its error must fall sixteenfold when $h$
# is halved.


# %% tags=["exercise"] exercise="richardson"
def richardson(f, x, h):
    """The derivative of f, a function of one number, at x, from central differences at h and h/2."""
    raise NotImplementedError("solve D(h) = D + c h^2, D(h/2) = D + c h^2 / 4 for D")


# %% tags=["check", "raises-exception"] exercise="richardson"
errors = [abs(richardson(np.sin, 1.0, h) - np.cos(1.0)) for h in (0.4, 0.2, 0.1)]
assert errors[0] < 1e-3, (
    f"of sin at 1, with h = 0.4, it is off by {errors[0]:.1e}. A central difference with h alone is "
    "off by 1.4e-02, one with h / 2 by 3.6e-03: does the h^2 of the two cancel in your combination?"
)
order = np.log2(np.array(errors[:-1]) / errors[1:])
assert np.all(order > 3.8), f"the error falls with h to the power {order.round(2)}; it should be 4"
print("richardson: right, of order", order.round(2))

# %% [markdown]
# **3. Repair.** The mean over those positions of a sequence that a mask keeps,
# $y_{bc} = \sum_t m_{bt} x_{btc} / \sum_t m_{bt}$. Its backward has two mistakes. Copy it under the
# name `masked_mean_backward` and put it right; the reports help.


# %%
def masked_mean(x, *, mask):
    """x (B, T, C), mask (B, T) of True and False: y (B, C)."""
    count = mask.sum(1, keepdims=True)  # (B, 1)
    return (x * mask[..., None]).sum(1) / count, (mask, count)


def broken_masked_mean_backward(dy, cache):
    mask, _ = cache
    return np.repeat((dy / mask.shape[1])[:, None, :], mask.shape[1], axis=1)


mask = np.array([[1, 1, 0, 1], [1, 0, 0, 0], [1, 1, 1, 1]], dtype=bool)
report = check_vjp(masked_mean, broken_masked_mean_backward, draw((3, 4, 2)), {"mask": mask})
print(str(report).split("\n  replay:")[0])


# %% tags=["exercise"] exercise="repair"
def masked_mean_backward(dy, cache):
    """The gradient dx (B, T, C)."""
    raise NotImplementedError("repair broken_masked_mean_backward")


# %% tags=["check", "raises-exception"] exercise="repair"
report = check_vjp(masked_mean, masked_mean_backward, draw((3, 4, 2)), {"mask": mask})
assert report.passed, f"what does each kept position weigh, and what a masked one?\n{report}"
print("repair: right")

# %% [markdown]
# **4. A smuggler.** The other side of the counter: write a *wrong* backward of $y = \tanh x$ that a
# test with ones lets pass, at any `x` of at least two rows. Its numbers have to be wrong, by more
# than a rounding. (`y` is the cache.) Then see that ours refuses it.


# %% tags=["exercise"] exercise="smuggler"
def smuggled_backward(dy, y):
    """Wrong, but right for a dy of ones."""
    raise NotImplementedError("what could you do to dy that leaves ones as they are?")


# %% tags=["check", "raises-exception"] exercise="smuggler"
def tanh_forward(x):
    return np.tanh(x), np.tanh(x)


for seed in range(3):
    (x,) = draw((3, 4), seed=seed)
    pair = Pair(tanh_forward, smuggled_backward, [x], {})
    assert plain(True)(pair, 0).verdict == "pass", "a test with ones has caught it"
    (dy,) = draw((3, 4), seed=seed + 3)
    off = np.abs(smuggled_backward(dy.copy(), np.tanh(x)) - dy * (1 - np.tanh(x) ** 2)).max()
    assert off > 1e-3, f"for a random dy it is off by {off:.1e}: nothing was smuggled"
    report = check_vjp(*pair)
    assert report.verdict == "fail", "our check has let it pass as well: tell us how"
print("smuggler: got past the ones, and was caught:\n")
print(str(report).split("\n  replay:")[0])

# %% [markdown]
# ## Where to go next
#
# - Next: [Word vectors](05_word_vectors.ipynb), models with backwards of this kind.
# - [The mathematics of gradient checking](../docs/gradcheck-mathematics.md): steps that know their
#   own error, kinks, the power of a random direction, each with code that runs.
# - [Check your own layer in five minutes](../docs/gradcheck.md): pairs, layer objects, torch, pytest.
# - J. Nocedal & S. J. Wright, *Numerical Optimization*, 2nd edition, Springer 2006, section 8.1.
# - W. Squire & G. Trapp, "Using complex variables to estimate derivatives of real functions", *SIAM
#   Review* 40 (1998), pp. 110–112.
# - L. F. Richardson, "The approximate arithmetical solution by finite differences of physical
#   problems involving differential equations", *Philosophical Transactions of the Royal Society A*
#   210 (1911), pp. 307–357.
