import base64
import json

import numpy as np
import pytest
import tiktoken
import tiktoken.load
import tokenizers
from hypothesis import example, given

from minillm.errors import UserError
from minillm.tokenizers.base import END
from minillm.tokenizers.bpe import BPETokenizer
from minillm.tokenizers.bpe_alphabet import to_bytes, to_text
from minillm.tokenizers.bpe_files import SPLIT
from minillm.tokenizers.pretokenize import PATTERNS
from tests.tokenizers.bpe_samples import ANY_TEXT, TELLING_TEXT, TEXT, telling, trained


@pytest.fixture(scope="module", params=PATTERNS)
def through_a_file(request, tmp_path_factory):
    """Our tokenizer, ours read back, and Hugging Face's that reads our file."""
    ours = trained(request.param)
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    ours.save(path)
    return ours, BPETokenizer.load(path), tokenizers.Tokenizer.from_file(str(path))


@given(text=ANY_TEXT)
def test_hugging_face_reads_our_file_and_cuts_and_joins_alike(through_a_file, text):
    ours, again, theirs = through_a_file
    ids = ours.encode(text, special="all").tolist()
    assert again.encode(text, special="all").tolist() == ids
    assert theirs.encode(text).ids == ids
    assert theirs.decode(ids, skip_special_tokens=False) == text == ours.decode(ids, special=True)


@pytest.fixture(scope="module", params=PATTERNS)
def telling_sides(request, tmp_path_factory):
    ours = telling(request.param)
    path = tmp_path_factory.mktemp("bpe") / "tokenizer.json"
    ours.save(path)
    return ours, tokenizers.Tokenizer.from_file(str(path))


@given(text=TELLING_TEXT)
@example("'\u017fa")
@example("a\n \n ")
def test_words_end_where_hugging_faces_do(telling_sides, text):
    ours, theirs = telling_sides
    assert ours.encode(text).tolist() == theirs.encode(text).ids


def test_a_file_read_back_is_the_same_tokenizer(through_a_file):
    ours, again, theirs = through_a_file
    assert again.to_dict() == ours.to_dict()
    assert theirs.token_to_id(END) == again.end_id
    assert theirs.get_vocab_size() == again.vocab_size


@pytest.mark.parametrize("split", [None, *SPLIT.values()])
def test_a_file_of_hugging_face_is_read(tmp_path, split):
    theirs = tokenizers.Tokenizer(tokenizers.models.BPE())
    theirs.pre_tokenizer = tokenizers.pre_tokenizers.ByteLevel(
        add_prefix_space=False, use_regex=split is None
    )
    if split is not None:
        theirs.pre_tokenizer = tokenizers.pre_tokenizers.Sequence(
            [
                tokenizers.pre_tokenizers.Split(tokenizers.Regex(split), "isolated"),
                theirs.pre_tokenizer,
            ]
        )
    trainer = tokenizers.trainers.BpeTrainer(
        vocab_size=500,
        special_tokens=["<pad>", END],
        initial_alphabet=tokenizers.pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    theirs.train_from_iterator([TEXT * 2], trainer)
    theirs.save(str(tmp_path / "theirs.json"))
    ours = BPETokenizer.load(tmp_path / "theirs.json")
    assert ours.special_tokens == {"<pad>": 0, END: 1}
    assert (ours.end_id, ours.vocab_size) == (1, 500)
    text = TEXT + END + "It'S the end!"
    assert ours.encode(text, special="all").tolist() == theirs.encode(text).ids
    old = json.loads((tmp_path / "theirs.json").read_text())  # as older versions write merges
    old["model"]["merges"] = [" ".join(pair) for pair in old["model"]["merges"]]
    (tmp_path / "old.json").write_text(json.dumps(old))
    assert BPETokenizer.load(tmp_path / "old.json").to_dict() == ours.to_dict()


def test_special_ids_anywhere_are_kept(tmp_path):
    made = trained()
    names = {END: 900, "<pad>": 700, "<a b>": 701}
    ours = BPETokenizer(made.vocabulary, made.merges, special_tokens=names)
    ours.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    text = f"<pad>heron<a b>{END}"
    assert theirs.encode(text).ids == ours.encode(text, special="all").tolist()
    again = BPETokenizer.load(tmp_path / "tokenizer.json")
    assert again.special_tokens == names
    assert again.end_id == 900
    clash = BPETokenizer(made.vocabulary, made.merges, special_tokens={"he": 900})
    with pytest.raises(UserError, match="special token 'he' has another token's name"):
        clash.save(tmp_path / "clash.json")


@pytest.mark.parametrize("names", [("<pad>", "<stop>"), ("<pad>", "</s>"), ("<pad>", END), ()])
def test_the_end_token_is_the_same_in_a_file(tmp_path, names):
    trained_ones = [BPETokenizer.train("abc abc", vocab_size=262, special_tokens=names)]
    made = trained_ones[0]
    for end in made.special_tokens:
        settings = {"special_tokens": made.special_tokens, "end": end}
        trained_ones.append(BPETokenizer(made.vocabulary, made.merges, **settings))
    for ours in trained_ones:
        ours.save(tmp_path / "t.json")
        again = BPETokenizer.load(tmp_path / "t.json")
        assert again.to_dict() == ours.to_dict()
        assert (again.end_id, again.vocab_size) == (ours.end_id, ours.vocab_size)
        theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "t.json"))
        assert theirs.token_to_id(ours.end) == ours.end_id


