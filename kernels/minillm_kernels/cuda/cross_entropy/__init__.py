"""The cross-entropy ladder, and the op cross_entropy of the backend "cupy".

Every rung is launched in the same way, on CuPy arrays by a GPU, on NumPy arrays by the emulator:

    loss, saved = forward(rung, logits, targets)
    dlogits = backward(rung, dloss, saved)
"""

from pathlib import Path

import numpy as np

from minillm.ops._check import check_integers
from minillm.ops._op import register
from minillm_kernels.cuda._rows import FLOATS, Layout, as_rows, check_reachable, launch
from minillm_kernels.cuda.ladder import Rung, check_array
from minillm_kernels.memory import allocating

__all__ = ["RUNGS", "backward", "cross_entropy", "cross_entropy_backward", "forward"]

HERE = Path(__file__).parent
KERNELS = ("cross_entropy_forward", "cross_entropy_mean", "cross_entropy_backward")
THREAD = Rung(HERE / "01_thread_a_row.cu", KERNELS, dtypes=FLOATS)
BLOCK = Rung(HERE / "02_block_a_row.cu", KERNELS, dtypes=FLOATS, expects=("BAR.SYNC",))
WARP = Rung(HERE / "03_warp_shuffle.cu", KERNELS, dtypes=FLOATS, expects=("SHFL.BFLY",))
ONLINE = Rung(
    HERE / "04_online.cu",
    KERNELS,
    dtypes=FLOATS,
    expects=("SHFL.BFLY", "LDG.E.128", "STG.E.128"),
)
RUNGS = (THREAD, BLOCK, WARP, ONLINE)
MEAN_THREADS = 256  # of the one block that takes the mean over rows


def forward(rung, logits, targets, *, ignore_index=-100, label_smoothing=0.0):
    """Mean cross-entropy by one rung of the ladder.

    Parameters
    ----------
    rung : one of RUNGS
    logits : (N, V), C-contiguous
    targets : (N,) int64 in [0, V), or `ignore_index`; another one makes the loss NaN

    Returns
    -------
    loss : (1,)
    saved : what `backward` needs

    Raises
    ------
    ValueError
        for a dtype, shape, stride or device that the rung cannot work with, before any launch.
    """
    check_array("logits", logits, dtype=("float32", "float64"), shape=(None, None))
    rows, columns = logits.shape
    check_array("targets", targets, dtype="int64", shape=(rows,), like=logits)
    dtype = logits.dtype
    with allocating(f"{rung}, forward"):
        row_results = [np.empty(rows, dtype, like=logits) for _ in range(3)]
        loss, count = (np.empty(1, dtype, like=logits) for _ in range(2))
    nats, *of_row = row_results  # of_row: the largest score, the logarithm of the sum
    ignored, smoothing = np.int64(ignore_index), dtype.type(label_smoothing)
    plan = layout(rung, rows, columns, logits)
    if rows:
        args = (logits, targets, nats, *of_row, rows, columns, ignored, smoothing)
        launch(rung, KERNELS[0], plan, logits, *args)
        one = Layout((1,), (MEAN_THREADS,), plan.macros)
        launch(rung, KERNELS[1], one, logits, nats, targets, loss, count, rows, ignored)
    else:
        loss[...] = 0
    return loss, (logits, targets, *of_row, count, ignored, smoothing)


def backward(rung, dloss, saved):
    """The gradient of the logits by one rung; dloss : (1,)."""
    logits, *kept, count, ignored, smoothing = saved
    check_array("dloss", dloss, dtype=logits.dtype, shape=(1,), like=logits)
    rows, columns = logits.shape
    with allocating(f"{rung}, backward"):
        dlogits = np.empty(logits.shape, logits.dtype, like=logits)
    if rows:
        plan = layout(rung, rows, columns, logits, dlogits)
        args = (logits, *kept, count, dloss, dlogits, rows, columns, ignored, smoothing)
        launch(rung, KERNELS[2], plan, logits, *args)
    return dlogits


def layout(rung, rows, columns, *arrays):
    """How a rung lays its threads over (N, V)."""
    if rung is THREAD:
        return Layout.thread_a_row(rows)
    if rung is BLOCK:
        return Layout.block_a_row(rows, columns)
    if rung is WARP:
        return Layout.warp_a_row(rows, columns)
    return Layout.vectors(rows, columns, *arrays)


def cross_entropy(logits, *, targets, ignore_index=-100, label_smoothing=0.0):
    check_reachable("cross_entropy", logits=logits, targets=targets)
    check_integers("targets", targets, logits.shape[:-1])
    if not 0 <= label_smoothing <= 1:
        raise ValueError(f"label_smoothing must be between 0 and 1, got {label_smoothing}")
    rows = as_rows("logits", logits)  # (N, V)
    wanted = np.ascontiguousarray(targets, np.int64, like=targets).reshape(-1)  # (N,)
    options = {"ignore_index": ignore_index, "label_smoothing": label_smoothing}
    loss, saved = forward(ONLINE, rows, wanted, **options)
    return loss.reshape(())[()], (saved, logits.shape)


def cross_entropy_backward(dloss, cache):
    saved, shape = cache
    logits = saved[0]
    dloss = np.asarray(dloss, dtype=logits.dtype, like=logits).reshape(1)
    return backward(ONLINE, dloss, saved).reshape(shape)


register("cross_entropy", "cupy", cross_entropy, cross_entropy_backward)
