"""What a student's process may read: the standard library, the named packages, and no minillm.

`packages_of` finds the folders of distributions and of all that they require. `readable` lists the
paths of the machine that any Python program needs, and `hidden` what lies among them and must not
be seen: other packages, and minillm itself wherever it is installed.
"""

import ast
import functools
import importlib
import importlib.metadata
import importlib.util
import os
import re
import site
import sys
import sysconfig
from pathlib import Path

from minillm.errors import UserError

__all__ = ["EMULATOR", "emulator_files", "hidden", "packages_of", "readable"]

EMULATOR = "minillm_kernels.emulator"
OURS = ("minillm", "minillm_kernels")


def packages_of(distributions):
    """{name in site-packages: its real path} of these distributions and what they require.

    Raises
    ------
    UserError
        when one that is named is not installed.
    """
    found: dict[str, str] = {}
    seen: set[str] = set()
    waiting = list(distributions)
    while waiting:
        name = re.sub(r"[-_.]+", "-", waiting.pop()).lower()
        if name in seen:
            continue
        seen.add(name)
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in {re.sub(r"[-_.]+", "-", x).lower() for x in distributions}:
                raise UserError(
                    f"this assignment needs the package {name}: pip install {name}"
                ) from None
            continue  # required by a package on another system
        waiting += [
            re.match(r"[\w.-]+", line)[0]  # type: ignore[index]
            for line in distribution.requires or ()
            if "extra ==" not in line
        ]
        folder = str(distribution.locate_file(""))
        for top in {file.parts[0] for file in distribution.files or ()}:
            if top in ("..", "__pycache__") or top.endswith(".pth") or top in OURS:
                continue
            if os.path.exists(path := os.path.join(folder, top)):
                found[top] = os.path.realpath(path)
    return found


def emulator_files():
    """{relative path: bytes} of what `import minillm_kernels.emulator` reads, and nothing else.

    Its scheduler is compiled here, once, rather than in each student's process.
    """
    roots = {}
    for name in OURS:
        spec = importlib.util.find_spec(name)
        if spec is None or not spec.submodule_search_locations:
            raise UserError(f"this assignment needs {name}, which is not installed")
        roots[name] = Path(spec.submodule_search_locations[0])
    files: dict[str, bytes] = {}

    def add(path, root):
        relative = f"{root}/{path.relative_to(roots[root]).as_posix()}"
        if relative not in files:
            files[relative] = path.read_bytes()
            if path.suffix == ".py":
                follow(ast.parse(files[relative]))

    def follow(tree):
        for node in tree.body:
            names = [node.module] if isinstance(node, ast.ImportFrom) else []
            if isinstance(node, ast.ImportFrom):
                names += [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                names += [alias.name for alias in node.names]
            for name in names:
                module(str(name))

    def module(name):
        root, *parts = name.split(".")
        if root not in roots:
            return
        for depth in range(len(parts) + 1):
            path = roots[root].joinpath(*parts[:depth])
            for file in (path / "__init__.py", path.with_suffix(".py")):
                if file.is_file():
                    add(file, root)

    module(EMULATOR)
    emulator = roots["minillm_kernels"] / "emulator"
    for path in sorted(
        [*emulator.glob("*.py"), *emulator.glob("src/*"), *emulator.glob("include/*")]
    ):
        if path.is_file():
            add(path, "minillm_kernels")
    runtime = Path(importlib.import_module(f"{EMULATOR}.build").build_runtime())
    for path in (runtime, runtime.with_suffix(".json")):
        files[f"minillm_kernels/emulator/built/{path.name}"] = path.read_bytes()
    return files


@functools.cache
def readable(compiler=False):
    """Paths of Python's standard library, the system's libraries and, if asked, its compiler."""
    paths = _library()
    if sys.base_prefix != "/usr":
        paths.append(os.path.dirname(paths[0]))  # its shared libraries
    triplet = sysconfig.get_config_var("MULTIARCH") or "none"
    if compiler or not os.path.isdir(f"/usr/lib/{triplet}"):
        paths += ["/lib", "/usr/lib", "/usr/libexec"]
    else:  # Debian keeps libraries apart from what else there is
        paths += [f"/lib/{triplet}", f"/usr/lib/{triplet}"]
    paths += ["/lib64", "/usr/lib64"]
    paths += ["/etc/ld.so.cache", "/etc/ld.so.conf", "/etc/ld.so.conf.d", "/etc/localtime"]
    paths += ["/System/Library", "/usr/share/zoneinfo"]
    if compiler:
        paths += ["/bin", "/usr/bin", "/usr/include", "/etc/alternatives"]
        paths += ["/usr/local/bin", "/usr/local/include"]
    return list(dict.fromkeys(path for path in paths if os.path.exists(path)))


@functools.cache
def hidden():
    """Folders of other packages, and of minillm, as real paths."""
    folders = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    folders |= set(site.getsitepackages()) | {site.getusersitepackages()}
    roots = [*_library(), os.path.dirname(_library()[0]), "/usr/lib", "/usr/local/lib"]
    for root in roots:
        for pattern in ("*-packages", "python*/*-packages", "python*/*/*-packages"):
            folders |= {str(path) for path in Path(root).glob(pattern)}
    library = {os.path.realpath(path) for path in _library()}
    folders |= {path for path in sys.path if path and os.path.realpath(path) not in library}
    for name in OURS:
        spec = importlib.util.find_spec(name)
        folders |= set(spec.submodule_search_locations or ()) if spec else set()
    return sorted({os.path.realpath(path) for path in folders if os.path.isdir(path)})


def _library():
    """The standard library, and the folder of its compiled modules."""
    home = os.path.dirname(os.__file__)
    compiled = [path for path in sys.path if os.path.basename(path) == "lib-dynload"]
    return list(dict.fromkeys([home, *compiled]))
