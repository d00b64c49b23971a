"""Making pictures for agents and query engines; what is made is kept in a collection, marked as synthetic."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from math import isnan
from os import PathLike
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

from llama_index.core.base.base_query_engine import BaseQueryEngine
from llama_index.core.base.base_retriever import BaseRetriever
from llama_index.core.base.llms.types import ImageBlock, TextBlock
from llama_index.core.base.response.schema import Response
from llama_index.core.callbacks import CallbackManager
from llama_index.core.schema import NodeWithScore, QueryBundle
from llama_index.core.tools.tool_spec.base import BaseToolSpec

from clip_qdrant.collection.synthetic import PARENT, RetrieveOrGenerate, store
from clip_qdrant.errors import ClipQdrantError, ConfigError
from clip_qdrant.llamaindex.metadata_filters import to_qdrant_filter
from clip_qdrant.llamaindex.nodes import node_of
from clip_qdrant.llamaindex.queries import picture_of, vector_of
from clip_qdrant.llamaindex.tools import refusal, unknown, visible

if TYPE_CHECKING:
    from llama_index.core.base.response.schema import RESPONSE_TYPE
    from llama_index.core.prompts.mixin import PromptDictType
    from llama_index.core.vector_stores.types import MetadataFilters

    from clip_qdrant.collection.clip import ClipCollection
    from clip_qdrant.collection.synthetic import GoodEnough, Maker
    from clip_qdrant.storage.filters import Where
    from clip_qdrant.types import Generated, Hit, ImageGenerator

_VARIATION = 0.5
"""How much of a picture a variation may change."""


class ImageGenerationToolSpec(BaseToolSpec):
    """Tools with which an agent makes pictures: of words, out of one in the collection, and variations of one.

    Each returns `[TextBlock, ImageBlock, …]`. What is made is written to `folder` and indexed, marked
    `synthetic: true` and with the prompt, the seed, the model and its parent, so that the next tool finds it by its id;
    `where={"synthetic": False}` leaves it out of a search. The arguments come from a language model: they open nothing
    but pictures of the collection, and make no more than `most` at a time. LlamaIndex runs the tools in threads where
    they are called asynchronously; the generator makes one thing after the other.

    Args:
        generator: any `ImageGenerator`.
        collection: where what is made goes, and where pictures to edit come from.
        folder: where the files are written.
        where: which points there are to edit at all.
        most: how many pictures one call may make.

    Raises:
        ConfigError: `most` is below 1.
    """

    spec_functions = ["generate_image", "edit_image", "vary_image"]  # noqa: RUF012 (LlamaIndex's own attribute)

    def __init__(
        self,
        generator: ImageGenerator,
        collection: ClipCollection,
        folder: str | PathLike[str],
        *,
        where: Where | None = None,
        most: int = 4,
    ) -> None:
        if most < 1:
            raise ConfigError(f"most must be at least 1, got {most!r}.")
        self.generator = generator
        self.collection = collection
        self._folder, self._where, self._most = Path(folder), where, most
        self._lock = Lock()

    def generate_image(self, prompt: str, count: int = 1) -> list[TextBlock | ImageBlock]:
        """Make new images of what a prompt says, and look at them.

        Args:
            prompt (str): what the image should show.
            count (int): how many.
        """
        return self._answered(lambda: self._kept(self.generator.generate(_words(prompt), count=self._count(count))))

    def edit_image(self, image: str, prompt: str, strength: float = 0.6) -> list[TextBlock | ImageBlock]:
        """Change an image to what a prompt says, and look at the result; the image itself stays as it is.

        Args:
            image (str): the id or the path of an image, as an earlier answer gave it.
            prompt (str): what the new image should show.
            strength (float): how much may change, from 0.1 (little) to 1 (everything).
        """

        def make() -> list[TextBlock | ImageBlock]:
            parent = self._parent(image)
            made = self.generator.edit(_picture(parent), _words(prompt), strength=_strength(strength))
            return self._kept(made, parent)

        return self._answered(make)

    def vary_image(self, image: str, count: int = 2) -> list[TextBlock | ImageBlock]:
        """Make variations of an image, and look at them.

        Args:
            image (str): the id or the path of an image, as an earlier answer gave it.
            count (int): how many.
        """

        def make() -> list[TextBlock | ImageBlock]:
            parent = self._parent(image)
            made = self.generator.edit(
                _picture(parent), parent.text or "an image", strength=_VARIATION, count=self._count(count)
            )
            return self._kept(made, parent)

        return self._answered(make)

    def _answered(self, make: Callable[[], list[TextBlock | ImageBlock]]) -> list[TextBlock | ImageBlock]:
        try:
            with self._lock:
                return make()
        except ClipQdrantError as error:
            return refusal(error)

    def _count(self, count: Any) -> int:
        try:
            return min(max(int(count), 1), self._most)
        except (TypeError, ValueError, OverflowError) as error:
            raise ConfigError(f"count must be a whole number from 1 to {self._most}, got {count!r}.") from error

    def _parent(self, image: Any) -> Hit:
        known = visible(self.collection, image, self._where)
        if known is None:
            raise unknown(image)
        return known

    def _kept(self, made: Sequence[Generated], parent: Hit | None = None) -> list[TextBlock | ImageBlock]:
        hits = store(self.collection, made, self._folder, parent=parent.id if parent else None)
        blocks: list[TextBlock | ImageBlock] = []
        for one, hit in zip(made, hits, strict=True):
            of = f", made from {hit.metadata[PARENT]}" if PARENT in hit.metadata else ""
            blocks.append(TextBlock(text=f"{hit.source} (id {hit.id}, seed {one.seed}{of})\n{one.prompt}"))
            blocks.append(ImageBlock(image=one.png(), image_mimetype="image/png"))
        return blocks


class GenerationQueryEngine(BaseQueryEngine):
    """Answers by making pictures: the answer's `source_nodes` are what was made, kept in the collection.

    A question with a picture of its own is an edit of that picture, whose path is its parent. Works in a
    `RouterQueryEngine`, where a selector sends it what asks for a new picture.

    Args:
        generator: any `ImageGenerator`.
        collection: where what is made goes.
        folder: where the files are written.
        count: how many pictures an answer has.

    Raises:
        ConfigError: `count` is below 1.
    """

    def __init__(
        self,
        generator: ImageGenerator,
        collection: ClipCollection,
        folder: str | PathLike[str],
        *,
        count: int = 1,
        callback_manager: CallbackManager | None = None,
    ) -> None:
        if count < 1:
            raise ConfigError(f"count must be at least 1, got {count!r}.")
        super().__init__(callback_manager=callback_manager or CallbackManager())
        self.generator = generator
        self.collection = collection
        self._folder, self._count = Path(folder), count
        self._lock = Lock()

    def _get_prompts(self) -> dict[str, Any]:
        return {}

    def _get_prompt_modules(self) -> dict[str, Any]:
        return {}

    def _update_prompts(self, prompts: PromptDictType) -> None:
        pass

    def _query(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        prompt, picture = _words(query_bundle.query_str), picture_of(query_bundle)
        with self._lock:
            if picture is None:
                made = self.generator.generate(prompt, count=self._count)
            else:
                made = self.generator.edit(picture, prompt, count=self._count)
            hits = store(self.collection, made, self._folder, parent=query_bundle.image_path)
        nodes = [NodeWithScore(node=node_of(hit)) for hit in hits]
        places = ", ".join(str(hit.source) for hit in hits)
        return Response(f"Made of {prompt!r}: {places}", source_nodes=nodes)

    async def _aquery(self, query_bundle: QueryBundle) -> RESPONSE_TYPE:
        return await asyncio.to_thread(self._query, query_bundle)


class RetrieveOrGenerateRetriever(BaseRetriever):
    """Finds pictures, and where nothing is good enough makes one, keeps it, and returns it, marked as synthetic.

    See `collection.synthetic.RetrieveOrGenerate`. What was made is found by the next query that it fits.

    Args:
        collection: what to search, and where what is made goes.
        make: how to make pictures of the words, and of what was found nearby: `from_words(generator)` or
            `from_nearest(generator)`, or a function of your own.
        folder: where the files are written.
        good_enough: a cosine, or whatever says of a hit whether it will do.
        similarity_top_k: how many to find at most.
        filters: which points to search among: LlamaIndex's `MetadataFilters`, or what `ClipCollection.search` takes.
        **kwargs: of LlamaIndex's `BaseRetriever`.

    Raises:
        ConfigError: as `RetrieveOrGenerate`.
        FilterError: `filters` cannot be understood.
    """

    def __init__(
        self,
        collection: ClipCollection,
        make: Maker,
        folder: str | PathLike[str],
        *,
        good_enough: GoodEnough,
        similarity_top_k: int = 10,
        filters: MetadataFilters | Where | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._finder = RetrieveOrGenerate(collection, make, Path(folder), good_enough=good_enough)
        self._limit, self._where = similarity_top_k, to_qdrant_filter(filters)

    def _retrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        vector = vector_of(self._finder.collection.encoder, query_bundle)
        hits = self._finder.search(vector, query_bundle.query_str, limit=self._limit, where=self._where)
        return [NodeWithScore(node=node_of(hit), score=hit.score) for hit in hits]

    async def _aretrieve(self, query_bundle: QueryBundle) -> list[NodeWithScore]:
        return await asyncio.to_thread(self._retrieve, query_bundle)


def _words(prompt: Any) -> str:
    if not isinstance(prompt, str) or not prompt.strip():
        raise ConfigError("prompt must be a text that says what the image should show.")
    return prompt.strip()


def _strength(strength: Any) -> float:
    try:
        given = float(strength)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"strength must be a number from 0.1 to 1, got {strength!r}.") from error
    if isnan(given):
        raise ConfigError(f"strength must be a number from 0.1 to 1, got {strength!r}.")
    return min(max(given, 0.1), 1.0)


def _picture(hit: Hit) -> Path:
    """Where a hit's picture is: by whatever wrote the point."""
    node = node_of(hit)
    place = getattr(node, "image_path", None) or hit.source
    if place is None or not hasattr(node, "image_path"):
        raise ConfigError(f"{hit.id!r} is not an image. Give the id or the path of one.")
    return Path(place)
