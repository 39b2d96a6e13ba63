# %% [markdown]
# # 8. Attention
#
# A recurrent network passes everything it knows through one state, step by step; what stood 40
# tokens ago has been rewritten 40 times. **How can a position read from any other position
# directly, and learn from which?** The answer, attention, is a dictionary that can be
# differentiated. We build it, look at what it costs and at what it cannot see by itself (the order
# of the tokens), and train layers so small that their whole behaviour fits into one picture.
#
# You need matrix products, softmax and the idea of a backward
# ([Backpropagation](03_backpropagation.ipynb)). Reading takes about 50 minutes, running about 20
# seconds.

# %%
import time

import numpy as np

import minillm
from minillm.gradcheck import check_op, check_vjp, draw
from minillm.ops import (
    cross_entropy,
    embedding,
    flash_attention,
    linear,
    multi_head_attention,
    rotary,
    scaled_dot_product_attention,
    sinusoidal,
    softmax,
)
from minillm.optim import Adam
from minillm.training import WorkerPool, track
from minillm.viz.attention_view import AttentionView
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure

rng = np.random.default_rng(0)

# %% [markdown]
# ## The mathematics
#
# ### A dictionary that can be differentiated
#
# A Python dictionary compares a **query** with its **keys** and returns the **value** of the one
# that is equal. "Equal" has no gradient. So we ask for less: every key gets a *score*, how well it
# fits the query, and what comes out is an average of all values, weighted by their scores:
#
# $$\text{out} = \sum_s w_s\, v_s, \qquad w = \mathrm{softmax}(\beta\,q\cdot k_1,\; \dots,\; \beta\,
# q \cdot k_S).$$
#
# The weights are positive and sum to 1. The number $\beta$ decides how strict the look-up is. Here
# are eight keys around a circle and a query that points almost at the third one. Watch what happens
# to the weights as $\beta$ grows.

# %% tags=["picture"] alt="Left: eight keys as arrows around a circle and a query near key 3. Right: the weights of the eight keys for four values of beta, from all equal to nearly all on key 3."
angles = 2 * np.pi * np.arange(8) / 8
keys = np.stack([np.cos(angles), np.sin(angles)], 1)  # (8, 2)
query = np.array([np.cos(1.45), np.sin(1.45)])

figure = new_figure(8, 2.9)
circle, *bars = figure.subplots(1, 5, width_ratios=[1.5, 1, 1, 1, 1])
for number, key in enumerate(keys, start=1):
    circle.annotate("", key, (0, 0), arrowprops={"arrowstyle": "->", "color": COLOURS[0]})
    circle.text(*(1.2 * key), f"{number}", ha="center", va="center", fontsize=9, color=COLOURS[0])
circle.annotate(
    "", 0.75 * query, (0, 0), arrowprops={"arrowstyle": "->", "color": COLOURS[1], "lw": 2.5}
)
circle.set(xlim=(-1.4, 1.4), ylim=(-1.4, 1.4), aspect="equal", title="keys, and a query (orange)")
circle.title.set_fontsize(10)
circle.axis("off")
for axes, beta in zip(bars, (0, 1, 4, 20), strict=True):
    weights, _ = softmax(beta * (keys @ query))
    axes.bar(range(1, 9), weights, color=COLOURS[0])
    axes.set(ylim=(0, 1), title=f"β = {beta}", xlabel="key", xticks=(1, 3, 5, 7))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=GREY)
    if beta:
        axes.set_yticklabels([])
bars[0].set_ylabel("weight")
figure

# %% [markdown]
# With $\beta = 0$ the answer is the mean of all values, with $\beta = 20$ nearly the value of key 3
# alone. In between, a small change of the query changes the weights a little: there is a slope, and
# so a network can learn where to look.
#
# ### All positions at once
#
# Let every position $t$ have a query $q_t$, and every position $s$ a key $k_s$ and a value $v_s$.
# With the queries as rows of $Q$ $(T, D)$, the keys as rows of $K$ $(S, D)$ and the values as rows
# of $V$, all look-ups are two matrix products (Vaswani et al. 2017, eq. 1):
#
# $$\mathrm{attention}(Q, K, V) = \mathrm{softmax}\!\Big(\frac{Q K^\top}{\sqrt D}\Big)\, V .$$
#
# | array | shape | what it is |
# |---|---|---|
# | $Q$ | $(T, D)$ | what each position is looking for |
# | $K$ | $(S, D)$ | what each position offers to be found by |
# | $V$ | $(S, D)$ | what it hands over when it is found |
# | $Q K^\top$ | $(T, S)$ | the score of every pair |
# | softmax, by row | $(T, S)$ | the attention weights; each row sums to 1 |
#
# In *self-attention* all three are made of the same rows $x$ $(T, C)$ by learned matrices:
# $Q = xW_Q$, $K = xW_K$, $V = xW_V$. What a token looks for, what it can be found by and what it
# says are three different things, so they get three matrices.
#
# ### Why divide by $\sqrt D$?
#
# If the numbers in $q$ and $k$ are independent with mean 0 and variance 1, each product $q_i k_i$
# has variance 1, and the sum of $D$ of them has variance $D$. So the scores of untrained queries and
# keys have a standard deviation of $\sqrt D$: for $D = 1024$, scores of $\pm 32$. A softmax of such
# numbers is a look-up with a huge $\beta$, decided by chance.
#
# That hurts because of softmax's gradient. With $y = \mathrm{softmax}(z)$,
# $\partial y_i / \partial z_j = y_i(\delta_{ij} - y_j)$. When one $y$ is nearly 1 and the others
# nearly 0, *every* entry of this matrix is nearly 0: nothing flows back, and the layer cannot unlearn
# its accidental choice. We measure all three: the scores, the largest weight, the gradient.


