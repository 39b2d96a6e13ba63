"""Numbers as a person reads them."""

import math

from minillm.lines import aligned

__all__ = ["NUMBERS", "duration", "table"]

LARGE = 1e9  # from here on digits say less than the power of ten

# field of an Evaluation -> how it is written
NUMBERS = {
    "bits per byte": lambda e: _number(e.bits_per_byte, ".4f"),
    "nats per token": lambda e: _number(e.nats_per_token, ".4f"),
    "perplexity": lambda e: _number(e.perplexity, ".3f" if e.perplexity < LARGE else ".4e"),
    "accuracy": lambda e: f"{e.accuracy:.1%}",
}


def table(rows, columns):
    """A table of one line a row: {name: thing} and {heading: function of a thing -> str}."""
    lines = [["", *columns]]
    lines += [[name, *(show(thing) for show in columns.values())] for name, thing in rows.items()]
    return aligned(lines)


def _number(value, form):
    return "n/a" if value is None or math.isnan(value) else format(value, form)


def duration(seconds):
    """A time like "4.2 s", "3 min 20 s" or "1 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
