import io
import sys
import types

import pytest

from minillm.training.progress import Progress, in_notebook, track

LINE = {
    "step": 20,
    "train_loss": 2.34567,
    "validation_loss": 2.5,
    "tokens_per_second": 12345.6,
}


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_plain_lines_where_no_terminal_is(capsys):
    progress = Progress(100, start=10)
    progress.advance(20)
    progress.show(LINE)
    progress.show(LINE | {"step": 30, "validation_loss": None})
    progress.close()
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith(
        "step 20/100  loss 2.346  validation 2.500  12,346 tokens/s  0:00 left"
    )
    assert lines[1].startswith("step 30/100  loss 2.346  12,346 tokens/s  0:0")
    assert len(lines) == 2


def test_time_left_is_for_the_steps_that_remain(monkeypatch, capsys):
    now = [1000.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    progress = Progress(100, start=40)
    now[0] += 30
    progress.show(LINE | {"step": 50})
    assert capsys.readouterr().out.endswith("  2:30 left\n")


def test_a_bar_on_a_terminal():
    stream = Terminal()
    progress = Progress(100, start=10, stream=stream)
    progress.advance(15)
    progress.show(LINE)
    progress.advance(100)
    progress.close()
    text = stream.getvalue()
    assert "\r" in text
    assert "100/100" in text
    assert "loss 2.346  validation 2.500  12,346 tokens/s" in text
    assert "%" in text


@pytest.mark.parametrize("stream", [io.StringIO(), Terminal()])
def test_silence_when_asked(stream):
    progress = Progress(100, visible=False, stream=stream)
    progress.advance(20)
    progress.show(LINE)
    progress.close()
    assert stream.getvalue() == ""


def test_a_kernel_is_a_notebook_and_a_shell_is_not(monkeypatch):
    assert not in_notebook()
    for shell, expected in (
        (types.SimpleNamespace(), False),
        (types.SimpleNamespace(kernel=object()), True),
    ):
        module = types.SimpleNamespace(get_ipython=lambda shell=shell: shell)
        monkeypatch.setitem(sys.modules, "IPython", module)
        assert in_notebook() is expected


@pytest.fixture
def notebook(monkeypatch):
    """Stands for a Jupyter kernel: a list of all that was displayed, in its order."""
    shown = []

    class Handle:
        def update(self, bundle, raw):
            shown.append(bundle)

    def display(bundle, raw, display_id):
        assert (raw, display_id) == (True, True)
        shown.append(bundle)
        return Handle()

    monkeypatch.setattr("minillm.training.progress.in_notebook", lambda: True)
    monkeypatch.setattr("minillm.training.progress.EVERY", 0)
    monkeypatch.setitem(sys.modules, "IPython", types.SimpleNamespace())
    monkeypatch.setitem(sys.modules, "IPython.display", types.SimpleNamespace(display=display))
    return shown


def test_a_bar_in_a_notebook_leaves_nothing_behind(notebook, capsys):
    progress = Progress(100, start=10)
    progress.advance(15)
    progress.show(LINE)
    progress.advance(55)
    progress.close()
    texts = [bundle["text/plain"] for bundle in notebook]
    assert texts[0] == "10/100"
    assert texts[1].startswith("15/100  0:0")
    assert "loss 2.346" in texts[2]
    assert 'value="55" max="100"' in notebook[-2]["text/html"]
    assert set(notebook[-1].values()) == {""}
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("total", [3, None])
def test_tracking_gives_every_item_and_cleans_up_after_an_error_too(notebook, total):
    items = [5, 6, 7] if total else (n for n in (5, 6, 7))
    assert list(track(items, "<b>")) == [5, 6, 7]
    assert "&lt;b&gt;" in notebook[0]["text/html"]
    assert notebook[3]["text/plain"].startswith("<b>  3/3" if total else "<b>  3")
    assert set(notebook[-1].values()) == {""}
    with pytest.raises(ZeroDivisionError):
        sum(1 / item for item in track([1, 0]))
    assert set(notebook[-1].values()) == {""}


def test_tracking_in_a_file_is_silent(capsys):
    assert list(track(range(3), "what")) == [0, 1, 2]
    assert capsys.readouterr() == ("", "")
