"""Gives up, in a process that is about to run a student's code, all that it does not need.

`enter` runs before anything of the student's is read, and each step either holds or raises. What a
plan asks for, in this order:

    jail      a mount namespace whose root holds system libraries, Python's standard library, the
              named packages and the student's files, all read-only, and one folder to write to;
              no /proc
    landlock  (without the rights for a jail) the same list of files, enforced by the kernel on
              the real file system (Landlock, Linux 5.13)
    network   a network namespace without a device
    uid       another user, without groups or capabilities
    calls     on Linux always: none that makes a socket; none that starts a process, where it may
              not have any (seccomp)
    limits    CPU, memory, file size, open files, processes

What this does not stop: a hole in the kernel; reading the machine's libraries and its clock. With
landlock alone names of files can still be listed in a folder that holds something allowed, and file
attributes be read. Without either (macOS, old kernels) every file of the user is in reach.

Standard library only: its text is sent to the process.
"""

import ctypes
import mmap
import os
import platform
import signal
import struct

try:
    import resource
except ImportError:  # Windows
    resource = None  # type: ignore[assignment]

__all__ = ["FOLDER", "PACKAGES", "SCRATCH", "can_filter", "enter", "leave"]

FOLDER, PACKAGES, SCRATCH = "/student", "/packages", "/scratch"  # in a jail

# <linux/sched.h>, <linux/mount.h>
NEWNS, NEWIPC, NEWUSER, NEWNET = 0x20000, 0x8000000, 0x10000000, 0x40000000
RDONLY, NOSUID, NODEV, REMOUNT, BIND, REC, PRIVATE = 1, 2, 4, 32, 4096, 16384, 1 << 18
DETACH = 2
# <linux/prctl.h>
PDEATHSIG, DUMPABLE, SECCOMP, NO_NEW_PRIVS = 1, 4, 22, 38
# Numbers of system calls: `refused` are socket, io_uring_setup (opens sockets by another door),
# shmget, msgget and semget (counted in no limit, and outlive a process); `starts` are clone, fork,
# vfork and clone3, which also start threads.
CALLS: dict[str, dict] = {
    "x86_64": {
        "audit": 0xC000003E,
        "pivot": 155,
        "refused": (41, 425, 29, 68, 64),
        "starts": (56, 57, 58, 435),
    },
    "aarch64": {
        "audit": 0xC00000B7,
        "pivot": 41,
        "refused": (198, 425, 194, 186, 190),
        "starts": (220, 435),
    },
}
CREATE_RULESET, ADD_RULE, RESTRICT_SELF = 444, 445, 446  # Landlock's, the same everywhere
READ, READ_FILE, READ_DIR = 0b1101, 0b0101, 0b1000  # execute and read a file, list a folder
OF_FILES = 0b1100000000000111  # rights that a rule about a single file may name


def enter(plan):
    """Carry out a plan, a dict of plain values from sandbox.py; OSError names what failed."""
    if plan["network"]:
        _unshare_network(plan)
    if plan["files"] == "jail":
        _enter_jail(plan)
    else:
        _fill(plan, plan["folder"])
    if plan["uid"]:
        os.setgroups([])
        os.setresgid(plan["uid"], plan["uid"], plan["uid"])
        os.setresuid(plan["uid"], plan["uid"], plan["uid"])
    if platform.system() == "Linux":
        _prctl(NO_NEW_PRIVS, 1)
        _prctl(DUMPABLE, 0)  # so that /proc shows others of the same user nothing of it
        _prctl(PDEATHSIG, signal.SIGKILL)
        if os.getppid() != plan["grader"]:
            raise OSError("the grader ended")
        if plan["files"] == "landlock":
            _landlock(plan)
        if can_filter():
            _refuse_calls(starts=not plan["limits"]["RLIMIT_NPROC"])
    os.chdir(plan["scratch"])
    _limit(plan["limits"])


def _libc(name, *arguments):
    function = getattr(ctypes.CDLL(None, use_errno=True), name)
    if (result := function(*arguments)) < 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}: {os.strerror(number)}")
    return result


def _syscall(number, *arguments):
    return _libc("syscall", ctypes.c_long(number), *arguments)


def _prctl(option, value, *more):
    zeros = (ctypes.c_ulong(0),) * (3 - len(more))
    value = value if isinstance(value, ctypes._Pointer | ctypes.c_void_p) else ctypes.c_ulong(value)
    _libc("prctl", ctypes.c_int(option), value, *more, *zeros)