# %%
def saturation(sizes, scaled, *, keys=32, queries=400, seed=0):
    """Standard deviation of the scores, mean largest weight and gradient norm, for each D."""
    rng = np.random.default_rng(seed)
    rows = []
    for D in sizes:
        q, k = rng.standard_normal((queries, D)), rng.standard_normal((keys, D))
        scores = q @ k.T / (np.sqrt(D) if scaled else 1)  # (queries, keys)
        weights, cache = softmax(scores)
        dscores = softmax.backward(rng.standard_normal(weights.shape), cache)
        rows.append((scores.std(), weights.max(-1).mean(), np.linalg.norm(dscores, axis=-1).mean()))
    return np.array(rows).T  # (3, number of sizes)


sizes = 2 ** np.arange(0, 13)
plain, scaled = saturation(sizes, False), saturation(sizes, True)
print("      D   std of scores   largest weight of 32   gradient norm")
for i in (0, 4, 8, 12):
    print(f"{sizes[i]:7}  {plain[0, i]:14.2f}  {plain[1, i]:21.3f}  {plain[2, i]:14.4f}   plain")
    print(f"{'':7}  {scaled[0, i]:14.2f}  {scaled[1, i]:21.3f}  {scaled[2, i]:14.4f}   / sqrt(D)")

# %% [markdown]
# In the picture, the dashed line of the first panel is $\sqrt D$: the dots should lie on it. In the
# third panel look at the orange line's fall.

# %% tags=["picture"] alt="Three panels over the head size D: the scores' standard deviation grows as the root of D without the scale, the largest of 32 weights goes to 1 and the gradient falls; with the scale all three stay level."
figure = new_figure(8.4, 2.8)
names = "standard deviation of scores", "mean largest of 32 weights", "mean norm of the gradient"
for i, axes in enumerate(figure.subplots(1, 3)):
    axes.plot(sizes, plain[i], "o-", color=COLOURS[1], markersize=3.5, label="q · k")
    axes.plot(sizes, scaled[i], "o-", color=COLOURS[0], markersize=3.5, label="q · k / √D")
    axes.set_xscale("log", base=2)
    axes.set(title=names[i], xlabel="head size D")
    axes.title.set_fontsize(10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=GREY)
    if i == 0:
        axes.plot(sizes, np.sqrt(sizes), "--", color="black", linewidth=1, label="√D")
        axes.set_yscale("log", base=2)
        axes.legend(frameon=False, fontsize=8)
    else:
        axes.set_ylim(0)
figure

# %% [markdown]
# Without the division, a head of a few hundred channels starts with one key taking most of the
# weight, and passes back a fraction of the gradient. With it, nothing depends on $D$.
#
# ### Masks: who may look at whom
#
# A forbidden pair gets the score $-\infty$ before the softmax; its weight is then $e^{-\infty} = 0$
# exactly, and so is its gradient. Two masks are everyday:
#
# - **causal**: position $t$ sees $s \le t$. A language model predicts token $t + 1$ from position
#   $t$; if it could look ahead it would copy the answer. One pass then trains $T$ predictions.
# - **padding**: texts of different lengths are filled up to one length; nobody may look at the
#   filling.
#
# A row in which *everything* is forbidden is $0/0$ in the formula. Ours gives zeros and finite
# gradients, by definition: "nothing seen, nothing said". We check that below.
#
# ### Heads
#
# One softmax gives one set of weights: a head has *one* place to look at a time. $H$ heads cut the
# $C$ channels into $H$ pieces of $D = C/H$, attend in each, and put the results side by side:
#
# $$\text{out} = \mathrm{concat}(\text{head}_1, \dots, \text{head}_H)\, W_O .$$
#
# $H$ small products cost what one large one does: $T \cdot S \cdot D$ multiplications each, $H D =
# C$. The second experiment shows something that two heads can do and one cannot.
#
# ### Order: what attention cannot see
#
# Let $P$ be a permutation matrix and shuffle the rows of the input: $x \to Px$. Then $Q, K, V$
# become $PQ, PK, PV$, and, since softmax works on each row by itself and does not care in which
# order it sums,
#
# $$\mathrm{softmax}(P Q K^\top P^\top)\, P V = P\, \mathrm{softmax}(Q K^\top)\, P^\top P\, V
# = P\, \mathrm{attention}(Q, K, V),$$
#
# because $P^\top P = I$. **Shuffled in, shuffled out, and nothing else**: attention is *permutation
# equivariant*. To it, "dog bites man" and "man bites dog" are the same bag of words. Positions must
# be told. Three ways:
#
# - **learned** (Gehring et al. 2017; GPT-2): add a trained vector $p_t$ to $x_t$;
# - **sinusoidal** (Vaswani et al. 2017): add fixed waves of different lengths,
#   $p_{t,2i} = \sin(t/10000^{2i/C})$ and $p_{t,2i+1} = \cos(t/10000^{2i/C})$;
# - **rotary** (Su et al. 2021): add nothing. Turn each pair of channels of $q_t$ and $k_t$ by an
#   angle $t\,\theta_i$. With $R_t$ for this rotation, $R_t^\top R_s = R_{s-t}$ (turning back by $t$
#   and forth by $s$), so the score depends on the two contents and on the **distance** alone:
#
# $$(R_t q)\cdot(R_s k) = q^\top R_t^\top R_s\, k = q^\top R_{s-t}\, k .$$
#
# Here $i$ counts the pairs of channels, and $\theta_i = 10000^{-2i/D}$ is how fast pair $i$ turns.
# The waves have the same speeds, with the model's $C$ channels in place of the head's $D$.
#
# ### What it costs
#
# $Q K^\top$ and the product with $V$ take about $2 \cdot 2\,T S C$ floating point operations, and the
# weights of all heads are $H\,T\,S$ numbers: both grow with the **square** of the length, while the
# projections ($8\,T C^2$) and a recurrent network grow linearly. In exchange, no position is more
# than one step from any other, and all positions are computed at the same time.
#
# ## The code
#
# This is the op and its backward. `regroup` shares key/value heads among query heads (for the
# ordinary case it changes nothing), `hide` applies the masks.

