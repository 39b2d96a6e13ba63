"""One process of a student's, seen from the grader: messages with deadlines, and its end.

Nothing that the process does can hold the grader up: every pipe is read without waiting, no more of
it than was allowed for, and a clock runs.
"""

import contextlib
import os
import select
import signal
import subprocess
import sys
import time

from minillm.course import uids
from minillm.course.faults import Fault, HarnessError

__all__ = ["Process"]

START_SECONDS = 60  # of wall clock, on a machine that is busy
TICK = 0.05  # seconds between two looks at the clock of the process
BOOT = """
import marshal, os, sys, types
def take(size):
    data = b""
    while len(data) < size:
        part = os.read(0, size - len(data))
        if not part:
            os._exit(3)
        data += part
    return data
setup = marshal.loads(take(int.from_bytes(take(8), "little")))
def load(name):
    module = sys.modules[name] = types.ModuleType(name)
    exec(compile(setup["sources"][name], "<" + name + ">", "exec"), module.__dict__)
    return module
for name in ("minillm", "minillm.course"):
    sys.modules[name] = types.ModuleType(name)
load("minillm.course.child").serve(setup, load)
"""


class Process:
    """A started process whose isolation stands; HarnessError if it could not be set up.

    Parameters
    ----------
    setup : bytes, what it is told before anything else
    uid : the user that it will become, from uids.take and given back here; 0 for the grader's own
    printed : the most bytes that it may print
    starts : whether it may start processes, which then have to be found and ended

    Attributes
    ----------
    cpu : seconds of CPU time that the last exchange took
    """

    def __init__(self, setup, *, uid, printed, starts):
        self.uid, self.starts = uid, starts
        self.most_printed, self.printed = printed, bytearray()
        self.cpu, self.ended = 0.0, False
        command = [sys.executable, "-I", "-S", "-c", BOOT]
        pipe = subprocess.PIPE
        try:
            self.popen = subprocess.Popen(
                command, stdin=pipe, stdout=pipe, stderr=pipe, env={}, bufsize=0,
                start_new_session=True,
            )  # fmt: skip
        except BaseException:
            uids.give_back(uid)
            raise
        pipes = (self.popen.stdin, self.popen.stdout, self.popen.stderr)
        self.requests, self.replies, self.output = (p.fileno() for p in pipes if p)
        for handle in (self.requests, self.replies, self.output):
            os.set_blocking(handle, False)
        try:
            ready = self.exchange(setup, seconds=START_SECONDS, most=1 << 16)
        except Fault as fault:
            said = f" ({self.text.strip().splitlines()[-1]})" if self.text.strip() else ""
            self.end()
            raise HarnessError(f"a student's process did not start: {fault}{said}") from None
        except BaseException:
            self.end()
            raise
        if ready != b"ready":
            self.end()
            raise HarnessError(
                f"a student's process was not isolated: {ready.decode(errors='replace')}"
            )

    @property
    def text(self):
        """What it has printed so far."""
        return self.printed.decode(errors="replace")

    def exchange(self, message, *, seconds, most):
        """Send a message and wait for the reply's bytes; after a Fault the process has ended."""
        try:
            return self._exchange(message, seconds, most)
        except BaseException:
            self.end()
            raise

    def _exchange(self, message, seconds, most):
        waiting = memoryview(len(message).to_bytes(8, "little") + message)
        clock, reply, size = _Clock(self.popen.pid, seconds), bytearray(), None
        poll = select.poll()
        for handle in (self.replies, self.output):
            poll.register(handle, select.POLLIN)
        poll.register(self.requests, select.POLLOUT)
        while True:
            for handle, _ in poll.poll(1000 * TICK):
                if handle == self.requests:
                    waiting = self._write(waiting)
                    if not waiting:
                        poll.unregister(handle)
                elif handle == self.output:
                    if not self._drain():
                        poll.unregister(handle)
                elif not self._read(reply, 8 if size is None else 8 + size):
                    raise self._ended()
            if size is None and len(reply) == 8:
                size = int.from_bytes(reply, "little")
                if size > most:
                    raise Fault("too large", f"its answer has more than {amount(most)}")
            if size is not None and len(reply) == 8 + size:
                self._drain()
                self.cpu = clock.cpu_seconds()
                return bytes(memoryview(reply)[8:])
            clock.check()

    def _write(self, waiting):
        try:
            return waiting[os.write(self.requests, waiting[: 1 << 16]) :]
        except BlockingIOError:
            return waiting
        except OSError:  # it closed its end: the reply, or its absence, will tell
            return waiting[:0]

    def _read(self, reply, wanted):
        """Take what there is of a reply, up to `wanted` bytes in all; False at the pipe's end."""
        try:
            part = os.read(self.replies, min(wanted - len(reply), 1 << 20))
        except BlockingIOError:
            return True
        reply += part
        return bool(part)

    def _drain(self):
        """Take what was printed; False at the end. A Fault beyond what may be printed."""
        try:
            part = os.read(self.output, 1 << 16)
        except BlockingIOError:
            return True
        self.printed += part[: self.most_printed - len(self.printed) + 1]
        if len(self.printed) > self.most_printed:
            del self.printed[self.most_printed :]
            raise Fault("printed", f"it printed more than {amount(self.most_printed)}")
        return bool(part)

    def _ended(self):
        """The fault of a process that has closed its pipe."""
        try:
            code = self.popen.wait(1)
        except subprocess.TimeoutExpired:
            return Fault("damaged", "it closed the grader's pipe before it answered")
        with contextlib.suppress(Fault):
            while self._drain() and select.select([self.output], [], [], 0)[0]:
                pass
        if code < 0:
            with contextlib.suppress(ValueError):
                name = signal.Signals(-code).name
                return Fault("ended", f"its process was ended by signal {-code} ({name})")
        return Fault("ended", f"its process ended with exit code {code} before it answered")

    def end(self):
        """Kill the process, its group and whatever else runs as its user."""
        if self.ended:
            return
        self.ended = True
        if self.popen.returncode is None:
            # not yet waited for, so the number is still its own
            with contextlib.suppress(ProcessLookupError, PermissionError):
                os.killpg(self.popen.pid, signal.SIGKILL)
            self.popen.kill()
            self.popen.wait()
        for pipe in (self.popen.stdin, self.popen.stdout, self.popen.stderr):
            if pipe:
                pipe.close()
        try:
            clean = not self.starts or not self.uid or uids.end_all(self.uid)
        except OSError as error:
            raise HarnessError(str(error)) from None
        if clean:
            uids.give_back(self.uid)


