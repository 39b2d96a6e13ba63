"""Users for students' processes: each process has one of its own, in use by nobody else.

A number is reserved by a socket in Linux's abstract namespace, which the kernel gives back when the
grader ends, however it ends. So two graders on one machine never share one, and a process can
signal no other student's.
"""

import contextlib
import os
import random
import signal
import socket
import threading
import time

try:
    import pwd
except ImportError:  # Windows
    pwd = None  # type: ignore[assignment]

__all__ = ["count", "end_all", "give_back", "take"]

FIRST, LAST = 20000, 59999  # above people's and below 65536, which a container may not have

_lock = threading.Lock()
_free: list[int] = []
_held: dict[int, int] = {}  # {user: its socket}


def take():
    """A user's number that has no account and no process."""
    with _lock:
        if _free:
            return _free.pop()
        used = {owner for owner, _ in _processes()} | _held.keys()
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
    """Kill every process of a user until none is left; False if some outlive the patience."""
    until = time.monotonic() + patience
    while pids := [pid for owner, pid in _processes() if owner == uid]:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if time.monotonic() > until:
            return False
        time.sleep(0.002)
    return True


def count(uid):
    """How many threads a user has, which is what its limit on processes counts."""
    threads = 0
    for owner, pid in _processes():
        with contextlib.suppress(OSError):
            threads += len(os.listdir(f"/proc/{pid}/task")) if owner == uid else 0
    return threads


def _processes():
    """(real user, process) of every process that has not ended; a zombie has."""
    for name in os.listdir("/proc"):
        if name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                with open(f"/proc/{name}/status", "rb") as file:
                    text = file.read()
                if b"\nState:\tZ" not in text:
                    yield int(text.split(b"\nUid:")[1].split(None, 1)[0]), int(name)


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
