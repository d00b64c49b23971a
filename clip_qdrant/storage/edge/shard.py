"""One collection's shard: a lock, error mapping and the flush policy around the engine's handle."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clip_qdrant.storage.edge.errors import engine_errors
from clip_qdrant.storage.edge.native import edge

FLUSH_SECONDS = 5.0
"""While writes come in, what is older than this has been flushed; a Qdrant server's default."""


class Shard:
    """Thread-safe; `lock` is reentrant, so that callers may hold it over several calls.

    Every failure of the engine is a StorageError that names the collection.
    """

    def __init__(self, name: str, handle: Any) -> None:
        self.name = name
        self.lock = threading.RLock()
        self._handle = handle
        self._flushed_at = time.monotonic()

    @classmethod
    def create(cls, name: str, path: Path, config: Any) -> Shard:
        """A new shard in a folder that has none."""
        with engine_errors(f"Collection {name!r} cannot be created"):
            return cls(name, edge.EdgeShard.create(str(path), config))

    @classmethod
    def load(cls, name: str, path: Path) -> Shard:
        """The shard in the folder, its write-ahead log replayed."""
        with engine_errors(f"Collection {name!r} cannot be opened"):
            return cls(name, edge.EdgeShard.load(str(path)))

    def write(self, operation: Any) -> None:
        """Apply an operation; when this returns, it survives a killed process."""
        with self.lock, engine_errors(f"Collection {self.name!r} refused an update"):
            self._handle.update(operation)
            if time.monotonic() - self._flushed_at > FLUSH_SECONDS:
                self.flush()

    def flush(self) -> None:
        """Put everything on disk; when this returns, it survives a power loss."""
        with self.lock, engine_errors(f"Collection {self.name!r} cannot be flushed"):
            self._handle.flush()
            self._flushed_at = time.monotonic()

    def close(self) -> None:
        """Flush and let go. The engine's own close would swallow a failed flush."""
        with self.lock:
            try:
                self.flush()
            finally:
                self._handle.close()

    def optimize(self) -> bool:
        """Build the indexes now; whether there was anything to do. Holds up every thread of the process."""
        with self.lock, engine_errors(f"Collection {self.name!r} cannot be optimized"):
            return bool(self._handle.optimize())

    def query(self, request: Any) -> list[Any]:
        """Scored points of a `QueryRequest`."""
        with self.lock, engine_errors(f"Query on collection {self.name!r} failed"):
            return list(self._handle.query(request))

    def scroll(self, request: Any) -> tuple[list[Any], Any]:
        """Records of a `ScrollRequest` and the id of the next one."""
        with self.lock, engine_errors(f"Scroll over collection {self.name!r} failed"):
            records, following = self._handle.scroll(request)
            return list(records), following

    def retrieve(self, ids: Sequence[int | str], with_payload: Any = False, with_vectors: Any = False) -> list[Any]:
        """Records by id, without those that do not exist; each once, in no promised order."""
        with self.lock, engine_errors(f"Reading points of collection {self.name!r} failed"):
            return list(self._handle.retrieve(list(ids), with_payload, with_vectors))

    def count(self, filter: Any = None, exact: bool = True) -> int:
        """How many points match."""
        with self.lock, engine_errors(f"Count in collection {self.name!r} failed"):
            return int(self._handle.count(edge.CountRequest(exact, filter)))

    def facet(self, request: Any) -> list[Any]:
        """Values and counts of a `FacetRequest`."""
        with self.lock, engine_errors(f"Facet of collection {self.name!r} failed"):
            return list(self._handle.facet(request))

    def info(self) -> Any:
        """The engine's counts of points, segments and indexed vectors, and its payload indexes."""
        with self.lock, engine_errors(f"Collection {self.name!r} cannot be described"):
            return self._handle.info()