def test_a_file_without_a_decoder_is_decoded_as_bytes(tmp_path):
    saved = _saved(tmp_path) | {"decoder": None}
    (tmp_path / "t.json").write_text(json.dumps(saved))
    ours = BPETokenizer.load(tmp_path / "t.json")
    assert ours.decode(ours.encode(TEXT)) == TEXT


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k"])
def test_ranks_are_written_for_hugging_face(tmp_path, pattern):
    made = trained(pattern)
    by_ranks = BPETokenizer(made.vocabulary, pattern=pattern, special_tokens=made.special_tokens)
    by_ranks.save(tmp_path / "tokenizer.json")
    theirs = tokenizers.Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    again = BPETokenizer.load(tmp_path / "tokenizer.json")
    assert again.whole_words
    assert theirs.encode(TEXT).ids == again.encode(TEXT).tolist() == made.encode(TEXT).tolist()


def test_gpt2s_two_files(tmp_path):
    ours = trained()
    ours.save_gpt2(tmp_path)
    again = BPETokenizer.load_gpt2(tmp_path)
    assert again.to_dict() == ours.to_dict()
    theirs = tokenizers.ByteLevelBPETokenizer(
        str(tmp_path / "vocab.json"), str(tmp_path / "merges.txt")
    )
    assert theirs.encode(TEXT).ids == ours.encode(TEXT).tolist()
    assert (tmp_path / "merges.txt").read_text("utf-8").startswith("#version: 0.2\n")
    (tmp_path / "merges.txt").write_bytes(
        (tmp_path / "merges.txt").read_bytes().replace(b"\n", b"\r\n")
    )
    assert BPETokenizer.load_gpt2(tmp_path).to_dict() == ours.to_dict()
    with pytest.raises(UserError, match="only hold a tokenizer with the pattern 'gpt2'"):
        trained("cl100k").save_gpt2(tmp_path)


@pytest.mark.parametrize("pattern", ["gpt2", "cl100k"])
def test_tiktokens_ranks(tmp_path, pattern):
    ours = trained(pattern)
    ours.save_tiktoken(tmp_path / "ours.tiktoken")
    ranks = tiktoken.load.load_tiktoken_bpe(str(tmp_path / "ours.tiktoken"))
    encoding = tiktoken.Encoding(
        "ours", pat_str=PATTERNS[pattern], mergeable_ranks=ranks, special_tokens={END: len(ranks)}
    )
    again = BPETokenizer.load_tiktoken(tmp_path / "ours.tiktoken", pattern=pattern)
    text = TEXT + END
    ids = encoding.encode(text, allowed_special="all")
    assert again.encode(text, special="all").tolist() == ids
    assert ours.encode(text, special="all").tolist() == ids
    named = BPETokenizer.load_tiktoken(
        tmp_path / "ours.tiktoken", pattern=pattern, special_tokens={"<a>": 900, END: 901}
    )
    assert (named.end_id, named.vocab_size) == (901, 902)


def test_ranks_that_tiktoken_would_read_otherwise_are_not_written(tmp_path):
    vocabulary = {bytes([byte]): byte for byte in range(256)} | {b"bc": 256, b"ab": 257}
    with pytest.raises(UserError, match="ids in the order of the merges"):
        BPETokenizer(vocabulary, [(b"a", b"b"), (b"b", b"c")]).save_tiktoken(tmp_path / "x")
    with pytest.raises(UserError, match="tokens that no merge makes"):
        BPETokenizer(vocabulary, [(b"a", b"b")]).save_tiktoken(tmp_path / "x")
    assert list(tmp_path.iterdir()) == []


