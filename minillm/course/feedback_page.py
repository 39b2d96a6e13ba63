"""A student's feedback as one HTML page: no script, nothing loaded, fit for phone and paper."""

import re
from html import entities, escape

from minillm.course import results
from minillm.course.feedback import (
    headline,
    named,
    number,
    reason,
    sections,
    variant_text,
    words,
)
from minillm.course.plain import bounded, clean, one_line

__all__ = ["page"]

STYLE = """
:root { color-scheme: light dark; --text: #1b1f24; --soft: #59636e; --line: #d1d9e0;
  --paper: #fff; --box: #f6f8fa; --good: #1a7f37; --bad: #b3261e; --ours: #9a6700; }
@media (prefers-color-scheme: dark) { :root { --text: #e6edf3; --soft: #9198a1; --line: #3d444d;
  --paper: #0d1117; --box: #151b23; --good: #3fb950; --bad: #ff7b72; --ours: #d29922; } }
* { box-sizing: border-box; }
body { margin: 0 auto; padding: 1.5rem 1rem 4rem; max-width: 48rem; background: var(--paper);
  color: var(--text); font: 1rem/1.55 system-ui, sans-serif; overflow-wrap: anywhere; }
h1 { font-size: 1.6rem; line-height: 1.2; margin: 0 0 .3rem; }
h2 { font-size: 1.2rem; margin: 2.4rem 0 .6rem; border-bottom: 1px solid var(--line);
  padding-bottom: .3rem; display: flex; justify-content: space-between; gap: 1rem; }
h2 span { font-weight: 400; white-space: nowrap; }
h3 { font-size: 1rem; margin: 1.4rem 0 .3rem; }
p { margin: .4rem 0; }
.who, .soft { color: var(--soft); }
.score { font-size: 1.3rem; margin: 1rem 0 .2rem; }
.bar { height: .5rem; background: var(--line); border-radius: .25rem; overflow: hidden; }
.bar i { display: block; height: 100%; background: var(--good); }
table { border-collapse: collapse; width: 100%; margin: .5rem 0; }
th, td { text-align: left; vertical-align: top; padding: .35rem .6rem .35rem 0;
  border-bottom: 1px solid var(--line); }
th { font-weight: 600; color: var(--soft); font-size: .85rem; overflow-wrap: normal; }
.right { text-align: right; padding-right: 0; white-space: nowrap; }
.good { color: var(--good); } .bad { color: var(--bad); } .ours { color: var(--ours); }
pre { background: var(--box); border: 1px solid var(--line); border-radius: .4rem; padding: .7rem;
  overflow-x: auto; font: .82rem/1.45 ui-monospace, monospace; tab-size: 4; }
code { background: var(--box); border-radius: .25rem; padding: .1rem .3rem; font-size: .9em; }
details { border: 1px solid var(--line); border-radius: .4rem; padding: .4rem .7rem;
  margin: .4rem 0; }
summary { cursor: pointer; }
.room { display: inline-block; min-width: 3rem; border-bottom: 1px solid var(--text); }
@media print {
  :root { --text: #000; --soft: #444; --line: #bbb; --paper: #fff; --box: #fff; --good: #000;
    --bad: #000; --ours: #000; }
  body { max-width: none; padding: 0; font-size: 10pt; }
  pre { white-space: pre-wrap; } tr, h2, h3 { break-inside: avoid; } h2, h3 { break-after: avoid; }
  details::details-content { content-visibility: visible; }
}
"""
SIGNS = {results.HOLDS: ("good", "\N{CHECK MARK}"), results.INCONCLUSIVE: ("ours", "?")}


def page(assignment, grade, notes=()):
    """The page; parameters as for feedback.markdown."""
    title = f"{one_line(assignment.title)}: feedback"
    share = 100 * max(0.0, min(1.0, grade.share))
    body = [
        f"<h1>{escape(title)}</h1>",
        f'<p class="who">{escape(one_line(grade.student))} · {escape(assignment.name)}, '
        f"version {escape(one_line(grade.version))}</p>",
        f'<p class="score">{escape(headline(grade))}</p>',
        f'<div class="bar" aria-hidden="true"><i style="width: {share:.1f}%"></i></div>',
    ]
    if notes:
        items = "".join(f"<li>{escape(one_line(note, 400))}</li>" for note in notes)
        body.append(f"<h2>Your files</h2><ul>{items}</ul>")
    for section in sections(assignment, grade):
        body += _task(section)
    if assignment.written:
        body += _written(assignment)
    body += _how(grade)
    return (
        '<!DOCTYPE html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        # even a mistake in escaping could then run and load nothing
        '<meta http-equiv="Content-Security-Policy" '
        "content=\"default-src 'none'; style-src 'unsafe-inline'\">\n"
        f"<title>{escape(title)}</title>\n<style>{STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(body)
        + "\n</body>\n</html>\n"
    )


