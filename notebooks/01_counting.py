# %% [markdown]
# # 1. Counting
#
# Read a text, count what follows what, and predict the next character by the counts. **How good can
# a model be that only counts, and what should it say of what it has never seen?** The second half of
# the question took fifty years. Its best answer, Kneser and Ney's, sounds like a trick: a short
# context should not ask how *often* a token came, but in how many different *places*. We measure
# where that helps, token by token.
#
# You need conditional probability and logarithms. Reading takes about 50 minutes, running about 15
# seconds.

# %%
import itertools
import json
import os
import platform
import re
import time
from collections import Counter
from pathlib import Path

import numpy as np

from minillm.data import encode_documents, load_corpus, split_documents
from minillm.generation import generate
from minillm.metrics import evaluate
from minillm.models.ngram import NGram
from minillm.models.ngram_counts import count_ngrams
from minillm.models.ngram_kneser_ney import discounts
from minillm.models.ngram_simple import SimpleNGram, three_discounts
from minillm.tokenizers import CharTokenizer, WordTokenizer
from minillm.training import track
from minillm.viz.backoff import back_off_figure, back_off_profile
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, fonts, new_figure, printable, spread
from minillm.viz.surprise import SurpriseView

LONG = bool(os.environ.get("MINILLM_LONG"))

# %% [markdown]
# The text is Python's own manual, the pages behind `help("if")`, which every Python brings along.
# (It differs a little between Python versions, so your numbers may differ from a friend's in the
# second digit.) Everything is counted in the training part. The test part is looked at only to
# measure.

# %%
corpus = load_corpus("topics")
split = split_documents(corpus.documents)
tokenizer = CharTokenizer.train([d.text for d in split.train])
train_ids = encode_documents(split.train, tokenizer)
test_ids = encode_documents(split.test, tokenizer)
V = tokenizer.vocab_size
print(corpus)
print(split)
print(f"{V} tokens: {V - 2} characters, one for unknown characters, one for a document's end")

# %% [markdown]
# ## The mathematics
#
# ### The probability of a text
#
# A language model gives a probability to every text $w_1 w_2 \dots w_N$. The chain rule of
# probability takes it apart, and nothing is lost or assumed by that:
#
# $$p(w_1 \dots w_N) = \prod_{i=1}^{N} p(w_i \mid w_1 \dots w_{i-1}).$$
#
# But a context as long as a book was never seen before, so it cannot be counted. An **n-gram
# model** keeps the last $n-1$ tokens of it and forgets the rest:
#
# $$p(w_i \mid w_1 \dots w_{i-1}) \approx p(w_i \mid \underbrace{w_{i-n+1} \dots w_{i-1}}_{c}).$$
#
# Write $c(cw)$ for how often the token $w$ followed the context $c$ in the training text, and
# $c(c\,\cdot) = \sum_w c(cw)$. (Two uses of one letter, as in the papers: before a bracket $c$ is a
# count, elsewhere the context.) The obvious estimate is the relative frequency,
#
# $$p_{\text{ML}}(w \mid c) = \frac{c(cw)}{c(c\,\cdot)} .$$
#
# It is called maximum likelihood because no other n-gram model gives the *training* text a higher
# probability (Lagrange: maximise $\sum_{cw} c(cw) \log p(w\mid c)$ with $\sum_w p(w \mid c) = 1$).
#
# ### Bits per byte, and perplexity
#
# How do we say how good a model is? A token of probability $p$ can be written in $-\log_2 p$ bits
# (Shannon 1948), so a text costs a model $-\sum_i \log_2 p(w_i \mid \dots)$ bits. Two averages are in
# use:
#
# $$\text{bits per byte} = \frac{-\sum_i \log_2 p(w_i \mid \dots)}{\text{bytes of the text in UTF-8}},
# \qquad
# \text{perplexity} = 2^{\,-\frac1N \sum_i \log_2 p(w_i \mid \dots)} .$$
#
# Bits per byte is the size that a perfect compressor built on the model would reach: 8 means no gain
# at all, and it does not care how the text is cut into tokens. Perplexity is the number of equally
# likely tokens that would be as hard to choose from. It depends on the tokens, so it only compares
# models over the same ones ([notebook 2](02_tokens.ipynb) shows how it misleads).
#
# ### Three ideas for what was not seen
#
# $p_{\text{ML}}$ of an n-gram that was never counted is zero, its logarithm is minus infinity, and
# one such token makes a whole book impossible. Every cure takes some probability from what was seen
# and gives it to what was not. They differ in *how much* they take, and in *how they share it out*:
#
# 1. **Interpolate** with the shorter context $c'$ ($c$ without its first token), as it has been seen
#    more often. Jelinek and Mercer (1980):
#
#    $$p(w \mid c) = \lambda\, p_{\text{ML}}(w \mid c) + (1-\lambda)\, p(w \mid c').$$
#
# 2. **Discount**: take the same $D$ from every count that is not zero, and give away exactly what
#    that frees. With $N_{1+}(c\,\cdot)$ the number of different tokens seen after $c$, once or more
#    (Ney, Essen and Kneser 1994):
#
#    $$p(w \mid c) = \frac{\max(c(cw) - D,\, 0)}{c(c\,\cdot)} +
#    \frac{D\, N_{1+}(c\,\cdot)}{c(c\,\cdot)}\; p(w \mid c').$$
#
# 3. **Count places, not times**: in the *shorter* contexts, replace $c(c'w)$ by
#    $N_{1+}(\cdot\, c'w)$, the number of different tokens seen *before* $c'w$ (Kneser and Ney 1995).
#
# Each formula asks the next shorter context with the same formula, and so on down. A context that
# was never seen leaves everything to the shorter one; below the empty context lies the uniform
# distribution, $1/V$ for each of the $V$ tokens of the vocabulary. The older ways that we shall
# compare with are these:
#
# - *add one* (Laplace): $(c(cw) + 1) / (c(c\,\cdot) + V)$, no shorter context asked;
# - *Good-Turing* (Good 1953): a count $r$ is worth $r^* = (r+1)\, n_{r+1} / n_r$, where $n_r$ n-grams
#   have the count $r$; what is free goes to all unseen tokens alike;
# - *Katz* (1987): $r^*$ for small counts, and the shorter context is asked only for what was not seen;
# - *Witten-Bell* (1991): the first formula, with
#   $1 - \lambda = N_{1+}(c\,\cdot) / (c(c\,\cdot) + N_{1+}(c\,\cdot))$, the rate of new tokens after $c$.
#
# Why the third? Take the second formula, and ask of the lower distribution what we asked of maximum
# likelihood: that on the training text things come out right. Sum $p(w \mid c)$ over all contexts
# $c = vc'$, each as often as it occurs. The result should be how often $c'w$ occurs:
#
# $$c(c'w) = \sum_v c(vc'\cdot)\, p(w \mid vc')
# = \underbrace{\sum_{v:\, c(vc'w)>0} \bigl(c(vc'w) - D\bigr)}_{c(c'w)\, -\, D\, N_{1+}(\cdot\, c'w)}
# + \; p(w \mid c')\; D \underbrace{\sum_v N_{1+}(vc'\cdot)}_{N_{1+}(\cdot\, c'\,\cdot)} .$$
#
# (A $D$ of at most 1, so that no count that was seen falls below zero. $N_{1+}(\cdot\, c'\,\cdot)$
# counts the different pairs of a token before $c'$ and one after it.) The counts $c(c'w)$ cancel, and
# so does $D$. What is left says what the shorter context must be:
#
# $$p(w \mid c') = \frac{N_{1+}(\cdot\, c'w)}{N_{1+}(\cdot\, c'\,\cdot)} .$$
#
# So the trick is no trick: *what is mixed in after discounting must be in proportion to the number
# of places where something was taken off.*
#
# ## The code
#
# ### A bigram table
#
# Contexts of one token first: a table of $V \times V$ counts, one line of NumPy. The picture shows
# its most frequent characters: a row is the character before, a column the one that follows. Look
# for the rows with one dark field (after `q`: hardly any choice) and for those that are pale
# throughout (after a space: almost anything).

