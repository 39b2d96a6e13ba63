"""The forward's claim: tensor cores multiply values while the next block's exponentials run.

Read in the code for sm_90, with no GPU: between the commit of a product and the wait for it there
is an exponential. A compiler that waits at once would be as right, and slower, in silence.
"""

import json
import os
import re
import subprocess
import sys

COMPILE = """
import json

from minillm_kernels.triton._attention_configurations import attention_configurations
from minillm_kernels.triton._compile import compile_one

wanted = {True: None, False: None}
for one in attention_configurations():
    sizes = one.constants
    if one.name.startswith("forward sm_90 bfloat16 D=64 tma BLOCK_T=128 BLOCK_S=") and (
        wanted[sizes["OVERLAP"]] is None
    ):
        wanted[sizes["OVERLAP"]] = compile_one(one, 90).ptx
print(json.dumps([wanted[True], wanted[False]]))
"""


def exponentials_in_flight(ptx):
    """How many exponentials stand after a product was committed and before it is waited for."""
    count, flying = 0, False
    for found in re.finditer(r"wgmma\.commit_group|wgmma\.wait_group|\bex2\.approx", ptx):
        if found[0] == "ex2.approx":
            count += flying
        else:
            flying = found[0] == "wgmma.commit_group"
    return count


def test_values_are_multiplied_beside_the_exponentials():
    environment = {k: v for k, v in os.environ.items() if k != "TRITON_INTERPRET"}
    made = subprocess.run(
        [sys.executable, "-c", COMPILE], env=environment, capture_output=True, text=True, check=True
    )
    overlapped, plain = json.loads(made.stdout)
    assert exponentials_in_flight(overlapped) >= 32  # a block's, of a thread
    assert exponentials_in_flight(plain) == 0
