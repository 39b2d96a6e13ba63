import json
import math

import numpy as np
import pytest
import safetensors.numpy
import torch
import transformers
from transformers import GPT2Config, GPT2LMHeadModel, GPT2Model

import minillm
from minillm.errors import UserError
from minillm.models import gpt as model
from minillm.models.gpt import GPTConfig
from minillm.models.gpt_huggingface import load_huggingface, save_huggingface
from minillm.tree import flatten, leaves, map_leaves
from tests.models.gpt_cases import LLAMA, random_params
from tests.ops.harness import BACKENDS, assert_close, rng_of

# (V, T, L, H, C, F): no two sizes of a model are alike
SIZES = [(13, 7, 2, 3, 12, 10), (5, 9, 3, 2, 8, None), (17, 2, 1, 1, 6, 21)]
DTYPES = {"float32": torch.float32, "float64": torch.float64}
TOL = {"float32": 1e-5, "float64": 1e-10}  # issue 2's
BLOCK = {
    "norm1.gain": "ln_1.weight",
    "norm1.bias": "ln_1.bias",
    "attention.qkv.weight": "attn.c_attn.weight",
    "attention.qkv.bias": "attn.c_attn.bias",
    "attention.out.weight": "attn.c_proj.weight",
    "attention.out.bias": "attn.c_proj.bias",
    "norm2.gain": "ln_2.weight",
    "norm2.bias": "ln_2.bias",
    "mlp.up.weight": "mlp.c_fc.weight",
    "mlp.up.bias": "mlp.c_fc.bias",
    "mlp.down.weight": "mlp.c_proj.weight",
    "mlp.down.bias": "mlp.c_proj.bias",
}


def names_of(n_layer):
    """{our name: theirs} of a whole model, written down a second time."""
    names = {"wte": "wte.weight", "wpe": "wpe.weight"}
    names |= {"norm.gain": "ln_f.weight", "norm.bias": "ln_f.bias"}
    for i in range(n_layer):
        names |= {f"blocks.{i}.{ours}": f"h.{i}.{theirs}" for ours, theirs in BLOCK.items()}
    return names


@pytest.fixture(autouse=True)
def no_progress_bars():
    transformers.logging.disable_progress_bar()


def peer(sizes, dtype="float64", seed=1, **settings):
    """Hugging Face's GPT-2 with random biases, gains off 1 and weights as large as trained ones."""
    V, T, L, H, C, F = sizes
    settings = {"vocab_size": V, "n_positions": T, "n_layer": L, "n_head": H} | settings
    settings |= {"n_embd": C, "n_inner": F, "bos_token_id": None, "eos_token_id": None}
    theirs = GPT2LMHeadModel(GPT2Config(**settings)).to(DTYPES[dtype]).eval()
    rng = rng_of("gpt2", sizes, seed)
    for parameter in theirs.parameters():
        parameter.data += torch.tensor(0.3 * rng.standard_normal(parameter.shape)).to(
            parameter.dtype
        )
    return theirs


def ids_of(sizes, seed=1):
    return rng_of("ids", sizes, seed).integers(sizes[0], size=(2, sizes[1]))


def logits_of(theirs, ids):
    with torch.no_grad():
        return theirs(torch.tensor(ids)).logits.numpy()


def relative(actual, expected):
    return np.linalg.norm(actual - expected) / np.linalg.norm(expected)


@pytest.mark.parametrize("backend", BACKENDS)
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_logits_and_every_gradient_agree(sizes, dtype, backend, tmp_path):
    theirs, ids, targets = peer(sizes, dtype), ids_of(sizes), ids_of(sizes, 2)
    theirs.save_pretrained(tmp_path)
    params, config = load_huggingface(tmp_path)
    assert {str(leaf.dtype) for _, leaf in leaves(params)} == {dtype}

    logits = theirs(torch.tensor(ids)).logits
    goal = torch.tensor(targets).flatten()
    # from the logits in float64: what theirs computes itself, given labels, is in float32
    torch.nn.functional.cross_entropy(logits.double().flatten(0, 1), goal).backward()
    expected = {
        name.removeprefix("transformer."): parameter.grad.numpy()
        for name, parameter in theirs.named_parameters()
    }
    with minillm.backend(backend):
        ours, _ = model.forward(params, ids=ids, config=config)
        loss, cache = model.loss(params, ids=ids, targets=targets, config=config)
        grads = flatten(model.loss_backward(loss.dtype.type(1), cache))

    assert relative(ours, logits.detach().numpy()) < TOL[dtype]
    names = names_of(config.n_layer)
    assert {names[name] for name in grads} == expected.keys()
    for name, grad in grads.items():
        want = expected[names[name]]
        if name.endswith("qkv.bias"):
            bound = key_bias_bound(grads[name.replace("bias", "weight")], ids.size)
            (q, k, v), (want_q, want_k, want_v) = np.split(grad, 3), np.split(want, 3)
            assert max(np.abs(k).max(), np.abs(want_k).max()) < bound, name
            grad, want = np.stack([q, v]), np.stack([want_q, want_v])
        assert want.any(), f"{name}: the oracle's gradient is zero"
        assert relative(grad, want) < TOL[dtype], name


