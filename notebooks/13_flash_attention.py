# %% [markdown]
# # 13. FlashAttention in Triton
#
# Attention weighs every value with every query. Written as a formula it makes a matrix of $T
# \times T$ weights, uses it once and throws it away; for a text of 32 thousand tokens that is 4 GB
# a head. **How can attention be computed exactly, forward and backward, if nobody has room for its
# weights?** Two ideas do it: a softmax that can be corrected later, and a backward that computes
# the weights a second time rather than keep them.
#
# You need [attention](08_attention.ipynb) and the softmax's backward; notebook
# [12](12_matmul_on_a_gpu.ipynb) explains the tiles and the traffic of the last experiment. Reading
# takes about 45 minutes, running less than one. No GPU is needed: Triton's own interpreter runs its
# kernels on the CPU, slowly, and the emulator of notebook 12 counts the bytes of the CUDA ones.

# %%
import importlib.util
import inspect
import os
import tracemalloc

import numpy as np

import minillm
from minillm.bench.attention_memory import peak_bytes
from minillm.errors import UserError
from minillm.gradcheck import check_vjp
from minillm.ops import flash_attention, scaled_dot_product_attention
from minillm.ops.flash_attention import blocks, visible_blocks
from minillm.training import track
from minillm.viz.memory_traffic import bytes_text, traffic
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure
from minillm_kernels.emulator.build import find_compiler
from minillm_kernels.require import require_gpu

missing = [name for name in ("torch", "triton") if importlib.util.find_spec(name) is None]
if missing:
    raise SystemExit(f"this notebook needs {' and '.join(missing)}: pip install triton torch")
try:
    find_compiler()  # g++, for the emulator
except UserError as error:
    raise SystemExit(str(error)) from None
try:
    require_gpu("triton", minimum=(7, 5))
    DEVICE = "cuda"
except UserError:
    os.environ["TRITON_INTERPRET"] = "1"  # before Triton is imported for the first time
    DEVICE = "cpu"

import torch
import triton
import triton.language as tl

from minillm_kernels.climb import watch
from minillm_kernels.cuda.attention import RUNGS
from minillm_kernels.triton import _attention_forward as forward_kernels

rng = np.random.default_rng(0)
print("Triton runs", "on the GPU" if DEVICE == "cuda" else "in its interpreter")

# %% [markdown]
# ## The mathematics
#
# One query $q$ meets the keys $k_1, \dots, k_S$: the logits are $s_i = q \cdot k_i / \sqrt D$, and
#
# $$o = \sum_i p_i v_i, \qquad p_i = \frac{e^{s_i}}{\sum_j e^{s_j}} .$$
#
# Why not go along the keys, and add up as they come? Because $p_1$ needs the sum over all of them;
# and because $e^{s}$ overflows float32 beyond $s \approx 88$, so that one subtracts the largest
# logit first, which also is known only at the end.
#
# ### The online softmax
#
# Dividing is easily put off: add up $\sum e^{s_i} v_i$ and $\sum e^{s_i}$, divide last. For the
# largest logit we take *the largest so far* and correct ourselves when a larger one comes
# (Milakov & Gimelshein 2018). After $i$ keys let
#
# $$m_i = \max_{j \le i} s_j, \qquad \ell_i = \sum_{j \le i} e^{s_j - m_i}, \qquad
# u_i = \sum_{j \le i} e^{s_j - m_i} v_j .$$
#
# With $m_i = \max(m_{i-1}, s_i)$, take the sum of the step before and change what is subtracted:
# $e^{s_j - m_i} = e^{s_j - m_{i-1}} \, e^{m_{i-1} - m_i}$, and the second factor is the same for
# all $j$. So
#
# $$\ell_i = \underbrace{e^{m_{i-1} - m_i}}_{\text{fade}} \ell_{i-1} + e^{s_i - m_i}, \qquad
# u_i = e^{m_{i-1} - m_i}\, u_{i-1} + e^{s_i - m_i} v_i, \qquad o = u_S / \ell_S .$$
#
# Start with $m_0 = -\infty$, $\ell_0 = 0$, $u_0 = 0$. Three things hold by construction. Every
# exponent is at most 0, so nothing overflows. At the end $\ell_S e^{m_S} = \sum_j e^{s_j}$: it is
# **the same number and no approximation**. And only $m$, $\ell$ and $u$ are kept: $D + 2$ numbers,
# however many keys there are.
#
# One row of 40 logits, then, walked from left to right. Above: the logits and the largest so far.
# Below: $\ell_i$, and grey what the same sum is below the final maximum, $\ell_i e^{m_i - m_S}$.
# Wherever the staircase above steps up, what the blue line has so far is multiplied by the factor
# at the orange line, and the new key adds 1. Expect a high step to throw it back.