# %% tags=["picture"] alt="A heat map of the probability of each character after each other one; a few fields per row are dark, most are pale."
table = np.zeros((V, V), np.int64)  # (V, V), [before, after]
np.add.at(table, (np.append(tokenizer.end_id, train_ids[:-1]), train_ids), 1)
bigram = table / np.maximum(table.sum(1, keepdims=True), 1)  # rows sum to 1

letters = [*" etaoinsrhldcumpfgybwvkxjzq", *"._\"'(\n"]
letters = [c for c in letters if len(tokenizer.encode(c)) == 1]
ids = tokenizer.encode("".join(letters))

figure = new_figure(7.2, 6.6)
axes = figure.add_subplot(xlabel="the next character", ylabel="the character before")
image = axes.imshow(np.sqrt(bigram[np.ix_(ids, ids)]), cmap="Blues", vmin=0, vmax=1)
names = [printable(c) for c in letters]
axes.set_xticks(range(len(ids)), names, fontsize=9, family=fonts())
axes.set_yticks(range(len(ids)), names, fontsize=9, family=fonts())
axes.tick_params(length=0)
bar = figure.colorbar(image, ax=axes, shrink=0.6, label="probability")
bar.set_ticks(
    np.sqrt([0, 0.01, 0.1, 0.25, 0.5, 1]), labels=["0", "1 %", "10 %", "25 %", "50 %", "100 %"]
)
figure

# %% [markdown]
# This table is a language model. From 2-grams on, though, a table of all $V^n$ contexts is wasteful:
# nearly all of it would be zero. So contexts live in a dictionary. This class is the whole of it, for
# any order and for five smoothings. `count` is one loop over the text, `places` turns times into
# places; `p_after` is the formula "what is mine, plus a weight times the shorter context's".

# %%
show_source(SimpleNGram)

# %% [markdown]
# A smoothing is a function of the counts after one context. It returns what each token has of its
# own, and the weight of the shorter context. Here is that of modified Kneser-Ney: three discounts,
# for counts of 1, of 2, and of 3 or more. (The other smoothings stand beside it in
# [ngram_simple.py](../minillm/models/ngram_simple.py), and Katz's model below them.)

# %%
show_source(three_discounts)

# %% [markdown]
# By hand, on a text of eleven characters. After `a` came `b` twice, `c`, `d` and the end once each.

# %%
small = CharTokenizer.train("abracadabra")
small_ids = [*small.encode("abracadabra").tolist(), small.end_id]
settings = {"order": 2, "vocab_size": small.vocab_size, "end_id": small.end_id}
a, b, r = small.encode("abr").tolist()
for smoothing in ("mle", "witten-bell", "absolute-discounting", "kneser-ney"):
    model = SimpleNGram(small_ids, **settings, smoothing=smoothing)
    after_a = [model.p(w, (a,)) for w in range(small.vocab_size)]
    print(
        f"{smoothing:21} p(b|a) = {after_a[b]:.3f}   p(r|a) = {after_a[r]:.3f}   "
        f"sum over all = {sum(after_a):.6f}"
    )

