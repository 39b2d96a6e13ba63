# %% [markdown]
# # 2. Tokens
#
# A language model reads numbers, not letters. Somebody has to say which piece of text each number
# stands for, and that happens before the first weight is trained. **What should the pieces be:
# characters, bytes, words, or something between? And what does a larger vocabulary cost?** We build
# byte-pair encoding by hand, merge by merge, count what a vocabulary costs in weights and in
# arithmetic, and see why the same sentence can be three times as dear in Chinese as in English.
#
# You need [notebook 1](01_counting.ipynb) for bits per byte. Reading takes about 40 minutes, running
# about 15 seconds.

# %%
import importlib.util
import struct
from collections import Counter
from itertools import pairwise
from pathlib import Path

import numpy as np

from minillm.data import encode_documents, load_corpus, split_documents
from minillm.metrics import evaluate
from minillm.models.language_model import LanguageModel
from minillm.models.ngram import NGram
from minillm.tokenizers import BPETokenizer, ByteTokenizer, CharTokenizer, WordTokenizer
from minillm.tokenizers.bpe_simple import encode_simple, learn_merges, train_simple
from minillm.tokenizers.pretokenize import split_simple
from minillm.training import track
from minillm.viz.languages import bytes_per_token, bytes_per_token_bars
from minillm.viz.merges import MergesView, merge_figure
from minillm.viz.source import show_source
from minillm.viz.style import COLOURS, GREY, new_figure
from minillm.viz.tokens import TokenView

corpus = load_corpus("topics")
split = split_documents(corpus.documents)
train_texts = [d.text for d in split.train]
test_text = "".join(d.text for d in split.test)
print(corpus)

# %% [markdown]
# ## The mathematics
#
# A **tokenizer** is a pair of functions: `encode` from text to a list of ids below $V$, `decode` back.
# If `decode(encode(text)) == text` for every text it is *lossless*. What does the choice decide?
#
# **Length.** A text of $B$ bytes becomes $N$ tokens; write $\beta = B / N$ for the bytes a token
# holds. A model takes one step per token, and its context is so many tokens long. Larger $\beta$
# means fewer steps, and a context that reaches further back.
#
# **Weights.** Each id has a row in the embedding, $V \times C$ numbers for vectors of $C$
# components. A Transformer's $L$ blocks hold about $12\,C^2$ each, so
#
# $$\text{weights} \approx \underbrace{V C}_{\text{vocabulary}} + \underbrace{12\, C^2 L}_{\text{blocks}} .$$
#
# **Arithmetic.** A multiplication by a weight is two floating-point operations (a product and a sum).
# Looking up an embedding is none, but the output layer compares the last vector with every row of
# the table, $2 V C$ operations for each token. (Attention also compares tokens with one another,
# which uses no weights; in a short context it is little, and we leave it out.) So forward costs, for
# each *byte* of text,
#
# $$\frac{\text{FLOPs}}{\text{byte}} \approx \frac{2 V C + 24\, C^2 L}{\beta(V)} .$$
#
# The numerator grows with $V$, and so does $\beta$, but more and more slowly. Somewhere there is a
# best $V$, and it depends on the size of the model. We shall measure $\beta(V)$ and see where.
#
# **Comparing.** A model that needs $-\log_2 p$ bits for its tokens needs so many for the text, however
# it is cut. Divided by the bytes this compares across vocabularies; divided by the tokens it does not:
#
# $$\text{bits per byte} = \frac{1}{B} \sum_{i=1}^{N} -\log_2 p_i = \frac{\log_2(\text{perplexity})}{\beta} .$$
#
# ### From characters to bytes
#
# Unicode gives every character a number, its *code point*, and has room for 1,114,112 of them. UTF-8
# writes each as one to four bytes; the first byte says how many follow, and those that follow begin
# with the bits `10`. An `x` is a bit of the code point, the highest first:
#
# | code points (hexadecimal) | bits | bytes |
# |---|---|---|
# | up to `7F` | 7 | `0xxxxxxx` |
# | up to `7FF` | 11 | `110xxxxx 10xxxxxx` |
# | up to `FFFF` | 16 | `1110xxxx 10xxxxxx 10xxxxxx` |
# | up to `10FFFF` | 21 | `11110xxx 10xxxxxx 10xxxxxx 10xxxxxx` |
#
# So a vocabulary of 256 bytes can write *everything*, and ASCII stays one byte a letter. Everything
# else gets longer.

