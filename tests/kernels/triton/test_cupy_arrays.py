"""The backend "triton" on arrays that refuse NumPy as CuPy's do: whole training steps, interpreted.

The arrays cross to Triton and back through the lines that CuPy's take; only the device that they
say is the CPU. What is left to NumPy's references sees stand-ins too.
"""

import contextlib
import sys
import types

import numpy as np
import pytest
import torch

import minillm
from minillm.models import gpt, recurrent
from minillm.ops._state import Registry
from minillm.optim import AdamW
from minillm.tree import leaves, map_leaves
from minillm_kernels import arrays
from minillm_kernels.device import GPU
from minillm_kernels.triton.adamw import FusedAdamW
from tests.gradcheck import standin_cupy
from tests.kernels.test_gpt_step import GPT, LLAMA
from tests.ops.harness import rng_of

CASES = {
    "gpt2": (gpt, GPT),
    "llama": (gpt, gpt.GPTConfig(**{**vars(GPT), **LLAMA})),
    "lstm": (recurrent, recurrent.RecurrentConfig(11, "lstm", n_embd=12, n_hidden=20, n_layer=2)),
}


class Device(contextlib.nullcontext):
    id = 0


@pytest.fixture
def crossings(monkeypatch):
    """Stand-ins that cross by DLPack; counts the crossings there and back."""
    count = {"there": 0, "back": 0}
    array = standin_cupy.ndarray

    def there(self, *, stream=None, max_version=None, dl_device=None, copy=None):
        count["there"] += 1
        return self._held.__dlpack__(max_version=max_version)

    def back(tensor):
        assert isinstance(tensor, torch.Tensor)
        count["back"] += 1
        return array(tensor.numpy())

    monkeypatch.setattr(array, "__dlpack__", there, raising=False)
    monkeypatch.setattr(array, "__dlpack_device__", lambda self: (1, 0), raising=False)
    monkeypatch.setattr(array, "strides", property(lambda self: self._held.strides), raising=False)
    monkeypatch.setattr(array, "device", Device())
    monkeypatch.setitem(sys.modules, "cupy", types.SimpleNamespace(from_dlpack=back))
    found = arrays._kind_and_device

    def on_the_cpu(op_name, arguments):
        kind, device = found(op_name, arguments)
        assert (kind, str(device)) == ("cupy", "cuda:0"), f"{op_name} got {kind} arrays"
        return kind, torch.device("cpu")

    monkeypatch.setattr(arrays, "_kind_and_device", on_the_cpu)
    return count


def steps(module, config, params, ids, targets, *, place, rule):
    """The loss before and after an update, and the parameters then, as NumPy's."""
    params = map_leaves(np.copy, params)
    there, ids, targets = (place.put(nest) for nest in (params, ids, targets))
    state, losses = rule.init(there), []
    for _ in range(2):
        out, cache = module.loss(there, ids=ids, targets=targets, config=config)
        losses.append(float(out[0] if module.STATEFUL else out))
        one = np.float64(1)
        grads = module.loss.backward((one, None) if module.STATEFUL else one, cache)
        rule.update(there, grads, state, 0.01, scale=0.5)
    return losses, place.get(there)


@pytest.mark.parametrize("name", CASES)
def test_training_on_cupys_arrays_is_numpys(name, crossings, monkeypatch):
    module, config = CASES[name]
    rng = rng_of(name)
    params = module.init(config, rng, np.float64)
    ids, targets = rng.integers(0, config.vocab_size, (2, 2, 7))
    given = module, config, params, ids, targets
    rule = AdamW(0.01, weight_decay=0.1)
    with minillm.backend("numpy"):
        losses, expected = steps(*given, place=minillm.device(), rule=rule)
    assert crossings == {"there": 0, "back": 0}
    with minillm.backend("triton"):
        monkeypatch.setitem(Registry.devices, "triton", GPU(standin_cupy.cupy, FusedAdamW))
        place = minillm.device()
        other, actual = steps(*given, place=place, rule=place.optimizer(rule))
    assert crossings["there"] > 20
    assert crossings["back"] > 20
    assert other == pytest.approx(losses, rel=1e-9)
    for (leaf, a), (other_leaf, b) in zip(leaves(expected), leaves(actual), strict=True):
        assert leaf == other_leaf
        assert type(b) is np.ndarray
        np.testing.assert_allclose(b, a, rtol=0, atol=1e-7, err_msg=leaf)


def test_a_numpy_array_among_cupys_is_refused(crossings):
    from minillm.ops import layer_norm

    x, gain = standin_cupy.cupy.asarray(np.ones((3, 4))), np.ones(4)
    with (
        minillm.backend("triton"),
        pytest.raises(ValueError, match="arrays of cupy and numpy in one call"),
    ):
        layer_norm(x, gain, gain)