# %% [markdown]
# `r` never came after `a`: relative frequency calls it impossible, the others do not, and every row
# still sums to 1.
#
# The dictionary is slow. [`NGram`](../minillm/models/ngram.py) does the same by sorting integers, all
# n-grams of a length at once. A fast version is only worth something if it gives the same numbers:
# here are both, on a piece of the training text, asked about the test text.

# %%
piece = train_ids[:2000]
for smoothing in ("witten-bell", "absolute-discounting", "kneser-ney", "modified-kneser-ney"):
    settings = {"order": 4, "vocab_size": V, "end_id": tokenizer.end_id}
    slow = SimpleNGram(piece.tolist(), **settings, smoothing=smoothing)
    fast = NGram.train(piece, tokenizer, order=4, smoothing=smoothing)
    text = [tokenizer.end_id, *test_ids[:40].tolist()]
    p_slow = [slow.p(text[i], tuple(text[:i])) for i in range(1, len(text))]
    p_fast = np.exp(fast.log_p(text[1:]))
    print(f"{smoothing:22} largest difference {np.abs(np.array(p_slow) - p_fast).max():.0e}")

# %% [markdown]
# ## An experiment: longer contexts, without smoothing
#
# How far does relative frequency get? We count n-grams of each length in the training part and
# measure three things: the bits per byte of the *training* text, how many of the *test* text's
# n-grams were ever seen, and the test text's bits per byte.
#
# The picture puts the first two together. Look how the model says that it understands its own text
# better and better, while less and less of a new text is known to it at all.

# %% tags=["picture"] alt="Two lines over the order: the training text's bits per byte fall towards zero, and so does the share of the test text's n-grams that were seen."
orders = list(range(1, 10))
train_bits, seen = [], []
for n in track(orders, "relative frequency"):
    model = NGram.train(train_ids, tokenizer, order=n, smoothing="mle")
    train_bits.append(evaluate(model, split.train).bits_per_byte)
    seen.append((model.matched(test_ids) == n).mean())
    result = evaluate(model, split.test)
    print(
        f"order {n}: training {train_bits[-1]:.3f} bits per byte, test {result.bits_per_byte:.3f}"
    )
print(result.impossible)


figure = new_figure(7.2, 3.8)
axes = figure.add_subplot(xlabel="order n (tokens)", ylabel="training text (bits per byte)")
axes.plot(orders, train_bits, "o-", color=COLOURS[0])
axes.set_ylim(0)
other = axes.twinx()
other.plot(orders, 100 * np.array(seen), "s--", color=COLOURS[1])
other.set_ylim(0, 104)
other.set_ylabel("test n-grams seen in training (%)", color=COLOURS[1])
axes.yaxis.label.set_color(COLOURS[0])
for each in (axes, other):
    each.spines["top"].set_visible(False)
figure

# %% [markdown]
# Test bits per byte are infinite from 2-grams on: one character that never followed another, and the
# whole text is "impossible". The last line names the first such place. A language model has to be
# asked about new text, so we need the three ideas.
#
# ## An experiment: what is a count worth?
#
# An n-gram was seen once. How often should we expect it in another text of the same size? Not once:
# much of what occurs once is chance, and will not come again. Church and Gale (1991) measured it:
# cut a text in two halves, and look in the second for what the first has counted.
#
# We do it for pairs of words. Half the paragraphs are counted, the other half is looked at, with the
# paragraphs dealt out at random, ten times; and then with whole documents dealt out, so that the two
# halves speak of different things. The dashed line is "a count is worth itself". The orange diamonds
# are what the discounts of modified Kneser-Ney leave of a count; they come from the first half
# *alone*, by a formula of how many pairs were seen once, twice, three and four times.

# %% tags=["picture"] alt="Held-out counts against training counts: both measured lines run below the diagonal, at a distance that grows slowly; what the discount formula says lies close to them."
words = WordTokenizer.train([d.text for d in split.train])
documents = [d.text for d in split.train]
paragraphs = [p for text in documents for p in re.findall(r"(?s).+?(?:\n\s*\n|\Z)", text)]


def held_out_counts(units, *, most=6, repeats=10, seed=0):
    """How often pairs seen r = 1 to `most` times in one half come in the other half."""
    rng = np.random.default_rng(seed)
    kept, many = np.zeros(most), np.zeros(5)
    texts = [[*words.encode(text).tolist(), words.end_id] for text in units]
    for _ in range(repeats):
        order = rng.permutation(len(texts))
        halves = [Counter(), Counter()]
        size = [0, 0]
        for place in order:  # to the half that has less so far
            half = int(size[0] > size[1])
            halves[half].update(itertools.pairwise([words.end_id, *texts[place]]))
            size[half] += len(texts[place])
        first, second = halves
        pairs = [[pair for pair, count in first.items() if count == r] for r in range(1, most + 1)]
        scale = size[0] / size[1]
        kept += [scale * np.mean([second[pair] for pair in some]) for some in pairs]
        many += [0, *(len(some) for some in pairs[:4])]
    return kept / repeats, many / repeats


