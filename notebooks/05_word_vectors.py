# %% [markdown]
# # 5. Word vectors
#
# A counted n-gram treats every word as a symbol of its own: having read *the socket is closed* a
# thousand times teaches it nothing about *the connection is closed*. **What changes if every word is
# a list of numbers, and similar words may have similar numbers? And where should such numbers come
# from?**
#
# You need notebook [1](01_counting.ipynb) (n-grams, perplexity), the chain rule on arrays
# ([3](03_backpropagation.ipynb)), and what the softmax and the cross-entropy are. Reading takes about
# 40 minutes, running about 45 seconds.

# %%
import json
import os
import platform
import textwrap
from pathlib import Path

import numpy as np

from minillm.data import Document, encode_documents, split_documents
from minillm.data.pairs import Noise, keep_probability, skip_gram_pairs
from minillm.data.python import docstrings, topics
from minillm.data.words import number_words, words_of
from minillm.gradcheck import check_vjp
from minillm.models import neural_ngram, skip_gram
from minillm.models.language_model import LanguageModel
from minillm.models.mixture import LinearMixture
from minillm.models.neural_ngram import NeuralNgramConfig
from minillm.models.ngram import NGram
from minillm.models.skip_gram import SkipGramConfig
from minillm.tokenizers import WordTokenizer
from minillm.training import TrainConfig, train_or_load
from minillm.training.skip_gram import SkipGramSettings, train_skip_gram, update_touched_rows
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure
from minillm.viz.word_map import principal_components, word_map

LONG = bool(os.environ.get("MINILLM_LONG"))
RUNS = Path("runs/05_word_vectors")

# %% [markdown]
# ## The mathematics
#
# ### A network that reads n - 1 words
#
# Bengio and others (2003) give each word $w$ of the vocabulary a vector $C(w)$ of, say, 32 numbers.
# To predict the next word, they write the vectors of the last $n - 1$ words one after the other,
#
# $$x = \big( C(w_{t-n+2}), \dots, C(w_t) \big),$$
#
# pass them through one layer of hidden units and score every word of the vocabulary (their eq. 1):
#
# $$y = b + W x + U \tanh(d + H x), \qquad P(w_{t+1} = i) = \frac{e^{y_i}}{\sum_j e^{y_j}} .$$
#
# $W x$, straight from the vectors to the scores, is optional. All of it is learnt together by gradient
# descent on the cross-entropy: $b$, $W$, $U$, $d$, $H$, **and the vectors $C$**.
#
# Why should this generalise? $y$ is a smooth function of $x$. If *socket* and *connection* have been
# used alike, they push their vectors in the same directions, end up near one another, and then what
# was learnt from the one holds for the other. A table of counts has no such thing as near.
#
# It also grows differently. Over 2000 words there are $2000^4$ contexts of four; the counted model
# stores those it saw, and most that it will meet it never saw. Here one more word of context costs
# 32 numbers for each hidden unit, in $H$: with 64 units about two thousand.

# %%
for order in (2, 3, 5, 9):
    config = NeuralNgramConfig(2000, order=order, n_embd=32, n_hidden=64)
    params = neural_ngram.init(config, np.random.default_rng(0))
    n = sum(part.size for layer in params.values() for part in layer.values())
    print(f"order {order}: {n:,} numbers; possible contexts {2000 ** (order - 1):.0e}")

