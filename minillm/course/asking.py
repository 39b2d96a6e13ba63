"""A student's process as the grader sees it: ask it something, and get an answer or a Fault."""

import functools
import marshal
import os
import secrets
import tempfile
from dataclasses import dataclass
from pathlib import Path

from minillm.course import codec, jail, uids
from minillm.course import site as sites
from minillm.course.faults import Fault
from minillm.course.process import Process, amount

__all__ = ["Child", "Limits"]

SENT = ("child", "jail", "codec", "source", "watching")  # modules whose text goes to the process
REPLIES = ("raised", "not implemented", "memory", "refused")  # faults that the process tells itself


@dataclass(frozen=True)
class Limits:
    """What a process may use.

    Attributes
    ----------
    seconds : of CPU time for a request
    memory : bytes of address space
    processes : that it may start, threads included
    printed : bytes on standard output and error together
    file_size : bytes of a file that it writes
    """

    seconds: float = 10.0
    memory: int = 2 << 30
    processes: int = 0
    printed: int = 1 << 20
    file_size: int = 16 << 20


class Child:
    """A process of a student's; use in one thread, and within `with`.

    Attributes
    ----------
    printed : what it has printed since the last `forget`
    cpu : seconds of CPU time that the last request took, 0.0 where the system does not say
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
        self.seen, self.cpu = {}, 0.0
        self._before, self._process, self._folder = "", None, None
        self._forgotten = self.spare = 0

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.close()

    @property
    def printed(self):
        """What has been printed since the last `forget`, also by processes that a Fault ended."""
        return self._all_printed()[self._forgotten :]

    def forget(self):
        """What has been printed so far belongs to an earlier check."""
        self._forgotten = len(self._all_printed())

    def _all_printed(self):
        now = self._process.text if self._process else ""
        return (self._before + now)[: self.limits.printed]

    @property
    def pid(self):
        """The number of the process, None while there is none."""
        return self._process.popen.pid if self._process else None

    def tighten(self, spare):
        """From now on new processes, which may take `spare` bytes more than they begin with.

        The limit stands before the student's code is read, which so can neither get at it nor put
        memory by. 0 lifts it. Without effect where the system has no such limit.
        """
        self.close()
        self.spare = spare

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
            self.cpu = self._process.cpu
            try:
                reply = codec.decode(data, most)
                return self._result(reply, number)
            except (codec.CodecError, KeyError, TypeError, AttributeError, ValueError):
                text = (
                    "what came through the pipe is no answer: something wrote to the grader's pipe"
                )
                raise Fault("damaged", text) from None
        except Fault as fault:
            if fault.kind not in REPLIES:
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
            if text.startswith("ModuleNotFoundError"):
                named = ", ".join(name for name in self.packages if "." not in name)
                text += f"; there are the standard library, the handout's files and {named}"
            text = f"raised {text}"
        elif kind == "not implemented":
            text, where = f"not implemented yet{where}", ""
        return Fault(kind if kind in REPLIES else "raised", text + where, file, line)

    def close(self):
        """Kill the process and whatever it started, and remove its folder."""
        process, self._process = self._process, None
        if process:
            self._before = (self._before + process.text)[: self.limits.printed]
            process.end()
        folder, self._folder = self._folder, None
        if folder:
            folder.cleanup()

    def _start(self, plan):
        tier, files, network = plan
        uid = uids.take() if tier == "uid" else 0
        try:
            setup = marshal.dumps(self._setup(files, network, uid))
        except BaseException:
            uids.give_back(uid)
            self.close()
            raise
        try:
            limits = self.limits
            return Process(setup, uid=uid, printed=limits.printed, starts=limits.processes > 0)
        except BaseException:
            self.close()
            raise

    def _setup(self, files, network, uid):
        """What the process is told: all of jail.py's plan, and the texts that it runs."""
        packages, site = self.sandbox._site(self.packages)
        if files == "jail":
            folder, site, scratch = jail.FOLDER, jail.PACKAGES, jail.SCRATCH
        else:
            folder, scratch = self._new_folder(uid)
        plan = {
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
        }
        return {
            "plan": plan,
            "sources": sources(),
            "spare": self.spare,
            "drivers": self.drivers,
            "replace": self.replace,
            "environment": self._variables(scratch),
        }

    def _new_folder(self, uid):
        """Where there is no jail: folders for the student's files and for what is written."""
        self._folder = tempfile.TemporaryDirectory(
            prefix="minillm-course-", ignore_cleanup_errors=True
        )
        if uid:  # another student's process is neither this user nor in this group
            os.chown(self._folder.name, 0, uid)
            os.chmod(self._folder.name, 0o710)
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


@functools.cache
def sources():
    """{module: text} of what runs in the process."""
    here = Path(__file__).parent
    return {f"minillm.course.{name}": (here / f"{name}.py").read_text("utf-8") for name in SENT}
