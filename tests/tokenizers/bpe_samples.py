"""Texts and trained tokenizers that the tests of byte-level BPE share."""

import functools

from hypothesis import strategies as st

from minillm.tokenizers.bpe import BPETokenizer

TEXT = (
    "The heron stands in the shallow water and doesn't move. It's waiting; it'll wait for hours.\n"
    "    def wait(hours, *, until=None):\n        return [hour for hour in range(hours)]\n\n"
    "Ten herons stood there in 1987, then 12, then 2024 of them -- who'd have thought?\r\n"
    "秋天的早晨,湖面很静。一只白鹭站在水里,一动不动。它在等鱼。天亮以后,白鹭飞走了。\n"
    "\t\tNaïve façade, Ελληνικά, кошка на крыше, 🐈🐈‍⬛ and the the the heron again!!!\n"
)

# What the patterns treat apart: white space of all kinds, contractions in any case, the long s,
# numbers, joiners, controls.
HARD = [
    " ", "  ", "\n", "\r\n", "\t", "\x0b", "\x1c", "\x85", "\xa0", "\u2028", "\u3000", "\u200b",
    "'s", "'S", "'ll", "'LL", "'re", "'\u017f", "\u017f", "'", "don't", "1", "12345", "½", "٣", "Ⅷ",
    "the", " heron", "白鹭", "🐈", "👩‍👩‍👧", "e\u0301", "é", "\x00", "\x7f", "\ufeff", "\ue000",
    "\U0010ffff", "!!!", " --", "_", "<|endoftext|>",
]  # fmt: skip

ANY_TEXT = st.one_of(
    st.text(st.characters(codec="utf-8")),  # every code point but the surrogates
    st.lists(st.one_of(st.sampled_from(HARD), st.characters(codec="utf-8"))).map("".join),
)


# Characters any two of which `telling` joins, so that its ids tell where a word ended.
ALPHABET = " \n\r\t'sSl1a!\u017f\u3000"
TELLING_TEXT = st.text(ALPHABET)


@functools.cache
def telling(pattern):
    """A tokenizer that joins any two characters of ALPHABET that stand in one word."""
    vocabulary = {bytes([byte]): byte for byte in range(256)}
    merges = []
    for character in ALPHABET:
        data = character.encode()
        merges += [(data[:i], data[i : i + 1]) for i in range(1, len(data))]
    merges += [(a.encode(), b.encode()) for a in ALPHABET for b in ALPHABET]
    for left, right in merges:
        vocabulary[left + right] = len(vocabulary)
    return BPETokenizer(vocabulary, merges, pattern=pattern)


@functools.cache
def trained(pattern="gpt2"):
    """A tokenizer with some 300 merges."""
    return BPETokenizer.train(TEXT * 2, vocab_size=557, pattern=pattern)