def _of(thing):
    return f"{number(thing.earned)} of {number(thing.points)}"


def _task(section):
    parts = [f"<h2>{escape(one_line(section.task.title))} <span>{_of(section)} points</span></h2>"]
    rows = [
        (escape(one_line(result.title)), _status(result), _of(result)) for result in section.shown
    ]
    if section.hidden:
        earned = sum(result.earned for result in section.hidden)
        points = sum(result.points for result in section.hidden)
        shown = f"{number(earned)} of {number(points)}"
        rows.append((f"{len(section.hidden)} not shown", "", shown))
    parts.append(_table(("Check", "What happened", "Points"), rows))
    for titles, result in section.to_explain:
        parts.append(f"<h3>{escape(named(titles))}: {_status(result)}</h3>")
        if reason(result):
            parts.append(f"<p>{escape(reason(result))}</p>")
        if result.detail.strip():
            parts.append(f"<pre>{escape(bounded(clean(result.detail)).strip(chr(10)))}</pre>")
    if section.hints:
        parts.append('<h3>Hints <span class="soft">from a nudge to nearly there</span></h3>')
        for index, hint in enumerate(section.hints, 1):
            parts.append(f"<details><summary>Hint {index}</summary>{_prose(hint)}</details>")
    return parts


def _status(result):
    kind, sign = SIGNS.get(result.status, ("bad", "\N{MULTIPLICATION SIGN}"))
    if result.status == results.NOT_RUN:
        kind, sign = "soft", "\N{EN DASH}"
    return f'<span class="{kind}">{sign} {escape(words(result))}</span>'


def _written(assignment):
    parts = [
        "<h2>Written part</h2>",
        '<p class="soft">A person reads this part; its points are not in the number above.</p>',
    ]
    for index, question in enumerate(assignment.written, 1):
        room = f'<span class="room"></span> of {number(question.points)} points'
        parts.append(f"<h3>Question {index}: {room}</h3>{_prose(question.question)}")
        rows = [
            (_marked(str(row.get("text", ""))), '<span class="room"></span>',
             f"of {number(row.get('points', 0))}")
            for row in question.rubric
        ]  # fmt: skip
        parts.append(_table(("For", "Given", "Points"), rows) if rows else "")
    return parts


def _how(grade):
    text = (
        f"It took {grade.seconds:.1f} s. The cases were drawn when this was graded: an answer that "
        "fits only the public cases does not fit these."
    )
    variant = f"Your variant: {variant_text(grade.variant)}" if grade.variant else ""
    lines = [one_line(line, 600) for line in (grade.isolation, text, variant) if line]
    return ["<h2>How this was run</h2>", *(f'<p class="soft">{escape(x)}</p>' for x in lines)]


def _table(head, rows):
    """A table of cells that are HTML already; the last column is numbers."""

    def line(cells, tag):
        *first, last = cells
        return (
            "<tr>" + "".join(f"<{tag}>{cell}</{tag}>" for cell in first)
            + f'<{tag} class="right">{last}</{tag}></tr>'
        )  # fmt: skip

    return f"<table>{line(head, 'th')}{''.join(line(row, 'td') for row in rows)}</table>"


def _prose(text):
    """The manifest's Markdown, as far as hints use it: paragraphs, ``` blocks, `code`, **bold**."""
    parts = []
    for index, block in enumerate(re.split(r"^```.*$", clean(text), flags=re.MULTILINE)):
        if index % 2:
            parts.append(f"<pre>{escape(block.strip(chr(10)))}</pre>")
        else:
            paragraphs = [p for p in re.split(r"\n\s*\n", block) if p.strip()]
            parts += [f"<p>{_marked(p)}</p>" for p in paragraphs]
    return "".join(parts)


def _marked(text):
    html = escape(clean(text).strip())
    html = re.sub(r"`([^`]+)`", r"<code>\1</code>", html)
    html = re.sub(r"\$([^$]+)\$", lambda match: f"<i>{_formula(match[1])}</i>", html)
    return re.sub(r"\*\*([^*]+)\*\*", r"<strong>\1</strong>", html)


def _formula(tex):
    r"""Short TeX as text, for a page that loads nothing: \hat x as an x with a hat, \times as ×."""
    tex = re.sub(r"\\hat\s*{?(\w)}?", "\\1\N{COMBINING CIRCUMFLEX ACCENT}", tex)
    tex = re.sub(r"\\frac\s*{([^{}]*)}\s*{([^{}]*)}", r"(\1)/(\2)", tex)
    signs = {"cdot": "\N{MIDDLE DOT}", "partial": "\N{PARTIAL DIFFERENTIAL}"}

    def sign(match):
        name = match[1]
        return escape(signs.get(name) or entities.html5.get(f"{name};", name))

    return re.sub(r"\\([A-Za-z]+)", sign, tex).replace("{", "").replace("}", "")
