"""How many bytes a token holds in different languages: what a tokenizer was trained for shows.

A token is a step of a model and a place in its context, so a language of few bytes a token is dear.
Bytes favour scripts that need more of them for a letter: compare tokenizers within a language.
"""

import dataclasses

import numpy as np

from minillm.lines import aligned
from minillm.viz.style import COLOURS, GREY, new_figure

__all__ = ["SAMPLES", "Held", "bytes_per_token", "bytes_per_token_bars", "bytes_per_token_table"]

SAMPLES = {
    "English": "The cat sat by the window and watched the rain. In the evening the house was "
    "quiet, and somebody read a book under the lamp. Tomorrow, they said, it won't rain.",
    "German": "Die Katze saß am Fenster und sah dem Regen zu. Am Abend war es still im Haus, und "
    "jemand las unter der Lampe ein Buch. Morgen, hieß es, werde es nicht regnen.",
    "French": "Le chat était assis près de la fenêtre et regardait la pluie. Le soir, la maison "
    "était calme, et quelqu'un lisait un livre sous la lampe. Demain, il ne pleuvra pas.",
    "Russian": "Кошка сидела у окна и смотрела на дождь. Вечером в доме было тихо, и кто-то читал "
    "книгу под лампой. Завтра, говорили они, дождя не будет.",
    "Greek": "Η γάτα καθόταν στο παράθυρο και κοίταζε τη βροχή. Το βράδυ το σπίτι ήταν ήσυχο και "
    "κάποιος διάβαζε ένα βιβλίο κάτω από τη λάμπα. Αύριο δεν θα βρέξει.",
    "Arabic": "جلست القطة عند النافذة تنظر إلى المطر. في المساء كان البيت هادئا، وكان أحدهم يقرأ "
    "كتابا تحت المصباح. قالوا إن المطر لن ينزل غدا.",
    "Hindi": "बिल्ली खिड़की के पास बैठी बारिश देख रही थी। शाम को घर में शांति थी, और कोई दीये के नीचे किताब "
    "पढ़ रहा था। कल बारिश नहीं होगी।",
    "Chinese": "猫坐在窗边看雨。傍晚屋子里很安静,有人在灯下看书。他们说,明天不会下雨。",
    "Japanese": "猫は窓辺に座って雨を眺めていた。夕方になると家は静かで、"
    "誰かがランプの下で本を読んでいた。明日は雨が降らないそうだ。",
    "Korean": "고양이는 창가에 앉아 비를 바라보았다. 저녁이 되자 집은 조용했고, "
    "누군가 등불 아래에서 책을 읽고 있었다. 내일은 비가 오지 않는다고 했다.",
    "Python": "def mean(values):\n    total = 0.0\n    for i, value in enumerate(values):\n"
    "        total += (value - total) / (i + 1)  # no sum that could overflow\n    return total\n",
}


@dataclasses.dataclass(frozen=True)
class Held:
    """Of a text by a tokenizer: its bytes of UTF-8, its tokens, and the bytes that are unknown."""

    n_bytes: int
    tokens: int
    unknown_bytes: int

    @property
    def per_token(self):
        """Bytes a token; those that are unknown are lost, and no token holds them."""
        known = self.n_bytes - self.unknown_bytes
        return known / self.tokens if self.tokens else float("nan")

    @property
    def unknown(self):
        """The share of the bytes that stands behind unknown tokens."""
        return self.unknown_bytes / self.n_bytes if self.n_bytes else 0.0


def bytes_per_token(tokenizers, texts=None):
    """How much of each text a token of each tokenizer holds.

    Parameters
    ----------
    tokenizers : {name: tokenizer}
    texts : {language: str} or None, None: SAMPLES

    Returns
    -------
    held : {language: {name: Held}}
    """
    texts = SAMPLES if texts is None else texts
    return {
        language: {
            name: Held(
                len(text.encode()), len(tokenizer.encode(text)), tokenizer.unknown_bytes(text)
            )
            for name, tokenizer in tokenizers.items()
        }
        for language, text in texts.items()
    }


def bytes_per_token_table(held):
    """`bytes_per_token` as lines of text; the share that is unknown stands in brackets."""
    names = list(dict.fromkeys(name for row in held.values() for name in row))
    rows = [["bytes per token", *names]]
    for language, row in held.items():
        rows.append([language, *(_cell(row[name]) for name in names)])
    return aligned(rows)


def bytes_per_token_bars(held, *, title=None):
    """`bytes_per_token` as bars, a group for each language.

    Parameters
    ----------
    held : as `bytes_per_token` gives it
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        if there is nothing to draw.
    """
    names = list(dict.fromkeys(name for row in held.values() for name in row))
    if not names:
        raise ValueError("bytes_per_token_bars needs at least one language and one tokenizer")
    thick = 0.8 / len(names)
    figure = new_figure(7.2, 1.1 + len(held) * (0.13 * len(names) + 0.1))
    axes = figure.add_subplot(title=title, xlabel="bytes per token")
    place = np.arange(len(held))
    for k, name in enumerate(names):
        each = np.array([row[name].per_token for row in held.values()])
        where = place + (k - (len(names) - 1) / 2) * thick
        axes.barh(where, each, 0.9 * thick, color=COLOURS[k % len(COLOURS)], label=name)
        for at, wide, row in zip(where, each, held.values(), strict=True):
            if row[name].unknown_bytes:
                lost = f" {row[name].unknown:.0%} unknown"
                axes.text(wide, at, lost, fontsize=6.5, color=GREY, va="center")
    axes.set_yticks(place, list(held))
    axes.set_ylim(len(held) - 0.4, -0.6)  # the first on top
    axes.tick_params(length=0, labelsize=9)
    axes.spines[["top", "right", "left"]].set_visible(False)
    axes.grid(axis="x", color="0.9", linewidth=0.8)
    axes.set_axisbelow(True)
    axes.xaxis.label.set_color(GREY)
    if len(names) > 1:
        axes.legend(frameon=False, fontsize=9, loc="upper left", bbox_to_anchor=(1, 1))
    return figure


def _cell(held):
    lost = f" ({held.unknown:.0%} unknown)" if held.unknown_bytes else ""
    return f"{held.per_token:.2f}{lost}"
