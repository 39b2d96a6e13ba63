"""Numbers as a person reads them."""

__all__ = ["duration"]


def duration(seconds):
    """A time like "4.2 s", "3 min 20 s" or "1 h 05 min"."""
    if seconds < 60:
        return f"{seconds:.1f} s"
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours} h {minutes:02d} min" if hours else f"{minutes} min {seconds:02d} s"
