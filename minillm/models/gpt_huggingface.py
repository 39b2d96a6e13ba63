"""GPT-2's files as Hugging Face lays them out: config.json and model.safetensors, read and written.

The published weights (Radford et al. 2019) name their arrays as the first release did: `wte`,
`h.0.attn.c_attn`, ... `ln_f`; GPT2LMHeadModel puts `transformer.` before each. Linear weights are
(C_in, C_out) there as here, so that an array only changes its name.

Left out: files in several parts, files of PyTorch's own format, LLaMA's layout.
"""

import json
import re
from pathlib import Path

import numpy as np
import safetensors.numpy

from minillm.errors import UserError
from minillm.files import read_json, read_safetensors, write_bytes, write_text
from minillm.models.gpt import GPTConfig
from minillm.tree import flatten

__all__ = ["load_huggingface", "save_huggingface"]

CONFIG, WEIGHTS = "config.json", "model.safetensors"
PREFIX = "transformer."
HEAD = "lm_head.weight"
BUFFERS = re.compile(r"h\.\d+\.attn\.(bias|masked_bias)")  # causal masks that old files hold too
# what config.json may say besides sizes: the values that this GPT has, the default first
DONE = {
    "model_type": ("gpt2",),
    "activation_function": ("gelu_new", "gelu_pytorch_tanh"),
    "scale_attn_weights": (True,),
    "scale_attn_by_inverse_layer_idx": (False,),
    "add_cross_attention": (False,),
    "is_encoder_decoder": (False,),
    "tie_word_embeddings": (True, False),
    "quantization_config": (None,),
}
SIZES = {"vocab_size": "vocab_size", "n_layer": "n_layer", "n_head": "n_head", "n_embd": "n_embd"}
DROPOUTS = ("resid_pdrop", "embd_pdrop", "attn_pdrop")


def load_huggingface(path):
    """The GPT-2 in a folder that `save_pretrained` or `save_huggingface` wrote.

    Parameters
    ----------
    path : the folder, or its safetensors file with config.json beside it

    Returns
    -------
    params : see gpt.init; float16 becomes float32
    config : GPTConfig

    Raises
    ------
    UserError
        for a file that is missing or cut off, a configuration that this GPT cannot follow, or
        arrays that are missing, left over, of a wrong shape or dtype: named as in the file.
    """
    path = Path(path)
    folder, weights = (path.parent, path) if path.is_file() else (path, path / WEIGHTS)
    config = _read_config(folder / CONFIG)
    arrays = _read_arrays(weights, config)
    layout = _layout(config)
    missing = sorted(layout.keys() - arrays.keys())
    extra = sorted(arrays.keys() - layout.keys())
    if missing or extra:
        raise UserError(f"{weights}: missing {_some(missing)}, not expected {_some(extra)}")
    for theirs, (_, shape) in layout.items():
        if arrays[theirs].shape != shape:
            raise UserError(
                f"{weights}: {theirs} must have shape {shape}, got {arrays[theirs].shape}"
            )
    return _nest({ours: arrays[theirs] for theirs, (ours, _) in layout.items()}), config


def save_huggingface(folder, params, config, *, prefix=True):
    """Write config.json and model.safetensors, each whole or not at all.

    Parameters
    ----------
    folder : path, made where it does not exist
    params, config : a GPT with GPT-2's choices: norm "layer", mlp "gelu", position "learned",
        n_kv_head as n_head, bias
    prefix : bool, the names of GPT2LMHeadModel, or without `transformer.` as in the first release

    Raises
    ------
    UserError
        for a configuration that the layout has no place for, or a folder that cannot be written.
    """
    choices = {"norm": "layer", "mlp": "gelu", "position": "learned", "bias": True}
    choices["kv_heads"] = config.n_head
    for name, value in choices.items():
        if getattr(config, name) != value:
            raise UserError(
                f"GPT-2's layout has {name} {value!r}, this model {getattr(config, name)!r}"
            )
    flat = flatten(params)
    before = PREFIX if prefix else ""
    arrays = {
        (theirs if theirs == HEAD else before + theirs): np.ascontiguousarray(flat[ours])
        for theirs, (ours, _) in _layout(config).items()
    }
    description = {
        "architectures": ["GPT2LMHeadModel"],
        "model_type": "gpt2",
        **{theirs: getattr(config, ours) for theirs, ours in SIZES.items()},
        "n_positions": config.block_size,
        "n_ctx": config.block_size,
        "n_inner": config.n_inner,
        "activation_function": "gelu_new",
        "layer_norm_epsilon": config.eps,
        **dict.fromkeys(DROPOUTS, config.dropout),
        "tie_word_embeddings": config.tied,
        "bos_token_id": None,
        "eos_token_id": None,
    }
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UserError(f"cannot make the folder {folder}: {error.strerror}") from None
    # transformers 4 reads no file that does not call itself PyTorch's
    write_bytes(folder / WEIGHTS, safetensors.numpy.save(arrays, metadata={"format": "pt"}))
    write_text(folder / CONFIG, json.dumps(description, indent=2) + "\n")


