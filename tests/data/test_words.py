import numpy as np
import pytest

from minillm.data.words import number_words, words_of
from minillm.errors import UserError


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("Don't call list.sort()!", ["don't", "call", "list", "sort"]),
        ("the file's name, 'quoted'", ["the", "file's", "name", "quoted"]),
        ("sys.maxsize + __init__ x2 2x 0xff", ["sys", "maxsize", "__init__", "x2"]),
        ("Ünïcode naïve 3.14", ["ünïcode", "naïve"]),
        ("我们 go去go", ["我", "们", "go", "去", "go"]),
        ("", []),
    ],
)
def test_words_of(text, words):
    assert words_of(text) == words


def test_number_words():
    documents = [["b", "a", "b", "c"], [], ["a", "b", "d", "c"]]
    text = number_words(documents, min_count=2)
    assert text.words == ["b", "a", "c"]
    assert text.counts.tolist() == [3, 2, 2]
    assert text.ids.tolist() == [0, 1, 0, 2, 1, 0, 2]
    assert text.document.tolist() == [0, 0, 0, 0, 2, 2, 2]
    assert text.ids.dtype == text.document.dtype == np.int32
    assert len(number_words(iter(documents), min_count=1).words) == 4


def test_wrong_input_is_named():
    with pytest.raises(UserError, match="must be lists of words, got a text: see words_of"):
        number_words(["a text"])
    with pytest.raises(UserError, match="no word comes 5 times or more in 2 words of 1 documents"):
        number_words([["a", "b"]])
    with pytest.raises(UserError, match="min_count must be a whole number of at least 1, got 0"):
        number_words([["a"]], min_count=0)