# %% [markdown]
# ### Vectors without a language model
#
# The head $U$ scores all words at every step: that is where nearly all of the time goes. If it is the
# vectors that we want, an easier question will do. Mikolov and others (2013) take a word $w$ and a
# word $c$ near it in the text, and ask: *did these two really stand together, or did I draw the second
# one at random?* Each word has two vectors, $v_w$ as the word that is read and $v'_w$ as somebody's
# context. The answer is a single logistic unit, $\sigma(s) = 1 / (1 + e^{-s})$, on a dot product. Each
# real pair is set beside $k$ false ones, in which $c$ gives way to words $n_1, \dots, n_k$ drawn from
# a noise distribution $P_n$, and what is maximised for each pair is their eq. 4:
#
# $$\log \sigma({v'_c}^{\top} v_w) + \sum_{i=1}^{k} \log \sigma(-{v'_{n_i}}^{\top} v_w),
# \qquad n_i \sim P_n .$$
#
# The gradient says what happens. With $p_c = \sigma({v'_c}^{\top} v_w)$, how sure the model is that $c$
# stood there, and $\eta$ the learning rate, a step moves
#
# $$v_w \mathrel{+}= \eta\, \big( (1 - p_c)\, v'_c - \textstyle\sum_i p_{n_i}\, v'_{n_i} \big) :$$
#
# towards the context, by how surprised the model is to see it there; away from the noise, by how much
# the model believed in it. Words that share their contexts are pulled to the same places.
#
# Two choices of the paper matter as much as the formula:
#
# - **Noise**, $P_n$, is in proportion to $\mathrm{count}^{3/4}$: between "as in the text" and "all
#   alike".
# - **Subsampling** (eq. 5): of a word with the share $f$ of the text, an occurrence is skipped with the
#   probability $1 - \sqrt{t / f}$. That *the* stands beside *file* tells little about *file*.

# %% [markdown]
# ## The code
#
# First the neural n-gram. It is made of ops that you know: `embedding` looks rows up, `linear`, `tanh`.
# In the forward, look for $x$ and $\tanh(d + Hx)$; in the backward, for the place where $x$ gets two
# gradients, since it went two ways.

# %%
show_source(neural_ngram.neural_ngram_features)

# %% [markdown]
# Which words does a prediction see at the beginning of a text? There are not enough yet. Missing ones
# are a padding id, one more than the vocabulary has (here 7), with a vector of its own that is learnt
# like the others.

# %%
neural_ngram.contexts(np.array([[4, 5, 6, 5]]), NeuralNgramConfig(7, order=4))[0]

# %%
show_source(neural_ngram.contexts)

# %% [markdown]
# Skip-gram is shorter. Eq. 4 is the binary cross-entropy of $1 + k$ answers, the first of which should
# be yes.

# %%
show_source(skip_gram.skip_gram_loss)

# %%
show_source(skip_gram.skip_gram)

# %% [markdown]
# Are these backwards right? The checker of notebook 4 compares them with differences, with a random
# gradient flowing in. The words repeat, for a repeated row must get the sum of all its gradients.

# %%
rng = np.random.default_rng(0)
params = skip_gram.init(SkipGramConfig(6, 4), rng, np.float64)
params["context"]["weight"] += rng.standard_normal((6, 4))
batch = {
    "words": np.array([1, 2, 1]),
    "contexts": np.array([0, 3, 3]),
    "negatives": np.array([[4, 0], [0, 5], [3, 4]]),
}
print(
    check_vjp(
        lambda params: skip_gram.loss(params, **batch), skip_gram.loss.backward, (params,)
    ).verdict
)

# %% [markdown]
# ### Moving only what was touched
#
# A batch speaks of some of the words; the gradient of all others is zero. So the training loop takes
# the batch's rows out of the two tables, numbers them anew, and hands these small tables to the very
# same loss. `np.unique` gives both the rows and the new numbers.

# %%
show_source(update_touched_rows)

# %% [markdown]
# ## An experiment: neural against counted
#
# The text is what every Python brings along: the docstrings of its standard library and its help
# topics, cut into lower-case words without punctuation. A part of the documents, drawn by a seed, is
# for training, one for choosing, one for the test. The 2000 most frequent words of the training part
# are the vocabulary; what is rarer is one unknown word.

# %%
texts = [(name, words_of(text)) for name, text in docstrings()[0] + (topics() or ([],))[0]]
shuffled = [texts[i] for i in np.random.default_rng(0).permutation(len(texts))]
parts = split_documents([Document(name, " ".join(words)) for name, words in shuffled])
tokenizer = WordTokenizer.train(
    [document.text for document in parts.train], split="whitespace", vocab_size=2000
)
train, validation, test = (
    encode_documents(part, tokenizer) for part in (parts.train, parts.validation, parts.test)
)
print(f"{len(train):,} words to train on, {len(validation):,} and {len(test):,} to test")
print(f"unknown: {np.mean(test == tokenizer.unknown_id):.1%} of the test's words")
print(textwrap.fill(tokenizer.decode(test[40:80]), 90))

# %% [markdown]
# Three counted models with Kneser-Ney's smoothing, which notebook 1 found best, and three neural ones
# of the same orders, which get about two readings of the text.


