"""A LlamaIndex retriever over a `ClipCollection`."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_multi_modal_retriever import MultiModalRetriever
from llama_index.core.image_retriever import BaseImageRetriever
from llama_index.core.schema import BaseNode, ImageNode, NodeWithScore, QueryBundle, TextNode
from llama_index.core.vector_stores.utils import metadata_dict_to_node

from clip_qdrant.errors import ConfigError

if TYPE_CHECKING:
    from clip_qdrant.collection.clip import ClipCollection, Query
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.storage.vectors import Using
    from clip_qdrant.types import Hit


class ClipRetriever(MultiModalRetriever):
    """Finds images and texts by a text or by an image.

    A string or a `QueryBundle` is a text query; a bundle with an `image_path` is an image query. The bundle is only
    read. Works wherever LlamaIndex takes a retriever.

    Args:
        collection: what to search.
        similarity_top_k: how many nodes at most.
        where: which points to search among (see `storage.filters`).
        using: what `retrieve` compares with: "image", "text" or "both". The named methods say it themselves.
        similarity_cutoff: leave out what scores lower; a cosine, so not with "both".

    Raises:
        ConfigError: `similarity_top_k` below 1.
    """

    def __init__(
        self,
        collection: ClipCollection,
        *,
        similarity_top_k: int = 10,
        where: Where | None = None,
        using: Using = "image",
        similarity_cutoff: float | None = None,
        **kwargs: Any,
    ) -> None:
        if similarity_top_k < 1:
            raise ConfigError(f"similarity_top_k must be at least 1, got {similarity_top_k!r}.")
        super().__init__(**kwargs)
        self.collection = collection
        self.similarity_top_k = similarity_top_k
        self.where = where
        self.using: Using = using
        self.similarity_cutoff = similarity_cutoff

    def text_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """Texts and captions, by a text."""
        text = str_or_query_bundle if isinstance(str_or_query_bundle, str) else str_or_query_bundle.query_str
        return self._search(text, "text")

    def text_to_image_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """Images, by a text."""
        return BaseImageRetriever.text_to_image_retrieve(self, str_or_query_bundle)

    def image_to_image_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """Images, by an image: a path, or a bundle with an `image_path`."""
        return BaseImageRetriever.image_to_image_retrieve(self, str_or_query_bundle)

    async def atext_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """`text_retrieve` in a thread."""
        return await asyncio.to_thread(self.text_retrieve, str_or_query_bundle)

    async def atext_to_image_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """`text_to_image_retrieve` in a thread."""
        return await asyncio.to_thread(self.text_to_image_retrieve, str_or_query_bundle)

    async def aimage_to_image_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """`image_to_image_retrieve` in a thread."""
        return await asyncio.to_thread(self.image_to_image_retrieve, str_or_query_bundle)

    def _text_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._search(query_bundle.query_str, "image")

    def _image_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        if not query_bundle.image_path:
            raise ConfigError("An image query needs an image: give a path, or a QueryBundle with an image_path.")
        return self._search(Path(query_bundle.image_path), "image")

    async def _atext_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._text_to_image_retrieve, query_bundle)

    async def _aimage_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._image_to_image_retrieve, query_bundle)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        query = Path(query_bundle.image_path) if query_bundle.image_path else query_bundle.query_str
        return self._search(query, self.using)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)

    def _search(self, query: Query, using: Using) -> list[NodeWithScore]:
        hits = self.collection.search(
            query, limit=self.similarity_top_k, where=self.where, using=using, min_score=self.similarity_cutoff
        )
        return [NodeWithScore(node=node_of(hit), score=hit.score) for hit in hits]


def node_of(hit: Hit) -> BaseNode:
    """A hit as the node that was stored, or for a point that has none as a node of what it holds."""
    if "_node_content" in hit.payload:
        return metadata_dict_to_node(dict(hit.payload))
    if hit.metadata.get("kind") == "text" or hit.source is None:
        return TextNode(id_=hit.id, text=hit.text or "", metadata=dict(hit.metadata))
    return ImageNode(id_=hit.id, text=hit.text or "", image_path=hit.source, metadata=dict(hit.metadata))
