"""What can be asked of a retriever -> LlamaIndex's QueryBundle -> a unit vector. A bundle is only read."""

from __future__ import annotations

from dataclasses import dataclass
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import numpy as np
from llama_index.core.schema import QueryBundle

from clip_qdrant.collection.query import query_vector
from clip_qdrant.errors import ConfigError, ImageFetchError
from clip_qdrant.images import describe_source
from clip_qdrant.images.sources import kind_of, open_encoded
from clip_qdrant.llamaindex.embedding_sources import source_of

if TYPE_CHECKING:
    from numpy.typing import NDArray
    from PIL import Image

    from clip_qdrant.types import Encoder

    Picture: TypeAlias = Path | bytes | BytesIO | Image.Image | NDArray[np.generic]
    QueryLike: TypeAlias = str | QueryBundle | Picture
    """A str is a text; a Path, bytes, a BytesIO, a PIL image or an array is a picture; a bundle may have both."""


@dataclass
class ImageQueryBundle(QueryBundle):
    """A query with a picture that need not be a file, for everything in LlamaIndex that hands bundles on.

    Example: `query_engine.query(ImageQueryBundle("what is this?", image=upload))`, with the bytes of an upload.

    Attributes:
        image: bytes, a BytesIO, a PIL image, an array or a Path; a str is what `ClipEmbedding` takes it for, a path, a
            data URI or base64. `image_path` is then not looked at.
    """

    image: Any = None


def bundle_of(query: QueryLike) -> QueryBundle:
    """A query as a bundle; a bundle as it is."""
    if isinstance(query, QueryBundle):
        return query
    if isinstance(query, str):
        return QueryBundle(query)
    return ImageQueryBundle("", image_path=str(query) if isinstance(query, Path) else None, image=query)


def image_bundle_of(query: QueryLike) -> QueryBundle:
    """A query by picture alone; here a str is a path, a data URI or base64, as in LlamaIndex's methods for pictures.

    Raises:
        ConfigError: there is no picture in it.
    """
    bundle = bundle_of(ImageQueryBundle("", image_path=query) if isinstance(query, str) else query)
    picture = picture_of(bundle)
    if picture is None:
        raise ConfigError("An image query needs an image: give a path, or a QueryBundle with an image_path.")
    return ImageQueryBundle("", image_path=bundle.image_path, image=picture)


def text_bundle_of(query: str | QueryBundle) -> QueryBundle:
    """A query by words alone.

    Raises:
        ConfigError: there are none in it.
    """
    bundle = bundle_of(query)
    texts = [text for text in bundle.embedding_strs if text.strip()]
    if not texts:
        raise ConfigError("A text query needs a text: give a str, or a QueryBundle with a query_str.")
    return QueryBundle(bundle.query_str, custom_embedding_strs=texts)


def has_picture(bundle: QueryBundle) -> bool:
    """Whether a bundle says that it has a picture, which is not looked at."""
    return getattr(bundle, "image", None) is not None or bool(bundle.image_path)


def picture_of(bundle: QueryBundle) -> Picture | None:
    """A bundle's picture, or None. A str is read as a picture here, and so is never embedded as a text.

    Raises:
        ImageError: a str that is neither the path of a file nor an image, or that is a URL.
    """
    image: Picture | str | None = getattr(bundle, "image", None)
    if image is None:
        image = bundle.image_path or None
    return _read(image) if isinstance(image, str) else image


def vector_of(encoder: Encoder, bundle: QueryBundle, instruction: str | None = None) -> NDArray[np.float32]:
    """The unit vector (dim,) of a bundle: its embedding if it has one, else of its texts and its picture.

    Several texts are averaged, as LlamaIndex does; words and a picture together count half each. An instruction is put
    before each text.

    Raises:
        ConfigError: the bundle is empty, or cancels itself out.
        ImageError: its picture cannot be opened.
    """
    if bundle.embedding is not None:
        given = np.asarray(bundle.embedding, dtype=np.float32)
        return given / (np.linalg.norm(given) or 1.0)  # a zero vector is refused where it is searched for
    texts = [text for text in bundle.embedding_strs if text.strip()]
    picture = picture_of(bundle)
    if not texts and picture is None:
        raise ConfigError("The query is empty. Give it a text or an image.")
    parts: list[Any] = [((instruction or "") + text, 1 / len(texts)) for text in texts]
    return query_vector(encoder, [*parts, *([(picture, 1.0)] if picture is not None else [])])


def _read(image: str) -> Path | bytes:
    """A path, or the bytes of a data URI, of base64 or of a file:// URL."""
    source = source_of(image)
    if isinstance(source, bytes):
        return source
    if kind_of(image) == "url":
        raise ImageFetchError(
            describe_source(image), "a query opens no URLs. Use open_image(url, allow_url=True), and query by that"
        )
    if kind_of(image) == "path" and image[:7].lower() != "file://":
        return Path(image)
    with open_encoded(image) as file:
        return file.read()
