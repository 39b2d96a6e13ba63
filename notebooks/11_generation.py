# %% [markdown]
# # 11. Generation
#
# A language model gives a probability to every next token. It does not say which one to take. **Why is
# the likeliest text a bad text, how do people draw a better one, and what does each new token cost?**
# We look at the ways to cut the tail off a distribution (temperature, top-k, top-p, min-p), at beam
# search and why it repeats itself, and at the keys and values that a GPT keeps so as not to compute
# them again.
#
# You need the GPT of [notebook 9](09_transformer_block.ipynb) and the bits per byte of
# [notebook 1](01_counting.ipynb). Reading takes about 45 minutes, running about 45 seconds.

# %%
import math
import time
from pathlib import Path

import numpy as np

import minillm
from minillm.data.prepare import prepare
from minillm.generation import beam_search, generate
from minillm.generation.beam import Finished
from minillm.generation.sampling import draw, keep_min_p, keep_top_k, keep_top_p, scale_temperature
from minillm.metrics import evaluate
from minillm.models import gpt, gpt_step
from minillm.models.language_model import LanguageModel
from minillm.models.next_token import distributions
from minillm.models.ngram import NGram
from minillm.training import TrainConfig, WorkerPool, keep, track, train_or_load
from minillm.training.flops import counted, counting
from minillm.viz.generation_view import GenerationView
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, new_figure
from minillm.viz.surprise import SurpriseView

RUNS = Path("runs/11_generation")

text = prepare("topics")  # Python's help pages, in characters
tokenizer = text.tokenizer
model = LanguageModel.create(
    "gpt",
    tokenizer,
    seed=0,
    n_layer=2,
    n_head=4,
    n_kv_head=2,
    n_embd=96,
    position="rotary",
    block_size=128,
)
config = TrainConfig(
    steps=450, batch=8, block=128, lr=4e-3, final_lr=1e-4, eval_every=0, threads=2, log_every=50
)
train_or_load(model, (text.train, None), config, RUNS / "gpt")
table = NGram.train(text.train, tokenizer, order=6, smoothing="modified-kneser-ney")
for name, one in (("gpt", model), ("kneser-ney", table)):
    print(f"{name}: {evaluate(one, text.split.validation[-1:]).bits_per_byte:.2f} bits per byte")

# %% [markdown]
# Two models: a GPT trained for the seconds that a notebook has, and the Kneser-Ney table of 6-grams,
# which is the better one at this length ([notebook 10](10_training_a_gpt.ipynb) shows when that turns).
# All that follows asks a model for one thing only, the next token's scores, and works with both.
#
# ## The mathematics
#
# ### Cutting the tail
#
# Let $z_i$ be the scores (logits) of the $V$ tokens, and $p_i = e^{z_i} / \sum_j e^{z_j}$. Drawing from
# $p$ itself is the honest way: texts come out as often as the model thinks they should. Its trouble is
# the tail. Most of the $V$ tokens are nonsense at most places; each has a tiny probability, which the
# model never learnt well, but together they may have a tenth. Draw a hundred tokens, and ten are from
# there; and each stays in the context for all that follow.
#
# - **Temperature** $\tau$ divides the scores: $p_i \propto e^{z_i / \tau}$. It keeps the tokens' order
#   and changes their ratios: $p_i / p_j$ becomes $(p_i / p_j)^{1/\tau}$. $\tau \to 0$ is the greedy
#   choice, $\tau \to \infty$ a blind guess.
# - **Top-k** (Fan et al. 2018) keeps the $k$ likeliest, whatever their probabilities.
# - **Top-p** (Holtzman et al. 2020, eq. 2) keeps the *nucleus*: the fewest tokens, likeliest first, whose
#   probabilities together reach $p$.
# - **Min-p** (Nguyen et al. 2024) keeps what is at least $m$ times as likely as the likeliest:
#   $p_i \ge m \max_j p_j$.
#
# What is left is made to sum to 1 again, and drawn from.
#
# ### Searching for the likeliest
#
# The probability of a continuation $y$ is a product, so its logarithm is a sum:
# $\log p(y) = \sum_t \log p(y_t \mid y_{<t})$. **Beam search** keeps the $b$ best unfinished
# continuations at each step. Here $t$ counts the new tokens, and $n$ is how many
# there are. Two things follow from the formula alone.
#
# *Length bias.* Every factor is at most 1, so a longer continuation never has a higher $\log p$ than
# its own beginning. The likeliest continuation is a short one. Hence the correction: compare
# $\log p(y) / n^\alpha$ (a mean for $\alpha = 1$).
#
# *Repetition.* Take a model that sees $c$ tokens. There are at most $V^c$ contexts, and a greedy choice
# depends on the context alone: sooner or later a context comes back, and from then on **everything comes
# back**. A search over long continuations does not escape. With $\alpha = 1$ the best continuation
# looks for the best *mean* of $\log p$, and once it has found a cycle of cheap transitions, every
# further round of it is as cheap as the last, while leaving costs bits.
#
# ### What a token costs
#
# A GPT's step needs the keys and values of all tokens before. They do not change when a token is added,
# because each position sees only those before it. So they are kept, in what the code calls `past`
# (elsewhere: the KV cache). With $L$ layers, $H$ heads of queries, $G$ heads of keys and of values, $D$
# channels each, $B$ texts and $s$ bytes a number, $T$ tokens need
#
# $$ 2 \, L \, B \, G \, D \, T \, s \quad \text{bytes} . $$
#
# One token then costs $2N$ FLOPs for $N$ weights in matrices and $4 L H D\, t$ for attention over $t$
# tokens. Without `past` all $t$ tokens go through the model again: $t$ times as much. A text of $T$
# tokens costs about $2NT$ with it and $N T^2$ without.
#
# **Grouped heads** (Ainslie et al. 2023) let $H / G$ query heads share one head of keys and values. The
# FLOPs hardly change, the bytes shrink by $H/G$.

