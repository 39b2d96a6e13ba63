import json
import os

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from minillm.errors import UserError
from minillm.models.baselines import Uniform, Unigram
from minillm.models.ngram import NGram
from minillm.tokenizers import CharTokenizer

TOKENIZER = CharTokenizer("ab")


def trained(ids=(0, 0, 1, 2)):
    return NGram.train(np.array(ids), TOKENIZER, order=3)


def refused(message, folder, kind=NGram):
    with pytest.raises(UserError, match=message) as caught:
        kind.load(folder)
    assert "\n" not in str(caught.value)


def test_a_missing_model(tmp_path):
    refused(r"no model here.*model\.json", tmp_path)
    refused("nowhere: no such folder", tmp_path / "nowhere")
    trained().save(tmp_path)
    (tmp_path / "weights.safetensors").unlink()
    refused(r"no model here.*weights\.safetensors", tmp_path)
    (tmp_path / "weights.safetensors").mkdir()
    refused("weights.safetensors: cannot be read: Is a directory", tmp_path)


def test_another_kind(tmp_path):
    Uniform(TOKENIZER).save(tmp_path)
    refused("a model of kind 'uniform', expected 'ngram'", tmp_path)
    refused("a model of kind 'uniform', expected 'unigram'", tmp_path, Unigram)


@pytest.mark.parametrize("kept", [0, 1, 7, 100, -1])
def test_cut_off_weights(tmp_path, kept):
    trained().save(tmp_path)
    path = tmp_path / "weights.safetensors"
    path.write_bytes(path.read_bytes()[:kept])
    refused("weights.safetensors: cut off or damaged", tmp_path)


@pytest.mark.parametrize("text", ["", "{", "[]", "{}", '"kind"', '{"kind": "ngram"}', "\xff"])
def test_a_damaged_description(tmp_path, text):
    trained().save(tmp_path)
    (tmp_path / "model.json").write_bytes(text.encode("latin-1"))
    refused(r"model\.json: (damaged|of the format)", tmp_path)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"config": {"order": 4}}, "not a whole n-gram model: '4.keys'"),
        ({"config": {"order": 0}}, "order must be a whole number"),
        ({"config": {"width": 4}}, "unexpected keyword argument 'width'"),
        ({"config": None}, "damaged"),
        ({"format": "other"}, "of the format 'other'"),
        ({"tokenizer": {"kind": "char", "characters": "abc"}}, "length 1 are not the 5 tokens"),
        ({"tokenizer": {"kind": "runes"}}, "unknown tokenizer 'runes'"),
    ],
)
def test_a_description_that_does_not_fit(tmp_path, change, message):
    trained().save(tmp_path)
    path = tmp_path / "model.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    refused(message, tmp_path)


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("1.p", lambda a: a[:-1]),
        ("2.keys", lambda a: a[::-1].copy()),
        ("2.keys", lambda a: a + 1000),
        ("2.p", lambda a: a - 1),
        ("3.p", lambda a: a.astype(np.float32)),
        ("3.backoff", lambda a: a * np.inf),
        ("3.backoff", lambda a: a[1:]),
        ("3.keys", lambda a: a - a[0] - 1),
        ("3.keys", lambda a: a[:, None]),
        ("3.keys", lambda a: a + 3 * (a == a[-1])),  # its suffix is no bigram
    ],
)
def test_arrays_that_do_not_belong_together(tmp_path, name, change):
    trained((0, 0, 1, 1, 0, 2)).save(tmp_path)
    arrays = load_file(tmp_path / "weights.safetensors")
    arrays[name] = change(arrays[name])
    save_file(arrays, tmp_path / "weights.safetensors")
    refused("not a whole n-gram model", tmp_path)


def test_a_folder_that_cannot_be_written(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=r"cannot .*: Not a directory"):
        trained().save(tmp_path / "file" / "model")


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_full_disk_loses_nothing(tmp_path, monkeypatch, call):
    old = trained()
    old.save(tmp_path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, call, full)
    with pytest.raises(UserError, match=r"cannot write .*: No space left on device"):
        trained((1, 1, 1, 2)).save(tmp_path)
    assert {p.name for p in tmp_path.iterdir()} == {"model.json", "weights.safetensors"}
    assert np.array_equal(NGram.load(tmp_path).score([0, 1]), old.score([0, 1]))