# %%
show_source(scaled_dot_product_attention)

# %% [markdown]
# An implementation that differs as much as possible from that one: a loop over every query, straight
# from the formula.


# %%
def attention_by_loops(q, k, v, causal):
    """The same for q (B, H, T, D), k and v (B, H, S, D), one query at a time."""
    out = np.zeros((*q.shape[:3], v.shape[-1]))
    (T, D), S = q.shape[2:], k.shape[2]
    for b, h, t in np.ndindex(*q.shape[:3]):
        seen = t + 1 + S - T if causal else S
        scores = np.array([q[b, h, t] @ k[b, h, s] / np.sqrt(D) for s in range(seen)])
        weights = np.exp(scores) / np.exp(scores).sum()
        out[b, h, t] = sum(w * v[b, h, s] for s, w in enumerate(weights))
    return out


q, k, v = (rng.standard_normal(shape) for shape in ((2, 3, 4, 6), (2, 3, 5, 6), (2, 3, 5, 7)))
for causal in (False, True):
    ours, _ = scaled_dot_product_attention(q, k, v, causal=causal)
    flash, _ = flash_attention(q, k, v, causal=causal)  # no (T, S) matrix: notebook 13
    theirs = attention_by_loops(q, k, v, causal)
    print(f"causal={causal}:", np.abs(ours - theirs).max(), np.abs(flash - theirs).max())

# %% [markdown]
# Two oracles are better than one: the backward against central differences of the forward.

# %%
print(check_op(scaled_dot_product_attention, draw((2, 4, 3, 6), (2, 2, 5, 6), (2, 2, 5, 7))))

# %% [markdown]
# Around it are the projections and the heads. The columns of one matrix `qkv` are $W_Q$, $W_K$,
# $W_V$ side by side. Follow how `split_heads` turns $(B, T, H D)$ into $(B, H, T, D)$.

# %%
show_source(multi_head_attention, only="forward")

# %%
show_source(rotary)

# %% [markdown]
# ### The masks at work
#
# Six tokens of which the last two are padding, queries and keys at random. To see the weights
# themselves we attend to the rows of an identity matrix in place of the values: the weighted average
# of unit vectors *is* the row of weights.

# %% tags=["picture"] alt="Attention weights of six tokens without a mask, with a causal mask, with a padding mask that hides the last two columns, and with both; hidden pairs are grey."
q, k = rng.standard_normal((2, 1, 1, 6, 16))  # each (B, H, T, D)
real = np.array([True, True, True, True, False, False])[None, None, None]  # (1, 1, 1, S)
eye = np.eye(6)[None, None]
masks = {
    "no mask": {},
    "causal": {"causal": True},
    "padding": {"mask": real},
    "both": {"causal": True, "mask": real},
}
figure = new_figure(8.4, 2.5)
for axes, (name, settings) in zip(figure.subplots(1, 4), masks.items(), strict=True):
    weights = scaled_dot_product_attention(q, k, eye, **settings)[0][0, 0]  # (T, S)
    shown = np.ma.array(weights, mask=weights == 0)
    axes.set_facecolor("0.9")
    axes.imshow(shown, cmap="Blues", vmin=0, vmax=1)
    for (t, s), weight in np.ndenumerate(weights):
        if weight:
            ink = "white" if weight > 0.5 else "black"
            axes.text(
                s,
                t,
                f"{weight:.2f}".removeprefix("0"),
                ha="center",
                va="center",
                fontsize=6.5,
                color=ink,
            )
    axes.set(title=name, xlabel="key s", xticks=range(6), yticks=range(6))
    axes.tick_params(labelsize=8, colors=GREY)
figure.axes[0].set_ylabel("query t")
figure

# %% [markdown]
# Every row still sums to 1: what is taken from the hidden pairs is shared among the others. Now the
# row that may see nothing. The textbook formula divides 0 by 0; the op answers zeros, and its
# gradients are finite.

# %%
nothing = np.zeros((1, 1, 6, 6), bool)
nothing[..., 1:, :] = True  # query 0 may see no key
scores = np.where(nothing, q @ k.swapaxes(-1, -2), -np.inf)
with np.errstate(invalid="ignore"):
    naive = np.exp(scores - scores.max(-1, keepdims=True))
    naive /= naive.sum(-1, keepdims=True)
print("textbook:", naive[0, 0, 0])
out, cache = scaled_dot_product_attention(q, k, eye, mask=nothing)
print("the op:  ", out[0, 0, 0])
grads = scaled_dot_product_attention.backward(rng.standard_normal(out.shape), cache)
print("finite gradients:", all(np.isfinite(g).all() for g in grads if g is not None))

# %% [markdown]
# ## An experiment: what does attention know of the order?
#
# First the claim of equivariance, in numbers. We shuffle 10 rows, attend, and compare with shuffling
# after. Then the same with a causal mask and with each kind of positions.


# %%
def layer(rng, C, outputs, dtype=np.float64):
    """The weights of one attention layer, and of a matrix `head` that reads its output."""

    def normal(*shape, std):
        return (std * rng.standard_normal(shape)).astype(dtype)

    qkv = {"weight": normal(C, 3 * C, std=C**-0.5), "bias": normal(3 * C, std=0.3)}
    attention = {"qkv": qkv, "out": {"weight": normal(C, C, std=C**-0.5)}}
    return {"attention": attention, "head": normal(C, outputs, std=C**-0.5)}


