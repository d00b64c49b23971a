"""One batch of texts or images: made ready, looked up in the cache, and the rest of it embedded."""

from __future__ import annotations

import asyncio
from abc import abstractmethod
from collections.abc import Sequence
from hashlib import sha256
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import Field
from llama_index.core.embeddings import MultiModalEmbedding

from clip_qdrant.errors import ConfigError, ImageError, ImageFetchError
from clip_qdrant.images import content_hash, decode_ahead, describe_source
from clip_qdrant.images.sources import kind_of as kind_of_source
from clip_qdrant.llamaindex.embedding_sources import source_of

if TYPE_CHECKING:
    from clip_qdrant.types import Encoder, ImageSource

What = Literal["query", "text", "image"]

_COLLECTION = "embeddings"


class CachedEmbedding(MultiModalEmbedding):
    """An embedding model whose cache knows an item by its content and by the model.

    LlamaIndex's own base class gives images no cache at all. It keeps texts by their words alone, so that two models,
    or a query and a text with instructions of their own, would get each other's vectors.
    """

    query_instruction: str | None = Field(default=None, description="What is put before a query.")
    text_instruction: str | None = Field(default=None, description="What is put before a text.")
    allow_url: bool = Field(default=False, description="Open images at http(s) URLs, on public addresses only.")

    @property
    @abstractmethod
    def encoder(self) -> Encoder:
        """The encoder; may take long, when the model is loaded."""

    def _cached(self, what: What, batch: Sequence[Any]) -> list[list[float]]:
        cache, items = self.embeddings_cache, self._prepared(what, batch)
        if cache is None:
            self._wait()
            return self._forward(what, items)
        keys = self._keys(what, items)
        known = {key: _vector(cache.get(key, collection=_COLLECTION)) for key in dict.fromkeys(keys)}
        missing = {key: item for key, item in zip(keys, items, strict=True) if known[key] is None}
        if missing:
            self._wait()
            known |= zip(missing, self._forward(what, list(missing.values())), strict=True)
            for key in missing:
                cache.put(key, {"embedding": known[key]}, collection=_COLLECTION)
        return [list(known[key] or []) for key in keys]

    async def _acached(self, what: What, batch: Sequence[Any]) -> list[list[float]]:
        cache, items = self.embeddings_cache, await asyncio.to_thread(self._prepared, what, batch)
        if cache is None:
            await self._await()
            return await asyncio.to_thread(self._forward, what, items)
        keys = await asyncio.to_thread(self._keys, what, items)
        known = {key: _vector(await cache.aget(key, collection=_COLLECTION)) for key in dict.fromkeys(keys)}
        missing = {key: item for key, item in zip(keys, items, strict=True) if known[key] is None}
        if missing:
            await self._await()
            found = await asyncio.to_thread(self._forward, what, list(missing.values()))
            known |= zip(missing, found, strict=True)
            for key in missing:
                await cache.aput(key, {"embedding": known[key]}, collection=_COLLECTION)
        return [list(known[key] or []) for key in keys]

    def _wait(self) -> None:
        if self.rate_limiter is not None:
            self.rate_limiter.acquire()

    async def _await(self) -> None:
        if self.rate_limiter is not None:
            await self.rate_limiter.async_acquire()

    def _embed(self, what: What, batch: Sequence[Any]) -> list[list[float]]:
        return self._forward(what, self._prepared(what, batch))

    def _forward(self, what: What, items: Sequence[Any]) -> list[list[float]]:
        encoder = self.encoder
        vectors: list[list[float]] = (
            encoder.embed_images(items) if what == "image" else encoder.embed_texts(items)
        ).tolist()
        return vectors

    def _prepared(self, what: What, batch: Sequence[Any]) -> list[Any]:
        """A batch as the encoder takes it: texts with their instruction, images without URLs."""
        if what == "image":
            return self._fetched(batch)
        for text in batch:
            if not isinstance(text, str):
                raise ConfigError(
                    f"A {what} is a str, got {type(text).__name__}. Use get_image_embedding for an image."
                )
        instruction = (self.query_instruction if what == "query" else self.text_instruction) or ""
        return [instruction + text for text in batch]

    def _fetched(self, given: Sequence[ImageSource]) -> list[ImageSource]:
        images = [source_of(image) for image in given]
        urls = [image for image in images if isinstance(image, str) and kind_of_source(image) == "url"]
        if not urls:
            return images
        if not self.allow_url:
            raise ImageFetchError(
                describe_source(urls[0]), "URLs are not opened unless asked. Use ClipEmbedding(allow_url=True)"
            )
        opened: dict[str, ImageSource] = {}
        for url, image in zip(urls, decode_ahead(urls, min_side=self.encoder.image_side, allow_url=True), strict=True):
            if isinstance(image, ImageError):
                raise image
            opened[url] = image
        return [opened.get(image, image) if isinstance(image, str) else image for image in images]

    def _keys(self, what: What, items: Sequence[Any]) -> list[str]:
        """What the cache knows items by: the model, what decides a text's vector beside it, and the content."""
        encoder = self.encoder
        if what == "image":
            return [f"image:{encoder.fingerprint.digest}:{content_hash(image)}" for image in items]
        space = f"text:{encoder.fingerprint.digest}:{getattr(encoder, 'text_policy', 'truncate')}"
        return [f"{space}:{sha256(text.encode(errors='surrogatepass')).hexdigest()}" for text in items]


def _vector(entry: dict[str, list[float]] | None) -> list[float] | None:
    return None if entry is None else entry["embedding"]
