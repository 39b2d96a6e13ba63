"""Cache-sized pieces: a chain of elementwise passes runs on a few hundred kilobytes at a time.

A pass over an array that is larger than the cache waits for memory; ten passes over a piece that
stays in the cache wait once.
"""

PIECE = 1 << 17  # elements: 512 KiB in float32, so that four such arrays fit a 2 MiB L2 cache


def pieces(n_rows, row_size, size=PIECE):
    """Slices that cut `n_rows` rows of `row_size` elements into pieces of about `size` elements."""
    rows = max(1, size // max(1, row_size))
    for start in range(0, n_rows, rows):
        yield slice(start, min(start + rows, n_rows))
