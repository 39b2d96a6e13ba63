"""Wrong ways to mend the files of hw8."""

from minillm.course.manifest import load
from minillm.course.modules import Modules
from tests.course.wrong import Wrong

HW8 = load("hw8")
MODULES = Modules(HW8)


def named(task, cause, instead):
    """A file that is mended, with another name for its mistake."""
    edit = (f'CAUSE = "{cause}"', f'CAUSE = "{instead}"')
    return Wrong(f"{instead or 'no name'} for a cause", "cause", {f"{task}.py": [edit]})


def mended(task, name, *edits):
    return Wrong(name, "mended", {f"{task}.py": list(edits)})


def as_it_was(task):
    """The file as it is handed out, but with the right name."""
    start, _, rest = MODULES.starter(task.name).partition('CAUSE = ""')
    named = f'{start}CAUSE = "{task.causes[0]}"{rest}'
    return mended(task.name, "named but not mended", (MODULES.solution(task.name), named))


HALF = {
    "binary_cross_entropy": [
        mended(
            "binary_cross_entropy",
            "the sign of what comes from above",
            ("return dloss / max", "return abs(dloss) / max"),
        ),
    ],
    "embedding": [
        mended(
            "embedding",
            "added up, but only where an id comes twice",
            (
                "np.add.at(dweight, ids, dy)",
                "np.add.at(dweight, ids, dy)\n    dweight[ids] = dweight[ids] / 2",
            ),
        ),
        mended(
            "embedding",
            "counted in the place of summed",
            ("np.add.at(dweight, ids, dy)", "np.add.at(dweight, ids, dy.mean())"),
        ),
    ],
    "rms_norm": [
        mended(
            "rms_norm",
            "all axes but the last, as a mean",
            (
                "sum_to_shape(dy * normed, gain.shape)",
                "(dy * normed).reshape(-1, len(gain)).mean(0)",
            ),
        ),
        mended(
            "rms_norm",
            "two leading axes always",
            ("sum_to_shape(dy * normed, gain.shape)", "(dy * normed).sum((0, 1))"),
        ),
    ],
    "gru_cell": [
        mended("gru_cell", "no gate at all", ("da_n * b_n, da_n * r", "da_n * b_n, da_n")),
    ],
    "sinusoidal": [
        mended(
            "sinusoidal",
            "a copy that comes too late",
            (
                "return x + table.astype(x.dtype), None",
                "x += table.astype(x.dtype)\n    return x.copy(), None",
            ),
        ),
        mended("sinusoidal", "nothing is added", ("return x + table.astype(x.dtype)", "return x")),
    ],
    "gru": [
        mended(
            "gru",
            "the step after",
            ("dh + dy[:, t], steps[t])", "dh + dy[:, t], steps[min(t + 1, len(steps) - 1)])"),
        ),
    ],
    "rotary": [
        mended(
            "rotary",
            "a slope of one half the other way",
            ("like=x) / half)", "like=x) / half * 2)"),
        ),
        mended(
            "rotary", "backward is turned forward", ("turn(dy, cos, -sin)", "turn(dy, cos, sin)")
        ),
    ],
    "gelu": [
        mended(
            "gelu",
            "forward alone is mended",
            (
                '    x, cdf, approximate = cache\n    if approximate == "none":',
                '    x, cdf, approximate = cache\n    if approximate == "tanh":',
            ),
        ),
    ],
}

WRONG = {
    task.name: [
        as_it_was(task),
        *HALF[task.name],
        named(task.name, task.causes[0], ""),
        named(task.name, task.causes[0], "sign"),
    ]
    for task in HW8.tasks
}