# %% tags=["picture"] alt="Above, 40 logits and their running maximum, a staircase; below, the running sum, which falls at the high steps, and the same sum below the final maximum, which never falls."
def walk(s):
    """(peak, total, fade), each (S,): what is kept after each logit."""
    peak, total, rows = -np.inf, 0.0, []
    for x in s:
        higher = max(peak, x)
        fade = np.exp(peak - higher)
        total = fade * total + np.exp(x - higher)
        peak = higher
        rows.append((peak, total, fade))
    return np.array(rows).T


s = rng.standard_normal(40) + 2 * np.sin(np.linspace(0, 2.8, 40))
peak, total, fade = walk(s)
figure = new_figure(7.4, 4.6)
above, below = figure.subplots(2, 1, sharex=True)
keys = np.arange(1, 41)
above.plot(keys, s, "o", color=GREY, markersize=4)
above.step(keys, peak, where="post", color=COLOURS[1], linewidth=1.8)
above.set_ylabel("logit")
above.text(40.5, peak[-1], "$m_i$", color=COLOURS[1], va="center")
above.text(40.5, s[-1], "$s_i$", color=GREY, va="center")
below.plot(keys, total, ".-", color=COLOURS[0])
below.plot(keys, total * np.exp(peak - peak[-1]), color=GREY, linestyle="--")
for n, i in enumerate(np.flatnonzero((fade < 1) & (keys > 1))):
    below.axvline(keys[i], color=COLOURS[1], linewidth=0.8, zorder=0)
    height = total.max() * (1.04 - 0.12 * (n % 2))  # neighbours side by side stay readable
    below.text(keys[i] + 0.2, height, f"x {fade[i]:.2f}", fontsize=8, color=COLOURS[1])
below.text(11, total.max() * 0.03, r"$\ell_i\, e^{m_i - m_S}$", color=GREY)
below.text(40.5, total[-1], r"$\ell_i$", color=COLOURS[0], va="center")
below.set(xlabel="keys seen", ylabel="running sum")
for axes in (above, below):
    axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# Each orange line is a correction, with its factor. The grey line, what we are after all along,
# never falls: the corrections change the unit in which the sum is counted, not the sum. At the last
# of them the two lines meet. Now the same with values, and a *block* of keys at a time:


# %%
def attend_online(q, k, v, block):
    """Attention of q (T, D) to k, v (S, D), a block of keys at a time."""
    peak = np.full((len(q), 1), -np.inf, q.dtype)
    total, mixed = np.zeros_like(peak), np.zeros_like(q)
    for start in range(0, len(k), block):
        logits = q @ k[start : start + block].T / np.sqrt(q.shape[1], dtype=q.dtype)
        higher = np.maximum(peak, logits.max(1, keepdims=True))
        fade, weights = np.exp(peak - higher), np.exp(logits - higher)
        total = fade * total + weights.sum(1, keepdims=True)
        mixed = fade * mixed + weights @ v[start : start + block]
        peak = higher
    return mixed / total


def attend_whole(q, k, v):
    logits = q @ k.T / np.sqrt(q.shape[1], dtype=q.dtype)
    weights = np.exp(logits - logits.max(1, keepdims=True))
    return weights @ v / weights.sum(1, keepdims=True)


q, k, v = rng.standard_normal((3, 300, 64)).astype(np.float32)
truth = attend_whole(*(x.astype(np.float64) for x in (q, k, v)))
print(f"all keys at once:    error {abs(attend_whole(q, k, v) - truth).max():.1e}")
for block in (1, 7, 64, 300):
    print(
        f"{block:3} keys at a time:  error {abs(attend_online(q, k, v, block) - truth).max():.1e}"
    )

