"""The Jacobians of arrays between the leaves and the outputs, worked out from those of the leaves.

Where z = x @ w, the gradient of w is x.T @ dz: with x known, dz can be solved for. In the same way
a weight at the end, out = a @ w, gives the Jacobians of a. A mistake inside a layer then shows as
plainly as if z or a were a leaf. What does not solve exactly is no such layer, and gives nothing.
"""

import itertools

import numpy as np

from minillm.gradcheck.diagnosis._view import Block, Guess, View

__all__ = ["before_output", "first_step", "paths", "products", "thirds"]

CONDITION = 1e5  # beyond it a solution says more of rounding than of the gradient


def products(view):
    """Views of z = x @ w for the weight w at hand and each leaf x that fits it."""
    if not view.whole or len(view.shape) != 2 or view.known.size < view.size:
        return
    for index, leaf in enumerate(view.evidence.leaves):
        x = np.asarray(leaf.value, dtype=float)
        if index == view.index or x.ndim < 2:
            continue
        for turned in (False, True):
            w = view.value.T if turned else view.value
            if x.shape[-1] == w.shape[0]:
                solved = _through(view, x, index, w.shape, turned)
                if solved is not None:
                    z = x @ w
                    name = f"{leaf.name} @ {view.name}" + (".T" if turned else "")
                    yield View.made(view, name, z, *solved), w, index


def before_output(view):
    """Views in which the last weight, out = a @ w, is taken off the output's end."""
    if not view.whole or len(view.blocks) != 1 or view.known.size < view.size:
        return
    block = view.blocks[0]
    for index, leaf in enumerate(view.evidence.leaves):
        w = np.asarray(leaf.value, dtype=float)
        if index == view.index or w.ndim != 2 or not block.shape:
            continue
        for last in (w, w.T):
            n, m = last.shape
            if m != block.shape[-1] or not 2 <= n <= m or np.linalg.cond(last) > CONDITION:
                continue
            made = [_solve(last.T, side.reshape(-1, m, view.size)) for side in (view.a, view.n)]
            if any(one is None for one in made):
                continue
            a, true = (one.reshape(-1, view.size) for one in made)
            shape = (*block.shape[:-1], n)
            inner = Block(f"the input of {leaf.name}", slice(0, len(a)), shape)
            made = View.made(view, view.name, view.value, a, true, [inner])
            made._reaches = _spread(view.reaches, m, n)
            yield made
            break


def thirds(view):
    """Views of the wrong parts among two, three or four equal ones of the last axis, by head."""
    if not view.whole or view.known.size < view.size or not view.shape:
        return
    width = view.shape[-1]
    bad = view.full(view.wrong).any(0).reshape(-1, width).any(0)
    heads = [v for v in _whole_numbers(view.evidence.kwargs) if v > 1]
    for count in (1, 3, 2, 4):
        if width % count or width // count < 2:
            continue
        size = width // count
        values = np.split(np.asarray(view.value), count, -1)
        for part in range(count):
            columns = slice(part * size, (part + 1) * size)
            if not bad[columns].any() or (count > 1 and bad.all() and len(view.shape) < 3):
                continue
            for head in [1, *(h for h in heads if size % h == 0 and h < size)]:
                if count == head == 1:
                    continue
                yield _part(view, values, part, columns, head)


def first_step(view):
    """The view of the outputs of the first step along axis 1 alone, for a leaf that all share."""
    if not view.whole or len(view.blocks) < 1:
        return
    block = view.blocks[0]
    if len(block.shape) != 3 or block.shape[1] < 2:
        return
    rows = np.arange(int(np.prod(block.shape))).reshape(block.shape)[:, 0].ravel()
    rows = rows + block.rows.start
    inner = Block(block.name, slice(0, rows.size), (block.shape[0], block.shape[2]))
    made = View.made(view, view.name, view.value, view.a[rows], view.n[rows], [inner])
    made._reaches = _picked(view.reaches, rows)
    if made.wrong.any():
        yield made


