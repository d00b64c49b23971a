"""LlamaIndex's own retriever over a store, for its query modes; pictures count, and the query bundle is only read."""

from __future__ import annotations

import asyncio
from typing import Any

from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from clip_qdrant.llamaindex.embedding import ClipEmbedding
from clip_qdrant.llamaindex.queries import bundle_of, vector_of


class StoreRetriever(VectorIndexRetriever):
    """Finds nodes by the query modes of a store: "hybrid", "sparse", "text_search", "mmr" and more.

    A bundle may have words, a picture or both, as for a `ClipRetriever`. Its embedding is computed for a copy, so that
    a bundle which goes on to other retrievers is the one that was asked.
    """

    def retrieve(self, str_or_query_bundle: Any) -> list[NodeWithScore]:
        """Nodes for a text, a picture or a bundle."""
        return super().retrieve(bundle_of(str_or_query_bundle))

    async def aretrieve(self, str_or_query_bundle: Any) -> list[NodeWithScore]:
        """`retrieve` in a thread."""
        return await super().aretrieve(bundle_of(str_or_query_bundle))

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return super()._retrieve(self._embedded(query_bundle))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await super()._aretrieve(await asyncio.to_thread(self._embedded, query_bundle))

    def _embedded(self, bundle: QueryBundle) -> QueryBundle:
        """A copy that has what the mode needs."""
        embedding = bundle.embedding
        if self._needs_embedding():
            assert isinstance(self._embed_model, ClipEmbedding)
            embedding = vector_of(self._embed_model.encoder, bundle, self._embed_model.query_instruction).tolist()
        return QueryBundle(bundle.query_str, custom_embedding_strs=bundle.custom_embedding_strs, embedding=embedding)