# %%
def perplexity(nats):
    return float(np.exp(np.mean(nats)))


ORDERS = (2, 3, 5)
counted = {order: NGram.train(train, tokenizer, order=order) for order in ORDERS}

# %%
neural = {}
shape = {"n_embd": 32, "n_hidden": 64}
settings = TrainConfig(
    steps=600, batch=12, block=64, lr=0.015, eval_every=200, threads=2, seed=0, log_every=20
)
for order in ORDERS:
    neural[order] = LanguageModel.create("neural-ngram", tokenizer, order=order, **shape)
    train_or_load(neural[order], (train, validation), settings, RUNS / "neural")

# %% [markdown]
# The mixture is the paper's own suggestion: the mean of the two probabilities, weighted. The weights
# are found on the validation part by EM.

# %%
mixture = {order: LinearMixture.fit([counted[5], neural[order]], validation) for order in ORDERS}
nats = {
    "counted": {order: model.score(test)[0] for order, model in counted.items()},
    "neural": {order: model.score(test)[0] for order, model in neural.items()},
    "mixture": {order: model.score(test)[0] for order, model in mixture.items()},
}
for name, row in nats.items():
    print(f"{name:8}", {order: round(perplexity(values), 1) for order, values in row.items()})
print("weights (counted, neural):", mixture[5].weights.round(2))

# %% [markdown]
# The picture shows the same numbers. Two things to look at. Both gain from a longer context, and the
# neural model, which has had some seconds of training, stays behind at every order. And the mixture of
# the two is below both, even with a neural model that sees a single word: what the worse model knows
# must be something that the better one does not.

# %% tags=["picture"] alt="Test perplexity by order: the neural n-gram lies above the counted one at orders 2, 3 and 5, and the mixture of the two lies below both."
figure = new_figure(6.4, 4.0)
axes = figure.add_subplot(xlabel="order (words of context and the next one)", ylabel="perplexity")
for colour, (name, row) in zip(COLOURS, nats.items(), strict=False):
    values = [perplexity(row[order]) for order in ORDERS]
    axes.plot(ORDERS, values, "o-", color=colour, linewidth=1.8, clip_on=False)
    label = {"mixture": "neural + counted of order 5"}.get(name, name)
    axes.annotate(
        f"{label}  {values[-1]:.0f}",
        (ORDERS[-1], values[-1]),
        xytext=(8, 0),
        textcoords="offset points",
        color=colour,
        va="center",
        fontsize=9,
        annotation_clip=False,
    )
axes.set_xticks(ORDERS)
axes.set_xlim(2, 5)
axes.spines[["top", "right"]].set_visible(False)
axes.grid(axis="y", color="0.9")
axes.set_title("Test perplexity, lower is better", fontsize=11)
figure

# %% [markdown]
# ### Where are they wrong?
#
# For each word of the test we ask how often its last two words had stood together in the training
# text, never, once, often, and take the perplexity of each group by itself. The next cell draws it.
# Look at how far the neural bar stands above the counted one in the first group, where the counted
# model has to back off, and in the groups after it.


# %%
def times_seen(ids, text, size):
    """How often the two words before each of ids[2:] stood together in a text, (N - 2,)."""

    def pairs(x):
        return x[:-2].astype(np.int64) * size + x[1:-1]

    seen, counts = np.unique(pairs(text), return_counts=True)
    at = np.minimum(np.searchsorted(seen, pairs(ids)), len(seen) - 1)
    return np.where(seen[at] == pairs(ids), counts[at], 0)


seen = times_seen(test, train, tokenizer.vocab_size)
GROUPS = {"never": (0, 0), "once": (1, 1), "2 to 19": (2, 19), "20 or more": (20, len(train))}
by_group = {
    name: [
        perplexity(nats[name][5][2:][(seen >= low) & (seen <= high)])
        for low, high in GROUPS.values()
    ]
    for name in nats
}
for group, *values in zip(GROUPS, *by_group.values(), strict=True):
    told = "  ".join(f"{name} {value:6.1f}" for name, value in zip(nats, values, strict=True))
    print(f"{group:10}  {told}   neural / counted {values[1] / values[0]:.2f}")