# %%
for character in "Aé水🙂":
    code = character.encode()
    bits = " ".join(f"{byte:08b}" for byte in code)
    print(f"U+{ord(character):05X}  {len(code)} byte{'s' * (len(code) > 1)}  {bits}")

# %% [markdown]
# ## The code
#
# ### Characters, bytes, words
#
# The three plain answers, on one line of text. Look at `naïve`, at the number and at the Chinese.
# Characters that training has not seen are *unknown* (red, dashed): the text does not come back. Words
# are worse: one new word, and it is gone. Bytes lose nothing, and need the most tokens.

# %% tags=["picture"] alt="One line of text cut into characters, bytes and words in coloured boxes; words and characters have unknown tokens, bytes have none but there are many of them."
characters = CharTokenizer.train(train_texts)
words = WordTokenizer.train(train_texts)
line = "The naïve generator yields 1234567 values; 你好。"
TokenView(line, {"characters": characters, "bytes": ByteTokenizer(), "words": words}).figure(
    width=8.5
)

# %% [markdown]
# ### Byte-pair encoding, by hand
#
# The idea between: begin with bytes, and **join what stands together most often**, again and again
# (Gage 1994, for compression; Sennrich, Haddow and Birch 2016, for translation; over bytes: GPT-2).
# The text is first cut into words, so that no token reaches across a space; a word keeps the space
# before it.

# %%
tiny = (
    "low low low low low lower lower newest newest newest newest newest newest widest widest widest"
)
counted = Counter(split_simple(tiny, "gpt2"))
print(counted)

# %% [markdown]
# Now count the neighbours in all words, take the most frequent pair, join it wherever it stands, and
# count again. Here are ten rounds; each line shows the three most frequent pairs, the one that is
# joined first.

# %%
pieces = {word: [bytes([b]) for b in word.encode()] for word in counted}
merges = train_simple(tiny, n_merges=10)
for number, merge in enumerate(merges, 1):
    pairs = Counter()
    for word, parts in pieces.items():
        for pair in pairwise(parts):
            pairs[pair] += counted[word]
    assert pairs[merge] == max(pairs.values())
    others = [pair for pair, _ in pairs.most_common() if pair != merge][:2]
    shown = [
        f"{a.decode()}+{b.decode()}".replace(" ", "␣") + f" {pairs[a, b]}×"
        for a, b in (merge, *others)
    ]
    for word in pieces:
        pieces[word] = encode_simple(word, merges[:number])
    print(f"{number:2}. {'   '.join(f'{s:14}' for s in shown)}→ {b''.join(merge).decode()!r}")
print("now:", *("·".join(p.decode().replace(" ", "␣") for p in parts) for parts in pieces.values()))

# %% [markdown]
# After ten merges `low` and `newest` are single tokens, and `widest`, which is rarer, still has parts.
# Nobody told it about stems and endings: it made `est` in the second round because two words share it.
#
# The learner is this function, on words and how often each stands in the text, and three small ones
# beside it in [bpe_simple.py](../minillm/tokenizers/bpe_simple.py). (It counts all pairs anew in every
# round. The trainer that is used, [bpe_train.py](../minillm/tokenizers/bpe_train.py), only updates the
# counts around a merge, and is tested to give the same merges.)

# %%
show_source(learn_merges)

# %% [markdown]
# Encoding a new text replays the merges *in the order in which they were learned*: in each word, the
# earliest merge that fits, wherever it fits, and again until none fits. Now on real text: 743 merges
# learned on Python's manual make a vocabulary of 1,000.

# %%
bpe = BPETokenizer.train(train_texts, vocab_size=1000)
for name, some in (("first 15", bpe.merges[:15]), ("last 8", bpe.merges[-8:])):
    print(f"the {name}:", *(repr((a + b).decode(errors="replace")) for a, b in some))