def test_the_alphabet_is_hugging_faces():
    every = bytes(range(256))
    assert to_bytes(to_text(every)) == every
    assert sorted(to_text(every)) == sorted(tokenizers.pre_tokenizers.ByteLevel.alphabet())
    assert to_text(b" the\n\xe6") == "ĠtheĊæ"


def _saved(tmp_path):
    trained().save(tmp_path / "tokenizer.json")
    return json.loads((tmp_path / "tokenizer.json").read_text("utf-8"))


SPLIT_BY = {"type": "Split", "pattern": {"Regex": r"\w+"}, "behavior": "Isolated", "invert": False}
AFTER = {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}


@pytest.mark.parametrize(
    ("path", "value", "message"),
    [
        (["normalizer"], {"type": "NFC"}, "no normalizer is supported, got NFC"),
        (["model", "type"], "WordPiece", "its model is 'WordPiece', not 'BPE'"),
        (["model", "dropout"], 0.1, "dropout is not supported, got 0.1"),
        (["model", "end_of_word_suffix"], "</w>", "end_of_word_suffix is not supported"),
        (["model", "byte_fallback"], True, "byte_fallback is not supported"),
        (["model", "vocab"], [], r"must have 'vocab' as a dict, got \[\]"),
        (["model", "vocab", "Ġthe"], "7", "must be in .* got '7'"),
        (["model", "vocab", "the end"], 600, r"'the end' is not written .* U\+0020 stands for no"),
        (["model", "merges"], None, "must have 'merges' as a list, got None"),
        (["model", "merges", 3], "a b c", "merge 3 must be two tokens, got 'a b c'"),
        (["model", "merges", 0], ["x", "qq"], "b'qq'.*vocabulary lacks"),
        (["model"], None, "must have 'model' as a dict, got None"),
        (["pre_tokenizer"], None, "its pre-tokenizer must be ByteLevel .* got None"),
        (["pre_tokenizer"], {"type": "Whitespace"}, "got Whitespace"),
        (
            ["pre_tokenizer"],
            {"type": "Sequence", "pretokenizers": [SPLIT_BY, AFTER]},
            r"pattern that is not known here: \\w\+",
        ),
        (
            ["pre_tokenizer"],
            {
                "type": "Sequence",
                "pretokenizers": [
                    SPLIT_BY | {"pattern": {"Regex": SPLIT["cl100k"]}, "behavior": "Removed"},
                    AFTER,
                ],
            },
            r"\(behavior, invert\) \('Removed', False\)",
        ),
        (["added_tokens", 0, "lstrip"], True, f"{END.replace('|', '.')}' has lstrip"),
        (["added_tokens", 0, "id"], None, "added token must have 'id' as a int"),
        (["added_tokens", 0, "id"], 5, "id 5 is of two tokens"),
        (["added_tokens", 0], "end", "added token must have 'content'"),
        (["added_tokens"], 1, "must have 'added_tokens' as a list, got 1"),
        (["added_tokens", 0, "special"], False, "is not special, which is not supported"),
        (["added_tokens", 0, "content"], "", "special token must have a name, got ''"),
        (["added_tokens", 0, "content"], "\ud800", "holds a lone surrogate"),
        (
            ["decoder"],
            {"type": "BPEDecoder", "suffix": "</w>"},
            "decoder must be ByteLevel, got BPE",
        ),
        (["model", "end"], 5, "must have 'end' as a str, got 5"),
        (["model", "end"], "<end>", "end token '<end>' is none of the special tokens"),
        (["pre_tokenizer"], {"type": "ByteLevel"}, "must have 'add_prefix_space' as a bool"),
        (
            ["pre_tokenizer"],
            {
                "type": "Sequence",
                "pretokenizers": [
                    SPLIT_BY | {"pattern": {"Regex": SPLIT["cl100k"]}},
                    {"type": "ByteLevel", "use_regex": False},
                ],
            },
            "must have 'add_prefix_space' as a bool",
        ),
        (
            ["pre_tokenizer"],
            {
                "type": "Sequence",
                "pretokenizers": [
                    SPLIT_BY | {"pattern": {"Regex": SPLIT["cl100k"]}},
                    AFTER | {"add_prefix_space": True},
                ],
            },
            "add_prefix_space after a split is not supported",
        ),
        (
            ["pre_tokenizer"],
            {"type": "Sequence", "pretokenizers": [SPLIT_BY | {"pattern": {"Regex": []}}, AFTER]},
            r"pattern that is not known here: \[\]",
        ),
        (
            ["pre_tokenizer"],
            {
                "type": "Sequence",
                "pretokenizers": [
                    SPLIT_BY | {"pattern": {"Regex": SPLIT["cl100k"]}, "behavior": []},
                    AFTER,
                ],
            },
            r"\(behavior, invert\) \(\[\], False\)",
        ),
    ],
)
def test_what_is_damaged_or_not_supported_is_named(tmp_path, path, value, message):
    saved = _saved(tmp_path)
    inner = saved
    for name in path[:-1]:
        inner = inner[name]
    inner[path[-1]] = value
    (tmp_path / "bad.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match=rf"bad.json: .*{message}") as caught:
        BPETokenizer.load(tmp_path / "bad.json")
    assert "\n" not in str(caught.value)


def test_an_added_token_that_is_text_as_well_is_refused(tmp_path):
    saved = _saved(tmp_path)
    flags = dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    flags["special"] = True
    the = saved["model"]["vocab"]["he"]
    saved["added_tokens"].append({"id": the, "content": "he", **flags})
    (tmp_path / "bad.json").write_text(json.dumps(saved))
    with pytest.raises(UserError, match="the added token 'he' is a token of text as well"):
        BPETokenizer.load(tmp_path / "bad.json")


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "damaged or no JSON"),
        (b"[1]", "must hold a JSON object, got a list"),
        (b'{"model": {"vocab": {"a": 0}', "damaged or no JSON"),
        (b"\xff\xfe", "damaged or no JSON"),
        (b"{}", "must have 'model' as a dict"),
        (b'{"kind": "bpe", "special_tokens": {}, "vocabulary": {}, "merges": 1}', "must be a list"),
        (b'{"kind": "bpe"}', "a saved BPE tokenizer must have 'special_tokens' as a dict"),
    ],
)
def test_a_damaged_tokenizer_json(tmp_path, content, message):
    path = tmp_path / "bad.json"
    path.write_bytes(content)
    with pytest.raises(UserError, match=f"^.*bad.json.*{message}"):
        BPETokenizer.load(path)
    with pytest.raises(UserError, match=r"cannot read .*missing.json"):
        BPETokenizer.load(tmp_path / "missing.json")


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        (["YQ== 0", "YQ=="], "line 2 must be a token in base64 and its rank, got 'YQ=='"),
        (["YQ== zero"], "line 1 must be a token"),
        (["Y*== 0"], "line 1 must be a token"),
        (["YQ== 0", "", "YQ== 1"], "line 3: token b'a' is empty or came before"),
        (["YQ== 0"], "must have every byte, lacks 0x00"),
    ],
)
def test_damaged_ranks(tmp_path, lines, message):
    path = tmp_path / "bad.tiktoken"
    path.write_text("\n".join(lines))
    with pytest.raises(UserError, match=f"bad.tiktoken: .*{message}"):
        BPETokenizer.load_tiktoken(path, pattern="gpt2")


