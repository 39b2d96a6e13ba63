"""Processes for students' code, and what each is kept from.

    sandbox = Sandbox()                       # the strongest isolation that this system allows
    print(sandbox.isolation.sentence)
    with sandbox.child({"layer_norm.py": text}, drivers=DRIVERS) as child:
        answer = child.ask("forward", case)   # a Fault says what happened instead

How strong it is depends on the system and is measured, never assumed: at the start a process tries
what an attack would (probe.py). In order of strength:

- root on Linux: another user for each process, in a jail (jail.py).
- root without the rights for a jail, as in many containers: another user, files by Landlock.
- a normal user on Linux: the grader's own user, files by Landlock, no network where the system
  lets a normal user have a namespace. A process of the same user may find a way to the grader's
  memory: for marks, use one of the two above.
- elsewhere: limits on time and memory only.
"""

import os
import tempfile
import threading
from pathlib import Path

from minillm.course import site as sites
from minillm.course.asking import Child, Limits
from minillm.course.faults import Fault, HarnessError
from minillm.course.probe import Isolation, measure
from minillm.errors import UserError

__all__ = ["Child", "Fault", "HarnessError", "Isolation", "Limits", "Sandbox"]

PLANS = {  # from the strongest: what uses another user, and what does not
    "uid": [("jail", True), ("landlock", True), ("landlock", False), ("", False)],
    "same": [("landlock", True), ("landlock", False), ("", True), ("", False)],
}


class Sandbox:
    """Starts students' processes; threads may share one.

    Parameters
    ----------
    packages : distributions that the code may import, with what they require; NumPy is always
        there. "minillm_kernels.emulator" stands for a copy of the emulator
    tier : "uid" for another user, "same" for the grader's own, None for the stronger that works
    """

    def __init__(self, packages=("numpy",), tier=None):
        if tier not in (None, "uid", "same"):
            raise UserError(f"isolation must be uid or same, got {tier!r}")
        self.packages, self.tier = tuple(packages), tier
        self._lock, self._found, self._sites = threading.RLock(), None, {}

    def __enter__(self):
        return self

    def __exit__(self, *error):
        self.close()

    def close(self):
        """Remove the folders that hold what the processes may import."""
        with self._lock:
            while self._sites:
                self._sites.popitem()[1][1].cleanup()

    @property
    def isolation(self):
        """What a process was kept from when it tried."""
        return self._plan()[1]

    def child(
        self,
        files,
        *,
        replace=None,
        drivers="",
        limits=None,
        packages=None,
        environment=None,
        plan=None,
    ):
        """A process for one task of one student, not yet started.

        Parameters
        ----------
        files : {name: text or bytes}, the student's folder; flat
        replace : {file: {qualified name: source}}, functions that are put in place of the student's
            before the file is imported
        drivers : text of a module, whose functions `ask` calls as f(modules, kept, case)
        packages : instead of the sandbox's
        environment : further variables
        """
        contents = {name: x.encode() if isinstance(x, str) else x for name, x in files.items()}
        return Child(
            self,
            contents,
            replace=replace or {},
            drivers=drivers,
            limits=limits or Limits(),
            packages=tuple(self.packages if packages is None else packages),
            environment=environment or {},
            plan=plan,
        )

    def _plan(self):
        """((tier, files, network), isolation): the first that works."""
        with self._lock:
            if self._found is None:
                self._found = self._try_plans()
            return self._found

    def _try_plans(self):
        root = hasattr(os, "geteuid") and os.geteuid() == 0
        tiers = [name for name in ("uid", "same") if self.tier in (None, name)]
        if not root:
            tiers = [name for name in tiers if name != "uid"]
        failed = "only root can become another user"
        for tier in tiers:
            for files, network in PLANS[tier]:
                try:
                    return (tier, files, network), measure(self, (tier, files, network))
                except (HarnessError, OSError) as error:
                    failed = str(error)
        if self.tier == "uid":
            raise UserError(f"no process can run as another user here: {failed}")
        raise HarnessError(failed)

    def _site(self, packages):
        """({name: path} of what the process may import, a folder that holds links to it)."""
        with self._lock:
            if packages not in self._sites:
                self._sites[packages] = _make_site(packages)
            found, holder = self._sites[packages]
            return found, os.path.realpath(holder.name)


def _make_site(packages):
    """The packages, and a temporary folder of links to them."""
    named = dict.fromkeys(["numpy", *(name for name in packages if name != sites.EMULATOR)])
    found = sites.packages_of(named)
    holder = tempfile.TemporaryDirectory(prefix="minillm-course-")
    os.chmod(holder.name, 0o755)
    for name, path in found.items():
        os.symlink(path, os.path.join(holder.name, name))
    if sites.EMULATOR in packages:
        for name, data in sites.emulator_files().items():
            path = Path(holder.name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            found[name.split("/")[0]] = str(Path(holder.name, name.split("/")[0]))
    return found, holder