same, counts_of_counts = held_out_counts(paragraphs)
other, _ = held_out_counts(documents)
d, _ = discounts(counts_of_counts.round().astype(int).tolist())
print("pairs seen once, twice, three, four times:", *counts_of_counts[1:].round().astype(int))
print("discounts by the formula: " + ", ".join(f"D{i} = {x:.2f}" for i, x in enumerate(d, 1)))
for r in (1, 2, 3):
    print(
        f"seen {r} times: {same[r - 1]:.2f} times in the other half's paragraphs, "
        f"{other[r - 1]:.2f} times in other documents, {r - d[r - 1]:.2f} by the formula"
    )

figure = new_figure(6.4, 4.6)
axes = figure.add_subplot(
    xlabel="times seen in one half", ylabel="times seen in the other half (mean)"
)
r = np.arange(1, 7)
axes.plot([0, 6.4], [0, 6.4], "--", color=GREY, linewidth=1)
axes.text(5.0, 5.25, "worth itself", color=GREY, rotation=36, fontsize=9, ha="center")
axes.plot(r, same, "o-", color=COLOURS[0], label="measured: paragraphs dealt out")
axes.plot(r, other, "s-", color=COLOURS[2], label="measured: documents dealt out")
axes.step(
    r, r - np.take(d, np.minimum(r, 3) - 1), "D", color=COLOURS[1], label="the formula: r − D(r)"
)
axes.set(xlim=(0, 6.5), ylim=(0, 6.5))
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# Three things to see. What was seen once is worth about a third. From there on the loss grows much
# more slowly than the count, so *subtracting a constant* comes closer than *multiplying* by one. And
# from 1 to 2 to 3 the loss does grow, which is why Chen and Goodman gave counts of 1, of 2, and of 3
# or more a discount each. The formula (their eq. 26, from the counts of counts $n_1 \dots n_4$) was
# never shown the other half:
#
# $$Y = \frac{n_1}{n_1 + 2 n_2}, \qquad D_1 = 1 - 2Y\frac{n_2}{n_1}, \qquad D_2 = 2 - 3Y\frac{n_3}{n_2},
# \qquad D_{3+} = 3 - 4Y\frac{n_4}{n_3} .$$
#
# The less the other half resembles the first, the more should be taken off; dealing out documents
# instead of paragraphs shows it.
#
# ## An experiment: often, or in many places?
#
# The second idea left open *which* distribution the freed probability follows. The picture has a
# point for every word of the manual: to the right, how often it occurs; upward, after how many
# different words. (A "word" here keeps the space before it, drawn as `␣`, and a bracket or a line's
# end is one too. So `The` without `␣` is mostly the one at the beginning of a line.) The further a
# word lies below the crowd, the more it is tied to a few contexts.

# %% tags=["picture"] alt="A scatter plot of every word's number of occurrences against the number of different words before it, both logarithmic; a few labelled words lie far below the crowd."
word_ids = encode_documents(split.train, words)
(unigrams, _) = count_ngrams(word_ids, order=2, vocab_size=words.vocab_size, end_id=words.end_id)
often, places = unigrams.raw, unigrams.left
tied = []  # of the words after 1, 2, 3, ... different ones, the most frequent
for many in range(1, 8):
    some = [int(i) for i in np.flatnonzero(places == many)]
    some = [i for i in some if words.token_name(i).strip().isalpha()]
    tied += sorted(some, key=lambda i: -often[i])[:1]
for i in tied:
    after = f"{places[i]} different word{'s' if places[i] > 1 else ''}"
    print(f"{words.token_name(i)!r} occurs {often[i]} times, after {after}")

figure = new_figure(7.2, 4.8)
axes = figure.add_subplot(
    xlabel="occurrences", ylabel="different words before it", xscale="log", yscale="log"
)
real = places > 0
rng = np.random.default_rng(0)
shake = np.exp(rng.uniform(-0.12, 0.12, (2, real.sum())))  # whole numbers would hide one another
axes.plot(
    often[real] * shake[0], places[real] * shake[1], ".", color=COLOURS[0], alpha=0.25, markersize=4
)
for i in (*tied, *words.encode(" the is of")):
    if places[i]:
        axes.plot(often[i], places[i], "o", color=COLOURS[1], markersize=4)
        axes.annotate(
            printable(words.token_name(int(i))),
            (often[i], places[i]),
            xytext=(6, -3),
            textcoords="offset points",
            fontsize=9,
            family=fonts(),
        )
axes.plot([1, often.max()], [1, often.max()], "--", color=GREY, linewidth=1)
axes.text(110, 190, "always after a new word", color=GREY, fontsize=9, rotation=40, ha="center")
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# A model that has never seen the context at hand would be wrong to propose one of the labelled words
# that lie low, however frequent they are: after a *known* context they are predicted well already,
# and after a *new* one they hardly ever come. In Chen and Goodman's example the word is `Francisco`.
#
# ## An experiment: the way down
#
# Now all three ideas at work. Each picture follows one prediction of a model of order 5 from its
# longest context to the shortest, and on to the uniform distribution. Left: the context at each
# length, and what was counted after it. Middle: what that length gives of its own, and what the
# shorter one is multiplied by. Right: which share of the final probability comes from which length.
#
# First a context that was often seen, followed by what usually follows.

# %% tags=["picture"] alt="The path of modified Kneser-Ney for a common context: the longest context gives nearly all of the probability."
counts = count_ngrams(train_ids, order=5, vocab_size=V, end_id=tokenizer.end_id)
smoothings = ("modified-kneser-ney", "absolute-discounting", "katz")
five = {s: NGram.train(train_ids, tokenizer, order=5, smoothing=s) for s in smoothings}