sample = "An iterator raises StopIteration, naïvely."
assert [bpe.vocabulary[t] for t in encode_simple(sample, bpe.merges)] == bpe.encode(sample).tolist()

# %% [markdown]
# The picture shows how a sentence is put together: at the bottom its bytes, above them every token
# that was made on the way, with the number of the merge that made it. The framed ones are left in
# the end. Look at which parts of a word have small numbers: these are the pieces that English (and
# this manual) uses everywhere.

# %% tags=["picture"] alt="A sentence as a forest of merges: bytes at the bottom, joined step by step to the framed tokens on top, each box with the number of its merge."
merge_figure("The iterator raises StopIteration, naïvely.", bpe)

# %% [markdown]
# The same to step through. Drag the slider, or use the arrow keys. The curve is the number of tokens:
# it falls by as many as the pair occurs here.

# %% tags=["picture"] alt="An interactive view with a slider that steps through the merges of a sentence; tokens are coloured, the newest is framed, and a curve shows their number falling."
MergesView(
    "The generator function yields a value; the generator then waits. 生成器 yields 值。", bpe
)

# %% [markdown]
# ## An experiment: how long does a token get?
#
# We learn vocabularies from 257 (bytes alone and the end token) to 8,000 on the manual's training
# part, and measure $\beta$, the bytes a token holds, there and on the test part. What to look for: the
# axis is logarithmic, so a straight line would mean that *doubling* the vocabulary adds a constant.
# And look at when the two lines part.

# %% tags=["picture"] alt="Bytes per token against vocabulary size on a logarithmic axis: both lines rise, test bends first, and training runs away from test beyond about a thousand."
sizes = [257, 320, 400, 512, 700, 1000, 1400, 2000, 2800, 4000, 5600, 8000]
largest = BPETokenizer.train(train_texts, vocab_size=sizes[-1])


def with_size(size):
    """The first merges of the largest: a smaller vocabulary is the beginning of a larger one."""
    merges = largest.merges[: size - 257]
    tokens = sorted(largest.vocabulary, key=largest.vocabulary.get)[:256]
    tokens += [a + b for a, b in merges]
    return BPETokenizer({token: i for i, token in enumerate(dict.fromkeys(tokens))}, merges)


def held(tokenizer, texts):
    """Bytes per token."""
    return sum(len(t.encode()) for t in texts) / sum(len(tokenizer.encode(t)) for t in texts)


tokenizers = {size: with_size(size) for size in sizes}
assert tokenizers[1000].merges == bpe.merges
beta_train = [held(tokenizers[size], train_texts) for size in track(sizes, "training part")]
beta = [held(tokenizers[size], [test_text]) for size in track(sizes, "test part")]
figure = new_figure(7.2, 4.2)
axes = figure.add_subplot(xlabel="vocabulary (tokens)", ylabel="bytes per token", xscale="log")
axes.plot(sizes, beta_train, "o-", color=COLOURS[0], label="training part")
axes.plot(sizes, beta, "s-", color=COLOURS[1], label="test part")
axes.set_xticks(sizes[::2], [f"{size:,}" for size in sizes[::2]], fontsize=8)
axes.minorticks_off()
axes.set_ylim(0)
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# A tokenizer can *overfit*: late merges are names and rare words of the training text, which hold many
# bytes there and are of little use elsewhere. A tokenizer for everything is therefore learned on a
# sample of everything, and on text that it will not be tested with.
#
# ## An experiment: is every token worth its place?
#
# A model learns a token's vector from the places where the token stands. What stands three times
# teaches next to nothing. The picture ranks the tokens of each tokenizer by how often the training
# part has them. Words fall in a nearly straight line (Zipf's law: the count is about inverse to the
# rank), down to a long row of words that come once. Look at where the lines of BPE end: a token is
# only made of what is frequent, as long as there is something frequent left.

