"""From a .cu file to a shared library, by g++; kept in the user's cache.

The text is preprocessed first, where the emulator's headers leave marks for `__global__` and
`__shared__`. By them the kernels' names are found, without parsing C++; what the kernels take is
told by a C++ template later, from their types. `__shared__` becomes thread_local, and an
`extern __shared__ float tile[];` is defined in a second, generated file, for the linker.
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

__all__ = ["Library", "build_kernels", "build_runtime"]

HERE = Path(__file__).parent
INCLUDE, SOURCES = HERE / "include", HERE / "src"
DYNAMIC_BYTES = 227 * 1024  # the most that a Hopper block may have
STATIC_BYTES = 48 * 1024

COMMON = ("-std=c++17", "-fPIC", "-U_FORTIFY_SOURCE", "-fno-strict-aliasing", "-fwrapv", "-w")
# Shared memory is thread_local, without constructors, and found by plain symbols.
KERNEL = ("-fvisibility=hidden", "-fno-extern-tls-init", "-g1")
FAST = ("-O2",)
# -O1 and no splitting of structures keep accesses as the .cu says them: a float4 is one of 16 bytes.
CHECKED = ("-O1", "-fno-tree-sra", "-fsanitize=thread,bounds", "-D__MINILLM_CHECKED__=1")

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
    anchor : offset of the variable that `emu_anchor` gives the address of
    granule : the fewest bytes that an access of a checked library moves
    """

    path: str
    kernels: tuple[str, ...]
    templates: tuple[str, ...]
    shared: dict
    variables: dict
    dynamic: int | None
    anchor: int
    granule: int


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
def _toolchain():
    """What every library depends on: the compiler and the emulator's own files."""
    compiler = os.path.realpath(find_compiler())
    stat = os.stat(compiler)
    digest = hashlib.sha256(
        f"{compiler} {stat.st_size} {stat.st_mtime_ns} {os.uname().machine}".encode()
    )
    for file in sorted([*INCLUDE.glob("*.h"), *SOURCES.iterdir(), Path(__file__)]):
        digest.update(file.name.encode() + b"\0" + file.read_bytes())
    return digest.hexdigest()