# %% [markdown]
# "Error" is the largest difference to the float64 result, of outputs of the order of 1. All five are of the size of float32's
# rounding: the order of the additions changes the last bits and nothing else. There are methods
# that approximate attention. This is none of them.
#
# ### Backward, without the weights
#
# For all $T$ queries at once, with $Z$ the $T \times S$ matrix of logits and $P$ that of weights:
# $O = PV$, $P = \mathrm{softmax}(Z)$ row by row, $Z = QK^\top/\sqrt D$. Given $dO$, the product rule
# gives
#
# $$dV = P^\top dO, \qquad dP = dO\, V^\top, \qquad dQ = dZ\, K / \sqrt D, \qquad
# dK = dZ^\top Q / \sqrt D ,$$
#
# and the softmax's backward, of row $t$,
#
# $$dZ_{ts} = P_{ts} \bigl(dP_{ts} - \delta_t\bigr), \qquad \delta_t = \sum_r P_{tr}\, dP_{tr} .$$
#
# (From $\partial p_r / \partial z_s = p_r (\mathbb 1[r = s] - p_s)$: sum $dP_r$ times that over
# $r$.) It seems to need the whole rows of $P$ and $dP$ twice: once for $\delta$, then for $dZ$.
# But put $dP_{tr} = \sum_c dO_{tc} V_{rc}$ in and exchange the sums:
#
# $$\delta_t = \sum_r P_{tr} \sum_c dO_{tc} V_{rc} = \sum_c dO_{tc} \sum_r P_{tr} V_{rc}
# = \sum_c dO_{tc}\, O_{tc} .$$
#
# **$\delta$ is a row's product of $dO$ and $O$**: no weights needed (Dao et al. 2022, eq. 4). And
# a block of $P$ itself can be had again at any time from one number a row, $L_t = m_t + \log
# \ell_t$, the log-sum-exp of its logits:
#
# $$P_{ts} = e^{Z_{ts} - L_t} .$$
#
# So forward saves $Q$, $K$, $V$, $O$ and $L$, and backward goes through the blocks once more:
# make a block of $Z$, of $P$, of $dP$, of $dZ$, add to $dQ$, $dK$, $dV$, forget it. That is five
# products of matrices where four would do if $P$ had been kept. (Keeping less and computing again
# is an old trade; for attention see Rabe & Staats 2021.)
#
# ## The code
#
# Here is the op. `peak`, `total` and `mixed` are $m$, $\ell$ and $u$; `log_sum` is $L$; queries go
# in blocks too, because a GPU will give each block of them to another of its processors.

# %%
show_source(flash_attention, only="forward")

# %% [markdown]
# What is new beside our ten lines: heads (`regroup` lets several query heads share one key head),
# a bias and a mask, queries that see no key at all (`seen`), and `causal`. A causal query sees no
# later keys, so whole blocks of keys drop out: `visible_blocks` stops early. Which are left? The
# next picture asks these two functions, for 24 queries and keys in blocks of 4.

# %% tags=["picture"] alt="Of 36 pairs of blocks those above the diagonal are never computed."
T, block = 24, 4
state = np.zeros((T, T), int)
for rows in blocks(T, block):
    for cols in visible_blocks(rows, T, block, diagonal=0):
        state[rows, cols] = 1 if cols.stop <= rows.start + 1 else 2
hidden = np.triu(np.ones((T, T), bool), 1)
state[(state == 2) & hidden] = 3
figure = new_figure(6.2, 3.8)
axes = figure.add_subplot(xlabel="key", ylabel="query", aspect="equal")
shades = np.array(["#ffffff", COLOURS[5], COLOURS[0], "#f6c9a8"])
for y, x in np.ndindex(T, T):
    axes.fill([x, x + 1, x + 1, x], [y, y, y + 1, y + 1], color=shades[state[y, x]], linewidth=0)
for edge in range(0, T + 1, block):
    axes.plot([edge, edge], [0, T], color=GREY, linewidth=0.6)
    axes.plot([0, T], [edge, edge], color=GREY, linewidth=0.6)
