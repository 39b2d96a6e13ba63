"""Surgery on the text of a .cu file, as source.py does it for Python: tokens, a kernel's body.

Only the standard library.
"""

import re
from dataclasses import dataclass

__all__ = [
    "CudaSourceError",
    "Token",
    "renamed",
    "statements",
    "stub",
    "tokens",
    "untold",
]

SUFFIX = "_own"
TOKEN = re.compile(
    r"""(?P<space>[ \t\r\n]+)
    | (?P<comment>//[^\n]*|/\*.*?\*/)
    | (?P<string>"[^"\n]*")
    | (?P<name>[A-Za-z_]\w*)
    | (?P<number>\.?\d(?:[eEpP][+-]|[\w.])*)
    | (?P<sign><<=|>>=|::|->|\+\+|--|<<|>>|&&|\|\||[-+*/%&|^<>=!]=|[-+*/%&|^<>=!~?:;,.(){}[\]#])""",
    re.X | re.S | re.A,
)
TYPES = {"bool", "char", "double", "float", "int", "long", "short", "signed", "unsigned", "void"}
TYPES |= {"size_t", "const", "constexpr"}
LANGUAGE = {
    "break", "case", "continue", "default", "do", "else", "extern", "false", "for", "if", "return",
    "sizeof", "static_assert", "switch", "true", "while",
}  # fmt: skip
QUALIFIERS = {"__global__", "__shared__", "__launch_bounds__", "__restrict__"}
FUNCTIONS = {
    "__syncthreads", "__syncwarp", "__shfl_sync", "__shfl_up_sync", "__shfl_down_sync",
    "__shfl_xor_sync", "fmaf", "fma", "min", "max",
}  # fmt: skip
INDICES = {"threadIdx", "blockIdx", "blockDim", "gridDim"}
KERNEL = "matmul"
KNOWN = TYPES | LANGUAGE | QUALIFIERS | FUNCTIONS | INDICES | {KERNEL}


class CudaSourceError(ValueError):
    """A text that cannot be read, or holds what it may not; says where."""


@dataclass(frozen=True)
class Token:
    """One piece of a text; `row` is its line, `directive` whether that line starts with #."""

    kind: str
    text: str
    row: int
    start: int
    directive: bool


def tokens(text):
    """The tokens of a text, without white space and comments.

    Raises
    ------
    CudaSourceError
        for a character that is none of the language's.
    """
    found: list[Token] = []
    position, row, directive = 0, 1, False
    while position < len(text):
        match = TOKEN.match(text, position)
        if match is None:
            raise CudaSourceError(f"line {row}: {text[position]!r} may not stand there")
        kind, piece = str(match.lastgroup), match[0]
        if piece == "/" and text.startswith("/*", position):
            raise CudaSourceError(f"line {row}: a comment that does not end")
        if kind not in ("space", "comment"):
            if piece == "#":
                directive = True
            found.append(Token(kind, piece, row, position, directive))
        if "\n" in piece:
            if directive and kind == "comment":
                raise CudaSourceError(f"line {row}: a comment goes on past the line of a #")
            row, directive = row + piece.count("\n"), False
        position = match.end()
    return found


def body_of(text):
    """(first, end) of the text between the braces of the file's kernel."""
    found = tokens(text)
    kernel = next((i for i, t in enumerate(found) if t.text == "__global__"), None)
    depth, start = 0, None
    for token in found[kernel:] if kernel is not None else []:
        if token.text == "{" and not token.directive:
            depth += 1
            start = token.start + 1 if start is None else start
        elif token.text == "}" and not token.directive:
            depth -= 1
            if depth == 0 and start is not None:
                return start, token.start
    raise CudaSourceError("there is no __global__ function with a body")


def stub(text, message):
    """The text with the kernel's body replaced by an #error that says `message`."""
    start, end = body_of(text)
    return f'{text[:start]}\n#error "{message}"\n{text[end:]}'


def untold(text):
    """The message of a `stub` that is still in the text, or None."""
    found = re.search(r'^[ \t]*#[ \t]*error[ \t]+"(not implemented: [\w ]+)"', text, re.M)
    return found[1] if found else None


def statements(text):
    """The statements of the kernel's body without layout and comments, as a set.

    A statement ends at a semicolon; the head of a loop is one too. What computes nothing, as
    `return;` and a barrier, is left out.
    """
    start, end = body_of(text)
    found: set[str] = set()
    piece: list[str] = []
    depth = 0
    for token in tokens(text[start:end]):
        if token.directive:
            continue
        value = depth or (piece and piece[-1] == "=")  # x = {}; is one statement
        depth += {"(": 1, "[": 1, ")": -1, "]": -1}.get(token.text, 0)
        depth += {"{": 1, "}": -1}.get(token.text, 0) if value else 0
        if not (token.text in ("{", "}", ";") and depth == 0) or (value and token.text == "}"):
            piece.append(token.text)
            head = piece[0] in ("for", "if", "while") and token.text == ")"
            if not (head and depth == 0):
                continue
        found.add(" ".join(piece))
        piece = []
    return {s for s in found if re.search(r"[-+*/%<>=\[]", s)}


def renamed(text):
    """The text with a suffix on each of the student's own names; lines stay where they are."""
    out, position, before = [], 0, ""
    for token in tokens(text):
        directive = token.directive and before == "#"
        known = token.text in KNOWN or (token.directive and token.text == "unroll")
        if token.kind == "name" and not (directive or known or before == "."):
            out.append(text[position : token.start] + token.text + SUFFIX)
            position = token.start + len(token.text)
        before = token.text
    return "".join([*out, text[position:]])


def plain(message):
    """A message of the compiler or the emulator with the student's own names again."""
    return re.sub(rf"(?<=\w){SUFFIX}\b", "", message)
