"""`python -m minillm_kernels`: the kernels' own commands."""

import sys

from minillm.cli import prepared, run
from minillm_kernels.cli import cli

if __name__ == "__main__":
    sys.exit(prepared(lambda: run(command=cli, name="python -m minillm_kernels")))
