"""The emulator's one error."""

from minillm.errors import UserError

__all__ = ["EmulatorError"]


class EmulatorError(UserError):
    """What is wrong with a kernel or a launch: one line, which names the .cu file's where it can.

    Attributes
    ----------
    kind : "compile", "launch", "barrier divergence", "warp", "fault", "race", ...
    file, line : where, or None
    """

    def __init__(self, message, *, kind="launch", file=None, line=None):
        super().__init__(f"{file}:{line}: {message}" if line else message)
        self.kind, self.file, self.line = kind, file, line
