# %% [markdown]
# # 7. LSTM and GRU
#
# The simple recurrent network of [notebook 6](06_recurrence.ipynb) multiplies its whole memory by a
# matrix at every step, and so its gradient dies. **What if the memory were only multiplied by a number
# between 0 and 1, chosen anew at each step, and otherwise left alone?** That is a gate, and it is the
# whole idea of the LSTM. We measure the same gradient as before, watch a task that the simple
# network cannot learn be learnt in seconds, and then look into a network that has read Python source:
# what have its cells come to track?
#
# You need notebook 6. Reading takes about 50 minutes, running about 45 seconds.

# %%
import copy
import io
import json
import os
import platform
import tokenize
from pathlib import Path

import numpy as np
import threadpoolctl

from minillm.data import encode_documents, load_corpus
from minillm.gradcheck import check_vjp, draw
from minillm.models import recurrent
from minillm.models.language_model import LanguageModel
from minillm.ops import gru, gru_cell, linear, lstm, lstm_cell, mse, rnn, rnn_cell
from minillm.optim import Adam, clip_by_global_norm
from minillm.tokenizers import CharTokenizer
from minillm.training import TrainConfig, keep, track, train_or_load
from minillm.viz.gates import cell_text, gate_maps, gate_traces
from minillm.viz.gradient_flow import gradient_flow
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure

LONG = bool(os.environ.get("MINILLM_LONG"))
RUNS = Path("runs/07_lstm_and_gru")
one_thread = threadpoolctl.threadpool_limits(1, user_api="blas")  # small products need no more

# %% [markdown]
# ## The mathematics
#
# ### Long short-term memory
#
# The LSTM (Hochreiter and Schmidhuber 1997) has two states. The **cell** $c$ is its memory, the
# **hidden state** $h$ is what it shows of it. With $\sigma(a) = 1/(1 + e^{-a})$ and everything
# computed from the input and the last hidden state, $a = x_t W_x + h_{t-1} W_h + b$ split into four,
#
# $$i = \sigma(a_i), \quad f = \sigma(a_f), \quad g = \tanh(a_g), \quad o = \sigma(a_o),$$
#
# $$c_t = f \odot c_{t-1} + i \odot g, \qquad h_t = o \odot \tanh(c_t).$$
#
# Read it aloud: keep a share $f$ of the memory, write a share $i$ of something new, show a share $o$.
# (The forget gate is from Gers, Schmidhuber and Cummins 2000. In 1997 $f$ was always 1.)
#
# ### A highway for the gradient
#
# How does $c_t$ depend on $c_{t-1}$? Directly, and through $h_{t-1}$ in the gates:
#
# $$\frac{\partial c_t}{\partial c_{t-1}} = \underbrace{\operatorname{diag}(f_t)}_{\text{the road}} +
# \underbrace{\text{terms that pass through } W_h}_{\text{the fields}} .$$
#
# The fields are the product of matrices that we know from notebook 6. The road over $k$ steps is
#
# $$\operatorname{diag}(f_t \odot f_{t-1} \odot \cdots \odot f_{t-k+1}).$$
#
# There is no matrix in it and no slope of a $\tanh$. If a gate stays at 1, the road is the identity for as
# long as you like; and every unit has its own. Whether it vanishes is no longer an accident of the
# weights' eigenvalues: it is something that the network *decides*, per unit and per step, and can
# learn.
#
# At the start it has not learnt anything. With $a_f \approx b_f$, the gate is $f = \sigma(b_f)$, and half
# of the memory is left after $\ln 2 / (-\ln f)$ steps:

# %%
for b in (0, 1, 3, 5):
    f = 1 / (1 + np.exp(-b))
    print(f"b_f = {b}: f = {f:.3f}, half is left after {np.log(2) / -np.log(f):5.1f} steps")

# %% [markdown]
# This is why one number in the initialisation, the **forget bias**, matters so much (Gers et al. 2000;
# Jozefowicz, Zaremba and Sutskever 2015, section 3.2). Ours starts at 1.
#
# ### The gated recurrent unit
#
# Cho et al. (2014) do with one state and three blocks of weights. An update gate $z$ shares the place
# between old and new, and a reset gate $r$ decides how much of the old state the new one looks at.
# What comes from the input and what comes from the state are computed apart,
# $a = x_t W_x + b_x$ and $b = h_{t-1} W_h + b_h$, each split into three (so here $b$ is not a bias but,
# as in the code, the state's part; the biases are $b_x$ and $b_h$):
#
# $$z = \sigma(a_z + b_z), \qquad r = \sigma(a_r + b_r), \qquad n = \tanh(a_n + r \odot b_n),$$
#
# $$h_t = z \odot h_{t-1} + (1 - z) \odot n .$$
#
# Its road is $\operatorname{diag}(z)$. Writing and forgetting are tied: what is kept cannot be
# overwritten, and the reverse. Read other texts with care in two places. Some write $1 - z$ for our $z$,
# which is the share of the *old* state, as in the paper. And our $r$ multiplies the *product* $h W_h$
# with its bias, as in cuDNN and torch; the paper multiplies $h$, before the product.

