"""From a .cu file to a shared library, by g++; kept in the user's cache.

The text is preprocessed, changed a little (source.py) and compiled. `__shared__` becomes
thread_local, and an `extern __shared__ float tile[];` is defined in a second, generated file, for
the linker. Checked code reports every access: g++ instruments it as for its thread sanitizer, whose
library is not linked; the functions that it calls are ours (src/tsan.cpp).
"""

import functools
import hashlib
import json
import os
import re
import shutil
import subprocess
import tempfile
from dataclasses import dataclass
from pathlib import Path

from minillm_kernels.emulator.errors import EmulatorError
from minillm_kernels.emulator.source import (
    find_kernels,
    granule,
    kernel_table,
    names_wide_types,
    pad_shared,
    refuse_ptx,
    replace_marks,
    watch_copies,
)

__all__ = ["Library", "build_kernels", "build_runtime"]

HERE = Path(__file__).parent
INCLUDE, SOURCES = HERE / "include", HERE / "src"
BUILT = HERE / "built"  # a runtime that came along with a copy of the emulator; read, never written
DYNAMIC_BYTES = 227 * 1024  # the most that a Hopper block may have
STATIC_BYTES = 48 * 1024

COMMON = ("-std=c++17", "-fPIC", "-U_FORTIFY_SOURCE", "-fno-strict-aliasing", "-fwrapv", "-w")
# Shared memory is thread_local, without constructors, and found by plain symbols.
KERNEL = ("-fno-exceptions", "-fvisibility=hidden", "-fno-extern-tls-init", "-g1")
KERNEL += ("-fstack-clash-protection",)  # a large local array meets the page beneath its stack
KERNEL += ("-fno-optimize-sibling-calls",)  # who called one of our functions is the kernel
FAST = ("-O2",)
# -O1 and no splitting of structures keep accesses as the .cu has them: a float4 is one of 16 bytes.
CHECKED = ("-O1", "-fno-tree-sra", "-fsanitize=thread,bounds", "-D__MINILLM_CHECKED__=1")
CHECKED += ("-Werror=vla",)  # nvcc knows no arrays of variable length either
# Descriptors give a thread_local variable's address by a call that g++ can take out of loops.
TLS = ("-ftls-model=global-dynamic",)
if os.uname().machine == "x86_64":  # elsewhere there is nothing else
    TLS += ("-mtls-dialect=gnu2",)
LINK = (*TLS, "-shared", "-fPIC", "-O1", "-g0", "-w", "-fvisibility=hidden")
LINK += ("-Wl,-Bsymbolic", "-Wl,-z,defs")
RUNTIME = ("-O2", "-g1", "-fvisibility=hidden", "-shared", "-pthread")

# What nvcc and NVRTC understand and g++ need not: it does not change what a kernel computes.
IGNORED = re.compile(
    r"-{1,2}(use_fast_math|arch|gpu-architecture|gencode|lineinfo|generate-line-info|maxrregcount"
    r"|G|g|O\d?|device-debug|fmad|ftz|prec-\w+|Xptxas|ptxas-options|extra-device-vectorization"
    r"|default-device|split-compile|restrict|w|rdc|relocatable-device-code)(=.*)?$"
)
OUT_OF_REACH = re.compile(
    r"cuda/(barrier|pipeline|ptx|std/barrier)|cuda_pipeline|cooperative_groups/memcpy_async|cudaTypedefs"
)


@dataclass(frozen=True)
class Library:
    """A compiled .cu file.

    Attributes
    ----------
    path : of the shared library
    kernels : names of its kernels, instantiated templates included
    templates : names of its kernel templates
    shared : {variable: (offset, bytes)} of the static __shared__ variables
    variables : {variable: (offset, bytes)} of __device__ and __constant__ variables
    dynamic : offset of the dynamic shared memory in the same segment, None without
    dynamic_name : what the file calls it
    anchor : offset of the variable that `emu_anchor` gives the address of
    granule : the fewest bytes that an access of a checked library moves
    parameters : {kernel: names of its parameters}
    padded : whether a structure of the file has bytes that belong to no member
    wide : whether the file names types that lie at multiples of 16 bytes
    """

    path: str
    kernels: list
    templates: list
    shared: dict
    variables: dict
    dynamic: int | None
    dynamic_name: str
    anchor: int
    granule: int
    parameters: dict
    padded: bool
    wide: bool


@functools.cache
def find_compiler():
    """g++, or what CXX says; EmulatorError if there is none."""
    wanted = os.environ.get("CXX", "g++")
    found = shutil.which(wanted)
    if found is None:
        raise EmulatorError(
            f"the emulator compiles CUDA C by {wanted}, which is not installed: "
            "apt-get install g++ (or conda install gxx), on Linux",
            kind="compile",
        )
    return found


