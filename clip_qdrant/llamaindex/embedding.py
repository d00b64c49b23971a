"""A LlamaIndex embedding model over any `Encoder`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr
from llama_index.core.constants import DEFAULT_EMBED_BATCH_SIZE
from llama_index.core.embeddings import MultiModalEmbedding

from clip_qdrant.errors import ConfigError
from clip_qdrant.models.encoder import DEFAULT_MODEL, ClipEncoder

if TYPE_CHECKING:
    from clip_qdrant.types import Encoder


class ClipEmbedding(MultiModalEmbedding):
    """Embeds texts and images into one space, batched, in unit vectors.

    The model is loaded when the first vector is asked for. A text is always a text; an image is a path, bytes, a
    BytesIO, a data URI, a PIL image or an array, and a path that is not there is an error. The async methods run the
    model in a thread, so that the event loop goes on.

    Args:
        model_name: a Hub id, a folder, or "pocket" (see `ClipEncoder`).
        device: "auto", "cpu", "cuda", "mps", …
        dtype: "auto", "float32", "bfloat16" or "float16".
        text_policy: what becomes of a text over the model's limit: "truncate" it, or "pool" the vectors of its parts.
        embed_batch_size: how many items one forward pass takes.
        encoder: an encoder that is loaded already, used instead; it is not part of `to_dict`.
        **kwargs: the fields of LlamaIndex's `BaseEmbedding`.

    Raises:
        ConfigError: an argument that does not exist.
    """

    model_name: str = Field(default=DEFAULT_MODEL, description="A Hub id, a folder, or 'pocket'.")
    device: str = Field(default="auto", description="Where the model runs.")
    dtype: str = Field(default="auto", description="What the model computes in; vectors are float32 always.")
    text_policy: Literal["truncate", "pool"] = Field(default="truncate", description="For texts over the limit.")
    _encoder: Any = PrivateAttr(default=None)

    def __init__(
        self,
        model_name: str = DEFAULT_MODEL,
        *,
        device: str = "auto",
        dtype: str = "auto",
        text_policy: Literal["truncate", "pool"] = "truncate",
        embed_batch_size: int = DEFAULT_EMBED_BATCH_SIZE,
        encoder: Encoder | None = None,
        **kwargs: Any,
    ) -> None:
        unknown = sorted(kwargs.keys() - type(self).model_fields.keys())
        if unknown:
            raise ConfigError(
                f"ClipEmbedding has no argument {unknown[0]!r}. It has {sorted(type(self).model_fields)}."
            )
        fields: dict[str, Any] = {"device": device, "dtype": dtype, "text_policy": text_policy}
        name = model_name if encoder is None else encoder.fingerprint.model
        super().__init__(model_name=name, embed_batch_size=embed_batch_size, **fields, **kwargs)
        self._encoder = encoder

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serialises this component by."""
        return "ClipQdrantEmbedding"

    @property
    def encoder(self) -> Encoder:
        """The encoder; loads the model when first asked for."""
        if self._encoder is None:
            self._encoder = ClipEncoder(
                self.model_name,
                device=self.device,
                dtype=self.dtype,
                text_policy=self.text_policy,
                batch_size=self.embed_batch_size,
            )
        encoder: Encoder = self._encoder
        return encoder

    def _embed_texts(self, texts: Sequence[str]) -> list[list[float]]:
        vectors: list[list[float]] = self.encoder.embed_texts(texts).tolist()
        return vectors

    def _embed_images(self, images: Sequence[Any]) -> list[list[float]]:
        vectors: list[list[float]] = self.encoder.embed_images(images).tolist()
        return vectors

    def _get_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return self._embed_texts(texts)

    def _get_text_embedding(self, text: str) -> list[float]:
        return self._embed_texts([text])[0]

    def _get_query_embedding(self, query: str) -> list[float]:
        return self._embed_texts([query])[0]

    def _get_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return self._embed_images(img_file_paths)

    def _get_image_embedding(self, img_file_path: Any) -> list[float]:
        return self._embed_images([img_file_path])[0]

    async def _aget_text_embeddings(self, texts: list[str]) -> list[list[float]]:
        return await asyncio.to_thread(self._embed_texts, texts)

    async def _aget_text_embedding(self, text: str) -> list[float]:
        return (await self._aget_text_embeddings([text]))[0]

    async def _aget_query_embedding(self, query: str) -> list[float]:
        return (await self._aget_text_embeddings([query]))[0]

    async def _aget_image_embeddings(self, img_file_paths: list[Any]) -> list[list[float]]:
        return await asyncio.to_thread(self._embed_images, img_file_paths)

    async def _aget_image_embedding(self, img_file_path: Any) -> list[float]:
        return (await self._aget_image_embeddings([img_file_path]))[0]