# %% [markdown]
# ## The code
#
# In `lstm_cell_backward`, the road is one short statement: `dc = dc_new * f`. All else goes through
# `da` and the matrices.

# %%
show_source(lstm_cell)

# %% [markdown]
# The GRU's is `dh = dh_new * z`, to which the part through the gates is added in the last line.

# %%
show_source(gru_cell, only="backward")

# %% [markdown]
# Both pass the checker, with random gradients into both outputs (and `c'` is an output, too: a backward
# that forgets `dstate["c"]` would look right in most tests).

# %%
x, state, weights = draw(
    (2, 3), {"h": (2, 4), "c": (2, 4)}, {"weight_x": (3, 16), "weight_h": (4, 16), "bias": 16}
)
print(check_vjp(lstm_cell, lstm_cell.backward, [x, state, weights]))

# %% [markdown]
# ## An experiment: the same gradient again
#
# The measurement of notebook 6, for every cell: random inputs, a random gradient of norm 1 at the
# last step, and its norm (over $h$ and $c$ together) at each step back. All are freshly initialised as
# the package does it; for the LSTM we set the forget bias to 0, 1, 3. You will see five lines. Predict
# their order.

# %% tags=["picture"] alt="Norm of the gradient over 100 steps back on a logarithmic axis for a fresh RNN, GRU and LSTM with forget bias 0, 1 and 3: RNN, GRU and LSTM with bias 0 vanish, bias 1 falls more slowly, bias 3 stays level."
CELLS = {"rnn": (rnn, rnn_cell), "lstm": (lstm, lstm_cell), "gru": (gru, gru_cell)}
UNITS, INPUTS, STEPS = 64, 16, 100


def fresh(kind, *, forget_bias=None, dtype=np.float64):
    """One layer's weights as recurrent.init draws them."""
    config = recurrent.RecurrentConfig(2, kind, n_embd=INPUTS, n_hidden=UNITS, n_layer=1)
    (weights,) = recurrent.init(config, np.random.default_rng(0), dtype)["layers"]
    if forget_bias is not None:
        weights["bias"][UNITS : 2 * UNITS] = forget_bias
    return weights


def caches_of(kind, weights, x):
    """The cell's caches, step by step, from a state of zeros."""
    h = np.zeros((len(x), UNITS))
    state, caches = ({"h": h, "c": h} if kind == "lstm" else h), []
    for t in range(x.shape[1]):
        state, cache = CELLS[kind][1](x[:, t], state, weights)
        caches.append(cache)
    return caches


def norms_by_lag(kind, caches, dh, dc=None):
    """The norm of the state's gradient by steps back, a mean over the batch."""
    d = {"h": dh, "c": np.zeros_like(dh) if dc is None else dc} if kind == "lstm" else dh
    norms = []
    for cache in reversed([*caches, None]):
        if cache is not None:
            _, d, _ = CELLS[kind][1].backward(d, cache)
        parts = d.values() if kind == "lstm" else [d]
        norms.append(np.sqrt(sum((p**2).sum(-1) for p in parts)).mean())
    return np.array(norms)


rng = np.random.default_rng(2)
x, dh = rng.standard_normal((8, STEPS, INPUTS)), rng.standard_normal((8, UNITS))
dh /= np.linalg.norm(dh, axis=-1, keepdims=True)

flow = {}
for name, kind, bias in (
    ("RNN", "rnn", None),
    ("GRU", "gru", None),
    ("LSTM, b = 0", "lstm", 0),
    ("LSTM, b = 1", "lstm", 1),
    ("LSTM, b = 3", "lstm", 3),
):
    flow[name] = norms_by_lag(kind, caches_of(kind, fresh(kind, forget_bias=bias), x), dh)
gradient_flow(flow, along="time", title="A gradient on its way back, before any training")

# %% [markdown]
# **Gates by themselves help little.** A fresh GRU and an LSTM with a forget bias of 0 keep about half of
# their memory a step, and a half to the power of 100 is hardly more than what the RNN has left. What makes
# the difference is a gate that *stands open*: each unit of forget bias lifts the line by orders of
# magnitude, and at 3 it is level. The architecture offers the road; the bias opens it.
#
# Is it really the road? For $b = 3$ we send a gradient into $c$ at the last step, once through the whole
# backward, and once multiplied by the forget gates alone.

# %% tags=["picture"] alt="For an LSTM with forget bias 3, the norm of the whole gradient and that along the forget gates alone over 100 steps back: they begin together, then the road falls to about a hundredth while the whole stays level."
caches = caches_of("lstm", fresh("lstm", forget_bias=3), x)
road, d = [1.0], dh
for cache in reversed(caches):
    forget = cache.saved[4]  # (B, K), the f of lstm_cell's cache
    d = d * forget
    road.append(np.linalg.norm(d, axis=-1).mean())
