"""Lines of text: those that a text has, and those that make a table."""

__all__ = ["aligned", "lines_of"]


def lines_of(text):
    """The lines of a text without their line feeds; the one that ends the last is no line."""
    lines = text.split("\n")
    if lines[-1] == "":
        lines.pop()
    return lines


def aligned(rows):
    """Rows of strings as a table: the first column to the left, the others to the right."""
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return "\n".join(
        "  ".join([row[0].ljust(widths[0]), *map(str.rjust, row[1:], widths[1:])]) for row in rows
    )
