"""The page docs/gradcheck-matrix.md, from the rows that `gradcheck_matrix` measured."""

import statistics

__all__ = ["page"]

HEAD = """# Which checker catches which wrong backward

Made by `python -m minillm.bench.gradcheck_matrix --out docs/gradcheck-matrix.md`; not to be edited.
Measured with {versions}.

{entries} backwards of {ops} ops, each with one mistake that people make, were checked at {seeds}
random points by each tool below, and the right backwards at the same points. The arrays are small
(most have fewer than 100 numbers, float64), so that the slow modes are affordable and every tool
has an easy time; what larger arrays change is shown [further down](#larger-arrays). Left out for
all tools alike are draws at which a wrong backward happens to be right, as its whole Jacobian
shows: {left_out} of {draws}. A tool *catches* a wrong backward where it fails or raises an error;
it *refuses* a right one where it does the same.

## In all

"""

AFTER_TOTALS = """
*Named rightly*: the likeliest cause that the report gives is the mistake that was made; only ours
gives one. *Evaluations* are calls of forward in a check of a right backward. A check that fails may
take more, where the mistake is then looked for.

## What got away

"""

TOOLS = {
    "ours": "`minillm.gradcheck.check_vjp`, default scope: the contract first, then two random "
    "directions in each array, seen through two or more random upstream gradients. The number of "
    "evaluations depends on the number of arrays, not on their size.",
    "ours, full": 'The same with `scope="full"`: each element on its own, too.',
    "torch fast": "`torch.autograd.gradcheck(fast_mode=True)` of an `autograd.Function` that calls "
    "the pair, its defaults otherwise (eps 1e-6, atol 1e-5, rtol 1e-3). One direction, of positive "
    "numbers, in each input and output. Made to be quick, for large test suites.",
    "torch slow": "The same with `fast_mode=False`, which is its default: the whole Jacobian.",
    "ones": "Central differences of `out.sum()` element by element, step 1e-5, compared by "
    "`np.allclose` with its defaults (rtol 1e-5, atol 1e-8). The check that is written first.",
    "random": "The same with a random upstream gradient, `(upstream * out).sum()`, as taught in "
    "courses, for one in Stanford's CS231n.",
}

AFTER_TOOLS = """
They are made for different ends, and what counts as a mistake differs too. torch's check functions
inside of autograd, whose engine itself casts a gradient to its input's dtype and sums one that was
not summed over a broadcast axis, so that neither does harm there. A backward that writes to its
upstream gradient, or uses up its cache, harms only those who use them again. The plain differences
look at numbers alone.

## Larger arrays

The layer norm that lacks its normalised term, with x of mean 1 and deviation 3: in how many of
{seeds} draws it was caught by the two tools whose cost does not grow with the number of elements.

"""

WHY = """
The fast mode compares one product of the Jacobian with two random vectors. Since their numbers are
all positive, they lie close to the constant direction, which a normalisation takes out; and the
absolute tolerance is multiplied by the vectors' sums, so it grows with the number of elements.

## By op

Wrong backwards caught, and right ones refused where there were any.

"""

EVERY = """
## Every wrong backward

A cell says at how many points it was caught; **bold** where it got away at one; – where it was
right at all of them. The last column says how often our report named the mistake.
"""


def page(wrong, right, by_size, tools, seeds, versions):
    """The whole page as Markdown."""
    names = sorted({row.op for row in right})
    draws = seeds * len(wrong)
    left_out = draws - sum(row.points for row in wrong)
    parts = [
        HEAD.format(
            versions=versions,
            entries=len(wrong),
            ops=len(names),
            seeds=seeds,
            left_out=left_out,
            draws=draws,
        ),
        _totals(wrong, right, tools),
        AFTER_TOTALS,
        _got_away(wrong, tools),
        "\n## The tools\n\n",
        _table(["", "what it is"], [(tool, TOOLS[tool]) for tool in tools]),
        _sizes(*by_size),
        WHY,
        _by_op(wrong, right, tools, names),
        EVERY,
    ]
    parts += [_op(name, [row for row in wrong if row.op == name], tools) for name in names]
    return "".join(parts)


def _table(head, rows):
    lines = ["| " + " | ".join(head) + " |", "|---" * len(head) + "|"]
    lines += ["| " + " | ".join(str(cell) for cell in row) + " |" for row in rows]
    return "\n".join(lines) + "\n"


def _totals(wrong, right, tools):
    points, checks = (sum(row.points for row in rows) for rows in (wrong, right))
    seen = [row for row in wrong if row.points]
    caught = {tool: sum(row.count(tool) for row in seen) for tool in tools}
    always = [sum(row.count(tool) == row.points for row in seen) for tool in tools]
    never = [sum(row.count(tool) == 0 for row in seen) for tool in tools]
    refused = [sum(row.count(tool) for row in right) for tool in tools]
    unsure = [sum(row.count(tool, "inconclusive") for row in wrong + right) for tool in tools]
    calls = [[n for row in right for n in row.evaluations[tool]] for tool in tools]
    named, others = sum(row.named for row in seen), ["–"] * (len(tools) - 1)
    return _table(
        ["", *tools],
        [
            [f"wrong backwards caught, of {points} checks", *caught.values()],
            ["the same in per cent", *(f"{100 * n / points:.1f}" for n in caught.values())],
            [f"mistakes caught at every point, of {len(seen)}", *always],
            ["mistakes caught at none", *never],
            [f"right backwards refused, of {checks} checks", *refused],
            ["inconclusive", *unsure],
            ["named rightly", f"{named} ({100 * named / points:.1f} %)", *others],
            ["evaluations, median", *(f"{statistics.median(n):.0f}" for n in calls)],
            ["evaluations, most", *(max(n) for n in calls)],
        ],
    )


def _got_away(wrong, tools):
    """The mistakes that a tool caught at no point, each as op.name."""
    rows = []
    for tool in tools:
        never = [row for row in wrong if row.points and not row.count(tool)]
        rows.append([tool, ", ".join(f"{row.op}.{row.name}" for row in never) or "nothing"])
    return _table(["", "never caught"], rows)


def _sizes(by_size, seeds):
    tools = list(by_size[0][1])
    rows = [[str(shape), *(found[tool] for tool in tools)] for shape, found in by_size]
    return AFTER_TOOLS.format(seeds=seeds) + _table(["shape", *tools], rows)


def _by_op(wrong, right, tools, names):
    rows = []
    for name in names:
        mine, true = ([row for row in kind if row.op == name] for kind in (wrong, right))
        points = sum(row.points for row in mine)
        cells = []
        for tool in tools:
            refused = sum(row.count(tool) for row in true)
            cell = _cell(sum(row.count(tool) for row in mine), points)
            cells.append(cell + (f", refused {refused}" if refused else ""))
        rows.append([f"[{name}](#{name})", len(mine), *cells])
    return _table(["op", "mistakes", *tools], rows)


def _op(name, rows, tools):
    body = [
        [
            f"`{row.name}`: {row.note}".replace("|", "\\|"),
            *(_cell(row.count(tool), row.points) for tool in tools),
            f"{row.named}/{row.points}" if row.points else "–",
        ]
        for row in rows
    ]
    return f"\n### {name}\n\n" + _table(["wrong backward", *tools, "named"], body)


def _cell(caught, points):
    text = f"{caught}/{points}"
    return "–" if points == 0 else text if caught == points else f"**{text}**"
