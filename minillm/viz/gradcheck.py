"""The pictures of docs/gradcheck-mathematics.md, and the measurements behind them.

`python -m minillm.viz.gradcheck FOLDER` draws them all into a folder.
"""

import math
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from minillm.gradcheck.look import look
from minillm.gradcheck.problem import Problem
from minillm.gradcheck.steps import Line, default_rtol
from minillm.viz.style import COLOURS, GREY, new_figure, save

__all__ = [
    "PICTURES",
    "derivatives",
    "ladder",
    "ridders",
    "second_differences",
    "step_errors",
    "trials",
    "unseen",
]

DTYPES = {"float32": COLOURS[1], "float64": COLOURS[0]}
ELEMENTS = 8192  # of the leaf in the picture of the power


# -- truncation against rounding -------------------------------------------------------------------


def softmax(x):
    e = np.exp(x)  # for modest x: no maximum subtracted, so that complex x may pass
    return e / e.sum(-1, keepdims=True)


def derivatives(g, order, radius=0.5, points=64):
    """The derivatives 0 to `order` at 0 of an analytic g(t), from Cauchy's integral on a circle."""
    circle = np.exp(2j * np.pi * np.arange(points) / points)
    values = np.array([g(radius * t) for t in circle])
    return [
        math.factorial(k) * float((values * circle**-k).mean().real) / radius**k
        for k in range(order + 1)
    ]


def step_errors(dtype, steps=None, shape=(4, 7), seed=0):
    """The error of central differences of a softmax along a random direction, step by step.

    Returns
    -------
    dict of h, error, truncation, rounding, each (N,), the errors as shares of the gradient's norm;
    best, the step at which the two predictions add up to least; first, the checker's first step
    """
    rng = np.random.default_rng(seed)
    x, dy = rng.standard_normal(shape).astype(dtype), rng.standard_normal(shape)
    y = softmax(x.astype(np.float64))
    dx = y * (dy - (dy * y).sum(-1, keepdims=True))
    problem = Problem(lambda x: (softmax(x), None), lambda dout, cache: dx, [x])
    problem.start()
    line = Line.random(problem, 0, rng)
    if steps is None:
        steps = 10 ** np.linspace(-5 if dtype == "float32" else -11, 0, 91)
    pairs = [line.pair(h) for h in steps]
    off = [abs(dy.ravel() @ pair.slope - np.vdot(dx, pair.direction)) for pair in pairs]
    start = x.astype(np.float64)
    third = derivatives(lambda t: (dy * softmax(start + t * line.direction)).sum(), 3)[3]
    norm, rounding = np.linalg.norm(dx), line.noise(dy.ravel(), 1.0)
    return {
        "h": np.asarray(steps),
        "error": np.array(off) / norm,
        "truncation": np.asarray(steps) ** 2 * abs(third) / 6 / norm,
        "rounding": rounding / np.asarray(steps) / norm,
        "best": (3 * rounding / abs(third)) ** (1 / 3),
        "first": line.first,
    }


def step_picture():
    """The error against the step in both dtypes, with the two predicted lines of each."""
    figure = new_figure(6.0, 3.7)
    axes = figure.add_subplot(xlabel="step h", ylabel="error, as a share of the gradient's norm")
    for dtype, colour in DTYPES.items():
        found = step_errors(dtype)
        axes.loglog(found["h"], found["error"], ".", color=colour, markersize=4, label=dtype)
        axes.loglog(found["h"], found["rounding"], color=colour, linewidth=1, linestyle="--")
        axes.axvline(found["first"], color=colour, linewidth=0.8, linestyle=":")
        axes.annotate(
            f"first step of\nthe checker,\n{dtype}",
            (found["first"], 8),
            xytext=(4, 0),
            textcoords="offset points",
            va="top",
            color=colour,
            fontsize=8,
        )
    axes.loglog(
        found["h"], found["truncation"], color=GREY, linewidth=1, label=r"$h^2 \varphi''' / 6$"
    )
    axes.plot([], [], color=GREY, linewidth=1, linestyle="--", label=r"$\epsilon |\varphi| / h$")
    axes.set_ylim(1e-14, 1e1)
    _plain(axes)
    axes.legend(frameon=False, fontsize=9, loc="lower left")
    return figure


