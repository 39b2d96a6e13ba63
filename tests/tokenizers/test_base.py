import pytest

from minillm.errors import UserError
from minillm.tokenizers.base import special_names


def test_a_str_is_one_name():
    assert special_names("<pad>") == special_names(["<pad>"]) == special_names({"<pad>": 3})
    assert special_names(iter(("<a>", "<b>"))) == ["<a>", "<b>"]
    assert special_names(()) == []


@pytest.mark.parametrize(
    ("names", "message"),
    [
        ("", "must have a name, got ''"),
        (["<a>", ""], "must have a name, got ''"),
        (["<a>", 5], "must have a name, got 5"),
        ([b"<a>"], "must have a name, got b'<a>'"),
        (["<a>\ud800"], r"'<a>\\ud800' holds a lone surrogate"),
        (["<a>", "<b>", "<a>"], "'<a>' comes twice"),
        (None, "must be names, got None"),
        (5, "must be names, got 5"),
    ],
)
def test_names_that_are_none_are_refused(names, message):
    with pytest.raises(UserError, match=message):
        special_names(names)