def way_down(smoothing, context, token):
    return back_off_figure(
        five[smoothing], tokenizer.encode(context), tokenizer.encode(token)[0], counts=counts
    )


way_down("modified-kneser-ney", "stat", "e")

# %% [markdown]
# Then a context that was seen, but never with this character after it. The longest context gives
# nothing of its own: it only says, by its discount, how far it trusts itself, and hands on.

# %% tags=["picture"] alt="The path of modified Kneser-Ney where the longest n-gram was never seen: it gives nothing, and shorter contexts, which count places, share the probability."
way_down("modified-kneser-ney", "gene", "t")

# %% [markdown]
# Katz's model (1987) is the older way: **back off** rather than interpolate. The first length that
# has seen the n-gram answers alone, with its count discounted, and the way stops there. Compare the
# counts in the two pictures, times here, places there, and the bits in their titles.

# %% tags=["picture"] alt="The path of Katz's back-off for the same context: the first length that has seen the n-gram gives all of the probability, and the way stops there."
way_down("katz", "gene", "t")

# %% [markdown]
# The same for every character of a sentence. Above, what each character costs; below, the lengths
# that its probability comes from, dark for long contexts. Look at where words begin, and at the word
# that Python's manual does not know.

# %% tags=["picture"] alt="For each character of a sentence its bits, and below it the share of its probability by length of n-gram; costs are high at the beginnings of words and in an unknown word."
back_off_profile(five["modified-kneser-ney"], "The yield statement of a zebra raises an exception.")

# %% [markdown]
# ## An experiment: all of them, by order
#
# Eight smoothings, orders 1 to 9, the same text for all. Jelinek-Mercer's weights are found on the
# validation part, which no model counts. Relative frequency is not drawn: it is infinite from order 2
# on. What to expect: adding one to every count gets *worse* with longer contexts, since it gives the
# same to all that was not seen, which is nearly everything. The question is who goes on falling.

# %% tags=["picture"] alt="Test bits per byte by order for eight smoothings: add-one and Good-Turing rise again after order 3 or 4, Katz, Witten-Bell and absolute discounting after 5 or 6, while Jelinek-Mercer and Kneser-Ney go on falling, modified Kneser-Ney lowest."
EIGHT = {
    "add-k": "add one",
    "good-turing": "Good-Turing",
    "katz": "Katz",
    "jelinek-mercer": "Jelinek-Mercer",
    "witten-bell": "Witten-Bell",
    "absolute-discounting": "absolute discounting",
    "kneser-ney": "Kneser-Ney",
    "modified-kneser-ney": "modified Kneser-Ney",
}
validation_ids = encode_documents(split.validation, tokenizer)


def train(ids, order, smoothing):
    more = {"held_out": validation_ids} if smoothing == "jelinek-mercer" else {}
    return NGram.train(ids, tokenizer, order=order, smoothing=smoothing, **more)


by_order = {smoothing: [] for smoothing in EIGHT}
for smoothing, n in track([*itertools.product(EIGHT, orders)], "orders"):
    model = train(train_ids, n, smoothing)
    by_order[smoothing].append(evaluate(model, split.test).bits_per_byte)
best = min(itertools.product(EIGHT, orders), key=lambda pair: by_order[pair[0]][pair[1] - 1])
for smoothing, bits in by_order.items():
    print(f"{EIGHT[smoothing]:21}", *(f"{b:6.3f}" for b in bits))
print(f"best: {EIGHT[best[0]]} of order {best[1]}")

STYLES = dict(zip(EIGHT, itertools.product(("-", "--"), COLOURS[:4]), strict=True))
STYLES["modified-kneser-ney"] = ("-", COLOURS[6])


def lines(axes, x, curves):
    """A line for each smoothing, its name and last value at its right end."""
    names = list(curves)
    low, high = axes.get_ylim()
    at = [(min(curves[name][-1], high) - low) / (high - low) for name in names]
    for name, y in zip(names, spread(at, 0.055), strict=True):
        dash, colour = STYLES[name]
        bits = np.array(curves[name])
        axes.plot(x, bits, dash, marker="o", markersize=3, color=colour)
        label = f"{EIGHT[name]} {bits[-1]:.2f}"
        axes.text(1.02, y, label, transform=axes.transAxes, color=colour, fontsize=9, va="center")
    axes.set_ylim(low, high)
    axes.set_ylabel("test text (bits per byte)")
    axes.spines[["top", "right"]].set_visible(False)
    axes.grid(axis="y", color="0.92")


figure = new_figure(8.6, 4.6)
axes = figure.add_subplot(xlabel="order n (tokens)")
axes.set_ylim(1.7, 4.2)
lines(axes, orders, by_order)
figure

# %% [markdown]
# Up to order 2 all are alike: nearly every context has been seen often. From there the ways
# part. Only Jelinek-Mercer and the two Kneser-Neys never get worse with a longer context:
# Jelinek-Mercer because its weights were measured on text that it had not counted, Kneser-Ney
# because what it mixes in from below is what is missing above. Absolute discounting is the same
# formula with frequencies below, and does worse with every order from 6 on.
#
# ## An experiment: all of them, by the size of the text
#
# Maybe it is a matter of little text. The same at order 5, counted in the last 128th of the training
# part (about 2,400 characters), the last 64th, ... up to all of it. Add one and Good-Turing begin
# above the picture.