# %% [markdown]
# ## The code
#
# Each filter is a function of one row of scores; what it leaves out gets $-\infty$.

# %%
show_source(scale_temperature)

# %%
show_source(keep_top_p)

# %%
show_source(keep_min_p)

# %% [markdown]
# The draw inverts the cumulative distribution: one uniform number, and the token in whose stretch it
# falls.

# %%
show_source(draw)

# %% [markdown]
# Beam search is a loop over batches of texts. `model.reorder` keeps the rows of `past` that belong to
# the beams which survive.

# %%
show_source(beam_search)

# %%
show_source(Finished)

# %% [markdown]
# And here is attention for one new token. `views` are the kept keys and values; the new ones are written
# to their place, and the query meets them all. A reshape gives each group of queries its shared keys.

# %%
show_source(gpt_step._attend_row)

# %% [markdown]
# ## An experiment: what each way leaves
#
# First by hand. The view below generates one text; move the slider (or press the arrow keys) and watch
# two things: how the number of tokens that could come changes from place to place, and how often the one
# that was drawn was the likeliest.

# %% tags=["picture"] alt="A generated text with a slider; for each token bars of the ten likeliest candidates, before and after temperature and top-p."
GenerationView(table, "The ", max_new_tokens=80, temperature=0.9, top_p=0.9, seed=4)

# %% [markdown]
# Inside a word there is often one candidate only; at its beginning there are dozens. That is the case
# against top-k: any fixed $k$ is too large for the one place and too small for the other. The picture
# counts it. Each dot is a place in the test text: to the right, how open it is (the entropy of the
# model's distribution); upwards, how many tokens each rule keeps.

# %%
piece = text.split.test[-1].text[:600]
ids = tokenizer.encode(piece)
p_at = np.concatenate(list(distributions(table, ids)))  # (N, V)
entropy = -np.sum(p_at * np.log2(np.maximum(p_at, 1e-300)), axis=-1)  # (N,), bits
rules = {
    "top-k 10": lambda z: keep_top_k(z, 10),
    "top-p 0.9": lambda z: keep_top_p(z, 0.9),
    "min-p 0.1": lambda z: keep_min_p(z, 0.1),
}


def how_many(rule, temperature=1.0):
    """How many tokens a rule keeps at each place, (N,)."""
    rows = [scale_temperature(np.log(p), temperature) for p in p_at]
    return np.array([np.sum(rule(row) > -np.inf) for row in rows])