def _run(command, *, text=None, names=()):
    done = subprocess.run(command, input=text, capture_output=True, text=True, errors="replace")
    if done.returncode:
        raise _compile_error(done.stderr, names)
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
    fibers : "native" (our own context switch) or "ucontext" (POSIX's, the only one on some machines)
    """
    folder, key = cache_folder(), f"runtime-{fibers}-{_toolchain()[:32]}"
    if _cached(folder, key) is None:

        def make(work):
            library = work / "runtime.so"
            macro = ["-DEMU_UCONTEXT"] if fibers == "ucontext" else []
            sources = sorted(map(str, SOURCES.glob("*.cpp")))
            _run(
                [
                    find_compiler(),
                    *COMMON,
                    "-O2",
                    "-g1",
                    "-fvisibility=hidden",
                    "-shared",
                    "-pthread",
                ]
                + [*macro, *sources, "-o", str(library)]
            )
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
    identity = [_toolchain(), runtime, text, name, options, list(expressions), mode, str(folder)]
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
        about = _publish(
            place, key, lambda work: _compile(work, preprocessed, name, expressions, mode, runtime)
        )
    return Library(
        str(place / f"{key}.so"),
        tuple(about["kernels"]),
        tuple(about["templates"]),
        {k: tuple(v) for k, v in about["shared"].items()},
        {k: tuple(v) for k, v in about["variables"].items()},
        about["dynamic"],
        about["anchor"],
        about["granule"],
    )


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
        *mode,
        "-I",
        str(INCLUDE),
        "-include",
        "cuda_emulator.h",
    ]
    if folder is not None:
        command += ["-iquote", str(folder)]
    # As if the text came from the file: g++ names it in its complaints and in the debugger's tables.
    marked = f'# 1 "{name}"\n{text}\n'
    return _run([*command, *options, "-x", "c++", "-"], text=marked, names=(name,))


def _compile(work, text, name, expressions, mode, runtime):
    _refuse_ptx(text, name)
    plain, templates, bounds = _find_kernels(text)
    entries = [(k, bounds.get(k, "")) for k in plain]
    entries += [(e, bounds.get(e.split("<")[0].split("::")[-1].strip(), "")) for e in expressions]
    source, kernel_object, library = work / "kernel.ii", work / "kernel.o", work / "kernel.so"
    table = "".join(
        f"    emu_describe({json.dumps(k)}, &{k}{', ' + b if b and k in plain else ''}),\n"
        for k, b in entries
    )
    source.write_text(
        _replace_marks(text) + '\n# 1 "<the emulator\'s table of kernels>"\n'
        'extern "C" __attribute__((visibility("default"))) const emu_kernel *emu_kernels() {\n'
        f"static const emu_kernel table[] = {{\n{table}    {{}}}};\nreturn table;\n}}\n"
    )
    compiler = find_compiler()
    _run(
        [compiler, *COMMON, *KERNEL, *mode, "-c", str(source), "-o", str(kernel_object)],
        names=(name,),
    )
    undefined = _symbols(kernel_object)
    dynamic = [s.name for s in undefined if s.section == "UND" and s.type == "TLS"]
    extra = work / "shared.c"
    extra.write_text(_shared_memory(dynamic))
    _run(
        [
            compiler,
            "-shared",
            "-fPIC",
            "-w",
            "-g0",
            "-O1",
            "-fvisibility=hidden",
            "-x",
            "c",
            str(extra),
        ]
        + [
            "-x",
            "none",
            str(kernel_object),
            runtime,
            "-Wl,-Bsymbolic",
            "-Wl,-z,defs",
            "-o",
            str(library),
        ],
        names=(name,),
    )
    defined = [s for s in _symbols(library) if s.section != "UND"]
    linked = [s for s in defined if s.type == "TLS"]
    place = {s.name: (s.value, s.size) for s in linked}
    own = {"emu_anchor_place", "emu_dynamic_shared", *dynamic}
    return library, {
        "kernels": [k for k, _ in entries],
        "templates": templates,
        "shared": {n: where for n, where in place.items() if n not in own},
        "variables": {s.name: (s.value, s.size) for s in defined if s.type == "OBJECT" and s.size},
        "dynamic": place["emu_dynamic_shared"][0] if dynamic else None,
        "anchor": place["emu_anchor_place"][0],
        "granule": _granule(undefined),
    }


def _refuse_ptx(text, name):
    """Inline PTX is for a GPU's assembler; g++ would hand it to the CPU's, whose errors help nobody."""
    file, line = None, 0
    for row in text.splitlines():
        mark = re.match(r'# (\d+) "(.*?)"', row)
        if mark:
            line, file = int(mark[1]), mark[2]
            continue
        if not Path(file or "").is_relative_to(INCLUDE) and not (file or "").startswith("/usr/"):
            if re.search(r"\b(asm|__asm__|__asm)\b\s*(volatile|__volatile__)?\s*\(", row):
                raise EmulatorError(
                    "inline PTX (asm) is out of the emulator's reach, and so are cp.async, TMA and wgmma; "
                    "run this kernel on a GPU",
                    kind="compile",
                    file=file,
                    line=line,
                )
        line += 1


def _balanced(text, start):
    """The end of the parenthesis that opens at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    return len(text)


def _find_kernels(text):
    """The names of kernels and kernel templates, and the first of __launch_bounds__ by name."""
    plain, templates, bounds = [], [], {}
    for mark in re.finditer(r"\b__emu_global__\b", text):
        after = re.sub(r"^#.*$", "", text[mark.end() : mark.end() + 4000], flags=re.M)
        bound, position = "", 0
        while True:
            call = re.compile(r"([A-Za-z_]\w*)\s*\(").search(after, position)
            if call is None:
                break
            end = _balanced(after, call.end() - 1)
            if call[1] in ("__attribute__", "__emu_launch_bounds__", "alignas"):
                if call[1] == "__emu_launch_bounds__":
                    bound = after[call.end() : end - 1]
                position = end
                continue
            before = re.sub(
                r"^#.*$", "", text[max(0, mark.start() - 2000) : mark.start()], flags=re.M
            )
            before = re.sub(r"(\s|\bstatic\b|\binline\b|\bvoid\b|\bextern\b)*$", "", before)
            names = templates if before.endswith(">") else plain
            if call[1] not in names:
                names.append(call[1])
            if bound:
                bounds[call[1]] = bound
            break
    return plain, templates, bounds


def _replace_marks(text):
    out, position = [], 0
    for mark in re.finditer(r"\b__emu_(launch_bounds__\s*\(|shared__(\s+alignas\s*\()?)", text):
        out.append(text[position : mark.start()])
        position = mark.end()
        if mark[0].startswith("__emu_launch"):
            position = _balanced(text, mark.end() - 1)
        elif mark[2]:  # g++ has alignas in front of the declaration only; nvcc also here
            position = _balanced(text, mark.end() - 1)
            value = text[mark.end() : position - 1]
            out.append(f"thread_local __attribute__((aligned(emu_alignment<{value}>())))")
        else:
            out.append("thread_local")
    out.append(text[position:])
    return re.sub(r"\b__emu_global__\b", "", "".join(out))


def _shared_memory(names):
    """C that defines every `extern __shared__` array, all at one address as CUDA has it."""
    aliases = "".join(
        f'extern __thread char {n}[{DYNAMIC_BYTES}] __attribute__((alias("emu_dynamic_shared")));\n'
        for n in names
    )
    region = f"__thread char emu_dynamic_shared[{DYNAMIC_BYTES}] __attribute__((aligned(1024)));\n"
    return (
        "__thread char emu_anchor_place;\n"
        '__attribute__((visibility("default"))) void *emu_anchor(void) { return &emu_anchor_place; }\n'
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


def _granule(symbols):
    """How finely memory has to be watched: by the smallest access that the code contains."""
    names = {s.name for s in symbols if s.section == "UND"}
    for size in (1, 2):
        if any(re.fullmatch(rf"__tsan_(unaligned_)?(read|write){size}(_pc)?", n) for n in names):
            return size
        if any(n.startswith(f"__tsan_atomic{8 * size}_") for n in names):
            return size
    return 1 if any(re.match(r"__tsan_(read|write)_range", n) for n in names) else 4