# -- kinks -----------------------------------------------------------------------------------------

CURVES = {
    "ReLU at 0": (lambda x: np.maximum(x, 0), 0.0),
    "ReLU at 0.0001": (lambda x: np.maximum(x, 0), 1e-4),
    "tanh at 0.5": (np.tanh, 0.5),
}


def second_differences(f, x, steps):
    """(N,) the size of f(x + h) - 2 f(x) + f(x - h) at each step h."""
    problem = Problem(lambda x: (f(x), None), lambda dout, cache: dout, [np.array([x])])
    problem.start()
    line = Line(problem, 0, np.ones(1))
    return np.array([abs(line.pair(h).second[0]) for h in steps])


def kink_picture():
    """How the second difference falls with the step: with h at a kink, with h^2 where smooth."""
    figure = new_figure(6.4, 3.8)
    axes = figure.add_subplot(xlabel="step h", ylabel="|f(x + h) - 2 f(x) + f(x - h)|")
    steps = 10 ** np.linspace(-10, 0, 121)
    for (name, (f, x)), colour in zip(CURVES.items(), COLOURS, strict=False):
        second = second_differences(f, x, steps)
        shown = second > 0
        axes.loglog(steps[shown], second[shown], ".", color=colour, markersize=4, label=name)
    axes.loglog(steps, steps, color=GREY, linewidth=0.8, zorder=1)
    bend = abs(2 * np.tanh(0.5) * (1 - np.tanh(0.5) ** 2))
    axes.loglog(steps, bend * steps**2, color=GREY, linewidth=0.8, zorder=1)
    for label, place in (("h", (4e-8, 2e-7)), ("|f''| h^2", (1.5e-5, 2e-11))):
        axes.annotate(f"${label}$", place, color=GREY, fontsize=9)
    axes.annotate("rounding", (1e-9, 4e-16), color=GREY, fontsize=9)
    axes.set_ylim(2e-17, 2)
    _plain(axes)
    axes.legend(frameon=False, fontsize=9, loc="upper left")
    return figure


# -- how far the estimated errors can be believed --------------------------------------------------

FUNCTIONS: dict[str, tuple[Callable, Callable]] = {
    "sin x": (np.sin, np.cos),
    "sin x + 1000": (lambda x: np.sin(x) + 1000, np.cos),
    "tanh 3x": (lambda x: np.tanh(3 * x), lambda x: 3 / np.cosh(3 * x) ** 2),
    "1 / (1 + 25x^2)": (lambda x: 1 / (1 + 25 * x**2), lambda x: -50 * x / (1 + 25 * x**2) ** 2),
    "log(1 + exp x)": (lambda x: np.log1p(np.exp(x)), lambda x: 1 / (1 + np.exp(-x))),
}


def ridders(f, x, h=0.1, shrink=1.4, columns=10, worse=2.0):
    """(derivative, reported error) by extrapolating central differences (Ridders 1982).

    The steps shrink by `shrink`; each entry of the triangle removes one more power of h^2 from its
    two neighbours. The entry that lies closest to its neighbours is taken, and their distance is
    reported as its error; it stops once the diagonal moves by `worse` times that.
    """
    best, reported = np.nan, np.inf
    above: list[float] = []
    for i in range(columns):
        step = h / shrink**i
        row = [float(f(x + step) - f(x - step)) / (2 * step)]
        for j in range(1, i + 1):
            power = shrink ** (2 * j)
            row.append((power * row[j - 1] - above[j - 1]) / (power - 1))
            apart = max(abs(row[j] - row[j - 1]), abs(row[j] - above[j - 1]))
            if apart <= reported:
                best, reported = row[j], apart
        if i and abs(row[i] - above[i - 1]) >= worse * reported:
            break
        above = row
    return best, reported


def ladder(f, x):
    """(derivative, reported error) by the checker's ladder of steps.

    Asked about a backward that returns zeros, the residual is the numerical derivative itself.
    """
    problem = Problem(lambda x: (f(x), None), lambda dout, cache: 0 * dout, [np.array([x])])
    problem.start()
    line, nothing = Line(problem, 0, np.ones(1)), np.zeros(1)
    (view,) = look(line, [np.ones(1)], [nothing], default_rtol("float64"))
    return view.residual, view.error


