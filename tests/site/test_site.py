"""The built site in a browser: formulas are drawn, no other server is asked, it fits."""

from pathlib import Path

import pytest

from .conftest import ROOT, SHOTS, SITE

PAGES = {  # page -> whether formulas stand on it
    "index.html": False,
    "start.html": False,
    "derivations/layer_norm.html": True,
    "derivations/flash_attention.html": True,
    "api/ops.html": False,
    "notebooks/03_backpropagation.html": True,
    "notebooks/08_attention.html": True,
}
WIDTHS = {"laptop": (1280, 800), "phone": (390, 844)}


@pytest.mark.parametrize("screen", WIDTHS)
@pytest.mark.parametrize("name", PAGES)
def test_a_page_is_whole_and_stays_at_home(browser, site, name, screen):
    width, height = WIDTHS[screen]
    page = browser.new_page(viewport={"width": width, "height": height})
    asked, failed = [], []
    page.on("request", lambda request: asked.append(request.url))
    page.on("requestfailed", lambda request: failed.append(request.url))
    page.on("response", lambda response: response.ok or failed.append(response.url))
    page.on("pageerror", lambda error: failed.append(str(error)))
    page.goto(f"{site}/{name}", wait_until="load")
    page.evaluate("() => window.MathJax?.startup?.promise")
    page.wait_for_timeout(300)
    assert [url for url in asked if not url.startswith((site, "data:", "blob:"))] == []
    assert failed == []
    if PAGES[name]:
        assert page.locator("mjx-container").count() > 5
        assert page.locator("mjx-merror").count() == 0
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    page.screenshot(path=SHOTS / f"{name.replace('/', '-').removesuffix('.html')}-{screen}.png")
    page.close()


def test_every_page_with_a_formula_brings_mathjax_along():
    # what MathJax loads later, when a formula needs it, lies beside it
    assert (SITE / "_static" / "mathjax" / "mathjax-newcm-font" / "chtml" / "woff2").is_dir()
    pages = [path for path in SITE.rglob("*.html") if 'class="math' in path.read_text("utf-8")]
    assert len(pages) > 40
    for path in pages:
        assert "mathjax/tex-chtml.js" in path.read_text("utf-8"), path


@pytest.mark.parametrize("screen", WIDTHS)
def test_the_views_of_the_course_can_be_used(browser, site, screen):
    """Every frame has as much height as it needs, and its script runs."""
    names = [p.stem for p in sorted((ROOT / "notebooks").glob("[0-9]*.py")) if holds_a_view(p.stem)]
    assert len(names) >= 3  # tokens, attention, generation
    width, height = WIDTHS[screen]
    for name in names:
        page = browser.new_page(viewport={"width": width, "height": height})
        errors = []
        page.on("pageerror", lambda error, errors=errors: errors.append(str(error)))
        page.goto(f"{site}/notebooks/{name}.html", wait_until="load")
        frames = page.locator("iframe[srcdoc]")
        assert frames.count() >= 1, name
        for index in range(frames.count()):
            frame = frames.nth(index)
            frame.scroll_into_view_if_needed()
            page.wait_for_timeout(400)
            inner = frame.element_handle().content_frame()
            high = inner.evaluate("document.body.getBoundingClientRect().height")
            assert abs(frame.bounding_box()["height"] - high) < 12, (name, index)
            assert inner.evaluate("document.documentElement.scrollWidth <= innerWidth"), (
                name,
                index,
            )
            frame.screenshot(path=SHOTS / f"view-{name}-{index}-{screen}.png")
        assert errors == [], name
        page.close()


def holds_a_view(name):
    return "<iframe " in (ROOT / "build" / "notebooks" / f"{name}.ipynb").read_text("utf-8")


def test_a_broken_link_and_a_page_that_asks_outside_are_found(tmp_path):
    import sys

    sys.path.insert(0, str(ROOT / "docs" / "tools"))
    import check_site

    (tmp_path / "a.html").write_text('<a href="b.html#x">b</a><a id="y" href="#y">y</a>')
    (tmp_path / "b.html").write_text('<p id="x"><img src="a.html"><a href="https://example.org">')
    assert list(check_site.problems(tmp_path)) == []
    outside = '<iframe srcdoc="&lt;script src=&quot;https://example.org/x.js&quot;&gt;"></iframe>'
    (tmp_path / "c.html").write_text(f'<a href="d.html">d</a><a href="b.html#z">z</a>{outside}')
    assert list(check_site.problems(tmp_path)) == [
        "c.html loads https://example.org/x.js",
        "c.html links to d.html, which is not there",
        "c.html links to b.html#z, where no such place is",
    ]
    assert check_site.main([str(tmp_path)]) == 1
    assert check_site.main([str(Path(tmp_path) / "none")]) == 2