C, T = 16, 10
params = layer(rng, C, 1)["attention"]
x, learned = rng.standard_normal((2, 1, T, C))
order = rng.permutation(T)
ways = {
    "no positions": lambda x: multi_head_attention(x, params, n_head=2),
    "no positions, causal": lambda x: multi_head_attention(x, params, n_head=2, causal=True),
    "learned": lambda x: multi_head_attention(x + learned, params, n_head=2),
    "sinusoidal": lambda x: multi_head_attention(sinusoidal(x)[0], params, n_head=2),
    "rotary": lambda x: multi_head_attention(x, params, n_head=2, rotary_base=10000.0),
}
print("largest difference between attend(shuffle(x)) and shuffle(attend(x)):")
for name, attend in ways.items():
    difference = attend(x[:, order])[0] - attend(x)[0][:, order]
    print(f"  {name:21} {np.abs(difference).max():.1e}")

# %% [markdown]
# Without positions the two agree up to rounding. A causal mask breaks the symmetry too (the first
# row sees one token, the last one all), which is why causal models learn *something* about order
# even without positions (Haviv et al. 2022).
#
# ### Rotary scores depend on the distance alone
#
# Give every position the same query content and the same key content, and look at the scores
# $q_t \cdot k_s$ of all pairs. Whatever structure they have comes from the positions. With rotary
# positions expect stripes along the diagonals: the same distance, the same score. (Purple is above
# the mean of each picture, orange below.)

# %% tags=["picture"] alt="Scores of all pairs of 24 positions with the same content: with learned positions no structure, with sinusoidal ones a smooth surface, with rotary ones stripes that are constant along every diagonal."
T, D = 24, 32
W_q, W_k = rng.standard_normal((2, D, D)) / np.sqrt(D)
content_q, content_k = rng.standard_normal((2, D))
same = np.broadcast_to(rng.standard_normal(D), (T, D))
table = sinusoidal(np.zeros((1, T, D)))[0][0]  # (T, D), the waves themselves


def rotary_scores(start=0):
    """Scores (T, T) at the positions start, start + 1, ..."""
    at = np.arange(start, start + T)
    q, k = (np.broadcast_to(c, (1, 1, T, D)) for c in (content_q, content_k))
    return (rotary(q, positions=at)[0] @ rotary(k, positions=at)[0].swapaxes(-1, -2))[0, 0]


learned = rng.standard_normal((T, D))
scores = {
    "learned (untrained)": (same + learned) @ W_q @ ((same + learned) @ W_k).T,
    "sinusoidal": (same + table) @ W_q @ ((same + table) @ W_k).T,
    "rotary": rotary_scores(),
}
figure = new_figure(8, 2.9)
for axes, (name, matrix) in zip(figure.subplots(1, 3), scores.items(), strict=True):
    centred = matrix - matrix.mean()
    most = np.abs(centred).max()
    axes.imshow(centred, cmap="PuOr", vmin=-most, vmax=most)
    axes.set(title=name, xlabel="key's position s")
    axes.tick_params(labelsize=8, colors=GREY)
figure.axes[0].set_ylabel("query's position t")


def along_diagonals(matrix):
    """The largest difference between two scores of the same distance t - s."""
    return max(np.ptp(np.diagonal(matrix, d)) for d in range(-T + 2, T - 1))


for name, matrix in scores.items():
    print(f"{name:20} {along_diagonals(matrix):.1e}")
print(f"{'the waves, no W':20} {along_diagonals(table @ table.T):.1e}")
print(f"rotary, all positions + 1000: {np.abs(rotary_scores(1000) - rotary_scores()).max():.1e}")
figure

# %% [markdown]
# The waves by themselves have the property too: $p_t \cdot p_s = \sum_i \cos((t-s)\,\theta_i)$. But
# they are added *before* $W_Q$ and $W_K$, which mix them with each other and with the content, and
# then it is gone. Rotary positions turn the queries and keys *after* the projections, and it stays,
# at position 1000 as at position 0.
#
# ## An experiment: layers that must use positions
#
# One attention layer without anything else (no residual, no feed-forward layer) learns two tasks on
# random letters:
#
# - **reverse**: output $t$ is input $T - 1 - t$. Where to look depends on the *absolute* position.
# - **shift**: output $t$ is input $t - 3$. Where to look is at a fixed *distance*.
#
# Each with no positions, sinusoidal, learned and rotary ones: eight small trainings. Before you
# run it, write down which of the eight will fail.

# %%
V = 16  # letters a to p


def forward(params, ids, position, n_head):
    """Logits (B, T, outputs * V) and caches of: embed, attend, read."""
    x, cache_x = embedding(params["wte"], ids=ids)  # (B, T, C)
    if position == "learned":
        x = x + params["wpe"][: ids.shape[1]]
    if position == "sinusoidal":
        x, _ = sinusoidal(x)
    base = 10000.0 if position == "rotary" else None
    mixed, cache_mixed = multi_head_attention(
        x, params["attention"], n_head=n_head, rotary_base=base
    )
    logits, cache_head = linear(mixed, params["head"])
    return logits, (cache_x, cache_mixed, cache_head)


def backward(params, dlogits, caches):
    """The same, in reverse."""
    cache_x, cache_mixed, cache_head = caches
    dmixed, dhead, _ = linear.backward(dlogits, cache_head)
    dx, dattention, _ = multi_head_attention.backward(dmixed, cache_mixed)
    grads = {"wte": embedding.backward(dx, cache_x), "attention": dattention, "head": dhead}
    if "wpe" in params:
        grads["wpe"] = dx.sum(0)  # one row serves every text of the batch
    return grads


IGNORED = -100  # a target that does not count


def targets_of(task, ids):
    """(B, T, outputs): what each position should say."""
    if task == "reverse":
        return ids[:, ::-1, None]
    targets = np.full((*ids.shape, 2), IGNORED)
    targets[:, 3:, 0], targets[:, 3:, 1] = ids[:, :-3], ids[:, 2:-1]
    return targets if task == "both" else targets[..., :1]  # "both": 3 back and 1 back


