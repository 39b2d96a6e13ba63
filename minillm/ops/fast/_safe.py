"""When a softmax may do without subtracting the largest logit: take the exponentials, then look."""

# A sum of exponentials in this range has neither overflowed nor lost its large terms: those are at
# least the sum over the number of terms, far above the smallest normal float32, 1e-38.
LOWEST, HIGHEST = 1e-20, 1e30


def is_safe(total):
    """Whether every sum of exponentials is as good as one taken after subtracting the largest."""
    return bool(total.min(initial=1) > LOWEST and total.max(initial=1) < HIGHEST)
