from pathlib import Path

import pytest

from minillm.errors import UserError
from minillm.models import gpt
from minillm.ops import layer_norm
from minillm.viz import show_source

ROOT = Path(__file__).parents[2]
FILE = ROOT / "minillm" / "ops" / "layer_norm.py"


class Holder:
    def method(self):
        if self:
            return 1
        return 2


def test_an_op_shows_its_forward_and_its_backward_as_they_stand_in_the_file():
    text = FILE.read_text()
    forward, backward = show_source(layer_norm).pieces
    assert forward[2].startswith("@op\ndef layer_norm(")
    assert backward[2].startswith("@layer_norm.defbackward\ndef layer_norm_backward(")
    for place, language, lines in (forward, backward):
        assert lines in text
        assert language == "python"
        first, last = (int(word) for word in place.split("lines ")[1].split(" to "))
        assert place.startswith("minillm/ops/layer_norm.py, ")
        assert lines.splitlines() == text.splitlines()[first - 1 : last]
    assert show_source(layer_norm, only="backward").pieces == [backward]
    assert show_source(gpt.loss, only="forward").pieces[0][2].startswith("@op\ndef gpt_loss(")


def test_markdown_and_plain_text():
    shown = show_source(Holder.method)
    assert shown.pieces[0][2] == ("def method(self):\n    if self:\n        return 1\n    return 2")
    markdown = shown._repr_markdown_()
    assert markdown.startswith("*test_source.py, lines ")
    assert f"\n\n```python\n{shown.pieces[0][2]}\n```" in markdown
    assert repr(shown) == f"# {shown.pieces[0][0]}\n{shown.pieces[0][2]}"


def test_files_and_modules(tmp_path):
    file = tmp_path / "a.cu"
    file.write_text("one\n``` two\nthree\n")
    assert show_source(file, lines=(2, 3)).pieces == [
        ("a.cu, lines 2 to 3", "cpp", "``` two\nthree")
    ]
    assert "`````cpp\none\n" in show_source(file)._repr_markdown_()
    assert show_source(gpt).pieces[0][0] == "minillm/models/gpt.py"


def test_what_has_no_source(tmp_path):
    with pytest.raises(UserError, match="no source to show of 3"):
        show_source(3)
    with pytest.raises(UserError, match="only an op has a backward"):
        show_source(Holder.method, only="backward")
    with pytest.raises(UserError, match='only must be "forward"'):
        show_source(layer_norm, only="back")
    with pytest.raises(UserError, match="lines are those of a file"):
        show_source(Holder, lines=(1, 2))
    with pytest.raises(UserError, match="cannot read"):
        show_source(tmp_path / "none.py")
    file = tmp_path / "b.py"
    file.write_text("a = 1\n")
    with pytest.raises(UserError, match="has lines 1 to 1, got 1 to 2"):
        show_source(file, lines=(1, 2))
