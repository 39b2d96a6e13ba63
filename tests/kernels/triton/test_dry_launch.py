"""The launchers' own lines for a GPU, without one: what they launch compiles, fits and spills not.

In processes of their own, because kernels decorated for the interpreter cannot be compiled.
"""

import json
import os
import subprocess
import sys

import pytest

from minillm_kernels.triton._compile import SHARED_LIMIT
from minillm_kernels.triton._dry import MULTIPROCESSORS

# A case an architecture: at the sizes of a GPT-2, what a forward and a backward launch there.
LAUNCHES = """
import dataclasses, json, sys
import torch
from minillm_kernels.triton._dry import dry_gpu
from minillm_kernels.triton.flash_attention import flash_attention, flash_attention_backward
from minillm_kernels.triton.layer_norm import layer_norm, layer_norm_backward
from minillm_kernels.triton.linear import linear, linear_backward

arch = int(sys.argv[1])
dtype = torch.float16 if arch == 75 else torch.bfloat16

def new(*shape):
    return torch.empty(shape, dtype=dtype, device="cuda")

with dry_gpu(arch, measures=False) as dry:
    x, w, b = new(16384, 768), new(768, 2304), new(2304)
    y, cache = linear(x, w, b)
    grads = linear_backward(y, cache)
    assert [g.shape for g in grads] == [x.shape, w.shape, b.shape]
    y, cache = layer_norm(x, new(768), new(768))
    layer_norm_backward(y, cache)
    if arch == 90:
        q = new(4, 12, 1024, 64)
        o, cache = flash_attention(q, q, q, causal=True)
        assert o.shape == q.shape and o.is_cuda
        flash_attention_backward(o, cache)
print(json.dumps([dataclasses.asdict(launch) for launch in dry.launches]))
"""

# Every row of the benchmark on its own side, down to a GPT-2 of one layer; nothing is compiled.
ROWS = """
import json
from minillm_kernels.bench import run, training, warm
training.GPT2 = training.GPT2 | {"n_layer": 1, "vocab_size": 1024}
said = []
asked = warm.asked_by_rows(run.select(""), 90, report=said.append)
print(json.dumps([said, [[one.kernel.fn.__name__, one.options.num_warps] for one in asked]]))
"""

# A launcher that reads a number back, which a captured graph cannot.
READS_BACK = """
import torch
from minillm_kernels.triton._dry import dry_gpu
with dry_gpu(90, compiles=False):
    x = torch.empty(8, device="cuda")
    total = x.sum()
    print('summed')
    float(total)
"""


def start(source, *args):
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"}
    return subprocess.Popen(
        [sys.executable, "-c", source, *args],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=environment | {"MINILLM_EMULATE": "0"},
    )


def told(process):
    out, err = process.communicate()
    assert process.returncode == 0, err
    return json.loads(out.splitlines()[-1])


@pytest.mark.parametrize("arch", [75, 80, 90])
def test_what_is_launched_compiles_and_fits(arch):
    launches = told(start(LAUNCHES, str(arch)))
    names = {launch["name"] for launch in launches}
    product = "persistent" if arch == 90 else "plain"
    assert names >= {product, "norm_forward", "norm_backward"}
    if arch == 90:
        assert names >= {"forward_kernel", "keys_kernel", "queries_kernel"}
    for launch in launches:
        assert launch["shared"] <= SHARED_LIMIT[arch], launch
        assert launch["registers"] * launch["warps"] * 32 <= 65536, launch
        assert launch["spills"] == 0, launch
    resident = [launch["grid"] for launch in launches if launch["name"] == "persistent"]
    assert all(grid == [MULTIPROCESSORS[arch], 1, 1] for grid in resident)


def test_every_row_of_the_benchmark_launches_without_reading_back():
    said, asked = told(start(ROWS))
    assert said == []
    names = {name for name, _ in asked}
    assert names >= {"persistent", "stream_k", "adamw_chunk", "loss_and_gradient_kernel"}
    assert names >= {"forward_kernel", "keys_kernel", "queries_kernel", "cross_entropy_online"}
    assert len(asked) > 100


def test_reading_a_number_back_is_refused():
    process = start(READS_BACK)
    out, _ = process.communicate()
    assert out == "summed\n"
    assert process.returncode != 0