def key_bias_bound(dweight, rows):
    """A key bias adds the same to all scores of a query, which softmax takes away again: its true
    gradient is zero, and what is left is the rounding of a sum over the rows, whose terms are about
    as large as the weight's gradient is for one row."""
    return rows * np.finfo(dweight.dtype).eps * max(np.abs(dweight).max(), 1.0)


@pytest.mark.parametrize("prefix", [True, False])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("sizes", SIZES)
def test_transformers_loads_what_we_save(sizes, dtype, prefix, tmp_path):
    theirs, ids = peer(sizes, dtype), ids_of(sizes)
    theirs.save_pretrained(tmp_path / "theirs")
    params, config = load_huggingface(tmp_path / "theirs")
    save_huggingface(tmp_path / "ours", params, config, prefix=prefix)
    again, info = GPT2LMHeadModel.from_pretrained(
        tmp_path / "ours", dtype=DTYPES[dtype], output_loading_info=True
    )
    assert not any(info.values()), info
    assert np.array_equal(logits_of(again.eval(), ids), logits_of(theirs, ids))
    for name in ("n_positions", "n_inner", "n_head", "layer_norm_epsilon", "attn_pdrop"):
        assert getattr(again.config, name) == getattr(theirs.config, name), name


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_saved_and_loaded_is_the_same(tied, prefix, tmp_path):
    config = GPTConfig(11, 5, 2, 2, 8, n_inner=3, tied=tied, dropout=0.25, eps=1e-3)
    params = random_params(config, 1)
    save_huggingface(tmp_path, params, config, prefix=prefix)
    found, found_config = load_huggingface(tmp_path)
    assert found_config == config
    assert list(flatten(found)) == list(flatten(params))
    assert_close(found, params, 0, "loaded")
    for _, leaf in leaves(found):
        leaf += 1  # training goes on in place
    first = (tmp_path / "model.safetensors").read_bytes()
    save_huggingface(tmp_path, params, config, prefix=prefix)
    assert (tmp_path / "model.safetensors").read_bytes() == first
    assert sorted(path.name for path in tmp_path.iterdir()) == ["config.json", "model.safetensors"]


@pytest.mark.parametrize("prefix", [True, False])
def test_untied_weights_go_both_ways(prefix, tmp_path):
    theirs, ids = peer(SIZES[0], tie_word_embeddings=False), ids_of(SIZES[0])
    theirs.save_pretrained(tmp_path)
    params, config = load_huggingface(tmp_path)
    assert not np.allclose(params["head"], params["wte"])
    ours, _ = model.forward(params, ids=ids, config=config)
    assert relative(ours, logits_of(theirs, ids)) < TOL["float64"]
    save_huggingface(tmp_path, params, config, prefix=prefix)
    again = GPT2LMHeadModel.from_pretrained(tmp_path, dtype=torch.float64)
    assert np.array_equal(logits_of(again.eval(), ids), logits_of(theirs, ids))


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("prefix", [True, False])
def test_names_and_metadata_are_those_of_transformers(tied, prefix, tmp_path):
    """The head stands outside of what the prefix names; version 4 asks for the format "pt"."""
    theirs = peer(SIZES[0], tie_word_embeddings=tied)
    (theirs if prefix else theirs.transformer).save_pretrained(tmp_path / "theirs")
    theirs.save_pretrained(tmp_path / "whole")
    save_huggingface(tmp_path / "ours", *load_huggingface(tmp_path / "whole"), prefix=prefix)
    (names, metadata), (expected, expected_metadata) = (
        contents(tmp_path / folder / "model.safetensors") for folder in ("ours", "theirs")
    )
    assert metadata == expected_metadata == {"format": "pt"}
    assert names - {"lm_head.weight"} == expected - {"lm_head.weight"}
    assert ("lm_head.weight" in names) is not tied


def test_config_json_says_what_readers_ask_for(tmp_path):
    config = GPTConfig(11, 5, 2, 4, 8, n_inner=3, dropout=0.25, eps=1e-3)
    save_huggingface(tmp_path, random_params(config, 1), config)
    expected = {"model_type": "gpt2", "architectures": ["GPT2LMHeadModel"], "vocab_size": 11}
    expected |= {"n_positions": 5, "n_ctx": 5, "n_layer": 2, "n_head": 4, "n_embd": 8, "n_inner": 3}
    expected |= {"activation_function": "gelu_new", "layer_norm_epsilon": 1e-3}
    expected |= {"resid_pdrop": 0.25, "embd_pdrop": 0.25, "attn_pdrop": 0.25}
    # left out, these two would be 50256 and stand outside of the vocabulary
    expected |= {"tie_word_embeddings": True, "bos_token_id": None, "eos_token_id": None}
    assert json.loads((tmp_path / "config.json").read_text()) == expected