def _read_config(path):
    found = read_json(path)
    for name, allowed in DONE.items():
        if found.get(name, allowed[0]) not in allowed:
            known = " or ".join(map(repr, allowed))
            raise UserError(f"{path}: {name} {found[name]!r} is not supported, only {known}")
    positions = found.get("n_positions", found.get("n_ctx"))
    settings = {ours: found.get(theirs) for theirs, ours in SIZES.items()}
    for name, value in (*settings.items(), ("n_positions", positions)):
        if value is None:
            raise UserError(f"{path}: {name} is missing")
    dropouts = {name: found.get(name, 0.1) for name in DROPOUTS}
    if any(value != dropouts["resid_pdrop"] for value in dropouts.values()):
        raise UserError(f"{path}: this GPT has one dropout for all, got {dropouts}")
    try:
        return GPTConfig(
            **settings,
            block_size=positions,
            n_inner=found.get("n_inner"),
            tied=found.get("tie_word_embeddings", True),
            dropout=dropouts["resid_pdrop"],
            eps=found.get("layer_norm_epsilon", 1e-5),
        )
    except (TypeError, ValueError) as error:
        raise UserError(f"{path}: {error}") from None


def _read_arrays(path, config):
    """{their name without the prefix: array}, without buffers and without a head that is tied."""
    arrays = {}
    for name, array in read_safetensors(path).items():
        short = name.removeprefix(PREFIX)
        if short in arrays:
            raise UserError(f"{path}: {short} comes twice, with and without {PREFIX!r}")
        if not BUFFERS.fullmatch(short):
            arrays[short] = array
    if config.tied and HEAD in arrays:
        head = arrays.pop(HEAD)
        if "wte.weight" in arrays and not np.array_equal(head, arrays["wte.weight"]):
            raise UserError(
                f"{path}: {HEAD} differs from wte.weight, but {CONFIG} says that they are tied"
            )
    dtypes = {array.dtype for array in arrays.values()}
    if dtypes == {np.dtype(np.float64)}:
        dtype: type = np.float64
    elif dtypes <= {np.dtype(np.float16), np.dtype(np.float32)}:
        dtype = np.float32
    else:
        found = ", ".join(sorted(map(str, dtypes)))
        raise UserError(f"{path}: arrays must be float16 and float32, or all float64, got {found}")
    return {name: np.asarray(array, dtype) for name, array in arrays.items()}


def _layout(config):
    """{their name: (our name, shape)} of every array, in our order."""
    V, C, F = config.vocab_size, config.n_embd, config.inner
    layout: dict[str, tuple[str, tuple]] = {}
    layout |= {"wte.weight": ("wte", (V, C)), "wpe.weight": ("wpe", (config.block_size, C))}

    def norm(theirs, ours):
        layout[f"{theirs}.weight"] = f"{ours}.gain", (C,)
        layout[f"{theirs}.bias"] = f"{ours}.bias", (C,)

    def linear(theirs, ours, n_in, n_out):
        layout[f"{theirs}.weight"] = f"{ours}.weight", (n_in, n_out)
        layout[f"{theirs}.bias"] = f"{ours}.bias", (n_out,)

    for i in range(config.n_layer):
        norm(f"h.{i}.ln_1", f"blocks.{i}.norm1")
        linear(f"h.{i}.attn.c_attn", f"blocks.{i}.attention.qkv", C, 3 * C)
        linear(f"h.{i}.attn.c_proj", f"blocks.{i}.attention.out", C, C)
        norm(f"h.{i}.ln_2", f"blocks.{i}.norm2")
        linear(f"h.{i}.mlp.c_fc", f"blocks.{i}.mlp.up", C, F)
        linear(f"h.{i}.mlp.c_proj", f"blocks.{i}.mlp.down", F, C)
    norm("ln_f", "norm")
    if not config.tied:
        layout[HEAD] = "head", (V, C)
    return layout


def _nest(flat):
    """{"blocks.0.norm1.gain": array, ...} as the nest that gpt.init makes."""
    root: dict = {}
    for name, array in flat.items():
        *path, last = name.split(".")
        node = root
        for key in path:
            node = node.setdefault(key, {})
        node[last] = array
    return root | {"blocks": list(root["blocks"].values())}


def _some(names):
    more = f" and {len(names) - 3} more" if len(names) > 3 else ""
    return (", ".join(names[:3]) or "nothing") + more
