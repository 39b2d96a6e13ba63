"""Segments to score: drawn from all of Unicode and what the tokenizers treat apart, and real."""

import functools

from hypothesis import strategies as st

from minillm.bench.classical_ours_metrics import edited_pairs

__all__ = ["LINES", "real_segments", "segments", "streams", "texts"]

LINES = [
    "the mill stands by the river and turns all day",
    "she reads the letter twice and puts it away",
    "rain came in the night and the road is gone",
    "two boys carry the basket up the hill",
    "nobody knew who had left the door open",
    "the clock in the square has stopped again",
]

# fmt: off
PIECES = [
    "a", "b", "cat", "sat", "the cat", " ", " ", " ", "\n", "\t", "\u2028", "\u3000", ".", ",", "-",
    "...", "..5", "5.", "3,4", "1-2", "'s ", "(", ")", "$", "%", "\"", "“", "—", "€", "&quot;",
    "&amp;", "&amp;lt;", "<skipped>", "-\n", "\n-", "Σ", "ΑΣ", "İ", "ß", "\u0301", "中", "文", "。",
    ",", "!", "カ", "ひ", "한국", "ไทย", "٣", "²", "\u2a6d", "\u2a6e", "\u2f81", "\U00020000", "😀",
    "\u212a",
]
# fmt: on
texts = st.lists(st.sampled_from(PIECES) | st.text(max_size=2), max_size=14).map("".join)


@st.composite
def segments(draw):
    """Hypotheses, and for each one to three references, some of them much like it."""
    hypotheses = draw(st.lists(texts, min_size=1, max_size=4))
    references = []
    for hypothesis in hypotheses:
        cut = draw(st.integers(0, len(hypothesis)))
        like = st.builds(lambda new, h=hypothesis, at=cut: h[:at] + new + h[at + 1 :], texts)
        references.append(
            draw(st.lists(st.just(hypothesis) | like | texts, min_size=1, max_size=3))
        )
    return hypotheses, references


def streams(references):
    """As sacrebleu takes references: the first of every segment, the second, ..., None for none."""
    most = max(map(len, references))
    return [
        [several[r] if r < len(several) else None for several in references] for r in range(most)
    ]


@functools.cache
def real_segments(pairs, sentences=1):
    """Sentences of Python's help, edited, and two references each: the original, and the next's."""
    hypotheses, references = edited_pairs(pairs, sentences)
    following = references[1:] + references[:1]
    return hypotheses, [list(two) for two in zip(references, following, strict=True)]
