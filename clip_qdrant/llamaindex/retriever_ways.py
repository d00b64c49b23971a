"""The ways in which a multi-modal retriever is asked: by a text or a picture, for texts or pictures, now or awaited."""

from __future__ import annotations

from abc import abstractmethod
from typing import TYPE_CHECKING, Literal

from llama_index.core.base.base_multi_modal_retriever import MultiModalRetriever
from llama_index.core.schema import NodeWithScore, QueryBundle

from clip_qdrant.llamaindex.queries import bundle_of, image_bundle_of, text_bundle_of

if TYPE_CHECKING:
    from clip_qdrant.llamaindex.queries import QueryLike
    from clip_qdrant.llamaindex.turns import Turns

Using = Literal["image", "text", "both"]


class RetrieverOfBothKinds(MultiModalRetriever):
    """All the methods of LlamaIndex's multi-modal retriever, and those by pictures for texts, in terms of one search.

    A str is a text, but a path in the methods by picture. A bundle is only read.
    """

    _turns: Turns

    @abstractmethod
    def _search(self, bundle: QueryBundle, using: Using) -> list[NodeWithScore]:
        """The nodes whose vectors of that kind are nearest to a bundle."""

    def retrieve(self, str_or_query_bundle: QueryLike) -> list[NodeWithScore]:
        """Nodes for a text, a picture or a bundle."""
        return super().retrieve(bundle_of(str_or_query_bundle))

    async def aretrieve(self, str_or_query_bundle: QueryLike) -> list[NodeWithScore]:
        """`retrieve` in a thread."""
        return await super().aretrieve(bundle_of(str_or_query_bundle))

    def text_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """Texts and captions, by a text."""
        return self._search(text_bundle_of(str_or_query_bundle), "text")

    def text_to_image_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """Images, by a text."""
        return self._search(text_bundle_of(str_or_query_bundle), "image")

    def image_to_image_retrieve(self, str_or_query_bundle: QueryLike) -> list[NodeWithScore]:
        """Images, by an image; a str is a path here."""
        return self._search(image_bundle_of(str_or_query_bundle), "image")

    def image_to_text_retrieve(self, str_or_query_bundle: QueryLike) -> list[NodeWithScore]:
        """Texts and captions, by an image; a str is a path here."""
        return self._search(image_bundle_of(str_or_query_bundle), "text")

    async def atext_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """`text_retrieve` in a thread."""
        return await self._turns.run(self.text_retrieve, str_or_query_bundle)

    async def atext_to_image_retrieve(self, str_or_query_bundle: str | QueryBundle) -> list[NodeWithScore]:
        """`text_to_image_retrieve` in a thread."""
        return await self._turns.run(self.text_to_image_retrieve, str_or_query_bundle)

    async def aimage_to_image_retrieve(self, str_or_query_bundle: QueryLike) -> list[NodeWithScore]:
        """`image_to_image_retrieve` in a thread."""
        return await self._turns.run(self.image_to_image_retrieve, str_or_query_bundle)

    async def aimage_to_text_retrieve(self, str_or_query_bundle: QueryLike) -> list[NodeWithScore]:
        """`image_to_text_retrieve` in a thread."""
        return await self._turns.run(self.image_to_text_retrieve, str_or_query_bundle)

    def _text_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.text_to_image_retrieve(query_bundle)

    def _image_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self.image_to_image_retrieve(query_bundle)

    async def _atext_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self.atext_to_image_retrieve(query_bundle)

    async def _aimage_to_image_retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self.aimage_to_image_retrieve(query_bundle)