def learn(task, position, *, n_head=1, steps=500, T=16, C=32, seed=0):
    """Train one layer; returns its params and its losses (steps,), in nats a letter."""
    rng = np.random.default_rng(seed)
    outputs = 2 if task == "both" else 1
    params = layer(rng, C, outputs * V, np.float32)
    params["wte"] = rng.standard_normal((V, C)).astype(np.float32)
    if position == "learned":
        params["wpe"] = rng.standard_normal((T, C)).astype(np.float32)
    optimizer, losses = Adam(), []
    state = optimizer.init(params)
    for step in range(steps):
        ids = rng.integers(0, V, (32, T))
        logits, caches = forward(params, ids, position, n_head)
        shape = logits.shape
        targets = targets_of(task, ids).reshape(-1)
        loss, cache = cross_entropy(logits.reshape(-1, V), targets=targets)
        dlogits = cross_entropy.backward(1.0, cache).reshape(shape)
        rate = 5e-3 * min(1, 2 - 2 * step / steps)
        optimizer.update(params, backward(params, dlogits, caches), state, rate)
        losses.append(float(loss))
    return params, np.array(losses)


positions = "none", "sinusoidal", "learned", "rotary"
runs = {}
with WorkerPool(1):  # one thread: the matrices are too small to share
    for task, position in track([(t, p) for t in ("reverse", "shift") for p in positions]):
        runs[task, position] = learn(task, position)
print(f"nats a letter at the end (a blind guess: {np.log(V):.2f})")
for position in positions:
    ends = (runs[task, position][1][-20:].mean() for task in ("reverse", "shift"))
    print("  {:11} reverse {:.3f}   shift {:.3f}".format(position, *ends))

# %% [markdown]
# The two panels show the loss over the steps. Look for the lines that do not fall to 0.

# %% tags=["picture"] alt="Loss over training steps of one attention layer with four kinds of positions. Reversal: learned and sinusoidal reach 0, rotary and none stay high. Shift: all but none reach 0."
figure = new_figure(8, 3)
for axes, task in zip(figure.subplots(1, 2, sharey=True), ("reverse", "shift"), strict=True):
    for position, colour in zip(positions, (GREY, *COLOURS), strict=False):
        losses = runs[task, position][1]
        smooth = np.convolve(losses, np.full(10, 0.1), "valid")
        axes.plot(smooth, color=colour, label=position, linewidth=1.8)
    axes.axhline(np.log(V), color="black", linestyle=(0, (1, 3)), linewidth=1)
    axes.set(title=task, xlabel="step", ylim=(-0.08, 3))
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=GREY)
figure.axes[0].set_ylabel("nats per letter")
figure.axes[0].text(495, np.log(V) + 0.05, "blind guess", ha="right", fontsize=8)
figure.axes[1].legend(frameon=False, fontsize=9, loc="center right")
figure

# %% [markdown]
# - **None** fails at both. It is still better than a blind guess: a bag of letters tells *which*
#   letters the answer can be.
# - **Learned and sinusoidal** positions solve both.
# - **Rotary** solves the shift and not the reversal. A rotary layer knows only distances, and in a
#   reversal the distance is different at every position: from the first letter it is $T - 1$, in the
#   middle 0. (A GPT with rotary positions has a causal mask and many layers, and finds out about
#   absolute positions from them.)
#
# The attention of the layer that has learned to reverse: point at a letter. It looks at its
# mirror image, whatever stands there.


# %%
def weights_of(params, ids, position, n_head=1):
    """The attention weights (1, H, T, T) of one text, from the queries and keys of a trace."""
    with minillm.backend("numpy"), minillm.trace(values=True) as steps:
        forward(params, ids[None], position, n_head)
    (step,) = (s for s in steps if s.name == "flash_attention")
    q, k = step.values["q"], step.values["k"]
    eye = np.broadcast_to(np.eye(len(ids), dtype=q.dtype), (1, n_head, *2 * ids.shape))
    return scaled_dot_product_attention(q, k, eye)[0]


def letters(ids):
    return [chr(97 + i) for i in ids]


# %% tags=["picture"] alt="Interactive view of the attention of the layer that has learned to reverse 16 letters: the matrix is an anti-diagonal."
text = np.array([ord(c) - 97 for c in "jailmopednobleip"])
reverser, _ = runs["reverse", "learned"]
AttentionView(
    weights_of(reverser, text, "learned"), letters(text), show=(0, 0, 2), title="Learned to reverse"
)

# %%
logits, _ = forward(reverser, text[None], "learned", 1)
print("".join(letters(text)), "->", "".join(letters(logits[0].argmax(-1))))

# %% [markdown]
# ### Longer than in training
#
# What happens with texts of 48 letters, when training has seen 16? A table of learned positions has
# no 17th row. The others can be asked. Here are the shares of right letters by position.

# %%
long = np.random.default_rng(5).integers(0, V, (200, 48))
goal = targets_of("shift", long)[..., 0]
for position in ("sinusoidal", "rotary"):
    logits, _ = forward(runs["shift", position][0], long, position, 1)
    right = (logits.argmax(-1) == goal).mean(0)  # (T,)
    parts = [right[a:b].mean() for a, b in ((3, 16), (16, 32), (32, 48))]
    print("{:11} 4 to 16: {:.0%}   17 to 32: {:.0%}   33 to 48: {:.0%}".format(position, *parts))

# %% [markdown]
# For rotary positions a distance of 3 is a distance of 3 everywhere. (Longer texts have *more* wrong
# keys among which to find the right one, so in practice even they get worse with length.) The
# sinusoidal layer has learned where to look from positions up to 16; the waves beyond are
# combinations that it has never seen.
#
# ## An experiment: two places at once
#
# Output both the letter 1 back *and* the letter 3 back. A head can divide its attention between the
# two places, but then their values arrive as one sum, and nothing says which of the two was which.
# Two heads look at one place each. Rotary positions, one head of 32 channels against two of 16.

# %%
with WorkerPool(1):
    two = {n_head: learn("both", "rotary", n_head=n_head, steps=800) for n_head in track((1, 2))}
