"""Compiling Triton kernels without a GPU, and reading what came out.

Triton needs a GPU to launch, not to compile: `triton.compile` with a named target gives PTX and
machine code for any architecture in seconds. So every configuration that a launcher can choose is
compiled on the CPU for a T4 (sm_75), an A100 (sm_80) and an H100 (sm_90a), and its registers,
spills, shared memory and instructions are held to what its author claims.

    python -m minillm_kernels compile [--arch 90] [--match matmul] [--json]

Needs TRITON_INTERPRET unset, since a kernel decorated for the interpreter cannot be compiled.
"""

import argparse
import dataclasses
import importlib
import json
import pkgutil
import re
import subprocess
import tempfile

from minillm.errors import UserError
from minillm_kernels.triton._tune import Tuned

__all__ = ["ARCHES", "SHARED_LIMIT", "Compiled", "Configuration", "all_configurations", "check"]

ARCHES = (75, 80, 90)
# Bytes of shared memory that one block may ask for (CUDA C Programming Guide, "Technical
# specifications per compute capability").
SHARED_LIMIT = {75: 65536, 80: 166912, 90: 232448}

# A fact about the code -> the PTX that shows it.
FACTS = {
    "wgmma": r"wgmma\.mma_async",
    "tma": r"cp\.async\.bulk\.tensor",
    "tma store": r"cp\.async\.bulk\.tensor\.\dd\.global\.shared",
    "mma": r"\bmma\.sync",
    "ldmatrix": r"\bldmatrix",
    "cp.async": r"cp\.async\.c[ag]",
    "warp_specialize": r"\bsetmaxnreg",
    "atomic": r"\b(?:red|atom)\.(?:global|gpu|relaxed|acq_rel)",
    "vector loads": r"ld\.global[\w.:]*\.v(?:2|4|8)\.",
}


@dataclasses.dataclass(frozen=True, eq=False)
class Configuration:
    """One kernel as a launcher compiles it.

    Parameters
    ----------
    name : str, unique in its module, "forward bf16 128x256x64"
    kernel : the `@triton.jit` function, tuned or not
    signature : {argument: type}: "*fp32", "*bf16", "i32", "fp32", "tensordesc<bf16[128,64]>".
        Every pointer is taken to be aligned to 16 bytes, as the launcher finds it; "*fp32:1" is
        not, and "i32:16" is an integer that divides by 16. Constants are left out.
    constants : {argument: value} of the `tl.constexpr` ones, and of arguments fixed to None or 1
    arches : where it is used
    no_spills : bool, claimed of every architecture
    expects : facts (keys of `FACTS`) that the code for sm_90 must show
    refused : {architecture: the reason} for what is not compiled there
    """

    name: str
    kernel: object
    signature: dict
    constants: dict
    num_warps: int = 4
    num_stages: int = 2
    arches: tuple = ARCHES
    no_spills: bool = True
    expects: tuple = ()
    refused: dict = dataclasses.field(default_factory=dict)
    module: str = ""


@dataclasses.dataclass(frozen=True)
class Compiled:
    """What the compiler made of a configuration; bytes of spills are the stack frame's."""

    name: str
    arch: int
    registers: int
    spills: int
    shared: int
    facts: tuple
    threads: int
    ptx: str = dataclasses.field(default="", repr=False)


def compile_one(configuration, arch):
    """Compile a configuration for sm_`arch`.

    Returns
    -------
    compiled : Compiled
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    kernel = configuration.kernel
    kernel = kernel.kernel if isinstance(kernel, Tuned) else kernel
    if not isinstance(kernel, triton.runtime.JITFunction):
        raise UserError("TRITON_INTERPRET must be unset to compile kernels")
    signature, attributes = {}, {}
    for index, argument in enumerate(kernel.arg_names):
        if argument in configuration.constants:
            signature[argument] = "constexpr"
            continue
        if argument not in configuration.signature:
            raise ValueError(f"{configuration.name}: no type for the argument {argument!r}")
        type_, _, divisor = configuration.signature[argument].partition(":")
        signature[argument] = type_
        if divisor == "16" or (not divisor and type_.startswith("*")):
            attributes[(index,)] = [["tt.divisibility", 16]]
    source = ASTSource(kernel, signature, dict(configuration.constants), attributes)
    options = {
        "num_warps": configuration.num_warps,
        "num_stages": configuration.num_stages,
        "enable_fp_fusion": True,  # the default up to Triton 3.9, said aloud
    }
    made = triton.compile(source, target=GPUTarget("cuda", arch, 32), options=options)
    registers, spills = _resources(made.asm["cubin"])
    ptx = made.asm["ptx"]
    facts = tuple(fact for fact, pattern in FACTS.items() if re.search(pattern, ptx))
    threads = int(re.search(r"\.reqntid (\d+)", ptx).group(1))
    shared = made.metadata.shared
    return Compiled(configuration.name, arch, registers, spills, shared, facts, threads, ptx)


def _resources(cubin):
    """Registers a thread and bytes of its stack, as Triton's own cuobjdump reads them."""
    from triton import knobs

    with tempfile.NamedTemporaryFile(suffix=".cubin") as file:
        file.write(cubin)
        file.flush()
        command = [knobs.nvidia.cuobjdump.path, "--dump-resource-usage", file.name]
        text = subprocess.run(command, check=True, capture_output=True, text=True).stdout
    entry = re.search(r"REG:(\d+) STACK:(\d+) .*?LOCAL:(\d+)", text)
    registers, stack, local = (int(group) for group in entry.groups())
    return registers, stack + local