def trials(method, count=200, seed=0):
    """(reported, true), each (N,): the errors of a method at random points of all FUNCTIONS."""
    found = []
    for name, (f, slope) in FUNCTIONS.items():
        rng = np.random.default_rng([seed, *name.encode()])
        for x in rng.standard_normal(count):
            value, reported = method(f, x)
            found.append((reported, abs(value - slope(x))))
    return np.array(found).T


def ridders_picture():
    """Reported against true errors; above the diagonal the true one is the larger."""
    figure = new_figure(6.4, 3.6)
    both = figure.subplots(1, 2, sharex=True, sharey=True)
    limits = np.array([1e-17, 1e-1])
    for axes, method, colour in zip(both, (ridders, ladder), (COLOURS[1], COLOURS[0]), strict=True):
        reported, true = np.maximum(trials(method), 2e-17)
        axes.loglog(reported, true, ".", color=colour, markersize=2.5)
        axes.loglog(limits, limits, color=GREY, linewidth=0.8)
        axes.set(xlim=limits, ylim=limits, xlabel="error reported", aspect="equal")
        axes.set_title("Ridders' extrapolation" if method is ridders else "the checker's ladder")
        _plain(axes)
    both[0].set_ylabel("true error")
    return figure


# -- the power of a random direction ---------------------------------------------------------------


def unseen(relative, n, dtype):
    """The chance that a random direction misses n of ELEMENTS equal elements off by `relative`.

    The residual of one element is its error times a size from U(0.5, 1.5); that of many is a
    normal variable, the mean square of whose parts is 13/12.
    """
    allowed = default_rtol(dtype) * math.sqrt(ELEMENTS) / relative
    if n == 1:
        return min(max(allowed - 0.5, 0.0), 1.0)
    return math.erf(allowed / math.sqrt(2 * n * 13 / 12))


def unseen_measured(relative, n, dtype, count=1000, seed=0):
    """The share of random directions that do, for each of the errors (M,)."""
    rng = np.random.default_rng(seed)
    v = rng.choice([-1.0, 1.0], (count, n)) * rng.uniform(0.5, 1.5, (count, n))
    residual = np.abs(np.multiply.outer(relative, v.sum(1)))  # (M, count)
    return (residual <= default_rtol(dtype) * math.sqrt(ELEMENTS)).mean(1)


def power_picture():
    """How often one direction misses an error, by its size and by how many elements have it."""
    figure = new_figure(6.6, 3.2)
    axes = figure.add_subplot(
        xlabel="relative error of each wrong element", ylabel="chance to go unseen"
    )
    sizes = 10 ** np.linspace(-7, 1, 161)
    styles = {1: "-", 16: "--", ELEMENTS: ":"}
    for dtype, colour in DTYPES.items():
        for n, style in styles.items():
            label = f"{dtype}, {n} of {ELEMENTS}"
            chance = [unseen(r, n, dtype) for r in sizes]
            axes.semilogx(sizes, chance, color=colour, linestyle=style, linewidth=1.5, label=label)
            measured = unseen_measured(sizes[::8], n, dtype)
            axes.semilogx(sizes[::8], measured, ".", color=colour, markersize=5)
    axes.axvline(0.01, color=GREY, linewidth=0.8)
    axes.annotate(
        "1 %",
        (0.01, 1.02),
        color=GREY,
        fontsize=9,
        va="bottom",
        xytext=(3, 0),
        textcoords="offset points",
    )
    _plain(axes)
    axes.legend(frameon=False, fontsize=8, loc="center left", bbox_to_anchor=(1, 0.5))
    return figure


def _plain(axes):
    axes.spines[["top", "right"]].set_visible(False)
    axes.tick_params(colors=GREY, labelsize=9)
    axes.xaxis.label.set_color(GREY)
    axes.yaxis.label.set_color(GREY)


PICTURES = {
    "gradcheck-power": power_picture,
    "gradcheck-steps": step_picture,
    "gradcheck-ridders": ridders_picture,
    "gradcheck-kinks": kink_picture,
}


def main(folder):
    Path(folder).mkdir(parents=True, exist_ok=True)
    for name, draw in PICTURES.items():
        save(draw(), Path(folder) / f"{name}.png")


if __name__ == "__main__":
    main(sys.argv[1])