for n_head, (_, losses) in two.items():
    print(f"{n_head} head(s): {losses[-20:].mean():.3f} nats a letter")

# %% [markdown]
# One head stays far from 0. In the maps, a cell one below the diagonal is "1 back", three below it
# "3 back". Compare the smear of the one head with the two sharp lines of the two.

# %% tags=["picture"] alt="Attention maps over 12 letters: the single head spreads its attention over several letters before it; of the two heads, each looks at one of them."
sample = text[:12]
maps = [("one head", weights_of(two[1][0], sample, "rotary", 1)[0, 0])]
maps += [
    (f"head {h + 1} of two", weights_of(two[2][0], sample, "rotary", 2)[0, h]) for h in range(2)
]
figure = new_figure(8, 2.9)
for axes, (name, weights) in zip(figure.subplots(1, 3), maps, strict=True):
    image = axes.imshow(weights, cmap="Blues", vmin=0, vmax=1)
    axes.set_xticks(range(12), letters(sample))
    axes.set_yticks(range(12), letters(sample))
    axes.set(title=name, xlabel="looked at")
    axes.tick_params(labelsize=8, length=0, colors=GREY)
figure.axes[0].set_ylabel("letter that looks")
figure.colorbar(image, ax=figure.axes, format="{x:.0%}", shrink=0.8, label="attention weight")
figure

# %% [markdown]
# ## An experiment: a look-up by content
#
# So far *where* decided. Now *what*: a list of eight pairs (a key, a value) in random order, and a
# few keys as questions. The layer has to find the pair with the same key and say its value. The
# questions are the queries and the pairs are the `context`: this is cross-attention, as between a
# translation and its source. There are no positions at all, since order says nothing here.

# %%
N_KEYS, N_VALUES, PAIRS = 12, 10, 8


def questions(rng, batch):
    """Keys and values of the pairs (B, 8), and which pairs are asked for (B, 4)."""
    keys = np.argsort(rng.random((batch, N_KEYS)), 1)[:, :PAIRS]  # all different in a row
    asked = np.argsort(rng.random((batch, PAIRS)), 1)[:, :4]
    return keys, rng.integers(0, N_VALUES, (batch, PAIRS)), asked


def look_up(params, keys, values, asked):
    """Logits (B, 4, N_VALUES) of the values asked for, and caches."""
    offered, cache_k = embedding(params["key"], ids=keys)
    said, cache_v = embedding(params["value"], ids=values)
    wanted = np.take_along_axis(keys, asked, 1)
    x, cache_q = embedding(params["question"], ids=wanted)
    mixed, cache_mixed = multi_head_attention(x, params["attention"], offered + said, n_head=1)
    logits, cache_head = linear(mixed, params["head"])
    return logits, (cache_q, cache_k, cache_v, cache_mixed, cache_head)


def look_up_backward(dlogits, caches):
    cache_q, cache_k, cache_v, cache_mixed, cache_head = caches
    dmixed, dhead, _ = linear.backward(dlogits, cache_head)
    dx, dattention, dpairs = multi_head_attention.backward(dmixed, cache_mixed)
    return {
        "attention": dattention,
        "head": dhead,
        "question": embedding.backward(dx, cache_q),
        "key": embedding.backward(dpairs, cache_k),  # a pair is a sum: both get its gradient
        "value": embedding.backward(dpairs, cache_v),
    }


def learn_look_up(steps=1500, C=24, seed=0):
    rng = np.random.default_rng(seed)
    params = layer(rng, C, N_VALUES, np.float32)
    for name, rows in (("question", N_KEYS), ("key", N_KEYS), ("value", N_VALUES)):
        params[name] = rng.standard_normal((rows, C)).astype(np.float32)
    optimizer = Adam()
    state = optimizer.init(params)
    losses = []
    for step in track(range(steps), "learning to look up"):
        keys, values, asked = questions(rng, 32)
        logits, caches = look_up(params, keys, values, asked)
        goal = np.take_along_axis(values, asked, 1)
        loss, cache = cross_entropy(logits, targets=goal)
        rate = 5e-3 * min(1, 2 - 2 * step / steps)
        grads = look_up_backward(cross_entropy.backward(1.0, cache), caches)
        optimizer.update(params, grads, state, rate)
        losses.append(float(loss))
    return params, np.array(losses)


with WorkerPool(1):
    finder, losses = learn_look_up()
keys, values, asked = questions(np.random.default_rng(9), 500)
logits, _ = look_up(finder, keys, values, asked)
right = (logits.argmax(-1) == np.take_along_axis(values, asked, 1)).mean()
print(
    f"loss {losses[:20].mean():.2f} -> {losses[-20:].mean():.3f} nats; right on new lists: {right:.1%}"
)

# %% [markdown]
# On the left is what one list looks like to the four questions: each row should have one dark cell,
# at the pair with its own key, wherever that stands. On the right is why: the score of every possible
# question with every possible key, straight from the trained matrices,
# $E_\text{question} W_Q\,(E_\text{key} W_K)^\top/\sqrt D$. The layer has learned the meaning of
# "equal": a diagonal.

# %% tags=["picture"] alt="Left: attention of four questions over eight pairs, one dark cell in each row at the pair with the same key. Right: learned scores of 12 questions with 12 keys, large on the diagonal."
W, b = (finder["attention"]["qkv"][name] for name in ("weight", "bias"))
C = len(W)
one_q = finder["question"] @ W[:, :C] + b[:C]  # (N_KEYS, C)
one_k = finder["key"] @ W[:, C : 2 * C] + b[C : 2 * C]
pairs_k = one_k[keys[0]] + finder["value"][values[0]] @ W[:, C : 2 * C]  # (8, C)
wanted = keys[0][asked[0]]
weights, _ = softmax(one_q[wanted] @ pairs_k.T / np.sqrt(C))  # (4, 8)

