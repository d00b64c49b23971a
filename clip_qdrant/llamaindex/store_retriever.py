"""LlamaIndex's own retriever over a store, for its query modes; pictures count, and the query bundle is only read."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from llama_index.core.indices.vector_store.retrievers import VectorIndexRetriever
from llama_index.core.schema import ImageDocument, ImageNode, NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters, VectorStoreQueryMode

from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.embedding import ClipEmbedding
from clip_qdrant.llamaindex.metadata_filters import to_qdrant_filter
from clip_qdrant.llamaindex.queries import has_picture, vector_of
from clip_qdrant.llamaindex.retriever_ways import RetrieverOfBothKinds, Using
from clip_qdrant.llamaindex.turns import Turns
from clip_qdrant.llamaindex.vector_store import ClipQdrantVectorStore
from clip_qdrant.llamaindex.vector_store_points import all_of
from clip_qdrant.llamaindex.vector_store_search import check_options
from clip_qdrant.storage.filters import to_filter
from clip_qdrant.storage.points import IMAGE, MODALITY

if TYPE_CHECKING:
    from llama_index.core.indices.vector_store.base import VectorStoreIndex

    from clip_qdrant.storage.filters import Where

_Mode = VectorStoreQueryMode
_MEANT_FOR = {
    "alpha": (_Mode.HYBRID,),
    "hybrid_top_k": (_Mode.HYBRID,),
    "sparse_top_k": (_Mode.HYBRID, _Mode.SPARSE, _Mode.TEXT_SEARCH),
}


class StoreRetriever(RetrieverOfBothKinds, VectorIndexRetriever):
    """Finds nodes by the query modes of a store: "hybrid", "sparse", "text_search", "mmr" and more.

    A bundle may have words, a picture or both, as for a `ClipRetriever`, whose methods this one has as well. Its
    embedding is computed for a copy, so that a bundle which goes on to other retrievers is the one that was asked.

    Args:
        index: over a `ClipQdrantVectorStore`, with a `ClipEmbedding`.
        using: which vectors `retrieve` compares with: "image", "text" or "both"; None: as the store has it.
        query_instruction: what is put before the words of a query; None: as the embedding model has it.
        filters: which points to search among: LlamaIndex's `MetadataFilters`, or whatever the store takes.
        vector_store_query_mode: of LlamaIndex.
        alpha: of "hybrid": the share of the vectors, from 0 (words alone) to 1.
        sparse_top_k: of the modes with words: how many nodes by words.
        hybrid_top_k: of "hybrid": how many nodes come back.
        vector_store_kwargs: options of the store's `query`.
        **kwargs: of LlamaIndex's `VectorIndexRetriever`: `similarity_top_k`, `doc_ids`, `node_ids`, …

    Raises:
        ConfigError: an option or a mode that there is not, or a number that means nothing in the mode.
        FilterError: `filters` cannot be understood.
    """

    def __init__(
        self,
        index: VectorStoreIndex,
        *,
        using: Using | None = None,
        query_instruction: str | None = None,
        filters: MetadataFilters | Where | None = None,
        vector_store_query_mode: VectorStoreQueryMode | str = VectorStoreQueryMode.DEFAULT,
        alpha: float | None = None,
        sparse_top_k: int | None = None,
        hybrid_top_k: int | None = None,
        vector_store_kwargs: Mapping[str, Any] | None = None,
        **kwargs: Any,
    ) -> None:
        options = dict(vector_store_kwargs or {}) | ({} if using is None else {"using": using})
        check_options(options)
        mode = _mode_of(vector_store_query_mode, alpha=alpha, sparse_top_k=sparse_top_k, hybrid_top_k=hybrid_top_k)
        super().__init__(
            index,
            vector_store_query_mode=mode,
            filters=to_qdrant_filter(filters),  # type: ignore[arg-type]  # the store takes more than LlamaIndex says
            alpha=alpha,
            sparse_top_k=sparse_top_k,
            hybrid_top_k=hybrid_top_k,
            vector_store_kwargs=options,
            **kwargs,
        )
        assert isinstance(self._embed_model, ClipEmbedding)
        assert isinstance(self._vector_store, ClipQdrantVectorStore)
        self._encoder = self._embed_model.encoder
        self.query_instruction = self._embed_model.query_instruction if query_instruction is None else query_instruction
        self._turns = Turns(self._vector_store.client)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return super()._retrieve(self._embedded(query_bundle))

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await super()._aretrieve(await asyncio.to_thread(self._embedded, query_bundle))

    def _search(self, bundle: QueryBundle, using: Using) -> list[NodeWithScore]:
        options = {**self._kwargs, "using": using}
        if using == IMAGE:  # words find texts, too, and so does the one vector of a collection that LlamaIndex made
            options["where"] = all_of(to_filter(options.get("where")), _pictures())
        found = self._vector_store.query(self._build_vector_store_query(self._embedded(bundle)), **options)
        return self._convert_nodes_to_scored_nodes(found)

    def _embedded(self, bundle: QueryBundle) -> QueryBundle:
        """A copy that has what the mode needs."""
        embedding = bundle.embedding
        if self._needs_embedding():
            embedding = vector_of(self._encoder, bundle, self.query_instruction).tolist()
        elif has_picture(bundle):
            mode = self._vector_store_query_mode.value
            raise ConfigError(f"Mode {mode!r} searches words, but the query has a picture. Use 'default' or 'hybrid'.")
        return QueryBundle(bundle.query_str, custom_embedding_strs=bundle.custom_embedding_strs, embedding=embedding)


def _mode_of(name: VectorStoreQueryMode | str, **numbers: float | None) -> VectorStoreQueryMode:
    """A query mode by its name, in which the numbers given mean something."""
    names = [mode.value for mode in VectorStoreQueryMode]
    if name not in names:
        raise ConfigError(f"vector_store_query_mode must be one of {', '.join(map(repr, names))}, got {name!r}.")
    mode = VectorStoreQueryMode(name)
    for number, modes in _MEANT_FOR.items():
        if numbers[number] is not None and mode not in modes:
            raise ConfigError(
                f"{number}={numbers[number]!r} means nothing in mode {mode.value!r}. "
                f"Use vector_store_query_mode={modes[0].value!r}, or leave it out."
            )
    return mode


def _pictures() -> Any:
    """A filter for pictures, by whatever they were written."""
    written = [ImageNode.class_name(), ImageDocument.class_name()]
    return to_filter({"any": [{MODALITY: IMAGE}, {"_node_type": {"in": written}}]})