# %% tags=["picture"] alt="Token counts by rank on logarithmic axes: words fall in a straight line to a long tail of ones; BPE of 1,000 tokens stays high to its end, BPE of 8,000 falls as the words do."
figure = new_figure(7.2, 4.4)
axes = figure.add_subplot(
    xlabel="rank", ylabel="times in the training part", xscale="log", yscale="log"
)
kinds = {"characters": characters, "BPE 1,000": bpe, "BPE 8,000": tokenizers[8000], "words": words}
for (name, tokenizer), colour in zip(kinds.items(), COLOURS, strict=False):
    ids = np.concatenate([tokenizer.encode(text) for text in train_texts])
    count = np.bincount(ids, minlength=tokenizer.vocab_size)
    ranked = np.sort(count[count > 0])[::-1]
    axes.plot(np.arange(1, len(ranked) + 1), ranked, color=colour, label=name)
    print(
        f"{name:10}  {tokenizer.vocab_size:6,} tokens; fewer than 10 times: "
        f"{np.mean(count < 10):4.0%}, never: {np.mean(count == 0):4.0%}"
    )
axes.legend(frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# Most of 1,000 tokens are seen often enough. Of 8,000 nine in ten are not: this little text has no
# more frequent pairs to offer, so a vocabulary must fit its text as well as its model.
#
# Some BPE tokens are never used on the very text they were learned from: they were steps on the way
# to longer ones, or are bytes that the text does not have. A large model's vocabulary
# has many of these; if a tokenizer was learned on one text and the model trained on another, some
# tokens are never seen in training, their vectors stay random, and typing one gives nonsense
# (Land and Bartolo 2024 hunt for them).
#
# ## An experiment: what a vocabulary costs
#
# First check the estimate of the weights on a real model of ours, of 4 blocks and 128 components.

# %%
C, L = 128, 4
for size in (257, 1000, 8000):
    model = LanguageModel.create(
        "gpt", tokenizers[size], n_layer=L, n_head=4, n_embd=C, block_size=128
    )
    estimate = size * C + 12 * C**2 * L
    print(
        f"V = {size:5,}: {model.n_parameters:9,} weights, estimate {estimate:9,}; "
        f"{size * C / model.n_parameters:3.0%} of them in the vocabulary"
    )

# %% [markdown]
# Then the arithmetic for each byte of text, from $\beta$ as measured on the test part. A small model
# on the left, one of GPT-2's size on the right. Falling: longer tokens, fewer steps. Rising: the
# output layer. Look at where the sum is lowest, and how that moves with the size of the model.

# %% tags=["picture"] alt="Stacked areas of FLOPs per byte against vocabulary size: the blocks' share falls, the output layer's rises; the sum is lowest in the middle, at about two thousand tokens, for the small model and at the right end for the large one."
figure = new_figure(9, 3.9)
for axes, (c, layers, name) in zip(
    figure.subplots(1, 2), ((C, L, "4 blocks of 128"), (768, 12, "12 blocks of 768")), strict=True
):
    blocks = 24 * c**2 * layers / np.array(beta) / 1e6
    output = 2 * c * np.array(sizes) / np.array(beta) / 1e6
    axes.stackplot(
        sizes, blocks, output, colors=(COLOURS[5], COLOURS[4]), labels=("blocks", "output layer")
    )
    best = int(np.argmin(blocks + output))
    axes.plot(sizes[best], (blocks + output)[best], "o", color=COLOURS[1])
    axes.annotate(
        f"least at {sizes[best]:,}",
        (sizes[best], (blocks + output)[best]),
        xytext=(0, 10),
        textcoords="offset points",
        ha="right" if best > 8 else "center",
        color=COLOURS[1],
    )
    axes.set(xscale="log", xlabel="vocabulary (tokens)", ylabel="million FLOPs per byte, forward")
    axes.set_title(name, fontsize=10)
    axes.set_xlim(sizes[0], sizes[-1])
    axes.set_xticks(sizes[::3], [f"{size:,}" for size in sizes[::3]], fontsize=8)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(frameon=False, loc="upper right")
    print(f"{name}: least at a vocabulary of {sizes[best]:,} of those tried")
figure

# %% [markdown]
# That is one reason why vocabularies have grown with models. GPT-2 has 50,257 tokens; the
# $50{,}257 \times 768$ numbers of its vocabulary are nearly a third of its 124 million weights. Later
# models of a hundred times the size have 100,000 tokens and more.
#
# ## An experiment: perplexity misleads
#
# Does a larger vocabulary predict better? We train the same n-gram model (modified Kneser-Ney of order
# 6) over each, and look at the test text in both measures. Perplexity first: it is nearly a hundred
# times *higher* at the right end. Is that model a hundred times worse?

# %% tags=["picture"] alt="Two panels over vocabulary size: perplexity per token rises a hundredfold, while bits per byte rise by about a tenth."
rows = []
for size in track([257, 512, 1000, 2000, 4000, 8000], "n-gram models"):
    tokenizer = tokenizers[size]
    model = NGram.train(encode_documents(split.train, tokenizer), tokenizer, order=6)
    result = evaluate(model, split.test)
    rows.append((size, result.perplexity, result.bits_per_byte))
    print(
        f"V = {size:5,}: perplexity {result.perplexity:7.2f}, {result.bits_per_byte:.3f} bits per byte"
    )
size, perplexities, bits = map(np.array, zip(*rows, strict=True))
figure = new_figure(8.4, 3.4)
left, right = figure.subplots(1, 2)
left.plot(size, perplexities, "o-", color=COLOURS[1])
left.set(ylabel="perplexity (of a token)", ylim=(0, None))
right.plot(size, bits, "o-", color=COLOURS[0])
right.set(ylabel="bits per byte", ylim=(0, 2.5))
for axes in (left, right):
    axes.set(xscale="log", xlabel="vocabulary (tokens)")
    axes.set_xticks(size, [f"{s:,}" for s in size], fontsize=8)
    axes.minorticks_off()
    axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# It is not: it chooses among thousands of tokens rather than 257 bytes, but each choice settles several
# bytes at once. By the byte, all are within about a tenth. For an n-gram model of this little text
# small pieces are even a bit better, since it has to see a piece often before it knows it. (A
# Transformer shares what it learns between pieces, and its context of so many tokens reaches further
# with longer ones, so do not expect the same of it.)
#
# ## An experiment: English and Chinese side by side
#
# To compare languages we need the same said in both. Two sources: this project's two READMEs; and, if
# the package Sphinx is installed (it makes this project's documentation), its catalogue of messages,
# several hundred English sentences with their Chinese translations. The catalogue is a `.mo` file,
# GNU gettext's format: two tables of (length, place), one for the originals, one for the
# translations.

# %%
root = Path("..")


def read_mo(path):
    """{original: translation} of a gettext catalogue ("The Format of GNU MO Files" in its manual)."""
    raw = path.read_bytes()
    order = "<" if raw[:4] == b"\xde\x12\x04\x95" else ">"
    _, _, many, originals, translations = struct.unpack_from(f"{order}5I", raw)

    def text(place):
        size, start = struct.unpack_from(f"{order}2I", raw, place)
        return raw[start : start + size].decode()

    return {text(originals + 8 * i): text(translations + 8 * i) for i in range(many)}


def parallel_texts():
    """(list of English texts, list of the same in Chinese, where they come from)."""
    spec = importlib.util.find_spec("sphinx")
    folder = Path(spec.submodule_search_locations[0]) if spec else Path("missing")
    file = folder / "locale" / "zh_CN" / "LC_MESSAGES" / "sphinx.mo"
    if file.exists():
        found = {en: zh for en, zh in read_mo(file).items() if en and "\0" not in en}
        return list(found), list(found.values()), "messages of the installed Sphinx"
    print("Sphinx is not installed, so its messages are not here: on with the two READMEs alone.")
    print("Half of what they say is commands, alike in both: the differences below are smaller.")
    names = ("README.md", "README.zh-CN.md")
    if not all((root / name).exists() for name in names):
        raise FileNotFoundError("nor are the READMEs one folder up; install sphinx, and go on here")
    in_english, in_chinese = ((root / n).read_text(encoding="utf-8").split("\n#") for n in names)
    return in_english, in_chinese, "sections of this project's READMEs"


english, chinese, where = parallel_texts()
print(f"{len(english)} {where}")
pairs = zip(english, chinese, strict=True)
for en, zh in sorted(pairs, key=lambda pair: abs(len(pair[0]) - 60))[:3]:  # three of a line each
    print(f"  {en!r:.70}\n  {zh!r:.70}")
for name, texts in (("English", english), ("Chinese", chinese)):
    print(
        f"{name}: {sum(map(len, texts)):,} characters, {sum(len(t.encode()) for t in texts):,} bytes"
    )

# %% [markdown]
# A surprise at the start: the Chinese has far fewer characters (of Sphinx's messages, less than
# half), and about as many *bytes*. A Chinese character says more than a letter, and UTF-8 gives it
# three bytes.
#
# Now four vocabularies of at most 2,000: learned on Python's manual, on the English side of these
# texts, on the Chinese side, and on both. Only a random half of the texts is learned from; we count
# the tokens of the other half.

# %% tags=["picture"] alt="Bars of the tokens needed for the same messages in English and in Chinese by four tokenizers: English-only vocabularies need about three times as many tokens for Chinese, the one learned on both needs about as many for either."
order = np.random.default_rng(0).permutation(len(english))
learn, count = order[: len(order) // 2], order[len(order) // 2 :]
learned_on = {
    "the manual": train_texts,
    "English": [english[i] for i in learn],
    "Chinese": [chinese[i] for i in learn],
    "both": [text[i] for text in (english, chinese) for i in learn],
}
of = {name: BPETokenizer.train(texts, vocab_size=2000) for name, texts in learned_on.items()}
needed = {
    name: [[len(t.encode(text[i])) for i in count] for text in (english, chinese)]
    for name, t in of.items()
}
figure = new_figure(7.6, 3.8)
axes = figure.add_subplot(
    ylabel="tokens for the same texts", xlabel="what the vocabulary was learned on"
)
for place, (name, (en, zh)) in enumerate(needed.items()):
    for shift, tokens, colour in ((-0.2, sum(en), COLOURS[0]), (0.2, sum(zh), COLOURS[1])):
        axes.bar(place + shift, tokens, 0.38, color=colour)
        axes.text(
            place + shift, tokens, f"{tokens:,}", ha="center", va="bottom", fontsize=8, color=GREY
        )
    print(
        f"learned on {name}: Chinese takes {sum(zh) / sum(en):.2f} times as many tokens as English"
    )
axes.set_xticks(range(4), needed)
axes.legend(axes.patches[:2], ["in English", "in Chinese"], frameon=False)
axes.spines[["top", "right"]].set_visible(False)
figure

# %% [markdown]
# With a vocabulary learned on English, Chinese falls back to single bytes, up to three tokens for a
# character. Whoever pays by the token, or has a context of so many tokens, pays two to three times
# for the same message (Petrov et al. 2023 measured this over many languages and published
# tokenizers). It is no property of the language: learned on Chinese it is the other way round, and
# learned on both, the same size of vocabulary serves both about equally. The price is some more
# tokens for English than a vocabulary of its own would need.
#
# This project's own two READMEs (with Sphinx's messages at hand, no vocabulary has seen them), and one
# sentence in the four ways. Much of a README is commands, the same in both, so that the difference is
# smaller there.

# %%
readmes = [root / name for name in ("README.md", "README.zh-CN.md")]
if not all(path.exists() for path in readmes):
    print("The READMEs are not one folder up from this notebook: on without them.")
    readmes = []
for name, tokenizer in of.items() if readmes else ():
    en, zh = (len(tokenizer.encode(path.read_text(encoding="utf-8"))) for path in readmes)
    print(
        f"learned on {name:10}  README.md {en:6,} tokens, README.zh-CN.md {zh:6,}, {zh / en:.2f} times"
    )

# %% tags=["picture"] alt="One English and one Chinese sentence in coloured tokens by four vocabularies; English-only ones cut each Chinese character into bytes, those that learned Chinese have whole characters and words."
TokenView("The document contains an unknown option.\n文档中包含未知的选项。", of).figure(width=8.5)

# %% [markdown]
# A box with `0x` and two digits is a byte that is no character by itself. And a last look at more
# languages, with a short text that says the same in ten of them, and a piece of Python. The two
# colours are what the vocabulary was learned on. Bytes favour scripts that need more of them for a
# letter, so compare the bars *within* a language.

# %% tags=["picture"] alt="Bars of bytes per token for ten languages and Python, by the vocabulary learned on English and the one learned on English and Chinese: only Chinese and Japanese gain from the second."
bytes_per_token_bars(bytes_per_token({"English": of["English"], "English and Chinese": of["both"]}))

# %% [markdown]
# ## An experiment: what a model never sees
#
# A model sees ids, not letters. Look at what the vocabulary of 1,000 does to spelling, numbers and
# blanks. `value` at the beginning of a line, after a space, and in capitals comes out as different
# tokens, and nothing tells the model that they are one word; numbers are cut where the manual
# happened to have pieces, so digits do not line up; and a space at the end of a prompt is a token by
# itself, where the model expects it at the beginning of the next.

# %% tags=["picture"] alt="Several lines in coloured tokens: the same word in different tokens after a space and in capitals, numbers cut irregularly, and a trailing space that is a token by itself."
lines = "value value Value VALUE values\n1 12 123 1234 2024 31 + 310 = 341\n    return self\n        return self\nThe end "
TokenView(lines, {"BPE of 1,000": bpe}, ids=True).figure(width=8.5)

# %% [markdown]
# ## Exercises
#
# **1. UTF-8.** Write the bytes of a code point, by the table above, without `str.encode`. (`code >> 6`
# drops the last 6 bits of a number, `code & 0b111111` keeps only them, `a | b` puts bits together.)


# %% tags=["exercise"] exercise="utf8"
def utf8_bytes(code):
    """The UTF-8 of a code point (int), as bytes."""
    raise NotImplementedError("exercise 1: UTF-8")


# %% tags=["check", "raises-exception"] exercise="utf8"
rng = np.random.default_rng(1)
edges = [0, 0x7F, 0x80, 0x7FF, 0x800, 0xFFFF, 0x10000, 0x10FFFF]
drawn = [int(rng.integers(2 ** int(rng.integers(1, 21)))) for _ in range(300)]
for code in edges + [code for code in drawn if not 0xD800 <= code < 0xE000]:
    found, expected = utf8_bytes(code), chr(code).encode()
    assert isinstance(found, bytes), f"the result should be bytes, got {type(found).__name__}"
    assert found == expected, (
        f"U+{code:04X} is {expected.hex(' ')}, got {found.hex(' ')}: the first byte says how "
        "many there are, each of the others holds 6 bits, the highest first"
    )
print("right")

# %% [markdown]
# **2. The next merge.** Given the words of a text as tuples of tokens, with how often each word occurs,
# find the pair of neighbours that is most frequent. (In `a a a` the pair `a a` stands twice. Of equal
# pairs, any will do.)


# %% tags=["exercise"] exercise="pair"
def next_merge(words):
    """The most frequent pair (bytes, bytes) in words, a dict of tuple of bytes -> count."""
    raise NotImplementedError("exercise 2: the next merge")


# %% tags=["check", "raises-exception"] exercise="pair"
rng = np.random.default_rng(2)
for _ in range(50):
    alphabet = [bytes([97 + i]) for i in range(4)]
    drawn = {
        tuple(rng.choice(alphabet, size=rng.integers(1, 7)).tolist()): int(rng.integers(1, 9))
        for _ in range(6)
    }
    drawn[(b"a", b"b")] = drawn.get((b"a", b"b"), 0) + 1
    pairs = Counter()
    for word, many in drawn.items():
        for i in range(len(word) - 1):
            pairs[word[i : i + 2]] += many
    found = next_merge(dict(drawn))
    assert pairs.get(tuple(found), 0) == max(pairs.values()), (
        f"in {drawn} the pair {pairs.most_common(1)[0][0]} comes {max(pairs.values())} times, but "
        f"{found} {pairs.get(tuple(found), 0)} times. Does a word that occurs 5 times count 5 times?"
    )
print("right")

# %% [markdown]
# **3. Encoding.** Encode one word with a list of merges: of all neighbours that some merge joins, take
# the one that was learned *earliest*, join it, and begin again. Taking the longest token that fits
# from the left is another method, WordPiece's, and gives other tokens.


# %% tags=["exercise"] exercise="encode"
def encode_word(word, merges):
    """The tokens, a list of bytes, of a word (bytes) by merges, a list of (bytes, bytes)."""
    raise NotImplementedError("exercise 3: encoding")


# %% tags=["check", "raises-exception"] exercise="encode"
for word in sorted(set(split_simple(test_text[:20_000], "gpt2"))):
    expected = encode_simple(word, bpe.merges)
    found = list(encode_word(word.encode(), bpe.merges))
    assert b"".join(found) == word.encode(), f"the tokens of {word!r} must join to it, got {found}"
    assert found == expected, (
        f"{word!r} is {expected}, got {found}: the earliest merge first, not the longest token, and "
        "joined wherever it stands"
    )
print("right")

# %% [markdown]
# **4. The cheapest vocabulary.** From measured bytes per token, find the vocabulary with the fewest
# FLOPs per byte of forward, by the formula above. Then a variant: a model that predicts the next *two*
# tokens at once, each by an output layer of its own (`heads=2`), runs through its blocks half as often.
# Does the best vocabulary become larger or smaller?


# %% tags=["exercise"] exercise="cheapest"
def cheapest(beta, *, width, layers, heads=1):
    """(vocabulary, FLOPs per byte) of the cheapest of beta, a dict of vocabulary -> bytes per token.

    width : C; layers : L; heads : tokens predicted by each run through the blocks
    """
    raise NotImplementedError("exercise 4: the cheapest vocabulary")


# %% tags=["check", "raises-exception"] exercise="cheapest"
measured = dict(zip(sizes, beta, strict=True))
for width, layers, heads in ((128, 4, 1), (768, 12, 1), (64, 2, 1), (128, 4, 2), (768, 12, 4)):
    cost = {
        size: (2 * size * width + 24 * width**2 * layers / heads) / bytes_
        for size, bytes_ in measured.items()
    }
    expected = min(cost, key=cost.get)
    size, flops = cheapest(measured, width=width, layers=layers, heads=heads)
    assert size == expected, (
        f"{layers} blocks of {width}, {heads} at once: {expected:,} is the cheapest, got {size:,}. "
        "Did you divide by the bytes that a token holds? With several at once the blocks are shared, "
        "the output layers are not."
    )
    assert np.isclose(flops, cost[expected]), (
        f"V = {expected:,} costs {cost[expected]:,.0f} FLOPs per byte, got {flops:,.0f}: each token pays "
        "for one output layer, 2 V C, and for its share of the blocks, 24 C² L"
    )
    print(
        f"{layers:2} blocks of {width}, {heads} at once: V = {size:,}, {flops / 1e6:.2f} MFLOPs a byte"
    )
print("right")

# %% [markdown]
# ## Where to go next
#
# - [Backpropagation by hand](03_backpropagation.ipynb): from counting to models that are trained.
# - [Tokenizers](../docs/tokenizers.md): the commands, WordPiece, unigram pieces, files of others, and
#   what equals Hugging Face, tiktoken and SentencePiece.
# - [The embedding](../docs/derivations/embedding.md) and
#   [the fused output layer](../docs/derivations/linear_cross_entropy.md), where a large vocabulary is
#   paid for.
#
# Papers: Gage 1994 (*A new algorithm for data compression*); Sennrich, Haddow and Birch 2016
# (arXiv:1508.07909); Radford et al. 2019 (GPT-2, over bytes); Kudo 2018 (arXiv:1804.10959, unigram
# pieces); Petrov, La Malfa, Torr and Bibi 2023 (arXiv:2305.15425, what languages pay); Land and
# Bartolo 2024 (arXiv:2405.05417, tokens that no model has seen).