whole = norms_by_lag("lstm", caches, np.zeros_like(dh), dh)
print("after 20 steps back: whole", f"{whole[20]:.2f},", "road alone", f"{road[20]:.2f}")
gradient_flow({"whole": whole, "the road alone": np.array(road)}, along="time", title="LSTM, b = 3")

# %% [markdown]
# At first they fall together: what arrives has come along the road. After some steps they part. The
# road falls as its gates say, a few per cent a step, while the whole stays level and at the far end
# even grows: at every step a little of the gradient leaves the road for the fields, from gate to
# gate, and some of it comes back. So the road is not all there is, but it keeps the rest supplied. And
# an LSTM's gradient can explode, too. It is clipped like any other.

# %% [markdown]
# ## An experiment: adding two numbers, far apart
#
# Hochreiter and Schmidhuber's own test (their experiment 4). The network reads 60 pairs (a random
# number from 0 to 1, a mark). Two of the marks are 1: one in the first half, one in the second. At the
# end it must say the sum of the two marked numbers. Always saying 1, the mean, costs a squared error of
# $2 \cdot \tfrac{1}{12} = 0.167$. To do better it must carry a number through noise.


# %%
def adding_problem(rng, batch, length):
    """x (B, T, 2), each step a number and a mark; the sum (B, 1) of the two marked numbers."""
    x = np.zeros((batch, length, 2), np.float32)
    x[..., 0] = rng.random((batch, length))
    rows = np.arange(batch)
    first, second = rng.integers(0, length // 2, batch), rng.integers(length // 2, length, batch)
    x[rows, first, 1] = x[rows, second, 1] = 1
    return x, (x[rows, first, 0] + x[rows, second, 0])[:, None]


def learn_to_add(*, kind, length, steps, units=32, lr=1e-2, seed=0):
    """Squared errors, step by step, of one layer and a linear read-out after the last step."""
    rng, layers = np.random.default_rng(seed), CELLS[kind][0]
    config = recurrent.RecurrentConfig(2, kind, n_embd=2, n_hidden=units, n_layer=1)
    params = {"layers": recurrent.init(config, rng)["layers"]}
    params["head"] = (rng.standard_normal((units, 1)) / np.sqrt(units)).astype(np.float32)
    optimizer, errors = Adam(lr), []
    memory = optimizer.init(params)
    for _ in track(range(steps), kind):
        x, total = adding_problem(rng, 64, length)
        (h, _), to_layers = layers(x, None, params["layers"])
        said, to_head = linear(h[:, -1], params["head"])
        error, to_error = mse(said, total)
        dh = np.zeros_like(h)
        dsaid, _ = mse.backward(np.float32(1), to_error)
        dh[:, -1], dhead, _ = linear.backward(dsaid, to_head)
        _, _, dlayers = layers.backward((dh, None), to_layers)
        grads = {"layers": dlayers, "head": dhead}
        clip_by_global_norm(grads, 1.0)
        optimizer.update(params, grads, memory)
        errors.append(error)
    return {"errors": np.array(errors)}


adding = {
    kind.upper(): keep(RUNS / f"add_{kind}.npz", learn_to_add, kind=kind, length=60, steps=600)[
        "errors"
    ]
    for kind in CELLS
}
for name, errors in adding.items():
    print(f"{name:5} mean squared error over the last 50 updates: {errors[-50:].mean():.4f}")

# %% [markdown]
# Look for two things in the picture: who leaves the dashed line, and *how*. Is it gradual?

# %% tags=["picture"] alt="Squared error on the adding problem over 600 updates for RNN, LSTM and GRU on a logarithmic axis: the RNN stays at 0.167; GRU and then LSTM fall off it suddenly to about a hundredth of it."
figure = new_figure(7.2, 4.0)
axes = figure.add_subplot(
    xlabel="update", ylabel="mean squared error", title="Adding two numbers out of 60", yscale="log"
)
for (name, errors), colour in zip(adding.items(), COLOURS, strict=False):
    smooth = np.convolve(errors, np.ones(15) / 15, "valid")
    axes.plot(np.arange(len(smooth)) + 15, smooth, color=colour, linewidth=1.6)
    axes.text(605, smooth[-1], name, color=colour, va="center")
axes.axhline(1 / 6, color=GREY, linewidth=0.9, linestyle="--")
axes.text(605, 1 / 6 * 1.35, "always 1", color=GREY, va="center", fontsize=9)
axes.set_xlim(0, 600)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# The RNN never finds out that there is anything to learn beyond the mean. The two gated ones sit on the
# same plateau for a while and then fall off it suddenly. A likely reason: once a little of the first
# number gets through, the gradient that comes back says how to let more through.
#
# Note who is first, with this seed. The fresh GRU's gradient was nearly as dead as the RNN's, and yet it
# learns before the LSTM. (One seed says that it can happen, not that it usually does.) So the gradient
# at the start is not the whole story. A gate can come to answer what is read: to open at a mark and to
# keep through noise. The simple network's matrix is the same at every step, mark or no mark.

# %% [markdown]
# ## An experiment: what the cells track
#
# Karpathy, Johnson and Fei-Fei (2015) found cells in a character LSTM that one could read: one that
# counts the position in a line, one that is on inside quotes, one for the depth of indentation. Do we
# find such cells? And, which is the harder question, how would we know that we have not just looked at
# 128 random signals until one fitted?
#
# The text is the source of Python's standard library. Twelve modules are held out.


# %%
def suitable(document):
    plain = document.text.isascii() and "\t" not in document.text and "/" not in document.name
    return plain and 10_000 < len(document.text) < 120_000


modules = [d for d in load_corpus("stdlib").documents if suitable(d)]
order = np.random.default_rng(0).permutation(len(modules))
held_out, training = [modules[i] for i in order[:12]], [modules[i] for i in order[12:]]
tokenizer = CharTokenizer.train([d.text for d in training])
train_ids, held_out_ids = (encode_documents(part, tokenizer) for part in (training, held_out))
print(f"{len(training)} modules, {len(train_ids):,} characters, to train on")
print("held out:", ", ".join(d.name for d in held_out[:6]))
print("     and:", ", ".join(d.name for d in held_out[6:]))

# %%
KINDS = {
    "short": {"n_hidden": 128, "steps": 1000, "block": 80, "lr": 8e-3},
    "long": {"n_hidden": 192, "steps": 5000, "block": 100, "lr": 6e-3},
}


def a_reader(form):
    """An LSTM with its first weights, and how it is trained in the short or the long form."""
    s = KINDS[form]
    model = LanguageModel.create(
        "lstm", tokenizer, seed=0, n_embd=32, n_hidden=s["n_hidden"], n_layer=1
    )
    every = 500 if form == "long" else 1000
    config = TrainConfig(
        steps=s["steps"], batch=16, block=s["block"], lr=s["lr"], eval_every=every,
        eval_batches=20, log_every=250, threads=2,
    )  # fmt: skip
    return model, config


model, settings = a_reader("short")
untrained = recurrent.init(model.config, np.random.default_rng(np.random.SeedSequence(0)))
result = train_or_load(model, (train_ids, held_out_ids), settings, RUNS / "lstm")
print(
    f"{model.n_parameters:,} parameters, {result.best_loss / np.log(2):.2f} bits per character held out"
)

# %% [markdown]
# ### What could be tracked
#
# Six things that can be computed exactly from the source, at every character, from what has been
# read *up to and including it*. Python's own `tokenize` knows about strings, comments and brackets.


# %%
def features(text):
    """{name: (N,) float}, what is true after each character of a Python source."""
    lines = io.StringIO(text).readlines()
    start = np.cumsum([0, *map(len, lines)])  # of each line
    position = np.concatenate([np.arange(len(line)) for line in lines])
    indent = [np.minimum(np.arange(len(s)) + 1, len(s) - len(s.lstrip(" "))) for s in lines]
    quotes, block, comment, depth = (np.zeros(len(text)) for _ in range(4))
    for token in tokenize.generate_tokens(io.StringIO(text).readline):
        kind = tokenize.tok_name[token.type]
        first, last = (start[row - 1] + column for row, column in (token.start, token.end))
        if kind == "STRING":  # from the opening quote to before the closing one
            inside = block if token.string.endswith(('"""', "'''")) else quotes
            inside[first : last - 1] = 1
        elif kind in ("FSTRING_START", "FSTRING_MIDDLE"):  # from Python 3.12 on
            quotes[first:last] = 1
        elif kind == "COMMENT":
            comment[first:last] = 1
        elif kind == "OP" and token.string in "([{":
            depth[first:] += 1
        elif kind == "OP" and token.string in ")]}":
            depth[first:] -= 1
    return {
        "position in the line": position.astype(float),
        "indentation": np.concatenate(indent).astype(float),
        "inside quotes": quotes,
        "inside a docstring": block,
        "inside a comment": comment,
        "depth of brackets": depth,
    }


PIECES, WARM, LENGTH = 6, 300, 4300  # of each module; the first WARM characters do not count


def pieces(values):
    """(PIECES, LENGTH, ...): stretches spread evenly over a module's characters."""
    starts = np.linspace(0, len(values) - LENGTH, PIECES).astype(int)
    return np.stack([values[start : start + LENGTH] for start in starts])


def cells_over(params, texts):
    """(N, K) float32: the cells' values after each character of the texts' pieces."""
    ids = np.concatenate([pieces(tokenizer.encode(text)) for text in texts])  # (B, T)
    (weights,) = params["layers"]
    h = np.zeros((len(ids), len(weights["weight_h"])), np.float32)
    state, cells = {"h": h, "c": h}, []
    for t in range(LENGTH):
        state, _ = lstm_cell(params["embedding"]["weight"][ids[:, t]], state, weights)
        cells.append(state["c"])
    return np.stack(cells[WARM:], axis=1).reshape(-1, h.shape[-1])


def features_over(texts):
    found = [features(text) for text in texts]
    return {
        name: np.concatenate([pieces(f[name])[:, WARM:].reshape(-1) for f in found])
        for name in found[0]
    }


def correlations(cells, feature):
    """(K,) Pearson's correlation of each cell with a feature."""
    cells, feature = cells - cells.mean(0), feature - feature.mean()
    return feature @ cells / np.sqrt((feature @ feature) * (cells**2).sum(0) + 1e-12)


# %% [markdown]
# ### Searching honestly
#
# The best of 128 correlations is large by luck alone, so it must not be reported from the text it
# was found in. We **choose** the cell on six of the held-out modules and **report** its correlation on
# the other six. And there are two controls:
#
# - *chance*: the same search with the feature shifted by about 20, 50 and 90 thousand characters, so
#   that it has nothing to do with the text any more, and the largest of what is found;
# - *untrained*: the same search in the same network before its first training step.
#
# Last, all cells together: a linear regression on the six modules, its correlation on the other six. It
# tells whether the network knows a thing that no single cell does.

# %%
choosing, reporting = [d.text for d in held_out[::2]], [d.text for d in held_out[1::2]]
facts_choosing, facts_reporting = features_over(choosing), features_over(reporting)


def search(params):
    """{feature: {"cell", "r" on the reporting modules, "chance", "all"}}"""
    here, there = cells_over(params, choosing), cells_over(params, reporting)
    table = {}
    for name, feature in facts_choosing.items():
        cell = int(np.abs(correlations(here, feature)).argmax())
        shifted = [np.roll(feature, by) for by in (20_003, 50_021, 90_001)]
        with_one = np.c_[here, np.ones(len(here), np.float32)]
        slopes = np.linalg.solve(with_one.T @ with_one, with_one.T @ feature)[:-1]
        table[name] = {
            "cell": cell,
            "r": round(float(correlations(there, facts_reporting[name])[cell]), 4),
            "chance": round(float(max(np.abs(correlations(here, s)).max() for s in shifted)), 4),
            "all": round(
                float(correlations((there @ slopes)[:, None], facts_reporting[name])[0]), 4
            ),
        }
    return table


tables = {"untrained": search(untrained), "trained": search(model.params)}
for form, table in tables.items():
    for name, row in table.items():
        print(f"{form:10} {name:21} cell {row['cell']:3}  r = {row['r']:+.2f}", end="")
        print(f"  chance {row['chance']:.2f}  all cells {row['all']:.2f}")

# %% [markdown]
# A longer training (5000 steps of a network with 192 cells, some minutes) is recorded: `make long
# NOTEBOOK=07` makes it again. Without the flag, the next cell reads its results from the file.

# %%
RECORD = Path("results/07_lstm_and_gru.json")
if LONG:
    long_model, long_settings = a_reader("long")
    long_result = train_or_load(
        long_model, (train_ids, held_out_ids), long_settings, RUNS / "lstm_long"
    )
    made = {
        "command": "make long NOTEBOOK=07",
        "python": platform.python_version(),
        "numpy": np.__version__,
        "seconds of training": round(long_result.seconds),
    }
    bits = long_result.best_loss / np.log(2)
    record = {
        "made": made,
        "bits per character": round(bits, 3),
        "table": search(long_model.params),
    }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")
record = json.loads(RECORD.read_text(encoding="utf-8"))
tables["trained longer (recorded)"] = record["table"]
print("; ".join(f"{name}: {value}" for name, value in record["made"].items()))
print(record["bits per character"], "bits per character")

# %% [markdown]
# In the picture, a full dot is the chosen cell's correlation on the modules it was *not* chosen on (its
# size; the sign is arbitrary). An open dot is what all cells together know. The grey bar reaches up to
# the best of all cells by chance.

# %% tags=["picture"] alt="For six features of Python source, the held-out correlation of the best single cell and of all cells together, for the untrained, trained and longer trained LSTM, with grey bars for chance: training moves most dots to the right, and for most features all cells together know more than one."
figure = new_figure(8.2, 5.2)
axes = figure.add_subplot(
    xlabel="size of the correlation, on modules not searched",
    title="What the cells track",
    xlim=(0, 1),
)
names = list(facts_choosing)
for k, (form, table) in enumerate(tables.items()):
    y = np.arange(len(names)) + 0.22 * (k - 1)
    colour = (GREY, COLOURS[0], COLOURS[1])[k]
    chance = [table[n]["chance"] for n in names]
    axes.barh(y, chance, height=0.2, color="0.88", label="chance" if k == 0 else None)
    axes.plot([abs(table[n]["r"]) for n in names], y, "o", color=colour, label=f"one cell, {form}")
    axes.plot(
        [table[n]["all"] for n in names], y, "o", mfc="none", mec=colour, label=f"all, {form}"
    )
axes.set_yticks(range(len(names)), names)
axes.invert_yaxis()
axes.grid(axis="x", color="0.92")
axes.set_axisbelow(True)
axes.spines[["top", "right"]].set_visible(False)
figure.legend(loc="outside lower center", ncols=3, frameon=False, fontsize=9)
figure

# %% [markdown]
# Read it soberly.
#
# - **Chance is not small.** The bar is what the best cell reaches for a feature that has nothing to do
#   with the text. Indentation and docstrings change so slowly that a shifted copy correlates by
#   accident. A dot has to be well to the right of its bar before it says anything.
# - **An untrained network tracks something, too.** A newline pushes its random cells somewhere, and
#   they drift back: that alone is a fair clock for the position in the line. What training added is the
#   distance between the grey dot and the coloured one, not the whole of the coloured one.
# - **What the network knows is mostly spread.** For most features the open dot is well to the right of
#   the full one of its colour. The depth of brackets was the exception when we ran it: there one
#   trained cell does about as well as all together. A cell that one can read is a lucky exception,
#   then as now: of their whole networks, Karpathy et al. showed a handful, and wrote that most cells
#   have no such reading.
# - **Longer training (of a wider network) makes cells clearer**, most of all those for quotes and
#   docstrings, which last long. The one for the indentation it did not: there all cells together know
#   about as much as they did, and no single one as much.
# - The same cell may be chosen twice (look at the numbers above). Then it tracks neither of the two
#   features as such, but something that goes with both.
#
# ### Looking at one
#
# Here is an excerpt of a module from the reporting half, each character on the colour of the cell that
# was chosen for "inside quotes". (Purple is positive, orange negative, and which is which is
# arbitrary.) When we ran it, the same cell was also the one for the depth of brackets, with a larger
# correlation; the cell prints whether it is with you. So see where it changes, and where it is wrong:
# what else than quotes makes it change?


# %% tags=["picture"] alt="Twelve lines of Python source, each character on the colour of one LSTM cell's value, which tends to change inside string literals."
def excerpt(text, fact, *, lines=12, widest=84):
    """Where to find so many lines, none too long, about a third of which is true of a fact."""
    rows = io.StringIO(text).readlines()[:-1]
    start = np.cumsum([0, *map(len, rows)])
    found = [
        (abs(fact[start[k] : start[k + lines]].mean() - 0.35), start[k], start[k + lines])
        for k in range(len(rows) - lines)
        if max(map(len, rows[k : k + lines])) <= widest
    ]
    return min(found)[1:]


READ = 8000  # characters of the module that are looked at
chosen = {name: row["cell"] for name, row in tables["trained"].items()}
number = int(np.argmax([features(text)["inside quotes"][:READ].mean() for text in reporting]))
source = reporting[number][:READ]
traces = gate_traces(model.params, tokenizer.encode(source), model.config)
first, last = excerpt(source, features(reporting[number])["inside quotes"])
print(held_out[1::2][number].name, "from character", first)

cell = chosen["inside quotes"]
print(f"cell {cell} was chosen for:", ", ".join(n for n, c in chosen.items() if c == cell))
cell_text(
    np.tanh(traces["cell"][first:last, cell]),
    source[first:last],
    title=f'cell {cell}, chosen for "inside quotes"',
)

# %% [markdown]
# Now the cell for the position in the line, on a scale of its own. Look at the starts of the lines and
# follow one to its end.

# %% tags=["picture"] alt="The same twelve lines on the colour of the cell chosen for the position in the line: its value drifts along each line and jumps at the newline."
cell = chosen["position in the line"]
values = traces["cell"][first:last, cell]
limit = float(np.abs(values).max())
cell_text(
    values,
    source[first:last],
    label="cell",
    limit=limit,
    title=f'cell {cell}, chosen for "position in the line"',
)

# %% [markdown]
# Now the gates that make it so: the beginning of the same excerpt, three of the chosen cells. A dark
# forget gate keeps, a white one wipes. A cell remembers where its forget gate is dark **and** its input
# gate does not overwrite it; it is heard where its output gate is dark. Take the middle row of each
# picture and find how it knows that a new line has begun.

# %% tags=["picture"] alt="Heat maps of forget, input and output gates and of the memory of three chosen cells beneath the characters of an excerpt of Python source."
three = {name: chosen[name] for name in ("inside quotes", "position in the line", "indentation")}
window = slice(first, min(first + 60, last))
gate_maps({name: values[window] for name, values in traces.items()}, source[window], three)

# %% [markdown]
# When we ran it, the position's cell was a clock that one could have built by hand: wiped in the white
# space at the start of a line (a white forget gate), then adding a little at every character. And
# the cell for the indentation ran down along the line and opened its output gate at the newline, where
# the next indentation has to be predicted. On your version of Python the text differs a little, so that
# other cells may be chosen, and others may be as clear or less so.
#
# How long do the cells remember, then? We take each cell's median forget gate, its typical step, as a
# half-life. With the start's bias of 1 it is about two characters.

# %% tags=["picture"] alt="Histogram of the 128 cells' half-lives in characters on a logarithmic axis, untrained and trained: untrained all are near two, trained they spread from below one to tens of characters."
figure = new_figure(6.6, 3.4)
axes = figure.add_subplot(
    xlabel="half-life of the memory, in characters", ylabel="cells", xscale="log"
)
start_traces = gate_traces(untrained, tokenizer.encode(source[:2000]), model.config)
for (name, found), colour in zip(
    (("untrained", start_traces), ("trained", traces)), (GREY, COLOURS[0]), strict=True
):
    typical = np.median(found["forget"], axis=0).astype(np.float64)
    half_life = np.log(2) / -np.log(np.minimum(typical, 1 - 1e-7))
    axes.hist(half_life, bins=np.geomspace(0.1, 1000, 41), color=colour, alpha=0.7, label=name)
    print(
        f"{name:10} half-lives: median {np.median(half_life):.1f}, longest {half_life.max():.0f} characters"
    )
axes.xaxis.set_major_formatter("{x:g}")
axes.legend(frameon=False)
axes.set_title("How long each cell remembers")
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# Training has spread the cells over time scales. Some forget at once, some keep for much longer than they
# did, and nobody told them which. The simple network's matrix can have many time scales, too, in the
# sizes of its eigenvalues. What it cannot do is *change* them with what is read: keep all through a
# line, and drop it at the newline. These are medians; the gates in the picture before moved at every
# character.

# %% [markdown]
# ## Exercises
#
# **1. Choosing the forget bias** (easy). A cell should still hold half of its memory after `steps` steps,
# if nothing but the bias speaks. Which bias is that?


# %% tags=["exercise"] exercise="forget_bias"
def forget_bias(steps):
    """The b with sigmoid(b) ** steps = 1/2."""
    raise NotImplementedError("exercise 1: the forget bias for a half-life")


# %% tags=["check", "raises-exception"] exercise="forget_bias"
for steps in (1, 7, 100):
    bias = np.zeros(4)
    answer = forget_bias(steps)
    assert answer is not None, "a number was expected, got None: is the return missing?"
    bias[1] = answer
    weights = {"weight_x": np.zeros((1, 4)), "weight_h": np.zeros((1, 4)), "bias": bias}
    state = {"h": np.zeros((1, 1)), "c": np.ones((1, 1))}
    for _ in range(steps):
        state, _ = lstm_cell(np.zeros((1, 1)), state, weights)
    left = state["c"].item()
    assert np.isclose(left, 0.5), (
        f"after {steps} steps {left:.4f} of the memory is left, not a half: solve f ** steps = 1/2 for f, "
        "then sigmoid(b) = f for b"
    )
print("right; for 100 steps it is", round(float(forget_bias(100)), 2))

# %% [markdown]
# **2. Searching honestly** (easy). Given the cells' values on two halves of a text, find the cell that
# correlates most with a feature, and say how much. The check gives you cells that are pure noise.


# %% tags=["exercise"] exercise="search"
def best_cell(here, feature_here, there, feature_there):
    """(number of the cell, its correlation as it should be reported).

    here, there : (N, K) and (M, K), the cells over two texts; the features (N,) and (M,)
    """
    raise NotImplementedError("exercise 2: choose and report")


# %% tags=["check", "raises-exception"] exercise="search"
reported = []
for seed in range(30):
    here, there, feature_here, feature_there = draw((60, 200), (60, 200), 60, 60, seed=seed)
    answer = best_cell(here, feature_here, there, feature_there)
    assert isinstance(answer, tuple), f"(cell, correlation) was expected, got {answer!r}"
    cell, r = answer
    assert abs(r) <= 1, f"a correlation lies between -1 and 1, got {r}"
    reported.append(r)
assert np.mean(np.abs(reported)) < 0.2, (
    f"in pure noise you report correlations of {np.mean(np.abs(reported)):.2f} on average: the best of 200 "
    "is large where it was sought. Report it from text that had no part in the choice"
)
here, there, feature_here, feature_there = draw((60, 9), (60, 9), 60, 60, seed=1)
here[:, 4], there[:, 4] = -2 * feature_here + 1, -3 * feature_there
here[:, 2] *= 50  # loud, and still noise
cell, r = best_cell(here, feature_here, there, feature_there)
assert cell == 4, (
    f"cell 4 is minus twice the feature and one, but cell {cell} was chosen: mind the sign, and that a "
    "correlation divides by each cell's own spread (cell 2 is loud and says nothing)"
)
assert np.isclose(r, -1), f"its correlation is -1 (with its sign), got {r:.3f}"
print("right")

# %% [markdown]
# **3. Silence a cell** (medium). Does the network *use* the cell that it was chosen for? Return a copy of
# the model's parameters in which one cell has no effect on anything: neither on the prediction nor on
# any other cell. Do it by cutting off those who *read* the cell's $h$, not what drives it: it may go on
# computing whatever it likes. The original must stay as it is. The check then prints what it costs to
# silence each of the chosen cells, and a cell drawn at random.


# %% tags=["exercise"] exercise="silence"
def silenced(params, cell):
    """A copy of the parameters of a one-layer LSTM model in which one cell's h reaches nothing."""
    raise NotImplementedError("exercise 3: cut a cell off")


# %% tags=["check", "raises-exception"] exercise="silence"
ids = held_out_ids[None, 2000:6001]


def nats(params):
    return recurrent.loss(params, ids=ids[:, :-1], targets=ids[:, 1:], config=model.config)[0][0]


given = copy.deepcopy(model.params)  # whatever the answer does to it, the model is safe
before = nats(given)
cut = silenced(given, 7)
assert isinstance(cut, dict), f"parameters, a dict, were expected, got {cut!r}"
assert nats(given) == before, "the original was changed: copy before you write"
driven = cut["layers"][0]["weight_x"].copy()
for gate in range(4):  # whatever drives the cell now, nobody may hear of it
    driven[:, gate * 128 + 7] += 1.0
upset = cut | {"layers": [cut["layers"][0] | {"weight_x": driven}]}
assert np.isclose(nats(upset), nats(cut), atol=1e-6), (
    "the cell can still be heard. Its h is read in two places: row 7 of weight_h, by all gates of the "
    "next step, and column 7 of the head's weight"
)
others = np.delete(np.arange(128), 7)
for key in ("weight_x", "bias"):
    same = np.array_equal(cut["layers"][0][key], given["layers"][0][key])
    assert same, f"{key} need not change: it drives the cell, it does not read it"
assert np.array_equal(cut["head"]["weight"][:, others], given["head"]["weight"][:, others]), (
    "the other cells must go on as before"
)
drawn = {"a random cell": int(np.random.default_rng(0).integers(128))}
for name, cell in (chosen | drawn).items():
    cost = (nats(silenced(given, cell)) - before) / np.log(2)
    print(f"without cell {cell:3} ({name}): {cost:+.4f} bits per character")

# %% [markdown]
# **4. A coupled gate** (hard). Tie writing to forgetting, $c' = f \odot c + (1 - f) \odot g$: three blocks of
# weights instead of four (Greff et al. 2017, arXiv:1503.04069, who found that it does as well). The forward is
# given; write the backward. `dout` is a tuple of the gradients of $h'$ and of $c'$, either may be all
# that counts.


# %%
def coupled_cell(x, h, c, weight_x, weight_h, bias):
    """(h', c'), and a cache. Weights (C, 3K), (K, 3K), (3K,): forget f, candidate g, output o."""
    a_f, a_g, a_o = np.split(x @ weight_x + h @ weight_h + bias, 3, axis=-1)
    f, g, o = 1 / (1 + np.exp(-a_f)), np.tanh(a_g), 1 / (1 + np.exp(-a_o))
    c_new = f * c + (1 - f) * g
    return (o * np.tanh(c_new), c_new), (x, h, c, f, g, o, c_new, weight_x, weight_h)


# %% tags=["exercise"] exercise="coupled"
def coupled_cell_backward(dout, cache):
    """(dx, dh, dc, dweight_x, dweight_h, dbias) from dout = (dh', dc')."""
    raise NotImplementedError("exercise 4: the backward of coupled_cell")


# %% tags=["check", "raises-exception"] exercise="coupled"
arguments = draw((2, 3), (2, 4), (2, 4), (3, 12), (4, 12), 12)
answer = coupled_cell_backward(*coupled_cell(*arguments))
assert isinstance(answer, tuple), f"a tuple of six gradients was expected, got {answer!r}"
assert len(answer) == 6, f"six gradients were expected, one for each argument, got {len(answer)}"
report = check_vjp(coupled_cell, coupled_cell_backward, arguments)
assert report.verdict == "pass", f"not yet the derivative of coupled_cell:\n{report}"
print("right")

# %% [markdown]
# ## Where to go next
#
# - [Attention](08_attention.ipynb): instead of carrying everything in a state, look back at what was
#   read. The road then has length 1.
# - [lstm_cell](../docs/derivations/lstm_cell.md) and [gru_cell](../docs/derivations/gru_cell.md), derived
#   step by step; [the recurrent models](../docs/models/recurrent.md), equations beside their lines.
# - [The Transformer block](09_transformer_block.ipynb): the residual stream is the same road again, through
#   layers instead of time. [Training a GPT](10_training_a_gpt.ipynb) compares all models on one text.
#
# Papers: Hochreiter and Schmidhuber 1997 (*Long short-term memory*); Gers, Schmidhuber and Cummins 2000
# (*Learning to forget*); Cho et al. 2014 (arXiv:1406.1078, the GRU is their eq. 5 to 8); Jozefowicz,
# Zaremba and Sutskever 2015 (*An empirical exploration of recurrent network architectures*); Karpathy,
# Johnson and Fei-Fei 2015 (arXiv:1506.02078); Greff et al. 2017 (arXiv:1503.04069).