# %% tags=["picture"] alt="Tokens kept against entropy for three rules, at temperatures 1 and 2: top-k is level; top-p and min-p keep one token at certain places; at temperature 2 top-p keeps dozens where min-p keeps few."
figure = new_figure(9.4, 3.8)
panels = figure.subplots(1, 2, sharey=True)
for axes, temperature in zip(panels, (1.0, 2.0), strict=True):
    for (name, rule), colour in zip(rules.items(), COLOURS, strict=False):
        kept = how_many(rule, temperature)
        axes.plot(entropy, kept, ".", color=colour, markersize=4, alpha=0.6, label=name)
    axes.set(
        title=f"temperature {temperature:g}",
        yscale="log",
        xlabel="entropy of the next token (bits)",
    )
    axes.spines[["top", "right"]].set_visible(False)
panels[0].set_ylabel("tokens kept")
panels[0].set_yticks([1, 3, 10, 30, 100], ["1", "3", "10", "30", "100"])
panels[0].legend(frameon=False, markerscale=3)
figure

# %% [markdown]
# On the left, top-p and min-p both follow the model: one token where it is sure, many where it is not.
# They part on the right, at temperature 2. A high temperature lifts the tail; top-p then needs many more
# tokens to reach its share, just where they are worst. Min-p asks only how a token compares with the
# best one, and stays careful. (The order matters, too: here, as in Hugging Face's `generate`,
# temperature comes first. A program that cuts first and heats the rest has less of this trouble.)
#
# Now measure texts. Each way writes ten texts of 200 characters from the same prompt. Two numbers are
# computed for each way, without any judgement of taste:
#
# - **bits per character** that the text costs the model which wrote it: how likely it is;
# - **repetition**: the share of its 12-character pieces that stood in the same text before.
#
# The same is done to the test text, cut into pieces of the same length. Where does it stand?

# %%
PROMPT, LENGTH = "The ", 200
WAYS = {
    "greedy": {"greedy": True},
    "temperature 0.5": {"temperature": 0.5},
    "temperature 0.8": {"temperature": 0.8},
    "plain": {},
    "temperature 1.5": {"temperature": 1.5},
    "top-k 10": {"top_k": 10},
    "top-p 0.9": {"top_p": 0.9},
    "min-p 0.1": {"min_p": 0.1},
    "min-p 0.1, temp. 1.5": {"min_p": 0.1, "temperature": 1.5},
}


def bits_of(model, ids, begin):
    """Bits of each token from `begin` on."""
    return model.score(ids)[0][begin:] / math.log(2)


def repetition(ids, size=12):
    """The share of pieces of `size` tokens that have stood in the ids before."""
    pieces = [tuple(ids[i : i + size]) for i in range(len(ids) - size + 1)]
    return 1 - len(set(pieces)) / len(pieces)


def measure(name, count):
    """The mean bits per character and repetition of each way's texts, and the first text."""
    one, prompt = {"gpt": model, "kneser-ney": table}[name], tokenizer.encode(PROMPT)
    found = {}
    for way, settings in track(WAYS.items(), name):
        rows = []
        for seed in range(1 if settings.get("greedy") else count):
            new = generate(one, prompt, max_new_tokens=LENGTH, rng=seed, **settings)
            rows.append((bits_of(one, [*prompt, *new], len(prompt)).mean(), repetition(new)))
        found[way] = np.mean(rows, axis=0)
    (new, _), *_ = beam_search(one, prompt, beams=8, max_new_tokens=LENGTH)
    found["beam search, 8"] = np.array(
        [bits_of(one, [*prompt, *new], len(prompt)).mean(), repetition(new)]
    )
    test_ids = tokenizer.encode("".join(d.text for d in text.split.test))
    parts = np.array_split(test_ids[: LENGTH * 60], 60)
    found["people"] = np.mean([(bits_of(one, x, 0).mean(), repetition(x)) for x in parts], axis=0)
    return found


measured = {
    name: keep(RUNS / f"{name}.npz", measure, name=name, count=10) for name in ("gpt", "kneser-ney")
}
print("bits per character, repetition      gpt          kneser-ney")
for way in measured["gpt"]:
    (a, b), (c, d) = measured["gpt"][way], measured["kneser-ney"][way]
    print(f"{way:28} {a:8.2f} {b:7.1%} {c:10.2f} {d:7.1%}")