# %% tags=["picture"] alt="Test bits per byte by training size for eight smoothings at order 5: all fall; modified Kneser-Ney is lowest but for the smallest text, where Jelinek-Mercer is."
sizes = [len(train_ids) // 2**k for k in range(8)][::-1]
by_size = {smoothing: [] for smoothing in EIGHT}
for smoothing, size in track([*itertools.product(EIGHT, sizes)], "sizes"):
    model = train(train_ids[-size:], 5, smoothing)
    by_size[smoothing].append(evaluate(model, split.test).bits_per_byte)
figure = new_figure(8.6, 4.6)
axes = figure.add_subplot(xlabel="training text (characters)", xscale="log")
axes.set_ylim(1.8, 5)
lines(axes, sizes, by_size)
figure

# %% [markdown]
# Every line falls: among the better smoothings, a hundred times the text is worth far more than the
# choice of one. Read the picture sideways, too: how much more text does another method need to get
# where modified Kneser-Ney is already? Only at the left
# end is Jelinek-Mercer ahead. It has an advantage there that is not quite fair: its weights were
# found on validation text many times larger than what was counted.
#
# Does this go on? The long form of this notebook (`make long NOTEBOOK=01`) counts up to four million
# characters of the standard library's source; below is what it recorded.

# %% tags=["picture"] alt="Test bits per byte against training size up to millions of characters for six smoothings at the best order each; modified Kneser-Ney stays lowest."
RECORD = Path("results/01_counting.json")


def long_experiment():
    """Bits per byte of all smoothings on the standard library's source, by size and order."""
    began = time.perf_counter()
    code = split_documents(load_corpus("stdlib").documents)
    chars = CharTokenizer.train([d.text for d in code.train])
    ids, held_out = encode_documents(code.train, chars), encode_documents(code.validation, chars)
    test, rows = code.test, []
    large = [size for size in (250_000, 1_000_000, 4_000_000) if size <= len(ids)]
    for size, order, smoothing in track([*itertools.product(large, (4, 6, 8), EIGHT)], "long"):
        if smoothing in ("add-k", "good-turing"):
            continue
        more = {"held_out": held_out} if smoothing == "jelinek-mercer" else {}
        model = NGram.train(ids[:size], chars, order=order, smoothing=smoothing, **more)
        bits = evaluate(model, test).bits_per_byte
        rows.append(
            {"characters": size, "order": order, "smoothing": smoothing, "bits": round(bits, 4)}
        )
    made = {"command": "make long NOTEBOOK=01", "seconds": round(time.perf_counter() - began)}
    made |= {"python": platform.python_version(), "numpy": np.__version__, "text": "stdlib"}
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps({"made": made, "rows": rows}, indent=1) + "\n", encoding="utf-8")


if LONG:
    long_experiment()
recorded = json.loads(RECORD.read_text(encoding="utf-8"))
print("recorded by", recorded["made"])

best_of = {}
for row in recorded["rows"]:
    key = row["smoothing"], row["characters"]
    best_of[key] = min(best_of.get(key, np.inf), row["bits"])
large = sorted({size for _, size in best_of})
curves = {s: [best_of[s, size] for size in large] for s in EIGHT if (s, large[0]) in best_of}
figure = new_figure(8.6, 4.2)
axes = figure.add_subplot(xlabel="training text (characters of Python source)", xscale="log")
axes.set_ylim(1.8, 3.2)
lines(axes, large, curves)
axes.set_xticks(large, [f"{size:,}" for size in large])
axes.minorticks_off()
axes.set_title("each at its best order of 4, 6 and 8", fontsize=10, color=GREY)
figure

# %% [markdown]
# It goes on. With sixteen times the text every line has fallen, and modified Kneser-Ney is ahead
# throughout. Only the distances shrink, slowly: with more text, less is left unseen.
#
# ## An experiment: where Kneser-Ney wins
#
# Absolute discounting and Kneser-Ney share one formula. The only difference is what the shorter
# contexts count. So compare the two token by token, and group the test text's tokens by **the longest
# n-gram that was seen**: 5 means that the model knew the whole n-gram, 1 that it had to go all the way
# down. If the idea of places is right, the gain must lie where the models back off, and nowhere else.

# %% tags=["picture"] alt="Bars of the bits saved by Kneser-Ney and its modified form over absolute discounting, by the longest n-gram seen: large gains where the model backs off, a small loss where the longest n-gram was seen."
pair = {
    s: train(train_ids, 5, s) for s in ("absolute-discounting", "kneser-ney", "modified-kneser-ney")
}
bits = {s: model.score(test_ids)[0] / np.log(2) for s, model in pair.items()}  # (N,) each
longest = pair["kneser-ney"].matched(test_ids)  # (N,)
print(f"the model backs off for {np.mean(longest < 5):.0%} of the tokens")
print("longest seen   tokens   bits each: absolute  Kneser-Ney  modified")
for n in range(5, 0, -1):
    each = [bits[s][longest == n].mean() for s in pair]
    print(
        f"{n:12}   {np.sum(longest == n):6,}              " + "   ".join(f"{x:7.2f}" for x in each)
    )

figure = new_figure(7.2, 4.0)
axes = figure.add_subplot(
    xlabel="the longest n-gram seen (tokens)",
    ylabel="saved over absolute discounting\n(bits per test byte)",
)
n_bytes = sum(len(d.text.encode()) for d in split.test)
base = bits["absolute-discounting"]
for smoothing, shift in (("kneser-ney", -0.2), ("modified-kneser-ney", 0.2)):
    saved = [(base - bits[smoothing])[longest == n].sum() / n_bytes for n in range(1, 6)]
    axes.bar(
        np.arange(1, 6) + shift,
        saved,
        0.38,
        color=STYLES[smoothing][1],
        label=f"{EIGHT[smoothing]}: {sum(saved):.3f} in all",
    )
