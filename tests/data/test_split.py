import pytest
from hypothesis import given
from hypothesis import strategies as st

from minillm.data import Document, split_documents
from minillm.errors import UserError

PARTS = st.integers(0, 20)


def pieces(documents):
    return [(d.name, d.text) for d in documents]


@given(
    texts=st.lists(st.text(max_size=30), max_size=8),
    shares=st.tuples(PARTS, PARTS, PARTS).filter(any),
)
def test_every_character_lands_in_one_part_in_order(texts, shares):
    fractions = [s / sum(shares) for s in shares]
    split = split_documents([Document(str(i), t) for i, t in enumerate(texts)], fractions)
    parts = ["".join(d.text for d in part) for part in (split.train, split.validation, split.test)]
    whole = "".join(texts)
    assert "".join(parts) == whole
    assert all(d.text for part in (split.train, split.validation, split.test) for d in part)
    for part, fraction in zip(parts, fractions, strict=True):
        assert abs(len(part) - fraction * len(whole)) <= 1 + 1e-6
        assert fraction > 0 or not part


def test_by_hand():
    documents = [
        Document("a", "0123"),
        Document("b", "456789"),
        Document("c", "湖水很静。好好好好好"),
    ]
    split = split_documents(documents, (0.5, 0.25, 0.25))
    assert pieces(split.train) == [("a", "0123"), ("b", "456789")]
    assert pieces(split.validation) == [("c[0:5]", "湖水很静。")]
    assert pieces(split.test) == [("c[5:10]", "好好好好好")]
    assert split.describe() == (
        "train: 2 documents, 10 characters, a to b\n"
        "validation: 1 documents, 5 characters, c[0:5] to c[0:5]\n"
        "test: 1 documents, 5 characters, c[5:10] to c[5:10]"
    )


def test_one_file_without_a_test_part():
    text = "x" * 1115394
    split = split_documents([Document("one", text)], (0.9, 0.1, 0))
    assert len(split.train[0].text) == int(0.9 * len(text))
    assert split.test == []
    assert len(split.validation[0].text) == len(text) - int(0.9 * len(text))


def test_a_sum_that_falls_short_by_rounding():
    assert (0.7 + 0.2) * 30 < 27
    split = split_documents([Document("d", "x" * 30)], (0.7, 0.2, 0.1))
    assert [len(d.text) for d in split.validation + split.test] == [6, 3]


@pytest.mark.parametrize(
    "fractions", [(0.8, 0.2), (0.8, 0.3, -0.1), (0.8, 0.1, 0.2), (float("nan"), 0.5, 0.5)]
)
def test_wrong_fractions(fractions):
    with pytest.raises(UserError, match="fractions must"):
        split_documents([Document("d", "text")], fractions)
