"""What is to be classified, embedded as it comes: one batch at a time, each row with the number of its input."""

from __future__ import annotations

import logging
from collections.abc import Generator, Iterable, Iterator
from contextlib import closing
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeVar

import numpy as np
from PIL import Image

from clip_qdrant.errors import ConfigError, ImageError, ModelError
from clip_qdrant.images import decode_ahead

if TYPE_CHECKING:
    from collections.abc import Sequence

    from numpy.typing import ArrayLike

    from clip_qdrant.types import Encoder, ImageSource, Vectors

    Batches: TypeAlias = Generator[tuple[Sequence[int], Vectors], None, None]

Unreadable = Literal["raise", "skip"]

_ROWS = 1024
_logger = logging.getLogger(__name__)
_T = TypeVar("_T")


def image_vectors(encoder: Encoder, images: Iterable[ImageSource], unreadable: Unreadable) -> Batches:
    """The indices and vectors of images, in batches; one that cannot be opened is skipped, or raised with its number.

    Raises:
        ConfigError: one image instead of many, or an unknown option.
    """
    _check(unreadable)
    one = isinstance(images, (str, bytes, PathLike, Image.Image)) or (
        isinstance(images, np.ndarray) and images.ndim < 4
    )
    if one or not isinstance(images, Iterable):
        raise ConfigError(f"images must be many, got one {type(images).__name__}. Write [image].")
    return _image_vectors(encoder, images, unreadable)


def text_vectors(encoder: Encoder, texts: Iterable[str], unreadable: Unreadable) -> Batches:
    """The indices and vectors of texts, in batches; a blank one is skipped, or raised with its number.

    Raises:
        ConfigError: one text instead of many, or an unknown option.
    """
    _check(unreadable)
    if isinstance(texts, (str, bytes)) or not isinstance(texts, Iterable):
        raise ConfigError(f"texts must be many, got one {type(texts).__name__}. Write [text].")
    return _text_vectors(encoder, texts, unreadable)


def checked_vectors(vectors: ArrayLike, dim: int) -> Vectors:
    """Vectors that somebody else embedded.

    Raises:
        ConfigError: not (n, dim), NaN, or not of unit length.
    """
    found = np.asarray(vectors, dtype=np.float32)
    if found.ndim != 2 or found.shape[1] != dim:
        raise ConfigError(f"vectors must be of shape (n, {dim}), as the encoder makes them, got {found.shape}.")
    lengths = np.linalg.norm(found, axis=1)
    wrong = np.flatnonzero(~(np.abs(lengths - 1) < 0.01))  # half precision rounds by a thousandth; NaN is wrong too
    if len(wrong):
        raise ConfigError(f"Vector {wrong[0]} has the length {lengths[wrong[0]]}, and must have 1. Divide by it.")
    return found


def slices(vectors: Vectors) -> Iterator[tuple[Sequence[int], Vectors]]:
    """Many vectors in batches, so that what is made of them stays small."""
    for at in range(0, len(vectors), _ROWS):
        rows = vectors[at : at + _ROWS]
        yield range(at, at + len(rows)), rows


def joined(batches: Iterable[tuple[Sequence[int], Vectors]], dim: int) -> Vectors:
    """The vectors of all batches."""
    return np.concatenate([np.empty((0, dim), np.float32), *(rows for _, rows in batches)])


def _image_vectors(encoder: Encoder, images: Iterable[ImageSource], unreadable: Unreadable) -> Batches:
    # Decoded here rather than by the encoder, whose error could not say which one it was, nor be skipped.
    with closing(decode_ahead(images, min_side=encoder.image_side)) as decoded:
        readable = _readable(decoded, unreadable)
        for indices, batch in _batches(readable, encoder.batch_size):
            yield indices, _finite(encoder, encoder.embed_images(batch), indices)


def _readable(decoded: Iterable[Image.Image | ImageError], unreadable: Unreadable) -> Iterator[tuple[int, Image.Image]]:
    for index, image in enumerate(decoded):
        if not isinstance(image, ImageError):
            yield index, image
        elif unreadable == "raise":
            raise type(image)(f"{image.source}, input {index}", image.reason) from image
        else:
            _logger.warning("Skipped input %d: %s", index, image)


def _text_vectors(encoder: Encoder, texts: Iterable[str], unreadable: Unreadable) -> Batches:
    for indices, batch in _batches(_legible(texts, unreadable), encoder.batch_size):
        yield indices, _finite(encoder, encoder.embed_texts(batch), indices)


def _legible(texts: Iterable[str], unreadable: Unreadable) -> Iterator[tuple[int, str]]:
    for index, text in enumerate(texts):
        if not isinstance(text, str):
            raise ConfigError(f"Input {index} is no text but {type(text).__name__}. Use classify_images for images.")
        if text.strip():
            yield index, text
        elif unreadable == "raise":
            raise ConfigError(f"Input {index} is a blank text. Leave it out, or pass unreadable='skip'.")
        else:
            _logger.warning("Skipped input %d: a blank text", index)


def _batches(numbered: Iterable[tuple[int, _T]], size: int) -> Iterator[tuple[list[int], list[_T]]]:
    indices: list[int] = []
    batch: list[_T] = []
    for index, item in numbered:
        indices.append(index)
        batch.append(item)
        if len(batch) == size:
            yield indices, batch
            indices, batch = [], []
    if batch:
        yield indices, batch


def _finite(encoder: Encoder, vectors: Vectors, indices: Sequence[int]) -> Vectors:
    wrong = np.flatnonzero(~np.isfinite(vectors).all(axis=1))
    if len(wrong):
        raise ModelError(
            f"The model {encoder.fingerprint.model!r} made NaN of input {indices[int(wrong[0])]}. Use dtype='float32', "
            "or another model."
        )
    return vectors


def _check(unreadable: Any) -> None:
    if unreadable not in ("raise", "skip"):
        raise ConfigError(f"unreadable must be 'raise' or 'skip', got {unreadable!r}.")