# %% tags=["picture"] alt="For ten ways of generating and two models, dots of bits per character and of repetition, with lines where people's text stands: greedy and beam search are far below in bits and far above in repetition; plain drawing is nearest to people."
ways = [way for way in measured["gpt"] if way != "people"]
figure = new_figure(9.4, 4.4)
panels = figure.subplots(1, 2, sharey=True)
for name, colour, marker in (("gpt", COLOURS[0], "o"), ("kneser-ney", COLOURS[1], "s")):
    for column, axes in enumerate(panels):
        scale = (1, 100)[column]
        values = [measured[name][way][column] * scale for way in ways]
        axes.plot(values, range(len(ways)), marker, color=colour, label=name)
        people = measured[name]["people"][column] * scale
        axes.axvline(people, color=colour, linewidth=1, linestyle=("--", ":")[name == "kneser-ney"])
panels[0].set_yticks(range(len(ways)), ways)
panels[0].invert_yaxis()
panels[0].set_xlabel("bits per character, by the model itself")
panels[1].set_xlabel("repeated pieces of 12 characters (%)")
panels[1].legend(frameon=False, loc="center right", title="lines: people's text")
for axes in panels:
    axes.grid(axis="y", color="0.92")
    axes.set_axisbelow(True)
    axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# People's text is not likely. It costs a model far more bits than anything that searches for likely
# text, and a little more than what the model draws by itself, for people know more than the model
# does. Plain drawing comes near to it. Every cut moves to the left of plain drawing: it trades some of
# the variety for fewer accidents, low temperatures and min-p most. (All this at a temperature of at
# most 1.) At temperature 1.5 the text is noise, and min-p brings it back. (A setting means little
# across models: what is right for a large model, whose tail is better, can be too careful or too bold
# for a small one.)
#
# And the texts that are likeliest, the greedy ones and those of the search, repeat themselves by far the
# most. Holtzman et al. (2020)
# called this *degeneration*. Let us look at it.
#
# ## An experiment: searching for the likeliest
#
# The same prompt, with more and more beams. The score is the mean of $\log p$ per token; a wider search
# should find a better one. Read the texts, too.

# %%
prompt = tokenizer.encode(PROMPT)
found = {}
for beams in (1, 2, 4, 8, 16):
    (new, score), *_ = beam_search(model, prompt, beams=beams, max_new_tokens=LENGTH)
    found[beams] = new
    print(f"{beams:2} beams: {-score / math.log(2):.2f} bits a character")
    print("   ", repr(tokenizer.decode(new))[:90])

# %% [markdown]
# It does as we derived. The wider the search, the better the score, and the text turns in a circle; a wide
# search may find one as small as a single blank. The next picture follows the cost along three texts: the
# one that eight beams found, one that was drawn, and one that people wrote. (One of each kind: how the
# line goes up and down says more here than its height, whose averages are above.)

# %% tags=["picture"] alt="Bits per character along three texts of 200 characters, as means over 28: people's text and the drawn one go up and down; the text of the beam search is a level line far below."
drawn = generate(model, prompt, max_new_tokens=LENGTH, rng=0)
people = tokenizer.encode(text.split.test[-1].text[100:])[: LENGTH + len(prompt)]
lines = {
    "people": bits_of(model, people, len(prompt)),
    "drawn": bits_of(model, np.concatenate([prompt, drawn]), len(prompt)),
    "8 beams": bits_of(model, np.concatenate([prompt, found[8]]), len(prompt)),
}
figure, window = new_figure(7.6, 3.6), 28
axes = figure.add_subplot(
    xlabel="characters generated", ylabel=f"bits per character,\nmean of {window}"
)
for (name, bits), colour in zip(lines.items(), (COLOURS[1], COLOURS[0], "black"), strict=True):
    means = np.convolve(bits, np.ones(window) / window, "valid")
    axes.plot(np.arange(window, len(bits) + 1), means, color=colour)
    axes.annotate(f" {name}", (len(bits), means[-1]), color=colour, va="center")
axes.set_ylim(0, None)
axes.margins(x=0.1)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# The circle has its price, and it stays the same. How long is a round, and what does each one cost?

# %%
late = found[8][80:180]  # where it has settled; the last ones need not lead on
periods = (p for p in range(1, 51) if np.array_equal(late[p:], late[:-p]))
period = next(periods, None)
if period is None:
    print("no circle of up to 50 characters")
else:
    print(f"a round of {period} characters: {tokenizer.decode(late[:period])!r}")
    rounds = [lines["8 beams"][at : at + period].sum() for at in range(80, 181 - period, period)]
    print(" ".join(f"{bits:.1f}" for bits in rounds[:12]), "bits a round")

