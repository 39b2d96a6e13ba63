"""What README.md and docs/ tell a person to type can be typed."""

import re
import shlex
from pathlib import Path

import click
import pytest

from minillm.cli import cli

ROOT = Path(__file__).parents[2]
BUILT = {ROOT / "docs" / name for name in ("api", "notebooks", "course/generated")}  # by make docs
WRITTEN = [p for p in (ROOT / "docs").rglob("*.md") if not BUILT & set(p.parents)]
PAGES = [ROOT / "README.md", *sorted(WRITTEN)]
CHINESE = ROOT / "README.zh-CN.md"


def blocks(page, language):
    text = page.read_text(encoding="utf-8")
    return re.findall(rf"^```{language}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def commands(page):
    for block in blocks(page, "sh"):
        for line in block.replace("\\\n", " ").splitlines():
            words = shlex.split(line, comments=True)
            if words and words[0].endswith("minillm"):
                yield words[1:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_runs(page, capsys):
    names = {}
    for block in blocks(page, "python"):
        exec(compile(block, str(page), "exec"), names)


def test_code_that_a_page_quotes_is_in_a_file():
    sources = [path.read_text(encoding="utf-8") for path in (ROOT / "minillm").rglob("*.py")]
    quoted = [block for page in PAGES for block in blocks(page, "py")]
    assert quoted
    for block in quoted:
        assert any(block in source for source in sources), block


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist(page):
    for words in commands(page):
        command, args = cli, list(words)
        while isinstance(command, click.Group) and args and args[0] in command.commands:
            command = command.commands[args.pop(0)]
        assert not isinstance(command, click.Group), words
        # below the parent's context: click keeps what the first one says of --help and -h
        parent = click.Context(cli, **cli.context_settings)
        command.make_context(words[0], args, parent=parent).close()


def test_commands_are_found():
    assert sum(1 for page in PAGES for _ in commands(page)) > 8
    with pytest.raises(click.NoSuchOption):
        cli.commands["train"].make_context("train", ["gpt", "--out", "x", "--stesp", "3"])


def test_no_page_names_a_machine():
    for page in [*PAGES, CHINESE]:
        text = page.read_text(encoding="utf-8")
        assert not re.search(r"/(home|root|tmp|work|Users|mnt)/", text), page
        assert "pypi" not in text.lower(), page


def prose(text):
    return re.sub(r"^```.*?^```", "", text, flags=re.MULTILINE | re.DOTALL)


def outline(path):
    """What two languages of one page share: code, headings, lists, links and numbers."""
    text = path.read_text(encoding="utf-8")
    said = prose(text)
    links = re.findall(r"\]\(([^)]+)\)", said)
    return {
        "code": re.findall(r"^```(\w*)\n(.*?)^```", text, re.MULTILINE | re.DOTALL),
        "headings": re.findall(r"^(#+) ", said, re.MULTILINE),
        "items": re.findall(r"^(-|\d+\.) ", said, re.MULTILINE),
        "links": [link for link in links if not link.startswith("README")],
        "inline code": sorted(set(re.findall(r"`([^`]+)`", said))),
        "numbers": sorted(re.findall(r"\b\d[\d.,]*\d\b", re.sub(r"`[^`]*`|\]\(.*?\)", "", said))),
    }


def test_the_chinese_readme_says_the_same():
    english, chinese = outline(ROOT / "README.md"), outline(CHINESE)
    assert english["code"]
    for what, found in english.items():
        assert chinese[what] == found, what


def test_the_chinese_readme_is_chinese():
    """Every paragraph, heading and list item, but the link to the other language."""
    for part in re.split(r"\n\n|\n(?=- |\d+\. )", prose(CHINESE.read_text(encoding="utf-8"))):
        if part.strip() and "README.md" not in part and part.strip() != "# minillm":
            assert re.search(r"[\u4e00-\u9fff]", part), part


@pytest.mark.parametrize("page", [*PAGES, CHINESE], ids=lambda page: page.name)
def test_the_links_of_a_page_lead_somewhere(page):
    text = prose(page.read_text(encoding="utf-8"))
    for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"`[^`]*`", "", text)):
        target = (page.parent / link.split("#")[0]).resolve()
        if re.match(r"[a-z]+:", link) or not link.split("#")[0]:
            continue
        assert target.exists() or BUILT & {target.parent}, link
