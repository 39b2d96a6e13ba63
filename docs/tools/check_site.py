"""Check a built site: every link in it leads somewhere, and no page loads anything from outside.

python docs/tools/check_site.py build/site
"""

import sys
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

# what a browser fetches by itself; an <a> only leads away when a person asks for it
LOADS = {
    "img": "src",
    "script": "src",
    "iframe": "src",
    "source": "src",
    "video": "src",
    "audio": "src",
    "link": "href",
    "object": "data",
    "embed": "src",
}
NOT_LOADED = {"canonical", "author", "index", "search", "next", "prev", "top", "help", "copyright"}


class Page(HTMLParser):
    """The ids of a page, where it leads, and what it loads."""

    def __init__(self, text):
        super().__init__()
        self.ids, self.links, self.loads = set(), [], []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.ids.update(given[key] for key in ("id", "name") if given.get(key))
        if tag == "a" and given.get("href"):
            self.links.append(given["href"])
        url = given.get(LOADS.get(tag, ""))
        if url and not (tag == "link" and given.get("rel") in NOT_LOADED):
            self.loads.append(url)
        if given.get("srcdoc"):
            self.loads += Page(given["srcdoc"]).loads


def problems(site):
    """Each broken link, and each thing that is loaded from elsewhere, as a line of text."""
    site = site.resolve()
    pages = {path: Page(path.read_text(encoding="utf-8")) for path in site.rglob("*.html")}
    for path, page in sorted(pages.items()):
        name = path.relative_to(site)
        for url in page.loads:
            if urlsplit(url).scheme in ("http", "https") or url.startswith("//"):
                yield f"{name} loads {url}"
        for url in page.links + page.loads:
            parts = urlsplit(url)
            if parts.scheme or parts.netloc:
                continue
            target = (path.parent / unquote(parts.path)).resolve() if parts.path else path
            if target.is_dir():
                target /= "index.html"
            if not target.exists():
                yield f"{name} links to {url}, which is not there"
            elif target in pages and not holds(pages[target], parts.fragment) and not is_file(name):
                yield f"{name} links to {url}, where no such place is"


def is_file(name):
    """A page that shows a file; it leads back to every name in it, also to undocumented ones."""
    return name.parts[0] == "_modules"


def holds(page, fragment):
    return not fragment or unquote(fragment) in page.ids


def main(argv):
    if len(argv) != 1 or not Path(argv[0]).is_dir():
        print("usage: check_site.py SITE, the folder of a built site", file=sys.stderr)
        return 2
    found = list(problems(Path(argv[0])))
    print("\n".join(found) if found else "all links lead somewhere, nothing is loaded from outside")
    return 1 if found else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
