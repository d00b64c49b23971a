"""A LlamaIndex embedding model over any `Encoder`."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from threading import Lock
from typing import TYPE_CHECKING, Any, Literal

from llama_index.core.bridge.pydantic import Field, PrivateAttr, ValidationError
from llama_index.core.embeddings.loading import RECOGNIZED_EMBEDDINGS
from llama_index.core.schema import BaseNode

from clip_qdrant.errors import ConfigError, ImageError
from clip_qdrant.images import describe_source
from clip_qdrant.llamaindex.embedding_batches import BatchedEmbedding
from clip_qdrant.llamaindex.embedding_options import known_arguments, settings_of
from clip_qdrant.llamaindex.nodes import check_content, image_of, is_blank, kind_of, text_of
from clip_qdrant.models.encoder import DEFAULT_MODEL, ClipEncoder
from clip_qdrant.storage.points import IMAGE, TEXT
from clip_qdrant.types import Encoder

if TYPE_CHECKING:
    from clip_qdrant.types import ImageSource

_logger = logging.getLogger(__name__)
_LOADING = Lock()
"""Threads that ask for the first vector at once load one model."""


class ClipEmbedding(BatchedEmbedding):
    """Embeds texts and images into one space, batched, in unit vectors.

    The model is loaded when the first vector is asked for. A text is always a text; an image is a path, bytes, a
    BytesIO, base64, a data URI, a PIL image or an array. A str that is the path of a file is that file, whatever else
    it could be, and one that is nothing of all this is an error. The async methods run the model in a thread, so that
    the event loop goes on.

    In an `IngestionPipeline` a picture node gets the vector of its picture, a text node that of its text. A node with
    neither, such as a blank document, is passed on without a vector and with a warning, so that it is not stored, and
    the others are; a `ClipIndex` leaves it out as well. A str is embedded as it is: the empty text has a vector, too.

    With an `embeddings_cache` what is in it is not embedded again: an image is known by its content, a text by its
    words, and both by the weights and the preprocessing of the model, so that several models may share one cache.

    Other names than these are refused, those of HuggingFaceEmbedding with the word on what to use instead.

    Args:
        model_name: a Hub id, a folder, "pocket", or a name of OpenAI's such as "ViT-B/32" (see `ClipEncoder`).
        device: "auto", "cpu", "cuda", "mps", …; None is "auto".
        dtype: "auto", "float32", "bfloat16" or "float16".
        text_policy: what becomes of a text over the model's limit: "truncate" it, or "pool" the vectors of its parts.
        revision: a branch, tag or commit of the Hub's.
        cache_folder: where models of the Hub are kept; None: HF_HUB_CACHE, or the Hub's own default.
        trust_remote_code: run Python code that the model brings; not part of `to_dict`.
        query_instruction: what is put before a query.
        text_instruction: what is put before a text.
        allow_url: open images at http(s) URLs, on public addresses only.
        show_progress_bar: show one for batches, on stderr.
        embed_batch_size: how many items one forward pass takes.
        encoder: an encoder that is loaded already, used instead; it is not part of `to_dict`.
        **kwargs: the fields of LlamaIndex's `BaseEmbedding`.

    Raises:
        ConfigError: an argument that does not exist, or a value that it cannot have.
    """

    model_name: str = Field(default=DEFAULT_MODEL, description="A Hub id, a folder, or 'pocket'.")
    device: str = Field(default="auto", description="Where the model runs.")
    dtype: Literal["auto", "float32", "bfloat16", "float16"] = Field(
        default="auto", description="What the model computes in; vectors are float32 always."
    )
    text_policy: Literal["truncate", "pool"] = Field(default="truncate", description="For texts over the limit.")
    revision: str | None = Field(default=None, description="A branch, tag or commit of the Hub's.")
    cache_folder: str | None = Field(default=None, description="Where models of the Hub are kept.")
    trust_remote_code: bool = Field(default=False, exclude=True, description="Run code that the model brings.")
    _encoder: Any = PrivateAttr(default=None)

    def __init__(self, model_name: str = DEFAULT_MODEL, *, encoder: Encoder | None = None, **kwargs: Any) -> None:
        fields = type(self).model_fields
        given = known_arguments({"model_name": model_name, **kwargs}, fields)
        if given.get("device", "") is None:
            given["device"] = "auto"
        if encoder is not None:
            given |= settings_of(encoder, given, {name: field.default for name, field in fields.items()})
        try:
            super().__init__(**given)
        except ValidationError as error:
            wrong = error.errors()[0]
            name = ".".join(map(str, wrong["loc"]))
            raise ConfigError(f"ClipEmbedding takes no {name}={wrong['input']!r}: {wrong['msg']}.") from error
        self._encoder = encoder

    @classmethod
    def class_name(cls) -> str:
        """The name that LlamaIndex serialises this component by."""
        return "ClipQdrantEmbedding"

    @property
    def encoder(self) -> Encoder:
        """The encoder; loads the model when first asked for."""
        if self._encoder is None:
            with _LOADING:
                self._encoder = self._encoder or ClipEncoder(
                    self.model_name,
                    revision=self.revision,
                    cache_folder=self.cache_folder,
                    device=self.device,
                    dtype=self.dtype,
                    batch_size=self.embed_batch_size,
                    text_policy=self.text_policy,
                    trust_remote_code=self.trust_remote_code,
                )
        encoder: Encoder = self._encoder
        return encoder

    def __call__(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """Give every node its `embedding`: of a picture node that of its picture, of a text node that of its text.

        A node with neither, such as a blank document, stays as it is: a pipeline stores what has an embedding.

        Raises:
            ConfigError: a picture node with a text, but without its picture; it names the node.
            ImageError: a picture that cannot be opened; it names the picture and the node.
        """
        pictures, texts = _parted(nodes)
        embeddings = self.get_text_embedding_batch([text_of(node) or "" for node in texts], **kwargs)
        # Base64 is decoded a batch at a time.
        for batch in self._progress(self._batches("image", pictures), kwargs.get("show_progress", False)):
            with _naming(batch):
                embeddings += self.get_image_embedding_batch(_images_of(batch))
        return _given(nodes, [*texts, *pictures], embeddings)

    async def acall(self, nodes: Sequence[BaseNode], **kwargs: Any) -> Sequence[BaseNode]:
        """`__call__`, with the model in a thread."""
        pictures, texts = _parted(nodes)
        embeddings = await self.aget_text_embedding_batch([text_of(node) or "" for node in texts], **kwargs)
        for batch in self._progress(self._batches("image", pictures), kwargs.get("show_progress", False)):
            with _naming(batch):
                embeddings += await self.aget_image_embedding_batch(await asyncio.to_thread(_images_of, batch))
        return _given(nodes, [*texts, *pictures], embeddings)


def encoder_of(given: Encoder | ClipEmbedding) -> Encoder:
    """The encoder of an embedding model, which loads it; or the encoder given.

    Raises:
        ConfigError: it is neither.
    """
    if isinstance(given, ClipEmbedding):
        return given.encoder
    if not isinstance(given, Encoder):
        raise ConfigError(f"An encoder is a ClipEncoder or a ClipEmbedding, got {type(given).__name__}.")
    return given


def _parted(nodes: Sequence[BaseNode]) -> tuple[list[BaseNode], list[BaseNode]]:
    """The picture nodes and the text nodes, each with something to embed."""
    blank = {id(node): node.node_id for node in nodes if is_blank(node)}
    if blank:
        _logger.warning(
            "%d nodes have neither a picture nor a text, and get no vector: %s", len(blank), min(blank.values())
        )
    full = [node for node in nodes if id(node) not in blank]
    for node in full:
        check_content(node)
    return [node for node in full if kind_of(node) == IMAGE], [node for node in full if kind_of(node) == TEXT]


def _images_of(nodes: Sequence[BaseNode]) -> list[ImageSource | None]:
    return [image_of(node) for node in nodes]


def _given(nodes: Sequence[BaseNode], order: Sequence[BaseNode], embeddings: list[list[float]]) -> Sequence[BaseNode]:
    for node, embedding in zip(order, embeddings, strict=True):
        node.embedding = embedding
    return nodes


@contextmanager
def _naming(nodes: Sequence[BaseNode]) -> Iterator[None]:
    """An image that cannot be opened is said to be of its node: "bytes (1,024)" alone would find nothing."""
    try:
        yield
    except ImageError as error:
        names = [repr(node.node_id) for node in nodes if _place_of(node) == error.source]
        if not names:  # the node did not give a picture at all, and is named already
            raise
        raise type(error)(f"{error.source} of node {' or '.join(names)}", error.reason) from error


def _place_of(node: BaseNode) -> str | None:
    try:
        return describe_source(image_of(node) or "")
    except ImageError:  # base64 that is none: its error names the node
        return None


RECOGNIZED_EMBEDDINGS.setdefault(ClipEmbedding.class_name(), ClipEmbedding)
