"""A LlamaIndex retriever over a `ClipCollection`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Literal, get_args

from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.vector_stores.types import MetadataFilters

from clip_qdrant.collection.fusion import Chance, by_calibration, by_rank
from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.metadata_filters import to_qdrant_filter
from clip_qdrant.llamaindex.nodes import node_of
from clip_qdrant.llamaindex.queries import vector_of
from clip_qdrant.llamaindex.retriever_ways import RetrieverOfBothKinds, Using
from clip_qdrant.llamaindex.turns import Turns
from clip_qdrant.storage.vectors_checks import whole_number

if TYPE_CHECKING:
    from clip_qdrant.collection.clip import ClipCollection
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.storage.points import Leg
    from clip_qdrant.types import Hit

FusionMode = Literal["rank", "calibrated"]
_LEGS: dict[Using, tuple[Leg, ...]] = {"image": ("image",), "text": ("text",), "both": ("image", "text")}


class ClipRetriever(RetrieverOfBothKinds):
    """Finds images and texts by a text, by an image, or by both.

    A str is a text; a Path, bytes, a PIL image or an array is an image; a `QueryBundle` may have words and an
    `image_path`, which then count half each, or an `embedding`. The bundle is only read. Works wherever LlamaIndex
    takes a retriever.

    Args:
        collection: what to search.
        similarity_top_k: how many nodes at most, unless the next two say more.
        using: what `retrieve` compares with: the stored "image" vectors, the "text" vectors (captions and passages),
            or "both", fused. The named methods say it themselves.
        filters: which points to search among: LlamaIndex's `MetadataFilters`, or all that `ClipCollection.search`
            takes as `where`.
        similarity_cutoff: leave out what scores lower; a cosine, of each kind of vectors before they are fused.
        image_similarity_top_k: of "both", how many by image vectors; where it is given all that either kind finds
            come back, as from LlamaIndex's own multi-modal retriever. `similarity_top_k` if None.
        text_similarity_top_k: of "both", how many by text vectors, likewise.
        fusion: of "both": "rank" (reciprocal rank fusion), or "calibrated": by how far an answer lies above chance,
            in standard deviations (see `collection.fusion`). The nodes' scores are then those of the fusion.
        query_instruction: what is put before the words of a query; a `ClipIndex` passes its embedding model's.
        **kwargs: of LlamaIndex's `BaseRetriever`.

    Raises:
        ConfigError: a number below 1, or an unknown `using` or `fusion`.
        FilterError: `filters` cannot be understood.
    """

    def __init__(
        self,
        collection: ClipCollection,
        *,
        similarity_top_k: int = 10,
        using: Using = "image",
        filters: MetadataFilters | Where | None = None,
        similarity_cutoff: float | None = None,
        image_similarity_top_k: int | None = None,
        text_similarity_top_k: int | None = None,
        fusion: FusionMode = "rank",
        query_instruction: str | None = None,
        **kwargs: Any,
    ) -> None:
        numbers: dict[str, Any] = {
            "similarity_top_k": similarity_top_k,
            "image_similarity_top_k": image_similarity_top_k,
            "text_similarity_top_k": text_similarity_top_k,
        }
        for name, number in numbers.items():
            if number is not None or name == "similarity_top_k":
                whole_number(name, number, 1)
        for name, value, known in (("using", using, get_args(Using)), ("fusion", fusion, get_args(FusionMode))):
            if value not in known:
                raise ConfigError(f"{name} must be one of {', '.join(map(repr, known))}, got {value!r}.")
        super().__init__(**kwargs)
        self.collection = collection
        self.similarity_top_k = similarity_top_k
        self.using: Using = using
        self.similarity_cutoff = similarity_cutoff
        self.fusion: FusionMode = fusion
        self.query_instruction = query_instruction
        self._where = to_qdrant_filter(filters)
        self._leg_top_k: dict[Leg, int] = {
            "image": image_similarity_top_k or similarity_top_k,
            "text": text_similarity_top_k or similarity_top_k,
        }
        self._limit = similarity_top_k
        if image_similarity_top_k is not None or text_similarity_top_k is not None:
            self._limit = sum(self._leg_top_k.values())
        self._chance = Chance(collection.vectors)
        self._turns = Turns(collection.vectors.client)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return self._search(query_bundle, self.using)

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await self._turns.run(self._retrieve, query_bundle)

    def _search(self, bundle: QueryBundle, using: Using) -> list[NodeWithScore]:
        vector = vector_of(self.collection.encoder, bundle, self.query_instruction)
        legs = _LEGS[using]
        found: dict[Leg, list[Hit]] = {
            leg: self.collection.vectors.search(
                vector,
                limit=self._leg_top_k[leg] if len(legs) > 1 else self.similarity_top_k,
                where=self._where,
                using=leg,
                min_score=self.similarity_cutoff,
            )
            for leg in legs
        }
        if len(legs) == 1:
            hits = found[legs[0]]
        elif self.fusion == "rank":
            hits = by_rank(found)
        else:
            hits = by_calibration(found, {leg: self._chance.of(vector, leg) for leg in legs})
        return [NodeWithScore(node=node_of(hit), score=hit.score) for hit in hits[: self._limit]]
