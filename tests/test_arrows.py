"""The arrows of DESIGN.md: who may import whom, read from the files themselves."""

import ast
import graphlib
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KERNELS = {"kernels", "minillm_kernels"}
HELPERS = {"cores", "errors", "files", "lines", "tree"}  # for everybody but ops

# A room imports its own level or a lower one, and no two rooms import one another.
LEVELS = dict.fromkeys(HELPERS, 0) | {"ops": 1, "gradcheck": 1, "": 1}
LEVELS |= dict.fromkeys(("models", "tokenizers", "data", "optim", "metrics"), 2)
LEVELS |= dict.fromkeys(("course", "bench", "demo", "training", "generation", "viz"), 3)
LEVELS |= {"cli": 4, "__main__": 5}
ALONE = {"ops": {"tree"}, "gradcheck": {"errors", "tree"}}
ALONE |= {helper: set() for helper in HELPERS - {"files"}}


def room_of(path, package):
    """The first part of a file's path below the package; "" is the package's own __init__."""
    first = path.relative_to(package).parts[0].removesuffix(".py")
    return "" if first == "__init__" else first


def imported_modules(source):
    """Every module that a source imports, wherever in the file; refuses relative imports."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute, so that an arrow can be read"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)


def imported_rooms(source, rooms):
    """The rooms of minillm that a source imports, and "kernels" for what stands outside of it."""
    for module in imported_modules(source):
        first, *rest = module.split(".")
        if first in KERNELS:
            yield "kernels"
        elif first == "minillm":
            yield rest[0] if rest and rest[0] in rooms else ""


def broken_arrow(room, target):
    """What is wrong with `room` importing `target`, or None."""
    if target == room:
        return None
    if target == "kernels":
        return f"minillm/{room} imports the kernels; they come through the registry"
    if room in ALONE and target not in ALONE[room]:
        return f"minillm/{room} stands alone, but imports minillm.{target}"
    if LEVELS[target] > LEVELS[room]:
        return f"minillm/{room} imports minillm.{target}, against the arrow"
    return None


def all_arrows():
    package = ROOT / "minillm"
    files = sorted(package.rglob("*.py"))
    rooms = {room_of(path, package) for path in files} - {""}
    for path in files:
        for target in imported_rooms(path.read_text(encoding="utf-8"), rooms):
            yield path.relative_to(ROOT).as_posix(), room_of(path, package), target


# What each room of the kernels may take of minillm; bench and the commands take what they measure.
KERNEL_ROOMS = {
    "emulator": HELPERS,
    "cuda": {"ops", *HELPERS},
    "triton": {"ops", "optim", *HELPERS},
}


def test_the_kernels_know_their_specification_and_little_else():
    package = ROOT / "kernels" / "minillm_kernels"
    rooms = LEVELS.keys() - {""}
    seen, wrong = set(), []
    for path in sorted(package.rglob("*.py")):
        room = room_of(path, package)
        for target in imported_rooms(path.read_text(encoding="utf-8"), rooms):
            if room in KERNEL_ROOMS and target not in {"kernels", *KERNEL_ROOMS[room]}:
                wrong.append(f"{path.relative_to(ROOT)} imports minillm.{target}")
            seen.add((room, target))
    assert ("triton", "ops") in seen, "the reader of imports reads nothing"
    assert not wrong


def test_every_room_has_a_level():
    package = ROOT / "minillm"
    assert {room_of(path, package) for path in package.rglob("*.py")} <= LEVELS.keys()


def test_arrows_point_one_way():
    arrows = list(all_arrows())
    assert ("minillm/__init__.py", "", "ops") in arrows, "the reader of imports reads nothing"
    wrong = {f"{path}: {why}" for path, *arrow in arrows if (why := broken_arrow(*arrow))}
    assert not wrong, "\n".join(sorted(wrong))


def test_no_two_rooms_import_one_another():
    graph = {}
    for _, room, target in all_arrows():
        if room and target and room != target:
            graph.setdefault(room, set()).add(target)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, naming the rooms


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("ops", "from minillm.models import gpt"),
        ("ops", "import minillm.errors"),
        ("ops", "from minillm import backend"),
        ("ops", "def late():\n    from minillm.training.trainer import Trainer"),
        ("gradcheck", "import minillm.ops.linear"),
        ("gradcheck", "from minillm import ops"),
        ("models", "from minillm.training import trainer"),
        ("models", "from minillm import generation"),
        ("training", "import minillm_kernels.emulator"),
        ("models", "from kernels.minillm_kernels import layer_norm"),
        ("bench", "from minillm.cli import main"),
        ("tree", "from minillm.ops import linear"),
    ],
)
def test_a_wrong_arrow_is_found(room, source):
    targets = list(imported_rooms(source, LEVELS.keys()))
    assert any(broken_arrow(room, target) for target in targets)


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("ops", "import numpy as np\nfrom minillm.ops._op import op"),
        ("models", "from minillm import ops\nfrom minillm.tree import leaves"),
        ("training", "from minillm.models import gpt"),
        ("cli", "from minillm.course import release"),
        ("gradcheck", "from minillm.tree import leaves"),
        ("viz", "import importlib\nimportlib.import_module('minillm_kernels.emulator')"),
    ],
)
def test_a_right_arrow_is_let_through(room, source):
    targets = list(imported_rooms(source, LEVELS.keys()))
    assert not any(broken_arrow(room, target) for target in targets)


def test_a_relative_import_is_found():
    with pytest.raises(AssertionError, match="imports are absolute"):
        list(imported_rooms("from ..models import gpt", LEVELS.keys()))