# %% tags=["picture"] alt="Bars of perplexity by how often the last two words were seen in training, for the counted, the neural and the mixed model of order 5; the neural bars are higher, least so where the context was never seen."
figure = new_figure(7.0, 3.8)
axes = figure.add_subplot(
    xlabel="how often the last two words stood together in training", ylabel="perplexity"
)
place = np.arange(len(GROUPS))
for k, (name, values) in enumerate(by_group.items()):
    bars = axes.bar(place + (k - 1) * 0.27, values, 0.25, color=COLOURS[k], label=name)
    axes.bar_label(bars, fmt="{:.0f}", fontsize=8, color=GREY)
axes.set_xticks(place, list(GROUPS))
axes.legend(frameon=False, ncols=3, loc="upper right", bbox_to_anchor=(1, 1.12))
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# The counted model is ahead in all groups: docstrings repeat themselves word for word, and a table is
# good at that. But look at the ratios: where the context was never seen its lead is smaller than where
# it was seen a few times, and the mixture gains everywhere. (It is small again in the last group: a
# context that came dozens of times is known to both.) Bengio and others, with larger texts and
# weeks of computing, had the network ahead by itself, and the mixture with a trigram better still.
#
# ### The same with more time
#
# Were some seconds too little? With `make long NOTEBOOK=05` a larger network (64 numbers a word, 160
# hidden units, dropout) reads the training text about twenty times. What that run left is recorded and
# drawn here. Look at where the curve ends, beside the dashed line of the counted model.

# %%
RECORD = Path("results/05_word_vectors.json")
LONG_SHAPE = {"order": 5, "n_embd": 64, "n_hidden": 160, "dropout": 0.3}
LONG_SETTINGS = {"steps": 6000, "lr": 0.01, "eval_every": 600}


def long_form():
    """Train the larger network and write the record."""
    config = TrainConfig(batch=12, block=64, threads=2, seed=0, **LONG_SETTINGS)
    model = LanguageModel.create("neural-ngram", tokenizer, **LONG_SHAPE)
    run = train_or_load(model, (train, validation), config, RUNS / "long")
    both = LinearMixture.fit([counted[5], model], validation)
    lines = [line for line in run.history if line["validation_loss"] is not None]
    record = {
        "made": {
            "command": "make long NOTEBOOK=05",
            "seconds": round(run.seconds),
            "python": platform.python_version(),
            "numpy": np.__version__,
            "text": "docstrings and topics",
        },
        "shape": LONG_SHAPE,
        "settings": LONG_SETTINGS,
        "readings": [line["step"] * 12 * 64 / len(train) for line in lines],
        "validation": [perplexity(line["validation_loss"]) for line in lines],
        "counted validation": perplexity(counted[5].score(validation)[0]),
        "test": {
            "counted": perplexity(nats["counted"][5]),
            "neural": perplexity(model.score(test)[0]),
            "mixture": perplexity(both.score(test)[0]),
        },
    }
    RECORD.parent.mkdir(exist_ok=True)
    RECORD.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if LONG:
    long_form()
recorded = json.loads(RECORD.read_text(encoding="utf-8"))
print("recorded by", recorded["made"]["command"], f"in {recorded['made']['seconds']} seconds")
print("test perplexity:", {name: round(value, 1) for name, value in recorded["test"].items()})

# %% tags=["picture"] alt="The recorded long run: validation perplexity of the neural n-gram against readings of the text; it falls below the level line of the counted model after about twelve readings."
figure = new_figure(6.8, 3.8)
axes = figure.add_subplot(
    xlabel="readings of the training text", ylabel="validation perplexity", yscale="log"
)
axes.plot(
    recorded["readings"][1:], recorded["validation"][1:], "o-", color=COLOURS[1], markersize=4
)
level = recorded["counted validation"]
axes.axhline(level, color=COLOURS[0], linestyle=(0, (6, 3)))
for label, y, colour in (
    (f"neural  {recorded['validation'][-1]:.0f}", recorded["validation"][-1], COLOURS[1]),
    (f"counted  {level:.0f}", level, COLOURS[0]),
):
    axes.annotate(
        label,
        (1, y),
        xycoords=("axes fraction", "data"),
        xytext=(6, 0),
        textcoords="offset points",
        color=colour,
        va="center",
        fontsize=9,
        annotation_clip=False,
    )
