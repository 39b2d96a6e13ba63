"""Models that SentencePiece trained, for its tests."""

import functools
import io
import pydoc_data.topics
import random

import sentencepiece

ENGLISH = [line for line in "\n".join(pydoc_data.topics.topics.values()).split("\n") if line]
HAN = "天地玄黄宇宙洪荒日月盈昃辰宿列张寒来暑往秋收冬藏闰余成岁律吕调阳云腾致雨露结为霜"
SETTINGS = {
    "default": {},
    "identity": {"normalization_rule_name": "identity", "remove_extra_whitespaces": False},
    "bytes": {
        "byte_fallback": True,
        "character_coverage": 0.98,
        "user_defined_symbols": ["<sep>", "##", "foo bar", "é"],
        "control_symbols": ["<ctl>"],
    },
    "across words": {"add_dummy_prefix": False, "split_by_whitespace": False},
    "suffix": {"treat_whitespace_as_suffix": True},
    "spaces": {
        "allow_whitespace_only_pieces": True,
        "remove_extra_whitespaces": False,
        "normalization_rule_name": "nfkc_cf",
    },
    "no end": {"split_by_unicode_script": False, "pad_id": 3, "eos_id": -1},
}


def chinese(lines=300):
    """Lines of invented words whose frequencies fall as 1 / rank."""
    rng = random.Random(0)
    words = ["".join(rng.choices(HAN, k=rng.choice([1, 2, 2, 3]))) for _ in range(400)]
    weights = [1 / (rank + 1) for rank in range(400)]
    return [
        "".join(rng.choices(words, weights, k=rng.randint(4, 16))) + rng.choice("。,!")
        for _ in range(lines)
    ]


@functools.cache
def model(name, vocab_size=900):
    """The bytes of a model."""
    return train([*ENGLISH[:1500], *chinese()], vocab_size, **SETTINGS[name])


def train(lines, vocab_size, **settings):
    """The bytes of the model that SentencePiece trains on lines."""
    out = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(lines),
        model_writer=out,
        vocab_size=vocab_size,
        num_threads=1,
        minloglevel=2,
        **settings,
    )
    return out.getvalue()