def contents(path):
    with safetensors.safe_open(path, "np") as file:
        return set(file.keys()), file.metadata()


@pytest.mark.parametrize("n_kv_head", [None, 2])
def test_all_heads_counted_out_are_gpt2s_too(n_kv_head, tmp_path):
    config = GPTConfig(11, 5, 1, 2, 8, n_kv_head=n_kv_head)
    save_huggingface(tmp_path, random_params(config, 1), config)
    assert load_huggingface(tmp_path)[1].kv_heads == 2


def test_a_model_without_the_head_and_its_prefix_loads(tmp_path):
    theirs = peer(SIZES[0])
    theirs.transformer.save_pretrained(tmp_path)
    assert "wte.weight" in safetensors.numpy.load_file(tmp_path / "model.safetensors")
    params, config = load_huggingface(tmp_path)
    ours, _ = model.forward(params, ids=ids_of(SIZES[0]), config=config)
    assert relative(ours, logits_of(theirs, ids_of(SIZES[0]))) < TOL["float64"]
    assert isinstance(GPT2Model.from_pretrained(tmp_path), GPT2Model)


@pytest.fixture
def saved(tmp_path):
    """A folder with a saved model, and a function that changes it."""
    config = GPTConfig(11, 5, 2, 2, 8)
    params = map_leaves(lambda leaf: leaf.astype(np.float32), random_params(config, 1))
    save_huggingface(tmp_path, params, config)
    weights, description = tmp_path / "model.safetensors", tmp_path / "config.json"

    def change(arrays=None, settings=None):
        if arrays is not None:
            found = safetensors.numpy.load_file(weights)
            weights.write_bytes(
                safetensors.numpy.save(
                    {k: np.ascontiguousarray(v) for k, v in arrays(found).items()}
                )
            )
        if settings is not None:
            found = json.loads(description.read_text())
            description.write_text(json.dumps(settings(found)))

    return tmp_path, params, config, change


def test_a_file_serves_as_well_as_its_folder(saved):
    folder, params, config, _ = saved
    (folder / "model.safetensors").rename(folder / "other.safetensors")
    found, found_config = load_huggingface(folder / "other.safetensors")
    assert_close(found, params, 0, "loaded")
    assert found_config == config


def test_what_old_files_hold_too_is_passed_over(saved):
    folder, params, _, change = saved
    triangle = np.tril(np.ones((1, 1, 5, 5), np.uint8))
    change(
        lambda found: (
            found
            | {f"transformer.h.{i}.attn.bias": triangle for i in range(2)}
            | {"transformer.h.0.attn.masked_bias": np.array(-1e4, np.float32)}
            | {"lm_head.weight": found["transformer.wte.weight"]}
        ),
        lambda found: {k: v for k, v in found.items() if k != "n_positions"} | {"n_ctx": 5},
    )
    assert_close(load_huggingface(folder)[0], params, 0, "loaded")


def test_float16_is_widened(saved):
    folder, params, _, change = saved
    change(lambda found: {k: v.astype(np.float16) for k, v in found.items()})
    found, _ = load_huggingface(folder)
    expected = map_leaves(lambda leaf: leaf.astype(np.float16).astype(np.float32), params)
    assert_close(found, expected, 0, "loaded")
    assert found["wte"].dtype == np.float32


def without(*names):
    return lambda found: {k: v for k, v in found.items() if k not in names}


def put(name, change):
    return lambda found: found | {name: change(found)}


