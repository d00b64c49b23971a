"""The stock store's async methods, as its other methods in threads: one client serves both."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.vector_stores.qdrant import QdrantVectorStore

from clip_qdrant.llamaindex.turns import Turns

if TYPE_CHECKING:
    from llama_index.core.schema import BaseNode
    from llama_index.core.vector_stores import MetadataFilters, VectorStoreQuery, VectorStoreQueryResult

    from clip_qdrant.storage.filters import Where


class ThreadedVectorStore(QdrantVectorStore):
    """A `QdrantVectorStore` that needs no asynchronous client, so that the two always see the same data."""

    _turns: Turns = PrivateAttr()

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query` in a thread."""
        return await self._turns.run(lambda: self.query(query, **kwargs))

    async def async_add(self, nodes: Sequence[BaseNode], shard_identifier: Any = None, **add_kwargs: Any) -> list[str]:
        """`add` in a thread."""
        return await self._turns.write(self.add, list(nodes), shard_identifier, **add_kwargs)

    async def adelete(self, ref_doc_id: str, shard_identifier: Any = None, **delete_kwargs: Any) -> None:
        """`delete` in a thread."""
        await self._turns.write(self.delete, ref_doc_id, shard_identifier, **delete_kwargs)

    async def adelete_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | Where | None = None,
        shard_identifier: Any = None,
        **delete_kwargs: Any,
    ) -> None:
        """`delete_nodes` in a thread."""
        await self._turns.write(self.delete_nodes, node_ids, filters, shard_identifier, **delete_kwargs)

    async def aclear(self) -> None:
        """`clear` in a thread."""
        await self._turns.write(self.clear)

    async def aget_nodes(
        self,
        node_ids: list[str] | None = None,
        filters: MetadataFilters | Where | None = None,
        limit: int | None = None,
        shard_identifier: Any = None,
    ) -> list[BaseNode]:
        """`get_nodes` in a thread."""
        return await self._turns.write(self.get_nodes, node_ids, filters, limit, shard_identifier)