axes.axhline(0, color="black", linewidth=0.8)
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# There it is. Where the longest n-gram was seen, Kneser-Ney has nothing to gain, and loses a little.
# All of its win is at the few places where the model backs off: there it no longer proposes what is
# frequent only because it is frequent *somewhere*. The modified form does more of both. It takes more
# off the larger counts, which costs at the right, and has more to give where nothing was known.
#
# ## An experiment: what they write
#
# A model that predicts can also write: draw a token, append it, ask again. The order decides how far
# back the model remembers. With each text stands the longest piece of it that the training text has
# too.

# %%
manual = "\n".join(d.text for d in split.train)


def longest_copy(text):
    """The longest piece of a text that the training text has too."""
    best = ""
    for start in range(len(text)):
        while text[start : start + len(best) + 1] in manual and start + len(best) < len(text):
            best = text[start : start + len(best) + 1]
    return best


for n in (1, 2, 3, 5, 8):
    model = train(train_ids, n, "modified-kneser-ney")
    text = "The " + tokenizer.decode(
        generate(model, tokenizer.encode("The "), max_new_tokens=150, rng=n)
    )
    copy = longest_copy(text)
    print(f"--- order {n}; {len(copy)} characters are copied: {copy!r}\n{text}\n")

# %% [markdown]
# From letters to words to phrases, and what is copied gets longer. Nowhere does it know what it was
# saying a sentence ago. When a context was not seen, the model goes all the way down, as it must, and
# a draw from there breaks the word: that is why even order 8 has nonsense between its phrases.
#
# At last the same piece of test text, coloured by what each token costs. Point at a token to see
# what was expected. The models disagree most in the middle of words.

# %% tags=["picture"] alt="A piece of test text coloured by surprise for models of order 2 and 5; the longer context makes most letters inside words pale, beginnings of words stay dark."
sample = split.test[-1].text[:330]
SurpriseView({f"order {n}": train(train_ids, n, "modified-kneser-ney") for n in (2, 5)}, sample)

# %% [markdown]
# ## Exercises
#
# Each has a cell to fill in and a cell that checks it.
#
# **1. Two averages.** A model gave the tokens of a text the probabilities `p`, its end token
# included. Return bits per byte and perplexity.


# %% tags=["exercise"] exercise="averages"
def averages(p, text):
    """(bits per byte, perplexity) of a text whose tokens have the probabilities p (N,)."""
    raise NotImplementedError("exercise 1: two averages")


# %% tags=["check", "raises-exception"] exercise="averages"
rng = np.random.default_rng(1)
for text in ("a plain text", "naïve Ωmega 水"):
    p = rng.uniform(0.01, 0.9, len(text) + 1)  # a token a character, and the end
    bits_per_byte, perplexity = averages(p, text)
    expected = -np.log2(p).sum() / len(text.encode())
    assert np.isclose(bits_per_byte, expected), (
        f"bits per byte of {text!r} should be {expected:.4f}, got {bits_per_byte:.4f}: "
        "the sum over all tokens, divided by the bytes of UTF-8, not by characters or tokens"
    )
    expected = 2 ** (-np.log2(p).mean())
    assert np.isclose(perplexity, expected), (
        f"perplexity of {text!r} should be {expected:.4f}, got {perplexity:.4f}: "
        "2 to the mean bits per token"
    )
print("right")

# %% [markdown]
# **2. Places.** Count, for every pair of tokens, the number of *different* tokens that stand before
# it: $N_{1+}(\cdot\, vw)$. The end token stands before the first token of each document, and no
# n-gram reaches across a document's end. As the second of a pair, $w$, the end token counts like any
# other.


# %% tags=["exercise"] exercise="places"
def places_of_pairs(ids, end_id):
    """{(v, w): how many different tokens stand before v w} of a list of ids.

    Pairs at a document's start, (end_id, w), have nothing before them: leave them out.
    """
    raise NotImplementedError("exercise 2: places")


# %% tags=["check", "raises-exception"] exercise="places"
rng = np.random.default_rng(2)
end = 9
documents_of = [[*rng.integers(0, 9, size).tolist(), end] for size in (1, 40, 2, 3, 100, 25)]
drawn = np.concatenate(documents_of)
found = dict(places_of_pairs(drawn.tolist(), end))
assert all(v != end for v, _ in found), (
    "a pair that begins with the end token has nothing before it: leave it out"
)
two = count_ngrams(drawn, order=3, vocab_size=10, end_id=end)[1]
expected = {divmod(k, 10): n for k, n in zip(two.keys.tolist(), two.left.tolist(), strict=True)}
for gram in sorted({*expected, *found}):
    should = 0 if gram[0] == end else expected.get(gram, 0)
    assert found.get(gram, 0) == should, (
        f"{gram} stands after {should} different tokens, got {found.get(gram, 0)}. Did you count each "
        f"token before it once, the end token ({end}) before a document's first pair, and nothing "
        "across a document's end?"
    )
print("right")