axes.set(xlim=(0, T), ylim=(T, 0), xticks=range(0, T + 1, block), yticks=range(0, T + 1, block))
axes.tick_params(length=0)
names = ("never computed", "seen whole", "seen, on the diagonal", "computed and hidden")
for i, name in enumerate(names):
    axes.text(T + 1.6, 2 + 2 * i, name, va="center", fontsize=9)
    axes.plot([T + 1], [2 + 2 * i], "s", color=shades[i], markeredgecolor=GREY, clip_on=False)
figure

# %%
for length in (24, 1024, 4096):
    size = 4 if length == 24 else 128
    pairs = [len(visible_blocks(rows, length, size, 0)) for rows in blocks(length, size)]
    print(f"T = {length:4}, blocks of {size:3}: {sum(pairs)} of {len(pairs) ** 2} pairs computed")

# %% [markdown]
# The larger $T$ is beside the block, the closer to a half. Only blocks on the diagonal need to
# look which query sees which key; GPU kernels keep them in a loop of their own.
#
# The backward is the derivation line by line, `shared` being $\delta$:

# %%
show_source(flash_attention, only="backward")

# %% [markdown]
# First against the plain op, which keeps all weights, then by the gradient checker in float64:


# %%
def draw(*shape, dtype=np.float32):
    return rng.standard_normal(shape).astype(dtype)


q, dout = draw(2, 4, 96, 32), draw(2, 4, 96, 32)
k, v = draw(2, 2, 96, 32), draw(2, 2, 96, 32)  # each key head serves two query heads
out, cache = flash_attention(q, k, v, causal=True, block=32)
grads = flash_attention.backward(dout, cache)
plain, plain_cache = scaled_dot_product_attention(q, k, v, causal=True)
plain_grads = scaled_dot_product_attention.backward(dout, plain_cache)
print(f"out: largest difference {abs(out - plain).max():.1e}")
for name, mine, theirs in zip(("dq", "dk", "dv"), grads, plain_grads, strict=False):
    print(f"{name}:  largest difference {abs(mine - theirs).max():.1e}")
small = [*(draw(1, 2, 7, 3, dtype=np.float64) for _ in range(3)), None]  # no bias
report = check_vjp(flash_attention, flash_attention.backward, small, {"causal": True, "block": 3})
print("gradient checker:", "passed" if report.passed else report)

# %% [markdown]
# ### Triton
#
# In CUDA C one writes what a *thread* does. Triton is Python in which one writes what a *block*
# does, on whole tiles; its compiler deals out the elements to threads, and places barriers and
# shared memory. A function under `@triton.jit` is run by many *programs*, and `tl.program_id` says
# which one this is. Here each program takes one row of a matrix and writes its mean. Blocks have
# sizes that are powers of two, so lanes past the end are switched off by a `mask`.


# %%
@triton.jit
def row_mean(x, out, S, BLOCK: tl.constexpr):
    row = tl.program_id(0)
    at = tl.arange(0, BLOCK)
    values = tl.load(x + row * S + at, mask=at < S, other=0.0)  # x is a pointer
    tl.store(out + row, tl.sum(values, 0) / S)


x = torch.from_numpy(draw(4, 37)).to(DEVICE)
means = torch.empty(4, device=DEVICE)
row_mean[(4,)](x, means, 37, BLOCK=64)  # a grid of 4 programs
print(f"largest difference to torch: {float((means - x.mean(1)).abs().max()):.1e}")

# %% [markdown]
# The kernel of this repository is longer than a screen, because it also serves biases, masks,
# texts of many lengths and several generations of GPUs; its functions have twenty parameters and
# more. Its heart is `weigh`, which goes from the logits of a tile to its weights. Find $m_i$, the
# fade and $\ell_i$ in the last lines of its body. (It counts in powers of two, $e^x = 2^{x \log_2
# e}$, because GPUs have an instruction for those. What stands in capitals is known to the compiler:
# an `if` about it costs nothing.)


# %%
def lines_between(first, last):
    """The numbers of the lines of the kernel's file where these two texts first stand."""
    text = inspect.getsource(forward_kernels).splitlines()
    return tuple(next(i for i, line in enumerate(text, 1) if x in line) for x in (first, last))


show_source(forward_kernels, lines=lines_between("rows = (row + tl.arange", "return weights, fade"))