WTE, QKV = "transformer.wte.weight", "transformer.h.1.attn.c_attn.weight"


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        (without("transformer.h.0.ln_2.bias"), "missing h.0.ln_2.bias, not expected nothing"),
        (lambda found: {}, "missing h.0.attn.c_attn.bias, .* and 25 more, not expected nothing"),
        (put("h.2.ln_1.bias", lambda f: f[WTE]), "missing nothing, not expected h.2.ln_1.bias"),
        (put(QKV, lambda f: f[QKV].T), r"c_attn.weight must have shape \(8, 24\), got \(24, 8\)"),
        (put(WTE, lambda f: f[WTE][:9]), r"wte.weight must have shape \(11, 8\), got \(9, 8\)"),
        (put("lm_head.weight", lambda f: 2 * f[WTE]), "lm_head.weight differs from wte.weight"),
        (put("wte.weight", lambda f: f[WTE]), "wte.weight comes twice"),
        (put(WTE, lambda f: f[WTE].astype(int)), "float16 and float32, or all float64, got .*int"),
        (put(WTE, lambda f: f[WTE].astype(float)), "or all float64, got float32, float64"),
    ],
)
def test_wrong_arrays_are_named(saved, arrays, message):
    folder, _, _, change = saved
    change(arrays)
    with pytest.raises(UserError, match=message) as raised:
        load_huggingface(folder)
    assert str(folder / "model.safetensors") in str(raised.value)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"model_type": "llama"}, "model_type 'llama' is not supported, only 'gpt2'"),
        (
            {"activation_function": "relu"},
            "activation_function 'relu' is not supported, only 'gelu_new' or 'gelu_pytorch_tanh'",
        ),
        ({"activation_function": ["relu"]}, r"activation_function \['relu'\] is not supported"),
        ({"scale_attn_weights": False}, "scale_attn_weights False is not supported, only True"),
        (
            {"scale_attn_by_inverse_layer_idx": True},
            "scale_attn_by_inverse_layer_idx True is not supported, only False",
        ),
        ({"add_cross_attention": True}, "add_cross_attention True is not supported, only False"),
        ({"quantization_config": {}}, "quantization_config {} is not supported, only None"),
        ({"tie_word_embeddings": "no"}, "tie_word_embeddings 'no' is not supported"),
        ({"attn_pdrop": 0.5}, "one dropout for all, got .*'attn_pdrop': 0.5"),
        ({"n_layer": None}, "n_layer is missing"),
        ({"n_positions": None, "n_ctx": None}, "n_positions is missing"),
        ({"n_head": 3}, "n_embd 8 must be a multiple of n_head 3"),
        ({"n_embd": "8"}, "n_embd must be a whole number of at least 1, got '8'"),
        ({"layer_norm_epsilon": "small"}, "config.json: "),
        ({"n_layer": 3}, "missing h.2.attn.c_attn.bias"),
        ({"n_positions": 6}, r"wpe.weight must have shape \(6, 8\), got \(5, 8\)"),
        ({"tie_word_embeddings": False}, "missing lm_head.weight"),
    ],
)
def test_settings_that_we_cannot_follow_are_named(saved, settings, message):
    folder, _, _, change = saved
    change(settings=lambda found: found | settings)
    with pytest.raises(UserError, match=message) as raised:
        load_huggingface(folder)
    assert str(folder) in str(raised.value)


@pytest.mark.parametrize("name", ["model.safetensors", "config.json"])
def test_missing_and_cut_off_files_are_named(saved, name):
    folder = saved[0]
    whole = (folder / name).read_bytes()
    for size in (0, 7, len(whole) // 2, len(whole) - 2):
        (folder / name).write_bytes(whole[:size])
        with pytest.raises(UserError, match=rf"{name}.* is damaged or no"):
            load_huggingface(folder)
    (folder / name).unlink()
    with pytest.raises(UserError, match=rf"cannot read .*{name}: No such file"):
        load_huggingface(folder)
    with pytest.raises(UserError, match=r"cannot read .*nowhere.*: No such file"):
        load_huggingface(folder / "nowhere")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("norm", "layout has norm 'layer', this model 'rms'"),
        ("mlp", "layout has mlp 'gelu', this model 'swiglu'"),
        ("position", "layout has position 'learned', this model 'rotary'"),
        ("bias", "layout has bias True, this model False"),
        ("n_kv_head", "layout has kv_heads 2, this model 1"),
    ],
)
def test_llamas_choices_have_no_place_in_the_layout(name, message, tmp_path):
    config = GPTConfig(11, 5, 1, 2, 8, **{name: LLAMA[name]})
    with pytest.raises(UserError, match=message):
        save_huggingface(tmp_path / "new", random_params(config, 1), config)
    assert not (tmp_path / "new").exists()


def test_a_folder_that_cannot_be_written_is_named(saved):
    folder, params, config, _ = saved
    with pytest.raises(UserError, match=r"cannot make the folder .*config.json"):
        save_huggingface(folder / "config.json", params, config)
    (folder / "model.safetensors").unlink()
    (folder / "model.safetensors").mkdir()
    (folder / "model.safetensors" / "in the way").touch()
    with pytest.raises(UserError, match=r"cannot write .*model.safetensors"):
        save_huggingface(folder, params, config)


def test_a_published_shape_has_the_published_size():
    """GPT-2 small counts 124 439 808 parameters; asked of the layout alone."""
    from minillm.models.gpt_huggingface import _layout

    layout = _layout(GPTConfig(50257, 1024, 12, 12, 768))
    assert sum(math.prod(shape) for _, shape in layout.values()) == 124_439_808