def paths(view):
    """Of several weights that x goes through, the way back through some is lost, or turned."""
    if not view.whole or len(view.shape) < 2 or view.known.size < view.size:
        return
    single: list = []
    shares: list = []
    names: list[str] = []
    for index, leaf in enumerate(view.evidence.leaves):
        w = np.asarray(leaf.value)
        if index == view.index or w.ndim != 2 or view.shape[-1] not in w.shape:
            continue
        weight = View(view.evidence, index)
        for inner, used, where in products(weight):
            if where == view.index:
                shares += list(_ways_back(inner.n, used, view.shape))
                names += [leaf.name] * (len(shares) - len(names))
                single.append((leaf.name, inner.n, used))
                break
    if not shares:
        return
    found = list(_gap(view, single))
    yield from found
    if found:
        return
    if any(block.shape == view.shape for block in view.blocks):
        straight = np.zeros_like(view.n)
        for block in view.blocks:
            if block.shape == view.shape:
                straight[block.rows] = np.eye(view.size)
        shares.append(straight)
        names.append("the direct path")
    yield from _lost_way(view, shares, names)


def _gap(view, single):
    """What is lacking is just what comes back through one weight, all of it or its transpose."""
    lacking = view.n - view.a
    failed = {view.evidence.leaves[i].name for i in view.evidence.failed}
    for name, inner, w in single:
        if name in failed:
            continue
        dz = inner.reshape(len(inner), -1, w.shape[1])
        back = (dz @ w.T).reshape(view.n.shape)
        near = 30 * view.relative * max(np.abs(back).max(), np.abs(view.n).max())
        if np.abs(back).max() <= 10 * near:
            continue
        if np.abs(lacking - back).max() <= near and not view.a_zero.all():
            says = f"lacks what comes back through {name}: += is probably needed."
            yield Guess("overwritten", 0.93, says)
            return
        if w.shape[0] == w.shape[1]:
            wrongly = (dz @ w).reshape(view.n.shape)
            if np.abs(lacking - back + wrongly).max() <= near:
                says = f"fits {name} used without its transpose on the way back."
                yield Guess("transposed", 0.93, says)
                return


def _spread(reaches, m, n):
    """Whether inputs of the last weight depend on a leaf: each, where one of its outputs does."""

    def spread(index):
        true = reaches(index)
        if true is None:
            return None
        rows = true.reshape(-1, m, true.shape[1]).any(1)
        return np.repeat(rows, n, axis=0)

    return spread


def _picked(reaches, rows):
    def picked(index):
        true = reaches(index)
        return None if true is None else true[rows]

    return picked


def _lost_way(view, shares, names):
    basis = np.array([share.ravel() for share in shares]).T
    true = _coefficients(basis, view.n.ravel(), view.relative)
    found = _coefficients(basis, view.a.ravel(), view.relative)
    if true is None or found is None or not np.allclose(true[true.round(2) != 0], 1, atol=0.01):
        return
    # A part of a weight that is wrong itself is no lost path.
    failed = {view.evidence.leaves[i].name for i in view.evidence.failed}
    parted = {name for name in names if names.count(name) > 1} & failed
    if parted:
        return
    lost = sorted({names[i] for i in np.flatnonzero((true > 0.5) & (np.abs(found) < 0.01))})
    turned = sorted({names[i] for i in np.flatnonzero((true > 0.5) & (np.abs(found + 1) < 0.01))})
    if lost and np.all((np.abs(found) < 0.01) | (np.abs(found - 1) < 0.01)):
        says = f"lacks what comes back through {' and '.join(lost)}: += is probably needed."
        yield Guess("overwritten", 0.93, says)
    elif turned:
        says = f"has the sign of what comes back through {' and '.join(turned)} turned (ratio -1)."
        yield Guess("sign", 0.85, says, -1.0)


