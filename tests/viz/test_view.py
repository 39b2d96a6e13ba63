import html
import re

import pytest

from minillm.viz.view import View


class Greeting(View):
    title = 'A "greeting" & more'

    def body(self):
        return '<p id="out">without JavaScript</p>'

    def script(self):
        return 'document.getElementById("out").textContent = data.text;'

    def data(self):
        return {"text": "</script><b>你好</b>"}


def test_a_view_is_a_frame_that_needs_nothing_else():
    shown = Greeting()._repr_html_()
    assert shown.startswith("<iframe ")
    assert 'title="A &quot;greeting&quot; &amp; more"' in shown
    (inner,) = re.findall(r'srcdoc="([^"]*)"', shown)
    assert html.unescape(inner) == Greeting().page()
    assert not re.search(r"""(src|href)\s*=|url\(|@import|https?:""", Greeting().page())


def test_no_text_in_the_data_can_end_the_script():
    page = Greeting().page()
    assert "<b>" not in page
    assert page.count("</script>") == 2
    assert "\\u003c/script>\\u003cb>你好" in page


def test_what_a_view_must_say_itself():
    with pytest.raises(NotImplementedError, match="View must say what its page shows"):
        View().page()
    with pytest.raises(NotImplementedError, match="Greeting has no static picture"):
        Greeting().figure()
