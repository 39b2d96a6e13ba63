"""The one line that runs a check again."""

import re
import zlib

import numpy as np

from minillm.gradcheck import arrays
from minillm.gradcheck.drawing import Drawn
from minillm.tree import leaves

__all__ = ["replay_line"]

WRITTEN_OUT = 64  # numbers that a line may hold


def replay_line(called, args, kwargs, names, options):
    """The call as a line of Python: exact where the arrays are drawn or few numbers.

    Larger arrays that the caller made are named by a fingerprint, so that one can tell whether
    one has the same again.
    """
    parts, remark = [called], ""
    if args is not None:
        text = _written(args)
        remark = "" if text else f"  # args: {_fingerprint(args)}"
        parts.append(text or "args")
    if kwargs:
        opaque = [
            key for key, value in kwargs.items() if repr(value).startswith(("<", "Generator"))
        ]
        text = ", ".join(
            f"{key!r}: {key if key in opaque else _value(value)}" for key, value in kwargs.items()
        )
        parts.append(f"{{{text}}}")
        remark += f"  # {', '.join(opaque)}: as it was" if opaque else ""
    parts += [f"names={tuple(names)!r}"] if names is not None else []
    parts += [f"{key}={value!r}" for key, value in options.items() if key != "diagnose"]
    return ", ".join(parts) + ")" + remark


def _written(args):
    """The arguments as source text, or None where they are too many numbers."""
    if isinstance(args, Drawn):
        return args.recipe
    numbers = sum(arrays.host(leaf).size for _, leaf in leaves(list(args)) if arrays.is_array(leaf))
    if numbers > WRITTEN_OUT:
        return None
    return _value(tuple(args))


def _value(value):
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {_value(child)}" for key, child in value.items()) + "}"
    if isinstance(value, list | tuple):
        inner = ", ".join(_value(child) for child in value)
        if isinstance(value, list):
            return f"[{inner}]"
        return f"({inner},)" if len(value) == 1 else f"({inner})"
    if arrays.is_array(value):
        held = arrays.host(value)
        if held.size > WRITTEN_OUT:
            return _fingerprint([value])
        dtype = "" if held.dtype in (np.float64, np.int64, np.bool_) else f", {str(held.dtype)!r}"
        numbers = re.sub(r"\b(inf|nan)\b", r"np.\1", repr(held.tolist()))
        if type(value).__module__.partition(".")[0] == "torch":
            return f"torch.tensor({numbers.replace('np.', 'torch.')}, dtype={value.dtype})"
        return f"np.array({numbers}{dtype})"
    return repr(value)


def _fingerprint(nest):
    """What the arrays are, and a checksum of their bytes."""
    total, looks = 0, []
    for _, leaf in leaves(list(nest)):
        if arrays.is_array(leaf):
            held = np.ascontiguousarray(arrays.host(leaf))
            total = zlib.crc32(held.tobytes(), total)
            looks.append(f"{held.dtype}{held.shape}")
    return f"{' '.join(looks)} crc32 {total:08x}"
