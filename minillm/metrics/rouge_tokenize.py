"""The words that ROUGE counts.

`rouge` keeps runs of ASCII letters and digits, lowercased, as the package rouge_score does: a text
in Chinese has no such word, and scores 0 against itself. `unicode` gives the same words for ASCII
text, and takes letters, marks and digits of any script: in scripts that write words with spaces a
run of them, in those that do not each character.
"""

import regex

from minillm.errors import UserError
from minillm.metrics.checks import named
from minillm.metrics.ngram_overlap import number_words

__all__ = ["ROUGE_TOKENIZERS", "number_lines", "rouge_words"]

# for bytes.translate: letters and digits stay, the line feed too; all else becomes a space
ASCII = bytes(code if chr(code).isalnum() or code == 10 else 32 for code in range(128)) + b" " * 128
SPACELESS = r"\p{Han}\p{Hiragana}\p{Katakana}\u30fc\p{Thai}\p{Lao}\p{Khmer}\p{Myanmar}"
WORDS = regex.compile(
    rf"(?V1)[[\p{{L}}\p{{N}}]&&[{SPACELESS}]]\p{{M}}*|[[\p{{L}}\p{{M}}\p{{N}}]--[{SPACELESS}]]+"
)


def _ascii_lines(text):
    kept = text.lower().encode("ascii", "replace").translate(ASCII)
    return [line.split() for line in kept.split(b"\n")]


def _unicode_lines(text):
    return [WORDS.findall(line) for line in text.lower().split("\n")]


ROUGE_TOKENIZERS = {"rouge": _ascii_lines, "unicode": _unicode_lines}


def rouge_words(text, tokenizer="rouge", *, stem=False):
    """The words of a text, line by line: a list of lists of str.

    Parameters
    ----------
    tokenizer : "rouge", or "unicode" for text in any script
    stem : take English endings off words of more than three letters (Porter 1980), by NLTK

    Raises
    ------
    UserError
        for a tokenizer that there is not, or where NLTK is missing.
    """
    named("ROUGE tokenizer", tokenizer, ROUGE_TOKENIZERS)
    lines = [[_str(word) for word in line] for line in ROUGE_TOKENIZERS[tokenizer](text)]
    if not stem:
        return lines
    cut = _stemmer()
    return [[piece for word in line for piece in cut([word])[0]] for line in lines]


def number_lines(texts, tokenizer="rouge", *, stem=False):
    """The words of many texts, as numbers; each distinct word is stemmed once.

    Returns
    -------
    ids : int64 (N,), the words of all lines of all texts, equal ones equal
    lengths : int64 (lines,), the words of each line
    lines : list of ints, the lines of each text
    """
    named("ROUGE tokenizer", tokenizer, ROUGE_TOKENIZERS)
    cut = _stemmer() if stem else None
    of_text = list(map(ROUGE_TOKENIZERS[tokenizer], texts))
    rows = [line for lines in of_text for line in lines]
    ids, lengths = number_words(rows, cut)
    return ids, lengths, list(map(len, of_text))


def _stemmer():
    """A function that gives the stem of each word of a list, each in a list of its own."""
    try:
        from nltk.stem.porter import PorterStemmer
    except ImportError:
        raise UserError("stemming needs NLTK, which is not installed: pip install nltk") from None
    stem = PorterStemmer().stem

    def cut(words):
        return [[stem(word) if len(word) > 3 else word] for word in map(_str, words)]

    return cut


def _str(word):
    return word.decode("ascii") if isinstance(word, bytes) else word