def _ways_back(inner, w, shape):
    """What x gets through w, in parts: whole, or by thirds, halves, quarters of its columns."""
    positions = int(np.prod(shape[:-1], dtype=int))
    dz = inner.reshape(len(inner), positions, w.shape[1])
    count = next((c for c in (3, 4, 2) if w.shape[1] % c == 0 and w.shape[1] > w.shape[0]), 1)
    for part in np.split(np.arange(w.shape[1]), count):
        yield (dz[..., part] @ w[:, part].T).reshape(len(inner), -1)


def _coefficients(basis, target, relative):
    """The combination of the basis that gives the target, or None."""
    scale = np.abs(target).max()
    sizes = np.linalg.norm(basis, axis=0)
    if scale == 0 or (sizes == 0).any():
        return None
    found, _, rank, _ = np.linalg.lstsq(basis / sizes, target, rcond=1e-9)
    if (
        rank < basis.shape[1]
        or np.abs(basis / sizes @ found - target).max() > 30 * relative * scale
    ):
        return None
    return found / sizes


def _part(view, values, part, columns, head):
    """The view of one part of the last axis, its heads (if any) as an axis before the features."""
    shape = values[part].shape
    shape = (*shape[:-1], head, shape[-1] // head) if head > 1 else shape
    order = list(range(len(shape)))
    if head > 1 and len(shape) >= 4:  # (B, T, H, D) as (B, H, T, D)
        order[-3], order[-2] = order[-2], order[-3]

    def laid(array, lead):
        array = array.reshape(*lead, *shape)
        return array.transpose(*range(len(lead)), *(len(lead) + i for i in order))

    rows = (len(view.a),)
    sides = [side.reshape(*rows, *view.shape)[..., columns] for side in (view.a, view.n)]
    a, n = (laid(side, rows).reshape(rows[0], -1) for side in sides)
    made = View.made(view, f"part {part + 1} of {view.name}", laid(values[part], ()), a, n)
    for other, value in enumerate(values):
        if other != part:
            made.others.append((f"part {other + 1} of {view.name}", laid(value, ())))
    return made


def _through(view, x, index, shape, turned):
    """(a, n) of z = x @ w solved from those of w, or None where they don't solve."""
    flat = x.reshape(-1, x.shape[-1])
    uses = _uses(view, index, len(flat))
    made = [np.zeros((len(view.a), len(flat), shape[1])) for _ in range(2)]
    for pattern in np.unique(uses, axis=0):
        rows, places = (uses == pattern).all(1), np.flatnonzero(pattern)
        if places.size == 0:
            continue
        factor = flat[places].T  # (C, positions)
        if places.size > factor.shape[0] or np.linalg.cond(factor) > CONDITION:
            return None
        for side, out in zip((view.a, view.n), made, strict=True):
            dw = side[rows].reshape(-1, *view.shape)
            dz = _solve(factor, dw.swapaxes(1, 2) if turned else dw)
            if dz is None:
                return None
            out[np.ix_(rows, places)] = dz
    return [side.reshape(len(view.a), -1) for side in made]


def _uses(view, index, positions):
    """(rows, positions) whether an output depends on the position of x."""
    true = view.reaches(index)
    if true is None:
        return np.ones((len(view.a), positions), dtype=bool)
    return true.reshape(len(view.a), positions, -1).any(2)


def _solve(factor, products):
    """y with factor @ y = each of the products (k, len(factor), n), or None where there is none."""
    y = np.linalg.pinv(factor) @ products
    off = np.abs(factor @ y - products).max(initial=0.0)
    return y if off <= 1e-5 * np.abs(products).max(initial=0.0) else None


def _whole_numbers(kwargs):
    """The whole numbers among the keyword arguments, those of a dataclass too."""
    values = list(kwargs.values())
    values += itertools.chain.from_iterable(
        vars(v).values() for v in values if hasattr(v, "__dataclass_fields__")
    )
    return sorted({int(v) for v in values if isinstance(v, int) and not isinstance(v, bool)})
