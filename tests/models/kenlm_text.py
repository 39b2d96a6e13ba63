"""A text to compare with KenLM's lmplz on, and the recipe of the files in fixtures/.

`sentences` makes up a text by a little grammar and random numbers of its own, so that it is the
same everywhere: varied enough that at every length up to 3 there are n-grams that occur once,
twice, three and four times, as the discounts' formula needs. The files were made by KenLM 0.3.0:

    python -m tests.models.kenlm_text > text
    lmplz -o 3 --text text --arpa order3.arpa
    lmplz -o 3 --text text --arpa pruned.arpa --prune 0 1 2
    head -n 12 text | lmplz -o 4 --discount_fallback --arpa fallback.arpa
    gzip -n -9 order3.arpa pruned.arpa fallback.arpa

Where that program is on the path, or the environment variable LMPLZ names it, the tests run it on
other texts, too.
"""

WHO = "the miller,a heron,my aunt,the old ferry,nobody,the choir,a grey cat,our neighbour,rain"
DOES = "sees,finds,forgets,paints,sells,follows,praises,mends,hides,counts,borrows,warms,drops"
WHAT = (
    "river,lamp,ladder,orchard,kettle,letter,bridge,window,basket,violin,garden,candle,stable,"
    "harvest,mirror,saddle,feather,cellar,wagon,meadow,barrel,anchor,thimble,ribbon,oven,quay"
)
LIKE = "red,blue,small,quiet,broken,painted,heavy,borrowed,silver,narrow,damp,crooked"
WHERE = "near,behind,under,beyond,inside,above,beside,without,against"
WHEN = "today,again,at night,in spring,before noon,as always,once more,too,after the fair,twice"
FIRST = "An,Bel,Cor,Dor,El,Fen,Gil,Hal,Is,Jor,Kat,Lin,Mar,Nor,Ol,Per,Quin,Ros,Sal,Tor"
LAST = "a,bert,da,dric,ella,fred,go,ian,in,ka,la,mund,na,ny,o,ric,sa,son,ta,wen"


class Draw:
    """Random numbers (a linear congruential generator with Knuth's MMIX constants)."""

    def __init__(self, seed):
        self.state = seed

    def below(self, n):
        self.state = (self.state * 6364136223846793005 + 1442695040888963407) % (1 << 64)
        return (self.state >> 33) % n

    def one_of(self, names):
        """The first names are much likelier than the last."""
        names = names.split(",")
        return names[min(self.below(len(names)) for _ in range(3))]

    def name(self):
        """One of four hundred; many of them come only once or twice."""
        number = min(self.below(400), self.below(400))
        return FIRST.split(",")[number // 20] + LAST.split(",")[number % 20]


def sentences(n=400, seed=4):
    """n lines of words between single spaces.

    The last three are equal, so that what KenLM reads last occurs more often than it has words
    before it: the case in which its discounts are not the textbook's.
    """
    draw = Draw(seed)
    lines = []
    for _ in range(n):
        words = [draw.one_of(WHO) if draw.below(3) else draw.name(), draw.one_of(DOES)]
        words += ["the"] if draw.below(4) else [f"{draw.name()}'s"]
        if draw.below(3) == 0:
            words.append(draw.one_of(LIKE))
        words.append(draw.one_of(WHAT))
        if draw.below(2):
            words += [draw.one_of(WHERE), "the", draw.one_of(WHAT)]
        if draw.below(3) == 0:
            words += ["with", draw.name()]
        if draw.below(4) == 0:
            words.append(draw.one_of(WHEN))
        lines.append(" ".join(words))
    return [*lines[: max(n - 3, 0)], *["so ends the tale"] * min(n, 3)]


if __name__ == "__main__":
    print("\n".join(sentences()))
