"""What every part of the engine stands on: a share in the folder's store, until closed."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from qdrant_client import models
from qdrant_client.client_base import QdrantBase

from clip_qdrant.storage.edge.collection import EdgeCollection
from clip_qdrant.storage.edge.errors import ClientClosedError
from clip_qdrant.storage.edge.store import EdgeStore, acquire, release


class EngineBase(QdrantBase):
    """Opens the folder's store, or shares it with the process's other clients of the folder."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        self._shared: EdgeStore | None = None
        self._shared = acquire(folder)

    @property
    def _store(self) -> EdgeStore:
        if self._shared is None:
            raise ClientClosedError(f"The client of {str(self.folder)!r} is closed. Use it inside its `with` block.")
        if self._shared.pid != os.getpid():
            raise ClientClosedError(
                f"The client of {str(self.folder)!r} belongs to process {self._shared.pid}, which forked this one. "
                "One process at a time may use the folder: start workers with 'spawn', or run a Qdrant server."
            )
        return self._shared

    def _open(self, collection_name: str) -> EdgeCollection:
        return self._store.open(collection_name)

    def close(self, **kwargs: Any) -> None:
        """Flush, and let go of the folder; nothing happens the second time.

        Raises:
            StorageError: the last flush failed.
        """
        shared, self._shared = self._shared, None
        # At the interpreter's end modules are empty, but then the stores are closed already.
        if shared is not None and not shared.closed:
            release(shared)

    def __del__(self) -> None:
        self.close()

    def flush(self, collection_name: str | None = None) -> None:
        """Put one collection, or all, on disk: what was written before survives a power loss after.

        Raises:
            StorageError: the disk refused.
        """
        names = list(self._store.manifest.collections) if collection_name is None else [collection_name]
        for name in names:
            self._open(name).shard.flush()

    def optimize(self, collection_name: str) -> bool:
        """Build the vector indexes of a collection now. It holds up every thread of the process meanwhile.

        Returns:
            Whether there was anything to do.
        """
        return self._open(collection_name).shard.optimize()


def completed() -> models.UpdateResult:
    """The answer to every update; an embedded one is complete when it returns."""
    return models.UpdateResult(operation_id=0, status=models.UpdateStatus.COMPLETED)
