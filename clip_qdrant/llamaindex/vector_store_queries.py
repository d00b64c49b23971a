"""The half of a vector store that answers queries: what is asked of Qdrant, and the nodes of what it answers."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from llama_index.core.bridge.pydantic import PrivateAttr
from llama_index.core.vector_stores import VectorStoreQueryResult

from clip_qdrant.llamaindex.metadata_filters import to_qdrant_filter
from clip_qdrant.llamaindex.vector_store_async import ThreadedVectorStore
from clip_qdrant.llamaindex.vector_store_collection import LazyCollection
from clip_qdrant.llamaindex.vector_store_layout import Layout, Legs
from clip_qdrant.llamaindex.vector_store_points import all_of, bm25_queries, id_list, nodes_of, point_ids_of
from clip_qdrant.llamaindex.vector_store_search import Search, check_options, plan
from clip_qdrant.storage.filters import to_filter
from clip_qdrant.storage.points import CAPTION, IMAGE
from clip_qdrant.storage.schema import LEXICAL

if TYPE_CHECKING:
    from llama_index.core.vector_stores import MetadataFilters, VectorStoreQuery
    from qdrant_client import models

    from clip_qdrant.storage.filters import Where


class SearchedVectorStore(ThreadedVectorStore):
    """All of `ClipQdrantVectorStore` that only reads for a query; see there."""

    using: Legs = "both"

    _collection: LazyCollection = PrivateAttr()

    def query(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """The nodes nearest to a query, best first.

        Modes: DEFAULT; MMR, of as many candidates as `mmr_prefetch_k`, or `mmr_prefetch_factor` (4) times the answers;
        HYBRID, dense vectors and words; SPARSE and TEXT_SEARCH, words alone. An empty list of `doc_ids` or `node_ids`
        asks nothing, as LlamaIndex's own retriever means it. Where there is no collection, there are no hits.

        Args:
            query: of LlamaIndex; its filters may also be a mapping or an expression of `clip_qdrant.storage.filters`.
            **kwargs: `qdrant_filters` or `where`: one more filter, as Qdrant's, a mapping or an expression;
                `search_params`: Qdrant's; `using`: instead of the store's; `mmr_threshold`, `mmr_prefetch_k`,
                `mmr_prefetch_factor`.

        Raises:
            InvalidPointError: the query has no embedding, or one that is zero or has a NaN.
            CollectionMismatchError: the embedding is of another dimension than the collection's.
            ConfigError: a mode that there is not, or an argument that cannot be.
            FilterError: filters that cannot be understood.
        """
        return self._collection.again(lambda: self._queried(query, kwargs))

    async def aquery(self, query: VectorStoreQuery, **kwargs: Any) -> VectorStoreQueryResult:
        """`query`, through `aclient` where there is one of a server, else in a thread."""
        from qdrant_client.async_qdrant_remote import AsyncQdrantRemote

        if (
            self._aclient is None
            or self._collection.known is None
            or not isinstance(self._aclient._client, AsyncQdrantRemote)
        ):
            return await super().aquery(query, **kwargs)
        try:
            search = self._plan(query, kwargs)
            if search is None:
                return self.parse_to_query_result([])
            return self._answer(search, await self._aclient.query_batch_points(self.collection_name, search.requests))
        except Exception:
            if not await asyncio.to_thread(self._collection.has_changed):
                raise
        return await self.aquery(query, **kwargs)

    def parse_to_query_result(self, response: Sequence[Any]) -> VectorStoreQueryResult:
        """Points as nodes, by their own ids; without a score (of `get_nodes`) the similarity is 1."""
        nodes = nodes_of(response, self._collection.known, self.text_key or CAPTION)
        scores = [getattr(point, "score", 1.0) for point in response]
        return VectorStoreQueryResult(nodes=nodes, similarities=scores, ids=[node.node_id for node in nodes])

    def _queried(self, query: VectorStoreQuery, options: Mapping[str, Any]) -> VectorStoreQueryResult:
        search = self._plan(query, options)
        if search is None:
            return self.parse_to_query_result([])
        return self._answer(search, self._client.query_batch_points(self.collection_name, requests=search.requests))

    def _build_subfilter(self, filters: MetadataFilters | Where) -> Any:
        return to_qdrant_filter(filters)

    def _build_query_filter(self, query: VectorStoreQuery) -> Any:
        where: dict[str, Any] = {}
        if query.doc_ids:
            where["doc_id"] = {"in": id_list("doc_ids", query.doc_ids)}
        if query.node_ids:
            where["$id"] = {"in": point_ids_of(query.node_ids)}
        asked = None if query.filters is None else self._build_subfilter(query.filters)
        return all_of(to_filter(where), asked)

    def _plan(self, query: VectorStoreQuery, options: Mapping[str, Any]) -> Search | None:
        """What to ask, or None where nothing could be found: no collection, or a text without words."""
        check_options(options)
        if self._collection.find() is None:
            return None
        layout = self._opened()
        more = (to_filter(options.get(name)) for name in ("qdrant_filters", "where"))
        wanted = all_of(self._build_query_filter(query), *more)
        words = self._sparse_query_fn or (bm25_queries if layout.sparse == LEXICAL else None)
        search = plan(query, layout, wanted, options.get("using", self.using), words, options)
        return search if search.requests else None

    def _answer(self, search: Search, answers: Sequence[models.QueryResponse]) -> VectorStoreQueryResult:
        points = [answer.points for answer in answers]
        if self._hybrid_fusion_fn is None or not 0 < search.dense < len(points):
            return self.parse_to_query_result(search.fused(points))
        dense, sparse = search.split(points)
        return self._hybrid_fusion_fn(
            self.parse_to_query_result(dense),
            self.parse_to_query_result(sparse),
            alpha=search.alpha,
            top_k=search.limit,
        )

    def _opened(self) -> Layout:
        """The layout of the collection, whose names the stock fields say."""
        layout = self._collection.layout()
        self.dense_vector_name, self.sparse_vector_name = layout.legs[IMAGE], layout.sparse or LEXICAL
        return layout