figure = new_figure(8, 3.2)
left, right = figure.subplots(1, 2, width_ratios=[1.5, 1])
shown = left.imshow(weights, cmap="Blues", vmin=0, vmax=1)
names = [f"{chr(65 + i)}={j}" for i, j in zip(keys[0], values[0], strict=True)]
left.set_xticks(range(PAIRS), names)
left.set_yticks(range(4), [f"{chr(65 + i)}=?" for i in wanted])
left.set(title="one list: attention weights", xlabel="pair: key = value", ylabel="question")
figure.colorbar(shown, ax=left, format="{x:.0%}", shrink=0.6)
scores = one_q @ one_k.T / np.sqrt(C)
scores = scores - scores.mean(-1, keepdims=True)  # softmax does not see a row's mean
most = np.abs(scores).max()
shown = right.imshow(scores, cmap="PuOr", vmin=-most, vmax=most)
right.set_xticks(range(N_KEYS), [chr(65 + i) for i in range(N_KEYS)])
right.set_yticks(range(N_KEYS), [chr(65 + i) for i in range(N_KEYS)])
right.set(title="score of question with key,\nless the row's mean", xlabel="key")
figure.colorbar(shown, ax=right, shrink=0.8)
for axes in (left, right):
    axes.tick_params(labelsize=8, length=0, colors=GREY)
figure

# %% [markdown]
# ## An experiment: what it costs
#
# Seconds of attention and of one linear layer on this machine, for $C = 64$ channels and growing
# length. On logarithmic axes a straight line's slope is the power: compare with the dashed lines
# for $T$ and $T^2$. (The numbers are your machine's; they differ from run to run.)

# %% tags=["picture", "timing"] alt="Left: seconds over length, attention grows as the square of the length, a linear layer in proportion. Right: megabytes of the attention weights over length, growing as the square."
lengths = 2 ** np.arange(6, 12)


def seconds(function):
    """The best of three calls."""
    best = np.inf
    for _ in range(3):
        began = time.perf_counter()
        function()
        best = min(best, time.perf_counter() - began)
    return best


spent = {"attention": [], "flash attention": [], "linear": []}
W = rng.standard_normal((64, 64)).astype(np.float32)
with WorkerPool(1):
    for n in track(lengths, "measuring"):
        rows = rng.standard_normal((1, 1, n, 64)).astype(np.float32)
        spent["attention"].append(seconds(lambda r=rows: scaled_dot_product_attention(r, r, r)))
        spent["flash attention"].append(seconds(lambda r=rows: flash_attention(r, r, r)))
        spent["linear"].append(seconds(lambda r=rows: linear(r[0], W)))
for name, values in spent.items():
    print(f"{name:16}", "  ".join(f"{1000 * x:8.2f} ms" for x in values))

figure = new_figure(8, 3)
left, right = figure.subplots(1, 2)
for (name, values), colour in zip(spent.items(), COLOURS, strict=False):
    left.plot(lengths, values, "o-", color=colour, label=name, markersize=4)
for power, last, dashes in ((2, spent["attention"][-1], "--"), (1, spent["linear"][-1], ":")):
    slope = last * (lengths / lengths[-1]) ** power
    left.plot(lengths, slope, dashes, color="black", linewidth=1, label="T²" if power == 2 else "T")
left.set(title="one head, forward", ylabel="seconds", xscale="log", yscale="log")
for H, colour in ((2, COLOURS[0]), (12, COLOURS[3])):
    right.plot(
        lengths, 4 * H * lengths**2 / 1e6, "o-", color=colour, markersize=4, label=f"{H} heads"
    )
right.plot(
    lengths, 4 * 768 * lengths / 1e6, "o-", color=GREY, markersize=4, label="the rows x, C = 768"
)
right.set(title="memory of the weights, float32", ylabel="MB", xscale="log", yscale="log")
for axes in (left, right):
    axes.set_xlabel("length T")
    axes.set_xscale("log", base=2)
    axes.legend(frameon=False, fontsize=8)
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(labelsize=8, colors=GREY)
figure

# %% [markdown]
# The time can only be reduced by doing fewer pairs. The *memory* is another matter: `flash_attention`
# never has the $(T, S)$ matrix, and gives the same numbers.
# [Notebook 13](13_flash_attention.ipynb) derives how.
#
# ## Exercises
#
# **1. Attention in one line (or three).** A single head, no batch: `q` $(T, D)$, `k` $(S, D)$, `v`
# $(S, E)$. No loops, and finite for scores of several hundred too.


# %% tags=["exercise"] exercise="attend"
def attend(q, k, v):
    """Scaled dot-product attention without a mask, (T, E)."""
    raise NotImplementedError("write attend")


# %% tags=["check", "raises-exception"] exercise="attend"
for seed, (T_, S_, D_, E_) in enumerate([(3, 5, 4, 2), (1, 7, 9, 3), (6, 6, 2, 6)]):
    q_, k_, v_ = draw((T_, D_), (S_, D_), (S_, E_), seed=seed)
    came = attend(q_, k_, v_)
    assert np.shape(came) == (T_, E_), f"expected shape {(T_, E_)}, got {np.shape(came)}"
    expected = scaled_dot_product_attention(q_[None, None], k_[None, None], v_[None, None])[0][0, 0]
    assert np.allclose(came, expected), (
        f"off by up to {np.abs(came - expected).max():.2g}. Which axis must sum to 1? "
        "What are the scores divided by?"
    )
    far = attend(1000 * q_, k_, v_)
    assert np.isfinite(far).all(), (
        "scores of several hundred give inf or nan: exp overflows. "
        "What can be subtracted from a row of scores without changing its softmax?"
    )
print("attend: right")

# %% [markdown]
# **2. Padding.** A batch of texts of different `lengths`, filled up to `S` tokens. Make the mask
# that `multi_head_attention` wants, of shape $(B, 1, 1, S)$, True where a key may be seen. The check
# compares every text in its padded batch with the same text alone.


