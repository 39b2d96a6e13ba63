"""What is done to a .cu file's preprocessed text before g++ compiles it.

The emulator's headers leave marks for `__global__`, `__shared__` and `__launch_bounds__`. By them
the kernels' names are found, without parsing C++; what the kernels take is told by a C++ template
later, from their types.
"""

import json
import re
from dataclasses import dataclass, field
from pathlib import Path

from minillm_kernels.emulator.errors import EmulatorError

__all__ = [
    "Kernels",
    "find_kernels",
    "granule",
    "kernel_table",
    "names_wide_types",
    "pad_shared",
    "refuse_ptx",
    "replace_marks",
]

CALL = re.compile(r"([A-Za-z_]\w*)\s*\(")
UNWATCHED = '__attribute__((no_sanitize("thread")))'
WIDE = re.compile(r"\b(u?int4|float4|(u?long|u?longlong|double)[24])\b|(align|aligned)\w*\s*\(+")
FLATTENED = "__attribute__((flatten))"
PADDING = 256  # bytes between __shared__ variables in checked code; a multiple of all 32 banks


@dataclass
class Kernels:
    """The kernels of a file.

    Attributes
    ----------
    plain, templates : names
    bounds : {name: arguments of __launch_bounds__}
    parameters : {name: names of its parameters}
    """

    plain: list = field(default_factory=list)
    templates: list = field(default_factory=list)
    bounds: dict = field(default_factory=dict)
    parameters: dict = field(default_factory=dict)


def refuse_ptx(text, headers):
    """Raise for inline PTX: g++ would hand it to the CPU's assembler, whose errors help nobody.

    Parameters
    ----------
    text : preprocessed, with g++'s marks of lines
    headers : folder whose files may have assembler of the CPU's own
    """
    for row, file, line in _rows(text):
        if _is_own(file, headers) and re.search(r"\b(asm|__asm__|__asm)\b[^;{(]*\(", row):
            raise EmulatorError(
                "inline PTX (asm) is out of the emulator's reach, as are cp.async, TMA and wgmma; "
                "run this kernel on a GPU",
                kind="compile",
                file=file,
                line=line,
            )


def watch_copies(text, headers):
    """Let memcpy and its like report what they read and write, which g++ does not see to."""
    call = re.compile(r"\b(?:std\s*::\s*)?(memcpy|memmove|memset)\s*\(")
    return "".join(
        (call.sub(r"emu_\1(", row) if file and _is_own(file, headers) else row) + "\n"
        for row, file, _ in _rows(text)
    )


def names_wide_types(text, headers):
    """Whether the user's code names a type that lies at multiples of 16 bytes.

    g++ tells of any structure of 16 bytes alike, and one of two doubles may lie at multiples of 8.
    """
    return any(WIDE.search(row) for row, file, _ in _rows(text) if file and _is_own(file, headers))


def _rows(text):
    """Each row of a preprocessed text with the file and line that it came from."""
    file, line = "", 0
    for row in text.splitlines():
        mark = re.match(r'# (\d+) "(.*?)"', row)
        if mark:
            line, file = int(mark[1]), mark[2]
            yield row, "", 0
        else:
            yield row, file, line
            line += 1


def _is_own(file, headers):
    """Whether a file is the user's: neither one of our headers nor one of the system's."""
    return not Path(file).is_relative_to(headers) and not file.startswith(("/usr/", "<"))


def find_kernels(text):
    """Every function marked `__global__`.

    Returns
    -------
    kernels : Kernels
    """
    kernels = Kernels()
    for mark in re.finditer(r"\b__emu_global__\b", text):
        after = _without_line_marks(text[mark.end() : mark.end() + 8000])
        before = _without_line_marks(text[max(0, mark.start() - 2000) : mark.start()])
        before = re.sub(r"(\s|\b(static|inline|void|extern)\b)*$", "", before)
        bound, position = "", 0
        while call := CALL.search(after, position):
            end = _balanced(after, call.end() - 1)
            inside = after[call.end() : end - 1]
            if call[1] not in ("__attribute__", "__emu_launch_bounds__", "alignas"):
                names = kernels.templates if before.endswith(">") else kernels.plain
                if call[1] not in names:
                    names.append(call[1])
                kernels.parameters[call[1]] = _parameter_names(inside)
                if bound:
                    kernels.bounds[call[1]] = bound
                break
            if call[1] == "__emu_launch_bounds__":
                bound = inside
            position = end
    return kernels


