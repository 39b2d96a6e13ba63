"""The rung of mma.sync, which the emulator has not, around a model of its PTX (ptx_model.h)."""

import dataclasses
from pathlib import Path

import pytest

from minillm_kernels.cuda.attention import MMA
from minillm_kernels.emulator import emulator_settings
from tests.kernels.cuda.test_attention import CPU, Case, check

MODEL = Path(__file__).parent / "ptx_model_mma.h"

CASES = {
    "one": Case(T=2, S=1, D=64, V=64),
    "ragged": Case(T=70, S=133, D=64, V=64, peak=10.0),
    "causal": Case(T=75, S=140, D=64, V=64, causal=True, group=2),
    "blind": Case(T=90, S=20, D=64, V=64, causal=True, G=2),
    "masked": Case(T=40, S=70, D=64, V=64, masked=True, causal=True, B=2, group=2),
    "wide": Case(T=33, S=65, D=128, V=128, causal=True),
}


def modelled(path=MMA.path, **macros):
    """The rung with its section "PTX" replaced by the model, for the emulator."""
    defined = {"PTX_MODEL": f'"{MODEL}"', **macros}
    dtypes = {name: {**given, **defined} for name, given in MMA.dtypes.items()}
    return dataclasses.replace(MMA, path=path, emulated=True, dtypes=dtypes)


@pytest.fixture(autouse=True)
def one_block_at_a_time():
    with emulator_settings(workers=1):
        yield


@pytest.mark.parametrize("name", CASES)
def test_copies_as_late_as_they_may_be(name):
    check(CPU, modelled(COPIES_LATE=1), CASES[name], "float16")


@pytest.mark.parametrize("name", ["one", "ragged", "causal", "blind"])
def test_copies_at_once(name):
    check(CPU, modelled(), CASES[name], "float16")


def test_modelled_bfloat16():
    check(CPU, modelled(), CASES["masked"], "bfloat16")


@pytest.mark.gpu
@pytest.mark.parametrize("dtype", MMA.dtypes)
@pytest.mark.parametrize("name", CASES)
def test_on_a_gpu(place, name, dtype):
    check(place, MMA, CASES[name], dtype)


WRONG = {
    "reads keys that may not be there": (
        "copies_wait<1>(); // the keys are there, the values may be on their way",
        "copies_wait<2>();",
        {"COPIES_LATE": 1},
    ),
    "gives the keys away too early": (
        "__syncthreads(); // the keys have been read: the next ones may come",
        "",
        {},
    ),
    "no rescale": ("mixed[c][e] *= fade[e / 2]", "mixed[c][e] *= 1", {}),
    "operands in another order": ("sums[i / 2][i % 2 * 2]", "sums[i % 2][i / 2 * 2]", {}),
    "natural for binary logarithm": ("LN2 * (peak[i]", "(peak[i]", {}),
}


@pytest.mark.parametrize("name", WRONG)
def test_wrong_twins_are_refused(name, tmp_path):
    right, wrong, macros = WRONG[name]
    source = MMA.path.read_text()
    assert right in source
    path = tmp_path / MMA.path.name
    path.write_text(source.replace(right, wrong))
    with pytest.raises(AssertionError, match="error"):
        check(CPU, modelled(path, **macros), CASES["ragged"], "float16")