# %% tags=["exercise"] exercise="padding_mask"
def padding_mask(lengths, S):
    """A bool array (B, 1, 1, S) for lengths (B,)."""
    raise NotImplementedError("write padding_mask")


# %% tags=["check", "raises-exception"] exercise="padding_mask"
rng_ = np.random.default_rng(1)
weights_ = layer(rng_, 8, 1)["attention"]
batch_ = rng_.standard_normal((3, 6, 8))
lengths_ = np.array([4, 6, 2])
mask_ = padding_mask(lengths_, 6)
assert mask_.shape == (3, 1, 1, 6), f"expected shape (3, 1, 1, 6), got {mask_.shape}"
assert mask_.dtype == bool, f"expected bool, got {mask_.dtype}"
padded_, _ = multi_head_attention(batch_, weights_, n_head=2, mask=mask_)
for row_, n_ in enumerate(lengths_):
    alone_, _ = multi_head_attention(batch_[row_ : row_ + 1, :n_], weights_, n_head=2)
    assert np.allclose(padded_[row_, :n_], alone_[0]), (
        f"text {row_} of {n_} tokens gives something else in the batch than alone: "
        "does it see its padding, or too little of itself?"
    )
print("padding_mask: right")

# %% [markdown]
# **3. ALiBi** (Press, Smith & Lewis 2022, arXiv:2108.12409) needs neither a table nor waves: it
# *subtracts* from each score the distance times a slope, another slope for each head. Make the `bias`
# $(1, H, T, T)$ for causal attention: $-m_h\,(t - s)$ for $s \le t$, and $-\infty$ for $s > t$.


# %% tags=["exercise"] exercise="alibi"
def alibi(T, slopes):
    """The bias (1, H, T, T) for slopes (H,)."""
    raise NotImplementedError("write alibi")


# %% tags=["check", "raises-exception"] exercise="alibi"
slopes_ = np.array([0.5, 0.25, 2.0])
bias_ = np.asarray(alibi(5, slopes_))
assert alibi(3, slopes_).shape == (1, 3, 3, 3), "for T = 3 and 3 heads: shape (1, 3, 3, 3)"
assert np.shape(bias_) == (1, 3, 5, 5), f"expected shape (1, 3, 5, 5), got {np.shape(bias_)}"
q_, k_ = draw((1, 3, 5, 4), (1, 3, 5, 4))
eye_ = np.broadcast_to(np.eye(5), (1, 3, 5, 5))
near_ = scaled_dot_product_attention(np.zeros_like(q_), k_, eye_, bias_)[0]
assert np.allclose(np.triu(near_[0, 0], 1), 0), "a token sees tokens after it"
assert np.all(np.diff(near_[0, :, -1], axis=-1) > 0), (
    "with all scores equal, a nearer token must get more weight; which sign has the distance?"
)
for h_, t_ in np.ndindex(3, 5):
    scores_ = [q_[0, h_, t_] @ k_[0, h_, s] / 2 - slopes_[h_] * (t_ - s) for s in range(t_ + 1)]
    expected_ = np.exp(scores_) / np.exp(scores_).sum()
    came_ = scaled_dot_product_attention(q_, k_, eye_, bias_)[0][0, h_, t_, : t_ + 1]
    assert np.allclose(came_, expected_), f"head {h_}, token {t_}: weights {came_}, not {expected_}"
print("alibi: right")

# %% [markdown]
# **4. The backward of attention.** For the single head of exercise 1, with `weights` kept from the
# forward. Go backwards: through the product with `v`, the softmax (its row has a null space: subtract
# the weighted mean), the scale, and the product $q k^\top$. The
# [derivation](../docs/derivations/scaled_dot_product_attention.md) is there for after.


# %% tags=["exercise"] exercise="attention_backward"
def head(q, k, v):
    """One head: (out, cache)."""
    scale = 1 / np.sqrt(q.shape[-1])
    weights = softmax(scale * q @ k.T)[0]  # (T, S)
    return weights @ v, (q, k, v, scale, weights)


def head_backward(dout, cache):
    """The gradients (dq, dk, dv)."""
    raise NotImplementedError("write head_backward")


# %% tags=["check", "raises-exception"] exercise="attention_backward"
report = check_vjp(head, head_backward, draw((3, 4), (5, 4), (5, 2)))
assert report.passed, f"the differences of the forward say otherwise:\n{report}"
print("attention_backward: right")

# %% [markdown]
# ## Where to go next
#
# - The next notebook: [The Transformer block](09_transformer_block.ipynb), attention with a residual
#   stream, a norm and a feed-forward layer around it.
# - [Looking inside](14_looking_inside.ipynb) shows what heads of a trained GPT do, and two heads that
#   together do what neither can.
# - [FlashAttention](13_flash_attention.ipynb): the same without the $(T, S)$ matrix.
# - The derivations:
#   [scaled_dot_product_attention](../docs/derivations/scaled_dot_product_attention.md),
#   [multi_head_attention](../docs/derivations/multi_head_attention.md),
#   [rotary](../docs/derivations/rotary.md), [sinusoidal](../docs/derivations/sinusoidal.md),
#   [softmax](../docs/derivations/softmax.md).
# - D. Bahdanau, K. Cho & Y. Bengio 2014, "Neural machine translation by jointly learning to align
#   and translate", arXiv:1409.0473: attention before the transformer.
# - A. Vaswani et al. 2017, "Attention is all you need", arXiv:1706.03762.
# - J. Gehring et al. 2017, "Convolutional sequence to sequence learning", arXiv:1705.03122: learned
#   positions.
# - J. Su et al. 2021, "RoFormer: enhanced transformer with rotary position embedding",
#   arXiv:2104.09864.
# - A. Haviv et al. 2022, "Transformer language models without positional encodings still learn
#   positional information", arXiv:2203.16634.