def _mount(source, target, kind=None, flags=0, options=None):
    texts = [os.fsencode(x) if x is not None else None for x in (source, target, kind)]
    _libc("mount", *texts, ctypes.c_ulong(flags), options.encode() if options else None)


def _unshare_network(plan):
    """A network of its own, without a device; a normal user needs a user namespace for that."""
    if os.geteuid() == 0:
        flags = NEWNET | NEWIPC | (NEWNS if plan["files"] == "jail" else 0)
        _libc("unshare", ctypes.c_int(flags))
        return
    uid, gid = os.getuid(), os.getgid()
    _libc("unshare", ctypes.c_int(NEWUSER | NEWNET | NEWIPC))
    for name, text in (
        ("uid_map", f"{uid} {uid} 1"),
        ("setgroups", "deny"),
        ("gid_map", f"{gid} {gid} 1"),
    ):
        with open(f"/proc/self/{name}", "w") as file:
            file.write(text)


def _fill(plan, folder):
    """Write the student's files."""
    for name, data in plan["contents"].items():
        path = os.path.join(folder, name)
        with open(path, "wb") as file:
            file.write(data)
        os.chmod(path, 0o444)
    os.chmod(folder, 0o555)


def _enter_jail(plan):
    """Make a new root on top of /proc, which nothing in it needs, and go there for good."""
    if not plan["network"]:
        _libc("unshare", ctypes.c_int(NEWNS))
    _mount(None, "/", None, REC | PRIVATE)
    _mount("tmpfs", "/proc", "tmpfs", NOSUID | NODEV, "mode=755")
    root = "/proc/root"
    for name in (FOLDER, PACKAGES, SCRATCH):
        os.makedirs(root + name)
    scratch = f"mode=700,uid={plan['uid']},gid={plan['uid']},size={plan['scratch_bytes']}"
    _mount("tmpfs", root + SCRATCH, "tmpfs", NOSUID | NODEV, scratch + ",nr_inodes=10000")
    for path in plan["read"]:
        if os.path.islink(path):
            os.makedirs(os.path.dirname(root + path), exist_ok=True)
            os.symlink(os.readlink(path), root + path)
        elif not os.path.lexists(root + path) or os.path.isdir(path):
            _bind(path, root + path)
    for name, path in plan["packages"].items():
        _bind(path, f"{root}{PACKAGES}/{name}")
    for path in plan["read"]:
        real = os.path.realpath(path)
        for name in plan["hidden"]:
            target = root + path + name[len(real) :]
            if (name + "/").startswith(real + "/") and os.path.isdir(target):
                _mount("tmpfs", target, "tmpfs", RDONLY | NOSUID | NODEV, "size=4k,mode=755")
    for name in ("null", "zero", "random", "urandom"):
        _bind(f"/dev/{name}", f"{root}/dev/{name}", device=True)
    _fill(plan, root + FOLDER)
    _mount(None, "/proc", None, REMOUNT | BIND | RDONLY | NOSUID | NODEV)
    os.chdir("/proc")
    if platform.machine() in CALLS:  # the old root is let go of, not only hidden
        _syscall(CALLS[platform.machine()]["pivot"], b".", b".")
        _libc("umount2", b".", ctypes.c_int(DETACH))
        os.chdir("/")
    os.chroot("root")  # and from within a chroot nobody may make a user namespace
    os.chdir("/")


def _bind(source, target, device=False):
    """Show a file or folder of the machine in the jail, read-only."""
    if os.path.isdir(source):
        os.makedirs(target, exist_ok=True)
    else:
        os.makedirs(os.path.dirname(target), exist_ok=True)
        with open(target, "wb"):
            pass
    _mount(source, target, None, BIND)
    flags = 0 if device else RDONLY | NODEV
    _mount(None, target, None, REMOUNT | BIND | NOSUID | flags)


