"""Big arrays in pieces that fit the cache, shared out over threads.

An update reads and writes each parameter, its gradient and its state a dozen times. Done leaf by
leaf, each of these passes goes through main memory; done piece by piece, all but the first find
their numbers in the processor's second-level cache. The result is the same, element by element.
"""

__all__ = ["PIECE", "pieces", "spread"]

PIECE = 1 << 17  # elements: less would spend the time of two threads on waiting for each other


def pieces(sizes):
    """Cut arrays of these sizes into (index, start, stop) of at most PIECE elements."""
    return [
        (index, start, min(start + PIECE, size))
        for index, size in enumerate(sizes)
        for start in range(0, size, PIECE)
    ]


def spread(function, work, pool=None):
    """Call function(part) on consecutive parts of the list of pieces, one part for each thread.

    The parts hold about the same number of elements. Returns the results in the parts' order.
    """
    if pool is None or pool.threads == 1:
        return [function(work)]
    total = sum(stop - start for _, start, stop in work)
    parts: list[list] = [[] for _ in range(pool.threads)]
    done = 0
    for piece in work:
        parts[min(done * pool.threads // total, pool.threads - 1)].append(piece)
        done += piece[2] - piece[1]
    return pool.map(function, parts)
