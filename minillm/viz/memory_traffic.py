"""What a kernel asks of a GPU's memory: one warp's addresses, and a ladder's traffic rung by rung.

Global memory moves in sectors of 32 bytes; shared memory has 32 banks of 4 bytes, each of which
answers with one word at a time (CUDA C++ Best Practices Guide, "Coalesced Access to Global Memory"
and "Shared Memory"). The same rules count in the emulator, whose reports `traffic` adds up: they
come as arguments, so nothing here needs the kernels.
"""

import numpy as np
from matplotlib.colors import ListedColormap
from matplotlib.ticker import NullFormatter

from minillm.viz.style import COLOURS, GREY, new_figure

__all__ = [
    "bank_accesses",
    "bytes_text",
    "sectors",
    "traffic",
    "traffic_by_rung",
    "warp_accesses",
    "wavefronts",
]

SECTOR = 32  # bytes
BANKS, WORD = 32, 4  # of shared memory; a word's bytes
ASKED, MOVED, REST, BUSY = COLOURS[0], "#f6c9a8", "#efefef", COLOURS[1]


def sectors(addresses, size=4):
    """Which sectors of global memory a warp's request touches.

    Parameters
    ----------
    addresses : int (lanes,), in bytes, one for each lane that takes part
    size : int, the bytes that each lane asks for

    Returns
    -------
    numbers : int (N,), each touched sector once, in order

    Raises
    ------
    ValueError
        for addresses that are not whole numbers from 0 on.
    """
    first = _whole("addresses", addresses)
    return np.unique((first[:, None] + np.arange(size)) // SECTOR)


def wavefronts(addresses, size=4):
    """How many turns shared memory takes to answer a warp's request.

    In one turn a bank gives one word to every lane that wants it. A turn carries 128 bytes at most,
    so lanes that ask for 8 bytes are served 16 at a time, and for 16 bytes 8 at a time.

    Parameters
    ----------
    addresses : int (lanes,), in bytes
    size : int, the bytes that each lane asks for: 4, 8 or 16

    Returns
    -------
    turns : int

    Raises
    ------
    ValueError
        for other sizes, and for addresses that are not whole numbers from 0 on.
    """
    if size not in (4, 8, 16):
        raise ValueError(f"size must be 4, 8 or 16 bytes, got {size}")
    first = _whole("addresses", addresses)
    together = BANKS * WORD // size
    turns = 0
    for start in range(0, len(first), together):
        asked = first[start : start + together, None] + np.arange(0, size, WORD)
        words = np.unique(asked // WORD)
        turns += int(np.bincount(words % BANKS).max())
    return turns


def traffic(report):
    """Add up the lines of an emulator's report.

    Parameters
    ----------
    report : with `lines`, each with `memory` ("global" or "shared"), `transfers` and `ideal`

    Returns
    -------
    sums : dict of global_bytes, moved in sectors; global_needed, in the fewest sectors that hold
        what was asked for; turns, shared memory's wavefronts; turns_needed, without conflicts
    """

    def add(memory, what):
        return sum(getattr(line, what) for line in report.lines if line.memory == memory)

    return {
        "global_bytes": SECTOR * add("global", "transfers"),
        "global_needed": SECTOR * add("global", "ideal"),
        "turns": add("shared", "transfers"),
        "turns_needed": add("shared", "ideal"),
    }


def warp_accesses(requests, shape, *, size=4, title=None):
    """Where a warp's lanes reach into a row-major matrix, and which sectors have to move for it.

    Parameters
    ----------
    requests : {name: int (lanes,)}, the number of the element that each lane asks for, counted
        along the rows
    shape : (rows, columns) of the matrix, which starts at a sector's first byte
    size : int, bytes of an element
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        for no request, or an element outside the matrix.
    """
    requests = _requests(requests)
    rows, columns = shape
    figure, panels = _panels(len(requests), rows / columns, title)
    for axes, (name, elements) in zip(panels, requests.items(), strict=True):
        if elements.max() >= rows * columns:
            raise ValueError(f"{name}: element {elements.max()} lies outside of {rows} x {columns}")
        moved = sectors(elements * size, size)
        at = np.arange(rows * columns) * size
        state = np.isin(at // SECTOR, moved).astype(int)
        state[elements] = 2
        _cells(axes, state.reshape(rows, columns), (REST, MOVED, ASKED))
        distinct = len(np.unique(elements)) * size
        axes.set_title(name, fontsize=10)
        axes.set_xlabel(
            f"{_count(len(elements), 'lane')}, {_count(len(moved), 'sector')}: "
            f"{SECTOR * len(moved)} bytes move,\n{distinct} of them asked for",
            fontsize=9,
        )
        axes.set_ylabel("row", fontsize=9)
    _key(figure, (("asked for", ASKED), ("moved with it", MOVED)), title)
    return figure


def bank_accesses(requests, *, title=None):
    """In which banks of shared memory the words lie that a warp's lanes ask for.

    Parameters
    ----------
    requests : {name: int (lanes,)}, the number of the 4-byte word that each lane asks for
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        for no request, or words that are not whole numbers from 0 on.
    """
    requests = _requests(requests)
    rows = 1 + max(int(words.max()) for words in requests.values()) // BANKS
    figure, panels = _panels(len(requests), rows / BANKS, title)
    for axes, (name, words) in zip(panels, requests.items(), strict=True):
        turns = wavefronts(words * WORD)
        distinct = np.unique(words)
        queue = np.bincount(distinct % BANKS, minlength=BANKS)
        state = np.zeros(rows * BANKS, int)
        state[distinct] = np.where((queue[distinct % BANKS] == turns) & (turns > 1), 2, 1)
        _cells(axes, state.reshape(rows, BANKS), (REST, ASKED, BUSY))
        axes.set_title(name, fontsize=10)
        used = np.count_nonzero(queue)
        axes.set_xlabel(
            f"bank\n{_count(len(distinct), 'word')} in {_count(used, 'bank')}: "
            f"{_count(turns, 'turn')}",
            fontsize=9,
        )
        axes.set_ylabel("128 bytes a row", fontsize=9)
    _key(figure, (("asked for", ASKED), ("in a bank that others wait for", BUSY)), title)
    return figure


def traffic_by_rung(reports, *, title=None):
    """What each kernel moves, on logarithmic scales: global memory left, shared memory right.

    A filled mark is what was moved, a hollow one the least that the same requests need; the line
    between them is lost to scattered addresses or to bank conflicts.

    Parameters
    ----------
    reports : {name: report of the emulator}, drawn from the top down
    title : str or None

    Returns
    -------
    figure : matplotlib Figure

    Raises
    ------
    ValueError
        for no report, or one in which nothing was counted.
    """
    sums = {name: traffic(report) for name, report in reports.items()}
    empty = [name for name, sum_ in sums.items() if not sum_["global_bytes"]]
    if not sums or empty:
        raise ValueError(f"nothing was counted for {', '.join(empty) or 'any kernel'}")
    figure = new_figure(9.0, 0.36 * len(sums) + 1.5)
    panels = figure.subplots(1, 2, sharey=True)
    sides = (
        ("global_bytes", "global_needed", "global memory: bytes moved in sectors", bytes_text),
        ("turns", "turns_needed", "shared memory: turns (wavefronts)", "{:,}".format),
    )
    for axes, (key, least, label, text) in zip(panels, sides, strict=True):
        for y, sum_ in enumerate(sums.values()):
            _dumbbell(axes, y, sum_[key], sum_[least], text)
        shown = [n for sum_ in sums.values() for n in (sum_[key], sum_[least]) if n] or [1]
        axes.set_xscale("log")
        decades = np.log10([min(shown), max(shown)])
        room = 0.3 + 0.35 * (decades[1] - np.floor(decades[0]))  # for the numbers
        axes.set_xlim(10 ** np.floor(decades[0]), 10 ** (decades[1] + room))
        axes.xaxis.set_major_formatter(lambda x, _, text=text: text(round(x)))
        axes.xaxis.set_minor_formatter(NullFormatter())
        axes.set_xlabel(label, fontsize=9)
        axes.grid(axis="x", color="0.9", linewidth=0.8)
        axes.set_axisbelow(True)
        axes.spines[["top", "right", "left"]].set_visible(False)
        axes.tick_params(axis="y", length=0)
        axes.tick_params(labelsize=9)
    panels[0].set_yticks(range(len(sums)), list(sums))
    panels[0].set_ylim(len(sums) - 0.5, -0.6)
    figure.suptitle(title, fontsize=11)
    return figure


def bytes_text(count):
    """A number of bytes with three digits: "1.57 MB"."""
    for unit, size in (("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if count >= size:
            return f"{count / size:.3g} {unit}"
    return f"{count:.3g} bytes"


def _panels(count, aspect, title):
    """A figure with so many panels, at most three side by side, of height / width `aspect`."""
    across = count if count < 4 else 2
    down = -(-count // across)
    height = 3.0 * aspect + 0.85  # with its name and what stands below it
    figure = new_figure(3.4 * across, height * down + 0.3 + 0.2 * bool(title))
    panels = list(figure.subplots(down, across, squeeze=False).flat)
    for empty in panels[count:]:
        empty.remove()
    return figure, panels[:count]


def _dumbbell(axes, y, moved, needed, text):
    if not moved:
        axes.annotate("none", (0.03, y), xycoords=("axes fraction", "data"), va="center",
                      color=GREY, fontsize=9)  # fmt: skip
        return
    lost = moved / needed
    colour = BUSY if lost > 1.005 else ASKED
    axes.plot([needed, moved], [y, y], color=colour, linewidth=2.5, solid_capstyle="butt")
    axes.plot(needed, y, "o", color=colour, markersize=6, markerfacecolor="white")
    axes.plot(moved, y, "o", color=colour, markersize=6)
    label = text(moved) + (f"  ({lost:.3g} times the least)" if lost > 1.005 else "")
    axes.annotate(label, (moved, y), xytext=(8, 0), textcoords="offset points", va="center",
                  fontsize=9, color=colour)  # fmt: skip


def _cells(axes, state, colours):
    rows, columns = state.shape
    axes.pcolormesh(
        state, cmap=ListedColormap(colours), vmin=0, vmax=len(colours) - 1,
        edgecolors="white", linewidth=0.3,
    )  # fmt: skip
    axes.set_aspect("equal")
    axes.invert_yaxis()
    axes.set_xticks([x + 0.5 for x in range(0, columns, 8)], [str(x) for x in range(0, columns, 8)])
    axes.set_yticks([y + 0.5 for y in range(0, rows, 8)], [str(y) for y in range(0, rows, 8)])
    axes.tick_params(length=0, labelsize=8, colors=GREY)
    axes.spines[:].set_visible(False)


def _key(figure, entries, title):
    """What the colours mean, as words in these colours above the panels."""
    (first, *_) = figure.axes
    handles = [first.plot([], [], "s", color=c, label=name)[0] for name, c in entries]
    figure.legend(
        handles=handles, loc="outside upper center", ncols=len(entries), frameon=False,
        fontsize=9, title=title,
    )  # fmt: skip


def _requests(requests):
    if not requests:
        raise ValueError("there is no request to draw")
    return {name: _whole(name, numbers) for name, numbers in requests.items()}


def _whole(name, numbers):
    numbers = np.asarray(numbers)
    if numbers.ndim != 1 or not len(numbers) or numbers.dtype.kind not in "iu":
        raise ValueError(
            f"{name} must be whole numbers, one a lane, got {numbers.dtype} {numbers.shape}"
        )
    if numbers.min() < 0:
        raise ValueError(f"{name} must not be negative, got {numbers.min()}")
    return numbers.astype(np.int64)


def _count(number, what):
    return f"{number} {what}" + ("" if number == 1 else "s")