# %% [markdown]
# Nothing in a score of probabilities makes a tenth round worse than a first; that people would not
# write it is not what the score asks. (Larger models even become surer with each repetition, because
# they have learnt to copy: [notebook 14](14_looking_inside.ipynb) finds the heads that do it.) Here
# are the two generated texts coloured by surprise; point at a character of the circle to see how sure
# the model is of it.

# %% tags=["picture"] alt="Two generated texts coloured by surprise: the one that was drawn has dark characters in every line, the circle of the beam search has none."
prompted = {"drawn": drawn, "8 beams": found[8]}
SurpriseView(
    {"gpt": model}, "\n\n".join(PROMPT + tokenizer.decode(new) for new in prompted.values())
)

# %% [markdown]
# Now the length. Let a newline end a continuation, and search for the best one with several powers
# $\alpha$ of the length in the score.

# %%
newline = int(tokenizer.encode("\n")[0])
print("alpha  length  log p    the best of 8 beams")
for alpha in (0.0, 0.5, 0.75, 1.0, 1.5):
    (new, score), *_ = beam_search(
        model, prompt, beams=8, max_new_tokens=100, length_penalty=alpha, stop_id=newline
    )
    length = len(new) + 1  # the newline counts
    print(f"{alpha:5.2f} {length:7} {score * length**alpha:6.1f}    {tokenizer.decode(new)[:60]!r}")

# %% [markdown]
# With $\alpha = 0$ the search takes what ends soonest; with a large $\alpha$ whatever goes on longest.
# Neither is a good text: the length is decided by $\alpha$, not by the content. In translation, where the
# source says how much there is to say, beam search does well. In open writing there is nothing to search
# for, and one draws.
#
# ## An experiment: the price of a token
#
# First, is it the same? The scores of a step with `past` are those of the whole model on the whole text,
# up to rounding.

# %%
ids = tokenizer.encode(text.split.test[-1].text[:128])
past = model.start(1)
stepped = np.array([model.step(past, ids[None, i : i + 1])[0] for i in range(len(ids))])
with minillm.backend("numpy"):
    whole, _ = gpt.forward(model.params, ids=ids[None], config=model.config)
print(f"largest difference of a score: {np.abs(stepped - whole[0]).max():.1e}")
kept, c = past.inner["heads"], model.config
print(f"past: {kept.shape}, {kept.nbytes:,} bytes")
print(f"2 L B G D T s = {2 * c.n_layer * c.kv_heads * c.head_size * c.block_size * 4:,} bytes")

# %% [markdown]
# Now the cost at a place $t$ of the text, with `past` and without. We take a somewhat larger model, whose
# weights are random: neither FLOPs nor seconds depend on them. FLOPs are counted as in
# [notebook 10](10_training_a_gpt.ipynb), by arrays that keep a tally.

# %%
LARGE = {"n_layer": 4, "n_head": 8, "n_embd": 128, "position": "rotary", "block_size": 1024}
PLACES = [2**k for k in range(4, 11)]


def new_model(groups=8):
    return LanguageModel.create("gpt", tokenizer, n_kv_head=groups, **LARGE)


def flops_at(one, t):
    """FLOPs of scoring the token after t: (with past, without)."""
    text_ids, config, params = np.zeros((1, t), np.int32), one.config, counted(one.params)
    with minillm.backend("numpy"), counting() as without:
        gpt.forward(params, ids=text_ids, config=config)
    past = gpt_step.start(one.params, config, 1)
    gpt_step.step(one.params, past, ids=text_ids[:, 1:], config=config)
    with counting() as with_past:
        gpt_step.step(params, past, ids=text_ids[:, :1], config=config)
    return with_past.total, without.total


large = new_model()
flops = np.array([flops_at(large, t) for t in PLACES])  # (places, 2)
for t, (with_past, without) in zip(PLACES, flops, strict=True):
    print(
        f"t = {t:5}: {with_past:12,} FLOPs with past, {without:15,} without: x {without / with_past:,.0f}"
    )


# %% tags=["timing"]
def milliseconds_at(one, t, repeats=5):
    """The same in milliseconds, the median of some tries."""
    text_ids, config, params = np.zeros((1, t), np.int32), one.config, one.params
    past, tries = gpt_step.start(params, config, 1), []
    gpt_step.step(params, past, ids=text_ids[:, 1:], config=config)
    for _ in range(repeats):
        past["length"] = t - 1  # forget the last one again
        began = time.perf_counter()
        gpt_step.step(params, past, ids=text_ids[:, :1], config=config)
        middle = time.perf_counter()
        gpt.forward(params, ids=text_ids, config=config)
        tries.append((middle - began, time.perf_counter() - middle))
    return 1000 * np.median(tries, axis=0)


