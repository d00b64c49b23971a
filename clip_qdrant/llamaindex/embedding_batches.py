"""LlamaIndex's embedding methods, for texts and images alike: in batches, with events, and async in threads."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from io import IOBase
from typing import TYPE_CHECKING, Any

import numpy as np
from llama_index.core.base.embeddings.base import dispatcher
from llama_index.core.bridge.pydantic import Field
from llama_index.core.callbacks.schema import CBEventType, EventPayload
from llama_index.core.instrumentation.events.embedding import EmbeddingEndEvent, EmbeddingStartEvent
from llama_index.core.utils import get_tqdm_iterable
from PIL import Image

from clip_qdrant.errors import ConfigError
from clip_qdrant.llamaindex.embedding_cache import CachedEmbedding
from clip_qdrant.llamaindex.embedding_sources import name_of

if TYPE_CHECKING:
    from clip_qdrant.llamaindex.embedding_cache import What


class BatchedEmbedding(CachedEmbedding):
    """All of `ClipEmbedding` that does not depend on where its encoder comes from; see there."""

    show_progress_bar: bool = Field(default=False, description="Show one for batches, on stderr.")

    def get_query_embedding(self, query: str) -> list[float]:
        """The unit vector (dim,) of a query."""
        return self._run("query", [query])[0]

    def get_text_embedding(self, text: str) -> list[float]:
        """The unit vector (dim,) of a text."""
        return self._run("text", [text])[0]

    def get_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[list[float]]:
        """Unit vectors (n, dim) of texts, in the order given."""
        return self._run("text", texts, show_progress)

    def get_image_embedding(self, img_file_path: Any) -> list[float]:
        """The unit vector (dim,) of an image: whatever `open_image` opens, or base64 of it as a str."""
        return self._run("image", [img_file_path])[0]

    def get_image_embedding_batch(self, img_file_paths: list[Any], show_progress: bool = False) -> list[list[float]]:
        """Unit vectors (n, dim) of images, in the order given."""
        return self._run("image", img_file_paths, show_progress)

    async def aget_query_embedding(self, query: str) -> list[float]:
        """`get_query_embedding` in a thread."""
        return (await self._arun("query", [query]))[0]

    async def aget_text_embedding(self, text: str) -> list[float]:
        """`get_text_embedding` in a thread."""
        return (await self._arun("text", [text]))[0]

    async def aget_text_embedding_batch(
        self, texts: list[str], show_progress: bool = False, **kwargs: Any
    ) -> list[list[float]]:
        """`get_text_embedding_batch` in threads, `num_workers` batches at a time."""
        return await self._arun("text", texts, show_progress)

    async def aget_image_embedding(self, img_file_path: Any) -> list[float]:
        """`get_image_embedding` in a thread."""
        return (await self._arun("image", [img_file_path]))[0]

    async def aget_image_embedding_batch(
        self, img_file_paths: list[Any], show_progress: bool = False
    ) -> list[list[float]]:
        """`get_image_embedding_batch` in threads, `num_workers` batches at a time."""
        return await self._arun("image", img_file_paths, show_progress)

    # LlamaIndex's hooks, under the methods above: neither events nor the cache.

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed("query", [query])[0]

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed("text", [text])[0]

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed("text", texts)

    def _get_image_embedding(self, img_file_path: Any) -> list[float]:
        return self._embed("image", [img_file_path])[0]

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return self._embed("image", img_file_paths)

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await asyncio.to_thread(self._embed, "query", [query]))[0]

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await asyncio.to_thread(self._embed, "text", [text]))[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._embed, "text", texts)

    async def _aget_image_embedding(self, img_file_path: Any) -> list[float]:
        return (await asyncio.to_thread(self._embed, "image", [img_file_path]))[0]

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return await asyncio.to_thread(self._embed, "image", img_file_paths)

    def _run(self, what: What, items: Iterable[Any], show_progress: bool = False) -> list[list[float]]:
        embeddings: list[list[float]] = []
        for batch in self._progress(self._batches(what, items), show_progress):
            with self._event(what, batch) as found:
                found += self._cached(what, batch)
            embeddings += found
        return embeddings

    async def _arun(self, what: What, items: Iterable[Any], show_progress: bool = False) -> list[list[float]]:
        async def one(batch: list[Any]) -> list[list[float]]:
            with self._event(what, batch) as found:
                found += await self._acached(what, batch)
            return found

        embeddings: list[list[float]] = []
        batches, workers = self._batches(what, items), self.num_workers or 1
        for first in self._progress(range(0, len(batches), workers), show_progress):
            for found in await asyncio.gather(*map(one, batches[first : first + workers])):
                embeddings += found
        return embeddings

    def _batches(self, what: What, items: Iterable[Any]) -> list[list[Any]]:
        if isinstance(items, (str, bytes, os.PathLike, IOBase, Image.Image, np.ndarray)):
            raise ConfigError(f"Many {what}s are a list, got one {type(items).__name__}. Write [{what}].")
        items, size = list(items), self.embed_batch_size
        return [items[first : first + size] for first in range(0, len(items), size)]

    def _progress(self, items: Sequence[Any], show_progress: bool) -> Iterable[Any]:
        shown = (show_progress or self.show_progress_bar) and len(items) > 1
        return get_tqdm_iterable(items, shown, "Generating embeddings")

    @contextmanager
    def _event(self, what: What, batch: Sequence[Any]) -> Iterator[list[list[float]]]:
        """The events of one batch, around the list that its embeddings are put into. Images are named, not shown."""
        model = self.to_payload()
        embeddings: list[list[float]] = []
        dispatcher.event(EmbeddingStartEvent(model_dict=model))
        with self.callback_manager.event(CBEventType.EMBEDDING, {EventPayload.SERIALIZED: model}) as event:
            yield embeddings
            chunks = [name_of(item) for item in batch] if what == "image" else list(batch)
            event.on_end({EventPayload.CHUNKS: chunks, EventPayload.EMBEDDINGS: embeddings})
        dispatcher.event(EmbeddingEndEvent(chunks=chunks, embeddings=embeddings))
