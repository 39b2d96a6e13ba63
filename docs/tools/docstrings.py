"""The docstrings are written to be read in an editor; Sphinx reads them as reStructuredText.

There a lone star or bar would start markup, and a name that ends in an underscore a link. What
stands between backticks is left alone. An indented block in a module's docstring is shown as it is.
"""

import re

__all__ = ["escape"]

FIELD = re.compile(r"([a-z_]\w*(?:, [a-z_]\w*)*) : (\S.*)")
CODE = re.compile(r"(``.*?``|`[^`\n]+`)")


def escape(app, what, name, obj, options, lines):
    """Sphinx's autodoc-process-docstring: change a docstring's lines in place."""
    _list_fields(lines)
    if what == "module":
        _mark_blocks(lines)
    literal = False  # inside an equation, until the next empty line
    for index, line in enumerate(lines):
        if what == "module" and line.startswith("    "):
            continue
        if line.lstrip().startswith("Equation:"):
            literal = True
            head, tail = line.split("Equation:", 1)
            lines[index] = f"{head}Equation: {_literal(tail)}"
        elif literal and line.strip():
            lines[index] = re.match(r"\s*", line)[0] + _literal(line)
        else:
            literal = False
            parts = CODE.split(line)
            parts[::2] = [_escape(part) for part in parts[::2]]
            lines[index] = "".join(parts)


def _list_fields(lines):
    """Make a list of lines like "name : what it is" that stand above the first section."""
    ruled = [index for index, line in enumerate(lines) if re.fullmatch(r"\s*-{3,}\s*", line)]
    end = ruled[0] - 1 if ruled else len(lines)
    inside, found = False, []
    for line in lines[:end]:
        field = FIELD.match(line)
        if field and not inside and found and found[-1].strip():
            found.append("")
        inside = bool(field) or (inside and line.startswith(" "))
        if field:
            line = f"- {field[1]}: {field[2]}"
        elif inside:
            line = f"  {line.strip()}"
        found.append(line)
    lines[:end] = found


def _mark_blocks(lines):
    """Make a literal block of what is indented by four below an empty line."""
    found, inside, above = [], False, ""
    for line in lines:
        indented = line.startswith("    ")
        if indented and not inside and found and not found[-1] and not above.endswith("::"):
            found += ["::", ""]
        inside = indented or (inside and not line)
        above = line or above
        found.append(line)
    lines[:] = found


def _literal(text):
    text = text.strip()
    return f"``{text}``" if text and "`" not in text else _escape(text)


def _escape(text):
    return re.sub(r"([*|\\]|(?<=\w)_(?!\w))", r"\\\1", text)
