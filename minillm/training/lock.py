"""One process at a time writes a run's folder."""

import os
from pathlib import Path

from minillm.errors import UserError

__all__ = ["FolderLock"]


class FolderLock:
    """Holds a folder for this process while `with FolderLock(folder):` lasts.

    The lock is the system's (flock), on the folder itself: it leaves no file behind. Windows has
    none, and there nothing is held.

    Raises
    ------
    UserError
        when another process holds the folder, or it cannot be made.
    """

    def __init__(self, folder):
        self._descriptor = None
        try:
            import fcntl
        except ImportError:
            return
        try:
            Path(folder).mkdir(parents=True, exist_ok=True)
            self._descriptor = os.open(folder, os.O_RDONLY)
        except OSError as error:
            raise UserError(f"cannot write {folder}: {error.strerror}") from error
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self.release()
            raise UserError(f"{folder} is in use: another process is training there") from None
        except OSError:  # a file system without locks
            self.release()

    def __enter__(self):
        return self

    def __exit__(self, *exception):
        self.release()

    def release(self):
        if self._descriptor is not None:
            os.close(self._descriptor)
            self._descriptor = None
