"""The clients that `connect` and `connect_async` return: qdrant-client's own, which close at the end of a `with`."""

from __future__ import annotations

from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any

from qdrant_client import AsyncQdrantClient, QdrantClient, models
from qdrant_client.embed.type_inspector import Inspector

from clip_qdrant.errors import UnsupportedError
from clip_qdrant.storage.edge.async_engine import AsyncEdgeEngine
from clip_qdrant.storage.edge.engine import EdgeEngine

if TYPE_CHECKING:
    from typing_extensions import Self


class ManagedQdrantClient(QdrantClient):
    """The stock client, as a context manager."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self.close()


class ManagedAsyncQdrantClient(AsyncQdrantClient):
    """The stock asynchronous client, as a context manager."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None
    ) -> None:
        await self.close()


class _VectorInspector(Inspector):
    """Looks for texts and pictures to be embedded, but not at every number of vectors, which takes longer than writing.

    Which is safe: what is not a number among numbers is refused where the vectors are checked.
    """

    def inspect(self, points: Any) -> bool:
        if isinstance(points, list) and all(map(_has_numbers, points)):
            return False
        return super().inspect(points)


def _has_numbers(point: Any) -> bool:
    """Whether a point's vectors begin with numbers."""
    if not isinstance(point, models.PointStruct):
        return False
    vectors = point.vector.values() if isinstance(point.vector, dict) else [point.vector]
    return all(isinstance(vector, list) and vector and isinstance(vector[0], float) for vector in vectors)


class EmbeddedQdrantClient(ManagedQdrantClient):
    """A `QdrantClient` on a folder, with Qdrant's engine in this process.

    A write that returned survives a killed process. A power loss costs at most what came after the last flush: one
    comes at most 5 seconds after a write, and with `flush`, an upload's end and `close`.

    Args:
        folder: where the collections are, or shall be.

    Raises:
        StorageLockedError: another process has the folder open.
        StorageError: the folder cannot be written, or holds something else.
    """

    def __init__(self, folder: str | Path) -> None:
        engine = EdgeEngine(Path(folder))
        try:
            # The stock constructor prepares the input handling; its empty local mode is replaced.
            super().__init__(location=":memory:")
            self._inference_inspector = _VectorInspector()
        except BaseException:
            engine.close()
            raise
        self._client = engine

    @property
    def init_options(self) -> dict[str, Any]:
        """There are none: another client made of them would not be this one."""
        raise UnsupportedError("An embedded client has no init_options. Use connect or connect_async with its folder.")

    def flush(self, collection_name: str | None = None) -> None:
        """Put one collection, or all, on disk: what was written before survives a power loss after."""
        self._engine.flush(collection_name)

    def optimize(self, collection_name: str) -> bool:
        """Build a collection's vector indexes now, which holds up every thread; whether there was anything to do."""
        return self._engine.optimize(collection_name)

    @property
    def _engine(self) -> EdgeEngine:
        assert isinstance(self._client, EdgeEngine)
        return self._client

    def __repr__(self) -> str:
        return f"EmbeddedQdrantClient({str(self._engine.folder)!r})"


class EmbeddedAsyncQdrantClient(ManagedAsyncQdrantClient):
    """The asynchronous twin of `EmbeddedQdrantClient`: the same engine, called in threads."""

    def __init__(self, folder: str | Path) -> None:
        engine = AsyncEdgeEngine(Path(folder))
        try:
            super().__init__(location=":memory:")
            self._inference_inspector = _VectorInspector()
        except BaseException:
            engine.engine.close()
            raise
        self._client = engine

    @property
    def init_options(self) -> dict[str, Any]:
        """There are none: another client made of them would not be this one."""
        raise UnsupportedError("An embedded client has no init_options. Use connect or connect_async with its folder.")

    async def flush(self, collection_name: str | None = None) -> None:
        """Put one collection, or all, on disk: what was written before survives a power loss after."""
        await self._engine.flush(collection_name)

    async def optimize(self, collection_name: str) -> bool:
        """Build a collection's vector indexes now, which holds up every thread; whether there was anything to do."""
        return await self._engine.optimize(collection_name)

    @property
    def _engine(self) -> AsyncEdgeEngine:
        assert isinstance(self._client, AsyncEdgeEngine)
        return self._client

    def __repr__(self) -> str:
        return f"EmbeddedAsyncQdrantClient({str(self._engine.engine.folder)!r})"
