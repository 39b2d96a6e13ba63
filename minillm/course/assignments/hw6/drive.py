"""How hw6's functions are called: in little memory, and a Triton kernel in the interpreter."""

import ast
import os
import sys

import numpy as np


def in_little_memory(modules, kept, case):
    """An op's output and gradients, where the check leaves little memory."""
    f = getattr(modules(case["module"]), case["function"])
    try:
        out, cache = f(*case["args"], **case["kwargs"])
        if case.get("only") == "out":
            return {"out": out}
        grads = f.backward(case["dout"], cache)
    except MemoryError:
        return {"memory": True}
    return {"out": out, **dict(zip(case["gradients"], grads, strict=True))}


# ---- the Triton kernel: of the student's file the kernel alone is taken, and launched here

KERNEL = "forward_kernel"
PARAMETERS = (
    "q", "k", "v", "out", "log_sum", "T", "S", "scale", "CAUSAL", "ACC", "D", "PADDED_D", "BLOCK",
)  # fmt: skip
STATEMENTS = (ast.Assign, ast.AugAssign, ast.Expr, ast.If, ast.For, ast.Pass)
EXPRESSIONS = (
    ast.Name, ast.Constant, ast.Attribute, ast.Call, ast.keyword, ast.BinOp, ast.UnaryOp,
    ast.Compare, ast.BoolOp, ast.IfExp, ast.Subscript, ast.Slice, ast.Tuple, ast.List,
    ast.operator, ast.unaryop, ast.cmpop, ast.boolop, ast.expr_context,
)  # fmt: skip
LANGUAGE = {
    "abs", "arange", "broadcast_to", "cdiv", "dot", "exp", "exp2", "expand_dims", "float32",
    "float64", "fma", "full", "int32", "int64", "load", "log", "log2", "max", "maximum", "min",
    "minimum", "num_programs", "program_id", "range", "sqrt", "static_range", "store", "sum",
    "trans", "where", "zeros", "zeros_like",
}  # fmt: skip
ATTRIBUTES = {"T", "to", "dtype"}
BUILTINS = {"range", "float", "tl"}


class Refused(Exception):
    """A kernel that holds what a Triton kernel does not."""


class KernelError(Exception):
    """What went wrong inside a kernel, with the line of the student's file."""


def attend(modules, kept, case):
    """out and log_sum of one launch; what the kernel does not write stays nan."""
    os.environ["TRITON_INTERPRET"] = "1"
    if KERNEL not in kept:
        kept[KERNEL] = _kernel(sys.path[0])
    import torch
    import triton
    import triton.language as tl

    q, k, v = (torch.from_numpy(np.array(case[name])) for name in ("q", "k", "v"))
    (B, H, T, D), S, block = q.shape, k.shape[2], case["block"]
    out, log_sum = torch.full_like(q, float("nan")), torch.full((B, H, T), float("nan"))
    constants = {"CAUSAL": case["causal"], "ACC": tl.float32, "D": D, "BLOCK": block}
    constants["PADDED_D"] = max(16, triton.next_power_of_2(D))
    try:
        launch = kept[KERNEL][(triton.cdiv(T, block), B * H)]
        launch(q, k, v, out, log_sum, T, S, case["scale"], **constants)
    except Exception as error:
        raise KernelError(_told(error)) from None
    return {"out": out.numpy(), "log_sum": log_sum.numpy()}


def _told(error):
    """The first cause of the interpreter's error, and the kernel's line."""
    line = None
    while error is not None:
        first, trace = error, error.__traceback__
        while trace is not None:
            if os.path.basename(trace.tb_frame.f_code.co_filename) == f"{KERNEL}.py":
                line = trace.tb_lineno
            trace = trace.tb_next
        error = error.__cause__ or error.__context__
    text = " ".join(f"{type(first).__name__}: {first}".split())
    return f"line {line}: {text}" if line else text


def _kernel(folder):
    """The student's kernel, compiled without the rest of their file."""
    path = os.path.join(folder, "flash_attention_simple.py")
    with open(path, encoding="utf-8-sig") as file:
        text = file.read()
    found = [node for node in ast.parse(text, path).body if getattr(node, "name", "") == KERNEL]
    if len(found) != 1 or not isinstance(found[0], ast.FunctionDef):
        raise Refused(f"flash_attention_simple.py has no function {KERNEL}")
    (node,) = found
    for child in ast.walk(node):
        if isinstance(child, ast.Raise) and "NotImplementedError" in ast.dump(child):
            undone = "raise NotImplementedError"  # as if from there: it is the stub
            exec(compile("\n" * (child.lineno - 1) + undone, path, "exec"), {})
    _check(node)
    lines = text.splitlines(keepends=True)[node.lineno - 1 : node.end_lineno]
    head = "import triton; import triton.language as tl\n"
    alone = head + "\n" * max(0, node.lineno - 3) + "@triton.jit\n" + "".join(lines) + "\n"
    *imports, again = ast.parse(alone).body
    same = isinstance(again, ast.FunctionDef) and ast.dump(_bare(again)) == ast.dump(_bare(node))
    if len(imports) != 2 or not same:
        raise Refused(f"{KERNEL} must stand on lines of its own")
    _check(again)  # it is this text that runs
    place = os.path.join(os.environ["TMPDIR"], f"{KERNEL}.py")
    with open(place, "w", encoding="utf-8") as file:
        file.write(alone)
    namespace: dict = {"__name__": KERNEL}
    exec(compile(alone, place, "exec"), namespace)
    return namespace[KERNEL]


def _bare(node):
    return ast.Module([*node.args.args, *node.body], [])


def _check(node):
    """Refuse all but the language of Triton: its functions, the parameters, own variables."""
    arguments = node.args
    names = tuple(a.arg for a in arguments.args)
    if names != PARAMETERS or arguments.vararg or arguments.kwonlyargs or arguments.kwarg:
        raise Refused(f"{KERNEL}'s parameters must be {', '.join(PARAMETERS)}")
    if arguments.posonlyargs or arguments.defaults:
        raise Refused(f"{KERNEL}'s parameters have no defaults")
    said = [a.annotation for a in arguments.args] + [node.returns]
    kinds = {ast.unparse(x) for x in said if x is not None}  # these run when it is defined
    if kinds - {"tl.constexpr"} or getattr(node, "type_params", None):
        raise Refused(f"{KERNEL}'s parameters have no type but tl.constexpr")
    inside = [n for statement in node.body for n in ast.walk(statement)]
    own = {n.id for n in inside if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store)}
    if taken := own & BUILTINS:
        raise Refused(f"{KERNEL} gives {sorted(taken)[0]} another meaning")
    known = own | set(PARAMETERS) | BUILTINS
    for n in inside:
        told = None
        if not isinstance(n, (*STATEMENTS, *EXPRESSIONS)):
            told = f"{type(n).__name__} is not part of a Triton kernel here"
        elif isinstance(n, ast.Name) and n.id not in known:
            told = f"{n.id} is neither tl's, nor a parameter, nor a variable of its own"
        elif isinstance(n, ast.Attribute):
            of_tl = isinstance(n.value, ast.Name) and n.value.id == "tl"
            if n.attr not in (LANGUAGE if of_tl else ATTRIBUTES):
                told = f"{ast.unparse(n)[:60]} may not be used"
        elif isinstance(n, ast.Call):
            function = n.func
            plain = isinstance(function, ast.Name) and function.id in ("range", "float")
            if not plain and not isinstance(function, ast.Attribute):
                told = f"{ast.unparse(function)[:60]} may not be called"
        if told:
            raise Refused(f"line {getattr(n, 'lineno', node.lineno)}: {told}")
