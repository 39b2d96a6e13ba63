"""What a student's process is kept from, found out by a process that tries."""

import os
import socket
import tempfile
from dataclasses import dataclass
from pathlib import Path

__all__ = ["Isolation", "measure"]

# Runs in the process that is to be isolated: each entry says what it could do.
TRIES = """
import os

def probe(modules, kept, case):
    def can(call):
        try:
            call()
        except (OSError, ImportError):
            return False
        return True

    def read(path):
        with open(path, "rb") as file:
            return file.read(1)

    def find():
        import minillm.ops

    def connect():
        import socket
        with socket.create_connection(("127.0.0.1", case["port"]), timeout=1):
            pass

    def send():
        import socket
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sender:
            sender.sendto(b"x", ("127.0.0.1", case["port"]))

    def fork():
        if (pid := os.fork()) == 0:
            os._exit(0)
        os.waitpid(pid, 0)

    return {
        "uid": os.getuid() == case["uid"],
        "files": any(can(lambda: read(path)) for path in case["paths"]) or can(find),
        "network": can(connect) or can(send),
        "processes": can(fork),
        "memory": can(lambda: read(f"/proc/{case['pid']}/mem"))
        or can(lambda: os.kill(case["pid"], 0)),
    }
"""


@dataclass(frozen=True)
class Isolation:
    """What a student's process was kept from; True is good.

    Attributes
    ----------
    uid : it runs as another user
    files : what keeps it from other files: "jail", "landlock", or "" when nothing does
    network : it has none
    processes : it cannot start any
    memory : the grader's memory could not be opened, nor the grader be signalled
    """

    uid: bool
    files: str
    network: bool
    processes: bool
    memory: bool = True

    @property
    def sentence(self):
        """What holds, and plainly what does not."""
        kept = ["no files but those of the assignment"] if self.files else []
        kept += ["no network"] if self.network else []
        kept += ["no further processes"] if self.processes else []
        gaps = [] if self.files else ["it can read every file that its user can"]
        gaps += [] if self.network else ["it can use the network"]
        gaps += [] if self.processes else ["it can start processes that outlive it"]
        if not self.memory:
            gaps.append("it can open the grader's memory, or end the grader")
        elif not self.uid:
            gaps.append("it may find a way to the memory of a grader that is the same user")
        text = f"A student's code runs as {'another' if self.uid else 'the same'} user"
        if kept:
            text += " with " + (", ".join(kept[:-1]) + " and " if kept[1:] else "") + kept[-1]
        if gaps:
            text += "; but " + ", and ".join(gaps)
            text += ": good for a self-check; for marks, grade as root on Linux or in a container"
        return text + "."


def measure(sandbox, plan):
    """The Isolation that a process started by this plan reports."""
    reference = Path(__file__).parents[1] / "ops" / "layer_norm.py"
    with (
        tempfile.NamedTemporaryFile(prefix="minillm-course-") as secret,
        socket.create_server(("127.0.0.1", 0)) as server,
        sandbox.child({}, drivers=TRIES, plan=plan) as child,
    ):
        case = {
            "paths": [str(reference), os.path.realpath(reference), secret.name],
            "port": server.getsockname()[1],
            "uid": os.getuid() if hasattr(os, "getuid") else 0,
            "pid": os.getpid(),
        }
        could = child.ask("probe", case)
    return Isolation(
        uid=not could["uid"],
        files="" if could["files"] else plan[1],
        network=not could["network"],
        processes=not could["processes"],
        memory=not could["memory"],
    )