with WorkerPool(1):  # the matrix products on one core
    times = np.array([milliseconds_at(large, t) for t in track(PLACES, "places")])
for t, (with_past, without) in zip(PLACES, times, strict=True):
    print(
        f"t = {t:5}: {with_past:6.2f} ms with past, {without:7.2f} ms without: x {without / with_past:,.0f}"
    )

# %% tags=["picture", "timing"] alt="FLOPs and milliseconds of one new token against its place, with and without past, on logarithmic axes: with past nearly level, without it rising in proportion or faster."
figure = new_figure(9.0, 3.6)
for axes, rows, unit in zip(
    figure.subplots(1, 2), (flops, times), ("FLOPs", "milliseconds"), strict=True
):
    for column, name, colour in ((1, "everything again", COLOURS[1]), (0, "with past", COLOURS[0])):
        axes.plot(PLACES, rows[:, column], "o-", color=colour, label=name, markersize=4)
    axes.set(
        xscale="log",
        yscale="log",
        xlabel="place in the text (tokens)",
        ylabel=f"{unit} for a token",
    )
    axes.set_xticks(PLACES, [str(t) for t in PLACES])
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False)
figure

# %% [markdown]
# With `past` a token at the end costs a few times what one at the beginning does: only its attention
# grows with the place, and it starts from next to nothing. Without, it costs in proportion to the place,
# and so the whole text its square. The seconds follow the FLOPs from afar. In a step on a single row each
# weight is fetched for one multiply-add only. In a large model the fetching takes longer than the
# arithmetic: **generation is bound by memory**. (In one as small as ours, the calls of Python and NumPy
# take their part as well.) So let the same fetches and calls serve several texts, one row each:

# %% tags=["timing"]
print("texts   ms a step   ms a token")
with WorkerPool(1):
    for batch in (1, 4, 16):
        past, tries = gpt_step.start(large.params, large.config, batch), []
        for _ in range(12):
            row, began = np.zeros((batch, 1), np.int32), time.perf_counter()
            gpt_step.step(large.params, past, ids=row, config=large.config)
            tries.append(1000 * (time.perf_counter() - began))
        print(f"{batch:5} {np.median(tries):11.2f} {np.median(tries) / batch:12.3f}")

# %% [markdown]
# A step for several texts takes longer than for one, but by far not as many times as there are texts.
# That is why a server answers many people with one batch. What the texts cannot share is `past`: each
# has its own, and all of it has to be fetched for each token. Here grouped heads come in: the same model
# with eight heads of queries that share eight, four, two heads of keys and values, or one.

# %%
print("G  bytes of past at 1024 tokens   FLOPs of the last token   parameters")
for groups in (8, 4, 2, 1):
    one = new_model(groups)
    past = one.start(1)
    print(
        f"{groups}  {past.inner['heads'].nbytes:28,} {flops_at(one, 1024)[0]:25,} {one.n_parameters:12,}"
    )

# %% [markdown]
# The bytes fall with $G$; the FLOPs hardly do, since every query still meets every key. What does it mean
# for models that people use? The picture computes $2LGDTs$ at 4,096 tokens, with 2 bytes a number, from
# published shapes: GPT-2 XL (Radford et al. 2019; it reads only 1,024 tokens, but let it), LLaMA 2 of 7
# and of 70 billion parameters (Touvron et al. 2023, arXiv:2307.09288; the larger one has grouped heads),
# and the last one as it would be without groups.

# %% tags=["picture"] alt="Bars of the gigabytes that keys and values of 4,096 tokens take in four published shapes: LLaMA 2 70B takes about one gigabyte with 8 groups and ten without."
SHAPES = {  # name: (layers, heads of keys, channels a head)
    "GPT-2 XL": (48, 25, 64),
    "LLaMA 2 7B": (32, 32, 128),
    "LLaMA 2 70B, 8 groups": (80, 8, 128),
    "LLaMA 2 70B, were there 64": (80, 64, 128),
}
sizes = [2 * L * G * D * 4096 * 2 / 1e9 for L, G, D in SHAPES.values()]
figure = new_figure(7.6, 2.4)
axes = figure.add_subplot(xlabel="keys and values of one text of 4,096 tokens (GB)")
bars = axes.barh(list(SHAPES), sizes, color=[COLOURS[0]] * 3 + ["0.75"])
axes.bar_label(bars, [f"{size:.2f}" for size in sizes], padding=3, fontsize=9)
axes.invert_yaxis()
axes.margins(x=0.1)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# ## Exercises
#
# ### 1. The bytes of a past
#
# Compute how many bytes `start` sets aside for the keys and values, from the configuration alone.


