"""Right numbers in the wrong places: transposed, rolled, reversed, slices exchanged."""

import itertools

import numpy as np

from minillm.gradcheck.diagnosis._view import Guess, axis_words

__all__ = [
    "reordered",
    "rolled",
    "same_numbers",
    "slices",
    "transposed",
]

MOST_AXES = 4  # 24 orders of the axes; more are no mistake that a person makes


def transposed(view):
    """The gradient, the upstream gradient or a weight with its axes in another order."""
    for order, words in _orders(view.shape):
        if view.fits(view.n[:, order]):
            says = f"equals the true gradient {words}: the axes are in the wrong order."
            yield Guess("transposed", 0.93, says)
            return
    for swap, words in _swaps(view):
        expected = view.n.copy()
        wrong = view.full(view.wrong)
        fits = True
        for block in view.blocks:
            if not wrong[block.rows].any():
                continue
            turned = swap(view.tensor(view.n, block), block)
            if turned is None:
                fits = False
                break
            expected[block.rows] = turned.reshape(expected[block.rows].shape)
        if fits and view.fits(expected):
            yield Guess("transposed", 0.92, words)
            return


def reordered(view):
    """The upstream gradient is read with its axes in another order."""
    if not view.whole:
        return
    for block in view.blocks:
        for order, words in _orders(block.shape):
            expected = view.n.copy()
            expected[block.rows] = view.n[block.rows][order]
            if view.fits(expected):
                says = f"is right for an upstream gradient of {block.name} {words}."
                yield Guess("transposed", 0.9, says)
                return


def rolled(view):
    """Every value stands one step (or a few) from its place along an axis, or in reverse."""
    rows = np.flatnonzero(view.wrong.any(1))  # those of one output, or of a part of it
    rows = rows if rows.size > 2 else np.arange(len(view.a))
    for axis, n in enumerate(view.shape):
        a = view.a[rows].reshape(-1, *view.shape)
        true = view.n[rows].reshape(-1, *view.shape)
        tol = np.broadcast_to(view.tol.reshape(view.shape), a.shape)
        found = _shift(a, true, tol, axis + 1, n)
        if found:
            in_time = axis == 1 and len(view.shape) == 3  # (B, T, C)
            yield _shifted((found[0], found[1] or in_time), axis_words(axis, view.name))
            return
    wrong = view.full(view.wrong)
    hit = [block for block in view.blocks if wrong[block.rows].any()]
    if len(hit) == 1:
        block = hit[0]
        a, true = view.tensor(view.a, block), view.tensor(view.n, block)
        tol = np.broadcast_to(view.tol.reshape(view.shape), a.shape)
        for one, two in itertools.product(range(len(block.shape)), range(len(view.shape))):
            if block.shape[one] == view.shape[two] > 2 and _both_moved(
                a, true, tol, one, len(block.shape) + two
            ):
                yield _shifted((1, True), f"axis {one} of {block.name} and of {view.name} alike")
                return
        for axis, n in enumerate(block.shape):
            found = _shift(a, true, tol, axis, n)
            if found:
                yield _shifted(found, f"axis {axis} of the upstream gradient")
                return


