"""One process at a time: an advisory lock on a file in the folder, taken before the engine is touched.

The operating system drops the lock with its holder, so that a dead process never blocks a folder. The file has the
name that qdrant-client's local mode locks, so that neither opens a folder the other one holds.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

from clip_qdrant.errors import StorageError, StorageLockedError

LOCK_NAME = ".lock"
_PID_BYTES = 32

if sys.platform == "win32":
    import msvcrt

    def _try_lock(fd: int) -> None:
        # Windows locks are mandatory: lock a byte far behind the pid, so that others can read who holds it.
        os.lseek(fd, 1 << 20, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
else:
    import fcntl

    def _try_lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


class FolderLock:
    """Holds a folder for this process from construction to `release`.

    Raises:
        StorageLockedError: another process holds it.
        StorageError: the folder cannot be written.
    """

    def __init__(self, folder: Path) -> None:
        path = folder / LOCK_NAME
        try:
            self._fd: int | None = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
        except OSError as error:
            raise StorageError(
                f"Cannot write to the storage folder {str(folder)!r}: {error.strerror}. "
                "Give the folder write permission, or use another one."
            ) from error
        try:
            _try_lock(self._fd)
        except OSError as error:
            holder = _read_pid(self._fd)
            os.close(self._fd)
            self._fd = None
            raise StorageLockedError(
                f"The storage folder {str(folder)!r} is in use by process {holder}. Close it there (client.close(), or "
                "`with connect(...) as client`), use another folder, or run a Qdrant server for several processes."
            ) from error
        if not _is_at(self._fd, path):  # its last holder removed the file before it let go
            self.release()
            raise StorageLockedError(f"The folder {str(folder)!r} was removed by the process that used it. Try again.")
        os.lseek(self._fd, 0, os.SEEK_SET)
        os.truncate(self._fd, 0)
        os.write(self._fd, str(os.getpid()).encode())

    def release(self) -> None:
        """Let others in; nothing happens the second time. The file stays: removing it would let two in."""
        if self._fd is not None:
            os.close(self._fd)
            self._fd = None


def _is_at(fd: int, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(fd), path.stat())
    except FileNotFoundError:
        return False


def _read_pid(fd: int) -> str:
    os.lseek(fd, 0, os.SEEK_SET)
    text = os.read(fd, _PID_BYTES).decode("ascii", "replace").strip()
    return text if text.isdigit() else "unknown (its id is not in the lock file)"