class _Clock:
    """Seconds of CPU that a request takes; and of waiting, as a backstop."""

    def __init__(self, pid, seconds):
        self.pid, self.seconds = pid, seconds
        self.begin = time.monotonic()
        self.cpu, self.queued = self._used()
        self.next = self.begin + TICK

    def check(self):
        """A Fault when the time is up."""
        now = time.monotonic()
        if now < self.next:
            return
        self.next = now + TICK
        cpu, queued = self._used()
        if cpu - self.cpu > self.seconds:
            raise Fault("time", f"no answer within {self.seconds:g} s of CPU time")
        most = 4 * self.seconds + 2
        if now - self.begin - (queued - self.queued) > most:
            used = f", in which it used {cpu - self.cpu:.1f} s of CPU time" if cpu else ""
            raise Fault("time", f"no answer within {most:g} s{used}")

    def cpu_seconds(self):
        """CPU time since the start, to the nanosecond where the system counts so."""
        return self._used()[0] - self.cpu

    def _used(self):
        """CPU seconds of the process and its children, and seconds spent in the queue for a CPU."""
        cpu = queued = 0.0
        with contextlib.suppress(OSError, ValueError, IndexError):
            with open(f"/proc/{self.pid}/stat", "rb") as file:
                fields = file.read().rpartition(b")")[2].split()
            cpu = sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
            with open(f"/proc/{self.pid}/schedstat", "rb") as file:
                queued = int(file.read().split()[1]) / 1e9
        return cpu, queued


def amount(size):
    """A number of bytes for people."""
    for unit, power in (("GB", 30), ("MB", 20), ("kB", 10)):
        if size >= 1 << power:
            return f"{size / (1 << power):g} {unit}"
    return f"{size} bytes"