@functools.cache
def cache_folder():
    """Where libraries are kept between runs: the user's cache, or else a temporary folder."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    for folder in (Path(root), Path(tempfile.gettempdir()) / f"minillm-{os.getuid()}"):
        folder = folder / "minillm" / "emulator"
        try:
            folder.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryFile(dir=folder):
                return folder
        except OSError:
            continue
    return Path(tempfile.mkdtemp(prefix="minillm-emulator-"))


@functools.cache
def _toolchain(*files):
    """What a library depends on: the compiler and these files of the emulator."""
    compiler = os.path.realpath(find_compiler())
    stat = os.stat(compiler)
    digest = hashlib.sha256(
        f"{compiler} {stat.st_size} {stat.st_mtime_ns} {os.uname().machine}".encode()
    )
    for file in files:
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _run(command, *, text=None, names=(), warnings=None):
    done = subprocess.run(
        command,
        input=text,
        capture_output=True,
        text=True,
        errors="replace",
        env={**os.environ, "LC_ALL": "C"},  # complaints in English and ASCII
    )
    if done.returncode:
        raise _compile_error(done.stderr, names)
    if warnings is not None:
        warnings += done.stderr.splitlines()
    return done.stdout


def _compile_error(output, names):
    """The first of g++'s complaints, by the .cu file's line."""
    found = re.findall(r"^(.+?):(\d+):(?:\d+:)? (?:fatal )?error: (.*)$", output, re.M)
    own = [hit for hit in found if hit[0] in names]
    if not found:
        return EmulatorError(f"g++ fails: {output.strip()[-2000:]}", kind="compile")
    file, line, message = (own or found)[0]
    if OUT_OF_REACH.search(message):
        message = f"out of the emulator's reach: {message}"
    more = f" (and {len(found) - 1} more)" if len(found) > 1 else ""
    return EmulatorError(message + more, kind="compile", file=file, line=int(line))


def _publish(folder, key, make):
    """Make a library in a temporary folder and move it, with its description, to its place."""
    with tempfile.TemporaryDirectory(dir=folder) as work:
        library, about = make(Path(work))
        about["sha256"] = hashlib.sha256(library.read_bytes()).hexdigest()
        description = Path(work) / "about.json"
        description.write_text(json.dumps(about))
        os.replace(
            library, folder / f"{key}.so"
        )  # the description last: it vouches for the library
        os.replace(description, folder / f"{key}.json")
    return about


def _cached(folder, key):
    """The description of a library that is there and whole, else None."""
    try:
        about = json.loads((folder / f"{key}.json").read_text())
        content = (folder / f"{key}.so").read_bytes()
        return about if about["sha256"] == hashlib.sha256(content).hexdigest() else None
    except (OSError, ValueError, KeyError, TypeError):
        return None


@functools.cache
def build_runtime(fibers="native"):
    """The library of the scheduler and checker, compiled once; its path.

    Parameters
    ----------
    fibers : "native" (our own context switch) or "ucontext" (POSIX's, where there is no other)
    """
    headers = [INCLUDE / f"emu_{name}.h" for name in ("memory", "runtime", "vectors", "warp")]
    sources = sorted(SOURCES.iterdir())
    key = f"runtime-{fibers}-{_toolchain(*sources, *headers, Path(__file__))[:32]}"
    if _cached(BUILT, key) is not None:
        return str(BUILT / f"{key}.so")
    folder = cache_folder()
    if _cached(folder, key) is None:

        def make(work):
            library = work / "runtime.so"
            macro = ["-DEMU_UCONTEXT"] if fibers == "ucontext" else []
            files = [str(file) for file in sources if file.suffix == ".cpp"]
            _run([find_compiler(), *COMMON, *RUNTIME, *macro, *files, "-o", str(library)])
            return library, {}

        _publish(folder, key, make)
    return str(folder / f"{key}.so")


def build_kernels(
    text, name, *, options=(), expressions=(), folder=None, checked=False, fibers="native"
):
    """Compile a .cu file's text, unless the cache has it.

    Parameters
    ----------
    text : the file's content
    name : what reports call the file
    options : compiler options: -D, -U, -I, -std; those that concern only a GPU are ignored
    expressions : template kernels to instantiate, such as "reduce<float, 256>"
    folder : where `#include "..."` looks first
    checked : with every access reported to the checker

    Returns
    -------
    library : Library
    """
    runtime = build_runtime(fibers)
    options = _options(options)
    mode = CHECKED if checked else FAST
    tools = _toolchain(*sorted(INCLUDE.glob("*.h")), *sorted(HERE.glob("*.py")))
    identity = [tools, runtime, text, name, options, list(expressions), mode, str(folder)]
    preprocessed = None
    if re.search(r'^\s*#\s*include\s*"', text, re.M):  # the included files count, too
        preprocessed = _preprocess(text, name, options, folder, mode)
        identity.append(preprocessed)
    key = hashlib.sha256(json.dumps(identity).encode()).hexdigest()[:40]
    place = cache_folder()
    about = _cached(place, key)
    if about is None:
        if preprocessed is None:
            preprocessed = _preprocess(text, name, options, folder, mode)

        def make(work):
            return _compile(work, preprocessed, name, expressions, checked, runtime)

        about = _publish(place, key, make)
    about = {k: v for k, v in about.items() if k != "sha256"}
    return Library(path=str(place / f"{key}.so"), **about)


def _options(options):
    kept = []
    for option in options:
        if option.startswith(("-D", "-U", "-I", "-std=", "--std=")):
            kept.append(option)
        elif not IGNORED.match(option):
            raise EmulatorError(f"the emulator does not know the compiler option {option!r}")
    return kept


def _preprocess(text, name, options, folder, mode):
    command = [
        find_compiler(),
        "-E",
        *COMMON,
        *KERNEL,
        *mode,
        "-I",
        str(INCLUDE),
        "-include",
        "cuda_emulator.h",
    ]
    if folder is not None:
        command += ["-iquote", str(folder)]
    # As if the text came from the file: g++ names it in its complaints and the debugger's tables.
    marked = f'# 1 "{name}"\n{text}\n'
    out = _run([*command, *options, "-x", "c++", "-"], text=marked, names=(name,))
    return out.replace('"<stdin>"', f'"{name}"')


def _compile(work, text, name, expressions, checked, runtime):
    """Compile and link; returns the library and its description."""
    refuse_ptx(text, INCLUDE)
    kernels = find_kernels(text)
    said, wide = [], names_wide_types(text, INCLUDE)
    source, assembly = work / "kernel.ii", work / "kernel.s"
    made, library = work / "kernel.o", work / "kernel.so"
    text = replace_marks(watch_copies(text, INCLUDE) if checked else text, checked)
    source.write_text(text + kernel_table(kernels, expressions))
    compile_it = [
        find_compiler(),
        *COMMON,
        *KERNEL,
        *TLS,
        *(CHECKED if checked else FAST),
        str(source),
    ]
    if checked:
        compile_it = [*(option for option in compile_it if option != "-w"), "-Wpadded"]
        _run([*compile_it, "-S", "-o", str(assembly)], names=(name,), warnings=said)
        assembly.write_text(pad_shared(assembly.read_text()))
        _run([find_compiler(), "-c", str(assembly), "-o", str(made)])
    else:
        _run([*compile_it, "-c", "-o", str(made)], names=(name,))
    padded = any("[-Wpadded]" in row and not row.startswith(str(INCLUDE)) for row in said)
    wanted = [s.name for s in _symbols(made) if s.section == "UND" and s.type == "TLS"]
    dynamic = [name for name in wanted if name != "_TLS_MODULE_BASE_"]  # that is the linker's
    extra = work / "shared.c"
    extra.write_text(_shared_memory(dynamic))
    link = [find_compiler(), *LINK]
    _run([*link, "-x", "c", str(extra), "-x", "none", str(made), runtime, "-o", str(library)])
    defined = [s for s in _symbols(library) if s.section != "UND"]
    place = {s.name: (s.value, s.size) for s in defined if s.type == "TLS"}
    own = {"emu_anchor_place", "emu_dynamic_shared", *dynamic}
    return library, {
        "kernels": [*kernels.plain, *expressions],
        "templates": kernels.templates,
        "shared": {n: where for n, where in place.items() if n not in own},
        "variables": {s.name: (s.value, s.size) for s in defined if s.type == "OBJECT" and s.size},
        "dynamic": place["emu_dynamic_shared"][0] if dynamic else None,
        "dynamic_name": " or ".join(dynamic),
        "anchor": place["emu_anchor_place"][0],
        "granule": granule(assembly.read_text()) if checked else 4,
        "parameters": kernels.parameters,
        "padded": padded,
        "wide": wide,
    }


def _shared_memory(names):
    """C that defines every `extern __shared__` array, all at one address as CUDA has it."""
    aliases = "".join(
        f'extern __thread char {n}[{DYNAMIC_BYTES}] __attribute__((alias("emu_dynamic_shared")));\n'
        for n in names
    )
    region = f"__thread char emu_dynamic_shared[{DYNAMIC_BYTES}] __attribute__((aligned(1024)));\n"
    return (
        "__thread char emu_anchor_place;\n"
        '__attribute__((visibility("default"))) '
        "void *emu_anchor(void) { return &emu_anchor_place; }\n"
        + (region + aliases if names else "")
    )


@dataclass(frozen=True)
class Symbol:
    name: str
    value: int
    size: int
    type: str
    section: str


def _symbols(path):
    rows = _run(["readelf", "-sW", str(path)]).splitlines()
    symbols = []
    for row in rows:
        cells = row.split()
        if len(cells) >= 8 and cells[0].rstrip(":").isdigit():
            size = int(cells[2], 0)
            symbols.append(
                Symbol(cells[7].split("@")[0], int(cells[1], 16), size, cells[3], cells[6])
            )
    return symbols