# %% [markdown]
# **3. Stupid back-off** (Brants et al. 2007) gives no probabilities but scores: the relative frequency
# of the longest n-gram that was seen, times 0.4 for every token of context that had to be given up.
# `followers` maps each context, a tuple, to `{token: count}`, as `SimpleNGram.followers` does. What do
# the scores after one context sum to?


# %% tags=["exercise"] exercise="stupid"
def stupid_back_off(followers, token, context, factor=0.4):
    """The score of a token after a context (tuple of tokens, at most the order minus 1).

    followers : {context: {token: count}}, with () for the empty context
    """
    raise NotImplementedError("exercise 3: stupid back-off")


# %% tags=["check", "raises-exception"] exercise="stupid"
piece = train_ids[:5000]
settings = {"order": 4, "vocab_size": V, "end_id": tokenizer.end_id}
followers = SimpleNGram(piece.tolist(), **settings, smoothing="mle").followers
reference = NGram.train(piece, tokenizer, order=4, smoothing="stupid-backoff")
rng = np.random.default_rng(3)
for place in rng.integers(3, len(test_ids) - 1, 200):
    context, token = tuple(test_ids[place - 3 : place].tolist()), int(test_ids[place])
    if tokenizer.end_id in context:
        continue
    scores = np.exp(reference.step(reference.start(1), np.array([context]))[0])
    found = stupid_back_off(dict(followers), token, context)
    assert np.isclose(found, scores[token], atol=1e-12), (
        f"after {tokenizer.decode(context)!r} the score of {tokenizer.decode([token])!r} should be "
        f"{scores[token]:.5f}, got {found:.5f}. The factor is due once for every shortening, also "
        "when the context itself was never seen; a token seen nowhere scores 0"
    )
    half, twice = (stupid_back_off(dict(followers), token, context, factor=f) for f in (0.2, 0.8))
    seen_here = token in followers.get(context, {})
    right = np.isclose(half * twice, found**2) and (half < found or seen_here or not found)
    assert right, (
        f"with factors of 0.2, 0.4 and 0.8 the scores are {half:.5f}, {found:.5f} and {twice:.5f}: "
        "is `factor` used, at every shortening?"
    )
print(f"right; the scores after {tokenizer.decode(context)!r} sum to {scores.sum():.2f}, not to 1")

# %% [markdown]
# **4. Weights by EM** (hard). Mix two models: $p(w) = \lambda\, p_1(w) + (1-\lambda)\, p_2(w)$. Given
# both models' probabilities of the tokens of a held-out text, find the best $\lambda$. Expectation
# maximisation: how probable is it that token $i$ came from the first model,
# $q_i = \lambda p_1(w_i) / p(w_i)$? The new $\lambda$ is the mean of the $q_i$. Start from 0.5.


# %% tags=["exercise"] exercise="em"
def em_weights(p1, p2, steps=50):
    """The weights λ after each step of EM, an array (steps + 1,) that begins with 0.5.

    p1, p2 : (N,), each model's probability of every token of a held-out text
    """
    raise NotImplementedError("exercise 4: weights by EM")


# %% tags=["check", "raises-exception"] exercise="em"
both = (train(train_ids[:30_000], n, "witten-bell") for n in (4, 1))
p1, p2 = (np.exp(model.log_p(validation_ids[:5000])) for model in both)
weights = np.asarray(em_weights(p1, p2))
assert weights.shape == (51,), f"50 steps and the start make 51 weights, got {weights.shape}"
assert np.shape(em_weights(p1, p2, steps=3)) == (4,), "3 steps and the start make 4 weights"
assert weights[0] == 0.5, f"it starts from 0.5, got {weights[0]}"
first = np.mean(p1 / (p1 + p2))
assert np.isclose(weights[1], first), (
    f"the first step, from 0.5, leads to {first:.4f}, got {weights[1]:.4f}: the mean of the "
    "probabilities that a token came from the first model"
)
nats = np.array([-np.log(w * p1 + (1 - w) * p2).mean() for w in weights])
assert np.all(np.diff(nats) <= 1e-12), (
    f"no step of EM raises the held-out text's cost, but step {np.argmax(np.diff(nats))} did"
)
grid = np.linspace(0.001, 0.999, 999)
best = grid[np.argmin([-np.log(w * p1 + (1 - w) * p2).mean() for w in grid])]
assert abs(weights[-1] - best) < 0.01, f"the best weight is about {best:.3f}, got {weights[-1]:.3f}"
print(f"right: {weights[-1]:.3f}")

# %% [markdown]
# ## Where to go next
#
# - [Tokens](02_tokens.ipynb): we predicted characters. Why not bytes, or words?
# - [The models' page](../docs/models/ngram.md): every smoothing's equation beside its line;
#   [counting](../docs/counting.md): the commands, ARPA files, and what equals KenLM.
# - [Neural n-grams](05_word_vectors.ipynb): the same question, with a context that knows that `cat`
#   and `dog` are alike. [Training a GPT](10_training_a_gpt.ipynb) puts all models on one picture.
#
# Papers, in the order of the ideas: Shannon 1948 (*A mathematical theory of communication*); Good 1953;
# Jelinek and Mercer 1980; Katz 1987; Church and Gale 1991 (counts by held-out halves); Witten and
# Bell 1991; Ney, Essen and Kneser 1994; Kneser and Ney 1995 (*Improved backing-off for m-gram
# language modeling*, the derivation above is theirs); Chen and Goodman 1999 (*An empirical
# study of smoothing techniques*), the comparison that our two sweeps repeat in small; Brants et al.
# 2007, who found that with enough text a score without any of this does nearly as well.
