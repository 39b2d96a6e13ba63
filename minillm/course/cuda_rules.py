"""What a handed-in .cu file may not hold, found on its text before anything is compiled.

A kernel is compiled for the CPU and runs in the process that counts its traffic, so one that could
write to any address could write the counts it likes. Three things together keep it from that:

1. `refusal`: a file is macros and one kernel, in a part of CUDA C that is enough for the tasks. No
   `&`, so there is no address of a variable; an array is only ever written with all its indices, so
   the compiler knows each one's length and checks it; no backslash, no #include, no brackets in
   macros, so that what is read here is what the compiler will read.
2. `cuda_source.renamed`: every name that is neither the language's nor CUDA's gets a suffix. A name
   of the C library, of the emulator or of a compiler's builtin then means nothing: there is no list
   of bad names that could have a gap.
3. `checking(sealed=True)` of the emulator stops a launch at the first index outside an array and at
   the first write through a pointer that meets the machine's stacks.
"""

import itertools
import re
from typing import NoReturn

from minillm.course.cuda_source import (
    FUNCTIONS,
    INDICES,
    KERNEL,
    KNOWN,
    SUFFIX,
    CudaSourceError,
    Token,
    tokens,
)

__all__ = ["refusal"]

LONGEST = 1 << 16  # characters of a file
DIRECTIVES = {"define", "ifndef", "endif", "pragma", "error"}
WORDS = {  # that would come out as unknown names, and deserve a word of their own
    "asm": "inline assembly", "goto": "goto", "auto": "auto", "using": "using", "union": "a union",
    "typedef": "typedef", "namespace": "a namespace", "template": "a template", "class": "a class",
    "struct": "a struct", "operator": "an operator of your own", "new": "new", "static": "static",
    "reinterpret_cast": "a cast between pointers", "const_cast": "const_cast", "enum": "an enum",
    "thread_local": "thread_local", "volatile": "volatile", "decltype": "decltype",
    "__device__": "a function or variable beside the kernel",
    "__constant__": "a variable beside the kernel",
}  # fmt: skip


def refusal(text):
    """What a handed-in file may not hold, with its line; None where there is nothing."""
    try:
        if len(text) > LONGEST:
            raise CudaSourceError(f"the file has {len(text)} characters; {LONGEST} is the most")
        _check_letters(text)
        found = tokens(text)
        _check_directives(found)
        _check_words(found)
        _check_pointers(found)
        _check_file(found)
        _check_arrays(found)
    except CudaSourceError as error:
        return str(error)
    return None


def _refuse(token, what) -> NoReturn:
    raise CudaSourceError(f"line {token.row}: {what}")


def _check_letters(text):
    """What the compiler would read otherwise than we do."""
    for row, line in enumerate(text.split("\n"), 1):
        if line.rstrip().endswith("\\") or "??" in line:
            raise CudaSourceError(f"line {row}: a line may not go on in the next one")
        if re.search(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f]|\r.", line):
            raise CudaSourceError(f"line {row}: a control character")
        if SUFFIX in line:
            raise CudaSourceError(f"line {row}: names may not hold {SUFFIX}")


def _check_directives(found):
    for i, token in enumerate(found):
        if token.text != "#":
            continue
        line = [t for t in found[i + 1 :] if t.row == token.row and t.directive]
        if i and found[i - 1].row == token.row:
            _refuse(token, "# may stand at the beginning of a line only")
        name = line[0].text if line else ""
        if name not in DIRECTIVES:
            _refuse(token, f"#{name} is not for this assignment: no file is included")
        rest = line[1:]
        if name == "pragma" and (not rest or rest[0].text != "unroll" or len(rest) > 2):
            _refuse(token, "the only pragma is #pragma unroll")
        if name == "ifndef" and (
            len(rest) != 1 or _next(found, i, 3) != ["#", "define", rest[0].text]
        ):
            _refuse(token, "#ifndef NAME must have #define NAME on its next line")
        if name == "endif" and rest:
            _refuse(token, "#endif stands alone")
        if name == "define":
            _check_macro(token, rest)


def _next(found, i, count):
    """The first tokens of the line that follows a token's."""
    after = [t for t in found[i + 1 :] if t.row > found[i].row]
    return [t.text for t in after[:count]]


def _check_macro(token, rest):
    name = rest[0] if rest else None
    if name is None or name.kind != "name" or name.text in KNOWN or len(rest) < 2:
        _refuse(token, "#define needs a name of your own and a value")
    if rest[1].start == name.start + len(name.text):
        _refuse(name, "a macro may have no parameters here")
    depth = 0
    for piece in rest:
        depth += {"(": 1, ")": -1}.get(piece.text, 0)
        if piece.text in ("[", "]", "{", "}", ";", "#", "&") or depth < 0:
            _refuse(piece, f"a macro may not hold {piece.text}")
    if depth:
        _refuse(name, "a macro with a parenthesis that does not close")


def _check_words(found):
    macros = _macros(found)
    for i, token in enumerate(found):
        before, after = _text(found, i - 1), _text(found, i + 1)
        if token.kind == "string":
            fine = (before == "extern" and token.text == '"C"') or token.directive
            if not (fine or (before == "," and after == ")")):
                _refuse(token, "a text may not stand there")
        elif token.text in ("<", "%") and after in (":", "%", ">") and _touch(found, i):
            _refuse(token, f"{token.text}{after} is another way to write a bracket")
        elif token.text == ":" and after == ">" and _touch(found, i):
            _refuse(token, ":> is another way to write a bracket")
        elif token.text in ("::", "->"):
            _refuse(token, f"{token.text} is not for this assignment")
        elif token.kind == "name":
            if token.text in WORDS:
                _refuse(token, f"{WORDS[token.text]} is not for this assignment")
            if before == ".":
                if token.text not in "xyz" or _text(found, i - 2) not in INDICES:
                    _refuse(token, f".{token.text}: only threadIdx and its like have members")
            elif token.text not in KNOWN and token.text.startswith("__"):
                _refuse(token, f"{token.text} is not among CUDA's functions for this assignment")
            elif token.text.startswith("emu_"):
                _refuse(token, f"{token.text} is the emulator's own")
            own = token.text not in KNOWN and token.text not in macros
            if own and before != "." and after == "(" and not token.directive:
                _refuse(token, f"{token.text}() is not among the functions for this assignment")


