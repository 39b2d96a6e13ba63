"""The words that TER counts: the normalisation of Tercom (Snover et al. 2006), as sacrebleu has it.

Left out: sacrebleu's three patterns for runs of Japanese syllables. They ask for one at the very
start of a line that at this place begins with a space, and so never match.
"""

import re

__all__ = ["ter_tokenize"]

SIGNS = re.compile(r"([!-&(-+:-@\[-`{-~/])")
# Chinese characters, strokes and radicals, compatibility forms, enclosed letters and months
IDEOGRAPHS = re.compile(
    "([\u4e00-\u9fff\u3400-\u4dbf\u31c0-\u31ef\u2e80-\u2eff\u3200-\u33ff\uf900-\ufaff\ufe30-\ufe4f])"
)
EASTERN_MARKS = re.compile(
    "([\u3001\u3002\u3008-\u3011\u3014-\u301f\uff61-\uff65\u30fb"
    "\uff0e\uff0c\uff1f\uff1a\uff1b\uff01\uff02\uff08\uff09])"
)
WESTERN_MARKS = re.compile(r"[.,?:;!\"()]")


def ter_tokenize(
    text, *, normalized=False, no_punct=False, asian_support=False, case_sensitive=False
):
    """The words of a text, list of str; without any setting, lowercased and cut at white space.

    Parameters
    ----------
    normalized : join lines, read `&quot;` and its like, cut off punctuation
    no_punct : leave out punctuation
    asian_support : beside `normalized`, cut Chinese characters and marks apart; beside `no_punct`,
        leave out these marks too
    case_sensitive : keep capitals
    """
    text = text.rstrip()
    if not case_sensitive:
        text = text.lower()
    if normalized:
        text = _western(text)
        if asian_support:
            text = EASTERN_MARKS.sub(r" \1 ", IDEOGRAPHS.sub(r" \1 ", text))
    if no_punct:
        text = WESTERN_MARKS.sub("", text)
        if asian_support:
            text = EASTERN_MARKS.sub("", text)
    return text.split()


def _western(text):
    text = text.replace("\n-", "").replace("\n", " ")
    for old, new in (("&quot;", '"'), ("&amp;", "&"), ("&lt;", "<"), ("&gt;", ">")):
        text = text.replace(old, new)
    text = SIGNS.sub(r" \1 ", f" {text} ").replace("'s ", " 's ")
    text = re.sub(r"([^0-9])([.,])", r"\1 \2 ", text)
    text = re.sub(r"([.,])([^0-9])", r" \1 \2", text)
    return re.sub(r"([0-9])(-)", r"\1 \2 ", text)