def _landlock(plan):
    """Let the process open what the plan names and nothing else, nor connect, nor signal others."""
    version = _syscall(CREATE_RULESET, None, ctypes.c_size_t(0), ctypes.c_uint32(1))
    rights = (1 << (13 if version < 2 else 14 if version < 3 else 15 if version < 5 else 16)) - 1
    attributes = [rights]
    if version >= 4:
        attributes.append(0b11)  # bind and connect TCP
    if version >= 6:
        attributes.append(0b11)  # abstract sockets and signals stay among its own
    text = struct.pack(f"{len(attributes)}Q", *attributes)
    rules = _syscall(CREATE_RULESET, text, ctypes.c_size_t(len(text)), ctypes.c_uint32(0))
    for path in [*plan["read"], *plan["packages"].values(), plan["site"], plan["folder"]]:
        _allow(rules, path, plan["hidden"])
    for name in ("null", "zero", "random", "urandom"):
        _rule(rules, f"/dev/{name}", (READ | 0b10) & rights)
    _rule(rules, plan["scratch"], rights)
    _syscall(RESTRICT_SELF, ctypes.c_int(rules), ctypes.c_uint32(0))
    os.close(rules)


def _allow(rules, path, hidden):
    """Reading of a path, without what is hidden beneath it: then its children one by one."""
    path = os.path.realpath(path)
    if path in hidden:
        return
    if any(name.startswith(path + os.sep) for name in hidden):
        _rule(rules, path, READ_DIR)
        for name in os.listdir(path):
            if not os.path.islink(os.path.join(path, name)):
                _allow(rules, os.path.join(path, name), hidden)
        return
    _rule(rules, path, READ)


def _rule(rules, path, rights):
    try:
        handle = os.open(path, os.O_PATH | os.O_CLOEXEC)
    except OSError:
        return  # what is not there need not be allowed
    try:
        rights &= -1 if os.path.isdir(path) else OF_FILES
        text = struct.pack("=Qi", rights, handle)
        _syscall(ADD_RULE, ctypes.c_int(rules), ctypes.c_int(1), text, ctypes.c_uint32(0))
    finally:
        os.close(handle)


def can_filter():
    """Whether the numbers of this machine's system calls are known."""
    return platform.machine() in CALLS and struct.calcsize("P") == 8


def _refuse_calls(starts):
    """A seccomp filter: the calls in CALLS fail with EPERM, those of another architecture end it.

    A classic BPF program (<linux/filter.h>); the data's words are the call's number at 0 and the
    architecture at 4.
    """
    calls = CALLS[platform.machine()]
    refused = calls["refused"] + (calls["starts"] if starts else ())
    load, equal, above, give = 0x20, 0x15, 0x35, 0x06
    program = [
        (load, 0, 0, 4),
        (equal, 1, 0, calls["audit"]),
        (give, 0, 0, 0x80000000),  # end the process
        (load, 0, 0, 0),
        (above, len(refused) + 1, 0, 0x40000000),  # x86's x32 names the same calls anew
    ]
    program += [(equal, len(refused) - i, 0, number) for i, number in enumerate(refused)]
    program += [(give, 0, 0, 0x7FFF0000), (give, 0, 0, 0x00050001)]  # let through; EPERM
    text = b"".join(struct.pack("=HBBI", *line) for line in program)
    body = ctypes.create_string_buffer(text, len(text))
    header = struct.pack("@HxxxxxxP", len(program), ctypes.addressof(body))
    holder = ctypes.create_string_buffer(header, len(header))
    _prctl(SECCOMP, ctypes.c_void_p(2), ctypes.c_void_p(ctypes.addressof(holder)))


def _limit(limits):
    """Lower both limits, so that they cannot be raised again."""
    if resource is None:
        return
    for name, value in limits.items():
        if hasattr(resource, name):
            number = getattr(resource, name)
            most = resource.getrlimit(number)[1]
            value = value if most == resource.RLIM_INFINITY else min(value, most)
            try:
                resource.setrlimit(number, (value, value))
            except (OSError, ValueError):  # macOS has the name of RLIMIT_AS, and no such limit
                if platform.system() == "Linux":
                    raise


def leave(size):
    """Lower the limit of the address space to what is in use and `size` bytes more, for good."""
    if resource is None or not hasattr(resource, "RLIMIT_AS"):
        return
    limit, _ = resource.getrlimit(resource.RLIMIT_AS)
    if limit == resource.RLIM_INFINITY:
        return
    low, high = 0, limit  # bytes that can still be mapped
    while high - low > 1 << 20:
        middle = (low + high) // 2
        try:
            mmap.mmap(-1, middle).close()
            low = middle
        except (OSError, MemoryError, ValueError):
            high = middle
    resource.setrlimit(resource.RLIMIT_AS, (limit - low + size,) * 2)