def test_damaged_merges(tmp_path):
    trained().save_gpt2(tmp_path)
    number = len(trained().merges)
    with open(tmp_path / "merges.txt", "ab") as file:
        file.write(b"a\n")
    with pytest.raises(UserError, match=rf"{tmp_path}: merge {number} must be two tokens, got 'a'"):
        BPETokenizer.load_gpt2(tmp_path)
    (tmp_path / "merges.txt").unlink()
    with pytest.raises(UserError, match=r"cannot read .*merges.txt"):
        BPETokenizer.load_gpt2(tmp_path)


def test_a_file_is_whole_or_what_it_was(tmp_path):
    path = tmp_path / "tokenizer.json"
    path.write_text("before")
    broken = trained("cl100k")
    with pytest.raises(UserError, match="cannot write"):
        broken.save(tmp_path / "no such folder" / "tokenizer.json")
    assert path.read_text() == "before"
    assert [file.name for file in tmp_path.iterdir()] == ["tokenizer.json"]


def test_base64_of_every_token(tmp_path):
    ours = trained()
    ours.save_tiktoken(tmp_path / "ranks")
    first = (tmp_path / "ranks").read_bytes().split(b"\n")[0]
    assert first == base64.b64encode(b"!") + b" 0"
    again = BPETokenizer.load_tiktoken(tmp_path / "ranks", pattern="gpt2")
    assert again.vocabulary == ours.vocabulary
    assert np.array_equal(again.encode(TEXT), ours.encode(TEXT))
