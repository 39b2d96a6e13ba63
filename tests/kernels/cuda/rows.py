"""What the tests of the ladders over rows share."""

import dataclasses
import os
import types

os.environ.setdefault("MINILLM_EMULATE", "1")

import numpy as np
from hypothesis import Phase, settings
from hypothesis import strategies as st

from minillm_kernels.emulator import checking
from tests.kernels.harness import as_good_as

# Rows of a warp and of a block, that 16 bytes divide and not, few enough kinds to compile for.
WIDTHS = (1, 3, 31, 32, 128, 300, 1030, 1200)
REAL_WIDTHS = (1, 3, 31, 32, 128, 768, 1030, 1600, 4096, 8192, 16384, 50257, 50304)


class FakeArray:
    """As much of a CuPy array as `load` and `check_array` look at."""

    __cuda_array_interface__ = {"version": 3}  # noqa: RUF012

    def __init__(self, shape=(2, 3), *, device=0, contiguous=True):
        self.dtype, self.shape, self.ndim = np.dtype("float32"), shape, len(shape)
        self.device = types.SimpleNamespace(id=device)
        self.flags = types.SimpleNamespace(c_contiguous=contiguous)
        self.strides = (4 * shape[1], 4) if contiguous else (4, 8)


def widths(place, most=10**9):
    """A strategy for the length of a row."""
    return st.sampled_from([n for n in place.size(WIDTHS, REAL_WIDTHS) if n <= most])


def rows(place):
    return st.integers(1, place.size(9, 3000))


def budget(place, few=5):
    """Hypothesis settings: few examples on the CPU, where a rung's threads take turns."""
    return settings(
        max_examples=place.size(few, 25),
        deadline=None,
        derandomize=True,
        database=None,
        phases=(Phase.explicit, Phase.generate),  # a width is small enough, and each is compiled
    )


def torch_results(place, function, args, dout, dtype):
    """Output and gradients of a torch function of floating arrays, computed here in a dtype."""
    tensors = [place.tensor(a, dtype).requires_grad_() for a in args]
    out = function(*tensors)
    out.backward(place.tensor(np.asarray(dout), dtype))
    return [place.numpy(t) for t in (out, *(t.grad for t in tensors))]


def assert_as_good(place, function, ours, args, dout, names, what):
    """Our float32 results beside torch's, both against torch's in float64."""
    truth = torch_results(place, function, args, dout, "float64")
    vendor = torch_results(place, function, args, dout, "float32")
    for name, a, b, c in zip(names, ours, vendor, truth, strict=True):
        a = place.numpy(a)
        assert a.dtype == np.float32
        as_good_as(a.reshape(c.shape), b, c, "float32", f"{what}, {name}")


def twin(rung, folder, *changes):
    """The rung with its source changed by (old, new) pairs, each of which must be there."""
    text = rung.path.read_text()
    for old, new in changes:
        assert old in text, f"{rung} has no {old!r}"
        text = text.replace(old, new)
    path = folder / rung.ladder / rung.path.name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return dataclasses.replace(rung, path=path)


def findings(run):
    """What the emulator's checks find of wrong accesses in the launches of `run`."""
    with checking(banks=False, coalescing=False) as report:
        run()
    return report.findings