# %% [markdown]
# And the loop that calls it, once for the keys that all queries of the tile see and once for those
# at the edge. `products` makes the logits, `mix` lets `acc` fade and adds the new values.

# %%
show_source(forward_kernels, lines=lines_between("for s in tl.range(0, full", "share = 1.0 /"))

# %% [markdown]
# A backend replaces an op and nothing else. Inside `minillm.backend("triton")` the same call goes
# to the kernel, forward and backward, and should give the same numbers:

# %%
with minillm.backend("triton"):
    place = minillm.device()
    there = [place.put(x) for x in (q, k, v)]
    triton_out, triton_cache = flash_attention(*there, causal=True)
    triton_grads = flash_attention.backward(place.put(dout), triton_cache)
    triton_out, triton_grads = place.get(triton_out), place.get(list(triton_grads[:3]))
print(f"out: largest difference {abs(out - triton_out).max():.1e}")
for name, mine, theirs in zip(("dq", "dk", "dv"), grads, triton_grads, strict=False):
    print(f"{name}:  largest difference {abs(mine - theirs).max():.1e}")

# %% [markdown]
# Its backward has two kernels: one owns a tile of keys and makes $dK$ and $dV$, one owns a tile of
# queries and makes $dQ$. Each sum is made by one program, in a fixed order, so that a repetition
# gives the same bits; the price is that $Z$ and $dP$ are made twice, seven products instead of
# five. **Nothing was timed here, and the interpreter's speed says nothing about a GPU's.**
#
# ## An experiment: memory against length
#
# How much do forward and backward hold at most, besides their inputs? Counted, not estimated: by
# Python's `tracemalloc`, while the NumPy ops run on one head of 64 channels. (Python's own
# housekeeping adds some bytes, not always the same.) An array of $T \times T$ float32 is $4T^2$
# bytes, and the plain op holds a few at once. Expect a line of slope 2 for it, and one of slope 1
# for the other once $T$ is well beyond its blocks of 128.

# %% tags=["timing"]
lengths = (128, 256, 512, 1024, 2048)
ops = {"all weights kept": scaled_dot_product_attention, "block by block": flash_attention}
memory = {
    name: np.array([peak_bytes(op, T) for T in track(lengths, name)]) for name, op in ops.items()
}
for name, held in memory.items():
    print(
        f"{name:17}", "  ".join(f"{T}: {bytes_text(x)}" for T, x in zip(lengths, held, strict=True))
    )

# %% tags=["picture", "timing"] alt="Memory held against length: the plain op's rises with slope 2, the other's with a little less than 1, like the inputs themselves."
figure = new_figure(7.0, 4.2)
axes = figure.add_subplot(xlabel="length T (tokens)", ylabel="held at most (bytes)")
for (name, held), colour in zip(memory.items(), COLOURS[1::-1], strict=True):
    slope = np.log2(held[-1] / held[-2])
    axes.loglog(lengths, held, "o-", color=colour)
    label = f"{name}\nends with $T^{{{slope:.2f}}}$"
    axes.annotate(label, (lengths[-1], held[-1]), xytext=(8, 0), textcoords="offset points",
                  va="center", color=colour)  # fmt: skip
inputs = [4 * 3 * T * 64 for T in lengths]
axes.loglog(lengths, inputs, color=GREY, linestyle="--")
axes.annotate("q, k, v themselves", (lengths[-1], inputs[-1]), xytext=(8, -4), va="center",
              textcoords="offset points", color=GREY)  # fmt: skip
axes.set_xticks(lengths, [str(T) for T in lengths])
axes.minorticks_off()
axes.yaxis.set_major_formatter(lambda y, _: bytes_text(y))
axes.grid(axis="y", color="0.9")
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# For short texts the blocks cost more than they save; then the lines part, and each doubling takes
# them further apart. Block by block, what is held comes close to a small multiple of the inputs:
# the output and the gradients, which anybody has to make. The rest, a few arrays of 128 x 128, does
# not grow, which is why the exponent is still below 1.
#
# ## An experiment: traffic against length
#
# Less memory was the surprise; the aim was fewer bytes *moved* (the IO of "IO-awareness" in the
# paper's title). The ladder `attention` of CUDA kernels shows it: 01 writes the weights out, 02 has
# the online softmax but one query at a time, 03 keeps 64 queries and passes tiles of keys by them.
# The emulator counts the sectors of a causal forward of one head, $D = 64$.

