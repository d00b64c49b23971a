"""The folders of qdrant-client's local mode, `QdrantClient(path=…)`: recognised, and opened as a source."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

from clip_qdrant.errors import StorageError
from clip_qdrant.storage.edge.lock import FolderLock
from clip_qdrant.storage.edge.manifest import is_local_mode_folder

if TYPE_CHECKING:
    from clip_qdrant.storage.edge.client import ManagedQdrantClient


def open_local_mode(folder: Path) -> ManagedQdrantClient:
    """Open such a folder, with qdrant-client itself, which reads all of it into memory.

    Its points are pickles, and a pickle can run any program: open only folders that you trust.

    Raises:
        StorageLockedError: another process has the folder open.
        StorageError: it is not such a folder, or cannot be read.
    """
    from clip_qdrant.storage.edge.client import ManagedQdrantClient

    if not is_local_mode_folder(folder):
        raise StorageError(f"{str(folder)!r} was not written by qdrant-client's local mode (path=...). Check the path.")
    FolderLock(folder).release()  # qdrant-client reads everything before it looks at the lock, and names no holder
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Local mode is not recommended", UserWarning)  # which is why it is left
        try:
            return ManagedQdrantClient(path=str(folder))
        except Exception as error:
            raise StorageError(
                f"The folder {str(folder)!r} of qdrant-client's local mode cannot be read: "
                f"{type(error).__name__}: {error}. Open it with the version of qdrant-client that wrote it, "
                "or restore it from a backup."
            ) from error
