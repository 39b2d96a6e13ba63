"""A student's text, made fit to be shown: no control characters, no markup, no more than a page.

What a student's process prints or raises, and how a student names files, ends up in a terminal, in
Markdown, in XML and in a web page. None of these may be taken over by it.
"""

import re
import unicodedata

__all__ = ["bounded", "clean", "fenced", "inline", "one_line", "safe_name"]

# What XML 1.0 (section 2.2, production 2) refuses; and what turns the direction of text around
# (Boucher & Anderson 2021, arXiv:2111.00169), so that a reader sees another text than there is.
_UNFIT = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef\ufffe\uffff"
    "\u061c\u200b\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069\ufeff]"
)
_MARKDOWN = re.compile(r"([\\`*_\[\]<>&|~$#])")
_KEPT = set(" ._-+@,()'=")
_LONGEST_NAME = 80
_DEVICES = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?", re.IGNORECASE)


def clean(text):
    """The text with what cannot be shown written as an escape: ESC as \\x1b. Newlines stay."""
    text = str(text).replace("\r\n", "\n")
    return _UNFIT.sub(lambda match: ascii(match[0])[1:-1], text)


def bounded(text, most=4000, lines=60, width=200):
    """The beginning and the end of a text, and between them how much is left out.

    Parameters
    ----------
    text : str
    most : int, characters that stay
    lines : int, lines that stay
    width : int, characters of a line that stay
    """
    text = str(text)
    if len(text) > most:
        half = most // 2
        gap = f"\n[{len(text) - 2 * half} characters left out]\n"
        text = text[:half] + gap + text[-half:]
    rows = [row if len(row) <= width else row[:width] + " [cut]" for row in text.split("\n")]
    if len(rows) > lines:
        half = lines // 2
        rows = [*rows[:half], f"[{len(rows) - 2 * half} lines left out]", *rows[-half:]]
    return "\n".join(rows)


def one_line(text, most=300):
    """The text cleaned, on one line, and cut after `most` characters."""
    text = " ".join(clean(str(text)[: 4 * most]).split())
    return text if len(text) <= most else text[: most - 1] + "\N{HORIZONTAL ELLIPSIS}"


def inline(text, most=300):
    """One line of Markdown that shows the text as it is: no markup, no link, no HTML."""
    text = _MARKDOWN.sub(r"\\\1", one_line(text, most))
    # a bare address would become a link where GitHub's rules hold
    return text.replace("://", ":\\//").replace("www.", "www\\.")


def fenced(text, language="text"):
    """A code block of the text, with a fence that is longer than any inside."""
    text = bounded(clean(text)).strip("\n")
    longest = max((len(run) for run in re.findall(r"`+", text)), default=0)
    fence = "`" * max(3, longest + 1)
    return f"{fence}{language}\n{text}\n{fence}"


def safe_name(name, taken=()):
    """A name for a file or folder on any system, which none of `taken` equals in any case.

    Letters and digits of all scripts, single spaces and a few signs stay; all else becomes "_".
    """
    name = unicodedata.normalize("NFC", clean(name))
    name = "".join(c if c.isalnum() or c in _KEPT else "_" for c in name)[:_LONGEST_NAME]
    name = name.encode()[: 2 * _LONGEST_NAME].decode(errors="ignore").strip(" .") or "_"
    if name[0] in "-+=@" or _DEVICES.fullmatch(name):
        name = "_" + name
    used = {unicodedata.normalize("NFC", other).casefold() for other in taken}
    unique, number = name, 1
    while unicodedata.normalize("NFC", unique).casefold() in used:
        number += 1
        unique = f"{name}-{number}"
    return unique