# %%
spans = (64, 128, 256, 512)
moved = {
    rung.name: np.array([traffic(watch(rung, T))["global_bytes"] for T in spans])
    for rung in track(RUNGS[:3], "rungs")
}
for name, count in moved.items():
    print(f"{name:20}", "  ".join(f"{bytes_text(x):>8}" for x in count))

# %% tags=["picture"] alt="Rung 03 moves far fewer bytes than 01 and 02, though all rise with T."
figure = new_figure(7.0, 4.2)
axes = figure.add_subplot(xlabel="length T (tokens)", ylabel="moved in sectors (bytes)")
least = np.array([4 * 4 * T * 64 for T in spans])
for (name, count), colour in zip(moved.items(), (COLOURS[1], COLOURS[4], COLOURS[0]), strict=True):
    axes.loglog(spans, count, "o-", color=colour)
    label = f"{name}\n{count[-1] / least[-1]:.0f} times the least"
    axes.annotate(label, (spans[-1], count[-1]), xytext=(8, 0), textcoords="offset points",
                  va="center", color=colour)  # fmt: skip
axes.loglog(spans, least, color=GREY, linestyle="--")
axes.annotate("q, k, v, out once", (spans[-1], least[-1]), xytext=(8, -4), va="center",
              textcoords="offset points", color=GREY)  # fmt: skip
axes.set_xticks(spans, [str(T) for T in spans])
axes.minorticks_off()
axes.yaxis.set_major_formatter(lambda y, _: bytes_text(y))
axes.grid(axis="y", color="0.9")
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# 02 saves the memory and little of the traffic: every query still reads all its keys. 03 reads them
# once for 64 queries. Its line is bent, and it will turn parallel to the others: $T/64$ tiles of
# queries each read up to $T$ keys, so the traffic remains quadratic, divided by the tile. The paper
# has the law, $\Theta(T^2 D^2 / M)$ for $M$ numbers of fast memory against $\Theta(TD + T^2)$, and
# shows that no exact method does better for all $M$. (Caches are not counted here.)
#
# ## Exercises
#
# ### 1. A log-sum-exp that never looks back
#
# Numbers come in chunks from a generator, which can be read only once. Return $\log \sum e^x$ over
# all of them without keeping them, for numbers of any size, and for chunks that hold nothing but
# $-\infty$ (keys that are hidden).


# %% tags=["exercise"] exercise="log_sum_exp"
def log_sum_exp(chunks):
    """The log of the sum of exp(x) over all numbers x.

    Parameters
    ----------
    chunks : iterable of float64 (n,), n >= 1; read once

    Returns
    -------
    log_sum : float, -inf where there is nothing but -inf
    """
    raise NotImplementedError("keep the largest so far and a sum below it; what is -inf - -inf?")


# %% tags=["check", "raises-exception"] exercise="log_sum_exp"
kinds = (("small", 1, 0), ("large", 50, 3000), ("very negative", 5, -4000), ("huge", 1, -1e11))
for name, scale, shift in kinds:
    x = rng.standard_normal(50) * scale + shift
    for order, numbers in (("rising", np.sort(x)), ("falling", np.sort(x)[::-1]), ("mixed", x)):
        with np.errstate(all="ignore"):
            came = log_sum_exp(part for part in np.split(numbers, [1, 8, 30]))
        expected = x.max() + np.log(np.exp(x - x.max()).sum())
        assert np.isclose(came, expected, rtol=1e-12), (
            f"{name} numbers, {order}: expected {expected}, got {came}. "
            "What was summed below a lower maximum counts less below a higher one: by which factor?"
        )
nothing = np.full(3, -np.inf)
with np.errstate(all="ignore"):
    came = log_sum_exp(iter([nothing, np.array([1.0, 2.0]), nothing]))
    empty = log_sum_exp(iter([nothing, nothing]))