# %% tags=["exercise"] exercise="past_bytes"
def past_bytes(config, batch, bytes_each):
    """Bytes of the keys and values of `batch` texts of block_size tokens; config: a GPTConfig."""
    raise NotImplementedError("exercise 1: write past_bytes")


# %% tags=["check", "raises-exception"] exercise="past_bytes"
for layers, heads, groups, channels, block, batch in (
    (1, 2, 2, 8, 5, 1),
    (3, 6, 2, 24, 7, 4),
    (2, 4, 1, 16, 9, 3),
):
    shape = {"n_layer": layers, "n_head": heads, "n_kv_head": groups, "n_embd": channels}
    for dtype in (np.float32, np.float64):
        one = LanguageModel.create("gpt", tokenizer, dtype=dtype, block_size=block, **shape)
        wanted = one.start(batch).inner["heads"].nbytes
        came = past_bytes(one.config, batch, np.dtype(dtype).itemsize)
        assert came == wanted, (
            f"{shape}, {batch} texts of {block} tokens in {np.dtype(dtype)}: {wanted:,} bytes are "
            f"kept, {came:,} came. Hint: there are keys and values, of kv_heads heads, in each layer"
        )
print("well done: every byte accounted for")

# %% [markdown]
# ### 2. The nucleus
#
# Write top-p on probabilities: which tokens are kept? The fewest, likeliest first, whose sum reaches
# `share`. The token with which it is reached belongs to them.


# %% tags=["exercise"] exercise="nucleus"
def nucleus(p, share):
    """Which tokens are kept: bool (V,). p (V,) sums to 1, no two are equal; share in (0, 1]."""
    raise NotImplementedError("exercise 2: write nucleus")


# %% tags=["check", "raises-exception"] exercise="nucleus"
for seed in range(50):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(rng.integers(2, 30), 0.5))
    share = rng.uniform(0.05, 0.99)
    came, wanted = np.asarray(nucleus(p, share)), keep_top_p(np.log(p), share) > -np.inf
    assert (came.shape, came.dtype) == (p.shape, bool), f"bool {p.shape} expected, got {came!r}"
    assert np.array_equal(came, wanted), (
        f"share {share:.3f}: {came.sum()} tokens with {p[came].sum():.3f} together were kept, "
        f"expected {wanted.sum()} with {p[wanted].sum():.3f}. Hint: the sum must reach the share, "
        "and without its last token it must not"
    )
print("well done: the fewest that reach the share")

# %% [markdown]
# ### 3. Typical tokens
#
# People's text is neither the likeliest nor a random one: its surprise is about what the model expects.
# **Locally typical sampling** (Meister et al. 2023, arXiv:2202.00666) makes that a rule. Let $H$ be the
# entropy of $p$. Sort the tokens by $|{-\log p_i} - H|$, the nearest to the entropy first, and keep the
# fewest whose probabilities together reach `share`. The likeliest token may be left out!


# %% tags=["exercise"] exercise="typical"
def typical(p, share):
    """Which tokens are kept: bool (V,). p (V,) > 0 sums to 1; share in (0, 1)."""
    raise NotImplementedError("exercise 3: write typical")


# %% tags=["check", "raises-exception"] exercise="typical"
left_out = 0
for seed in range(50):
    rng = np.random.default_rng(seed)
    p = rng.dirichlet(np.full(rng.integers(3, 30), 0.7)) * 0.999 + 1e-4
    p /= p.sum()
    share = rng.uniform(0.1, 0.9)
    came = np.asarray(typical(p, share))
    assert (came.shape, came.dtype) == (p.shape, bool), f"bool {p.shape} expected, got {came!r}"
    far = np.abs(-np.log(p) + np.sum(p * np.log(p)))  # from the entropy
    assert p[came].sum() >= share - 1e-12, f"{p[came].sum():.3f} were kept, {share:.3f} are wanted"
    farthest = np.flatnonzero(came)[np.argmax(far[came])]
    assert p[came].sum() - p[farthest] < share, (
        f"too many: without token {farthest}, the least typical of those kept, there would still be "
        f"{p[came].sum() - p[farthest]:.3f} of {share:.3f}"
    )
    if not came.all():
        assert far[came].max() <= far[~came].min(), (
            "a token was left out that is nearer to the entropy than one that was kept. Hint: sort "
            "by |-log p - H|, not by p"
        )
    left_out += not came[p.argmax()]
