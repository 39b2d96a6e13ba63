import json

import pytest

from minillm.errors import UserError
from minillm.tokenizers import BPETokenizer, WordTokenizer, load_tokenizer_file


@pytest.mark.parametrize("kind", [{}, [], 1, None, "none"])
def test_a_kind_that_is_none_is_refused(tmp_path, kind):
    (tmp_path / "t.json").write_text(
        json.dumps(WordTokenizer.train("a b").to_dict() | {"kind": kind})
    )
    with pytest.raises(UserError, match=r"t\.json: JSON, but no tokenizer"):
        load_tokenizer_file(tmp_path / "t.json")


def test_kind_may_be_a_word_of_a_vocabulary(tmp_path):
    ours = BPETokenizer.train("kind kind", vocab_size=260)
    assert ours.id_of("kind") is not None
    ours.save_gpt2(tmp_path)
    assert load_tokenizer_file(tmp_path).to_dict() == ours.to_dict()
    assert load_tokenizer_file(tmp_path / "vocab.json").to_dict() == ours.to_dict()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"merges": 1}, "merges must be a list, got 1"),
        ({"special_tokens": {"\ud800": 300}}, "holds a lone surrogate"),
        ({"special_tokens": {"": 300}}, "must have a name"),
    ],
)
def test_a_damaged_description_is_refused_with_its_file(tmp_path, change, message):
    saved = BPETokenizer.train("ab ab", vocab_size=260).to_dict()
    (tmp_path / "t.json").write_text(json.dumps(saved | change))
    with pytest.raises(UserError, match=rf"t\.json: .*{message}"):
        load_tokenizer_file(tmp_path / "t.json")