assert np.isclose(came, np.log(np.exp(1) + np.exp(2))), (
    f"[-inf, -inf, -inf], [1, 2], [-inf, ...]: expected {np.log(np.exp(1) + np.exp(2))}, got {came}"
)
assert empty == -np.inf, f"nothing but -inf: expected -inf, got {empty}"
tracemalloc.start()
log_sum_exp(np.full(2000, float(i)) for i in range(500))
held = tracemalloc.get_traced_memory()[1]
tracemalloc.stop()
assert held < 8 * 2000 * 50, (
    f"the numbers are right, but of 500 chunks of {bytes_text(8 * 2000)} {bytes_text(held)} were "
    "held at once: one chunk at a time has to do"
)
print(f"right, and of 500 chunks of {bytes_text(8 * 2000)} {bytes_text(held)} were held at once")

# %% [markdown]
# ### 2. Two halves of the keys
#
# If a text is long and there are few queries, as in generation, the keys are shared out: each part
# gives an `out` and a `log_sum`, and they are merged. Merge two. This is what makes the online
# softmax parallel: the merge may be done in any order.


# %% tags=["exercise"] exercise="merge"
def merge(out1, log_sum1, out2, log_sum2):
    """Attention over two sets of keys from attention over each.

    Parameters
    ----------
    out1, out2 : (T, D), each divided by its own sum already
    log_sum1, log_sum2 : (T, 1), the log-sum-exp of the logits of each; -inf where a query saw no
        key of that set, and then out is zeros there

    Returns
    -------
    out : (T, D)
    log_sum : (T, 1)
    """
    raise NotImplementedError("how much does each half weigh, before it was divided?")


# %% tags=["check", "raises-exception"] exercise="merge"
def partial(logits, values):
    """(out, log_sum) of some keys."""
    with np.errstate(all="ignore"):
        top = logits.max(1, keepdims=True)
        weights = np.where(np.isneginf(logits), 0, np.exp(logits - top))
        total = weights.sum(1, keepdims=True)
        return np.where(total > 0, weights @ values / total, 0), np.where(
            total > 0, top + np.log(total), -np.inf
        )


logits, values = rng.standard_normal((6, 20)), rng.standard_normal((20, 4))
logits += np.array([[0], [800], [0], [0], [-800], [30]])  # exp of these alone would not do
logits[2, :5] = -np.inf  # query 2 sees none of the first part
logits[3] = -np.inf  # query 3 sees nothing at all
parts = [partial(logits[:, p], values[p]) for p in (slice(0, 5), slice(5, 12), slice(12, 20))]
whole = partial(logits, values)
with np.errstate(all="ignore"):
    left = merge(*merge(*parts[0], *parts[1]), *parts[2])
    right = merge(*parts[0], *merge(*parts[2], *parts[1]))
for name, (out_, log_sum_) in (("(1 + 2) + 3", left), ("1 + (3 + 2)", right)):
    assert not np.isnan(out_).any(), f"{name}: nan in out; what are the weights of two -inf?"
    for t in range(6):
        assert np.isclose(log_sum_[t, 0], whole[1][t, 0], rtol=1e-9), (
            f"{name}, query {t}: log_sum {log_sum_[t, 0]}, expected {whole[1][t, 0]}. The sums of "
            "exp(logits) add up, not their logarithms"
        )
        assert np.allclose(out_[t], whole[0][t]), (
            f"{name}, query {t}: out {out_[t]}, expected {whole[0][t]}. A half weighs as much as "
            "its share of the sum of exp(logits)"
        )
print("right, in any order")

# %% [markdown]
# ### 3. Backward from what forward saved
#
# Write the backward of one head. You get `out` and `log_sum` and never the weights, and may not
# hold more than a block of them at a time. The gradient checker judges the numbers, and
# `tracemalloc` the memory.


# %% tags=["exercise"] exercise="backward"
def backward(dout, q, k, v, out, log_sum, block):
    """dq, dk, dv of out = softmax(q @ k.T / sqrt(D)) @ v.

    Parameters
    ----------
    dout, out : (T, D)
    q, k, v : (T, D), (S, D), (S, D)
    log_sum : (T, 1), of the scaled logits
    block : int, keys at a time

    Returns
    -------
    dq, dk, dv : of the shapes of q, k, v
    """
    raise NotImplementedError("delta first; then, for each block of keys: P, dP, dZ, three sums")