assert left_out > 0, "the likeliest token was never left out"
print(f"well done; the likeliest token was left out {left_out} times in 50")

# %% [markdown]
# ### 4. Two models, one distribution
#
# **Speculative sampling** (Leviathan et al. 2023, arXiv:2211.17192, algorithm 1) lets a small model $q$
# draw a few tokens and a large one $p$ check them all at once, which costs about as much as one step. A
# token $x$ from $q$ is accepted with some probability $a_x$; if it is not, one is drawn from a
# distribution $r$ instead. Find $a$ and $r$ such that what comes out is **exactly** distributed as $p$,
# and as much as possible is accepted. What comes out as token $x$ has the probability
# $q_x a_x + (1 - \sum_j q_j a_j)\, r_x$.


# %% tags=["exercise"] exercise="speculative"
def speculative(p, q):
    """(a (V,), r (V,)): how likely each token is accepted, and what is drawn from if it is not.

    p, q : (V,), both sum to 1, q > 0. Where everything is accepted, r is p.
    """
    raise NotImplementedError("exercise 4: write speculative")


# %% tags=["check", "raises-exception"] exercise="speculative"
for seed in range(50):
    rng = np.random.default_rng(seed)
    V = int(rng.integers(2, 12))
    p, q = rng.dirichlet(np.ones(V)), rng.dirichlet(np.ones(V)) * 0.99 + 0.01 / V
    if seed == 0:
        p = q.copy()
    a, r = (np.asarray(x, float) for x in speculative(p, q))
    assert np.all((a >= 0) & (a <= 1)), f"a must hold probabilities, got {a.round(3)}"
    assert np.all(r >= 0), f"r must hold probabilities, got {r.round(3)}"
    assert np.isclose(r.sum(), 1), f"r must sum to 1, got {r.round(3)}, which sum to {r.sum():.3f}"
    out = q * a + (1 - np.sum(q * a)) * r
    assert np.allclose(out, p), (
        f"what comes out is off p by up to {np.abs(out - p).max():.3f}. Hint: where q is above p, "
        "too many come; what is missing elsewhere is what r must make up for"
    )
    accepted, most = np.sum(q * a), np.minimum(p, q).sum()
    assert np.isclose(accepted, most), f"{accepted:.3f} is accepted, {most:.3f} would be possible"
small, big = (np.concatenate(list(distributions(one, ids))) for one in (table, model))
share = np.minimum(small, big).sum(-1).mean()
print(f"well done; the GPT would accept {share:.0%} of what the table of 6-grams draws")

# %% [markdown]
# ## Where to go next
#
# - [Notebook 12](12_matmul_on_a_gpu.ipynb): the memory traffic of a matrix product, drawn; the reason
#   why one token at a time is slow.
# - [Notebook 14](14_looking_inside.ipynb): what a model does with a text that repeats itself.
# - [Training, scoring, writing](../docs/training.md): generation from the command line.
# - The code: [sampling](../minillm/generation/sampling.py), [beam search](../minillm/generation/beam.py),
#   [a GPT's step](../minillm/models/gpt_step.py).
# - The derivations of what a step is made of: [softmax](../docs/derivations/softmax.md),
#   [multi_head_attention](../docs/derivations/multi_head_attention.md).
# - Papers: Fan, Lewis & Dauphin 2018 (top-k, arXiv:1805.04833); Holtzman et al. 2020 (top-p and
#   degeneration, arXiv:1904.09751); Nguyen et al. 2024 (min-p, arXiv:2407.01082); Wu et al. 2016 (length
#   normalisation, arXiv:1609.08144); Shazeer 2019 (one head of keys and values, and memory as the limit,
#   arXiv:1911.02150); Ainslie et al. 2023 (grouped heads, arXiv:2305.13245).
