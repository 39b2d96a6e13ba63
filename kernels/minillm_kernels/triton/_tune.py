"""Choosing a kernel's configuration by measuring a few, once for each kind of problem.

    @autotune([Choice({"BLOCK": 1024}, num_warps=4), ...], key=["n_cols"])
    @triton.jit
    def kernel(x, n_cols, BLOCK: tl.constexpr): ...

    kernel[grid](x, n_cols)            # measures at the first call, and remembers
    with chosen(kernel, "BLOCK=1024 warps=4"):
        kernel[grid](x, n_cols)        # takes that one

Triton's own `triton.autotune` is not used because it cannot run in the interpreter with several
configurations, has no names for them and measures inside a stream that is being captured.
"""

import contextlib
import dataclasses
import functools
from contextvars import ContextVar

from minillm_kernels.require import interpreted
from minillm_kernels.triton import _device as device

__all__ = ["MOST", "Choice", "Tuned", "autotune", "chosen"]

MOST = 12  # configurations a kernel, so that measuring all kernels stays a matter of minutes
_BY_HAND: ContextVar[dict] = ContextVar("minillm_kernels_choices", default={})  # noqa: B039


@dataclasses.dataclass(frozen=True)
class Choice:
    """One way to compile a kernel: its constants, warps and stages.

    arches : the compute capabilities that it is for, as 75, 80, 90
    fits : function(arguments, arch) -> bool, False where the arguments ask for another;
        `arguments` is a dict by name
    """

    constants: dict
    num_warps: int = 4
    num_stages: int = 2
    arches: tuple = (75, 80, 90)
    fits: object = None

    @property
    def name(self):
        sizes = " ".join(f"{key}={value}" for key, value in self.constants.items())
        return f"{sizes} warps={self.num_warps} stages={self.num_stages}".strip()

    def launch_options(self):
        return {"num_warps": self.num_warps, "num_stages": self.num_stages, **self.constants}


class Tuned:
    """A kernel with its choices; `kernel[grid](...)` launches it with the best of them."""

    def __init__(self, kernel, choices, key, restore=()):
        if not 1 <= len(choices) <= MOST:
            raise ValueError(f"a kernel has 1 to {MOST} configurations, got {len(choices)}")
        names = [choice.name for choice in choices]
        if len(set(names)) != len(names):
            raise ValueError(f"two configurations have the same name: {names}")
        self.kernel, self.choices, self.key, self.restore = kernel, choices, key, restore
        self.best = {}  # what a problem looks like -> Choice
        self.__name__, self.__doc__ = kernel.__name__, kernel.__doc__

    def __getitem__(self, grid):
        def launch(*args, **kwargs):
            arguments = dict(zip(self.kernel.arg_names, args, strict=False)) | kwargs
            choice = self.choose(grid, arguments)
            return self._launch(choice, grid, arguments)

        return launch

    def choices_for(self, arguments, arch):
        """Those that are for this architecture and these arguments.

        Raises
        ------
        ValueError
            where none is.
        """
        found = [
            c
            for c in self.choices
            if arch in c.arches and (c.fits is None or c.fits(arguments, arch))
        ]
        if not found:
            raise ValueError(f"{self.__name__} has no configuration for sm_{arch} and these sizes")
        return found

    def choose(self, grid, arguments):
        """The Choice for a launch: by hand, remembered, or measured now."""
        import torch

        if interpreted():  # speed means nothing there, and one is enough
            return self._by_hand(self.choices) or self.choices[0]
        arch = device.arch()
        choices = self.choices_for(arguments, arch)
        by_hand = self._by_hand(choices)
        if by_hand:
            return by_hand
        looks = self._looks(arguments, arch)
        if looks not in self.best:
            if torch.cuda.is_current_stream_capturing():  # a capture cannot wait for the clock
                return choices[0]
            self.best[looks] = self._fastest(choices, grid, arguments)
        return self.best[looks]

    def _by_hand(self, choices):
        name = _BY_HAND.get().get(self.__name__)
        if name is None:
            return None
        for choice in choices:
            if choice.name == name:
                return choice
        known = "; ".join(choice.name for choice in choices)
        raise ValueError(f"{self.__name__} has no configuration {name!r} here; it has: {known}")

    def _looks(self, arguments, arch):
        """What the choice may depend on: the key's arguments, and the dtypes of all arrays."""
        dtypes = [str(a.dtype) for a in arguments.values() if hasattr(a, "dtype")]
        values = []
        for name in self.key:
            value = arguments[name.removesuffix("~")]
            values.append(value.bit_length() if name.endswith("~") else value)
        return (arch, *dtypes, *values)

    def _fastest(self, choices, grid, arguments):
        """The Choice of the least median time; an argument in `restore` is put back afterwards."""
        import triton

        if len(choices) == 1:
            return choices[0]
        names = self.restore(arguments) if callable(self.restore) else self.restore
        kept = {name: arguments[name].clone() for name in names}
        times, failure = [], None
        for choice in choices:
            launch = functools.partial(self._launch, choice, grid, arguments)
            try:
                time = triton.testing.do_bench(launch, warmup=5, rep=30, return_mode="median")
            except Exception as error:
                if not _cannot_compile(error):
                    raise
                time, failure = float("inf"), error
            times.append(time)
        for name, before in kept.items():
            arguments[name].copy_(before)
        if min(times) == float("inf"):
            raise failure
        return choices[times.index(min(times))]

    def _launch(self, choice, grid, arguments):
        arguments = arguments | choice.launch_options()
        size = grid(arguments) if callable(grid) else grid
        return self.kernel[size](**arguments)


def _cannot_compile(error):
    """Whether a choice is beyond this GPU's registers or shared memory, or this Triton's compiler;
    another error, of the launch itself, would come from any choice."""
    from triton.runtime.errors import OutOfResources, PTXASError

    return isinstance(error, OutOfResources | PTXASError) or "PassManager" in str(error)


def autotune(choices, key, restore=()):
    """Decorate a `@triton.jit` kernel with its choices.

    Parameters
    ----------
    choices : list of Choice, at most 12; the first is what the interpreter takes, and what a CUDA
        graph captures if nothing was measured before
    key : names of the arguments that the best choice depends on; "n~" for the power of two above n
    restore : names of the arrays that the kernel both reads and writes, or a function of the
        arguments that returns them: measuring would otherwise run it on its own results

    Returns
    -------
    decorate : function of the kernel, returns a Tuned
    """
    return lambda kernel: Tuned(kernel, list(choices), list(key), restore)


@contextlib.contextmanager
def chosen(kernel, name):
    """Inside, the tuned `kernel` takes its configuration of that name.

    Raises
    ------
    ValueError
        at the launch, for a name that the kernel does not have.
    """
    token = _BY_HAND.set(_BY_HAND.get() | {kernel.__name__: name})
    try:
        yield
    finally:
        _BY_HAND.reset(token)
