"""The n-gram that KenLM's lmplz reads last.

lmplz (Heafield et al. 2013) numbers the words as they first appear, after <unk>, <s> and </s>, and
reads the longest n-grams sorted by last word, then by the word before it, and so on. Each time a
word differs from the n-gram before, the shorter n-grams that end there are complete, and enter the
counts of counts with their adjusted counts. Those of the very last n-gram are written out after the
loop, and there adjust_counts.cc takes how often they occur instead. In a large text this changes a
discount in the fourth digit or so, in a small one it may change much; to have the same numbers, one
must know which n-gram that is.
"""

import numpy as np

__all__ = ["last_read"]


def last_read(text, appears, order):
    """Where the n-gram stands that is the last one in KenLM's order.

    Parameters
    ----------
    text : int (N + 1,), tokens; the first one is the end id, which begins every document
    appears : int (V,), where each token stands first; -1 for one that does not occur
    order : int

    Returns
    -------
    place : int, of its last token
    reach : int, how many tokens stand before it in its document, the end id included; at most
        order - 1; -1 for an empty text
    """
    if len(text) == 1:
        return 0, -1
    end_id = text[0]
    places = np.flatnonzero(text[1:] == appears.argmax()) + 1
    for back in range(1, order):
        before = appears[text[places - back]]
        places = places[before == before.max()]
        if text[places[0] - back] == end_id:
            return int(places[0]), back
    return int(places[0]), order - 1
