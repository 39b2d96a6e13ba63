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

import marshal
import os
import secrets
import tempfile
import threading
from dataclasses import dataclass
from pathlib import Path

from minillm.course import codec, jail, uids
from minillm.course import site as sites
from minillm.course.faults import KINDS, Fault, HarnessError
from minillm.course.probe import Isolation, measure
from minillm.course.process import Process, amount
from minillm.errors import UserError

__all__ = ["Child", "Fault", "HarnessError", "Isolation", "Limits", "Sandbox"]

SENT = ("child", "jail", "codec", "source", "watching")  # modules whose text goes to the process
PLANS = {  # from the strongest: what uses another user, and what does not
    "uid": [("jail", True), ("landlock", True), ("landlock", False), ("", False)],
    "same": [("landlock", True), ("landlock", False), ("", True), ("", False)],
}


@dataclass(frozen=True)
class Limits:
    """What a process may use.

    Attributes
    ----------
    seconds : of CPU time for a request
    memory : bytes of address space
    processes : that it may start
    printed : bytes on standard output and error together
    file_size : bytes of a file that it writes
    """

    seconds: float = 10.0
    memory: int = 2 << 30
    processes: int = 0
    printed: int = 1 << 20
    file_size: int = 16 << 20


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
        worker=0,
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