axes.yaxis.set_major_formatter("{x:.0f}")
axes.yaxis.set_minor_formatter("{x:.0f}")
axes.tick_params(which="both", labelsize=8)
axes.spines[["top", "right"]].set_visible(False)
axes.grid(axis="y", which="both", color="0.9")
figure

# %% [markdown]
# With a dozen readings the network passes the counted model, and the printed numbers say the same of
# the test text: ahead by a little alone, and by much as a mixture. It took minutes (printed above) where
# counting takes about a second. (The curve is measured on blocks of 64 words, each of which begins
# with padding.)
#
# ## An experiment: vectors from pairs
#
# Now skip-gram on all of the text. There is nothing to predict well here, so no part is kept apart;
# what we want is the vectors. Words that come five times or more take part.

# %%
text = number_words([words for _, words in texts], min_count=5)
print(f"{len(text.words):,} different words, {len(text.ids):,} in the text")
keep = keep_probability(text.counts, 3e-4)
noise = Noise(text.counts)
share = text.counts / text.counts.sum()
print("word          share of the text     kept   drawn as noise")
for word in ("the", "of", "file", "socket", "semaphore"):
    i = text.words.index(word)
    print(f"{word:12} {share[i]:18.4%} {keep[i]:8.0%} {noise.probability[i]:16.4%}")

# %% [markdown]
# Subsampling takes most of the frequent words away and none of the rare ones; the power 3/4 makes rare
# words more frequent as noise than they are in the text. What is left makes about 900,000
# pairs in each of four readings. The loss begins at $6 \log 2 \approx 4.16$, where
# all answers are "perhaps".

# %%
settings = SkipGramSettings(
    n_embd=64, window=5, negatives=5, subsample=3e-4, epochs=4, lr=0.2, seed=0
)
run = train_skip_gram(text, settings, out=RUNS / "skip-gram")
vectors = run.vectors
for epoch, (loss, pairs) in enumerate(zip(run.losses, run.pairs, strict=True), start=1):
    print(f"reading {epoch}: {pairs:,} pairs, {loss:.3f} nats a pair")

# %% [markdown]
# ### Neighbours
#
# Nearness is the cosine of the angle between two vectors. Nobody told the program what any word means.

# %%
for word in ("socket", "month", "thread", "directory", "encode", "left", "valueerror", "true"):
    near = ", ".join(f"{w} {cosine:.2f}" for w, cosine in vectors.nearest(word, 6))
    print(f"{word:11} {near}")

# %% [markdown]
# ### A map
#
# Sixty-four dimensions cannot be drawn. The map shows the two directions along which these words'
# vectors spread most (principal components, by the singular value decomposition); the axes say how
# much of the whole they hold, and it is little. The colours are ours, the places are the model's. Look
# for groups, and for the words that stand with another group than their own: most have a reason.

# %%
show_source(principal_components)

# %% tags=["picture"] alt="About fifty words on a plane, coloured by topic: time, network, files, numbers, threads, errors; words of one topic stand together."
TOPICS = {
    "time": "year month week day hour minute second date sunday monday calendar",
    "network": "socket server client connection port host http url request response address ssl",
    "files": "file files directory directories path folder filename rename copy disk",
    "numbers": "integer float decimal fraction complex rounding digits exponent multiply sqrt",
    "threads": "thread lock process queue semaphore acquire release worker executor",
    "errors": "valueerror typeerror keyerror indexerror attributeerror oserror raises exception",
}
on_map = {name: [w for w in words.split() if w in vectors] for name, words in TOPICS.items()}
word_map(vectors, on_map, title="Words of Python's documentation")

# %% [markdown]
# ## An experiment: what have they learned?
#
# ### The logarithm of a ratio of counts
#
# Levy and Goldberg (2014) asked for which numbers $s = {v'_c}^{\top} v_w$ eq. 4 would be largest if
# every pair had a number of its own. Let $P(w, c)$ be the share of the pair among all pairs. Of the
# answers given for $(w, c)$, real ones come in proportion to $P(w, c)$, drawn ones to
# $k\,P(w) P_n(c)$; a logistic unit is best at the logarithm of that ratio:
#
# $$s = \log \frac{P(w, c)}{P(w)\, P_n(c)} - \log k ,$$
#
# the pointwise mutual information (with $P_n$ for the context's share) less a constant. The vectors
# have 64 numbers a word, far too few to fit millions of pairs one by one: they must compress. The
# picture compares, for pairs that came often enough to measure. Each hexagon is darker the more pairs
# it holds; on the dashed line the dot product is what counting says.

