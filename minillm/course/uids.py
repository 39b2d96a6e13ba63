"""Users for students' processes: each process has one of its own, in use by nobody else.

A number is reserved by a socket in Linux's abstract namespace, which the kernel gives back when the
grader ends, however it ends. So two graders on one machine never share one, and a process can
signal no other student's.
"""

import contextlib
import os
import random
import socket
import subprocess
import sys
import threading
import time

try:
    import pwd
except ImportError:  # Windows
    pwd = None  # type: ignore[assignment]

__all__ = ["count", "end_all", "give_back", "take"]

FIRST, LAST = 20000, 39999  # above people's and below 65536, which a container may not have
ASIDE = 20000  # from a user to the one that ends its processes, and that they cannot signal
# The signal goes to whom the effective user may signal; root's would go to everybody.
SWEEP = """
import os, signal, sys
uid, own = int(sys.argv[1]), int(sys.argv[2])
os.setgroups([])
os.setresgid(own, own, own)
os.setresuid(own, uid, own)
assert uid and own and os.getresuid() == (own, uid, own)
try:
    os.kill(-1, signal.SIGKILL)
except ProcessLookupError:
    pass
"""

_lock = threading.Lock()
_free: list[int] = []
_held: dict[int, int] = {}  # {user: its socket}


def take():
    """A user's number that has no account and no process."""
    with _lock:
        if _free:
            return _free.pop()
        used = {owner for owner, _, _ in _processes()} | _held.keys()
        start = random.SystemRandom().randint(FIRST, LAST)  # so do two containers' graders differ
        for uid in (*range(start, LAST + 1), *range(FIRST, start)):
            if uid not in used and not _has_account(uid) and _reserve(uid):
                return uid
    raise OSError(f"every user from {FIRST} to {LAST} is taken")


def give_back(uid):
    """For the next process, when the last one of this user has ended."""
    with _lock:
        if uid:
            _free.append(uid)


def end_all(uid, patience=5.0):
    """Kill every process of a user; whether the user can be given to another then.

    One that keeps forking and ending is in no list for long. But a signal that its own user sends
    to all meets every process at one moment, and a fork does not finish past it.

    Raises
    ------
    OSError
        when some outlive the patience.
    """
    sweep = [sys.executable, "-I", "-S", "-c", SWEEP, str(uid), str(uid + ASIDE)]
    swept, begin = False, time.monotonic()
    while True:
        if not swept:
            swept = subprocess.run(sweep, env={}, stdin=subprocess.DEVNULL).returncode == 0
        there = [(pid, ended) for owner, pid, ended in _processes() if owner == uid]
        for pid, _ in there:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(pid, os.WNOHANG)  # in a container we may be every orphan's parent
        if swept and not there:
            return True
        waited = time.monotonic() - begin
        if swept and waited > patience / 50 and all(ended for _, ended in there):
            return False  # they have ended, unnoticed: the limit still counts them
        if waited > patience:
            raise OSError(f"processes of user {uid} cannot be killed")
        time.sleep(0.002)


def count(uid):
    """How many threads a user has, which is what its limit on processes counts."""
    threads = 0
    for owner, pid, _ in _processes():
        with contextlib.suppress(OSError):
            threads += len(os.listdir(f"/proc/{pid}/task")) if owner == uid else 0
    return threads


def _processes():
    """(real user, process, whether it has ended and nobody noticed) of every process."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/status", "rb") as file:
                    text = file.read()
                owner = int(text.split(b"\nUid:")[1].split(None, 1)[0])
                yield owner, int(name), b"\nState:\tZ" in text


def _has_account(uid):
    try:
        pwd.getpwuid(uid)
    except KeyError:
        return False
    return True


def _reserve(uid):
    mark = socket.socket(socket.AF_UNIX)
    try:
        mark.bind(f"\0minillm-course-{uid}")
    except OSError:
        mark.close()
        return False
    _held[uid] = mark.detach()
    return True