def kernel_table(kernels, expressions):
    """C++ that describes every kernel, and every instantiated template, to the launcher."""
    rows = []
    for name in (*kernels.plain, *expressions):
        bound = kernels.bounds.get(name)  # a template's bound may depend on its arguments
        rows.append(f"emu_describe({json.dumps(name)}, &{name}{', ' + bound if bound else ''}),\n")
    return (
        '\n# 1 "<the emulator\'s table of kernels>"\n'
        f'extern "C" {UNWATCHED} __attribute__((visibility("default"))) '
        "const emu_kernel *emu_kernels() {\n"
        f"static const emu_kernel table[] = {{\n{''.join(rows)}{{}}}};\nreturn table;\n}}\n"
    )


def replace_marks(text, checked=False):
    """Put what g++ is to see in the place of the marks: `__shared__` is thread_local.

    Checked kernels have the functions that they call inlined: a structure that a call returns into
    memory, or that it takes from there, would pass unreported.
    """
    out, position = [], 0
    for mark in re.finditer(r"\b__emu_(launch_bounds__\s*\(|shared__(\s+alignas\s*\()?)", text):
        out.append(text[position : mark.start()])
        position = mark.end()
        if mark[0].startswith("__emu_launch"):
            position = _balanced(text, mark.end() - 1)
        elif mark[2]:  # g++ wants alignas in front of the declaration; nvcc takes it here
            position = _balanced(text, mark.end() - 1)
            value = text[mark.end() : position - 1]
            out.append(f"thread_local __attribute__((aligned(emu_alignment<{value}>())))")
        else:
            out.append("thread_local")
    out.append(text[position:])
    kernel = FLATTENED if checked else ""
    return re.sub(r"\b__emu_global__\b", kernel, "".join(out))


def pad_shared(assembly):
    """Leave a gap behind every static __shared__ variable, so that an overrun meets nobody.

    Parameters
    ----------
    assembly : g++'s, where a thread_local variable stands in .tbss as `name:` and `.zero bytes`
    """
    out, inside = [], False
    for row in assembly.splitlines():
        if re.match(r"\s*\.(section|text|data|bss)\b", row):
            inside = ".tbss" in row
        out.append(row)
        if inside and re.match(r"\s*\.zero\s+\d+$", row):
            out.append(f"\t.zero\t{PADDING}")
    return "\n".join(out) + "\n"


def granule(assembly):
    """The fewest bytes that an access of checked code moves: how finely memory must be watched.

    g++ keeps a byte beside an array of a class with constructors (_ZGV...), which does not count.
    """
    fewest, near = 4, ["", "", "", ""]
    for row in assembly.splitlines():
        near = [*near[1:], row]
        call = re.search(
            r"\b__tsan_(?:(?:unaligned_|volatile_)?(?:read|write)|atomic)(\d+|_range)", row
        )
        if call and not any("_ZGV" in n for n in near):
            bits = 8 if "atomic" in call[0] else 1
            fewest = min(fewest, 1 if call[1] == "_range" else max(1, int(call[1]) // bits))
    return fewest


def _without_line_marks(text):
    return re.sub(r"^#.*$", "", text, flags=re.M)


def _balanced(text, start):
    """The end of the parenthesis that opens at `start`."""
    depth = 0
    for i in range(start, len(text)):
        depth += {"(": 1, ")": -1}.get(text[i], 0)
        if depth == 0:
            return i + 1
    return len(text)


def _parameter_names(text):
    """The names in a parameter list: the last word of each part, before a default value."""
    parts, depth = [""], 0
    for letter in text:
        depth += {"(": 1, "<": 1, "{": 1, "[": 1, ")": -1, ">": -1, "}": -1, "]": -1}.get(letter, 0)
        if letter == "," and depth == 0:
            parts.append("")
        else:
            parts[-1] += letter
    names = []
    for i, part in enumerate(parts, 1):
        words = re.findall(r"[A-Za-z_]\w*", part.split("=")[0].split("[")[0])
        names.append(words[-1] if len(words) > 1 else f"argument {i}")
    return names