# %%
rng = np.random.default_rng(1)
drawn = [skip_gram_pairs(text.ids, text.document, keep, window=5, rng=rng) for _ in range(4)]
V = len(text.words)
pair, times = np.unique(
    np.concatenate([words.astype(np.int64) * V + contexts for words, contexts in drawn]),
    return_counts=True,
)
share_of_word = np.bincount(pair // V, times, V) / times.sum()
often = times >= 12
w, c = pair[often] // V, pair[often] % V
ratio = times[often] / times.sum() / (share_of_word[w] * noise.probability[c])
wanted = np.log(ratio) - np.log(settings.negatives)
got = np.einsum("nc,nc->n", vectors.vectors[w], vectors.contexts[c])
print(f"{len(w):,} pairs, correlation {np.corrcoef(wanted, got)[0, 1]:.2f}")

# %% tags=["picture"] alt="Hexagons of pairs: the dot product of their vectors against the logarithm of the ratio of counts; they lie along the dashed diagonal in a band some nats wide."
figure = new_figure(5.6, 4.6)
axes = figure.add_subplot(
    xlabel="from counts: log of the ratio, less log k (nats)", ylabel="from vectors: v'·v (nats)"
)
hexagons = axes.hexbin(wanted, got, gridsize=45, bins="log", cmap="Blues", mincnt=1)
ends = np.percentile(wanted, [0.2, 99.8])
axes.plot(ends, ends, color=COLOURS[1], linestyle=(0, (6, 3)), linewidth=1.3)
axes.axhline(0, color="0.8", linewidth=0.8, zorder=0)
figure.colorbar(hexagons, label="pairs").outline.set_visible(False)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# The dot products follow the counts, as the correlation says, but not one for one: above 0 most hexagons
# lie below the line. 64 numbers a word cannot follow every single pair, and pairs that happened to come
# often are the ones that we could pick here.
#
# So a word vector is no meaning. It is a short summary of which words come near which, more often than
# by chance. All that follows from that, for better and worse:
#
# - *left* and *right*, *true* and *false*, *encode* and *decode* are near neighbours: opposites stand
#   in the same company.
# - A word with two meanings has one vector, somewhere between them.
# - A rare word has its vector from a handful of sentences, and its neighbours are often accidents of these.

# %%
for word in ("second", "upper", "pool"):
    if word in vectors:
        count = vectors.counts[vectors.id_of[word]]
        print(f"{word} ({count} times):", ", ".join(w for w, _ in vectors.nearest(word, 8)))
rare = [word for word, count in zip(vectors.words, vectors.counts, strict=True) if count == 5]
for word in np.random.default_rng(3).choice(rare, 4, replace=False):
    print(f"{word} (5 times):", ", ".join(w for w, _ in vectors.nearest(str(word), 5)))

# %% [markdown]
# ### A coordinate means nothing
#
# If all word vectors are turned by a rotation $R$ and all context vectors too, no dot product changes,
# and so no loss. Two runs from different seeds agree about who is near whom, not about any number.

# %%
random = np.random.default_rng(0).standard_normal((64, 64))
rotation = np.linalg.qr(random)[0].astype(np.float32)
some = {
    "words": text.ids[:200],
    "contexts": text.ids[1:201],
    "negatives": noise.draw((200, 5), np.random.default_rng(0)),
}
for name, turn in (("as trained", np.eye(64, dtype=np.float32)), ("turned", rotation)):
    tables = {
        "word": {"weight": vectors.vectors @ turn},
        "context": {"weight": vectors.contexts @ turn},
    }
    first = tables["word"]["weight"][vectors.id_of["socket"], :3]
    print(f"{name:10} loss {skip_gram.loss(tables, **some)[0]:.4f}, socket begins {first.round(2)}")

# %% [markdown]
# ### Do differences mean something?
#
# The best-known claim about word vectors is that *king* - *man* + *woman* is near *queen*. Here is a
# measured version. Take all words of four letters or more whose form with an *s* is frequent too:
# *file, files*, *object, objects*. For pairs of such words, is $v(\text{files}) - v(\text{file}) +
# v(\text{thread})$ nearest to *threads*? And, as a control that is seldom shown: how often is *threads*
# simply the nearest neighbour of *thread*?


# %%
def frequent(word):
    return word in vectors and vectors.counts[vectors.id_of[word]] >= 40


forms = [(w, w + "s") for w in vectors.words if len(w) > 3 and frequent(w) and frequent(w + "s")]
draw = np.random.default_rng(0)
tried = [draw.choice(len(forms), 2, replace=False) for _ in range(1000)]
hits = [vectors.analogy(*forms[i], forms[j][0], 1)[0][0] == forms[j][1] for i, j in tried]
alone = [vectors.nearest(word, 1)[0][0] == form for word, form in forms]
print(f"{len(forms)} pairs such as", ", ".join(f"{a} {b}" for a, b in forms[:5]))
print(f"analogy right: {np.mean(hits):.0%} of {len(tried)}")
print(f"right without the difference, by the nearest neighbour: {np.mean(alone):.0%}")

# %% tags=["picture"] alt="Words and their forms with s on the plane of two principal components, joined by arrows; the arrows are short and point in many directions."
shown = [form for form in forms if form[0] in ("file", "thread", "object", "string", "line")]
shown += [form for form in forms if form[0] in ("widget", "message", "argument", "module")]
word_map(
    vectors,
    {"one": [a for a, _ in shown], "with s": [b for _, b in shown]},
    title="From a word to its form with s",
    arrows=shown,
)

# %% [markdown]
# Look at the arrows: if the plural were a direction, they would be parallel, and they are not. A word
# and its plural are often close, and that alone explains more hits than the difference does. On far
# larger corpora the published rates are higher; but without the control nobody can say how much of a
# hit is the difference and how much mere nearness (Linzen 2016, "Issues in evaluating semantic spaces
# using word analogies").

# %% [markdown]
# ## Exercises
#
# **1. The context.** Write the contexts of one text yourself: row $t$ holds the last `order - 1` ids up
# to and including `ids[t]`, the oldest first, and `padding` where there is none.


# %% tags=["exercise"] exercise="contexts"
def contexts_of(ids, order, padding):
    """The context of each position of one text.

    ids : (T,) int; order : int, at least 2; padding : int

    Returns (T, order - 1) int, the oldest first.
    """
    raise NotImplementedError("which ids does the prediction after ids[t] see?")


# %% tags=["check", "raises-exception"] exercise="contexts"
for order in (2, 3, 6):
    ids = np.random.default_rng(order).integers(0, 9, 5)
    got = np.asarray(contexts_of(ids, order, 9))
    assert got.shape == (5, order - 1), f"shape {got.shape}, expected (5, {order - 1})"
    wanted = neural_ngram.contexts(ids[None], NeuralNgramConfig(9, order=order))[0]
    assert np.array_equal(got[:, -1], ids), "the last column must be the newest id, ids[t]"
    assert np.array_equal(got, wanted), f"for {ids} and order {order}: got\n{got}\nnot\n{wanted}"

# %% [markdown]
# **2. Repeated rows.** `weight[ids]` looks rows up; going back, a row that was looked up three times
# gets three gradients. Write it without a loop in Python. (`grad[ids] += rows` is the classic mistake.
# Why?)


# %% tags=["exercise"] exercise="scatter"
def add_rows(ids, rows, size):
    """A gradient for a table of `size` rows from those of the rows that were looked up.

    ids : (N,) int; rows : (N, C) float

    Returns (size, C).
    """
    raise NotImplementedError("the gradient of a row is the sum over all its uses")


# %% tags=["check", "raises-exception"] exercise="scatter"
draw = np.random.default_rng(5)
ids, rows = draw.integers(0, 4, 30), draw.standard_normal((30, 3))
got = add_rows(ids, rows, 6)
assert got.shape == (6, 3), f"shape {got.shape}, expected (6, 3)"
assert np.allclose(got[4:], 0), "rows that were never looked up must have a gradient of 0"
for i in range(4):
    assert np.allclose(got[i], rows[ids == i].sum(0)), (
        f"row {i} came {np.sum(ids == i)} times; its gradient must be the sum of as many rows"
    )

# %% [markdown]
# **3. Neighbours.** Find the ids of the `n` rows that point most nearly the way of row `i`, by the
# cosine, row `i` itself left out.


# %% tags=["exercise"] exercise="nearest"
def nearest_ids(table, i, n):
    """The ids of the n rows of a table (V, C) nearest to row i by the cosine, the nearest first."""
    raise NotImplementedError("what do you divide the dot product by?")


# %% tags=["check", "raises-exception"] exercise="nearest"
draw = np.random.default_rng(0)
table = draw.standard_normal((60, 4)) * draw.uniform(0.1, 9, (60, 1))
for i in (3, 50, 59):
    got = [int(j) for j in nearest_ids(table, i, 9)]
    cosine = table @ table[i] / np.linalg.norm(table, axis=1) / np.linalg.norm(table[i])
    wanted = [int(j) for j in np.argsort(-cosine) if j != i][:9]
    assert i not in got, f"row {i} is its own nearest neighbour: leave it out"
    assert sorted(got) == sorted(wanted), (
        f"row {i}: got {got}, expected {wanted}; the rows differ in length, is that divided out? "
        "And a row that points the opposite way is far, not near"
    )
    assert got == wanted, f"row {i}: the right rows, {got}, but the nearest first is {wanted}"

# %% [markdown]
# **4. Eq. 4 by hand.** The loss of a single pair: `v` (C,) of the word, `u` (S, C) of the context in
# row 0 and of the noise in the other rows. Return $-\log\sigma(u_0 \cdot v) - \sum_{s>0}
# \log\sigma(-u_s \cdot v)$ and a backward with both gradients. Check yours with differences.


# %% tags=["exercise"] exercise="pair"
def pair_loss(v, u):
    """The loss of a pair, a scalar, and whatever the backward needs."""
    raise NotImplementedError("log(sigmoid(x)) = -log(1 + exp(-x)): see np.logaddexp")


def pair_loss_backward(dloss, cache):
    """The gradients (dv, du)."""
    raise NotImplementedError("sigmoid(u_s . v) minus 1 for the context, minus 0 for the noise")


# %% tags=["check", "raises-exception"] exercise="pair"
draw = np.random.default_rng(6)
v, u = draw.standard_normal(5), draw.standard_normal((4, 5))
loss, _ = pair_loss(v, u)
one = {"word": {"weight": v[None]}, "context": {"weight": u}}
ids = {"words": np.array([0]), "contexts": np.array([0]), "negatives": np.array([[1, 2, 3]])}
wanted = skip_gram.loss(one, **ids)[0]
assert np.isclose(loss, wanted), f"the loss is {loss:.4f}, expected {wanted:.4f}: check the signs"
report = check_vjp(pair_loss, pair_loss_backward, (v, u))
assert report.verdict == "pass", f"the backward is not the derivative of your forward:\n{report}"

# %% [markdown]
# **5. Without a check.** Train vectors with `window=1` and with `window=10` and compare the neighbours
# of a few verbs. Which setting finds words of the same kind, which words of the same topic? (Give each
# its own `SkipGramSettings`; 15 seconds a run.)
#
# ## Where to go next
#
# - [6. Recurrence](06_recurrence.ipynb): a context of any length, read one word after the other.
# - The models' pages, every gradient justified: [neural n-gram](../docs/models/neural_ngram.md),
#   [skip-gram](../docs/models/skip_gram.md). The ops: [embedding](../docs/derivations/embedding.md),
#   [binary_cross_entropy](../docs/derivations/binary_cross_entropy.md).
# - On the command line: `minillm train neural-ngram --order 9`; notebook
#   [10](10_training_a_gpt.ipynb) races it against recurrent models and a GPT.
# - Y. Bengio, R. Ducharme, P. Vincent, C. Jauvin 2003, "A neural probabilistic language model", JMLR 3.
# - T. Mikolov, I. Sutskever, K. Chen, G. Corrado, J. Dean 2013,
#   [arXiv:1310.4546](https://arxiv.org/abs/1310.4546).
# - O. Levy, Y. Goldberg 2014, "Neural word embedding as implicit matrix factorization", NIPS.
# - T. Linzen 2016, [arXiv:1606.07736](https://arxiv.org/abs/1606.07736), on analogies.