def _check_pointers(found):
    for i, token in enumerate(found):
        after = _text(found, i + 1)
        if token.text == "&":
            _refuse(token, "& is not for this assignment: no addresses, and x % 32 for x & 31")
        if token.text == "*" and after in (")", ">"):
            _refuse(token, "a cast to a pointer is not for this assignment")


def _check_file(found):
    """Macros, constants, static_assert and one kernel: nothing else stands outside braces."""
    code = [t for t in found if not t.directive]
    kernels = [t for t in code if t.text == "__global__"]
    if len(kernels) != 1 or [t.text for t in code].count(KERNEL) != 1:
        token = (kernels or code or [Token("", "", 1, 0, False)])[-1]
        _refuse(token, f"there must be one kernel, named {KERNEL}")
    depth, i, done = 0, 0, False
    while i < len(code):
        token = code[i]
        if done:
            _refuse(token, "nothing may follow the kernel")
        if token.text in ("static_assert", "constexpr"):
            while i < len(code) and code[i].text != ";":
                if code[i].text in ("{", "}"):
                    _refuse(code[i], "a brace may not stand outside the kernel")
                i += 1
            i += 1
            continue
        head = [t.text for t in code[i : i + 4]]
        if head != ["extern", '"C"', "__global__", "void"]:
            _refuse(
                token, f'{token.text} may not stand outside the kernel, which starts extern "C"'
            )
        while i < len(code):
            depth += {"{": 1, "}": -1}.get(code[i].text, 0)
            i += 1
            if code[i - 1].text == "}" and depth == 0:
                done = True
                break
        if depth:
            _refuse(code[-1], "a brace is missing")
    for token in code[code.index(kernels[0]) + 1 :]:
        if token.text == "extern":
            _refuse(token, "extern stands in front of the kernel only")


def _check_arrays(found):
    """An array is always written with all its indices, so that it never becomes a pointer."""
    names = _macros(found)
    parameters, pointers = _parameters(found)
    counts: dict[str, dict[int, Token]] = {}
    for i, token in enumerate(found):
        if token.text == "[":
            if found[i - 1].kind != "name" and _text(found, i - 1) != "]":
                _refuse(token, "[ may follow a name or another index only")
            if found[i - 1].text in names:
                _refuse(token, f"{found[i - 1].text} is a macro, which may not be indexed")
        if token.kind == "name" and token.text not in KNOWN:
            if token.text in pointers and i not in parameters:
                _check_shadow(found, i)
            elif token.text not in pointers:
                counts.setdefault(token.text, {})[_indices(found, i)] = token
    for name, seen in counts.items():
        if len(seen) > 1:
            most = max(seen)
            token = seen[min(seen)]
            _refuse(
                token, f"{name} has {most} ind{'ex' if most == 1 else 'ices'} elsewhere: write all"
            )


def _check_shadow(found, i):
    """A pointer's name may not become an array's."""
    token, before = found[i], found[i - 1]
    if before.kind == "name" and before.text not in ("return", "else", "case", "do"):
        _refuse(token, f"{token.text} is the name of an argument already")
    if before.text == "," and _indices(found, i) and not _in_call(found, i):
        _refuse(token, f"{token.text} may not stand behind that comma")


def _in_call(found, i):
    """Whether a token lies within the parentheses of a function's arguments, or only grouped."""
    depth = 0
    for k in range(i - 1, -1, -1):
        depth += {")": 1, "]": 1, "(": -1, "[": -1}.get(found[k].text, 0)
        if depth < 0:
            return found[k].text == "(" and _text(found, k - 1) in FUNCTIONS
        if found[k].text in (";", "{", "}"):
            return False
    return False


def _indices(found, i):
    """How many indices in brackets follow a token."""
    count, k = 0, i + 1
    while _text(found, k) == "[":
        depth = 0
        while k < len(found):
            depth += {"[": 1, "]": -1}.get(found[k].text, 0)
            k += 1
            if depth == 0:
                break
        count += 1
    return count


def _parameters(found):
    """(indices of the tokens of the kernel's parameter list, its pointers' names)."""
    start = next(i for i, t in enumerate(found) if t.text == KERNEL and not t.directive)
    inside, depth, pointers = set(), 0, set()
    for i in range(start + 1, len(found)):
        depth += {"(": 1, ")": -1}.get(found[i].text, 0)
        inside.add(i)
        if depth == 0:
            break
        if found[i].text == "[":
            _refuse(found[i], "a parameter may not be an array")
        k = i - 1
        while found[k].text in ("__restrict__", "const"):
            k -= 1
        if found[i].kind == "name" and found[i].text not in KNOWN and found[k].text == "*":
            pointers.add(found[i].text)
    return inside, pointers


def _macros(found):
    """The names of the file's macros."""
    pairs = itertools.pairwise(found)
    return {b.text for a, b in pairs if a.text == "define" and a.directive}


def _text(found, i):
    return found[i].text if 0 <= i < len(found) else ""


def _touch(found, i):
    """Whether a token and the next one stand side by side."""
    return i + 1 < len(found) and found[i].start + len(found[i].text) == found[i + 1].start