# %% tags=["check", "raises-exception"] exercise="backward"
def one_head(q, k, v, block):
    logits = q @ k.T / np.sqrt(q.shape[1])
    out, log_sum = partial(logits, v)
    return out, (q, k, v, out, log_sum, block)


args = [rng.standard_normal(shape) for shape in ((5, 3), (11, 3), (11, 3))]
for block in (11, 4):
    answer = check_vjp(one_head, lambda dout, cache: backward(dout, *cache), args, {"block": block})
    assert answer.passed, f"block={block}:\n{answer}"
q_, k_, v_, dout_ = (rng.standard_normal((n, 8)) for n in (64, 4096, 4096, 64))
out_, saved = one_head(q_, k_, v_, 64)
tracemalloc.start()
backward(dout_, *saved)
held = tracemalloc.get_traced_memory()[1]
tracemalloc.stop()
assert held < 8 * 64 * 4096, (
    f"the gradients are right, but {bytes_text(held)} were held at once, enough for all 64 x 4096 "
    f"weights ({bytes_text(8 * 64 * 4096)}): a block of them has to do"
)
print(f"right: the checker finds no difference, and {bytes_text(held)} were held at once")

# %% [markdown]
# ### 4. The same in Triton
#
# Write a kernel of which each program finds the log-sum-exp of one row of a matrix, going along it
# in blocks. `tl.load` takes `other=` for lanes that the mask switches off; `tl.max(x, 0)`,
# `tl.sum(x, 0)`, `tl.exp`, `tl.log` and `tl.maximum` are all you need, and a plain `for ... in
# range(0, S, BLOCK)`.


# %% tags=["exercise"] exercise="triton_kernel"
def make_kernel():
    """Return a kernel, defined in here under @triton.jit.

    It is launched as kernel[(T,)](x, out, S, BLOCK=16): x points to T rows of S float32 that lie
    one after the other, out to T float32.
    """
    raise NotImplementedError("row_mean above has the pointers; exercise 1 has the sums")


# %% tags=["check", "raises-exception"] exercise="triton_kernel"
kernel = make_kernel()
for T, S, shift in ((3, 16, 300), (4, 37, -300), (2, 5, 300), (1, 200, -300)):
    rising = np.sort(draw(T, S), axis=1)  # the maximum grows from block to block
    x = torch.from_numpy(rising * 60 + np.float32(shift)).to(DEVICE)
    came = torch.full((T,), torch.nan, device=DEVICE)
    kernel[(T,)](x, came, S, BLOCK=16)
    expected = torch.logsumexp(x.double(), 1)
    assert not came.isnan().any(), (
        f"T, S = {T}, {S}: nan; was every row written, and no exp of inf?"
    )
    assert torch.allclose(came.double(), expected), (
        f"T, S = {T}, {S}: got {came.tolist()}, expected {expected.tolist()}. "
        "inf: a maximum has to be subtracted. A row longer than a block: what was summed has to "
        "fade. Lanes past the end must not count: which number adds nothing, and is no maximum?"
    )
print("right,", "on the GPU" if DEVICE == "cuda" else "in the interpreter")

# %% [markdown]
# ## Where to go next
#
# [14. Looking inside](14_looking_inside.ipynb) asks what the weights, which nobody keeps any more,
# were good for.
#
# - [The derivation page of flash_attention](../docs/derivations/flash_attention.md), and of
#   [softmax](../docs/derivations/softmax.md).
# - [docs/kernels.md](../docs/kernels.md): how the kernels are trusted, how to run them on a GPU;
#   `python -m minillm_kernels ladder attention` for the CUDA C ones.
# - M. Milakov, N. Gimelshein, *Online normalizer calculation for softmax*, 2018, arXiv:1805.02867.
# - M. Rabe, C. Staats, *Self-attention does not need $O(n^2)$ memory*, 2021, arXiv:2112.05682.
# - T. Dao et al., *FlashAttention*, 2022, arXiv:2205.14135: tiles, recomputation, the law of IO.
# - T. Dao, *FlashAttention-2*, 2023, arXiv:2307.08691: queries outside, the division last.
# - P. Tillet, H. T. Kung, D. Cox, *Triton: an intermediate language and compiler for tiled neural
#   network computations*, MAPL 2019.
