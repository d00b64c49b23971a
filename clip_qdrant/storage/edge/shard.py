"""One collection's shard: a lock, error mapping and the flush policy around the engine's handle."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from clip_qdrant.errors import ConfigError, StorageError
from clip_qdrant.storage.edge.errors import ClientClosedError, RefusedError, engine_errors
from clip_qdrant.storage.edge.native import edge

FLUSH_SECONDS = 5.0
"""What is older than this has been flushed, whether more writes come or not; a Qdrant server's default."""

logger = logging.getLogger(__name__)


class Shard:
    """Thread-safe; `lock` is reentrant, so that callers may hold it over several calls.

    Every failure of the engine is a StorageError that names the collection.
    """

    def __init__(self, name: str, path: Path, handle: Any) -> None:
        self.name = name
        self._path = path
        self.lock = threading.RLock()
        self._handle = handle
        self._flush_timer: threading.Timer | None = None
        self._flush_due = 0.0

    @classmethod
    def create(cls, name: str, path: Path, config: Any) -> Shard:
        """A new shard in a folder that has none."""
        with engine_errors(f"Collection {name!r} cannot be created"):
            return cls(name, path, edge.EdgeShard.create(str(path), config))

    @classmethod
    def load(cls, name: str, path: Path) -> Shard:
        """The shard in the folder, its write-ahead log replayed."""
        with engine_errors(f"Collection {name!r} cannot be opened"):
            return cls(name, path, edge.EdgeShard.load(str(path)))

    def write(self, operation: Any) -> None:
        """Apply an operation; when this returns, it survives a killed process."""
        with self.lock, engine_errors(f"Collection {self.name!r} refused an update"):
            self._open_handle.update(operation)
            if self._flush_timer is None:
                self._flush_due = time.monotonic() + FLUSH_SECONDS
                self._flush_timer = threading.Timer(FLUSH_SECONDS, self._flush_in_background)
                self._flush_timer.daemon = True
                self._flush_timer.start()
            elif time.monotonic() > self._flush_due:  # writes keep the timer's thread from the lock
                self.flush()

    def alter(self, *operations: Any) -> None:
        """Add or drop vectors. Flushed before and after: the engine replays earlier writes by the later definition."""
        with self.lock, engine_errors(f"Collection {self.name!r} refused a change of its vectors"):
            self._open_handle.flush()
            for operation in operations:
                self._open_handle.update(operation)
            self.flush()

    def reconfigure(self, config: Any) -> None:
        """Load the shard anew with other parameters; what they change is built at the next `optimize`."""
        with self.lock, engine_errors(f"Collection {self.name!r} refused its new parameters", ConfigError):
            self._open_handle.flush()
            self._open_handle.close()
            try:
                self._handle = edge.EdgeShard.load(str(self._path), config)
            except Exception:
                self._handle = edge.EdgeShard.load(str(self._path))
                raise

    def flush(self) -> None:
        """Put everything on disk; when this returns, it survives a power loss."""
        with self.lock, engine_errors(f"Collection {self.name!r} cannot be flushed"):
            self._open_handle.flush()
            if self._flush_timer is not None:
                self._flush_timer.cancel()
                self._flush_timer = None

    @property
    def _open_handle(self) -> Any:
        if self._handle is None:
            raise ClientClosedError(
                f"Collection {self.name!r} was closed meanwhile: another thread deleted it, or closed its client."
            )
        return self._handle

    def _flush_in_background(self) -> None:
        with self.lock:
            if self._handle is None:
                return
            try:
                self.flush()
            except StorageError:
                logger.exception("A flush in the background failed; the next one that is asked for will say so")

    def close(self) -> None:
        """Flush and let go. The engine's own close would swallow a failed flush."""
        with self.lock:
            try:
                self.flush()
            finally:
                self._handle.close()
                self._handle = None

    def optimize(self) -> bool:
        """Build the indexes now; whether there was anything to do. Holds up every thread of the process."""
        with self.lock, engine_errors(f"Collection {self.name!r} cannot be optimized"):
            return bool(self._open_handle.optimize())

    def query(self, requests: Sequence[Any]) -> list[list[Any]]:
        """Scored points of each `QueryRequest`, planned as one."""
        with self.lock, engine_errors(f"Query on collection {self.name!r} failed", RefusedError):
            if len(requests) == 1:
                return [self._open_handle.query(requests[0])]
            return list(self._open_handle.query_batch(edge.QueryBatchRequest(list(requests))))

    def scroll(self, request: Any) -> tuple[list[Any], Any]:
        """Records of a `ScrollRequest` and the id of the next one."""
        with self.lock, engine_errors(f"Scroll over collection {self.name!r} failed", RefusedError):
            records, following = self._open_handle.scroll(request)
            return list(records), following

    def retrieve(self, ids: Sequence[int | str], with_payload: Any = False, with_vectors: Any = False) -> list[Any]:
        """Records by id, without those that do not exist; each once, in no promised order."""
        with self.lock, engine_errors(f"Reading points of collection {self.name!r} failed"):
            return list(self._open_handle.retrieve(list(ids), with_payload, with_vectors))

    def count(self, filter: Any = None, exact: bool = True) -> int:
        """How many points match."""
        with self.lock, engine_errors(f"Count in collection {self.name!r} failed", RefusedError):
            return int(self._open_handle.count(edge.CountRequest(exact, filter)))

    def facet(self, request: Any) -> list[Any]:
        """Values and counts of a `FacetRequest`."""
        with self.lock, engine_errors(f"Facet of collection {self.name!r} failed", RefusedError):
            return list(self._open_handle.facet(request))

    def info(self) -> Any:
        """The engine's counts of points, segments and indexed vectors, and its payload indexes."""
        with self.lock, engine_errors(f"Collection {self.name!r} cannot be described"):
            return self._open_handle.info()