def problems(configuration, compiled):
    """What the code does not keep of its author's claims, as lines; none when all is well."""
    arch, found = compiled.arch, []
    if compiled.shared > SHARED_LIMIT[arch]:
        found.append(f"asks for {compiled.shared} bytes of shared memory of {SHARED_LIMIT[arch]}")
    if configuration.no_spills and compiled.spills:
        found.append(f"spills: a stack of {compiled.spills} bytes")
    if arch == 90:
        lacking = [fact for fact in configuration.expects if fact not in compiled.facts]
        found += [f"no {fact} in the code" for fact in lacking]
    return found


def all_configurations(match=""):
    """Every configuration of every module of this package that has `configurations()`.

    Returns
    -------
    configurations : list of Configuration, each with its module's name in front of its own
    """
    import minillm_kernels.triton as package

    found = []
    for info in sorted(pkgutil.iter_modules(package.__path__), key=lambda info: info.name):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{package.__name__}.{info.name}")
        for one in getattr(module, "configurations", list)():
            named = dataclasses.replace(one, name=f"{info.name}: {one.name}", module=info.name)
            if match in named.name:
                found.append(named)
    names = [one.name for one in found]
    twice = sorted({name for name in names if names.count(name) > 1})
    if twice:
        raise ValueError(f"two configurations have the same name: {', '.join(twice)}")
    return found


def check(configurations, arches=ARCHES):
    """Compile each for each of its architectures.

    Yields
    ------
    row : dict of a Compiled without its PTX, and "problems"
    """
    for configuration in configurations:
        for arch in arches:
            if arch not in configuration.arches or arch in configuration.refused:
                continue
            try:
                compiled = compile_one(configuration, arch)
            except Exception as error:  # a compiler's failure is a finding, and the others go on
                text = f"{type(error).__name__}: {error}"
                yield {"name": configuration.name, "arch": arch, "problems": [text]}
                continue
            row = dataclasses.asdict(compiled)
            del row["ptx"]
            yield row | {"problems": problems(configuration, compiled)}


def main(arguments=None):
    """Compile the Triton kernels' configurations, no GPU needed; 1 when one breaks its claims."""
    parser = argparse.ArgumentParser(prog="minillm_kernels compile", description=main.__doc__)
    parser.add_argument("--arch", type=int, action="append", choices=ARCHES)
    parser.add_argument("--match", default="", help="only configurations whose name has this in it")
    parser.add_argument("--part", default="0/1", help="1/2: the second half, for two processes")
    parser.add_argument("--json", action="store_true", help="a line of JSON for each")
    parser.add_argument("--list", action="store_true", help="name them, and compile nothing")
    options = parser.parse_args(arguments)
    if options.list:
        for one in all_configurations(options.match):
            types = sorted(set(one.signature.values()))
            row = {"name": one.name, "module": one.module, "arches": one.arches, "types": types}
            print(json.dumps(row | {"refused": {str(a): why for a, why in one.refused.items()}}))
        return 0
    part, parts = map(int, options.part.split("/"))
    chosen = all_configurations(options.match)[part::parts]
    failed = False
    for row in check(chosen, tuple(options.arch or ARCHES)):
        failed |= bool(row["problems"])
        if options.json:
            print(json.dumps(row), flush=True)
            continue
        if "registers" in row:
            print(
                f"{row['name']:60} sm_{row['arch']} {row['registers']:4} registers "
                f"{row['spills']:5} spilled {row['shared']:7} shared  {', '.join(row['facts'])}",
                flush=True,
            )
        for problem in row["problems"]:
            print(f"{row['name']:60} sm_{row['arch']} PROBLEM {problem}", flush=True)
    return int(failed)
