"""`minillm course bundle`: an assignment's grader as one .zip, for Gradescope or for a container.

https://gradescope-autograders.readthedocs.io/en/latest/specs/ asks for setup.sh and run_autograder
at the top of the archive, which is unpacked to /autograder/source. The same input gives the same
bytes: names in order, dates fixed.
"""

import importlib.metadata
import importlib.util
import io
import json
import re
import sys
import zipfile
from pathlib import Path

from minillm.course.autograding import zero_grade, zero_json
from minillm.course.site import EMULATOR
from minillm.errors import UserError
from minillm.files import new_folder, write_bytes

__all__ = ["bundle", "bundle_files", "pinned"]

TEMPLATES = Path(__file__).parent / "autograder"
SCRIPTS = ("setup.sh", "run_autograder")
DISTRIBUTION = "minillm-numpy"
LEFT_OUT = {"__pycache__", "node_modules"}
ENDINGS = {".py", ".toml", ".md", ".cpp", ".h", ".cu", ".json", ".sh", ""}
DATE = (1980, 1, 1, 0, 0, 0)  # the earliest that a zip can hold


def bundle(assignment, to):
    """Write the bundle of an assignment to a .zip or into a new folder.

    Returns
    -------
    said : str, one line on what was written

    Raises
    ------
    UserError
        where a package that is needed is not installed, or nothing can be written there.
    """
    to, files = Path(to), bundle_files(assignment)
    if to.suffix.lower() == ".zip":
        write_bytes(to, _zipped(files))
    else:
        with new_folder(to) as folder:
            for name, data in files.items():
                path = folder / name
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_bytes(data)
                path.chmod(0o755 if name in SCRIPTS else 0o644)
    size = sum(map(len, files.values()))
    return (
        f"{to}: {len(files)} files, {size / 1e6:.1f} MB. It holds the solutions: see its README.md"
    )


def bundle_files(assignment):
    """{name: bytes} of everything in a bundle, in order."""
    needs_kernels = _needs_kernels(assignment)
    packages = ["minillm", "minillm_kernels"] if needs_kernels else ["minillm"]
    own = not _is_ours(assignment)
    files = {f"packages/{name}": data for p in packages for name, data in _package(p).items()}
    if own:
        for name, data in _tree(assignment.folder).items():
            files[f"assignment/{assignment.name}/{name}"] = data
    for name, text in _filled(assignment, needs_kernels).items():
        files[name] = text.encode()
    files["requirements.txt"] = "\n".join([*pinned(assignment.packages), ""]).encode()
    files["zero.json"] = zero_json(assignment).encode()
    table = {"assignment": assignment.name, "version": assignment.version, "own": own}
    files["bundle.json"] = (json.dumps(table) + "\n").encode()
    return dict(sorted(files.items()))


def pinned(packages=()):
    """name==version of all that minillm and some packages need, as installed here."""
    found: dict[str, str] = {}
    named = [DISTRIBUTION, *(name for name in packages if name != EMULATOR)]
    waiting = list(named)
    while waiting:
        name = waiting.pop()
        key = re.sub(r"[-_.]+", "-", name).lower()
        if key in found:
            continue
        try:
            distribution = importlib.metadata.distribution(name)
        except importlib.metadata.PackageNotFoundError:
            if name in named:
                raise UserError(f"a bundle pins what is installed: pip install {name}") from None
            continue  # required on another system only
        found[key] = distribution.version.partition("+")[0]  # 2.13.0+cpu is a build of 2.13.0
        for line in distribution.requires or ():
            if "extra ==" not in line:
                waiting.append(re.split(r"[^\w.-]", line, maxsplit=1)[0])
    del found[DISTRIBUTION]
    return [f"{name}=={version}" for name, version in sorted(found.items())]


def _filled(assignment, needs_kernels):
    """The templates, with what they say about this assignment."""
    words = {
        "@NAME@": assignment.name,
        "@TITLE@": assignment.title,
        "@VERSION@": assignment.version,
        "@POINTS@": f"{zero_grade(assignment).points:g}",
        "@MINOR@": f"{sys.version_info.major}.{sys.version_info.minor}",
        "@SYSTEM@": "g++" if EMULATOR in assignment.packages else "",
        "@KERNELS@": " and minillm_kernels" if needs_kernels else "",
    }
    found = {}
    for path in sorted(TEMPLATES.iterdir()):
        if path.is_file() and path.suffix != ".pyc":
            text = path.read_text(encoding="utf-8")
            for word, value in words.items():
                text = text.replace(word, value)
            found[path.name] = text
    return found


def _needs_kernels(assignment):
    parts = [part for task in assignment.tasks for part in task.parts]
    return EMULATOR in assignment.packages or any(p.startswith("minillm_kernels") for p in parts)


def _is_ours(assignment):
    return assignment.folder == (Path(__file__).parent / "assignments" / assignment.name).resolve()


def _package(name):
    spec = importlib.util.find_spec(name)
    if spec is None or not spec.submodule_search_locations:
        raise UserError(f"this assignment needs the package {name}, which is not installed")
    folder = Path(spec.submodule_search_locations[0])
    return {f"{name}/{inside}": data for inside, data in _tree(folder).items()}


def _tree(folder):
    """{relative name: bytes} of the source files below a folder."""
    found = {}
    for path in sorted(Path(folder).rglob("*")):
        inside = path.relative_to(folder)
        hidden = any(part in LEFT_OUT or part.startswith(".") for part in inside.parts)
        if path.is_file() and not hidden and path.suffix in ENDINGS:
            found[inside.as_posix()] = path.read_bytes()
    return found


def _zipped(files):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, data in files.items():
            info = zipfile.ZipInfo(name, DATE)
            info.compress_type = zipfile.ZIP_DEFLATED
            info.create_system = 3  # Unix, whose rights these are
            info.external_attr = (0o100755 if name in SCRIPTS else 0o100644) << 16
            archive.writestr(info, data)
    return buffer.getvalue()