class Child:
    """A process of a student's; use in one thread, and within `with`.

    Attributes
    ----------
    printed : what it has printed so far
    seen : {function: {variable: value}} of the last request, see watching.py
    """

    def __init__(self, sandbox, contents, *, replace, drivers, limits, packages, environment, plan):
        self.plan, self.sandbox, self.contents, self.replace, self.drivers = (
            plan,
            sandbox,
            contents,
            replace,
            drivers,
        )
        self.limits, self.packages, self.environment = limits, packages, environment
        self.seen, self._before, self._process, self._folder = {}, "", None, None

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def printed(self):
        now = self._process.text if self._process else ""
        return (self._before + now)[: self.limits.printed]

    def ask(self, drive, case=None, *, watch=None, seconds=None, most=1 << 28):
        """What the driver of this name returns for a case; starts the process if there is none.

        Raises
        ------
        Fault
            when there is no answer, or what came is none.
        HarnessError
            when the process could not be set up.
        """
        self.seen, number = {}, secrets.randbits(62)
        request = {"number": number, "drive": drive, "case": case, "watch": watch}
        message = codec.encode(request)
        if self._process is None:
            self._process = self._start(self.plan or self.sandbox._plan()[0])
        seconds = self.limits.seconds if seconds is None else seconds
        try:
            data = self._process.exchange(message, seconds=seconds, most=most)
            try:
                reply = codec.decode(data, most)
                return self._result(reply, number)
            except (codec.CodecError, KeyError, TypeError, AttributeError, ValueError):
                text = (
                    "what came through the pipe is no answer: something wrote to the grader's pipe"
                )
                raise Fault("damaged", text) from None
        except Fault as fault:
            if fault.kind not in ("raised", "not implemented", "memory", "refused"):
                self.close()
            raise
        except BaseException:
            self.close()
            raise

    def _result(self, reply, number):
        if type(reply["number"]) is not int or reply["number"] != number:
            raise ValueError("another request's number")
        if fault := reply.get("fault"):
            raise self._fault(fault)
        seen, result = reply["seen"], reply["result"]
        if not all(isinstance(values, dict) for values in seen.values()):
            raise ValueError("what was seen is no table")
        self.seen = seen
        return result

    def _fault(self, fault):
        """The process's word for what went wrong: nothing depends on its being true."""
        kind, text, file, line = (fault[name] for name in ("kind", "text", "file", "line"))
        text = "".join(c for c in text[:400] if c.isprintable())
        file = file if file in self.contents else None
        line = line if type(line) is int and file else None
        where = f", at line {line} of {file}" if line else ""
        if kind == "memory":
            text = f"out of memory, of which it may use {amount(self.limits.memory)} ({text})"
        elif kind == "raised":
            text = f"raised {text}"
        elif kind == "not implemented":
            text, where = f"not implemented yet{where}", ""
        return Fault(kind if kind in KINDS else "raised", text + where, file, line)

    def close(self):
        """Kill the process and whatever it started, and remove its folder."""
        process, self._process = self._process, None
        if process:
            self._before = (self._before + process.text)[: self.limits.printed]
            process.end()
            if process.uid:
                uids.give_back(process.uid)
        folder, self._folder = self._folder, None
        if folder:
            folder.cleanup()

    def _start(self, plan):
        tier, files, network = plan
        uid = uids.take() if tier == "uid" else 0
        try:
            packages, site = self.sandbox._site(self.packages)
            if files == "jail":
                folder, site, scratch = jail.FOLDER, jail.PACKAGES, jail.SCRATCH
            else:
                folder, scratch = self._new_folder(uid)
            setup = {
                "sources": sources(),
                "drivers": self.drivers,
                "replace": self.replace,
                "environment": self._variables(scratch),
                "plan": {
                    "files": files,
                    "network": network,
                    "uid": uid,
                    "grader": os.getpid(),
                    "contents": self.contents,
                    "packages": packages,
                    "read": sites.readable(compiler=self.limits.processes > 0),
                    "hidden": sites.hidden(),
                    "folder": folder,
                    "site": site,
                    "scratch": scratch,
                    "scratch_bytes": 4 * self.limits.file_size,
                    "limits": self._limits(uid),
                },
            }
            return Process(marshal.dumps(setup), uid=uid, printed=self.limits.printed)
        except BaseException:
            if uid:
                uids.give_back(uid)
            self.close()
            raise

    def _new_folder(self, uid):
        """Where there is no jail: folders for the student's files and for what is written."""
        self._folder = tempfile.TemporaryDirectory(prefix="minillm-course-")
        os.chmod(self._folder.name, 0o711)
        paths = [
            os.path.join(os.path.realpath(self._folder.name), x) for x in ("student", "scratch")
        ]
        for path in paths:
            os.mkdir(path, 0o755)
        if uid:
            os.chown(paths[1], uid, uid)
        return paths

    def _variables(self, scratch):
        one = dict.fromkeys(("OPENBLAS_NUM_THREADS", "OMP_NUM_THREADS", "MKL_NUM_THREADS"), "1")
        places = dict.fromkeys(("HOME", "TMPDIR"), scratch)
        path = {"PATH": "/usr/local/bin:/usr/bin:/bin"} if self.limits.processes else {}
        return one | places | path | {"USER": "student", "LANG": "C.UTF-8"} | self.environment

    def _limits(self, uid):
        limits = self.limits
        processes = limits.processes
        if processes:  # the limit counts all processes of the user
            processes += 1 if uid else uids.count(os.getuid())
        return {
            "RLIMIT_AS": limits.memory,
            "RLIMIT_FSIZE": limits.file_size,
            "RLIMIT_NPROC": processes,
            "RLIMIT_CPU": int(100 * limits.seconds) + 10,
            "RLIMIT_NOFILE": 128,
            "RLIMIT_CORE": 0,
        }


def sources():
    """{module: text} of what runs in the process."""
    here = Path(__file__).parent
    return {f"minillm.course.{name}": (here / f"{name}.py").read_text("utf-8") for name in SENT}


def _make_site(packages):
    """The packages, and a temporary folder of links to them that stays while it is referred to."""
    holder = tempfile.TemporaryDirectory(prefix="minillm-course-")
    os.chmod(holder.name, 0o755)
    named = dict.fromkeys(["numpy", *(name for name in packages if name != sites.EMULATOR)])
    found = sites.packages_of(named)
    for name, path in found.items():
        os.symlink(path, os.path.join(holder.name, name))
    if sites.EMULATOR in packages:
        for name, data in sites.emulator_files().items():
            path = Path(holder.name, name)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(data)
            found[name.split("/")[0]] = str(Path(holder.name, name.split("/")[0]))
    return found, holder