def slices(view):
    """Slices along an axis of the leaf hold the true gradient of other slices."""
    if view.known.size < view.size:
        return
    for axis, n in enumerate(view.shape):
        if not 2 <= n <= 128:
            continue
        a = np.moveaxis(view.a.reshape(-1, *view.shape), axis + 1, 0).reshape(n, -1)
        true = np.moveaxis(view.n.reshape(-1, *view.shape), axis + 1, 0).reshape(n, -1)
        tol = np.moveaxis(
            np.broadcast_to(view.tol.reshape(view.shape), (1, *view.shape)), axis + 1, 0
        )
        tol = np.broadcast_to(tol.reshape(n, 1, -1), (n, view.a.shape[0], view.size // n)).reshape(
            n, -1
        )
        off = [j for j in range(n) if (np.abs(a[j] - true[j]) > tol[j]).any()]
        source = {}
        for j in off:
            same = (np.abs(true - a[j]) <= np.maximum(tol, tol[j])).all(1)
            same &= (np.abs(true) > tol).any(1)
            if not same.any():
                break
            source[j] = int(np.flatnonzero(same)[0])
        if not off or len(source) < len(off):
            continue
        if n > 2 and all(source[j] == n - 1 - j for j in off):
            continue  # in reverse: not an exchange
        yield _exchange(source, off, n, axis_words(axis, view.name))
        return


def _exchange(source, off, n, where):
    shown = ", ".join(f"{j} that of {source[j]}" for j in off[:4]) + (", ..." if off[4:] else "")
    says = f"has its slices along {where} in the wrong places (index {shown})."
    if len(off) < n:
        return Guess("part_wrong", 0.9, says)
    return Guess("other_parameter", 0.85, says)


def _orders(shape):
    """(flat indices, words) for each way to read an array of `shape` with other axes' order.

    Besides the orders of the axes themselves, one axis split in two, as for heads.
    """
    size = int(np.prod(shape, dtype=int))
    flat = np.arange(size).reshape(shape)
    seen = {tuple(range(size))}
    long = [axis for axis, n in enumerate(shape) if n > 1]
    if 2 <= len(long) <= MOST_AXES:
        for order in itertools.permutations(long):
            places = list(range(len(shape)))
            for place, axis in zip(long, order, strict=True):
                places[place] = axis
            index = flat.transpose(places).ravel()
            if tuple(index) not in seen:
                seen.add(tuple(index))
                yield index, "transposed" if len(long) == 2 else f"with its axes as {order}"
                inverse = np.argsort(index)
                if tuple(inverse) not in seen:
                    seen.add(tuple(inverse))
                    yield inverse, f"reshaped from its axes as {order}"
    for axis in reversed(long):
        n = shape[axis]
        for part in range(2, n // 2 + 1):
            if n % part:
                continue
            if axis > 0 and shape[axis - 1] > 1:  # heads, not exchanged with the steps
                heads = (*shape[:axis], part, n // part, *shape[axis + 1 :])
                index = flat.reshape(heads).swapaxes(axis - 1, axis).ravel()
                for turn in (index, np.argsort(index)):
                    if tuple(turn) not in seen:
                        seen.add(tuple(turn))
                        yield (
                            turn,
                            f"reshaped where axes {axis - 1} and {part} heads change places",
                        )
            split = (*shape[:axis], part, n // part, *shape[axis + 1 :])
            index = flat.reshape(split).swapaxes(axis, axis + 1).ravel()
            if tuple(index) not in seen:
                seen.add(tuple(index))
                words = f"with axis {axis} read as {n // part} x {part} for {part} x {n // part}"
                yield index, words


def _swaps(view):
    """Swaps of axes between the outputs and the leaf: a matrix used for its transpose."""
    if not view.whole:
        return
    if all(block.shape == view.shape for block in view.blocks) and len(view.shape) > 1:

        def across(tensor, block):
            return tensor.reshape(view.size, view.size).T

        yield across, "equals the Jacobian where its transpose is needed: a matrix is not turned."
    most = max((len(block.shape) for block in view.blocks), default=0)
    for one, two in itertools.product(range(most), range(len(view.shape))):
        n = view.shape[two]
        if n == 1:
            continue

        def swap(tensor, block, one=one, two=two, n=n):
            if one >= len(block.shape) or block.shape[one] != n:
                return None
            return tensor.swapaxes(one, len(block.shape) + two)

        yield (
            swap,
            (
                f"is right with axis {one} of the output and axis {two} of {view.name} exchanged: "
                "a matrix is probably used without its transpose."
            ),
        )


def _shift(a, true, tol, axis, n):
    """(offset, complete) by which `a` is `true` moved along `axis`; offset 0 means reversed."""
    if n < 2:
        return None
    a, true, tol = (np.moveaxis(m, axis, 0) for m in (a, true, tol))

    def same(x, y, t):
        off = np.abs(x - y) - t
        return not (off > 0).any() and bool((np.abs(y) > t).any())

    moves = sorted((s * k for k in range(1, min(n, 64)) for s in (1, -1)), key=abs)
    for k in moves:
        to, of = (slice(k, None), slice(None, -k)) if k > 0 else (slice(None, k), slice(-k, None))
        if not same(a[to], true[of], np.maximum(tol[to], tol[of])):
            continue
        wrapped = same(a, np.roll(true, k, 0), np.maximum(tol, np.roll(tol, k, 0)))
        rest = np.ones(n, dtype=bool)
        rest[to] = False
        empty = bool((np.abs(a[rest]) <= tol[rest]).all())
        proven = n - abs(k) > 1 or (np.abs(a[to]) > tol[to]).sum() > 4
        if wrapped or (empty and proven) or (abs(k) == 1 and n > 2):
            return k, (wrapped or empty) and n > 2  # of two, an exchange as well
    flipped = same(a, true[::-1], np.maximum(tol, tol[::-1]))
    return (0, True) if flipped else None


def _both_moved(a, true, tol, one, two):
    """Whether the Jacobian is the true one of the step before, or after, at its own step."""
    for k in (1, -1):
        moved = np.roll(true, (k, k), (one, two))
        inner = slice(1, None) if k > 0 else slice(None, -1)
        cut: list = [slice(None)] * a.ndim
        cut[one] = cut[two] = inner
        here = tuple(cut)
        off = np.abs(a[here] - moved[here]) > tol[here]
        differs = np.abs(true[here] - moved[here]) > tol[here]
        several = (np.diff(np.sort(true[here], axis=None)) > 10 * tol.max()).sum() >= 5
        if not off.any() and differs.any() and several:
            return True
    return False


def same_numbers(view):
    """The true gradient's own numbers, each as often, in other places."""
    if not view.whole or view.known.size < view.size or not view.wrong.any():
        return
    a, n = np.sort(view.a, axis=None), np.sort(view.n, axis=None)
    near = view.tol.max()
    several = (np.diff(n) > 10 * near).sum()
    if several >= 8 and np.abs(a - n).max() <= near:
        says = "holds the true gradient's numbers in other places: axes are in the wrong order."
        yield Guess("transposed", 0.85, says)


def _shifted(found, where):
    offset, complete = found
    if offset == 0:
        says = f"is the true gradient in reverse along {where}: the order of steps is turned."
        return Guess("wrong_step", 0.85, says)
    steps = "one step" if abs(offset) == 1 else f"{abs(offset)} steps"
    says = (
        f"is the true gradient moved by {steps} along {where} "
        f"(offset {offset:+d}): a value is taken from the wrong step."
    )
    likelihood = 0.9 if complete else 0.82
    return Guess("wrong_step", likelihood - (0.08 if abs(offset) > 1 else 0), says)
