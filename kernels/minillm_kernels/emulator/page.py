"""A report as HTML: the kernel's own lines, with what was found and counted beside each.

A notebook shows it where the report is a cell's last value. Colours are translucent, so that they
do on a light and on a dark page.
"""

from html import escape

__all__ = ["render"]

CONTEXT = 3  # lines shown around each that has something to say, in a long file
SHORT = 60  # a file of so many lines is shown whole
BAD, OTHER, SLOW = "rgba(220,50,47,.28)", "rgba(220,50,47,.12)", "rgba(203,145,0,.30)"
CELL = "padding:0 .6em;border:0;white-space:pre;text-align:"


def render(report, sources):
    """The page.

    Parameters
    ----------
    report : Report
    sources : {file as findings name it: its text}

    Returns
    -------
    html : str
    """
    count = len(report.findings)
    what = "nothing wrong was found" if not count else f"{count} finding{'s' * (count != 1)}"
    if not report.launches:
        what = "nothing can be said"
    launches = f"{report.launches} launch{'es' * (report.launches != 1)} checked"
    parts = [f"<p><b>{what}</b> &nbsp; {launches}, seed {report.seed}</p>"]
    files = dict.fromkeys([f.file for f in report.findings] + [c.file for c in report.lines])
    for file in files:
        parts.append(_file(file, sources.get(file), report))
    return "<div>" + "".join(parts) + "</div>"


def _file(file, text, report):
    findings = [f for f in report.findings if f.file == file]
    counts = {(c.line, c.memory): c for c in report.lines if c.file == file}
    if text is None:
        items = [*findings, *counts.values()]
        return "<ul>" + "".join(f"<li>{escape(str(item))}</li>" for item in items) + "</ul>"
    rows = text.splitlines()
    told = {f.line for f in findings} | {f.other_line for f in findings if f.other_line}
    told |= {line for line, _ in counts}
    shown = range(1, len(rows) + 1)
    if len(rows) > SHORT:
        near = {line + d for line in told for d in range(-CONTEXT, CONTEXT + 1)}
        shown = [line for line in shown if line in near]
    body, before = [], 0
    for line in shown:
        if line != before + 1:
            body.append(f'<tr><td colspan="4" style="{CELL}left;opacity:.5">⋮</td></tr>')
        body.append(_row(line, rows[line - 1], findings, counts))
        before = line
    heads = "".join(
        f'<th style="{CELL}{side};opacity:.7;font-weight:normal">{head}</th>'
        for head, side in (
            ("shared: wavefronts<br>a request (best)", "right"),
            ("global: sectors<br>a request (best)", "right"),
            ("", "right"),
            (escape(file), "left"),
        )
    )
    table = "border-collapse:collapse;font-family:monospace;font-size:.85em"
    return f'<table style="{table}"><tr>{heads}</tr>{"".join(body)}</table>'


def _row(line, code, findings, counts):
    own = [f for f in findings if f.line == line]
    other = any(f.other_line == line for f in findings)
    shade = f"background:{BAD if own else OTHER};" if own or other else ""
    cells = [_count(counts.get((line, memory))) for memory in ("shared", "global")]
    cells.append(f'<td style="{CELL}right;opacity:.5">{line}</td>')
    cells.append(f'<td style="{CELL}left;{shade}">{escape(code)}</td>')
    messages = "".join(
        '<tr><td></td><td></td><td></td><td style="padding:.1em .6em .4em 2em;border:0;'
        f'text-align:left;white-space:normal;font-family:sans-serif;background:{BAD}">'
        f"<b>{escape(f.kind)}</b>: {escape(f.message)}"
        f"{f' ({f.count} times)' if f.count > 1 else ''}</td></tr>"
        for f in own
    )
    return f"<tr>{''.join(cells)}</tr>{messages}"


def _count(count):
    """A line's cost: transfers a request, shaded where fewer would do."""
    if count is None:
        return "<td></td>"
    best = count.ideal / count.requests
    shade = f"background:{SLOW};" if count.kind else ""
    return (
        f'<td style="{CELL}right;{shade}" title="{escape(str(count))}">'
        f'{count.per_request:.3g} <span style="opacity:.5">({best:.3g})</span></td>'
    )
